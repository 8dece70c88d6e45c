package plan

import (
	"maps"
	"net/netip"
	"slices"

	"tombolo/internal/state"
)

// fits returns why a kernel that holds what the model holds would refuse the operation.
// Where the kernel would do it and it is still not what the plan is about (a route that
// somebody else changed meanwhile), that is an error too.
func (m *model) fits(op Op) error {
	switch o := op.subject().(type) {
	case Interface:
		return m.fitsInterface(op.Verb, o)
	case Address:
		return m.fitsAddress(op.Verb, o)
	case Peer:
		return m.fitsPeer(op.Verb, o)
	case Route:
		return m.fitsRoute(op, o)
	case Rule:
		return presence(op.Verb, slices.Contains(m.rules, o.Rule))
	case Ruleset:
		_, there := m.rulesets[o.ID()]
		return presence(op.Verb, there)
	case Sysctl:
		return m.fitsSysctl(op, o)
	}
	return nil
}

// presence returns an error when a thing to add is there, or one to change or remove is
// not.
func presence(verb Verb, there bool) error {
	switch {
	case verb == Add && there:
		return ErrExists
	case verb != Add && !there:
		return ErrAbsent
	}
	return nil
}

func (m *model) fitsInterface(verb Verb, o Interface) error {
	_, there := m.interfaces[o.Name]
	if err := presence(verb, there); err != nil || verb == Remove {
		return err
	}
	for name, i := range m.interfaces {
		if p := listenPort(&i); name != o.Name && p != 0 && p == listenPort(&o.Interface) {
			return ErrPortInUse
		}
	}
	return nil
}

func (m *model) fitsAddress(verb Verb, o Address) error {
	i, there := m.interfaces[o.Interface]
	if !there {
		return ErrAbsent
	}
	there = slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool {
		return p == o.Prefix || verb == Add && p.Addr().Is6() && p.Addr() == o.Prefix.Addr()
	})
	return presence(verb, there)
}

func (m *model) fitsPeer(verb Verb, o Peer) error {
	i, there := m.interfaces[o.Interface]
	if !there || i.WireGuard == nil {
		return ErrAbsent
	}
	return presence(verb, slices.ContainsFunc(i.WireGuard.Peers, func(p state.Peer) bool { return idOf(p) == idOf(o.Peer) }))
}

func (m *model) fitsRoute(op Op, o Route) error {
	list := m.routes[keyOf(o.Route)]
	if op.Verb == Add {
		return presence(Add, len(list) > 0)
	}
	switch before := op.Before.(Route).Route; {
	case len(list) == 0:
		return ErrAbsent
	case indexRoute(list, before) < 0, op.Verb == Change && len(list) > 1:
		// A replacement would replace the first, whichever that is.
		return ErrDifferent
	}
	return nil
}

// fitsSysctl wants the setting to be there, or to come with an interface that is.
func (m *model) fitsSysctl(op Op, o Sysctl) error {
	now, there := m.sysctls[o.Name]
	if of := sysctlInterface(o.Name); of != "" && !there {
		_, there = m.interfaces[of]
	}
	if before := op.Before.(Sysctl); there && before.Value != "" && before.Value != now.Value {
		return ErrDifferent
	}
	return presence(op.Verb, there)
}

func indexRoute(list []state.Route, r state.Route) int {
	return slices.IndexFunc(list, func(o state.Route) bool { return sameRoute(o, r) && o.Protocol == r.Protocol })
}

func cloneInterface(i state.Interface) state.Interface {
	i.Addresses = slices.Clone(i.Addresses)
	if i.WireGuard == nil {
		return i
	}
	peers := make([]state.Peer, len(i.WireGuard.Peers))
	for j, p := range i.WireGuard.Peers {
		peers[j] = clonePeer(p)
	}
	return withPeers(i, peers)
}

func clonePeer(p state.Peer) state.Peer {
	p.AllowedIPs = slices.Clone(p.AllowedIPs)
	p.Addresses = slices.Clone(p.Addresses)
	return p
}

// without returns the prefixes of list that are not among gone, in a list of its own.
func without(list []netip.Prefix, gone ...netip.Prefix) []netip.Prefix {
	if len(gone) == 0 {
		return list
	}
	set := make(map[netip.Prefix]bool, len(gone))
	for _, p := range gone {
		set[p] = true
	}
	return slices.DeleteFunc(slices.Clone(list), func(p netip.Prefix) bool { return set[p] })
}

func sortedKeys[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }

// values returns the values of m in the order of their keys.
func values[T any](m map[string]T) []T {
	var out []T
	for _, k := range sortedKeys(m) {
		out = append(out, m[k])
	}
	return out
}
