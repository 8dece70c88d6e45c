package mac

import (
	"bytes"
	"net/netip"
	"slices"
	"time"
)

// neighbour returns that with an address, and makes it if need be. It returns nil where
// there are too many. What was not heard of for long is forgotten; it will be challenged
// like any stranger.
func (g *Guard) neighbour(now time.Duration, a netip.Addr) *neighbour {
	n := g.neighbours[a]
	if n != nil && !n.expired(now) {
		return n
	}
	if n == nil && len(g.neighbours) >= maxNeighbours && !g.makeRoom(now) {
		return nil
	}
	n = &neighbour{heard: now}
	g.neighbours[a] = n
	return n
}

// makeRoom forgets who is expired and, if nobody is, the stranger that came first.
// Neighbours that have answered do not make room for strangers.
func (g *Guard) makeRoom(now time.Duration) bool {
	var oldest netip.Addr
	for a, n := range g.neighbours {
		switch {
		case n.expired(now):
			delete(g.neighbours, a)
		case n.known:
		case !oldest.IsValid() || n.heard < g.neighbours[oldest].heard ||
			n.heard == g.neighbours[oldest].heard && a.Less(oldest): // whatever a map's order
			oldest = a
		}
	}
	if len(g.neighbours) >= maxNeighbours && oldest.IsValid() {
		delete(g.neighbours, oldest)
	}
	return len(g.neighbours) < maxNeighbours
}

func (n *neighbour) expired(now time.Duration) bool {
	if n.known {
		return now-n.heard >= neighbourLife
	}
	return now-n.heard >= challengeLife
}

// answered reports whether one of the answers is to the challenge that waits.
func (n *neighbour) answered(now time.Duration, replies [][]byte) bool {
	return n.nonce != nil && now-n.nonceMade < challengeLife &&
		slices.ContainsFunc(replies, func(r []byte) bool { return bytes.Equal(r, n.nonce) })
}

// confirm takes over the index and the counter of an answer. Nothing that was sent before
// it is accepted any more, by either way.
func (n *neighbour) confirm(index []byte, counter uint32) {
	n.index, n.known, n.nonce = bytes.Clone(index), true, nil
	n.unicast = window{highest: counter, seen: ^uint64(0)}
	n.group = n.unicast
}

// window returns the counters of packets to an address: those to groups are often late,
// behind many that were sent to us later (RFC 9467 §3.1).
func (n *neighbour) window(to netip.Addr) *window {
	if to.IsMulticast() {
		return &n.group
	}
	return &n.unicast
}

// window is which counters were seen of late, so that packets may come in another order
// than they were sent in, each once (RFC 9467 §3.2).
type window struct {
	highest uint32
	seen    uint64 // bit i: highest - i
}

// take reports whether a counter is new, and remembers it. What is older than the window
// is not.
func (w *window) take(counter uint32) bool {
	if counter > w.highest {
		w.seen = w.seen<<min(uint64(counter-w.highest), 64) | 1
		w.highest = counter
		return true
	}
	age := w.highest - counter
	if age >= 64 || w.seen&(1<<age) != 0 {
		return false
	}
	w.seen |= 1 << age
	return true
}
