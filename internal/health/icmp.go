package health

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Types of message (RFC 792, RFC 4443 §4).
const (
	echo4, reply4 = 8, 0
	echo6, reply6 = 128, 129
)

// echoSize is that of a request: type, code, checksum, identifier, number and cookie.
const echoSize = 16

// echoRequest makes a request. The kernel writes the checksum of ICMPv6.
func echoRequest(six bool, id, round uint16, cookie [8]byte) []byte {
	b := make([]byte, 8, echoSize)
	b[0] = echo6
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], round)
	b = append(b, cookie[:]...)
	if !six {
		b[0] = echo4
		var sum uint32
		for i := 0; i < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
		for sum > 0xffff {
			sum = sum>>16 + sum&0xffff
		}
		binary.BigEndian.PutUint16(b[2:], ^uint16(sum))
	}
	return b
}

// echoReply reads the round that a reply is for; b begins with an IPv4 header where it is IPv4.
func echoReply(six bool, b []byte, id uint16, cookie [8]byte) (round uint16, ok bool) {
	kind := byte(reply6)
	if !six {
		kind = reply4
		if len(b) < 20 || len(b) < int(b[0]&15)*4 {
			return 0, false
		}
		b = b[int(b[0]&15)*4:]
	}
	if len(b) != echoSize || b[0] != kind || binary.BigEndian.Uint16(b[4:]) != id || [8]byte(b[8:]) != cookie {
		return 0, false
	}
	return binary.BigEndian.Uint16(b[6:]), true
}

// replies4 passes echo replies with an identifier. A raw socket of IPv4 sees the IP header.
func replies4(id uint16) []unix.SockFilter {
	return []unix.SockFilter{
		{Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH}, // the header's length
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_IND},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: reply4, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_IND, K: 4},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(id), Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffff},
		{Code: unix.BPF_RET | unix.BPF_K},
	}
}

// replies6 is replies4 for IPv6, of which a raw socket sees no header.
func replies6(id uint16) []unix.SockFilter {
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: reply6, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 4},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(id), Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffff},
		{Code: unix.BPF_RET | unix.BPF_K},
	}
}
