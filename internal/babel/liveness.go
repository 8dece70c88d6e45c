package babel

import (
	"fmt"
	"time"

	"tombolo/internal/babel/wire"
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

// warns looks whether our own way to a destination still lives when a neighbour has lost its
// way there: it may have gone by the same router, of whose death we would hear nothing for long
// on a link that carries nothing.
func (n *neighbour) warns(e *entry) {
	r := e.selected
	if r == nil || r.neighbour == n || e.route(n) == nil {
		return
	}
	if l := r.neighbour.link; l.Tunnel && !l.active() {
		r.neighbour.suspectNow()
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
	rtt, of, _ := n.rtts.within(n.link.s.now, rttWindow)
	if of == 0 {
		return blindProbe
	}
	return max(rtt, min(n.rtts.last(), 2*rtt))*5/4 + probeSlack
}

// die ends a neighbour: its routes go. silent says that it is no more than not heard: it is
// told so, in case it hears us.
func (n *neighbour) die(why string, silent bool) {
	if !n.alive {
		return
	}
	s := n.link.s
	up := n.cost < wire.Infinity
	n.alive, n.suspect, n.cost, n.txcost = false, false, wire.Infinity, wire.Infinity
	s.timers.stop(n.overdue)
	s.timers.stop(n.patience)
	n.reState()
	if silent {
		s.say(n.link, n.address, n.ihu(false))
	}
	if up {
		s.event(Event{Kind: NeighbourDown, Link: n.link.Name, Neighbour: n.address, Reason: why})
	}
	n.leave(silent)
}

// leave takes all that came from a neighbour away. What it was told counts as never said:
// it takes all that came from us away too. Where it does not, since it never learned of
// this, introduce retracts what it should not believe any more. silent says that nothing
// worse is known of it than a silence.
func (n *neighbour) leave(silent bool) {
	s := n.link.s
	if n.link.Tunnel {
		s.clearSent(n.link, true)
	}
	if !silent || n.link.mute {
		s.lose(n)
		return
	}
	for _, e := range s.order {
		s.silenced(e, n, 0)
	}
}
