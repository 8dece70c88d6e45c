package wire

import "net/netip"

// Types of the TLVs of authentication (RFC 8967 §6). A MAC is only in the trailer.
const (
	TypeMAC              = 16
	TypePacketCounter    = 17
	TypeChallengeRequest = 18
	TypeChallengeReply   = 19
)

// Types of TLVs (RFC 8966 §4.6).
const (
	typePad1         = 0
	typePadN         = 1
	typeAckRequest   = 2
	typeAck          = 3
	typeHello        = 4
	typeIHU          = 5
	typeRouterID     = 6
	typeNextHop      = 7
	typeUpdate       = 8
	typeRouteRequest = 9
	typeSeqnoRequest = 10
)

// Types of sub-TLVs. One that is not known and has the mandatory bit makes the TLV around
// it unknown too (RFC 8966 §4.4).
const (
	subPad1      = 0
	subPadN      = 1
	subTimestamp = 3   // RFC 9616 §3.1
	subSilent    = 112 // our own, of those for experiments (RFC 8966 §5); 1 byte
	subMobility  = 113 // our own too: the number, and who had it before; 4 bytes each
	subSource    = 128 // RFC 9079 §5
	subMandatory = 0x80
)

// Address encodings (RFC 8966 §4.1.4, RFC 9229 §2).
const (
	aeWildcard  = 0
	aeIPv4      = 1
	aeIPv6      = 2
	aeLinkLocal = 3 // the lower half of an address in fe80::/64
	aeIPv4Via   = 4 // an IPv4 prefix with an IPv6 next hop; never an address
)

// Flags.
const (
	flagUnicast  = 0x8000 // Hello (RFC 8966 §4.6.5)
	flagPrefix   = 0x80   // Update: later prefixes may leave out octets that are as in this one
	flagRouterID = 0x40   // Update: the router-id is in the prefix (RFC 8966 §4.6.9)
)

// Lengths of the fixed parts of values, in bytes.
const (
	headerLen       = 4
	ackRequestLen   = 6
	ackLen          = 2
	helloLen        = 6
	ihuLen          = 6
	routerIDLen     = 10
	nextHopLen      = 2
	updateLen       = 10
	routeRequestLen = 2
	seqnoRequestLen = 14
	counterLen      = 4
	silentLen       = 1 // of the sub-TLVs
	mobilityLen     = 8

	maxBody = 0xffff
)

// Limits (RFC 8967 §6.2–6.4), in bytes.
const (
	MaxIndex = 32
	MaxNonce = 192
)

// octets returns how many bytes hold a prefix of so many bits.
func octets(bits int) int { return (bits + 7) / 8 }

// mask clears what lies beyond the first bits of a.
func mask(a []byte, bits int) {
	n := octets(bits)
	if bits%8 != 0 {
		a[n-1] &= 0xff << (8 - bits%8)
	}
	clear(a[n:])
}

// inLinkLocal64 reports whether an address can be written in eight bytes.
func inLinkLocal64(a [16]byte) bool {
	return [8]byte(a[:8]) == [8]byte{0xfe, 0x80}
}

// host reports whether an address can be that of a neighbour.
func host(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() &&
		!a.Is4In6() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
