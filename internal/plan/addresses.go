package plan

import (
	"net/netip"
	"slices"

	"tombolo/internal/state"
)

// diffAddresses adds and removes addresses of an interface that is to be there. Every
// address of an interface of ours is ours.
func (d *differ) diffAddresses(l *link) {
	if l.fresh() {
		for _, p := range sortedPrefixes(l.want.Addresses) {
			d.add(addressesPhase, Address{l.name, p})
		}
	}
	if !l.kept() {
		return
	}
	early := earlyAddresses(l)
	have, want := sortedPrefixes(l.have.Addresses), sortedPrefixes(l.want.Addresses)
	for _, p := range early {
		d.remove(addressesPhase, Address{l.name, p})
	}
	for _, p := range want {
		if !slices.Contains(have, p) {
			d.add(addressesPhase, Address{l.name, p})
		}
	}
	for _, p := range slices.Backward(have) {
		if !slices.Contains(want, p) && !slices.Contains(early, p) {
			d.remove(oldAddressesPhase, Address{l.name, p})
		}
	}
}

// earlyAddresses returns the addresses that must go before new ones come, because the
// kernel does not let both be there.
func earlyAddresses(l *link) []netip.Prefix {
	var out []netip.Prefix
	have, want := sortedPrefixes(l.have.Addresses), sortedPrefixes(l.want.Addresses)
	for _, h := range have {
		clashes := func(w netip.Prefix) bool { return !slices.Contains(have, w) && exclude(h, w) }
		if !slices.Contains(want, h) && slices.ContainsFunc(want, clashes) {
			out = append(out, h)
		}
	}
	return out
}

// exclude reports whether address b cannot be added beside a, to replace it: an IPv6
// address exists once on an interface, whatever its length (ipv6_add_addr in
// net/ipv6/addrconf.c, EEXIST), and a second IPv4 address of a subnet is a secondary one
// that goes with the first (__inet_del_ifa in net/ipv4/devinet.c).
func exclude(a, b netip.Prefix) bool {
	if a.Addr().Is6() {
		return a.Addr() == b.Addr()
	}
	return a.Masked() == b.Masked()
}

// lostAddresses returns the addresses that are away for a moment while the plan runs: on
// no interface are they both before and after.
func (d *differ) lostAddresses() map[netip.Addr]bool {
	lost := map[netip.Addr]bool{}
	for _, l := range d.links {
		var away []netip.Prefix
		if l.kept() {
			away = earlyAddresses(l)
		} else if l.fresh() && l.replaced {
			away = l.have.Addresses
		}
		for _, p := range away {
			lost[p.Addr()] = true
		}
	}
	for _, l := range d.links {
		if len(lost) == 0 || !l.kept() {
			continue
		}
		for _, p := range l.have.Addresses {
			if slices.Contains(l.want.Addresses, p) {
				delete(lost, p.Addr())
			}
		}
	}
	return lost
}

// sortedPrefixes returns the prefixes in order, each once, in a list of its own.
func sortedPrefixes(list []netip.Prefix) []netip.Prefix {
	out := slices.Clone(list)
	slices.SortFunc(out, state.ComparePrefixes)
	return slices.Compact(out)
}
