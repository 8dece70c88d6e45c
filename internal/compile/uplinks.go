package compile

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// uplinks returns a site's uplinks. A plain site has no tables of ours.
func (c *compiler) uplinks(i int) []state.Uplink {
	s, set := &c.n.Sites[i], c.n.Settings
	turns := func(e exit) bool { return e.local(i) && !slices.Contains(e.via, i) }
	remembers := len(s.Uplinks) > 1 || slices.ContainsFunc(c.exits, turns)
	var out []state.Uplink
	var names []string
	for _, u := range s.Uplinks {
		names = append(names, u.Device)
	}
	numbers := slots(names, spec.MaxUplinks)
	for k, u := range s.Uplinks {
		n := numbers[k]
		x := state.Uplink{
			Device: u.Device, DHCP: u.DHCP, Addresses: u.Addresses, Gateways: u.Gateways,
			MTU: u.MTU, Masquerade: u.Masquerade,
		}
		if s.Kind != spec.Plain {
			x.Weight, x.Preference = u.Weight, u.Preference
			x.Table, x.Mark = set.UplinkTable()+1+uint32(n), set.Number(spec.FirstUplink+n)
			if remembers && !c.joined(i, u.Device) {
				x.Pin = set.Number(spec.FirstPin + n)
			}
			x.Check = check(u.Check)
		}
		out = append(out, x)
	}
	return out
}

// joined reports whether other sites are reached by a device without a tunnel. What leaves by it
// may go to them, and not to the provider.
func (c *compiler) joined(i int, device string) bool {
	return slices.ContainsFunc(c.graph.edges[i], func(e edge) bool {
		o := c.n.Links.Options(i, e.to)
		return o.NoTunnel && o.On[0] == device
	})
}

func check(c spec.Check) *state.Check {
	if len(c.Targets) == 0 {
		return nil
	}
	return &state.Check{Targets: c.Targets, Interval: int(c.Interval / time.Millisecond), Down: c.Down, Up: c.Up}
}

// egress says where the agent keeps what follows a site's uplinks.
func (c *compiler) egress(i int) *state.Egress {
	s, set := &c.n.Sites[i], c.n.Settings
	if len(s.Uplinks) == 0 || s.Kind == spec.Plain {
		return nil
	}
	e := &state.Egress{Protocol: set.Protocol + protocolFollowing, Source: set.Priority + atAddress, Delegated: set.Priority + atDelegated, Mark: set.Mark, Mask: set.Mask}
	if len(s.Uplinks) > 1 {
		e.Table, e.Outer = set.UplinkTable(), set.Priority+atTunnelAddress
	}
	if len(c.exits) > 0 {
		e.Exit = set.Number(spec.TowardsExit)
	}
	return e
}

// protocolFollowing is what is added to our protocol number for what follows the uplinks.
const protocolFollowing = 2

// tunnelMark is what is remembered of connections that came in by a tunnel from a source
// outside the network: a port that another site publishes, whose host answers with its true
// address. The answer must go back by the way it came, and not to this site's own provider.
type tunnelMark struct {
	device string
	mark   uint32
	table  uint32
}

// tunnelMarks returns the tunnels of a Babel router by which such connections may come, first
// those to sites that publish something, then those to sites with a public address.
func (c *compiler) tunnelMarks(i int) []tunnelMark {
	if c.static[i] {
		return nil // one interface for all: its AllowedIPs say what may come in, and that is the network's
	}
	var order []int
	for _, e := range c.graph.edges[i] {
		if !c.n.Links.Options(i, e.to).NoTunnel && c.regions.carries(i, e.to) {
			order = append(order, e.to)
		}
	}
	weight := func(to int) int {
		s := &c.n.Sites[to]
		switch {
		case slices.ContainsFunc(c.n.Publish, func(p spec.Publish) bool { return p.At == s.Name }):
			return 0
		case len(s.Endpoints) > 0:
			return 1
		}
		return 2
	}
	slices.SortFunc(order, func(a, b int) int {
		if w := weight(a) - weight(b); w != 0 {
			return w
		}
		return strings.Compare(c.n.Sites[a].Name, c.n.Sites[b].Name)
	})
	var names []string
	for _, to := range order[:min(len(order), spec.TunnelTables)] {
		names = append(names, spec.InterfaceName(c.n.Sites[to].Name))
	}
	var out []tunnelMark
	for k, slot := range slots(names, spec.TunnelTables) {
		out = append(out, tunnelMark{names[k], c.n.Settings.Number(spec.FirstTunnel + slot), c.n.Settings.TunnelTable() + uint32(slot)})
	}
	slices.SortFunc(out, func(a, b tunnelMark) int { return strings.Compare(a.device, b.device) })
	return out
}

// tunnelRoutes lead back into the tunnels. Where one is gone the packet ends: at the provider
// nobody knows its source.
func tunnelRoutes(tunnels []tunnelMark, set spec.Settings) []state.Route {
	var out []state.Route
	for _, t := range tunnels {
		for _, all := range everything {
			out = append(out,
				state.Route{Table: t.table, Dst: all, Type: state.Unicast, Device: t.device, Protocol: set.Protocol},
				state.Route{Table: t.table, Dst: all, Metric: lastMetric, Type: state.Unreachable, Protocol: set.Protocol})
		}
	}
	return out
}

var linkLocal6 = netip.MustParsePrefix("fe80::/10")

// inside returns what the network's own addresses are: whoever comes from there is answered
// by the fabric's routes.
func (c *compiler) inside(i int, r *state.Router) []netip.Prefix {
	out := []netip.Prefix{c.n.Overlay, c.n.Overlay6, linkLocal6} // speakers of routing protocols are neighbours
	out = append(out, c.clients.pool...)
	lans, _ := ownPrefixes(&c.n.Sites[i])
	for _, p := range append(fabric(*r), lans...) {
		if p.Bits() > 0 && !covers(out, p) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, state.ComparePrefixes)
	return slices.Compact(out)
}
