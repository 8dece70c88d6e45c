package internet

import "encoding/binary"

// onesSum adds up words of the Internet checksum (RFC 1071), not yet folded.
// It holds 65,536 additions of 16 bits.
type onesSum uint32

func (s onesSum) fold() uint16 {
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return uint16(s)
}

// replace accounts for a word that changes: ~m + m' of RFC 1624 §3, equation 3.
func (s *onesSum) replace(old, new uint16) { *s += onesSum(^old) + onesSum(new) }

// put writes a word and accounts for the change.
func (s *onesSum) put(b []byte, v uint16) {
	s.replace(binary.BigEndian.Uint16(b), v)
	binary.BigEndian.PutUint16(b, v)
}

// putAddr writes an IPv4 address and accounts for the change.
func (s *onesSum) putAddr(b []byte, a [4]byte) {
	s.put(b, binary.BigEndian.Uint16(a[:]))
	s.put(b[2:], binary.BigEndian.Uint16(a[2:]))
}

// mend changes the checksum at b by what was accounted for: HC' = ~(~HC + ~m
// + m') (RFC 1624 §3, equation 3).
func (s onesSum) mend(b []byte) {
	hc := binary.BigEndian.Uint16(b)
	binary.BigEndian.PutUint16(b, ^(onesSum(^hc) + onesSum(s.fold())).fold())
}

// mendTransport mends the checksum of the transport header t, as far as it is
// there: an ICMP error quotes only a part.
func (s onesSum) mendTransport(proto uint8, t []byte) {
	switch {
	case proto == protoTCP && len(t) >= 18:
		s.mend(t[16:])
	case proto == protoUDP && len(t) >= 8:
		if t[6]|t[7] == 0 {
			return // the sender computed none (RFC 768)
		}
		s.mend(t[6:])
		if t[6]|t[7] == 0 {
			t[6], t[7] = 0xff, 0xff // zero would say that there is none (RFC 768)
		}
	case proto == protoICMP && len(t) >= 4:
		s.mend(t[2:])
	}
}

// sumWords adds up b, an odd last byte padded with zero.
func sumWords(b []byte) (s onesSum) {
	for ; len(b) >= 2; b = b[2:] {
		s += onesSum(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += onesSum(b[0]) << 8
	}
	return s
}
