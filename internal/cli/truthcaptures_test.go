package cli_test

import (
	"cmp"
	order "encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tombolo/internal/lab"
	"tombolo/internal/trace"
	"tombolo/internal/trace/truth"
)

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
