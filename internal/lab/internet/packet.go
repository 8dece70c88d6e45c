package internet

import (
	"encoding/binary"
	"net/netip"
)

// IP protocol numbers (IANA).
const (
	protoHopByHop = 0
	protoICMP     = 1
	protoTCP      = 6
	protoUDP      = 17
	protoRouting  = 43
	protoFragment = 44
	protoAH       = 51
	protoICMPv6   = 58
	protoDestOpts = 60
)

// header is what routing needs of an IP header.
type header struct {
	v6       bool
	src, dst netip.Addr
	length   int // of the packet, headers included
}

// local says whether the packet is for its link only.
func (h *header) local() bool {
	return h.dst.IsMulticast() || h.v6 && (h.src.IsLinkLocalUnicast() || h.dst.IsLinkLocalUnicast())
}

// parseHeader reads an IPv4 or IPv6 header. It returns false when the header
// is cut short or contradicts itself, or when the packet has fewer bytes than
// the header says, unless it is truncated, as those quoted in ICMP errors are.
func parseHeader(p []byte, truncated bool) (header, bool) {
	var h header
	if len(p) < 20 {
		return h, false
	}
	switch p[0] >> 4 {
	case 4:
		ihl := int(p[0]&15) * 4
		h.src = netip.AddrFrom4([4]byte(p[12:16]))
		h.dst = netip.AddrFrom4([4]byte(p[16:20]))
		h.length = int(binary.BigEndian.Uint16(p[2:]))
		if ihl < 20 || h.length < ihl || len(p) < ihl {
			return h, false
		}
	case 6:
		if len(p) < 40 {
			return h, false
		}
		h.v6 = true
		h.src = netip.AddrFrom16([16]byte(p[8:24]))
		h.dst = netip.AddrFrom16([16]byte(p[24:40]))
		h.length = 40 + int(binary.BigEndian.Uint16(p[4:]))
	default:
		return h, false
	}
	if h.length > len(p) {
		if !truncated {
			return h, false
		}
		h.length = len(p)
	}
	return h, true
}

// kind is what a NAT sees in a packet.
type kind uint8

const (
	kindOther kind = iota
	kindTCP
	kindUDP
	kindEchoRequest
	kindEchoReply
	kindICMPError
	kindICMPOther
)

// segment is what a NAT needs of a packet.
type segment struct {
	header
	kind  kind
	proto uint8
	at    int // where the transport header begins
	// sport and dport are the ports; an echo's identifier stands for both,
	// because which of them it is depends on who asks.
	sport, dport uint16
	flags        uint8 // TCP's

	fragment   bool // a part of a packet
	first      bool // the part with the transport header
	fragmentID uint32
}

// source and dest are the packet's ends.
func (s *segment) source() netip.AddrPort { return netip.AddrPortFrom(s.src, s.sport) }
func (s *segment) dest() netip.AddrPort   { return netip.AddrPortFrom(s.dst, s.dport) }

// parseSegment reads on after parseHeader. It returns false when the
// transport header is cut short. Of a fragment that is not the first only the
// fragment fields are set.
func parseSegment(p []byte, h header) (segment, bool) {
	s := segment{header: h}
	p = p[:h.length]
	if h.v6 {
		if !s.walkExtensions(p) {
			return s, false
		}
	} else {
		s.at = int(p[0]&15) * 4
		s.proto = p[9]
		if f := binary.BigEndian.Uint16(p[6:]); f&0x3fff != 0 { // more fragments, or an offset
			s.fragment, s.first = true, f&0x1fff == 0
			s.fragmentID = uint32(binary.BigEndian.Uint16(p[4:]))
		}
	}
	if s.fragment && !s.first {
		return s, true
	}
	return s, s.readTransport(p[s.at:])
}

// walkExtensions finds the transport header of an IPv6 packet (RFC 8200 §4).
func (s *segment) walkExtensions(p []byte) bool {
	s.proto, s.at = p[6], 40
	for {
		var size int
		switch s.proto {
		case protoHopByHop, protoRouting, protoDestOpts, protoAH, protoFragment:
			if len(p) < s.at+8 {
				return false
			}
			size = 8 + 8*int(p[s.at+1])
		default:
			return true
		}
		switch s.proto {
		case protoAH:
			size = 8 + 4*int(p[s.at+1]) // in units of 4 bytes (RFC 4302 §2.2)
		case protoFragment:
			size = 8
			// An offset and more-fragments of zero make it an atomic fragment, which
			// is whole (RFC 6946).
			if f := binary.BigEndian.Uint16(p[s.at+2:]); f&0xfff9 != 0 {
				s.fragment, s.first = true, f&0xfff8 == 0
				s.fragmentID = binary.BigEndian.Uint32(p[s.at+4:])
			}
		}
		s.proto = p[s.at]
		s.at += size
		if s.at > len(p) {
			return false
		}
		if s.fragment && !s.first {
			return true
		}
	}
}

// readTransport reads the start of the transport header, 8 bytes at least:
// that much of it an ICMP error quotes (RFC 792).
func (s *segment) readTransport(t []byte) bool {
	switch s.proto {
	case protoTCP, protoUDP:
		if len(t) < 8 {
			return false
		}
		s.sport = binary.BigEndian.Uint16(t)
		s.dport = binary.BigEndian.Uint16(t[2:])
		s.kind = kindUDP
		if s.proto == protoTCP {
			s.kind = kindTCP
			if len(t) > 13 {
				s.flags = t[13]
			}
		}
	case protoICMP, protoICMPv6:
		if (s.proto == protoICMPv6) != s.v6 {
			return true // kindOther
		}
		if len(t) < 8 {
			return false
		}
		s.kind = icmpKind(s.v6, t[0])
		if s.kind == kindEchoRequest || s.kind == kindEchoReply {
			s.sport = binary.BigEndian.Uint16(t[4:])
			s.dport = s.sport
		}
	}
	return true
}

// icmpKind sorts ICMP types: RFC 792, RFC 4443 §2.1.
func icmpKind(v6 bool, typ byte) kind {
	switch {
	case !v6 && typ == 8, v6 && typ == 128:
		return kindEchoRequest
	case !v6 && typ == 0, v6 && typ == 129:
		return kindEchoReply
	case !v6 && (typ == 3 || typ == 4 || typ == 11 || typ == 12), v6 && typ >= 1 && typ <= 4:
		return kindICMPError
	}
	return kindICMPOther
}
