package learned

import (
	"net/netip"
	"slices"

	"tombolo/internal/state"
)

// wayOut is how an uplink stands in one family: internal/agent, egresslay.go.
type wayOut struct {
	device    string
	gateway   netip.Addr
	addresses []netip.Prefix
	leased    bool // it has what nobody knows
	there     bool
	works     bool
}

// lease returns the addresses and gateways of an uplink, as far as anybody knows them. The zero
// gateway is that of a device which needs none.
func (w *World) lease(site string, u state.Uplink) (addresses []netip.Prefix, gateways []netip.Addr) {
	addresses, gateways = u.Addresses, u.Gateways
	if w.Uplinks == nil {
		return addresses, gateways
	}
	a, g := w.Uplinks(site, u.Device)
	for _, p := range a {
		if !slices.Contains(addresses, p) {
			addresses = append(slices.Clip(addresses), p)
		}
	}
	if len(a) > 0 && len(g) == 0 && len(gateways) == 0 {
		g = []netip.Addr{{}} // it needs none
	}
	return addresses, append(slices.Clip(gateways), g...) // of each family the first is used
}

// out returns how an uplink stands in one family.
func (w *World) out(r *state.Router, u state.Uplink, six bool) wayOut {
	o := wayOut{device: u.Device}
	if !w.carrier(r, u.Device) {
		return o
	}
	addresses, gateways := w.lease(r.Site, u)
	leads := u.DHCP && len(addresses) == 0 && len(gateways) == 0
	o.leased = leads
	for _, a := range addresses {
		if a.Addr().Is6() == six && !a.Addr().IsLinkLocalUnicast() {
			o.addresses = append(o.addresses, a)
		}
	}
	for _, g := range gateways {
		if !leads && (!g.IsValid() || g.Is6() == six) {
			o.gateway, leads = g, true
		}
	}
	o.there = leads && (o.leased || len(o.addresses) > 0)
	o.works = o.there && !w.dead(r.Site, u.Device)
	return o
}

// follow lays what follows a router's uplinks, and finds out whether any works.
func (w *World) follow(n *node) {
	e := n.router.Egress
	if e == nil {
		return
	}
	for f, all := range []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)} {
		ways := make([]wayOut, len(n.router.Uplinks))
		for i, u := range n.router.Uplinks {
			ways[i] = w.out(n.router, u, f == 1)
			n.works[f] = n.works[f] || ways[i].works
			if u.Table != 0 && ways[i].there {
				n.uplink(ways[i], u.Table, all)
			}
		}
		if e.Table == 0 {
			continue
		}
		for _, o := range sharers(n.router.Uplinks, ways) {
			n.leave(o, e.Table, all)
		}
	}
}

// leave lays a default route by an uplink.
func (n *node) leave(o wayOut, table uint32, all netip.Prefix) {
	n.held.Routes = append(n.held.Routes, state.Route{
		Table: table, Dst: all, Type: state.Unicast, Device: o.device, Gateway: o.gateway,
		// The kernel would look for it by all rules, ours too; of link-local ones it knows.
		OnLink:   o.gateway.Is4() || o.gateway.IsValid() && !o.gateway.IsLinkLocalUnicast(),
		Protocol: n.router.Egress.Protocol,
	})
}

// uplink lays what is one uplink's own, whether or not it works: who came in by it has no other
// way back.
func (n *node) uplink(o wayOut, table uint32, all netip.Prefix) {
	e := n.router.Egress
	n.leave(o, table, all)
	rule := state.Rule{IPv6: all.Addr().Is6(), Action: state.Lookup, Table: table, Protocol: e.Protocol}
	var subnets []netip.Prefix
	for _, a := range o.addresses {
		if !a.IsSingleIP() && !slices.Contains(subnets, a.Masked()) {
			subnets = append(subnets, a.Masked())
		}
		rule.From = netip.PrefixFrom(a.Addr(), a.Addr().BitLen())
		rule.Priority, rule.Mark, rule.Mask = e.Source, 0, 0
		n.held.Rules = append(n.held.Rules, rule)
		if e.Outer != 0 && o.works {
			rule.Priority, rule.Mark, rule.Mask = e.Outer, e.Mark, e.Mask
			n.held.Rules = append(n.held.Rules, rule)
		}
	}
	for _, p := range subnets { // as main has them
		n.held.Routes = append(n.held.Routes, state.Route{Table: table, Dst: p, Type: state.Unicast, Device: o.device, Protocol: e.Protocol})
	}
}

// sharers returns the uplinks by which new flows leave: of those that work, or where none does
// of all, those with the lowest preference.
func sharers(uplinks []state.Uplink, ways []wayOut) []wayOut {
	working := slices.ContainsFunc(ways, func(o wayOut) bool { return o.works })
	lowest := 0
	var out []wayOut
	for i, o := range ways {
		if !o.there || working && !o.works {
			continue
		}
		p := uplinks[i].Preference
		if lowest == 0 || p < lowest {
			lowest, out = p, nil
		}
		if p == lowest {
			out = append(out, o)
		}
	}
	return out
}
