package spec

import (
	"fmt"
	"net/netip"
	"slices"
)

// clients takes over the roaming devices.
func (b *builder) clients() {
	f := b.f.clients
	if !f.given {
		return
	}
	c := &Clients{Pos: f.Pos, Pool: f.v.pool.v, Key: f.v.key.v}
	for _, name := range f.v.at.v {
		if _, ok := b.site(name); !ok {
			continue
		}
		if slices.Contains(c.At, name.v) {
			b.err(name.Pos, codeClients, "delete one of them", "site %q stands twice in `at:`", name.v)
			continue
		}
		c.At = append(c.At, name.v)
	}
	b.checkDoors(c, f.v)
	b.readDevices(c, f.v)
	b.n.Clients = c
}

// checkDoors reports clients that have nowhere to enter.
func (b *builder) checkDoors(c *Clients, f clientsDecl) {
	if b.doubt || len(c.At) == 0 || len(c.At) != len(f.at.v) {
		return
	}
	for _, name := range c.At {
		s := &b.n.Sites[b.index[name]]
		if s.Kind == Plain {
			b.err(f.at.Pos, codePlain, "let them enter at a site that runs tombolo", "clients enter at %q, which is plain and runs nothing of ours", name)
			return
		}
		if s.Dialable(s.BasePort) {
			return
		}
	}
	b.warn(f.at.Pos, codeClients, "clients come in on the base port of a site with an `endpoint:`", "no client can enter from outside: no site in `at:` lets in its base port")
}

func (b *builder) readDevices(c *Clients, f clientsDecl) {
	if f.pool.ok && (f.pool.v.Bits() > 30 || f.pool.v.Bits() < 8 || specialUse(f.pool.v) != "" || len(f.devices.v) > 1<<(32-f.pool.v.Bits())-2) {
		b.err(f.pool.Pos, codeClients, "take a private prefix, for example a /24, with room to spare", "pool %v has no room for %s", f.pool.v, plural(len(f.devices.v), "a device", "devices"))
		return
	}
	taken := map[netip.Addr]named[deviceDecl]{}
	for _, d := range f.devices.v {
		b.devices[d.name] = true
		if b.checkName(d.Pos, "device", d.name) {
			if i, is := b.index[d.name]; is {
				b.err(d.Pos, codeDuplicateName, "give the device another name", "device %q is called like the site in line %d", d.name, b.n.Sites[i].Pos.Line)
			}
		}
		if !f.pool.ok || !d.v.address.ok {
			continue
		}
		if other, dup := taken[d.v.address.v]; dup {
			b.err(d.v.address.Pos, codeDuplicateAddress, "give each device its own, or leave `address:` out", "address %v is already that of device %q (line %d)", d.v.address.v, clip(other.name), other.Line)
			continue
		}
		if b.inPrefix(d.v.address, f.pool.v, "pool") {
			taken[d.v.address.v] = d
		}
	}
	met := 0 // hashes that were taken
	for _, d := range f.devices.v {
		a := d.v.address.v
		if f.pool.ok && !d.v.address.given {
			hashed := AddressAt(f.pool.v, HashedIndex(d.name, f.pool.v, 0))
			a = hashed
			if other, is := taken[a]; is && d.ok {
				hint := "give it an `address:` of its own"
				if met++; met <= maxSuggested {
					a = nextFree(f.pool.v, a, 0, func(a netip.Addr) bool { _, t := taken[a]; return t })
					hint = "add `address: " + a.String() + "` to device \"" + clip(d.name) + "\""
				}
				b.err(d.Pos, codeHashCollision, hint, "device %q names no address, and the one that its name hashes to, %v, is that of device %q (line %d)", clip(d.name), hashed, clip(other.name), other.Line)
			}
			taken[a] = d
		}
		device := Device{Pos: d.Pos, Name: d.name, Address: a, Key: d.v.key.v, Full: d.v.full.or(false)}
		for _, r := range d.v.dns.v {
			device.DNS = append(device.DNS, r.v)
		}
		for _, g := range d.v.given.v {
			device.Given = append(device.Given, g.v)
		}
		if a.IsValid() {
			device.Address6 = deviceAddress6(b.n.Overlay6, a)
		}
		c.Devices = append(c.Devices, device)
	}
}

// deviceAddress6 returns a device's address in overlay6: in the /64 with the number ffff, where
// no site has its own, the bits of its IPv4 address.
func deviceAddress6(overlay6 netip.Prefix, a netip.Addr) netip.Addr {
	b, four := overlay6.Addr().As16(), a.As4()
	b[6], b[7] = 0xff, 0xff
	copy(b[12:], four[:])
	return netip.AddrFrom16(b)
}

// findHosts makes the tables of where the network has hosts: as all of it sees them, and
// behind mappings.
func (b *builder) findHosts() {
	var outside, hidden []block
	for i := range b.n.Sites {
		for _, l := range b.n.Sites[i].LANs {
			for _, m := range l.Prefixes {
				outside = append(outside, block{prefix: m.Outside(), Pos: m.Pos, site: i, what: "LAN"})
				if m.As.IsValid() {
					hidden = append(hidden, block{prefix: m.Prefix, Pos: m.Pos, site: i, as: m.As})
				}
			}
		}
	}
	b.hosts, b.hidden = newTable(outside), newTable(hidden)
}

// publish takes over the published ports.
func (b *builder) publish() {
	type listener struct {
		site     int
		protocol string
	}
	taken := map[listener][]Publish{}
	for _, d := range b.f.publish.v {
		p := Publish{Pos: d.Pos, At: d.v.at.v, Port: d.v.port.v.ports, Protocol: d.v.port.v.protocol, To: d.v.to.v}
		site, known := 0, false
		if d.v.at.ok {
			site, known = b.site(d.v.at)
		}
		if known && d.v.port.ok {
			at := listener{site, p.Protocol}
			for _, o := range taken[at] {
				if o.Port.First <= p.Port.Last && p.Port.First <= o.Port.Last {
					b.err(d.v.port.Pos, codePublish, "a port leads to one host", "port %s at %q is already published in line %d", describePort(p), p.At, o.Pos.Line)
					break
				}
			}
			taken[at] = append(taken[at], p)
			b.tunnelPort(d.v.port.Pos, p, site)
		}
		if known && len(b.n.Sites[site].Uplinks) == 0 && !b.f.sites.v[site].v.doubt {
			b.warn(d.v.at.Pos, codePublish, "describe the device that leads to the Internet as its `uplink:`", "site %q has no uplink whose port could be published", p.At)
		}
		if d.v.to.ok {
			b.checkTarget(d.v.to)
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

// checkTarget reports a published port that leads to no host of the network.
func (b *builder) checkTarget(to at[netip.AddrPort]) {
	host := hostPrefix(to.v.Addr())
	if b.hosts.find(host) != nil || b.clientPool().Contains(host.Addr()) {
		return
	}
	if m := b.hidden.find(host); m != nil {
		b.err(to.Pos, codeUnknownHost, fmt.Sprintf("write its address in %v", m.as), "%v is in a LAN that is mapped: outside its site it is known by its address in %v", host.Addr(), m.as)
		return
	}
	if !b.doubt {
		b.err(to.Pos, codeUnknownHost, "a port leads to a host in one of the LANs of this file", "%v is in no LAN of the network", host.Addr())
	}
}

func (b *builder) clientPool() netip.Prefix {
	if pool := b.f.clients.v.pool; pool.ok {
		return pool.v
	}
	return netip.Prefix{}
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
