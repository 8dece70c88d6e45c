package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Encoder makes one packet after the other. What it is given must be what Decode could
// have returned; a TLV that no packet can hold is a bug of the caller, and panics.
type Encoder struct {
	buf   []byte // the header and the body
	size  int    // that buf may have
	state encoderState
}

// encoderState is what the receiver's parser will hold (RFC 8966 §4.5).
type encoderState struct {
	routerID           RouterID   // not valid: none
	nextHop4, nextHop6 netip.Addr // not valid: none, and the packet's source

	// The default prefixes: of encoding 1 or 4, whichever was last, and of encoding 2. The
	// octets that they have can be left out.
	prefix4, prefix6 defaultPrefix
}

type defaultPrefix struct {
	ae, n  byte // n: how many octets
	octets [16]byte
}

// NewEncoder returns an encoder of packets of at most size bytes, which is a datagram's
// payload.
func NewEncoder(size int) *Encoder {
	size = min(size, headerLen+maxBody)
	// Room for one TLV more: it is written first and then seen not to fit.
	e := &Encoder{size: size, buf: make([]byte, 0, max(size, 0)+512)}
	e.Reset()
	return e
}

// Reset begins a new packet.
func (e *Encoder) Reset() {
	e.buf = append(e.buf[:0], Magic, Version, 0, 0)
	e.state = encoderState{}
}

// Len returns the length of the packet so far in bytes, with its header.
func (e *Encoder) Len() int { return len(e.buf) }

// Empty reports whether nothing was added since the last Reset.
func (e *Encoder) Empty() bool { return len(e.buf) == headerLen }

// Bytes returns the packet, nil if it is empty. It is the encoder's: Add and Reset change
// it.
func (e *Encoder) Bytes() []byte {
	if e.Empty() {
		return nil
	}
	binary.BigEndian.PutUint16(e.buf[2:], uint16(len(e.buf)-headerLen))
	return e.buf
}

// Add writes a TLV, and those that an update needs before it. It returns false, and the
// packet is as it was, if they do not fit: send the packet, Reset, and add it again. An
// empty packet takes every TLV that its size is enough for.
//
// An update whose NextHop is not valid is via the packet's source. It does not fit behind
// one that is via another IPv6 address, for a packet cannot name its source by itself. An
// IPv4 prefix whose next hop is not IPv4 gets encoding 4 (RFC 9229). The RouterID of a
// retraction is not written, since nobody needs it.
func (e *Encoder) Add(t TLV) bool {
	start, state := len(e.buf), e.state
	ok := true
	switch v := t.(type) {
	case AckRequest:
		must(v.Interval != 0, t)
		e.head(typeAckRequest, ackRequestLen)
		e.put16(0, v.Opaque, uint16(v.Interval))
	case Ack:
		e.head(typeAck, ackLen)
		e.put16(v.Opaque)
	case Hello:
		e.hello(v)
	case IHU:
		e.ihu(v, t)
	case Update:
		ok = e.update(v, t)
	case *Update: // so that who writes many does not copy each to the heap
		ok = e.update(*v, t)
	case RouteRequest:
		e.routeRequest(v, t)
	case SeqnoRequest:
		e.seqnoRequest(v, t)
	case PacketCounter:
		must(len(v.Index) <= MaxIndex, t)
		e.head(TypePacketCounter, counterLen+len(v.Index))
		e.put32(v.Counter)
		e.buf = append(e.buf, v.Index...)
	case ChallengeRequest:
		must(len(v.Nonce) <= MaxNonce, t)
		e.head(TypeChallengeRequest, len(v.Nonce))
		e.buf = append(e.buf, v.Nonce...)
	case ChallengeReply:
		must(len(v.Nonce) <= MaxNonce, t)
		e.head(TypeChallengeReply, len(v.Nonce))
		e.buf = append(e.buf, v.Nonce...)
	default:
		must(false, t)
	}
	if !ok || len(e.buf) > e.size {
		e.buf, e.state = e.buf[:start], state
		return false
	}
	return true
}

// must panics with a TLV that no packet can hold. It is given the TLV as Add was, so that a
// good one is not copied for it.
func must(ok bool, t TLV) {
	if !ok {
		panic(fmt.Sprintf("wire: cannot be encoded: %#v", t))
	}
}

func (e *Encoder) head(kind byte, n int) { e.buf = append(e.buf, kind, byte(n)) }

func (e *Encoder) put16(vs ...uint16) {
	for _, v := range vs {
		e.buf = binary.BigEndian.AppendUint16(e.buf, v)
	}
}

func (e *Encoder) put32(v uint32) { e.buf = binary.BigEndian.AppendUint32(e.buf, v) }

func (e *Encoder) hello(h Hello) {
	n, flags := helloLen, uint16(0)
	if h.Unicast {
		flags = flagUnicast
	}
	if h.Stamped {
		n += 2 + 4
	}
	e.head(typeHello, n)
	e.put16(flags, h.Seqno, uint16(h.Interval))
	if h.Stamped {
		e.head(subTimestamp, 4)
		e.put32(h.Timestamp)
	}
}

func (e *Encoder) ihu(h IHU, t TLV) {
	must(h.Interval != 0, t)
	n, ae := ihuLen, byte(aeWildcard)
	if h.Address.IsValid() {
		must(host(h.Address), t)
		var size int
		ae, size = addressEncoding(h.Address)
		n += size
	}
	if h.Stamped {
		n += 2 + 8
	}
	e.head(typeIHU, n)
	e.buf = append(e.buf, ae, 0)
	e.put16(h.RxCost, uint16(h.Interval))
	e.address(ae, h.Address)
	if h.Stamped {
		e.head(subTimestamp, 8)
		e.put32(h.Origin)
		e.put32(h.Receive)
	}
}

// addressEncoding returns how a neighbour's address is written, and in how many bytes.
func addressEncoding(a netip.Addr) (ae byte, size int) {
	switch {
	case a.Is4():
		return aeIPv4, 4
	case inLinkLocal64(a.As16()):
		return aeLinkLocal, 8
	}
	return aeIPv6, 16
}

func (e *Encoder) address(ae byte, a netip.Addr) {
	a16 := a.As16()
	switch ae {
	case aeIPv4:
		e.buf = append(e.buf, a16[12:]...)
	case aeIPv6:
		e.buf = append(e.buf, a16[:]...)
	case aeLinkLocal:
		e.buf = append(e.buf, a16[8:]...)
	}
}

func (e *Encoder) routeRequest(r RouteRequest, t TLV) {
	ae, n := prefixEncoding(r.Prefix, r.Source, t)
	e.head(typeRouteRequest, routeRequestLen+n+sourceLen(r.Source))
	e.buf = append(e.buf, ae, byte(max(r.Prefix.Bits(), 0)))
	e.prefix(r.Prefix, 0)
	e.source(r.Source)
}

func (e *Encoder) seqnoRequest(r SeqnoRequest, t TLV) {
	must(r.Prefix.IsValid() && r.HopCount != 0 && r.RouterID.Valid(), t)
	ae, n := prefixEncoding(r.Prefix, r.Source, t)
	e.head(typeSeqnoRequest, seqnoRequestLen+n+sourceLen(r.Source))
	e.buf = append(e.buf, ae, byte(r.Prefix.Bits()))
	e.put16(r.Seqno)
	e.buf = append(e.buf, r.HopCount, 0)
	e.buf = append(e.buf, r.RouterID[:]...)
	e.prefix(r.Prefix, 0)
	e.source(r.Source)
}

// prefixEncoding returns a prefix's encoding, apart from RFC 9229's, and how many bytes it
// has. It panics for a t that has a wrong prefix or source.
func prefixEncoding(p, source netip.Prefix, t TLV) (ae byte, n int) {
	if !p.IsValid() {
		must(!source.IsValid(), t)
		return aeWildcard, 0
	}
	must(!p.Addr().Is4In6(), t)
	if source.IsValid() {
		must(source.Addr().Is4() == p.Addr().Is4() && source.Bits() > 0 && !source.Addr().Is4In6(), t)
	}
	if p.Addr().Is4() {
		return aeIPv4, octets(p.Bits())
	}
	return aeIPv6, octets(p.Bits())
}

// prefix writes the octets of a prefix but the first omitted ones.
func (e *Encoder) prefix(p netip.Prefix, omitted int) {
	if !p.IsValid() {
		return
	}
	a, _ := prefixOctets(p)
	e.buf = append(e.buf, a[omitted:octets(p.Bits())]...)
}

// prefixOctets returns the octets of a prefix, from the first, and how many they are. What
// is beyond its length is zero.
func prefixOctets(p netip.Prefix) (a [16]byte, n int) {
	a16 := p.Addr().As16()
	if p.Addr().Is4() {
		copy(a[:], a16[12:])
	} else {
		a = a16
	}
	mask(a[:], p.Bits())
	return a, octets(p.Bits())
}

// sourceLen returns how many bytes a source prefix needs, its header included.
func sourceLen(p netip.Prefix) int {
	if !p.IsValid() {
		return 0
	}
	return 2 + 1 + octets(p.Bits())
}

func (e *Encoder) source(p netip.Prefix) {
	if p.IsValid() {
		e.head(subSource, 1+octets(p.Bits()))
		e.buf = append(e.buf, byte(p.Bits()))
		e.prefix(p, 0)
	}
}
