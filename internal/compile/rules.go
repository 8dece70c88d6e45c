package compile

import (
	"net/netip"
	"slices"

	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// The kernel's own table of a router's ordinary routes (linux/rtnetlink.h, RT_TABLE_MAIN).
const mainTable = 254

// Where our rules stand within the range that the settings give, and why in that order.
const (
	atPin           = 0  // what left by an uplink once goes on by it, whatever leads its first packets now (see agent, turn.go),
	atReply         = 1  // and replies by that which the connection came in by: these come first, since most packets are of known flows;
	atTunnelAddress = 3  // with several uplinks the tunnels' own packets leave by that whose address they have (the agent's),
	atTunnelMain    = 4  // or as main says where that is no default: such a one may lead into a tunnel,
	atTunnelShared  = 5  // or by any that works, or the only one;
	atTunnel        = 6  // by main's where the agent knows of none yet,
	atTunnelStop    = 7  // and never into a tunnel: a learned prefix may cover an endpoint
	atOwn           = 10 // own LANs and uplink subnets before what others announce,
	atOwnStop       = 11 // also when a LAN is down: its packets do not go into a tunnel
	atSource        = 19 // what is learned for some sources before what is for all (also 12 to 18: state.Sources),
	atFabric        = 20 // the fabric before main's own routes; a campus 10.0.0.0/8 in main must not hide it
	atMain          = 30 // what main has that is no default route,
	atNoWay         = 31 // before the end of what is the fabric's and has no way: no default route leads there;
	atTunnelReply   = 40 // replies to what came by a tunnel from outside; after the fabric, within which flows may take other ways
	atAddress       = 42 // what has an uplink's address leaves by it (the agent's),
	atDevice        = 43 // and what is bound to one;
	atExit          = 59 // then exits, and what default routes are learned for some sources (also 45, 47, … 57: state.Sources),
	atExitHere      = 60 // each before what leads a wider source elsewhere, which leaves here (also 46, 48, … 58);
	atRouter        = 61 // the router's own traffic, where that has an exit too,
	atRouterNeeds   = 62 // but for what it cannot come up without,
	atRouterAddress = 63 // and what has an uplink's address, also while no agent follows that,
	atRouterStop    = 64 // ends there; so does whatever else comes from a LAN that may not leave here;
	atDelegated     = 65 // what was delegated to an uplink leaves by it (the agent's),
	atShared        = 70 // and new flows by those that work, unless another program has marked them for itself
)

// rules returns the policy rules of a site, for both families. fabric is what its fabric's
// table may hold; learns says that some of it may have no way.
func (c *compiler) rules(i int, fabric []netip.Prefix, tunnels []tunnelMark, learns bool) []state.Rule {
	set := c.n.Settings
	var out []state.Rule
	add := func(at uint32, r state.Rule) {
		r.Priority, r.Protocol = set.Priority+at, set.Protocol
		out = append(out, r)
	}
	for _, six := range []bool{false, true} {
		both := func(at uint32, r state.Rule) {
			r.IPv6 = six
			add(at, r)
		}
		c.uplinkRules(i, both)
		// Only prefixes: a default route in the table is an exit's, and is not for everybody.
		both(atFabric, state.Rule{Action: state.Lookup, Table: set.Table, Suppress: 1})
		if learns || c.egress(i) != nil || len(c.exits) > 0 {
			both(atMain, state.Rule{Action: state.Lookup, Table: mainTable, Suppress: 1})
		}
		if learns { // compiled ways are always there
			both(atNoWay, state.Rule{Action: state.Lookup, Table: set.NoWayTable()})
		}
		for _, t := range tunnels {
			both(atTunnelReply, state.Rule{Mark: t.mark, Mask: set.Mask, Action: state.Lookup, Table: t.table})
		}
	}
	c.exitRules(i, add)
	lans, uplinks := ownPrefixes(&c.n.Sites[i])
	uplinks = append(uplinks, c.leased(fabric, uplinks, lans)...)
	for _, p := range append(uplinks, lans...) {
		add(atOwn, state.Rule{IPv6: p.Addr().Is6(), To: p, Action: state.Lookup, Table: mainTable, Suppress: 1})
	}
	for _, p := range lans {
		add(atOwnStop, state.Rule{IPv6: p.Addr().Is6(), To: p, Action: state.RuleUnreachable})
	}
	return out
}

// uplinkRules are those about the ways out of a site. What is about one address of an uplink
// is the agent's to make: it may be leased.
func (c *compiler) uplinkRules(i int, add func(uint32, state.Rule)) {
	set, uplinks := c.n.Settings, c.uplinks(i)
	tunnels := state.Rule{Mark: set.Mark, Mask: set.Mask, Action: state.Lookup, Table: mainTable}
	add(atTunnel, tunnels)
	tunnels.Table, tunnels.Action = 0, state.RuleUnreachable
	add(atTunnelStop, tunnels)
	for _, u := range uplinks {
		if u.Table == 0 {
			continue
		}
		if u.Mark != 0 {
			add(atReply, state.Rule{Mark: u.Mark, Mask: set.Mask, Action: state.Lookup, Table: u.Table})
		}
		add(atDevice, state.Rule{OIF: u.Device, Action: state.Lookup, Table: u.Table})
		if u.Pin != 0 {
			add(atPin, state.Rule{Mark: u.Pin, Mask: set.Mask, Action: state.Lookup, Table: u.Table})
		}
	}
	e := c.egress(i)
	if e == nil {
		return
	}
	shared := state.Rule{Mark: set.Mark, Mask: set.Mask, Action: state.Lookup, Table: mainTable, Suppress: 1}
	add(atTunnelMain, shared)
	shared.Table, shared.Suppress = e.Table, 0
	if e.Table == 0 {
		shared.Table = uplinks[0].Table
	}
	add(atTunnelShared, shared)
	if e.Table != 0 {
		add(atShared, state.Rule{Mark: 0, Mask: ^set.Mask, Action: state.Lookup, Table: e.Table})
	}
}

// leased returns the subnets of leased uplinks, and of devices that the file does not
// describe where the fabric would take them. Another site may have the same one as its
// LAN (half of all home routers hand out 192.168.1.0/24): without a rule whoever sits on
// that device would lose this router when the route there comes. A subnet within which the
// fabric has something longer is left to main, as any other route there: a provider's
// 10.0.0.0/8 must not hide the overlay.
func (c *compiler) leased(fabric []netip.Prefix, known ...[]netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	connected := slices.DeleteFunc(slices.Clone(c.o.Connected), func(p netip.Prefix) bool { return !covers(fabric, p) })
	for _, p := range append(connected, c.o.Leased...) {
		hides := slices.ContainsFunc(fabric, func(f netip.Prefix) bool { return f.Bits() > p.Bits() && p.Overlaps(f) })
		if !hides && !p.IsSingleIP() && !slices.Contains(slices.Concat(append(known, out)...), p) {
			out = append(out, p)
		}
	}
	return out
}

// Covered reports whether the fabric of a compiled router would take a subnet away from it:
// a route there, compiled or learned, leads to the same prefix, or to one around it.
func Covered(r state.Router, p netip.Prefix) bool { return covers(fabric(r), p) }

func covers(fabric []netip.Prefix, p netip.Prefix) bool {
	return slices.ContainsFunc(fabric, func(f netip.Prefix) bool { return f.Bits() > 0 && f.Bits() <= p.Bits() && f.Overlaps(p) })
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
// On LANs, where no source may be foreign, it stays strict, or the ruleset has the same for the
// first packets of flows (sourceChecks); not where other routers are.
//
// accept_ra: a forwarding kernel stops listening to router advertisements, and with that
// loses an IPv6 default route that came by one, unless it is 2
// (Documentation/networking/ip-sysctl.rst).
//
// disable_ipv6: where IPv6 is off by default our interfaces still need it, as they have
// IPv6 addresses. Below minMTU6 they have none, and the kernel no such setting.
func (c *compiler) sysctls(i int, r *state.Router) []state.Sysctl {
	s := &c.n.Sites[i]
	out := []state.Sysctl{
		{Name: "net/ipv4/ip_forward", Value: "1"},
		{Name: "net/ipv6/conf/all/forwarding", Value: "1"},
		{Name: "net/ipv4/conf/all/rp_filter", Value: "0"},
	}
	rpFilter := func(device, value string) {
		out = append(out, state.Sysctl{Name: "net/ipv4/conf/" + device + "/rp_filter", Value: value})
	}
	for _, f := range r.Interfaces {
		rpFilter(f.Name, "0")
		if c.o.NoIPv6 && f.MTU >= minMTU6 {
			out = append(out, state.Sysctl{Name: "net/ipv6/conf/" + f.Name + "/disable_ipv6", Value: "0"})
		}
	}
	// The kernel looks the way back up in any case where there are rules, but for a device
	// whose packets may have its own addresses: that is refused in the ruleset, too.
	checked := c.marked(i, r)
	strict := func(device string) {
		if !checked {
			rpFilter(device, "1")
			return
		}
		rpFilter(device, "0")
		out = append(out, state.Sysctl{Name: "net/ipv4/conf/" + device + "/accept_local", Value: "1"})
	}
	seen := map[string]bool{}
	acceptRA := func(device string) {
		out = append(out, state.Sysctl{Name: "net/ipv6/conf/" + device + "/accept_ra", Value: "2", Only: "1"})
	}
	if len(s.Uplinks) > 1 && s.Kind != spec.Plain {
		// By flow: a connection's packets must not be spread over several addresses.
		out = append(out,
			state.Sysctl{Name: "net/ipv4/fib_multipath_hash_policy", Value: "1"},
			state.Sysctl{Name: "net/ipv6/fib_multipath_hash_policy", Value: "1"})
	}
	for _, u := range s.Uplinks {
		seen[u.Device] = true
		rpFilter(u.Device, "0")
		acceptRA(u.Device)
	}
	for _, d := range c.o.Advertised {
		ours := slices.ContainsFunc(r.Interfaces, func(f state.Interface) bool { return f.Name == d })
		if !seen[d] && !ours {
			acceptRA(d)
		}
	}
	if r.Babel != nil {
		for _, l := range r.Babel.Links {
			if !l.Tunnel && !seen[l.Device] {
				rpFilter(l.Device, "0")
			}
		}
	}
	for _, d := range c.strictLANs(i, r) {
		strict(d)
	}
	return out
}
