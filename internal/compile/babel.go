package compile

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// protocolAfter is what is added to our protocol number for learned routes.
const protocolAfter = 1

// defaultCost is the price of a link where the file says none. In milliseconds: of two ways
// that are equally long the one with fewer routers on it is taken.
const defaultCost = 1

// claim says that a prefix may be announced in a Babel region, and by whose router.
type claim struct {
	state.Accept
	from int // the site that announces it or lets it in; several where there are several
}

// several stands for more than one site.
const several = -1

// babel returns what the speaker of a site is to do. It is nil where that has nobody to speak
// to; but at a door, whatever its routing, the speaker holds the routes to devices.
func (c *compiler) babel(i int, r *state.Router) *state.Babel {
	s := &c.n.Sites[i]
	var links []state.BabelLink
	if !c.static[i] {
		links = c.babelLinks(i)
	}
	if len(links) == 0 && r.Clients == nil {
		return nil
	}
	b := &state.Babel{
		Site: origin(s), Table: c.n.Settings.Table, Protocol: c.n.Settings.Protocol + protocolAfter,
		Sources: state.Sources{
			Table: c.n.Settings.SourceTable(), Tables: spec.SourceTables,
			Prefixes: c.n.Settings.Priority + atSource, Defaults: c.n.Settings.Priority + atExit,
		},
		PrefSrc4: s.Address, PrefSrc6: s.Address6,
		Links: links,
	}
	claims := c.deviceClaims([]int{i})
	if len(links) > 0 {
		b.Announce = append(c.announcements(i, r), c.exitAnnouncements(i)...)
		b.Exits = c.exitTables(i)
		claims = c.claimsOf(c.regions.of[i])
	}
	b.Accept = make([]state.Accept, 0, len(claims))
	for _, x := range claims {
		if x.from != i {
			b.Accept = append(b.Accept, x.Accept)
		}
	}
	return b
}

// origin returns the upper half of a site's router-ids. Its address is its own for life,
// and no other site's.
func origin(s *spec.Site) uint32 {
	a := s.Address.As4()
	return binary.BigEndian.Uint32(a[:])
}

// babelLinks returns the devices that the speaker of a site speaks on: the tunnels to other
// Babel sites, and segments.
func (c *compiler) babelLinks(i int) []state.BabelLink {
	var out []state.BabelLink
	segments := map[string][]edge{} // of sites on a LAN that need no tunnel
	for _, e := range c.graph.edges[i] {
		o := c.n.Links.Options(i, e.to)
		switch {
		case c.static[e.to]:
		case o.NoTunnel:
			segments[o.On[0]] = append(segments[o.On[0]], e)
		default:
			name := c.n.Sites[e.to].Name
			out = append(out, state.BabelLink{
				Device: spec.InterfaceName(name), Peer: name, Tunnel: true, Cost: babelCost(o), Only: c.only(e.to),
			})
		}
	}
	for _, d := range c.n.Sites[i].Babel {
		if _, met := segments[d.Device]; !met {
			segments[d.Device] = nil
		}
	}
	for device, edges := range segments {
		out = append(out, c.babelSegment(i, device, edges))
	}
	return out
}

// babelSegment returns a device whose neighbours come without a tunnel.
func (c *compiler) babelSegment(i int, device string, edges []edge) state.BabelLink {
	l := state.BabelLink{Device: device, Cost: defaultCost}
	for _, d := range c.n.Sites[i].Babel {
		if d.Device == device {
			l.Key = d.Key
			l.Foreign = slices.Clone(d.Accept)
		}
	}
	if len(edges) == 0 {
		// No site speaks here by the file, so nobody here is believed to be one.
		l.Only = []uint32{origin(&c.n.Sites[i])}
		return l
	}
	if len(edges) == 1 {
		l.Peer = c.n.Sites[edges[0].to].Name
	}
	leaves := true
	for _, e := range edges {
		// One device has one cost: that of its dearest link.
		l.Cost = max(l.Cost, babelCost(c.n.Links.Options(i, e.to)))
		only := c.only(e.to)
		leaves = leaves && only != nil
		l.Only = append(l.Only, only...)
	}
	if !leaves {
		l.Only = nil
	}
	return l
}

func babelCost(o spec.LinkOptions) int { return max(defaultCost, o.Cost) }

// only returns the sites that a Babel site's neighbours hear of from it, where that is
// plain: behind a site with one link to other Babel sites there is nobody else. What static
// regions it is a door to, it announces as its own. Nil: any.
func (c *compiler) only(site int) []uint32 {
	if c.links[site] > 1 || len(foreignPrefixes(&c.n.Sites[site])) > 0 {
		return nil
	}
	return []uint32{origin(&c.n.Sites[site])}
}

// announcements returns what a Babel router announces: itself, its LANs, and what lies
// behind its doors, to which r has routes already.
func (c *compiler) announcements(i int, r *state.Router) []state.Announcement {
	s := &c.n.Sites[i]
	out := []state.Announcement{{Dst: host(s.Address), While: state.Always}}
	if hasAddress(r.Interfaces, s.Address6) {
		out = append(out, state.Announcement{Dst: host(s.Address6), While: state.Always})
	}
	for _, l := range s.LANs {
		for _, m := range l.Prefixes {
			a := state.Announcement{Dst: m.Outside(), While: state.Carrier, Device: l.Device}
			if m.Probe.IsValid() {
				a.While, a.Probe = state.Probe, m.Probe
			}
			out = append(out, a)
		}
	}
	behind := map[string]state.Announcement{} // by device
	for _, e := range c.graph.edges[i] {
		peer, o := c.n.Sites[e.to].Name, c.n.Links.Options(i, e.to)
		switch {
		case !c.static[e.to]:
		case o.NoTunnel:
			behind[o.On[0]] = state.Announcement{While: state.Carrier, Device: o.On[0]}
		case o.Keepalive < 0:
			// Who is told to be silent has no handshake when there is nothing to say.
			behind[spec.InterfaceName(peer)] = state.Announcement{While: state.Always}
		default:
			behind[spec.InterfaceName(peer)] = state.Announcement{While: state.Handshake, Device: spec.InterfaceName(peer), Peer: peer}
		}
	}
	for _, route := range r.Routes {
		a := behind[route.Device]
		a.Dst = route.Dst
		out = append(out, a)
	}
	return out
}

func hasAddress(interfaces []state.Interface, a netip.Addr) bool {
	return slices.ContainsFunc(interfaces, func(f state.Interface) bool { return slices.Contains(f.Addresses, host(a)) })
}

// claimsOf returns what may be announced in a Babel region, by prefix. It is made once for
// all its routers.
func (c *compiler) claimsOf(region int) []claim {
	if made, ok := c.claims[region]; ok {
		return made
	}
	origins := make([]uint32, len(c.n.Sites))
	for i := range c.n.Sites {
		origins[i] = origin(&c.n.Sites[i])
	}
	var out []claim
	add := func(from int, prefixes []netip.Prefix) {
		for _, p := range prefixes {
			out = append(out, claim{state.Accept{Dst: p, Origins: origins[from : from+1 : from+1]}, from})
		}
	}
	foreign := map[netip.Prefix]int{}
	doors := c.regions.out(region)
	for i := range c.n.Sites {
		s := &c.n.Sites[i]
		if c.regions.of[i] != region {
			if d, joined := doors[c.regions.of[i]]; joined {
				add(d.from, c.outside(i))
			}
			continue
		}
		add(i, reach(s))
		for _, p := range foreignPrefixes(s) {
			if _, met := foreign[p]; met {
				foreign[p] = several
			} else {
				foreign[p] = i
			}
		}
	}
	for p, from := range foreign {
		out = append(out, claim{state.Accept{Dst: p, Within: true}, from})
	}
	out = append(out, c.deviceClaims(c.doorsIn(region))...)
	out = append(out, c.exitClaims(region)...)
	slices.SortFunc(out, func(x, y claim) int {
		return cmp.Or(state.ComparePrefixes(x.Dst, y.Dst), state.ComparePrefixes(x.Src, y.Src))
	})
	c.claims[region] = out
	return out
}

// foreignPrefixes returns what a site lets in from routers of no site, each once.
func foreignPrefixes(s *spec.Site) []netip.Prefix {
	var out []netip.Prefix
	for _, d := range s.Babel {
		for _, p := range d.Accept {
			if !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}
