package spec

import "net/netip"

// readUplinks takes over what a site says of its uplinks.
func (b *builder) readUplinks(s *Site, decl *siteDecl) {
	lan := map[string]Pos{}
	for _, l := range decl.lan.v {
		lan[l.name] = l.Pos
	}
	for i, d := range decl.uplink.v {
		if i == MaxUplinks {
			b.err(d.Pos, codeTooMany, "", "site %q has %d uplinks; the most are %d", s.Name, len(decl.uplink.v), MaxUplinks)
			break
		}
		if !b.checkDevice(d.Pos, d.name) {
			continue
		}
		if other, dup := lan[d.name]; dup {
			b.err(d.Pos, codeDeviceTwice, "a device either has hosts behind it or leads to the Internet", "device %q is a LAN of site %q (line %d) and an uplink too", clip(d.name), s.Name, other.Line)
			continue
		}
		if !d.ok {
			continue
		}
		u := Uplink{Pos: d.Pos, Device: d.name, DHCP: d.v.dhcp.or(false), MTU: d.v.mtu.or(1500), Weight: d.v.weight.or(1), Preference: d.v.preference.or(1), Masquerade: d.v.masquerade.or(true)}
		b.readCheck(&u, &d.v)
		b.readAddresses(&u, d)
		if d.v.mtu.ok && u.MTU < leastMTU6+tunnelOverhead {
			b.smallUplink(s, d.v.mtu.Pos)
		}
		s.Uplinks = append(s.Uplinks, u)
	}
}

// smallUplink warns of an uplink through which no packet of a link fits that could carry
// IPv6.
func (b *builder) smallUplink(s *Site, mtu Pos) {
	const least = leastMTU6 + tunnelOverhead
	if s.Routing == Babel {
		b.warn(mtu, codeSmallMTU, "with `routing: static` they are smaller, and carry no IPv6", "links over an uplink with an MTU below %d go in fragments: a tunnel takes %d bytes, and Babel speaks IPv6, which needs %d", least, tunnelOverhead, leastMTU6)
		return
	}
	b.warn(mtu, codeSmallMTU, "", "links over an uplink with an MTU below %d carry no IPv6: a tunnel takes %d bytes, and IPv6 needs %d", least, tunnelOverhead, leastMTU6)
}

// readAddresses takes over the addresses and gateways of an uplink.
func (b *builder) readAddresses(u *Uplink, d named[uplinkDecl]) {
	address, gateway := d.v.address, d.v.gateway
	switch {
	case u.DHCP && address.given:
		b.err(address.Pos, codeUplink, "delete `address:`, or `dhcp`", "uplink %q has its address by DHCP and another one here", u.Device)
		return
	case u.DHCP && gateway.given:
		b.err(gateway.Pos, codeUplink, "delete `gateway:`, or `dhcp`", "uplink %q has its gateway by DHCP and another one here", u.Device)
		return
	case u.DHCP:
		return
	case !address.given && !gateway.given:
		b.err(d.at.Pos, codeUplink, "`dhcp`, or for example `{address: 203.0.113.3/24, gateway: 203.0.113.1}`", "uplink %q says neither `dhcp` nor an address", u.Device)
		return
	case !address.given:
		b.err(gateway.Pos, codeUplink, "add `address:` with the length of its subnet", "uplink %q has a gateway and no address", u.Device)
		return
	}
	families := map[bool]at[netip.Prefix]{}
	for _, a := range address.v {
		is4 := a.v.Addr().Is4()
		if first, dup := families[is4]; dup {
			b.err(a.Pos, codeUplink, "describe the one that the router sends from", "uplink %q has a second %s address; the first is %v", u.Device, familyName(is4), first.v)
			continue
		}
		if use := specialUse(a.v.Masked()); use != "" {
			b.err(a.Pos, codeUplink, "write the address that `ip address` shows on the device", "address %v is %s, not an uplink's", a.v, use)
		}
		families[is4] = a
		u.Addresses = append(u.Addresses, a.v)
	}
	b.readGateways(u, families, gateway)
	if a, has4 := families[true]; has4 && !gateway.given {
		b.err(a.Pos, codeGateway, "add `gateway:`, the address after `default via` in `ip route`; a device that leads nowhere is a `lan:`", "uplink %q has an address and no gateway", u.Device)
	}
}

func (b *builder) readGateways(u *Uplink, families map[bool]at[netip.Prefix], gateway at[[]at[netip.Addr]]) {
	has := map[bool]bool{}
	for _, g := range gateway.v {
		is4 := g.v.Is4()
		a, known := families[is4]
		first, last := netip.Addr{}, netip.Addr{}
		if known {
			first, last = ends(a.v)
		}
		switch {
		case has[is4]:
			b.err(g.Pos, codeGateway, "describe the one that `ip route` shows", "uplink %q has a second %s gateway", u.Device, familyName(is4))
			continue
		case !known:
			b.err(g.Pos, codeGateway, "add the "+familyName(is4)+" address, or delete this gateway", "gateway %v of uplink %q is %s, and the uplink has no such address", g.v, u.Device, familyName(is4))
			continue
		case g.v == a.v.Addr():
			b.err(g.Pos, codeGateway, "the gateway is the provider's router", "gateway %v of uplink %q is its own address", g.v, u.Device)
			continue
		case a.v.IsSingleIP(), g.v.IsLinkLocalUnicast():
			// A provider may route a single address, and IPv6 gateways are link-local.
		case !a.v.Contains(g.v):
			b.err(g.Pos, codeGateway, "the subnet is "+a.v.Masked().String(), "gateway %v is outside the subnet of %v", g.v, a.v)
			continue
		case is4 && a.v.Bits() < 31 && (g.v == first || g.v == last):
			b.err(g.Pos, codeGateway, "", "gateway %v is not a host of its subnet: it is the first or last address of %v", g.v, a.v.Masked())
			continue
		}
		has[is4] = true
		u.Gateways = append(u.Gateways, g.v)
	}
}

func familyName(is4 bool) string {
	if is4 {
		return "IPv4"
	}
	return "IPv6"
}

// uplinks reports subnets of uplinks that are prefixes of something else.
func (b *builder) uplinks() {
	var subnets []block
	at := map[netip.Addr]*block{}
	for i := range b.n.Sites {
		for _, u := range b.n.Sites[i].Uplinks {
			for _, a := range u.Addresses {
				subnets = append(subnets, block{prefix: a.Masked(), Pos: u.Pos, site: i, what: "uplink", device: u.Device})
				x := &subnets[len(subnets)-1]
				if other, dup := at[a.Addr()]; dup && !private(a.Masked()) {
					b.err(u.Pos, codeDuplicateAddress, "correct the one that is wrong", "address %v of uplink %q is also that of uplink %q of site %q (line %d)", a.Addr(), u.Device, other.device, b.n.Sites[other.site].Name, other.Line)
				} else if !dup {
					at[a.Addr()] = &block{Pos: x.Pos, site: i, device: u.Device}
				}
			}
		}
	}
	taken := b.fabricBlocks()
	for i := range b.n.Sites {
		for _, l := range b.n.Sites[i].LANs {
			for _, m := range l.Prefixes {
				taken = append(taken, block{prefix: m.Outside(), Pos: m.Pos, site: i, what: "LAN", device: l.Device})
				if m.As.IsValid() {
					b.uplinkInMapped(i, l.Device, m)
				}
			}
		}
	}
	b.checkTargets(taken)
	crossings(subnets, taken, func(u, x *block) {
		site := b.n.Sites[u.site].Name
		switch x.site {
		case fabric:
			b.err(u.Pos, codeUplinkOverlap, "give the "+x.what+" another prefix", "the subnet %v of uplink %q overlaps the %s %v%s", u.prefix, u.device, x.what, x.prefix, inLine(x.Pos))
		case u.site:
			b.err(u.Pos, codeUplinkOverlap, "a router needs different subnets on different devices", "the subnet %v of uplink %q overlaps the LAN %v of device %q%s", u.prefix, u.device, x.prefix, x.device, inLine(x.Pos))
		default:
			b.warn(u.Pos, codeUplinkOverlap, "this is right only where the uplink stands in that LAN", "the subnet %v of uplink %q overlaps the LAN of site %q%s, so %q reaches that part of it by the uplink and not by the network", u.prefix, u.device, b.n.Sites[x.site].Name, inLine(x.Pos), site)
		}
	})
}

// uplinkInMapped reports uplinks of a site that overlap one of its LANs that is mapped.
func (b *builder) uplinkInMapped(site int, device string, m Mapped) {
	for _, u := range b.n.Sites[site].Uplinks {
		for _, a := range u.Addresses {
			if a.Overlaps(m.Prefix) {
				b.err(u.Pos, codeUplinkOverlap, "a router needs different subnets on different devices", "the subnet %v of uplink %q overlaps the LAN %v of device %q%s", a.Masked(), u.Device, m.Prefix, device, inLine(m.Pos))
			}
		}
	}
}
