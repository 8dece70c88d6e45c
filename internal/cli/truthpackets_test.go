package cli_test

import (
	"bytes"
	order "encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"tombolo/internal/lab"
	"tombolo/internal/trace"
	"tombolo/internal/trace/truth"
)

// Every packet of the truth test can be told from all others, wherever it is captured and whatever
// was translated: of UDP and ICMP by what is in it, of TCP by the number that its SYN begins with,
// which the answer to it acknowledges, and which is the one that left the asker from a port of its own.
const (
	marked  = "trUth" // then a number, and whether it is the question
	asks    = 'q'
	replies = 'a'
)

// askedPorts are those of all servers.
var askedPorts = []uint16{askedAt, askedAt + 1}

// firstPort is that of the first flow of a round. It has nothing to do with numbers of flows, as
// conntrack remembers.
const firstPort, manyPorts = 10000, 20000

func markOf(id uint32, what byte, size int) []byte {
	b := make([]byte, max(size, len(marked)+5))
	copy(b, marked)
	order.BigEndian.PutUint32(b[len(marked):], id)
	b[len(marked)+4] = what
	return b
}

// numbered finds the mark in a packet.
func numbered(b []byte) (id uint32, what byte, ok bool) {
	_, rest, ok := bytes.Cut(b, []byte(marked))
	if !ok || len(rest) < 5 {
		return 0, 0, false
	}
	return order.BigEndian.Uint32(rest), rest[4], true
}

// serves has a node answer all that it is asked, on all its addresses: datagrams as they came.
func (l *truthLab) serves(n lab.Node, addresses []netip.Addr) {
	l.Helper()
	// What does not fit is not taken apart, also where the kernel has heard of a smaller MTU. A device may be at no
	// door, and without its address.
	sockets := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			wholePackets(int(fd), strings.HasSuffix(network, "6"))
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
		})
	}}
	l.do(l.lab.Do(l.Context(), n.Name, func() error {
		for _, a := range addresses {
			for _, port := range askedPorts {
				at := netip.AddrPortFrom(a, port).String()
				stream, err := sockets.Listen(l.Context(), "tcp", at)
				if err != nil {
					return err
				}
				l.Cleanup(func() { stream.Close() })
				go hangUp(stream)
				datagrams, err := sockets.ListenPacket(l.Context(), "udp", at)
				if err != nil {
					return err
				}
				l.Cleanup(func() { datagrams.Close() })
				go echo(datagrams)
			}
		}
		return nil
	}))
}

func wholePackets(fd int, six bool) {
	if six {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1)
		return
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
}

func hangUp(in net.Listener) {
	for {
		c, err := in.Accept()
		if err != nil {
			return
		}
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

func echo(in net.PacketConn) {
	for b := make([]byte, 1<<16); ; {
		n, from, err := in.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if _, what, ok := numbered(b[:n]); err == nil && ok && what == asks {
			b[len(marked)+4] = replies
			_, _ = in.WriteTo(b[:n], from)
		}
	}
}

// asking is a flow that is sent, and the address that the asker is bound to, if it is.
type asking struct {
	node string
	truth.Flow
	bound netip.Addr

	id uint32
}

// send sends the first packets of flows, and returns what closes their sockets again.
func (l *truthLab) send(all []*asking) (done func()) {
	l.Helper()
	byNode := map[string][]*asking{}
	for _, q := range all {
		l.flows++
		q.id = l.flows
		byNode[q.node] = append(byNode[q.node], q)
	}
	var mu sync.Mutex
	var sockets []int
	var nodes sync.WaitGroup
	for node, these := range byNode {
		nodes.Go(func() {
			err := l.lab.Do(l.Context(), node, func() error {
				for _, q := range these {
					fd, err := q.send()
					if err != nil {
						return fmt.Errorf("%s asks %s: %w", node, q.To, err)
					}
					mu.Lock()
					sockets = append(sockets, fd)
					mu.Unlock()
				}
				return nil
			})
			if err != nil {
				l.Error(err)
			}
		})
	}
	nodes.Wait()
	return func() {
		for _, fd := range sockets {
			unix.Close(fd)
		}
	}
}

// send opens a socket in the calling thread's namespace. That there is no way, or that it does not fit,
// is no error: nothing will be captured.
func (q *asking) send() (fd int, err error) {
	kind, protocol := unix.SOCK_STREAM, unix.IPPROTO_TCP
	payload := []byte(nil)
	switch q.Protocol {
	case trace.UDP:
		head := 28
		if q.To.Is6() {
			head = 48
		}
		kind, protocol, payload = unix.SOCK_DGRAM, unix.IPPROTO_UDP, markOf(q.id, asks, q.Size-head)
	case trace.ICMP:
		kind, protocol = unix.SOCK_RAW, unix.IPPROTO_ICMP
		m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: int(q.id & 0xffff), Seq: 1, Data: markOf(q.id, asks, 0)}}
		if q.To.Is6() {
			protocol, m.Type = unix.IPPROTO_ICMPV6, ipv6.ICMPTypeEchoRequest
		}
		if payload, err = m.Marshal(nil); err != nil {
			return 0, err
		}
	}
	family, port := unix.AF_INET, firstPort+int(q.id%manyPorts)
	if q.To.Is6() {
		family = unix.AF_INET6
	}
	if fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol); err != nil {
		return 0, err
	}
	if q.Protocol == trace.ICMP {
		port = 0
	}
	from := q.bound
	if !from.IsValid() {
		from = netip.IPv4Unspecified()
		if q.To.Is6() {
			from = netip.IPv6Unspecified()
		}
	}
	wholePackets(fd, q.To.Is6())
	if err = unix.Bind(fd, socketAddress(from, port)); err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.EADDRNOTAVAIL) { // its lease is gone
			return unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
		}
		return 0, err
	}
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	if unix.Connect(fd, socketAddress(q.To, int(q.Port))) == nil && payload != nil {
		_, _ = unix.Write(fd, payload)
	}
	return fd, nil
}

func socketAddress(a netip.Addr, port int) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4(), Port: port}
	}
	return &unix.SockaddrInet6{Addr: a.As16(), Port: port}
}

// A packet is found again by its mark, whatever is before and behind it.
func TestMarksAreFoundAgain(t *testing.T) {
	id, what, ok := numbered(append([]byte("header"), markOf(77, replies, 100)...))
	if id != 77 || what != replies || !ok {
		t.Error(id, what, ok)
	}
}
