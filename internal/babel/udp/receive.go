package udp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tombolo/internal/babel/wire"
)

// Control messages are in the byte order of the machine.
var native = binary.NativeEndian

// Packet is a datagram that came in.
type Packet struct {
	Index    int        // of the interface
	From, To netip.Addr // without a zone; To is ours, or wire.Group
	Port     uint16     // of the sender: always 6696
	HopLimit int        // as it arrived; 0: the kernel did not say

	// At is when the kernel received it, since the start given to Open and never after
	// the moment when it was read.
	At time.Duration

	Payload []byte // of the Batch
}

// MaxPacket is the longest payload, in bytes: that of the largest MTU that an interface
// with IPv6 has, without jumbograms (RFC 2675).
const MaxPacket = 65535 - 8

// batchSize is how many packets one system call receives at most: that halves what one of
// them costs, and more would not make it less.
const batchSize = 8

// Batch is room for packets, which one call of Receive fills. Its memory is used only as
// far as packets are long.
type Batch struct {
	packets  []Packet
	payloads []byte
	slots    [batchSize]slot
	headers  [batchSize]mmsghdr
	// receive is fill, made once; count and err are its results.
	receive func(fd uintptr) bool
	count   int
	err     error
}

// mmsghdr is struct mmsghdr (recvmmsg(2)).
type mmsghdr struct {
	header unix.Msghdr
	length uint32
}

// slot is where one datagram goes.
type slot struct {
	from    unix.RawSockaddrInet6
	vector  unix.Iovec
	control [16]uint64 // aligned; 128 bytes: time 32, interface 40, hop limit 24, overflow 24
}

// NewBatch returns an empty Batch.
func NewBatch() *Batch {
	b := &Batch{
		packets:  make([]Packet, 0, batchSize),
		payloads: make([]byte, batchSize*MaxPacket),
	}
	for i := range b.slots {
		s := &b.slots[i]
		s.vector.Base = &b.payloads[i*MaxPacket]
		s.vector.SetLen(MaxPacket)
		h := &b.headers[i].header
		h.Name = (*byte)(unsafe.Pointer(&s.from))
		h.Iov = &s.vector
		h.SetIovlen(1)
		h.Control = (*byte)(unsafe.Pointer(&s.control))
	}
	b.receive = b.fill
	return b
}

// fill receives as many packets as there are, and reports false where there are none. It
// never waits (see outgoing.send).
func (b *Batch) fill(fd uintptr) bool {
	for i := range b.headers {
		h := &b.headers[i].header
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(int(unsafe.Sizeof(b.slots[i].control)))
		h.Flags = 0
	}
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd,
			uintptr(unsafe.Pointer(&b.headers[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			b.count, b.err = int(n), nil
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			b.count, b.err = 0, errno
			return true
		}
	}
}

// Receive waits for packets and returns those that have come, at least one, in the order
// in which they did. They are valid until b is used again. After Close the error Is
// net.ErrClosed.
func (s *Socket) Receive(b *Batch) ([]Packet, error) {
	for {
		err := s.raw.Read(b.receive)
		if err == nil {
			err = b.err
		}
		if err != nil {
			return nil, fmt.Errorf("receive on UDP port %d: %w", wire.Port, s.closed(err))
		}
		now := s.clock.look(time.Now(), s.full)
		s.full = b.count == batchSize
		b.packets = b.packets[:0]
		for i := range b.count {
			if p, ok := s.packet(b, i, now); ok {
				b.packets = append(b.packets, p)
			}
		}
		if len(b.packets) > 0 {
			return b.packets, nil
		}
	}
}

// packet returns what slot i of b holds, unless it is to be dropped.
func (s *Socket) packet(b *Batch, i int, now reading) (Packet, bool) {
	h, from := &b.headers[i], &b.slots[i].from
	p := Packet{
		From: netip.AddrFrom16(from.Addr), Port: port(from), At: now.since,
		Payload: b.payloads[i*MaxPacket:][:h.length:h.length],
	}
	control := unsafe.Slice((*byte)(unsafe.Pointer(&b.slots[i].control)), int(h.header.Controllen))
	for len(control) >= unix.SizeofCmsghdr {
		c, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			break
		}
		s.note(&p, c, data, now)
		control = rest
	}
	runtime.KeepAlive(b)
	switch {
	case !linkLocal(p.From) || p.Port != wire.Port:
		s.drops.source.Add(1)
	case p.To != wire.Group && !linkLocal(p.To):
		s.drops.target.Add(1)
	default:
		return p, true
	}
	return Packet{}, false
}

// note takes from a control message what p wants.
func (s *Socket) note(p *Packet, c unix.Cmsghdr, data []byte, now reading) {
	switch {
	case c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		p.To = netip.AddrFrom16([16]byte(data))
		p.Index = int(int32(native.Uint32(data[16:])))
	case c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_HOPLIMIT && len(data) >= 4:
		p.HopLimit = int(int32(native.Uint32(data)))
	case c.Level == unix.SOL_SOCKET && (c.Type == unix.SO_TIMESTAMPNS_NEW || c.Type == unix.SO_TIMESTAMPNS):
		p.At = now.at(timespec(data))
	case c.Level == unix.SOL_SOCKET && c.Type == unix.SO_RXQ_OVFL && len(data) >= 4:
		// A counter of the socket's whole life, of 32 bits.
		last := s.drops.overflow.Load()
		s.drops.overflow.Add(uint64(native.Uint32(data) - uint32(last)))
	}
}

// timespec reads seconds and nanoseconds: of 64 bits each, or of 32 in the older form on a
// machine of 32 bits.
func timespec(b []byte) time.Duration {
	switch {
	case len(b) >= 16:
		return time.Duration(native.Uint64(b))*time.Second + time.Duration(native.Uint64(b[8:]))
	case len(b) >= 8:
		return time.Duration(native.Uint32(b))*time.Second + time.Duration(native.Uint32(b[4:]))
	}
	return 0
}

// port returns the port of a socket address, which lies there in network byte order.
func port(a *unix.RawSockaddrInet6) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&a.Port))
	return uint16(b[0])<<8 | uint16(b[1])
}

// linkLocal reports whether a packet's address is a unicast one of the link.
func linkLocal(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() }
