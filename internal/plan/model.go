package plan

import (
	"errors"
	"fmt"
	"slices"

	"tombolo/internal/state"
)

// What a kernel says of an operation that does not fit what it holds. Check wraps them
// with the operation's name.
var (
	ErrExists    = errors.New("it is there already")
	ErrAbsent    = errors.New("it is not there")
	ErrDifferent = errors.New("it is not what the plan takes it for")
	ErrPortInUse = errors.New("its UDP port is in use")
)

// Apply returns what a router that holds have holds after the operations, sorted. It does
// not modify its argument.
//
// It knows what the kernel does by itself: an interface takes its addresses, peers,
// settings and all routes over it along, those of others too; an allowed IP moves to the
// peer that last set it; a peer set without an endpoint keeps the one it has. It does not
// know of the routes that the kernel drops with an address, nor of secondary addresses:
// Diff makes no plan that depends on them.
//
// An operation that does not fit is done as far as it goes; Check is for those who want
// to know.
func Apply(have state.Router, ops []Op) state.Router {
	m := newModel(have)
	for _, op := range ops {
		m.do(op)
	}
	return m.router()
}

// Check is Apply up to the first operation that a kernel would refuse. It also returns how
// many were done. The error names the operation and wraps ErrExists, ErrAbsent,
// ErrDifferent or ErrPortInUse.
func Check(have state.Router, ops []Op) (after state.Router, done int, err error) {
	m := newModel(have)
	for i, op := range ops {
		if err := m.fits(op); err != nil {
			return m.router(), i, fmt.Errorf("%s: %w", op, err)
		}
		m.do(op)
	}
	return m.router(), len(ops), nil
}

// model is a router that can be changed.
type model struct {
	rest       state.Router // all that no plan touches
	interfaces map[string]state.Interface
	routes     map[state.RouteKey][]state.Route
	rules      []state.Rule
	rulesets   map[string]state.Ruleset
	sysctls    map[string]state.Sysctl
}

func newModel(r state.Router) *model {
	m := &model{
		rest:       r,
		interfaces: map[string]state.Interface{},
		routes:     make(map[state.RouteKey][]state.Route, len(r.Routes)),
		rules:      slices.Clone(r.Rules),
		rulesets:   map[string]state.Ruleset{},
		sysctls:    map[string]state.Sysctl{},
	}
	m.rest.LANs = slices.Clone(r.LANs)
	for _, i := range r.Interfaces {
		m.interfaces[i.Name] = cloneInterface(i)
	}
	for _, t := range r.Routes {
		m.routes[keyOf(t)] = append(m.routes[keyOf(t)], t)
	}
	for _, s := range r.Rulesets {
		m.rulesets[Ruleset{s}.ID()] = s
	}
	for _, s := range r.Sysctls {
		m.sysctls[s.Name] = s
	}
	return m
}

// router returns what the model holds.
func (m *model) router() state.Router {
	r := m.rest
	r.Interfaces = values(m.interfaces)
	r.Routes = nil
	for _, list := range m.routes {
		r.Routes = append(r.Routes, list...)
	}
	r.Rules = slices.Clone(m.rules)
	r.Rulesets = values(m.rulesets)
	r.Sysctls = values(m.sysctls)
	r.Sort()
	return r
}

// do does what the operation says.
func (m *model) do(op Op) {
	switch o := op.subject().(type) {
	case Interface:
		m.doInterface(op.Verb, o)
	case Address:
		m.doAddress(op.Verb, o)
	case Peer:
		m.doPeer(op.Verb, o)
	case Route:
		m.doRoute(op, o)
	case Rule:
		m.doRule(op.Verb, o)
	case Ruleset:
		m.rulesets[o.ID()] = o.Ruleset
		if op.Verb == Remove {
			delete(m.rulesets, o.ID())
		}
	case Sysctl:
		m.sysctls[o.Name] = state.Sysctl{Name: o.Name, Value: o.Value}
	}
}

func (m *model) doInterface(verb Verb, o Interface) {
	switch verb {
	case Remove:
		delete(m.interfaces, o.Name)
		for k, list := range m.routes {
			if list = slices.DeleteFunc(list, func(r state.Route) bool { return r.Device == o.Name }); len(list) == 0 {
				delete(m.routes, k)
			} else {
				m.routes[k] = list
			}
		}
		for name := range m.sysctls {
			if sysctlInterface(name) == o.Name {
				delete(m.sysctls, name)
			}
		}
	case Change:
		now := m.interfaces[o.Name]
		next := cloneInterface(bare(o.Interface))
		next.Addresses = now.Addresses
		m.interfaces[o.Name] = withPeers(next, wireGuard(&now).Peers)
	case Add:
		m.interfaces[o.Name] = cloneInterface(o.Interface)
	}
}

func (m *model) doAddress(verb Verb, o Address) {
	i, there := m.interfaces[o.Interface]
	if !there {
		return
	}
	if verb == Remove {
		i.Addresses = without(i.Addresses, o.Prefix)
	} else {
		i.Addresses = sortedPrefixes(append(i.Addresses, o.Prefix))
	}
	m.interfaces[o.Interface] = i
}

// doPeer sets or removes a peer. What it sets is taken from the others.
func (m *model) doPeer(verb Verb, o Peer) {
	i, there := m.interfaces[o.Interface]
	if !there || i.WireGuard == nil {
		return
	}
	next := quiet(clonePeer(o.Peer))
	peers := make([]state.Peer, 0, len(i.WireGuard.Peers)+1)
	for _, p := range i.WireGuard.Peers {
		switch {
		case idOf(p) != idOf(o.Peer):
			if verb != Remove {
				p.AllowedIPs = without(p.AllowedIPs, o.AllowedIPs...)
			}
			peers = append(peers, p)
		default:
			next.Handshake, next.Sent, next.Received = p.Handshake, p.Sent, p.Received
			if len(next.Addresses) == 0 {
				next.Addresses = p.Addresses
			}
		}
	}
	if verb != Remove {
		peers = append(peers, next)
	}
	m.interfaces[o.Interface] = withPeers(i, peers)
}

func (m *model) doRoute(op Op, o Route) {
	k := keyOf(o.Route)
	list := m.routes[k]
	if before, ok := op.Before.(Route); ok {
		if at := indexRoute(list, before.Route); at >= 0 {
			list = slices.Delete(slices.Clone(list), at, at+1)
		}
	}
	if op.Verb != Remove {
		list = append(slices.Clip(list), o.Route)
	}
	if m.routes[k] = list; len(list) == 0 {
		delete(m.routes, k)
	}
}

func (m *model) doRule(verb Verb, o Rule) {
	if verb == Add {
		m.rules = append(m.rules, o.Rule)
	} else if at := slices.Index(m.rules, o.Rule); at >= 0 {
		m.rules = slices.Delete(m.rules, at, at+1)
	}
}
