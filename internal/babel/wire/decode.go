package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
)

// Decode reads a datagram that came from the address from, which is the next hop of
// updates that name no other. What it returns shares no memory with b.
//
// An error is a datagram of which nothing is to be believed: too short, of another magic or
// version, or with a body that is said to be longer than the datagram (RFC 8966 §4.2).
func Decode(b []byte, from netip.Addr) (Packet, error) {
	body, trailer, err := Split(b)
	if err != nil {
		return Packet{}, err
	}
	d := decoder{}
	if n := count(body); n > 0 {
		d.out.TLVs = make([]TLV, 0, n)
	}
	if from = from.WithZone(""); from.Is4() {
		d.nextHop4 = from
	} else {
		d.nextHop6 = from
	}
	d.body(body)
	if len(trailer) > 0 {
		d.out.Trailer = slices.Clone(trailer)
	}
	return d.out, nil
}

// Split checks the header and returns what follows it: the body, and the trailer, which may
// be empty. Both are parts of b. The errors are those of Decode.
func Split(b []byte) (body, trailer []byte, err error) {
	switch {
	case len(b) < headerLen:
		return nil, nil, fmt.Errorf("babel packet of %d bytes: shorter than its header", len(b))
	case b[0] != Magic:
		return nil, nil, fmt.Errorf("babel packet: magic number %d, not %d", b[0], Magic)
	case b[1] != Version:
		return nil, nil, fmt.Errorf("babel packet: version %d, not %d", b[1], Version)
	}
	n := headerLen + int(binary.BigEndian.Uint16(b[2:]))
	if n > len(b) {
		return nil, nil, fmt.Errorf("babel packet of %d bytes: its header says %d", len(b), n)
	}
	return b[headerLen:n], b[n:], nil
}

// count returns how many TLVs of a body may end up in a Packet.
func count(body []byte) int {
	n := 0
	for len(body) >= 2 {
		if body[0] == typePad1 {
			body = body[1:]
			continue
		}
		switch body[0] {
		case typePadN, typeRouterID, typeNextHop:
		default:
			if body[0] <= typeSeqnoRequest || body[0] >= TypePacketCounter && body[0] <= TypeChallengeReply {
				n++
			}
		}
		body = body[min(2+int(body[1]), len(body)):]
	}
	return n
}

// Values goes through the TLVs of a body or trailer: their types and values, which are parts
// of b. Padding is left out. It ends where the next TLV would be longer than b.
func Values(b []byte) iter.Seq2[byte, []byte] {
	return func(yield func(byte, []byte) bool) {
		for len(b) > 0 {
			if b[0] == typePad1 {
				b = b[1:]
				continue
			}
			if len(b) < 2 || len(b) < 2+int(b[1]) {
				return
			}
			kind, n := b[0], 2+int(b[1])
			if kind != typePadN && !yield(kind, b[2:n:n]) {
				return
			}
			b = b[n:]
		}
	}
}

// Why a TLV is left out.
var (
	errUnknown   = errors.New("unknown")
	errMalformed = errors.New("malformed")
)

// decoder is the parser's state (RFC 8966 §4.5). It ends with the packet.
//
// A TLV that should have changed it and cannot be read leaves it empty, and not as it was:
// a route with another's router-id, next hop or prefix is worse than none.
type decoder struct {
	routerID           RouterID   // not valid: none
	nextHop4, nextHop6 netip.Addr // not valid: none

	// Each address encoding has a default prefix of its own, 4 as well (RFC 9229 §2.4).
	prefixes [aeIPv4Via + 1]struct {
		octets [16]byte
		set    bool
	}

	out Packet
}

// body goes through the TLVs.
func (d *decoder) body(b []byte) {
	for len(b) > 0 {
		if b[0] == typePad1 {
			b = b[1:]
			continue
		}
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			d.out.Malformed++ // and where the next one would begin is not known
			return
		}
		n := 2 + int(b[1])
		switch tlv, err := d.tlv(b[0], b[2:n]); {
		case errors.Is(err, errUnknown):
			d.out.Unknown++
		case err != nil:
			d.out.Malformed++
		case tlv != nil:
			d.out.TLVs = append(d.out.TLVs, tlv)
		}
		b = b[n:]
	}
}

// tlv reads the value of a TLV; nil for one that only changes the parser's state.
func (d *decoder) tlv(kind byte, v []byte) (TLV, error) {
	switch kind {
	case typePadN:
		return nil, nil
	case typeAckRequest:
		return ackRequest(v)
	case typeAck:
		return ack(v)
	case typeHello:
		return hello(v)
	case typeIHU:
		return ihu(v)
	case typeRouterID:
		return nil, d.setRouterID(v)
	case typeNextHop:
		return nil, d.setNextHop(v)
	case typeUpdate:
		return d.update(v)
	case typeRouteRequest:
		return routeRequest(v)
	case typeSeqnoRequest:
		return seqnoRequest(v)
	case TypePacketCounter:
		return packetCounter(v)
	case TypeChallengeRequest:
		if len(v) > MaxNonce {
			return nil, errMalformed
		}
		return ChallengeRequest{Nonce: slices.Clone(v)}, nil
	case TypeChallengeReply:
		if len(v) > MaxNonce {
			return nil, errMalformed
		}
		return ChallengeReply{Nonce: slices.Clone(v)}, nil
	}
	return nil, errUnknown
}

func u16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func u32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

func ackRequest(v []byte) (TLV, error) {
	if len(v) < ackRequestLen {
		return nil, errMalformed
	}
	if err := noSubs(v[ackRequestLen:]); err != nil {
		return nil, err
	}
	r := AckRequest{Opaque: u16(v[2:]), Interval: Interval(u16(v[4:]))}
	if r.Interval == 0 { // RFC 8966 §4.6.3
		return nil, errMalformed
	}
	return r, nil
}

func ack(v []byte) (TLV, error) {
	if len(v) < ackLen {
		return nil, errMalformed
	}
	if err := noSubs(v[ackLen:]); err != nil {
		return nil, err
	}
	return Ack{Opaque: u16(v)}, nil
}

func hello(v []byte) (TLV, error) {
	if len(v) < helloLen {
		return nil, errMalformed
	}
	s, err := subs(v[helloLen:], 4, aeWildcard)
	if err != nil {
		return nil, err
	}
	h := Hello{Unicast: u16(v)&flagUnicast != 0, Seqno: u16(v[2:]), Interval: Interval(u16(v[4:]))}
	if s.stamp != nil {
		h.Stamped, h.Timestamp = true, u32(s.stamp)
	}
	return h, nil
}

func ihu(v []byte) (TLV, error) {
	if len(v) < ihuLen {
		return nil, errMalformed
	}
	h := IHU{RxCost: u16(v[2:]), Interval: Interval(u16(v[4:]))}
	n := 0
	if v[0] != aeWildcard {
		var err error
		if h.Address, n, err = address(v[0], v[ihuLen:]); err != nil {
			return nil, err
		}
	}
	s, err := subs(v[ihuLen+n:], 8, aeWildcard)
	if err != nil {
		return nil, err
	}
	if h.Interval == 0 { // RFC 8966 §4.6.6
		return nil, errMalformed
	}
	if s.stamp != nil {
		h.Stamped, h.Origin, h.Receive = true, u32(s.stamp), u32(s.stamp[4:])
	}
	return h, nil
}

// setRouterID is done also for a TLV that an unknown mandatory sub-TLV makes unknown
// (RFC 8966 §4.6.7).
func (d *decoder) setRouterID(v []byte) error {
	d.routerID = RouterID{}
	if len(v) < routerIDLen || !RouterID(v[2:routerIDLen]).Valid() {
		return errMalformed
	}
	d.routerID = RouterID(v[2:routerIDLen])
	return noSubs(v[routerIDLen:])
}

// setNextHop is done also for a TLV that is unknown in the same way (RFC 8966 §4.6.8).
func (d *decoder) setNextHop(v []byte) error {
	if len(v) < nextHopLen {
		d.nextHop4, d.nextHop6 = netip.Addr{}, netip.Addr{}
		return errMalformed
	}
	to := &d.nextHop6
	switch v[0] {
	case aeIPv4:
		to = &d.nextHop4
	case aeWildcard, aeIPv4Via: // RFC 8966 §4.6.8, RFC 9229 §4.2
		return errMalformed
	}
	a, n, err := address(v[0], v[nextHopLen:])
	if errors.Is(err, errUnknown) {
		return err
	}
	*to = a
	if err != nil {
		return err
	}
	return noSubs(v[nextHopLen+n:])
}

func routeRequest(v []byte) (TLV, error) {
	if len(v) < routeRequestLen {
		return nil, errMalformed
	}
	p, n, err := requested(v[0], v[1], v[routeRequestLen:])
	if err != nil {
		return nil, err
	}
	s, err := subs(v[routeRequestLen+n:], 0, v[0])
	if err != nil {
		return nil, err
	}
	return RouteRequest{Prefix: p, Source: s.source}, nil
}

func seqnoRequest(v []byte) (TLV, error) {
	if len(v) < seqnoRequestLen {
		return nil, errMalformed
	}
	p, n, err := requested(v[0], v[1], v[seqnoRequestLen:])
	if err != nil {
		return nil, err
	}
	s, err := subs(v[seqnoRequestLen+n:], 0, v[0])
	if err != nil {
		return nil, err
	}
	r := SeqnoRequest{
		Prefix: p, Source: s.source,
		Seqno: u16(v[2:]), HopCount: v[4], RouterID: RouterID(v[6:seqnoRequestLen]),
	}
	// There is no request for a newer number of everything, and none that nobody may
	// answer (RFC 8966 §4.6.11).
	if !p.IsValid() || r.HopCount == 0 || !r.RouterID.Valid() {
		return nil, errMalformed
	}
	return r, nil
}

// requested reads the prefix of a request, which is never compressed. Encodings 1 and 4
// ask for the same (RFC 9229 §2.3).
func requested(ae, plen byte, b []byte) (netip.Prefix, int, error) {
	if ae == aeWildcard {
		if plen != 0 {
			return netip.Prefix{}, 0, errMalformed
		}
		return netip.Prefix{}, 0, nil
	}
	p, n, err := plain(ae, plen, b)
	if err == nil && p.Addr().Is4In6() {
		err = errMalformed
	}
	return p, n, err
}

func packetCounter(v []byte) (TLV, error) {
	if len(v) < counterLen || len(v) > counterLen+MaxIndex {
		return nil, errMalformed
	}
	return PacketCounter{Counter: u32(v), Index: slices.Clone(v[counterLen:])}, nil
}
