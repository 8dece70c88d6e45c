package lab

import (
	"fmt"
	"net/netip"
	"slices"
)

// linkLocalGateway is core's link-local address on every segment.
var linkLocalGateway = netip.MustParsePrefix("fe80::1/64")

// joinSegments puts uplinks on wires: those that name the same segment, or are described
// with the same subnet, share one. Two with the very same address, as behind two providers'
// boxes that are alike, do not: the second is known by an alias.
func (b *builder) joinSegments() {
	index := map[string]int{}
	var members [][]*uplink
	for i := range b.routers {
		for j := range b.routers[i].uplinks {
			u := &b.routers[i].uplinks[j]
			key := segmentKey(u, b.file.Sites[u.site].Uplinks[u.device].Segment)
			at, ok := index[key]
			hidden := ok && !u.dhcp && slices.ContainsFunc(members[at], func(m *uplink) bool { return m.address4 == u.address4 })
			if !ok || hidden {
				at = len(members)
				members = append(members, nil)
				b.segments = append(b.segments, segment{key: key, hidden: hidden})
			}
			if !ok {
				index[key] = at
			}
			if hidden && !u.alias.IsValid() {
				u.alias = u.spare
			}
			u.segment = at
			members[at] = append(members[at], u)
		}
	}
	bridges := 0
	for i := range b.segments {
		s := &b.segments[i]
		s.device = members[i][0].port
		if len(members[i]) > 1 {
			bridges++
			s.bridge, s.device = true, fmt.Sprintf("wire%d", bridges)
		}
		s.layout(members[i])
	}
}

func segmentKey(u *uplink, said string) string {
	switch {
	case said != "":
		return "segment " + said
	case u.address4.IsValid():
		return u.address4.Masked().String()
	case len(u.static6) > 0:
		return u.static6[0].Masked().String()
	default:
		return u.place()
	}
}

// layout gives the segment core's addresses, and its uplinks the gateways that they were
// not described with.
func (s *segment) layout(members []*uplink) {
	s.mtu = members[0].mtu
	var theirs []netip.Addr
	for _, u := range members {
		s.mtu = min(s.mtu, u.mtu)
		for _, p := range u.addresses() {
			theirs = append(theirs, p.Addr())
		}
	}
	for _, u := range members {
		if u.dhcp && !u.gateway4.IsValid() {
			u.gateway4 = gatewayFor(u, members, theirs)
		}
		s.own(u.gateway4, u.address4, theirs)
		for _, p := range u.static6 {
			s.own(u.gateway6, p, theirs)
		}
		if !u.ra {
			continue
		}
		if !s.advertise.IsValid() {
			s.advertise = u.address6.Masked()
		}
		u.address6 = netip.PrefixFrom(slaacAddress(s.advertise, u.mac), 64)
	}
	if s.advertise.IsValid() {
		first := firstAddress(s.advertise, theirs...)
		s.addresses = append(s.addresses, netip.PrefixFrom(first, 64))
	}
	if len(s.addresses) > 0 && !slices.Contains(s.addresses, linkLocalGateway) {
		s.addresses = append(s.addresses, linkLocalGateway)
	}
	sortPrefixes(s.addresses)
}

// gatewayFor chooses the gateway of a DHCP uplink: another uplink's on the same wire, else
// the first free address.
func gatewayFor(u *uplink, members []*uplink, theirs []netip.Addr) netip.Addr {
	for _, other := range members {
		if u.address4.Contains(other.gateway4) {
			return other.gateway4
		}
	}
	return firstAddress(u.address4.Masked(), theirs...)
}

// own gives core a gateway's address, unless one of the uplinks itself is the gateway.
func (s *segment) own(gateway netip.Addr, of netip.Prefix, theirs []netip.Addr) {
	if !gateway.IsValid() || slices.Contains(theirs, gateway) {
		return
	}
	p := netip.PrefixFrom(gateway, of.Bits())
	switch {
	case gateway.IsLinkLocalUnicast():
		p = netip.PrefixFrom(gateway, 64)
	case !of.Contains(gateway):
		p = hostPrefix(gateway) // on the link, and not in the uplink's subnet
	}
	if !slices.Contains(s.addresses, p) {
		s.addresses = append(s.addresses, p)
	}
}
