package compile

import (
	"net/netip"

	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// The kernel's own table of a router's ordinary routes (linux/rtnetlink.h, RT_TABLE_MAIN).
const mainTable = 254

// Where our rules stand within the range that the settings give, and why in that order.
const (
	atTunnel     = 0  // the tunnels' own packets leave by main,
	atTunnelStop = 1  // and never into a tunnel: a learned prefix may cover an endpoint
	atOwn        = 10 // own LANs and uplink subnets before what others announce,
	atOwnStop    = 11 // also when a LAN is down: its packets do not go into a tunnel
	atFabric     = 20 // the fabric before main's own routes; a campus 10.0.0.0/8 in main must not hide it
)

// rules returns the policy rules of a site, for both families.
func (c *compiler) rules(i int) []state.Rule {
	set := c.n.Settings
	var out []state.Rule
	add := func(at uint32, r state.Rule) {
		r.Priority, r.Protocol = set.Priority+at, set.Protocol
		out = append(out, r)
	}
	for _, six := range []bool{false, true} {
		add(atTunnel, state.Rule{IPv6: six, Mark: set.Mark, Mask: set.Mask, Action: state.Lookup, Table: mainTable})
		add(atTunnelStop, state.Rule{IPv6: six, Mark: set.Mark, Mask: set.Mask, Action: state.RuleUnreachable})
		// Only prefixes: a default route in the table is an exit's, and is not for everybody.
		add(atFabric, state.Rule{IPv6: six, Action: state.Lookup, Table: set.Table, Suppress: 1})
	}
	lans, uplinks := ownPrefixes(&c.n.Sites[i])
	for _, p := range append(uplinks, lans...) {
		add(atOwn, state.Rule{IPv6: p.Addr().Is6(), To: p, Action: state.Lookup, Table: mainTable, Suppress: 1})
	}
	for _, p := range lans {
		add(atOwnStop, state.Rule{IPv6: p.Addr().Is6(), To: p, Action: state.RuleUnreachable})
	}
	return out
}

// ownPrefixes returns the prefixes of a site's LANs, and of those of its uplinks that are
// not leased.
func ownPrefixes(s *spec.Site) (lans, uplinks []netip.Prefix) {
	for _, l := range s.LANs {
		for _, m := range l.Prefixes {
			lans = append(lans, m.Prefix)
		}
	}
	for _, u := range s.Uplinks {
		for _, a := range u.Addresses {
			uplinks = append(uplinks, a.Masked())
		}
	}
	return lans, uplinks
}

// sysctls returns the kernel settings without which packets would stop at the router.
//
// rp_filter: strict breaks replies that leave by another way than the one they came by,
// and loose breaks as soon as an exit is unreachable; all=1 would override the devices.
// On LANs, where no source may be foreign, it stays strict.
//
// accept_ra: a forwarding kernel stops listening to router advertisements, and with that
// loses an IPv6 default route that came by one, unless it is 2
// (Documentation/networking/ip-sysctl.rst).
func sysctls(s *spec.Site, interfaces []state.Interface) []state.Sysctl {
	out := []state.Sysctl{
		{Name: "net/ipv4/ip_forward", Value: "1"},
		{Name: "net/ipv6/conf/all/forwarding", Value: "1"},
		{Name: "net/ipv4/conf/all/rp_filter", Value: "0"},
	}
	rpFilter := func(device, value string) {
		out = append(out, state.Sysctl{Name: "net/ipv4/conf/" + device + "/rp_filter", Value: value})
	}
	for _, f := range interfaces {
		rpFilter(f.Name, "0")
	}
	seen := map[string]bool{}
	for _, u := range s.Uplinks {
		seen[u.Device] = true
		rpFilter(u.Device, "0")
		out = append(out, state.Sysctl{Name: "net/ipv6/conf/" + u.Device + "/accept_ra", Value: "2", Only: "1"})
	}
	for _, l := range s.LANs {
		if !seen[l.Device] {
			rpFilter(l.Device, "1")
		}
	}
	return out
}
