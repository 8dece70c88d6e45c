package babel

import (
	"fmt"
	"math"
	"time"

	"tombolo/internal/babel/wire"
)

// What a neighbour's cost is made of; docs/routing.md explains it with numbers.
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

	// sayAgain is how long a neighbour that began anew may take to announce its routes again.
	sayAgain = 5 * time.Second

	// The rxcost of a neighbour that loses nothing (RFC 8966 Appendix A): on a segment
	// that of babeld and BIRD for a wire.
	fullTunnel, fullSegment = 256, 96
)

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
		n.leave(true)
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
