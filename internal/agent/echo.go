package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tombolo/internal/state"
)

const (
	probeEvery  = 2 * time.Second
	probeWait   = 1500 * time.Millisecond
	probeMisses = 3 // in a row, and the host counts as gone
)

// probe asks a host again and again whether it is there.
type probe struct {
	cancel context.CancelFunc
	done   chan struct{}
	there  atomic.Bool
}

// well reports whether the host answered lately; false on a nil probe.
func (p *probe) well() bool { return p != nil && p.there.Load() }

func (p *probe) end() {
	p.cancel()
	<-p.done
}

// probe starts and ends probes, so that there are those that b asks for.
func (o *observer) probe(ctx context.Context, b *state.Babel) {
	wanted := map[netip.Addr]bool{}
	if b != nil {
		for _, a := range b.Announce {
			if a.While == state.Probe {
				wanted[a.Probe] = true
			}
		}
	}
	for host, p := range o.probes {
		if !wanted[host] {
			p.end()
			delete(o.probes, host)
		}
	}
	for host := range wanted {
		if o.probes[host] == nil {
			o.probes[host] = startProbe(ctx, host, o.look)
		}
	}
}

func startProbe(ctx context.Context, host netip.Addr, changed func()) *probe {
	ctx, cancel := context.WithCancel(ctx)
	p := &probe{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		misses := 0
		for ctx.Err() == nil {
			begin := time.Now()
			_, err := ping(ctx, host, probeWait)
			if misses++; err == nil {
				misses = 0
			}
			there := err == nil || p.there.Load() && misses < probeMisses
			if p.there.Swap(there) != there {
				changed()
			}
			select {
			case <-ctx.Done():
			case <-time.After(probeEvery - time.Since(begin)):
			}
		}
	}()
	return p
}

// errNoReply says that nobody answered in time.
var errNoReply = errors.New("no reply")

var echoes atomic.Uint32 // numbers the requests of this process

// ping sends one echo request and returns the time until its reply came.
func ping(ctx context.Context, to netip.Addr, wait time.Duration) (time.Duration, error) {
	f, err := echoSocket(to)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	defer context.AfterFunc(ctx, func() { _ = f.SetDeadline(time.Unix(1, 0)) })()
	request := echoRequest(to, uint16(os.Getpid()), uint16(echoes.Add(1)))
	begin := time.Now()
	if err := f.SetDeadline(begin.Add(wait)); err != nil {
		return 0, err
	}
	if _, err := f.Write(request); err != nil {
		return 0, fmt.Errorf("ping %s: %w", to, err)
	}
	b := make([]byte, 1500)
	for {
		n, err := f.Read(b)
		took := time.Since(begin)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return 0, errors.Join(errNoReply, ctx.Err())
		case err != nil:
			return 0, fmt.Errorf("ping %s: %w", to, err)
		case isReply(to, b[:n], request):
			return took, nil
		}
	}
}

// echoSocket opens a raw socket that is connected, so that it is also told of unreachable
// destinations, and hears that host only.
func echoSocket(to netip.Addr) (*os.File, error) {
	family, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	var address unix.Sockaddr
	if to.Is4() {
		address = &unix.SockaddrInet4{Addr: to.As4()}
	} else {
		family, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
		address = &unix.SockaddrInet6{Addr: to.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err == nil {
		if err = unix.Connect(fd, address); err != nil {
			_ = unix.Close(fd)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("ping %s: %w", to, err)
	}
	return os.NewFile(uintptr(fd), "ping"), nil
}

// Types of message (RFC 792, RFC 4443 §4).
const (
	echo4, reply4 = 8, 0
	echo6, reply6 = 128, 129
)

// echoRequest makes a request of 64 bytes. The kernel writes the checksum of ICMPv6.
func echoRequest(to netip.Addr, id, seq uint16) []byte {
	b := make([]byte, 64)
	b[0] = echo6
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], seq)
	if to.Is4() {
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

// isReply reports whether b, with an IPv4 header where it is IPv4, answers the request.
func isReply(to netip.Addr, b, request []byte) bool {
	kind := byte(reply6)
	if to.Is4() {
		kind = reply4
		if len(b) < 20 || len(b) < int(b[0]&15)*4 {
			return false
		}
		b = b[int(b[0]&15)*4:]
	}
	return len(b) >= 8 && b[0] == kind && string(b[4:8]) == string(request[4:8])
}
