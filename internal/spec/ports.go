package spec

import (
	"fmt"
	"net/netip"
	"slices"
)

// ports reports links whose UDP ports are none, or somebody else's.
func (b *builder) ports() {
	if !b.allAddressed() {
		return // the numbers that ports are made of are not known
	}
	forced := b.forcedPorts()
	highest := 0
	for i := range b.n.Sites {
		highest = max(highest, b.n.Sites[i].Index)
	}
	tooHigh := map[int]bool{} // sites whose number is too high for the others
	for i := range b.n.Sites {
		s := &b.n.Sites[i]
		switch {
		case s.Routing == Static:
			if s.BasePort+s.Index > 65535 && !tooHigh[i] {
				tooHigh[i] = true
				b.err(b.basePlace(i), codePort, b.lowerBase(s.Index), "site %q would listen on UDP port %d, its base port %d and its number in the overlay, %d; ports end at 65535", s.Name, s.BasePort+s.Index, s.BasePort, s.Index)
			}
		case s.BasePort+highest > 65535:
			b.overflow(i, forced, tooHigh)
		}
		b.portClashes(i, forced[i])
		b.closedPorts(i)
	}
	b.endpointPorts(highest)
}

// closedPorts warns of a site that lets ports in of which no link has one.
func (b *builder) closedPorts(i int) {
	s := &b.n.Sites[i]
	if b.wrong > 0 || len(s.Endpoints) == 0 || len(s.Inbound.Ports) == 0 {
		return
	}
	var ports []string
	for j := range b.n.Sites {
		if i == j || !b.n.Links.Has(i, j) {
			continue
		}
		port := b.n.Port(i, j)
		if s.Dialable(port) {
			return
		}
		if p := fmt.Sprint(port); !slices.Contains(ports, p) && len(ports) < 5 {
			ports = append(ports, p)
		}
	}
	if len(ports) > 0 {
		b.warn(b.f.sites.v[i].v.inbound.Pos, codeInbound, "its links listen on "+few(ports, 4), "site %q lets in no port on which a link of it listens, so nobody can dial it", s.Name)
	}
}

func (b *builder) allAddressed() bool {
	for _, ok := range b.addressed {
		if !ok {
			return false
		}
	}
	return true
}

// forcedPorts returns the ports that the file gives to ends of links: by site, by peer.
func (b *builder) forcedPorts() map[int]map[int]int {
	out := map[int]map[int]int{}
	for _, p := range b.n.Links.WithOptions() {
		o := b.n.Links.Options(p[0], p[1])
		for end, port := range o.Ports {
			if port == 0 {
				continue
			}
			if out[p[end]] == nil {
				out[p[end]] = map[int]int{}
			}
			out[p[end]][p[1-end]] = port
		}
	}
	return out
}

// basePlace is where the file says a site's base port, else the site.
func (b *builder) basePlace(i int) Pos {
	if p := b.f.sites.v[i].v.port; p.given {
		return p.Pos
	}
	return b.n.Sites[i].Pos
}

func (b *builder) lowerBase(index int) string {
	if index >= 65535 {
		return "give it an address nearer to the beginning of the overlay"
	}
	return fmt.Sprintf("a base port up to %d has room for it, or give it an address nearer to the beginning of the overlay", 65535-index)
}

// overflow reports the links of site i that would listen on no port. What is wrong is its
// own base port if it has one, else the other's number.
func (b *builder) overflow(i int, forced map[int]map[int]int, tooHigh map[int]bool) {
	s := &b.n.Sites[i]
	for j := range b.n.Sites {
		peer := &b.n.Sites[j]
		if s.BasePort+peer.Index <= 65535 || tooHigh[j] || !b.n.Links.Has(i, j) || forced[i][j] != 0 || b.n.Links.Options(i, j).NoTunnel {
			continue
		}
		if p := b.f.sites.v[i].v.port; p.given {
			b.err(p.Pos, codePort, b.lowerBase(peer.Index), "the link to site %q would listen on UDP port %d, the base port %d and that site's number in the overlay, %d; ports end at 65535", peer.Name, s.BasePort+peer.Index, s.BasePort, peer.Index)
			return
		}
		tooHigh[j] = true
		place := peer.Pos
		if a := b.f.sites.v[j].v.address; a.given {
			place = a.Pos
		}
		b.err(place, codePort, b.lowerBase(peer.Index), "the others' links to site %q would listen on UDP port %d, their base port %d and its number in the overlay, %d; ports end at 65535", peer.Name, s.BasePort+peer.Index, s.BasePort, peer.Index)
	}
}

// portClashes reports ports that the file gives to links of site i and that are taken.
func (b *builder) portClashes(i int, forced map[int]int) {
	if len(forced) == 0 {
		return
	}
	s := &b.n.Sites[i]
	byIndex := map[int]int{}
	for j := range b.n.Sites {
		byIndex[b.n.Sites[j].Index] = j
	}
	used := map[int]int{}
	for j := range b.n.Sites { // in the order of the file
		port, ok := forced[j]
		if !ok {
			continue
		}
		place := b.n.Links.Options(i, j).Pos
		peer := b.n.Sites[j].Name
		if port == s.BasePort {
			b.err(place, codePortClash, "take another port", "UDP port %d of site %q is for clients, so the link to %q cannot have it", port, s.Name, peer)
			continue
		}
		if other, dup := used[port]; dup {
			b.err(place, codePortClash, "take another port for one of them", "the links of site %q to %q and to %q would both listen on UDP port %d", s.Name, b.n.Sites[other].Name, peer, port)
			continue
		}
		used[port] = j
		other, is := byIndex[port-s.BasePort]
		if is && other != i && forced[other] == 0 && b.n.Links.Has(i, other) && !b.n.Links.Options(i, other).NoTunnel {
			b.err(place, codePortClash, fmt.Sprintf("take one that no other link has: below %d, for example", s.BasePort), "UDP port %d of site %q is that of its link to %q, so the link to %q cannot have it", port, s.Name, b.n.Sites[other].Name, peer)
		}
	}
}

// endpointPorts reports ports as they are seen from outside that are none, or those of
// another site behind the same address.
func (b *builder) endpointPorts(highest int) {
	byHost := map[string][]askedEnd{}
	for i := range b.n.Sites {
		for _, e := range b.n.Sites[i].Endpoints {
			byHost[e.Host] = append(byHost[e.Host], askedEnd{i, e})
			if e.Base+highest > 65535 && e.Base != b.n.Sites[i].BasePort {
				b.eachOutsidePort(askedEnd{i, e}, func(j, port int) bool {
					if port > 65535 {
						b.err(e.Pos, codePort, b.lowerBase(b.n.Sites[j].Index), "site %q would dial %s on UDP port %d, the base port %d and its number in the overlay, %d; ports end at 65535", b.n.Sites[j].Name, e.Host, port, e.Base, b.n.Sites[j].Index)
						return false
					}
					return true
				})
			}
		}
	}
	for i := range b.n.Sites {
		for _, e := range b.n.Sites[i].Endpoints {
			if ends := byHost[e.Host]; len(ends) > 1 {
				delete(byHost, e.Host)
				b.sharedHost(ends)
			}
		}
	}
}

type askedEnd struct {
	site int
	Endpoint
}

// eachOutsidePort visits the neighbours that dial an endpoint, and the port that they
// dial, until visit returns false.
func (b *builder) eachOutsidePort(e askedEnd, visit func(peer, port int) bool) {
	s := &b.n.Sites[e.site]
	for j := range b.n.Sites {
		if j == e.site || !b.n.Links.Has(e.site, j) || b.n.Links.Options(e.site, j).NoTunnel {
			continue
		}
		port := b.n.Port(e.site, j)
		if b.n.Links.Options(e.site, j).Ports[0] == 0 || s.Routing == Static {
			port += e.Base - s.BasePort
		}
		if !visit(j, port) {
			return
		}
	}
}

// sharedHost reports sites behind one address that would need the same port of it.
func (b *builder) sharedHost(ends []askedEnd) {
	type user struct{ site, base int }
	taken := map[int]user{}
	for _, e := range ends {
		b.eachOutsidePort(e, func(_, port int) bool {
			other, dup := taken[port]
			if dup && other.site != e.site {
				if other.base != e.Base { // the same base was reported before
					b.err(e.Pos, codePortClash, "give them base ports that are further apart than the numbers of their links", "UDP port %d of %s would lead to site %q (line %d) and to this one", port, e.Host, b.n.Sites[other.site].Name, b.n.Sites[other.site].Pos.Line)
				}
				return false
			}
			taken[port] = user{e.site, e.Base}
			return true
		})
	}
}

// endpoints reports endpoints that are addresses within the network, to which no packet
// comes before the link is there that they are for.
func (b *builder) endpoints() {
	own := newTable(b.fabricBlocks())
	for i := range b.n.Sites {
		s := &b.n.Sites[i]
		for _, e := range s.Endpoints {
			a, ok := e.Addr()
			if !ok {
				continue
			}
			in := own.find(hostPrefix(a))
			if in == nil {
				in = b.hosts.find(hostPrefix(a))
			}
			if mapped, is := ownMapped(s, a); is {
				in = &block{prefix: mapped.Prefix, Pos: mapped.Pos, site: i}
			}
			if in != nil {
				b.endpointIn(i, e, a, in)
			}
		}
	}
}

func ownMapped(s *Site, a netip.Addr) (Mapped, bool) {
	for _, l := range s.LANs {
		for _, m := range l.Prefixes {
			if m.As.IsValid() && m.Prefix.Contains(a) {
				return m, true
			}
		}
	}
	return Mapped{}, false
}

// endpointIn reports that endpoint e of site i, which is the address a, lies in a block.
func (b *builder) endpointIn(i int, e Endpoint, a netip.Addr, in *block) {
	const hint = "an endpoint is how others reach the router before there is a link: its address on the uplink, or its provider's"
	site := b.n.Sites[i].Name
	switch {
	case in.site == fabric:
		b.err(e.Pos, codeEndpointInside, hint, "endpoint %v lies in the %s %v%s, which is reached only through the links it is for", a, in.what, in.prefix, inLine(in.Pos))
	case in.site == i && private(hostPrefix(a)):
		b.err(e.Pos, codeEndpointInside, hint, "endpoint %v lies in the LAN of site %q itself%s, which others reach only through the link it is for", a, site, inLine(in.Pos))
	case in.site == i:
		b.warn(e.Pos, codeEndpointInside, "", "endpoint %v lies in the LAN of site %q itself%s: a neighbour that runs nothing of ours would send the tunnel's own packets into the tunnel", a, site, inLine(in.Pos))
	case private(hostPrefix(a)):
		for j := range b.n.Sites {
			if j != in.site && b.n.Links.Has(i, j) {
				b.warn(e.Pos, codeEndpointInside, hint, "endpoint %v lies in the LAN of site %q%s, so %q cannot dial it before there is a link", a, b.n.Sites[in.site].Name, inLine(in.Pos), b.n.Sites[j].Name)
				return
			}
		}
	}
}
