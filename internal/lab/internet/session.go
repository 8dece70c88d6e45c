package internet

import (
	"net/netip"
	"time"
)

// TCP flags (RFC 9293 §3.1).
const (
	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpRST = 0x04
)

// session is one remote that an inside endpoint talks to.
type session struct {
	expires instant
	// TCP only.
	answered    bool // something came in
	established bool
	finOut      bool
	finIn       bool
	reset       bool
}

// leave notes a packet that goes out, which is what keeps a session alive.
func (s *session) leave(t instant, seg *segment, nat *NAT) {
	if seg.kind == kindTCP {
		switch {
		case seg.flags&tcpRST != 0:
			s.reset = true
		case seg.flags&tcpSYN != 0:
			*s = session{} // a new connection, or its other half
		case s.answered:
			s.established = true
		}
		if seg.flags&tcpFIN != 0 {
			s.finOut = true
		}
	}
	s.expires = t + instant(s.timeout(seg.kind, nat))
}

// enter notes a packet that comes in. It returns true when that brings the
// session's end nearer.
func (s *session) enter(t instant, seg *segment, nat *NAT) bool {
	if seg.kind != kindTCP {
		return false
	}
	s.answered = true
	if seg.flags&tcpFIN != 0 {
		s.finIn = true
	}
	if seg.flags&tcpRST != 0 {
		s.reset = true
	}
	if end := t + instant(nat.TCPTransitory); s.closed() && end < s.expires {
		s.expires = end
		return true
	}
	return false
}

func (s *session) closed() bool { return s.reset || s.finOut && s.finIn }

func (s *session) timeout(k kind, nat *NAT) time.Duration {
	switch {
	case k == kindTCP && s.established && !s.closed():
		return nat.TCPTimeout
	case k == kindTCP:
		return nat.TCPTransitory
	case k == kindEchoRequest:
		return nat.ICMPTimeout
	}
	return nat.UDPTimeout
}

// flowKey is an IPv6 session behind a NAT's place.
type flowKey struct {
	proto          uint8
	inside, remote netip.AddrPort
}

// leave6 notes an IPv6 packet that goes out. False drops it.
func (b *box) leave6(t instant, seg *segment) bool {
	switch seg.kind {
	case kindICMPError, kindEchoReply:
		return true // an answer; it opens nothing
	case kindICMPOther:
		return false // neighbour discovery and the like stay on their link
	}
	key := flowKey{seg.proto, seg.source(), seg.dest()}
	s := b.flows6[key]
	if s == nil || s.expires <= t {
		s = new(session)
		b.flows6[key] = s
	}
	s.leave(t, seg, &b.nat)
	return true
}

// enter6 lets an IPv6 packet in that answers what went out, or an error about
// it (RFC 4890 §4.3.1). This is the stateful filter of a home router, not
// the endpoint-independent one that RFC 6092 would rather have.
func (b *box) enter6(t instant, packet []byte, seg *segment) bool {
	switch seg.kind {
	case kindICMPError:
		q, ok := quoted(packet, seg)
		if !ok || !q.v6 {
			return false
		}
		s := b.flows6[flowKey{q.proto, q.source(), q.dest()}]
		return s != nil && s.expires > t
	case kindEchoRequest, kindICMPOther:
		return false
	}
	s := b.flows6[flowKey{seg.proto, seg.dest(), seg.source()}]
	if s == nil || s.expires <= t {
		return false
	}
	s.enter(t, seg, &b.nat)
	return true
}
