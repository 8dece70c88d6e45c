package babel

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"tombolo/internal/babel/mac"
	"tombolo/internal/babel/wire"
)

const (
	// maxNeighbours bounds those of a segment: whoever is on it can invent addresses.
	maxNeighbours = 64

	// learning is how long a link that came up, or has a new neighbour, is probed as if it
	// carried traffic, so that its round trip is known at once.
	learning = 3 * time.Second

	// Every packet begins with headers that its size must leave room for: IPv6, UDP.
	headers = 40 + 8

	// slot is what hellos on idle links are aligned to. Few enough fall into one that the
	// last is not sent much later than its timestamp says.
	slot = 100 * time.Millisecond

	// ihuLife is announced with every IHU, which is dead after three and a half of it. We say
	// it more often: on a bad link several in a row are lost. That we do not hear somebody any
	// more is said at once.
	ihuLife = 10 * time.Second
)

// link is an interface that the speaker speaks on.
type link struct {
	Link
	s    *Speaker
	slot int // of entry.sent
	up   bool
	mute bool // see Speaker.Mute

	neighbours []*neighbour // by address; on a tunnel at most one
	before     *neighbour   // see Speaker.Inherit; nil where nothing is kept for its sake
	hello      *timer
	seqno      uint16        // of multicast hellos
	announced  time.Duration // the interval of the last hello
	turn       int           // of hellos since the last with an IHU

	activeUntil Time
	meter       meter

	queue queue
	full  *timer // the next announcement of everything
	guard *mac.Guard
	enc   *wire.Encoder
}

func (s *Speaker) newLink(c Link) *link {
	l := &link{Link: c, s: s, slot: s.freeSlot()}
	l.hello = newTimer(func(Time) { l.sendHello() })
	l.full = newTimer(func(Time) { l.announceAll() })
	l.queue.init(l)
	return l
}

// freeSlot returns the first slot of entry.sent that no link has.
func (s *Speaker) freeSlot() int {
	used := make([]bool, len(s.links)+1)
	for _, l := range s.links {
		if l.slot < len(used) {
			used[l.slot] = true
		}
	}
	slot := slices.Index(used, false)
	s.slots = max(s.slots, slot+1)
	return slot
}

// same reports whether a configuration leaves what neighbours know of the link as it is.
func (l *link) same(c Link) bool {
	return l.Tunnel == c.Tunnel && l.Address == c.Address && l.NextHop4 == c.NextHop4 &&
		slices.EqualFunc(l.Keys, c.Keys, func(a, b mac.Key) bool {
			return a.Algorithm == b.Algorithm && bytes.Equal(a.Secret, b.Secret)
		})
}

func (l *link) start() {
	l.up, l.mute = true, false
	l.seqno, l.turn = uint16(l.s.rand.Uint32()), 0
	l.meter = meter{}
	l.guard, l.enc = nil, nil
	if len(l.Keys) > 0 {
		l.guard = mac.NewGuard(l.Keys, l.s.rand.Uint64())
	}
	l.activeUntil = l.s.now + learning
	l.s.timers.reset(l.hello, l.s.now+l.s.upTo(20*time.Millisecond))
	l.s.timers.reset(l.full, l.s.now+l.s.timing.Update+l.s.upTo(l.s.timing.Update/4))
}

// stop ends the link: its neighbours are dead, and nothing more is sent.
func (l *link) stop(why string) {
	l.disinherit()
	if !l.up {
		return
	}
	for len(l.neighbours) > 0 {
		l.forget(l.neighbours[0], why)
	}
	l.up = false
	l.s.timers.stop(l.hello)
	l.s.timers.stop(l.full)
	l.queue.clear()
	l.s.clearSent(l, false)
}

// active reports whether the link is probed often. Only tunnels are: on a segment the
// hellos of all are heard by all, and there may be many.
func (l *link) active() bool { return l.Tunnel && l.s.now < l.activeUntil }

func (l *link) interval() time.Duration {
	switch {
	case !l.Tunnel:
		return l.s.timing.Segment
	case l.active():
		return l.s.timing.Active
	case !slices.ContainsFunc(l.neighbours, func(n *neighbour) bool { return n.alive }):
		return l.s.timing.Idle / 2 // its return is waited for
	}
	return l.s.timing.Idle
}

// often returns with how many hellos one IHU goes, which measures a round trip.
func (l *link) often() int {
	switch {
	case !l.Tunnel:
		return 3
	case l.active():
		return 2
	}
	return 1
}

// everybody is to whom packets for all neighbours of the link go.
func (l *link) everybody() netip.Addr {
	if l.Tunnel && len(l.neighbours) == 1 && l.neighbours[0].alive {
		return l.neighbours[0].address
	}
	return wire.Group
}

// room is how long a payload may be.
func (l *link) room() int {
	size := max(l.MTU, 1280) - headers
	if l.guard != nil {
		size -= l.guard.Overhead()
	}
	return size
}

// encoder returns the link's encoder, empty.
func (l *link) encoder() *wire.Encoder {
	if l.enc == nil {
		l.enc = wire.NewEncoder(l.room())
	}
	l.enc.Reset()
	return l.enc
}

// send sends TLVs, in as many packets as they need.
func (l *link) send(to netip.Addr, tlvs ...wire.TLV) {
	enc := l.encoder()
	for _, t := range tlvs {
		if enc.Add(t) {
			continue
		}
		l.emit(to, enc)
		enc.Add(t)
	}
	l.emit(to, enc)
}

// emit sends what an encoder holds, and empties it.
func (l *link) emit(to netip.Addr, enc *wire.Encoder) {
	if enc.Empty() {
		return
	}
	payload := bytes.Clone(enc.Bytes())
	enc.Reset()
	if l.guard != nil {
		payload = l.guard.Sign(payload, l.Address, to)
	}
	l.transmit(to, payload)
}

func (l *link) transmit(to netip.Addr, payload []byte) {
	l.meter.own++
	l.s.out.Send = append(l.s.out.Send, Datagram{Link: l.Name, To: to, Payload: payload})
}

// sendHello sends the next hello, and sets the time of the one after it.
func (l *link) sendHello() {
	interval := l.interval()
	next := l.s.now + interval
	if interval > slot {
		next -= next % slot // a router with many idle links wakes up for several at a time
	}
	l.s.timers.reset(l.hello, next)
	l.announced = interval
	l.turn++
	withIHU := l.turn >= l.often()
	if withIHU {
		l.turn = 0
	}
	if l.Tunnel && len(l.neighbours) == 1 && l.neighbours[0].alive && l.neighbours[0].hears() {
		n := l.neighbours[0]
		n.sayHello(withIHU)
		return
	}
	l.seqno++
	tlvs := []wire.TLV{wire.Hello{Seqno: l.seqno, Interval: wire.IntervalOf(interval), Stamped: true, Timestamp: stamp(l.s.now)}}
	for _, n := range l.neighbours {
		tlvs = append(tlvs, n.ihu(true))
	}
	l.send(wire.Group, tlvs...)
}

// stamp is a time as timestamps have it: microseconds, modulo 2^32 (RFC 9616 §3.1).
func stamp(t Time) uint32 { return uint32(t / time.Microsecond) }

// wake makes the link active from now on, if it is not.
func (l *link) wake(until Time) {
	was := l.active()
	l.activeUntil = max(l.activeUntil, until)
	if was || !l.active() {
		return
	}
	l.turn = 1
	l.sendHello() // with the new interval, so that the neighbour expects it
	for _, n := range l.neighbours {
		n.await()
	}
}

// handle takes a packet in.
func (l *link) handle(p Packet) {
	l.meter.own++
	from := p.From.WithZone("")
	if p.Port != wire.Port || !from.Is6() || !from.IsLinkLocalUnicast() || from == l.Address {
		l.s.malformed++
		return
	}
	if l.guard != nil {
		before := l.guard.Forged()
		ok, send := l.guard.Check(l.s.now, p.Payload, from, p.To.WithZone(""), p.Port)
		for _, r := range send {
			l.transmit(r.To, r.Payload)
		}
		l.s.unsigned += l.guard.Forged() - before
		if !ok {
			return
		}
	}
	packet, err := wire.Decode(p.Payload, from)
	if err != nil {
		l.s.malformed++
		return
	}
	l.s.malformed += uint64(packet.Malformed)
	n := l.neighbour(from)
	if n == nil {
		return
	}
	n.packet(packet.TLVs, min(p.At, l.s.now))
}

// neighbour returns the neighbour with an address, a new one where there is none; nil
// where there are too many. On a tunnel a new one takes the place of the old: there is one
// router at the other end, and WireGuard has said that it is this one.
func (l *link) neighbour(a netip.Addr) *neighbour {
	for _, n := range l.neighbours {
		if n.address == a {
			return n
		}
	}
	if l.Tunnel && len(l.neighbours) > 0 {
		l.forget(l.neighbours[0], "another router answers there now")
	}
	if len(l.neighbours) >= maxNeighbours {
		return nil
	}
	n := l.newNeighbour(a)
	n.takeOver()
	l.neighbours = append(l.neighbours, n)
	slices.SortFunc(l.neighbours, func(a, b *neighbour) int { return a.address.Compare(b.address) })
	return n
}

// forget takes a neighbour away.
func (l *link) forget(n *neighbour, why string) {
	n.die(why, false)
	l.s.lose(n) // also what came from one that was never alive
	l.s.timers.stop(n.overdue)
	l.s.timers.stop(n.patience)
	l.neighbours = slices.DeleteFunc(l.neighbours, func(m *neighbour) bool { return m == n })
}

// meter tells traffic from the speaker's own packets and from WireGuard's handshakes and
// keepalives, which kernels count too.
type meter struct {
	own     uint64 // packets of ours since the last count
	last    uint64
	counted bool
	second  Time // beginning of the second that is counted
	seen    int  // packets of others in it
	streak  int  // seconds in a row that had any
}

// Fewer packets of others than burst in a second, and in fewer than streak seconds in a
// row, are not traffic.
const (
	burst  = 4
	streak = 3
)

// traffic takes a count in; see Speaker.Traffic.
func (l *link) traffic(packets uint64) {
	m := &l.meter
	now := l.s.now
	others := int(packets-m.last) - int(m.own)
	if !m.counted || packets < m.last {
		others = 0
	}
	m.last, m.own, m.counted = packets, 0, true
	if now-m.second >= time.Second {
		if m.seen > 0 && now-m.second < 2*time.Second {
			m.streak++
		} else {
			m.streak = 0
		}
		m.second, m.seen = now, 0
	}
	// A packet that the kernel has counted and we have not handled yet evens out the next
	// time, so that a negative number is kept.
	m.seen += others
	if m.seen >= burst || m.streak >= streak && m.seen > 0 {
		l.wake(now + l.s.timing.Linger)
	}
}
