package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// capture listens on a device of a node for some time, and returns how many bytes a second
// of routing came in and went out: IP packets of Babel, OSPF and BFD, whole.
func (t *triangle) capture(ctx context.Context, node, device string, d time.Duration) (in, out float64, err error) {
	start := time.Now()
	err = t.watch(ctx, node, device, start.Add(d), func(packet []byte, outgoing bool) bool {
		if size := routingBytes(packet); outgoing {
			out += size
		} else {
			in += size
		}
		return true
	})
	seconds := time.Since(start).Seconds()
	return in / seconds, out / seconds, err
}

// hear waits until a node is told something of an IPv4 address by Babel, and returns when.
// Not within the limit, that is an error.
func (t *triangle) hear(ctx context.Context, node, device string, a netip.Addr, limit time.Duration) (at time.Time, err error) {
	text := a.AsSlice()
	err = t.watch(ctx, node, device, time.Now().Add(limit), func(packet []byte, outgoing bool) bool {
		if !outgoing && routingBytes(packet) > 0 && bytes.Contains(packet, text) {
			at = time.Now()
			return false
		}
		return true
	})
	if err == nil && at.IsZero() {
		err = fmt.Errorf("nobody tells %s of %s on %s", node, a, device)
	}
	return at, err
}

// watch calls f with the IP packets of a device of a node until f returns false or the
// time has come.
func (t *triangle) watch(ctx context.Context, node, device string, until time.Time, f func(packet []byte, outgoing bool) bool) error {
	var file *os.File
	err := t.lab.Do(ctx, node, func() (err error) {
		file, err = packetSocket(device)
		return err
	})
	if err != nil {
		return fmt.Errorf("listen on %s at %s: %w", device, node, err)
	}
	defer func() { _ = file.Close() }() // it was only read
	if err := file.SetDeadline(until); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = file.SetDeadline(time.Unix(1, 0)) })()
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	b := make([]byte, 2048)
	for {
		var n int
		var from unix.Sockaddr
		var inner error
		err := raw.Read(func(fd uintptr) bool {
			n, from, inner = unix.Recvfrom(int(fd), b, 0)
			return !errors.Is(inner, unix.EAGAIN)
		})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return ctx.Err()
		}
		if err := errors.Join(err, inner); err != nil {
			return err
		}
		l, ok := from.(*unix.SockaddrLinklayer)
		if !f(b[:n], ok && l.Pkttype == unix.PACKET_OUTGOING) {
			return nil
		}
	}
}

// packetSocket opens a socket that sees the IP packets of a device in the calling thread's
// namespace, without what the link adds.
func packetSocket(device string) (*os.File, error) {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return nil, err
	}
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index}); err != nil {
		_ = unix.Close(fd) // it was not used
		return nil, err
	}
	return os.NewFile(uintptr(fd), device), nil
}

const (
	protoOSPF = 89
	portBabel = 6696
	portBFD   = 3784
)

// routingBytes is the length of an IP packet that carries routing, else 0.
func routingBytes(packet []byte) float64 {
	var protocol byte
	var rest []byte
	var size int
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		header := int(packet[0]&15) * 4
		protocol, size = packet[9], int(binary.BigEndian.Uint16(packet[2:]))
		rest = packet[min(header, len(packet)):]
	case len(packet) >= 40 && packet[0]>>4 == 6:
		protocol, size = packet[6], 40+int(binary.BigEndian.Uint16(packet[4:]))
		rest = packet[40:]
	default:
		return 0
	}
	if protocol == protoOSPF {
		return float64(size)
	}
	if protocol != unix.IPPROTO_UDP || len(rest) < 4 {
		return 0
	}
	if port := binary.BigEndian.Uint16(rest[2:]); port != portBabel && port != portBFD {
		return 0
	}
	return float64(size)
}
