package sim

import (
	"time"
)

// Phase is what happened in a network from one moment until it was at rest again.
type Phase struct {
	Took    time.Duration // until the last change of a forwarding table
	Changes int           // of forwarding tables
	Bytes   uint64        // over all wires
	Packets uint64
	Busiest uint64 // bytes over the wire that carried most
	Report  Report // at the end
}

// Watch does something, lets the network run for a time, and says what happened.
func (n *Net) Watch(rest time.Duration, do func()) Phase {
	from, changes := n.Now, n.Changes
	bytes, packets := n.Sent()
	before := make([]uint64, len(n.Wires))
	for i, w := range n.Wires {
		before[i] = w.Bytes[0] + w.Bytes[1]
	}
	n.Changed = n.Now
	do()
	n.Run(n.Now + rest)
	p := Phase{Took: n.Changed - from, Changes: n.Changes - changes}
	p.Bytes, p.Packets = n.Sent()
	p.Bytes, p.Packets = p.Bytes-bytes, p.Packets-packets
	for i, w := range n.Wires {
		p.Busiest = max(p.Busiest, w.Bytes[0]+w.Bytes[1]-before[i])
	}
	p.Report = n.Report()
	return p
}

// Flap cuts a share of the wires and heals them again, at random, for a time.
func (n *Net) Flap(share float64, every, during time.Duration) {
	flapping := make([]*Wire, 0, len(n.Wires))
	for _, w := range n.Wires {
		if n.rand.Float64() < share {
			flapping = append(flapping, w)
		}
	}
	step := every / time.Duration(max(len(flapping), 1))
	for end := n.Now + during; n.Now < end; n.Run(n.Now + step) {
		w := flapping[n.rand.IntN(len(flapping))]
		cut := !w.Cut[0]
		w.Cut = [2]bool{cut, cut}
	}
	for _, w := range flapping {
		w.Cut = [2]bool{}
	}
}

// Busiest returns the wire that most ways are sent into, of those whose ends have others.
func (n *Net) Busiest() *Wire {
	ways := map[*Wire]int{}
	for _, node := range n.Nodes {
		for _, hop := range node.FIB {
			if !hop.Unreachable {
				ways[node.ends[hop.Link].wire]++
			}
		}
	}
	var best *Wire
	for _, w := range n.Wires {
		if min(len(w.A.ends), len(w.B.ends)) > 2 && (best == nil || ways[w] > ways[best]) {
			best = w
		}
	}
	return best
}

// CutBoth cuts or heals a wire in both directions.
func (w *Wire) CutBoth(cut bool) { w.Cut = [2]bool{cut, cut} }
