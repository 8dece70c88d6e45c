package babel

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	"tombolo/internal/babel/wire"
)

// What a neighbour's cost is made of; docs/metric.md explains it with numbers.
const (
	// unit is what a metric of 1 means. Half a second of delay is 5,000, and the largest
	// metric 6.5 s.
	unit = 100 * time.Microsecond

	// lossCost is the cost of losing everything: one percent counts as 5 ms.
	lossCost = 5000

	// noLoss is the share of lost hellos that counts as none: a single one of a window.
	noLoss = 0.015

	// blindAfter is how long a neighbour that tells no times is waited for, before it is
	// used without a round trip.
	blindAfter = 3 * time.Second

	// ownAgain is how long a neighbour that began anew may take to announce its own routes.
	ownAgain = 5 * time.Second

	// The rxcost of a neighbour that loses nothing (RFC 8966 Appendix A): on a segment
	// that of babeld and BIRD for a wire.
	fullTunnel, fullSegment = 256, 96
)

// How a neighbour that is silent is found to be dead.
const (
	slack      = 25 * time.Millisecond // that a hello may be late by
	probeGap   = 20 * time.Millisecond
	probeSlack = 30 * time.Millisecond // on top of a round trip and a quarter
	blindProbe = 500 * time.Millisecond
	fewProbes  = 3
	manyProbes = 8 // where much is lost
	stall      = 15 * time.Millisecond
	excuses    = 3
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
	// So that it knows at once that we hear it.
	n.link.activeUntil = max(n.link.activeUntil, n.link.s.now+learning)
	n.link.turn = math.MaxInt32 - 1
	n.link.s.timers.sooner(n.link.hello, n.link.s.now+n.link.s.upTo(2*time.Millisecond))
}

// beganAnew is for a neighbour that lost its memory so fast that it was never missed. It has
// to be told everything. What it told goes, but for what is its own: it has forgotten its
// feasibility distances, so that its ways may lead through us. Its own it will say again.
func (n *neighbour) beganAnew() {
	s := n.link.s
	n.multicast, n.unicast, n.dumped = seqnos{}, seqnos{}, 0
	for _, e := range s.order {
		r := e.route(n)
		switch {
		case r == nil:
		case r.ref == 0:
			r.expires = min(r.expires, s.now+ownAgain)
		default:
			s.retracted(e, n)
		}
	}
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

// rxcost is what we tell it of how we hear it.
func (n *neighbour) rxcost() uint16 {
	if !n.alive {
		return wire.Infinity
	}
	return uint16(float64(n.full()) / (1 - min(n.rxLoss(), 0.99)))
}

func (n *neighbour) full() uint16 {
	if n.link.Tunnel {
		return fullTunnel
	}
	return fullSegment
}

// rxLoss is the share of its hellos that did not come.
func (n *neighbour) rxLoss() float64 {
	p := n.lost.share()
	if p < noLoss {
		return 0
	}
	return p
}

// loss is the share of packets lost on the way there and back.
func (n *neighbour) loss() float64 {
	tx := 0.0
	if n.txcost < wire.Infinity && n.txcost > n.full() {
		tx = 1 - float64(n.full())/float64(n.txcost)
	}
	return 1 - (1-n.rxLoss())*(1-tx)
}

// reckon computes the cost anew, and what follows where it changed.
func (n *neighbour) reckon() {
	s, was := n.link.s, n.cost
	n.cost = n.reckoned()
	n.reState()
	if n.alive {
		next := n.ihuUntil
		if blind := n.born + blindAfter; n.rtts.count == 0 && s.now < blind && (next <= s.now || next > blind) {
			next = blind
		}
		if next > s.now {
			s.timers.reset(n.patience, next)
		}
	}
	switch {
	case n.cost == was:
	case was == wire.Infinity:
		n.upSince = s.now
		n.ups++
		s.event(Event{Kind: NeighbourUp, Link: n.link.Name, Neighbour: n.address, Reason: n.figures()})
		n.link.queue.introduce(n)
		s.reroute(n)
	case n.cost == wire.Infinity:
		s.event(Event{Kind: NeighbourDown, Link: n.link.Name, Neighbour: n.address, Reason: "it does not hear us"})
		n.leave()
	default:
		s.reroute(n)
	}
}

func (n *neighbour) reckoned() uint16 {
	now := n.link.s.now
	if !n.alive || !n.hears() {
		return wire.Infinity
	}
	cost := float64(max(n.link.Cost, 1))
	if rtt, ok := n.rtts.smallest(now); ok {
		cost += float64(rtt)/float64(unit) + lossCost*n.loss()
	} else if now < n.born+blindAfter {
		return wire.Infinity
	} else {
		cost += float64(n.txcost) // it tells no times: a cost as others have it
	}
	c := uint16(min(math.Round(cost), wire.Infinity-1))
	// What is measured trembles. Nobody is told of less than this.
	if n.cost != wire.Infinity && max(c, n.cost)-min(c, n.cost) <= max(3, n.cost/64) {
		return n.cost
	}
	return max(c, 1)
}

// figures says in words what the cost is made of.
func (n *neighbour) figures() string {
	text := "no round trip is known"
	if rtt, ok := n.rtts.smallest(n.link.s.now); ok {
		text = fmt.Sprintf("%.1f ms", float64(rtt)/float64(time.Millisecond))
	}
	if p := n.loss(); p > 0 {
		text += fmt.Sprintf(", %.1f %% lost", 100*p)
	}
	return text
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

// await sets the time of the next sign of life. On a link that carries traffic one is
// wanted as often as we send hellos ourselves, whatever the neighbour announces: it may not
// have noticed, for it is behind a link that is dead.
func (n *neighbour) await() {
	if !n.alive {
		return
	}
	n.excused = 0
	if n.suspect {
		n.suspect = false
		n.reState()
	}
	expect := n.interval
	if expect == 0 {
		expect = 4 * time.Second // of an unscheduled hello nothing follows
	}
	if n.link.active() {
		expect = min(expect, n.link.s.timing.Active)
	}
	n.link.s.timers.reset(n.overdue, n.heard+expect+max(slack, expect/8)+n.late)
}

// suspectNow asks for a sign of life before the next is due.
func (n *neighbour) suspectNow() {
	if n.alive && !n.suspect {
		n.link.s.timers.reset(n.overdue, n.link.s.now)
	}
}

// onOverdue runs when a sign of life is overdue, and then as long as none comes.
func (n *neighbour) onOverdue(now Time) {
	if !n.alive {
		return
	}
	if !n.suspect {
		n.suspect, n.probes = true, 0
		n.reState()
	}
	if now-n.overdue.at > stall && n.excused < excuses {
		// We are late ourselves: what it sent may still wait for us.
		n.excused++
		n.probes = min(n.probes, n.enough()-1)
	}
	if n.probes == n.enough() {
		n.die(fmt.Sprintf("no answer to %d probes, %d ms after the last packet", n.probes, (now-n.heard)/time.Millisecond), true)
		return
	}
	n.probes++
	s := n.link.s
	s.opaque++
	s.say(n.link, n.address, wire.AckRequest{Opaque: s.opaque, Interval: wire.IntervalOf(10 * time.Millisecond)})
	wait := probeGap
	if n.probes == n.enough() {
		wait = n.roundTrip() + n.late
	}
	s.timers.reset(n.overdue, now+wait)
}

// enough is how many probes in a row must be lost.
func (n *neighbour) enough() int { return min(fewProbes+int(n.loss()*20), manyProbes) }

// roundTrip is the time within which an answer must come.
func (n *neighbour) roundTrip() time.Duration {
	rtt, ok := n.rtts.smallest(n.link.s.now)
	if !ok {
		return blindProbe
	}
	return max(rtt, min(n.rtts.last(), 2*rtt))*5/4 + probeSlack
}

// die ends a neighbour: its routes go. tell says so to it, in case it hears us.
func (n *neighbour) die(why string, tell bool) {
	if !n.alive {
		return
	}
	s := n.link.s
	up := n.cost < wire.Infinity
	n.alive, n.suspect, n.cost, n.txcost = false, false, wire.Infinity, wire.Infinity
	s.timers.stop(n.overdue)
	s.timers.stop(n.patience)
	n.reState()
	if tell {
		s.say(n.link, n.address, n.ihu(false))
	}
	if up {
		s.event(Event{Kind: NeighbourDown, Link: n.link.Name, Neighbour: n.address, Reason: why})
	}
	n.leave()
}

// leave takes all that came from a neighbour away. What it was told counts as never said:
// it takes all that came from us away too. Where it does not, since it never learned of
// this, introduce retracts what it should not believe any more.
func (n *neighbour) leave() {
	if n.link.Tunnel {
		n.link.s.clearSent(n.link, true)
	}
	n.link.s.lose(n)
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
