package internet

import "net/netip"

// Where the addresses stand in an IPv4 header, and the ports in TCP's and UDP's.
const (
	srcAddrAt, dstAddrAt = 12, 16
	srcPortAt, dstPortAt = 0, 2
)

// rewriteSource gives an IPv4 packet another source. False says that it
// cannot be done: the TCP checksum is not in this fragment.
func (s *segment) rewriteSource(packet []byte, to netip.AddrPort) bool {
	s.src, s.sport = to.Addr(), to.Port()
	return s.rewrite(packet, srcAddrAt, srcPortAt, to)
}

// rewriteDest gives an IPv4 packet another destination.
func (s *segment) rewriteDest(packet []byte, to netip.AddrPort) bool {
	s.dst, s.dport = to.Addr(), to.Port()
	return s.rewrite(packet, dstAddrAt, dstPortAt, to)
}

func (s *segment) rewrite(packet []byte, addrAt, portAt int, to netip.AddrPort) bool {
	transport := packet[s.at:]
	if s.kind == kindTCP && len(transport) < 18 {
		return false
	}
	s.rewriteHeaders(packet, addrAt, portAt, to)
	return true
}

// rewriteHeaders writes an address and a port, and mends the checksums of
// both headers as far as they are there.
func (s *segment) rewriteHeaders(packet []byte, addrAt, portAt int, to netip.AddrPort) {
	transport := packet[s.at:]
	sum := rewriteAddr(packet, addrAt, to.Addr())
	if s.proto == protoICMP {
		sum, portAt = 0, 4 // its checksum covers no addresses (RFC 792); the identifier
	}
	sum.put(transport[portAt:], to.Port())
	sum.mendTransport(s.proto, transport)
}

// rewriteAddr writes an IPv4 address and mends the header checksum. It
// returns the change, for the pseudo-header of the transport's checksum.
func rewriteAddr(packet []byte, addrAt int, addr netip.Addr) onesSum {
	var sum onesSum
	sum.putAddr(packet[addrAt:], addr.As4())
	sum.mend(packet[10:])
	return sum
}

// quoted reads the start of the packet that an ICMP error is about.
func quoted(packet []byte, seg *segment) (segment, bool) {
	quote := packet[seg.at+8:]
	h, ok := parseHeader(quote, true)
	if !ok {
		return segment{}, false
	}
	q, ok := parseSegment(quote, h)
	return q, ok && (!q.fragment || q.first)
}

// quotedValid is quoted for IPv4, where the error's checksum must hold before
// a NAT makes it right again (RFC 5508 REQ-3).
func quotedValid(packet []byte, seg *segment) (segment, bool) {
	if seg.fragment || sumWords(packet[seg.at:]).fold() != 0xffff {
		return segment{}, false
	}
	q, ok := quoted(packet, seg)
	return q, ok && !q.v6
}

// errorIn translates an ICMP error from the outside about a packet that went
// out through this NAT: the quoted source and the destination become the
// inside host (RFC 5508 REQ-4). No timer is touched (REQ-6).
func (b *box) errorIn(t instant, packet []byte, seg *segment) bool {
	q, ok := quotedValid(packet, seg)
	if !ok || q.src != b.nat.Public {
		return false
	}
	remote := q.dest()
	switch q.kind {
	case kindTCP, kindUDP:
	case kindEchoRequest:
		remote = netip.AddrPortFrom(q.dst, 0)
	default:
		return false
	}
	m := b.byPort[portKey{q.proto, q.sport}]
	if m == nil || !b.permits(t, m, remote) {
		return false
	}
	q.rewriteQuote(packet, seg, srcAddrAt, srcPortAt, m.key.inside)
	seg.dst = m.key.inside.Addr()
	rewriteAddr(packet, dstAddrAt, seg.dst)
	return true
}

// errorOut translates an ICMP error from the inside about a packet that came
// in through this NAT: the quoted destination and the source become the
// public address (RFC 5508 REQ-5).
func (b *box) errorOut(t instant, packet []byte, seg *segment) bool {
	q, ok := quotedValid(packet, seg)
	if !ok {
		return false
	}
	remote := q.source()
	switch q.kind {
	case kindTCP, kindUDP:
	case kindEchoReply:
		remote = netip.AddrPortFrom(q.src, 0)
	default:
		return false
	}
	m := b.find(t, q.proto, q.dest(), remote)
	if m == nil {
		return false
	}
	public := netip.AddrPortFrom(b.nat.Public, m.port)
	q.rewriteQuote(packet, seg, dstAddrAt, dstPortAt, public)
	seg.src = b.nat.Public
	rewriteAddr(packet, srcAddrAt, seg.src)
	return true
}

// rewriteQuote rewrites an end of the packet quoted in the ICMP error seg, and
// mends the error's checksum, which covers the quote.
func (s *segment) rewriteQuote(packet []byte, seg *segment, addrAt, portAt int, to netip.AddrPort) {
	quote := packet[seg.at+8:]
	changing := quote[:min(len(quote)&^1, s.at+20)] // up to the TCP checksum
	before := sumWords(changing).fold()
	s.rewriteHeaders(quote, addrAt, portAt, to)
	var sum onesSum
	sum.replace(before, sumWords(changing).fold())
	sum.mend(packet[seg.at+2:])
}
