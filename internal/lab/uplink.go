package lab

import (
	"net"
	"net/netip"
	"slices"

	"tombolo/internal/lab/internet"
	"tombolo/internal/state"
)

// ethernetMTU is the MTU of a device of which nothing is said, in bytes.
const ethernetMTU = 1500

// endpointNames returns the DNS names among a site's endpoints, in their order.
func endpointNames(r state.Router) []string {
	var out []string
	for _, e := range r.Endpoints {
		host := endpointHost(e)
		if _, err := netip.ParseAddr(host); err != nil && !slices.Contains(out, host) {
			out = append(out, host)
		}
	}
	return out
}

// endpointHost returns the host of host:port.
func endpointHost(endpoint string) string {
	if host, _, err := net.SplitHostPort(endpoint); err == nil {
		return host
	}
	return endpoint
}

// literals returns the addresses among a site's endpoints that no uplink is said to have:
// its DHCP uplinks must be given them, or nobody reaches the site.
func literals(r state.Router) (v4, v6 []netip.Addr) {
	for _, e := range r.Endpoints {
		a, err := netip.ParseAddr(endpointHost(e))
		if err != nil || slices.ContainsFunc(r.Uplinks, func(u state.Uplink) bool { return hasAddress(u.Addresses, a) }) {
			continue
		}
		if a.Is4() && !slices.Contains(v4, a) {
			v4 = append(v4, a)
		} else if a.Is6() && !slices.Contains(v6, a) {
			v6 = append(v6, a)
		}
	}
	return v4, v6
}

func hasAddress(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Addr() == a })
}

// uplinks lays out the uplinks of a site.
func (b *builder) uplinks(r state.Router) []uplink {
	v4, v6 := literals(r)
	var out []uplink
	for i, described := range r.Uplinks {
		said := b.file.Sites[r.Site].Uplinks[described.Device]
		blocks, err := b.numbers.take()
		if err != nil {
			b.wrong("%w", err)
			return nil
		}
		u := uplink{
			site: r.Site, device: described.Device,
			port:   portName(r.Site, described.Device),
			mac:    hardwareAddress(r.Site, described.Device),
			mtu:    described.MTU,
			metric: 100 * i,
			dhcp:   described.DHCP,
			six:    blocks.six,
			routed: said.Routed,
		}
		u.spare, _ = addressAt(blocks.private, 2)
		if u.mtu == 0 {
			u.mtu = ethernetMTU
		}
		u.nat.Kind = b.natKind(r, described, said)
		if u.dhcp {
			v4, v6 = u.lease(blocks, said, v4, v6)
		} else {
			u.static(described)
		}
		if u.nat.Kind != internet.None {
			u.nat.Public = said.Public
			if !u.nat.Public.IsValid() {
				u.nat.Public, _ = addressAt(blocks.public, 2)
			}
		}
		out = append(out, u)
	}
	// An address that an endpoint names and a router does not have is translated before
	// it, by the box of the provider that forwards the ports.
	for i := range out {
		if u := &out[i]; len(v4) > 0 && !u.dhcp && u.address4.Addr().IsPrivate() {
			u.alias, v4 = v4[0], v4[1:]
		}
	}
	for _, a := range append(v4, v6...) {
		b.wrong("site %s: no uplink has the endpoint's address %s, and none is left to lease it", r.Site, a)
	}
	return out
}

// natKind says which NAT stands before an uplink: what the lab file says; none before a
// site that others dial, nor before a public address; else the default.
func (b *builder) natKind(r state.Router, described state.Uplink, said Uplink) internet.NATKind {
	if said.NAT != nil {
		return *said.NAT
	}
	private := described.DHCP || slices.ContainsFunc(described.Addresses, func(p netip.Prefix) bool {
		return p.Addr().Is4() && (p.Addr().IsPrivate() || private4.Contains(p.Addr()))
	})
	switch {
	case len(r.Endpoints) > 0 || !private:
		return internet.None
	case b.file.Default.NAT != nil:
		return *b.file.Default.NAT
	default:
		return internet.PortRestricted
	}
}

// lease chooses what a DHCP uplink is given. Of the addresses that endpoints name it
// takes one of each family, and returns the rest.
func (u *uplink) lease(b blocks, said Uplink, v4, v6 []netip.Addr) ([]netip.Addr, []netip.Addr) {
	u.ra = true
	six, _ := subnet(b.six, 64, 0)
	fromBlock := b.public
	if u.nat.Kind != internet.None {
		fromBlock = b.private
	}
	second, _ := addressAt(fromBlock, 2)
	u.address4 = netip.PrefixFrom(second, fromBlock.Bits())
	if len(v4) > 0 {
		u.address4, v4 = netip.PrefixFrom(v4[0], 24), v4[1:]
	}
	if len(v6) > 0 {
		u.static6, v6 = []netip.Prefix{netip.PrefixFrom(v6[0], 64)}, v6[1:]
	}
	for _, p := range said.Addresses {
		if p.Addr().Is4() {
			u.address4 = p
		} else {
			u.static6 = []netip.Prefix{p}
		}
	}
	if len(u.static6) > 0 {
		six = netip.PrefixFrom(u.static6[0].Addr(), 64).Masked()
		u.six = six
	}
	u.gateway4 = said.Gateway
	u.address6 = netip.PrefixFrom(slaacAddress(six, u.mac), 64)
	return v4, v6
}

// static takes over what the network file describes. IPv6, if it describes none, is
// advertised beside a gateway; without one nothing leads out of there.
func (u *uplink) static(described state.Uplink) {
	for _, p := range described.Addresses {
		if p.Addr().Is4() {
			u.address4 = p
		} else {
			u.static6 = append(u.static6, p)
		}
	}
	for _, g := range described.Gateways {
		if g.Is4() {
			u.gateway4 = g
		} else {
			u.gateway6 = g
		}
	}
	if u.gateway4.IsValid() && len(u.static6) == 0 {
		six, _ := subnet(u.six, 64, 0)
		u.ra, u.address6 = true, netip.PrefixFrom(slaacAddress(six, u.mac), 64)
	}
}
