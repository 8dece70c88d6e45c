package lab

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// Echo is one ICMP echo request.
type Echo struct {
	To      netip.Addr    // of either family
	From    netip.Addr    // source address; zero: the kernel chooses
	Size    int           // bytes of payload; at least 16 are sent
	Timeout time.Duration // for the reply; 0: a second
}

// ErrNoReply is what stands in the error of a ping that nobody answered in time.
var ErrNoReply = errors.New("no reply")

// Ping sends an echo request from a node and returns the time until its reply came.
func (l *Lab) Ping(ctx context.Context, node string, e Echo) (time.Duration, error) {
	if e.Timeout == 0 {
		e.Timeout = time.Second
	}
	var f *os.File
	err := l.Do(ctx, node, func() (err error) {
		f, err = echoSocket(e)
		return err
	})
	if err != nil {
		return 0, err
	}
	defer f.Close()
	defer context.AfterFunc(ctx, func() {
		_ = f.SetDeadline(time.Unix(1, 0)) // it may be closed already
	})()
	took, err := exchange(f, e)
	if err != nil {
		return 0, fmt.Errorf("ping %s from %s: %w", e.To, node, errors.Join(err, ctx.Err()))
	}
	return took, nil
}

// echoSocket opens a raw socket in the calling thread's namespace.
func echoSocket(e Echo) (*os.File, error) {
	family, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	if e.To.Is6() {
		family, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("open an ICMP socket: %w", err)
	}
	if e.From.IsValid() {
		err = unix.Bind(fd, socketAddress(e.From))
	}
	// A connected socket is also told of unreachable destinations.
	if err == nil {
		err = unix.Connect(fd, socketAddress(e.To))
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("ping %s: %w", e.To, err)
	}
	return os.NewFile(uintptr(fd), "ping"), nil
}

func socketAddress(a netip.Addr) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Addr: a.As16()}
}

// exchange sends the request and waits for its reply.
func exchange(f *os.File, e Echo) (time.Duration, error) {
	// All raw sockets of a namespace see all replies: random bytes tell ours.
	payload := make([]byte, max(e.Size, 16))
	if _, err := rand.Read(payload[:16]); err != nil {
		return 0, err
	}
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: int(binary.BigEndian.Uint16(payload)), Seq: 1, Data: payload}}
	wanted := byte(ipv4.ICMPTypeEchoReply)
	if e.To.Is6() {
		m.Type, wanted = ipv6.ICMPTypeEchoRequest, byte(ipv6.ICMPTypeEchoReply)
	}
	b, err := m.Marshal(nil) // IPv6's checksum the kernel fills in (RFC 3542 §3.1)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := f.SetDeadline(start.Add(e.Timeout)); err != nil {
		return 0, err
	}
	if _, err := f.Write(b); err != nil {
		return 0, err
	}
	for in := make([]byte, 1<<16); ; {
		n, err := f.Read(in)
		took := time.Since(start)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, fmt.Errorf("%w in %s", ErrNoReply, e.Timeout)
		}
		if err != nil {
			return 0, err
		}
		reply := in[:n]
		if e.To.Is4() && n > 0 { // with its IP header (raw(7))
			reply = reply[min(n, int(reply[0]&0xf)*4):]
		}
		if len(reply) >= 8 && reply[0] == wanted && bytes.Equal(reply[8:], payload) {
			return took, nil
		}
	}
}
