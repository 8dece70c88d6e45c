package internet

import (
	"bytes"
	"encoding/binary"

	"github.com/tailscale/wireguard-go/tun"
)

// train joins packets that leave together into one write: the segments of one
// flow that follow each other go to the kernel as one large segment, as
// generic receive offload would make of them, and the kernel cuts it again
// where it must. Only neighbours are joined, so no packet changes its place.
type train struct {
	udp    bool // the kernel cuts UDP, too
	header [virtioHeaderLen]byte
	parts  [][]byte // for one writev: header, first packet, payloads of the others
}

// virtioHeaderLen is the size of struct virtio_net_hdr (linux/virtio_net.h).
const virtioHeaderLen = 10

// Values of struct virtio_net_hdr (linux/virtio_net.h).
const (
	virtioNeedsCsum = 1
	virtioTCPv4     = 1
	virtioTCPv6     = 4
	virtioUDP       = 5
)

// maxCars is how many packets are joined at most: the kernel refuses more
// than 128 (UDP_MAX_SEGMENTS in include/linux/udp.h).
const maxCars = 64

// segmentation is where a packet that may be joined has its parts.
type segmentation struct {
	v6      bool
	udp     bool
	at      int // the transport header
	payload int
	seq     uint32 // TCP
	push    bool   // TCP: ends a train
}

// load sets parts to one write that carries the first packets, and returns
// how many of them it carries, at least one.
func (t *train) load(packets [][]byte) int {
	clear(t.header[:])
	first := packets[0]
	t.parts = append(t.parts[:0], t.header[:], first)
	head, ok := t.segmentation(first)
	if !ok {
		return 1
	}
	total, last := len(first), head
	for _, packet := range packets[1:min(len(packets), maxCars)] {
		if last.push || last.payload < head.payload {
			break
		}
		next, ok := t.segmentation(packet)
		if !ok || !joins(first, packet, head, next) || total+next.payload > 0xffff {
			break
		}
		if !head.udp && next.seq != last.seq+uint32(last.payload) {
			break
		}
		// A wrong checksum must stay wrong: the joined segment's is computed anew.
		if len(t.parts) == 2 && !transportValid(first, head) || !transportValid(packet, next) {
			break
		}
		t.parts = append(t.parts, packet[len(packet)-next.payload:])
		total += next.payload
		last = next
	}
	if n := len(t.parts) - 1; n > 1 {
		t.couple(first, head, last, total)
		return n
	}
	return 1
}

// segmentation parses a packet that may be joined: TCP with nothing but ACK
// and PSH, or UDP with a checksum; no IPv4 options, no IPv6 extensions, no
// fragments.
func (t *train) segmentation(p []byte) (s segmentation, ok bool) {
	var proto byte
	switch {
	case len(p) >= 28 && p[0] == 0x45:
		if int(binary.BigEndian.Uint16(p[2:])) != len(p) || binary.BigEndian.Uint16(p[6:])&0x3fff != 0 {
			return s, false
		}
		s.at, proto = 20, p[9]
	case len(p) >= 48 && p[0]>>4 == 6:
		if int(binary.BigEndian.Uint16(p[4:])) != len(p)-40 {
			return s, false
		}
		s.v6, s.at, proto = true, 40, p[6]
	default:
		return s, false
	}
	h := p[s.at:]
	switch {
	case proto == protoUDP && t.udp:
		s.udp = true
		s.payload = len(h) - 8
		ok = int(binary.BigEndian.Uint16(h[4:])) == len(h) && h[6]|h[7] != 0
	case proto == protoTCP && len(h) >= 20:
		size := int(h[12]>>4) * 4
		s.payload = len(h) - size
		s.seq = binary.BigEndian.Uint32(h[4:])
		s.push = h[13]&tcpPSH != 0
		ok = size >= 20 && h[12]&15 == 0 && h[13]&^tcpPSH == tcpACK
	}
	return s, ok && s.payload > 0
}

const (
	tcpPSH = 0x08
	tcpACK = 0x10
)

// joins says whether two packets differ in nothing but what the kernel makes
// anew when it cuts: lengths, IPv4 identification, checksums, TCP's sequence
// number and PSH. The second may be shorter.
func joins(a, b []byte, sa, sb segmentation) bool {
	if sa.v6 != sb.v6 || sa.udp != sb.udp || sb.payload > sa.payload || len(a)-sa.payload != len(b)-sb.payload {
		return false
	}
	if sa.v6 { // version, traffic class, flow label; hop limit, addresses
		if !bytes.Equal(a[:4], b[:4]) || !bytes.Equal(a[7:40], b[7:40]) {
			return false
		}
	} else if a[1] != b[1] || a[6] != b[6] || a[8] != b[8] || !bytes.Equal(a[12:20], b[12:20]) {
		return false // service, don't fragment, TTL, addresses
	}
	ha, hb := a[sa.at:], b[sb.at:]
	if !bytes.Equal(ha[:4], hb[:4]) { // ports
		return false
	}
	if sa.udp {
		return true
	}
	options := len(a) - sa.payload - sa.at
	// Acknowledgement, then the window and what follows but the checksum.
	return bytes.Equal(ha[8:12], hb[8:12]) && bytes.Equal(ha[14:16], hb[14:16]) && bytes.Equal(ha[18:options], hb[18:options])
}

// transportValid verifies the TCP or UDP checksum.
func transportValid(p []byte, s segmentation) bool {
	return tun.Checksum(p[s.at:], pseudoHeader(p, s, len(p)-s.at)) == 0xffff
}

// pseudoHeader is the sum of the pseudo-header for so many bytes of transport.
func pseudoHeader(p []byte, s segmentation, size int) uint16 {
	proto := byte(protoTCP)
	if s.udp {
		proto = protoUDP
	}
	if s.v6 {
		return tun.PseudoHeaderChecksum(proto, p[8:24], p[24:40], uint16(size))
	}
	return tun.PseudoHeaderChecksum(proto, p[12:16], p[16:20], uint16(size))
}

// couple makes the first packet's headers those of the whole train, and
// writes the virtio header that says how to cut it.
func (t *train) couple(first []byte, head, last segmentation, total int) {
	h := first[head.at:]
	if head.v6 {
		binary.BigEndian.PutUint16(first[4:], uint16(total-40))
	} else {
		binary.BigEndian.PutUint16(first[2:], uint16(total))
		first[10], first[11] = 0, 0
		binary.BigEndian.PutUint16(first[10:], ^tun.Checksum(first[:20], 0))
	}
	kind, checksumAt := virtioTCPv4, 16
	switch {
	case head.udp:
		kind, checksumAt = virtioUDP, 6
		binary.BigEndian.PutUint16(h[4:], uint16(total-head.at))
	case head.v6:
		kind = virtioTCPv6
	}
	if last.push {
		h[13] |= tcpPSH // the kernel gives it to the last segment
	}
	// The kernel completes a checksum that begins as the pseudo-header's sum.
	binary.BigEndian.PutUint16(h[checksumAt:], pseudoHeader(first, head, total-head.at))
	t.header[0], t.header[1] = virtioNeedsCsum, byte(kind)
	for i, v := range []int{len(first) - head.payload, head.payload, head.at, checksumAt} {
		binary.NativeEndian.PutUint16(t.header[2+2*i:], uint16(v))
	}
}
