package internet

import (
	"math/rand/v2"
	"net/netip"
)

// box is a NAT with its state: the IPv4 mappings and the IPv6 sessions.
type box struct {
	nat      NAT
	random   *rand.Rand
	byInside map[insideKey]*mapping
	byPort   map[portKey]*mapping
	flows6   map[flowKey]*session
}

// insideKey finds a mapping for a packet that goes out.
type insideKey struct {
	proto  uint8
	inside netip.AddrPort
	// remote is set for a Symmetric NAT only: its mapping is
	// address-and-port-dependent, that of the others endpoint-independent
	// (RFC 4787 §4.1).
	remote netip.AddrPort
}

// portKey finds a mapping for a packet that comes in.
type portKey struct {
	proto uint8
	port  uint16
}

// mapping ties an inside endpoint to an outside port. For ICMP echo the ports
// are identifiers (RFC 5508 §3.1).
type mapping struct {
	key  insideKey
	port uint16
	// sessions are the remotes that were sent to, as far as filtering asks: see
	// remoteKey. The mapping lives while one of them does.
	sessions map[netip.AddrPort]*session
	expires  instant
}

func newBox(nat NAT, random *rand.Rand) *box {
	return &box{
		nat:      nat,
		random:   random,
		byInside: make(map[insideKey]*mapping),
		byPort:   make(map[portKey]*mapping),
		flows6:   make(map[flowKey]*session),
	}
}

// outbound translates the source of a packet from the inside, making the
// mapping where there is none. False drops the packet.
func (b *box) outbound(t instant, packet []byte, seg *segment) bool {
	remote := seg.dest()
	switch seg.kind {
	case kindTCP, kindUDP:
	case kindEchoRequest:
		remote = netip.AddrPortFrom(seg.dst, 0)
	case kindICMPError:
		return b.errorOut(t, packet, seg)
	default:
		return false
	}
	m := b.find(t, seg.proto, seg.source(), remote)
	if m == nil {
		if seg.kind == kindTCP && seg.flags&tcpRST != 0 {
			return false // nothing to reset, and nothing to open
		}
		if m = b.open(t, b.insideKey(seg.proto, seg.source(), remote)); m == nil {
			return false
		}
	}
	key := b.remoteKey(seg.proto, remote)
	s := m.sessions[key]
	if s == nil || s.expires <= t {
		s = new(session)
		m.sessions[key] = s
	}
	s.leave(t, seg, &b.nat)
	m.renew(s)
	return seg.rewriteSource(packet, netip.AddrPortFrom(b.nat.Public, m.port))
}

// inbound translates the destination of a packet to the outside address, if
// the filtering lets it pass (RFC 4787 §5). False drops the packet.
func (b *box) inbound(t instant, packet []byte, seg *segment) bool {
	remote := seg.source()
	switch seg.kind {
	case kindTCP, kindUDP:
	case kindEchoReply:
		remote = netip.AddrPortFrom(seg.src, 0)
	case kindICMPError:
		return b.errorIn(t, packet, seg)
	default:
		return false
	}
	m := b.byPort[portKey{seg.proto, seg.dport}]
	if m == nil || !b.permits(t, m, remote) {
		return false
	}
	if seg.kind == kindTCP {
		if s := m.sessions[remote]; s != nil && s.enter(t, seg, &b.nat) {
			m.shorten()
		}
	}
	return seg.rewriteDest(packet, m.key.inside)
}

func (b *box) insideKey(proto uint8, inside, remote netip.AddrPort) insideKey {
	if b.nat.Kind != Symmetric {
		remote = netip.AddrPort{}
	}
	return insideKey{proto, inside, remote}
}

// remoteKey is what filtering asks of a remote: nothing, its address, or its
// address and port (RFC 4787 §5). TCP keeps every connection apart, because
// each has a state.
func (b *box) remoteKey(proto uint8, remote netip.AddrPort) netip.AddrPort {
	switch {
	case proto == protoTCP:
		return remote
	case b.nat.Kind == FullCone:
		return netip.AddrPort{}
	case b.nat.Kind == AddressRestricted:
		return netip.AddrPortFrom(remote.Addr(), 0)
	}
	return remote
}

// permits says whether a packet from remote may come in by m.
func (b *box) permits(t instant, m *mapping, remote netip.AddrPort) bool {
	if m.expires <= t {
		return false
	}
	if b.nat.Kind == FullCone {
		return true
	}
	if s := m.sessions[b.remoteKey(m.key.proto, remote)]; s != nil && s.expires > t {
		return true
	}
	if b.nat.Kind == AddressRestricted && m.key.proto == protoTCP {
		for peer, s := range m.sessions {
			if peer.Addr() == remote.Addr() && s.expires > t {
				return true
			}
		}
	}
	return false
}

// find returns the live mapping of an inside endpoint, or nil.
func (b *box) find(t instant, proto uint8, inside, remote netip.AddrPort) *mapping {
	m := b.byInside[b.insideKey(proto, inside, remote)]
	if m == nil || m.expires > t {
		return m
	}
	b.close(m)
	return nil
}

// open makes a mapping, or returns nil when all ports are taken.
func (b *box) open(t instant, key insideKey) *mapping {
	port, ok := b.freePort(t, key.proto, key.inside.Port())
	if !ok {
		return nil
	}
	m := &mapping{key: key, port: port, sessions: make(map[netip.AddrPort]*session)}
	b.byInside[key] = m
	b.byPort[portKey{key.proto, port}] = m
	return m
}

func (b *box) close(m *mapping) {
	delete(b.byInside, m.key)
	delete(b.byPort, portKey{m.key.proto, m.port})
}

// freePort picks the outside port of a new mapping. Two mappings never share
// one: no port overloading (RFC 4787 REQ-3).
func (b *box) freePort(t instant, proto uint8, inside uint16) (uint16, bool) {
	free := func(port uint16) bool {
		m := b.byPort[portKey{proto, port}]
		if m != nil && m.expires <= t {
			b.close(m)
			m = nil
		}
		return m == nil
	}
	low, high := int(b.nat.PortMin), int(b.nat.PortMax)
	if b.nat.Ports == PortPreserve && int(inside) >= low && int(inside) <= high && free(inside) {
		return inside, true
	}
	n := high - low + 1
	start := b.random.IntN(n)
	for i := range n {
		if port := uint16(low + (start+i)%n); free(port) {
			return port, true
		}
	}
	return 0, false
}

// sweep frees what has expired.
func (b *box) sweep(t instant) {
	for _, m := range b.byPort {
		if m.expires <= t {
			b.close(m)
			continue
		}
		for remote, s := range m.sessions {
			if s.expires <= t {
				delete(m.sessions, remote)
			}
		}
	}
	for key, s := range b.flows6 {
		if s.expires <= t {
			delete(b.flows6, key)
		}
	}
}

// renew keeps the mapping for as long as the session that was just used, or
// as the longest of the others.
func (m *mapping) renew(s *session) {
	if s.expires >= m.expires {
		m.expires = s.expires
		return
	}
	m.shorten()
}

// shorten finds the mapping's end again after a session's end drew nearer.
func (m *mapping) shorten() {
	m.expires = 0
	for _, s := range m.sessions {
		m.expires = max(m.expires, s.expires)
	}
}
