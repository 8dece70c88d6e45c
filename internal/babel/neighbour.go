package babel

import (
	"math"
	"net/netip"
	"time"

	"tombolo/internal/babel/wire"
)

// neighbour is another router on a link.
//
//	new ──(it hears us, and the round trip is known)──▶ up ◀──▶ suspect ──▶ dead
//	                                                     ▲                     │
//	                                                     └──── hello ──────────┘
//
// One that does not hear us is "one-way", whatever we hear.
type neighbour struct {
	link    *link
	address netip.Addr

	alive   bool
	born    Time // when it became alive
	ups     int  // how often packets could go through it
	upSince Time // the last time that they could
	since   Time // of the state
	state   string

	heard     Time          // the last packet
	helloAt   Time          // the last hello
	present   Time          // since when there was no long time without one
	interval  time.Duration // until the next, as the last one said
	multicast seqnos
	unicast   seqnos
	lost      losses
	late      time.Duration // how late hellos come at worst; decays

	seqno  uint16 // of our unicast hellos to it
	dumped Time   // when it was last sent everything because it asked
	wants  bool   // the next updates to it ask it for everything
	denied bool   // it announced what it may not

	// forgot says that it may have lost its memory: it is told everything when it says that
	// it hears us. Before, it may not take what it is told.
	forgot bool

	// What its IHUs say.
	txcost   uint16
	ihuUntil Time

	// Its last timestamp, and when it came, to be repeated in an IHU.
	stamped bool
	stamp   uint32
	stampAt Time
	rtts    rtts

	cost uint16 // wire.Infinity: nothing goes through it

	overdue  *timer // the next sign of life
	suspect  bool
	probes   int
	excused  int
	patience *timer // the end of an IHU's life, or of waiting for a round trip
}

func (l *link) newNeighbour(a netip.Addr) *neighbour {
	n := &neighbour{link: l, address: a, txcost: wire.Infinity, cost: wire.Infinity, since: l.s.now, state: "new"}
	n.seqno = uint16(l.s.rand.Uint32())
	n.overdue = newTimer(n.onOverdue)
	n.patience = newTimer(func(Time) { n.reckon() })
	return n
}

// hears reports whether it has said that it hears us, lately.
func (n *neighbour) hears() bool { return n.txcost < wire.Infinity && n.link.s.now < n.ihuUntil }

// packet takes the TLVs of a packet in that came at a time.
func (n *neighbour) packet(tlvs []wire.TLV, at Time) {
	n.heard = max(n.heard, at)
	var hello wire.Hello // the one whose timestamp goes with the IHU in the same packet
	for _, t := range tlvs {
		if h, ok := t.(wire.Hello); ok {
			n.takeHello(h, at)
			hello = h
		}
	}
	if n.alive {
		n.await()
	}
	for _, t := range tlvs {
		switch t := t.(type) {
		case wire.IHU:
			if !t.Address.IsValid() || t.Address == n.link.Address {
				n.takeIHU(t, hello, at)
			}
		case wire.AckRequest:
			n.link.s.say(n.link, n.address, wire.Ack{Opaque: t.Opaque})
		case wire.Ack:
			n.link.queue.acknowledged(n, t.Opaque)
		case wire.Update:
			n.takeUpdate(t)
		case wire.RouteRequest:
			n.takeRouteRequest(t)
		case wire.SeqnoRequest:
			n.takeSeqnoRequest(t)
		}
	}
}

func (n *neighbour) takeHello(h wire.Hello, at Time) {
	if !n.alive {
		n.multicast, n.unicast, n.lost = seqnos{}, seqnos{}, losses{}
	}
	kind := &n.multicast
	if h.Unicast {
		kind = &n.unicast
	}
	if n.alive && kind.anew(h.Seqno) {
		n.beganAnew()
	}
	known := kind.known
	if n.helloAt == 0 || at-n.helloAt > n.silence() {
		n.present = at
	}
	missing, ok := kind.take(h.Seqno)
	if !ok {
		return
	}
	for range missing {
		n.lost.add(true)
	}
	n.lost.add(false)
	n.late -= n.late / 16
	if n.alive && known && missing == 0 && n.interval > 0 {
		n.late = min(max(n.late, at-n.helloAt-n.interval), 8*slack)
	}
	n.helloAt = at
	if h.Interval > 0 {
		n.interval = h.Interval.Duration()
	}
	if h.Stamped {
		n.stamped, n.stamp, n.stampAt = true, h.Timestamp, at
	}
	if !n.alive {
		n.revive()
	}
}

// revive begins anew with a neighbour that was not there: nothing of before counts.
func (n *neighbour) revive() {
	n.alive, n.born = true, n.link.s.now
	n.late = 0
	n.rtts = rtts{}
	n.reckon()
	n.greet()
}

// greet sees to it that a neighbour which has begun knows at once that we hear it.
func (n *neighbour) greet() {
	l := n.link
	l.activeUntil = max(l.activeUntil, l.s.now+learning)
	l.turn = math.MaxInt32 - 1
	l.s.timers.sooner(l.hello, l.s.now+l.s.upTo(2*time.Millisecond))
}

// beganAnew is for a neighbour that lost its memory so fast that it was never missed. It has
// to be told everything. What it told goes, but for what is its own: it has forgotten its
// feasibility distances, so that its ways may lead through us. Its own it will say again.
func (n *neighbour) beganAnew() {
	s := n.link.s
	n.multicast, n.unicast, n.dumped = seqnos{}, seqnos{}, 0
	n.lost = losses{} // its new numbers may have been near the old ones, of which some seemed to be missing
	n.present = s.now
	for _, e := range s.order {
		if k := e.kept; k != nil && k.neighbour == n {
			k.said = 0 // and since now, see present
		}
		r := e.route(n)
		switch {
		case r == nil:
		case r.ref == 0:
			r.expires = min(r.expires, s.now+sayAgain)
		default:
			s.silenced(e, n, 0)
		}
	}
	n.greet()
	n.forgot = !n.link.Tunnel
	if n.link.Tunnel {
		s.clearSent(n.link, true)
	}
	if n.cost < wire.Infinity {
		s.event(Event{Kind: NeighbourUp, Link: n.link.Name, Neighbour: n.address, Reason: "it began anew"})
		n.link.queue.introduce(n)
	}
}

// retractedAll is for a neighbour that took back all that it announced: it has just begun, or
// it goes.
func (n *neighbour) retractedAll() {
	n.link.s.lose(n)
	n.forgot = true
	if n.link.Tunnel {
		n.link.s.clearSent(n.link, true)
	}
}

func (n *neighbour) takeIHU(t wire.IHU, hello wire.Hello, at Time) {
	n.txcost = t.RxCost
	n.ihuUntil = n.link.s.now + t.Interval.Duration()*7/2
	if hello.Stamped && t.Stamped {
		// Our own clock for one part, its own for the other (RFC 9616 §3.2).
		away := time.Duration(stamp(at)-t.Origin) * time.Microsecond
		there := time.Duration(hello.Timestamp-t.Receive) * time.Microsecond
		// A hello of ours from before we heard the neighbour may have waited in the tunnel
		// for its handshake.
		sane := away <= at-n.born && there < time.Minute
		if rtt := away - there; sane && rtt > -time.Millisecond && rtt < maxRTT {
			n.rtts.add(n.link.s.now, max(rtt, 0))
		}
	}
	if n.forgot && n.hears() {
		n.forgot = false
		if n.cost < wire.Infinity { // or it is introduced when it is
			n.link.queue.introduce(n)
		}
	}
	n.reckon()
}

func (n *neighbour) reState() {
	state := "up"
	switch {
	case !n.alive && n.born == 0 && n.heard == 0:
		state = "new"
	case !n.alive:
		state = "dead"
	case n.suspect:
		state = "suspect"
	case !n.hears():
		state = "one-way"
	case n.cost == wire.Infinity:
		state = "new"
	}
	if state != n.state {
		n.state, n.since = state, n.link.s.now
	}
}

// sayHello sends a unicast hello.
func (n *neighbour) sayHello(withIHU bool) {
	n.seqno++
	tlvs := []wire.TLV{wire.Hello{
		Unicast: true, Seqno: n.seqno, Interval: wire.IntervalOf(n.link.announced),
		Stamped: true, Timestamp: stamp(n.link.s.now),
	}}
	if withIHU {
		tlvs = append(tlvs, n.ihu(false))
	}
	n.link.send(n.address, tlvs...)
}

// ihu returns what we say of how we hear it; addressed for a packet to all.
func (n *neighbour) ihu(addressed bool) wire.IHU {
	t := wire.IHU{RxCost: n.rxcost(), Interval: wire.IntervalOf(ihuLife)}
	if addressed {
		t.Address = n.address
	}
	if n.stamped && n.alive && n.link.s.now-n.stampAt < time.Minute {
		t.Stamped, t.Origin, t.Receive = true, n.stamp, stamp(n.stampAt)
	}
	return t
}
