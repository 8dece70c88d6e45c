// Package udp is the one UDP socket by which a Babel speaker talks on all of its links.
//
// A packet is told the interface that it came in by, and when the kernel received it, by
// the caller's monotonic clock; one that is sent is given its interface and its link-local
// source. What may not be a Babel packet by its addresses or ports (RFC 8966 §4) is dropped
// here and counted.
//
// A Socket belongs to the network namespace of the thread on which Open was called; its
// methods may be called from any other.
package udp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tombolo/internal/babel/wire"
)

const (
	// classSelector6 is the traffic class of routing protocols (RFC 2474 §4.2.2: CS6).
	classSelector6 = 0xc0

	// priority is what a queue of a device goes by: TC_PRIO_INTERACTIVE, the most
	// urgent that needs no privilege (linux/pkt_sched.h).
	priority = 6

	// bufferSize holds what comes at once where fifty neighbours announce a thousand
	// routes each: 750 packets, of which each counts as 2,304 bytes and its header. The
	// kernel counts the same for what waits to be sent.
	bufferSize = 4 << 20
)

// Socket is bound to [::]:6696. Receive serves one goroutine at a time; everything else may
// be called from any.
type Socket struct {
	file *os.File // for Go's poller: it wakes Receive when the socket is closed
	raw  syscall.RawConn
	shut atomic.Bool // Close was called

	// Receive's.
	clock arrivals
	full  bool // the last batch was, so that there may be more

	drops drops
}

// Drops counts packets that came in and were not passed on.
type Drops struct {
	Source   uint64 // their source is no link-local address, or not port 6696
	Target   uint64 // they were sent to something else than the group or a link-local address
	Overflow uint64 // there was no room for them in the socket's buffer
}

type drops struct{ source, target, overflow atomic.Uint64 }

// Open opens the socket in the network namespace of the calling thread. Times of packets
// are counted from start, a time with a monotonic reading (that of time.Now).
func Open(start time.Time) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a UDP socket for IPv6: %w", err)
	}
	if err := configure(fd); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet6{Port: wire.Port}); err != nil {
		_ = unix.Close(fd)
		if errors.Is(err, unix.EADDRINUSE) {
			return nil, fmt.Errorf("another Babel router runs here, on UDP port %d (ss -uplnH sport = %d names it): %w",
				wire.Port, wire.Port, err)
		}
		return nil, fmt.Errorf("bind UDP port %d: %w", wire.Port, err)
	}
	file := os.NewFile(uintptr(fd), fmt.Sprintf("[::]:%d", wire.Port))
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("watch UDP port %d: %w", wire.Port, err)
	}
	return &Socket{file: file, raw: raw, clock: arrivals{start: start}}, nil
}

// configure sets the options of the socket, before it is bound: no packet comes without
// its time.
func configure(fd int) error {
	for _, o := range []struct {
		level, option, value int
		what                 string
	}{
		{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1, "IPv6 only"},
		{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1, "the interface of packets"},
		{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1, "the hop limit of packets"},
		{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0, "no multicast to ourselves"},
		{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 1, "multicast hop limit 1"},
		{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 1, "hop limit 1"},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.option, o.value); err != nil {
			return fmt.Errorf("UDP socket: %s: %w", o.what, err)
		}
	}
	// Where seconds have 32 bits the older option ends in 2038; the newer one is of
	// Linux 5.1.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, 1) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
			return fmt.Errorf("UDP socket: the time of packets: %w", err)
		}
	}
	// Without these it works too, only less well.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, classSelector6)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, priority)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)
	// A group that some other socket joined is not ours (Linux 4.20).
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0)
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferSize) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bufferSize)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, bufferSize) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, bufferSize)
	}
	return nil
}

// Close closes the socket. A Receive that waits returns an error that Is net.ErrClosed.
func (s *Socket) Close() error {
	if s.shut.Swap(true) {
		return net.ErrClosed
	}
	return s.file.Close()
}

// Drops returns how many packets were not passed on so far.
func (s *Socket) Drops() Drops {
	return Drops{
		Source: s.drops.source.Load(), Target: s.drops.target.Load(),
		Overflow: s.drops.overflow.Load(),
	}
}

// Join makes the socket hear the group of Babel routers on an interface. To join again is
// no error. An interface that goes takes its membership with it; with a new index it must
// be joined anew.
func (s *Socket) Join(index int) error {
	err := s.group(unix.IPV6_JOIN_GROUP, index)
	if err == nil || errors.Is(err, unix.EADDRINUSE) {
		return nil
	}
	return fmt.Errorf("join %s on interface %d: %w", wire.Group, index, err)
}

// Leave undoes Join. To leave what was not joined, or is gone, is no error.
func (s *Socket) Leave(index int) error {
	err := s.group(unix.IPV6_LEAVE_GROUP, index)
	if err == nil || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return fmt.Errorf("leave %s on interface %d: %w", wire.Group, index, err)
}

func (s *Socket) group(option, index int) error {
	m := unix.IPv6Mreq{Multiaddr: wire.Group.As16(), Interface: uint32(index)}
	return s.control(func(fd int) error { return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, option, &m) })
}

// Send sends a packet to port 6696 of a link-local address or of wire.Group on an
// interface, from a link-local address of that interface. It never waits: where there is
// no room the packet is lost, as it might be on its way, and that is an error.
func (s *Socket) Send(index int, from, to netip.Addr, payload []byte) error {
	o := outgoing{
		to:   unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: to.As16(), Scope_id: uint32(index)},
		info: unix.PktInfo6(&unix.Inet6Pktinfo{Addr: from.As16(), Ifindex: uint32(index)}),
	}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&o.to.Port))[:], wire.Port)
	if len(payload) > 0 {
		o.vector.Base = &payload[0]
		o.vector.SetLen(len(payload))
	}
	o.header = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&o.to)), Namelen: unix.SizeofSockaddrInet6, Iov: &o.vector, Control: &o.info[0]}
	o.header.SetIovlen(1)
	o.header.SetControllen(len(o.info))
	if err := s.control(o.send); err != nil {
		return fmt.Errorf("send %d bytes from %s to %s on interface %d: %w", len(payload), from, to, index, err)
	}
	return nil
}

// outgoing is a packet to send.
type outgoing struct {
	header unix.Msghdr
	to     unix.RawSockaddrInet6
	info   []byte
	vector unix.Iovec
}

// send never waits, so that Go's scheduler need not be told of it: it would take the
// processor away after 20 µs, and have another thread woken up for it.
func (o *outgoing) send(fd int) error {
	for {
		_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&o.header)), unix.MSG_DONTWAIT)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// control calls f with the descriptor, which stays open for as long.
func (s *Socket) control(f func(fd int) error) (err error) {
	if closed := s.raw.Control(func(fd uintptr) { err = f(int(fd)) }); closed != nil {
		return s.closed(closed)
	}
	return err
}

// closed gives the error of Go's poller on a closed socket its public name.
func (s *Socket) closed(err error) error {
	if s.shut.Load() {
		return net.ErrClosed
	}
	return err
}
