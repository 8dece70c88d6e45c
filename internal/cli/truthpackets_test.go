package cli_test

import (
	"bytes"
	"cmp"
	order "encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

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

// capture is a packet of ours at a node.
type capture struct {
	at    time.Time
	event truth.Event
	leg   int
	id    uint32 // 0: it is known by its number
	seq   uint32
	port  int // of a SYN: that it comes from
}

// The legs of a flow's way.
const (
	thereLeg = iota
	backLeg
	toldLeg
)

// captures are all of a lab.
type captures struct {
	mu   sync.Mutex
	all  []capture
	last time.Time // when one came
}

// watch captures at a node, until the test ends.
func (l *truthLab) watch(n lab.Node) {
	l.Helper()
	fd := -1
	l.do(l.lab.Do(l.Context(), n.Name, func() (err error) {
		all := int(uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8)
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, all)
		return err
	}))
	l.do(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1))
	l.do(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20))
	l.do(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200_000}))
	var reader sync.WaitGroup
	reader.Go(func() { l.read(n, fd) })
	l.Cleanup(func() {
		reader.Wait()
		unix.Close(fd)
	})
}

func (l *truthLab) read(n lab.Node, fd int) {
	b, oob := make([]byte, 1<<16), make([]byte, 256)
	devices := map[int]string{}
	for l.Context().Err() == nil {
		size, more, _, from, err := unix.Recvmsg(fd, b, oob, 0)
		link, ok := from.(*unix.SockaddrLinklayer)
		if err != nil || !ok {
			continue
		}
		out := link.Pkttype == unix.PACKET_OUTGOING
		if !out && link.Pkttype != unix.PACKET_HOST {
			continue
		}
		c, ok := parsed(b[:size])
		if !ok {
			continue
		}
		c.event.Node, c.event.Out, c.at = n.Name, out, timeOf(oob[:more])
		if n.Kind == lab.RouterNode {
			if devices[link.Ifindex] == "" {
				_ = l.lab.Do(l.Context(), n.Name, func() error {
					f, err := net.InterfaceByIndex(link.Ifindex)
					if err == nil {
						devices[link.Ifindex] = f.Name
					}
					return err
				})
			}
			c.event.Device = devices[link.Ifindex]
		}
		l.seen.mu.Lock()
		l.seen.all, l.seen.last = append(l.seen.all, c), time.Now()
		l.seen.mu.Unlock()
	}
}

// timeOf is when the kernel saw a packet.
func timeOf(oob []byte) time.Time {
	messages, _ := unix.ParseSocketControlMessage(oob)
	for _, m := range messages {
		if m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
			return time.Unix(int64(order.NativeEndian.Uint64(m.Data)), int64(order.NativeEndian.Uint64(m.Data[8:])))
		}
	}
	return time.Time{}
}

// parsed reads a packet, if it is one of ours.
func parsed(b []byte) (c capture, ok bool) {
	protocol, rest := 0, []byte(nil)
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		head := int(b[0]&15) * 4
		if order.BigEndian.Uint16(b[6:])&0x1fff != 0 || len(b) < head {
			return c, false
		}
		c.event.Src, c.event.Dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		protocol, rest = int(b[9]), b[head:]
	case len(b) >= 40 && b[0]>>4 == 6:
		c.event.Src, c.event.Dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		protocol, rest = int(b[6]), b[40:]
	}
	if len(rest) < 8 {
		return c, false
	}
	from, to := order.BigEndian.Uint16(rest), order.BigEndian.Uint16(rest[2:])
	switch protocol {
	case unix.IPPROTO_TCP:
		return c, c.tcp(rest, from, to)
	case unix.IPPROTO_UDP:
		if len(rest) < 8+len(marked) || string(rest[8:8+len(marked)]) != marked {
			return c, false
		}
		c.event.Port = to
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		switch {
		case rest[0] == 3 && rest[1] == 4 && protocol == unix.IPPROTO_ICMP, rest[0] == 2 && protocol == unix.IPPROTO_ICMPV6:
			c.leg = toldLeg
		case rest[0] == 0 && protocol == unix.IPPROTO_ICMP, rest[0] == 129:
			c.leg = backLeg
		case rest[0] != 8 && rest[0] != 128:
			return c, false
		}
	}
	id, what, ok := numbered(rest)
	if what == replies && c.leg == thereLeg {
		c.leg, c.event.Port = backLeg, from
	}
	c.id = id
	return c, ok
}

// tcp reads a SYN, or the answer to one.
func (c *capture) tcp(b []byte, from, to uint16) bool {
	if len(b) < 20 {
		return false
	}
	const syn, ack = 2, 16
	switch b[13] & (syn | ack | 4 | 1) {
	case syn:
		c.event.Port, c.port, c.seq = to, int(from), order.BigEndian.Uint32(b[4:])
	case syn | ack:
		c.leg, c.event.Port, c.seq = backLeg, from, order.BigEndian.Uint32(b[8:])-1
	default:
		return false
	}
	return true
}

// quiet waits until nothing is captured any more.
func (c *captures) quiet() {
	const least, still, most = 400 * time.Millisecond, 250 * time.Millisecond, 3 * time.Second
	begin := time.Now()
	for range time.Tick(20 * time.Millisecond) {
		c.mu.Lock()
		last := c.last
		c.mu.Unlock()
		if now := time.Now(); now.Sub(begin) > most || now.Sub(begin) > least && now.Sub(last) > still {
			return
		}
	}
}

// sort gives flows their events. Of routers only some devices are looked at: of a bridge, not its ports.
func (c *captures) sort(flows []*asking, devices map[[2]string]bool) {
	c.mu.Lock()
	all := c.all
	c.all = nil
	c.mu.Unlock()
	slices.SortStableFunc(all, func(a, b capture) int { return a.at.Compare(b.at) })
	byID, byPort, bySeq := map[uint32]*asking{}, map[int]*asking{}, map[uint32]uint32{}
	for _, q := range flows {
		q.There, q.Back, q.Told = nil, nil, nil
		byID[q.id] = q
		if q.Protocol == trace.TCP {
			byPort[firstPort+int(q.id%manyPorts)] = q
		}
	}
	for _, x := range all { // who began with it, in case a router has changed its port
		if q := byPort[x.port]; q != nil && q.node == x.event.Node && x.event.Out {
			bySeq[x.seq] = q.id
		}
	}
	first := map[uint32]time.Time{}
	for _, x := range all {
		q := byID[cmp.Or(x.id, bySeq[x.seq])]
		if q == nil {
			continue
		}
		if first[q.id].IsZero() {
			first[q.id] = x.at
		}
		at := [2]string{x.event.Node, x.event.Device}
		switch {
		case x.at.Sub(first[q.id]) > 900*time.Millisecond: // a SYN is sent again after a second
			continue
		case (x.event.Out || at[1] != "") && !devices[at]: // what is not a router's has no device
			continue
		}
		leg := []*[]truth.Event{&q.There, &q.Back, &q.Told}[x.leg]
		*leg = append(*leg, x.event)
	}
}

// A packet is found again by its mark, whatever is before and behind it.
func TestMarksAreFoundAgain(t *testing.T) {
	id, what, ok := numbered(append([]byte("header"), markOf(77, replies, 100)...))
	if id != 77 || what != replies || !ok {
		t.Error(id, what, ok)
	}
}
