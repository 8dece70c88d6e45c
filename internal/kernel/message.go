package kernel

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Netlink is in the byte order of the machine (netlink(7)).
var native = binary.NativeEndian

// alignTo is NLMSG_ALIGNTO and RTA_ALIGNTO: messages and attributes begin at multiples of it.
const alignTo = 4

// attributeSize is sizeof(struct rtattr): length and type.
const attributeSize = 4

func align(n int) int { return (n + alignTo - 1) &^ (alignTo - 1) }

// writer builds netlink messages, one after another in one buffer, so that many go to the
// kernel in one call.
type writer struct {
	b      []byte
	starts []int // where each message begins
}

// begin begins a message: its type and flags (NLM_F_*), and the fixed header of its kind.
func (w *writer) begin(kind, flags uint16, header []byte) {
	w.starts = append(w.starts, len(w.b))
	w.b = native.AppendUint32(w.b, 0) // length: close
	w.b = native.AppendUint16(w.b, kind)
	w.b = native.AppendUint16(w.b, flags|unix.NLM_F_REQUEST)
	w.b = native.AppendUint64(w.b, 0) // sequence: socket.execute; port: the kernel knows
	w.b = append(w.b, header...)
	w.close()
}

// close writes the length of the last message.
func (w *writer) close() {
	for len(w.b)%alignTo != 0 {
		w.b = append(w.b, 0)
	}
	start := w.starts[len(w.starts)-1]
	native.PutUint32(w.b[start:], uint32(len(w.b)-start))
}

func (w *writer) attribute(kind uint16, size int) {
	w.b = native.AppendUint16(w.b, uint16(attributeSize+size))
	w.b = native.AppendUint16(w.b, kind)
}

func (w *writer) bytes(kind uint16, data []byte) {
	w.attribute(kind, len(data))
	w.b = append(w.b, data...)
	w.close()
}

// text adds a string that ends in a zero byte, as names of devices do.
func (w *writer) text(kind uint16, s string) {
	w.attribute(kind, len(s)+1)
	w.b = append(append(w.b, s...), 0)
	w.close()
}

func (w *writer) uint8(kind uint16, v uint8) { w.bytes(kind, []byte{v}) }

func (w *writer) uint32(kind uint16, v uint32) {
	w.attribute(kind, 4)
	w.b = native.AppendUint32(w.b, v)
	w.close()
}

func (w *writer) addr(kind uint16, a netip.Addr) { w.bytes(kind, a.AsSlice()) }

// nest begins an attribute that holds attributes; end it with what nest returns.
func (w *writer) nest(kind uint16) (end func()) {
	at := len(w.b)
	w.attribute(kind, 0)
	return func() {
		native.PutUint16(w.b[at:], uint16(len(w.b)-at))
		w.close()
	}
}

// attributes calls each for every attribute in b. What is cut short is left out: a reader
// must not fall over a kernel newer than itself.
func attributes(b []byte, each func(kind uint16, data []byte)) {
	for len(b) >= attributeSize {
		size := int(native.Uint16(b))
		if size < attributeSize || size > len(b) {
			return
		}
		each(native.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[attributeSize:size])
		b = b[min(align(size), len(b)):]
	}
}

// text reads a string up to its zero byte.
func text(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// number reads a uint32, or 0 where there is none.
func number(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return native.Uint32(b)
}

// addr reads an address of 4 or 16 bytes; else it is invalid.
func addr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

// prefix returns a masked prefix; addr is that of the attribute, absent for /0, and six
// tells the family. It is invalid where address, length and family do not fit.
func prefix(a netip.Addr, bits uint8, six bool) netip.Prefix {
	if !a.IsValid() && bits == 0 {
		a = unspecified(six)
	}
	if a.Is6() != six {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, int(bits)).Masked()
}

func unspecified(six bool) netip.Addr {
	if six {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

func family(six bool) uint8 {
	if six {
		return unix.AF_INET6
	}
	return unix.AF_INET
}
