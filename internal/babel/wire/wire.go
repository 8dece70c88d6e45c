// Package wire is the encoding of Babel packets: RFC 8966 §4, with timestamps (RFC 9616),
// source-specific routes (RFC 9079), IPv4 routes via an IPv6 next hop (RFC 9229) and what
// MAC authentication adds (RFC 8967).
//
// It holds no state beyond one packet. Decode undoes everything by which a packet is
// shorter than what it says (prefix compression, router-ids and next hops that stand in
// TLVs of their own), so that each TLV it returns is whole; an Encoder does it again.
//
// Decode is given whatever a socket received. It never panics, and its work and memory are
// bounded by the length of the packet. What RFC 8966 wants ignored is left out and counted.
package wire

import (
	"encoding/hex"
	"net/netip"
	"time"
)

// The protocol's numbers (RFC 8966 §4.2, §5).
const (
	Magic   = 42
	Version = 2
	Port    = 6696 // UDP, source and destination

	// Infinity is the metric of a retraction and the rxcost of a neighbour that is not
	// heard.
	Infinity = 0xffff
)

// Group is the multicast group of Babel routers on a link.
var Group = netip.MustParseAddr("ff02::1:6")

// RouterID identifies the origin of a route (RFC 8966 §4.1.3). All zeros and all ones are
// no router-id.
type RouterID [8]byte

// Valid reports whether the router-id may stand in a packet.
func (r RouterID) Valid() bool {
	return r != RouterID{} && r != RouterID{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
}

// String returns the router-id as babeld prints it: 01:23:45:67:89:ab:cd:ef.
func (r RouterID) String() string {
	b, _ := r.MarshalText() // it has no errors
	return string(b)
}

// MarshalText returns the form of String. The error is always nil.
func (r RouterID) MarshalText() ([]byte, error) {
	b := make([]byte, 0, 23)
	for i, octet := range r {
		if i > 0 {
			b = append(b, ':')
		}
		b = hex.AppendEncode(b, []byte{octet})
	}
	return b, nil
}

// Interval is a time in hundredths of a second, as it stands in a packet.
type Interval uint16

// Duration returns the interval as a time.
func (i Interval) Duration() time.Duration { return time.Duration(i) * 10 * time.Millisecond }

// IntervalOf returns a time as an interval: rounded up, and never beyond what fits.
func IntervalOf(d time.Duration) Interval {
	cs := (d + 10*time.Millisecond - 1) / (10 * time.Millisecond)
	return Interval(min(max(cs, 0), 0xffff))
}

// TLV is one of the TLVs below, as a value.
type TLV interface{ isTLV() }

// AckRequest asks for an Ack within Interval (RFC 8966 §4.6.3).
type AckRequest struct {
	Opaque   uint16
	Interval Interval
}

// Ack answers an AckRequest (§4.6.4).
type Ack struct{ Opaque uint16 }

// Hello says that the sender is there (§4.6.5). A unicast hello has a sequence number of
// its own. Interval 0 is an unscheduled hello, which says nothing about the next.
type Hello struct {
	Unicast  bool
	Seqno    uint16
	Interval Interval

	// Timestamp is when it was sent, in microseconds of the sender's clock (RFC 9616
	// §3.1); only if Stamped.
	Stamped   bool
	Timestamp uint32
}

// IHU says how well the sender hears a neighbour (§4.6.6).
type IHU struct {
	RxCost   uint16
	Interval Interval

	// Address is the neighbour that is meant; the zero value is address encoding 0,
	// which is the one that the packet is sent to.
	Address netip.Addr

	// Origin repeats the timestamp of the last hello that was received, Receive is when
	// that was by the sender's clock, both in microseconds (RFC 9616 §3.1); only if
	// Stamped.
	Stamped         bool
	Origin, Receive uint32
}

// Update announces or retracts a route (§4.6.9), whole: router-id and next hop are those
// that hold at its place in the packet.
type Update struct {
	Prefix netip.Prefix // masked; not valid: a wildcard retraction of all routes (encoding 0)
	Source netip.Prefix // RFC 9079; not valid: any source. Of Prefix's family.

	// NextHop is the neighbour's address: the packet's source where nothing else was
	// said. For an IPv4 prefix in encoding 4 (RFC 9229) it is IPv6.
	NextHop netip.Addr

	RouterID RouterID // only a retraction may be without
	Interval Interval
	Seqno    uint16
	Metric   uint16 // Infinity is a retraction

	// Mobility is how often a host that roams has moved, at this announcement: of several
	// origins the one with the highest number has it (as in EVPN, RFC 7432 §15). 0 is none.
	// Before is the upper half of the router-id of who had it until then; 0: nobody whom the
	// origin knew. They are our own extension, which others ignore, and not a retraction's.
	Mobility, Before uint32

	// Silent, if not 0, says of a retraction with a prefix that nobody has retracted the
	// route, but that so many hops away the next router on it was not heard any more. It is
	// our own extension, which others ignore; see package babel.
	Silent uint8
}

// RouteRequest asks for an update (§4.6.10).
type RouteRequest struct {
	Prefix netip.Prefix // not valid: for all routes
	Source netip.Prefix
}

// SeqnoRequest asks for a route with a newer sequence number (§4.6.11).
type SeqnoRequest struct {
	Prefix, Source netip.Prefix
	Seqno          uint16
	HopCount       uint8 // never 0
	RouterID       RouterID
}

// PacketCounter makes a packet one of a kind (RFC 8967 §6.2). It and the challenges are
// for package mac; a speaker ignores them.
type PacketCounter struct {
	Counter uint32
	Index   []byte // at most MaxIndex bytes
}

// ChallengeRequest asks for a ChallengeReply with its nonce (RFC 8967 §6.3).
type ChallengeRequest struct{ Nonce []byte } // at most MaxNonce bytes

// ChallengeReply repeats the nonce of a ChallengeRequest (RFC 8967 §6.4).
type ChallengeReply struct{ Nonce []byte }

func (AckRequest) isTLV()       {}
func (Ack) isTLV()              {}
func (Hello) isTLV()            {}
func (IHU) isTLV()              {}
func (Update) isTLV()           {}
func (RouteRequest) isTLV()     {}
func (SeqnoRequest) isTLV()     {}
func (PacketCounter) isTLV()    {}
func (ChallengeRequest) isTLV() {}
func (ChallengeReply) isTLV()   {}

// Packet is what one datagram says.
type Packet struct {
	TLVs []TLV

	// Trailer is what follows the body (RFC 8966 §4.2), raw: the MACs.
	Trailer []byte

	// Unknown counts TLVs of a type or address encoding that this package does not know,
	// and those left out for a mandatory sub-TLV it does not know. Malformed counts TLVs
	// that break a rule of the RFC.
	Unknown, Malformed int
}
