package compile

import (
	"crypto/sha256"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"tombolo/internal/key"
	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// What WireGuard adds to a packet: IP and UDP headers, and 32 bytes of its own.
const (
	overhead4 = 20 + 8 + 32
	overhead6 = 40 + 8 + 32
)

// minMTU6 is the smallest MTU with which an interface carries IPv6 (RFC 8200 §5); the
// kernel takes all IPv6 away from one with less.
const minMTU6 = 1280

// defaultMTU is that of an uplink nobody described.
const defaultMTU = 1500

// holdOpen is how often an end that cannot be dialled speaks, so that the NAT before it
// keeps its mapping: below the 30 s that the shortest of them keep one.
const holdOpen = 25 * time.Second

// everything is the AllowedIPs of a link: its one peer may carry anything, so that
// AllowedIPs is neither router nor firewall.
var everything = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// interfaces returns the WireGuard interfaces of a site: with static routing the one that
// serves all its links, else one for each.
func (c *compiler) interfaces(i int, w ways) []state.Interface {
	switch {
	case c.roams(i):
		return []state.Interface{c.roamingInterface(i)}
	case c.static[i]:
		return []state.Interface{c.staticInterface(i, w)}
	}
	var out []state.Interface
	for _, e := range c.graph.edges[i] {
		if !c.n.Links.Options(i, e.to).NoTunnel {
			out = append(out, c.linkInterface(i, e.to))
		}
	}
	if len(out) == 0 {
		// Joined by LANs alone, the router still needs a device that holds its address.
		out = append(out, c.newInterface(i, spec.StaticInterface, "", c.mtu[i]-overhead6, c.n.Sites[i].BasePort+c.n.Sites[i].Index))
	}
	return out
}

func (c *compiler) linkInterface(i, peer int) state.Interface {
	name := c.n.Sites[peer].Name
	f := c.newInterface(i, spec.InterfaceName(name), name, c.linkMTU(i, peer), c.n.Port(i, peer))
	if f.MTU >= minMTU6 {
		f.Addresses = append(f.Addresses, linkLocal(c.n.Sites[i].Name))
	}
	var allowed []netip.Prefix // none where the link carries no traffic
	if c.regions.carries(i, peer) {
		allowed = slices.Clone(everything)
	}
	f.WireGuard.Peers = []state.Peer{c.peer(i, peer, allowed)}
	return f
}

// staticInterface has a peer for each link, whose AllowedIPs are all that is reached
// through it.
func (c *compiler) staticInterface(i int, w ways) state.Interface {
	allowed := make([][]netip.Prefix, len(c.n.Sites)) // by neighbour
	for to, via := range w {
		if via >= 0 {
			allowed[via] = append(allowed[via], c.outside(to)...)
		}
	}
	for k := range c.exits {
		if via, ok := c.exitHop(i, &c.exits[k]); ok {
			if p := netip.PrefixFrom(unspecified(c.exits[k].src), 0); !slices.Contains(allowed[via], p) {
				allowed[via] = append(allowed[via], p)
			}
		}
	}
	var peers []state.Peer
	for _, e := range c.graph.edges[i] {
		if !c.n.Links.Options(i, e.to).NoTunnel {
			peers = append(peers, c.peer(i, e.to, allowed[e.to]))
		}
	}
	f := c.newInterface(i, spec.StaticInterface, "", c.staticMTU(i), c.n.Sites[i].BasePort+c.n.Sites[i].Index)
	f.WireGuard.Peers = peers
	return f
}

// staticMTU is the smallest that one of the site's links asks for.
func (c *compiler) staticMTU(i int) int {
	mtu := c.mtu[i] - overhead4
	for _, e := range c.graph.edges[i] {
		if !c.n.Links.Options(i, e.to).NoTunnel {
			mtu = min(mtu, c.linkMTU(i, e.to))
		}
	}
	return mtu
}

func (c *compiler) newInterface(i int, name, peer string, mtu, port int) state.Interface {
	s := &c.n.Sites[i]
	alias := state.DefaultOwner().Alias + " " + c.n.Name
	if peer != "" {
		alias += " " + peer
	}
	addresses := []netip.Prefix{host(s.Address)}
	if mtu >= minMTU6 {
		addresses = append(addresses, host(s.Address6))
	}
	return state.Interface{
		Name: name, Kind: state.WireGuardKind, Alias: alias, MTU: mtu,
		Addresses: addresses,
		WireGuard: &state.WireGuard{
			PrivateKey: key.Ref(s.Name), PublicKey: c.publicKey(s),
			ListenPort: uint16(port), FwMark: c.n.Settings.Mark,
		},
	}
}

func (c *compiler) publicKey(s *spec.Site) key.Public { return known(c.o, s.Name, s.Key) }

// peer describes the site peer as i's WireGuard needs it.
func (c *compiler) peer(i, peer int, allowed []netip.Prefix) state.Peer {
	s, o := &c.n.Sites[peer], c.n.Links.Options(i, peer)
	p := state.Peer{Name: s.Name, PublicKey: c.publicKey(s), AllowedIPs: allowed}
	if o.Preshared {
		p.Preshared = key.LinkRef(c.n.Sites[i].Name, s.Name)
	}
	if c.n.CanDial(i, peer) {
		port := c.n.Port(peer, i)
		for _, e := range s.Endpoints {
			dial := port
			if o.Ports[1] == 0 || c.static[peer] {
				dial += e.Base - s.BasePort // a port forward moves the whole range
			}
			p.Endpoints = append(p.Endpoints, joinHostPort(e.Host, dial))
		}
	}
	switch {
	case o.Keepalive > 0:
		p.Keepalive = int(o.Keepalive / time.Second)
	case o.Keepalive == 0 && (!c.n.CanDial(peer, i) || c.watches(i, peer)):
		p.Keepalive = int(holdOpen / time.Second)
	}
	return p
}

// watches reports whether a router announces what lies behind a peer while that one's
// handshake is fresh. Then it must keep it fresh by itself: as long as nothing is
// announced, nobody sends anything there.
func (c *compiler) watches(i, peer int) bool {
	return !c.static[i] && c.static[peer] && c.regions.carries(i, peer) && c.n.CanDial(i, peer)
}

// linkMTU returns the MTU of the tunnel between two sites: what the smaller of their
// uplinks leaves. Only where every endpoint is an IPv4 address is the tunnel known to run
// over IPv4.
//
// Between two Babel routers it is never too small for IPv6, by which they speak; where the
// uplink is, the tunnel's own packets go in fragments.
func (c *compiler) linkMTU(a, b int) int {
	if m := c.n.Links.Options(a, b).MTU; m != 0 {
		return m
	}
	overhead := overhead4
	for _, s := range [][2]int{{a, b}, {b, a}} {
		if !c.n.CanDial(s[0], s[1]) {
			continue
		}
		for _, e := range c.n.Sites[s[1]].Endpoints {
			if ip, ok := e.Addr(); !ok || !ip.Unmap().Is4() {
				overhead = overhead6
			}
		}
	}
	mtu := min(c.mtu[a], c.mtu[b]) - overhead
	if !c.static[a] && !c.static[b] {
		mtu = max(mtu, minMTU6)
	}
	return mtu
}

// uplinkMTU returns the smallest MTU of a site's uplinks; known is what the machine itself
// says of its devices.
func uplinkMTU(s *spec.Site, known map[string]int) int {
	mtu := 0
	for _, u := range s.Uplinks {
		m := u.MTU
		if k := known[u.Device]; k > 0 {
			m = min(m, k)
		}
		if mtu == 0 || m < mtu {
			mtu = m
		}
	}
	if mtu == 0 {
		return defaultMTU
	}
	return mtu
}

// linkLocal returns the address that a router has on each of its links: fe80:: and a hash
// of its name. WireGuard gives an interface none by itself.
func linkLocal(site string) netip.Prefix {
	sum := sha256.Sum256([]byte("tombolo link-local " + site))
	b := [16]byte{0xfe, 0x80}
	copy(b[8:], sum[:8])
	return netip.PrefixFrom(netip.AddrFrom16(b), 64)
}

func joinHostPort(host string, port int) string {
	return net.JoinHostPort(host, strconv.Itoa(port))
}
