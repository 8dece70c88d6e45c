package compile

import (
	"net/netip"

	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// routes returns the compiled ways to other sites' prefixes, in the fabric's table.
func (c *compiler) routes(i int, w ways) []state.Route {
	if c.roams(i) {
		return c.roamingRoutes(i)
	}
	var out []state.Route
	six := c.neighbours6(i)
	for to, via := range w {
		if via < 0 {
			continue
		}
		for _, p := range c.outside(to) {
			if p.Addr().Is6() && !six[via] {
				continue
			}
			if r, ok := c.route(i, via, p); ok {
				out = append(out, r)
			}
		}
	}
	return out
}

// noWays returns where packets end while no way is known to what others of the network
// have: a default route would lead them to the provider, in plain text. They lie in the
// table after the fabric's, which is looked at after main: a way there that somebody
// else made is better than none.
func (c *compiler) noWays(r *state.Router) []state.Route {
	whole := []netip.Prefix{c.n.Overlay, c.n.Overlay6} // with the devices' IPv6 addresses
	if c.n.Clients != nil {
		whole = append(whole, c.n.Clients.Pool)
	}
	ends := map[netip.Prefix]bool{}
	for _, p := range whole {
		ends[p] = true
	}
	for _, p := range fabric(*r) {
		if !covers(whole, p) {
			ends[p] = true
		}
	}
	var out []state.Route
	for p := range ends {
		out = append(out, state.Route{Table: c.n.Settings.NoWayTable(), Dst: p, Type: state.Unreachable, Protocol: c.n.Settings.Protocol})
	}
	return out
}

// neighbours6 returns the neighbours to which IPv6 packets can go.
func (c *compiler) neighbours6(i int) map[int]bool {
	six := map[int]bool{}
	static := c.static[i] && c.staticMTU(i) >= minMTU6
	for _, e := range c.graph.edges[i] {
		switch {
		case c.n.Links.Options(i, e.to).NoTunnel:
			six[e.to] = true
		case c.static[i]:
			six[e.to] = static
		default:
			six[e.to] = c.linkMTU(i, e.to) >= minMTU6
		}
	}
	return six
}

// route returns site i's route to p through its neighbour via. There is none over a LAN
// where the neighbour has no address by which p's packets can be handed to it.
func (c *compiler) route(i, via int, p netip.Prefix) (state.Route, bool) {
	s := &c.n.Sites[i]
	r := state.Route{
		Table: c.n.Settings.Table, Dst: p, Type: state.Unicast, Protocol: c.n.Settings.Protocol,
		// Else the router's own packets carry the address of its uplink into the tunnel.
		PrefSrc: s.Address,
	}
	if p.Addr().Is6() {
		r.PrefSrc = s.Address6
	}
	o := c.n.Links.Options(i, via)
	switch {
	case o.NoTunnel:
		r.Device = o.On[0]
		gw, ok := gateway(&c.n.Sites[via], o.On[1], p.Addr().Is6())
		if !ok {
			return state.Route{}, false
		}
		r.Gateway = gw
	case c.static[i]:
		r.Device = spec.StaticInterface
	default:
		r.Device = spec.InterfaceName(c.n.Sites[via].Name)
	}
	return r, true
}

// gateway returns the address that a site has on a device. IPv4 packets may be handed to
// an IPv6 address (RFC 5549), not the other way round.
func gateway(s *spec.Site, device string, ipv6 bool) (netip.Addr, bool) {
	var other netip.Addr
	for _, u := range s.Uplinks {
		if u.Device != device {
			continue
		}
		for _, a := range u.Addresses {
			if a.Addr().Is6() == ipv6 {
				return a.Addr(), true
			}
			other = a.Addr()
		}
	}
	return other, other.IsValid() && !ipv6
}
