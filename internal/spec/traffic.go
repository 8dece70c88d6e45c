package spec

import (
	"fmt"
	"net/netip"
	"slices"
)

// mappings finds a site's mapped LANs: by the prefix that it has itself, and by the one that
// others see. The as of a block is the other one.
type mappings struct{ real, mapped table }

// findHosts makes the tables of where the network has hosts: as all of it sees them, and
// behind mappings.
func (b *builder) findHosts() {
	var outside, hidden []block
	b.mapped = map[int]mappings{}
	for i := range b.n.Sites {
		var inside, here []block
		for _, l := range b.n.Sites[i].LANs {
			for _, m := range l.Prefixes {
				outside = append(outside, block{prefix: m.Outside(), Pos: m.Pos, site: i, what: "LAN"})
				if m.As.IsValid() {
					inside = append(inside, block{prefix: m.Prefix, Pos: m.Pos, site: i, as: m.As})
					here = append(here, block{prefix: m.As, Pos: m.Pos, site: i, as: m.Prefix})
				}
			}
		}
		if len(inside) > 0 {
			b.mapped[i] = mappings{newTable(inside), newTable(here)}
			hidden = append(hidden, inside...)
		}
	}
	b.hosts, b.hidden = newTable(outside), newTable(hidden)
}

// moved returns a part of the prefix from as the same part of the prefix to, which is of the
// same length.
func moved(p, from, to netip.Prefix) netip.Prefix {
	out, x, y := p.Addr().AsSlice(), from.Addr().AsSlice(), to.Addr().AsSlice()
	for i := range out {
		out[i] ^= x[i] ^ y[i] // the bits of from's length are x's, and those after it are 0 in x and y
	}
	a, _ := netip.AddrFromSlice(out)
	return netip.PrefixFrom(a, p.Bits())
}

// outward returns what others call a part of a mapped LAN of a site, as the site calls it.
func (b *builder) outward(site int, p netip.Prefix) (netip.Prefix, bool) {
	m := b.mapped[site].real.find(p)
	if m == nil {
		return p, false
	}
	return moved(p, m.prefix, m.as), true
}

// inward returns what a site calls what others call p.
func (b *builder) inward(site int, p netip.Prefix) netip.Prefix {
	m := b.mapped[site].mapped.find(p)
	if m == nil {
		return p
	}
	return moved(p, m.prefix, m.as)
}

// publish takes over the published ports.
func (b *builder) publish() {
	type listener struct {
		site     int
		protocol string
		six      bool // to a host by IPv6: the port of the uplink's IPv6 address
	}
	taken := map[listener][]Publish{}
	for _, d := range b.f.publish.v {
		p := Publish{Pos: d.Pos, At: d.v.at.v, Port: d.v.port.v.ports, Protocol: d.v.port.v.protocol, To: d.v.to.v}
		site, known := b.siteOf(d.v.at)
		if known && d.v.port.ok {
			at := listener{site, p.Protocol, p.To.Addr().Is6()}
			for _, o := range taken[at] {
				if o.Port.First <= p.Port.Last && p.Port.First <= o.Port.Last {
					b.err(d.v.port.Pos, codePublish, "a port leads to one host", "port %s at %q is already published in line %d", describePort(p), p.At, o.Pos.Line)
					break
				}
			}
			taken[at] = append(taken[at], p)
			b.tunnelPort(d.v.port.Pos, p, site)
		}
		switch {
		case !known:
		case b.n.Sites[site].Kind == Plain:
			b.err(d.v.at.Pos, codePlain, "publish it at a site that runs tombolo, or set it up on that router", "site %q is plain and runs nothing of ours, so no port of it can be published", p.At)
		case len(b.n.Sites[site].Uplinks) == 0 && !b.f.sites.v[site].v.doubt:
			b.warn(d.v.at.Pos, codePublish, "describe the device that leads to the Internet as its `uplink:`", "site %q has no uplink whose port could be published", p.At)
		}
		if d.v.to.ok {
			b.checkTarget(&p, d.v.to, site)
			if width := p.Port.Last - p.Port.First; d.v.port.ok && int(p.To.Port())+width > 65535 {
				b.err(d.v.to.Pos, codeRange, "", "the %d ports of the range end above 65535 at the host", width+1)
			}
		}
		b.n.Publish = append(b.n.Publish, p)
	}
}

func describePort(p Publish) string {
	if p.Port.First == p.Port.Last {
		return fmt.Sprintf("%d/%s", p.Port.First, p.Protocol)
	}
	return fmt.Sprintf("%d-%d/%s", p.Port.First, p.Port.Last, p.Protocol)
}

// tunnelPort reports a published port on which a tunnel of the site listens.
func (b *builder) tunnelPort(at Pos, p Publish, site int) {
	s := &b.n.Sites[site]
	if p.Protocol != "udp" || !b.allAddressed() {
		return
	}
	in := func(port int) bool { return p.Port.First <= port && port <= p.Port.Last }
	if in(s.BasePort) {
		b.err(at, codePublish, "publish another port", "UDP port %d of site %q is its base port, for clients", s.BasePort, s.Name)
		return
	}
	for j := range b.n.Sites {
		if j != site && b.n.Links.Has(site, j) && in(b.n.Port(site, j)) {
			b.err(at, codePublish, "publish another port", "on UDP port %d of site %q its link to %q listens", b.n.Port(site, j), s.Name, b.n.Sites[j].Name)
			return
		}
	}
}

// checkTarget reports a published port that leads to no host of the network. In a mapped LAN of
// the site itself (-1: it is not known which) the host's address may be the real one.
func (b *builder) checkTarget(p *Publish, to at[netip.AddrPort], site int) {
	host := hostPrefix(to.v.Addr())
	if b.hosts.find(host) != nil || b.clientPool().Contains(host.Addr()) {
		return
	}
	if out, mapped := b.outward(site, host); mapped {
		p.To = netip.AddrPortFrom(out.Addr(), to.v.Port())
		return
	}
	if m := b.hidden.find(host); m != nil && site < 0 {
		return
	} else if m != nil {
		b.err(to.Pos, codeUnknownHost, fmt.Sprintf("write its address in %v", m.as), "%v is in a LAN that is mapped: outside its site it is known by its address in %v", host.Addr(), m.as)
		return
	}
	if !b.doubt {
		b.err(to.Pos, codeUnknownHost, "a port leads to a host in one of the LANs of this file", "%v is in no LAN of the network", host.Addr())
	}
}

// segments takes over the layer 2 networks.
func (b *builder) segments() {
	for _, d := range b.f.segments.v {
		b.checkName(d.Pos, "segment", d.name)
		g := Segment{Pos: d.Pos, Name: d.name, Kind: d.v.kind.or("gretap")}
		for _, a := range d.v.attach.v {
			i, known := b.site(at[string]{Pos: a.Pos, v: a.name})
			if !known || !a.ok {
				continue
			}
			g.Attach = append(g.Attach, b.attachment(i, a))
		}
		if n := len(d.v.attach.v); d.v.attach.ok && n < 2 {
			b.err(d.v.attach.Pos, codeSegment, "add the other site", "segment %q attaches %s; it takes at least two", clip(d.name), map[int]string{0: "no site", 1: "one site"}[n])
		}
		b.n.Segments = append(b.n.Segments, g)
	}
}

func (b *builder) attachment(site int, a named[attachDecl]) Attachment {
	s := &b.n.Sites[site]
	out := Attachment{Pos: a.Pos, Site: s.Name, Bridge: a.v.bridge.v, DelegateTo: a.v.dhcpv6.v.delegateTo.v}
	switch {
	case a.v.bridge.given && a.v.dhcpv6.given:
		b.err(a.at.Pos, codeSegment, "delete one of them", "site %q has both `bridge:` and `dhcpv6:`", s.Name)
	case a.doubt:
		// it may be said in what could not be read
	case !a.v.bridge.given && !a.v.dhcpv6.given:
		b.err(a.at.Pos, codeSegment, "`{bridge: br-lan}` makes it a port of a bridge, `{dhcpv6: {delegate-to: br-lan}}` asks for a prefix over it", "site %q does not say how it takes part", s.Name)
	case s.Kind == Plain:
		b.err(a.Pos, codePlain, "attach a site that runs tombolo", "site %q is plain and runs nothing of ours, so no segment can end there", s.Name)
	case a.v.bridge.ok:
		b.checkDevice(a.v.bridge.Pos, a.v.bridge.v)
	case a.v.dhcpv6.v.delegateTo.ok:
		to := a.v.dhcpv6.v.delegateTo
		lan := slices.ContainsFunc(s.LANs, func(l LAN) bool { return l.Device == to.v })
		if b.checkDevice(to.Pos, to.v) && !lan && !b.f.sites.v[site].v.doubt {
			b.err(to.Pos, codeSegment, "the prefix is announced on a device of its `lan:`", "site %q has no LAN device %q", s.Name, to.v)
		}
	}
	return out
}
