package sim

import (
	"slices"
	"time"
)

// Phase is what happened in a network from one moment until it was at rest again.
type Phase struct {
	Whole   time.Duration // until every router had a way to all that it is connected with
	Last    time.Duration // until the last change of a forwarding table
	Changes int           // of forwarding tables
	Bytes   uint64        // over all wires
	Packets uint64
	Median  uint64 // bytes over a wire, both ways
	Busiest uint64 // over the wire that carried most
	Report  Report // at the end
}

// Watch does something, lets the network run for a time, and says what happened; the times
// are counted from when it was done, and Whole is exact to a tenth of itself, or 0.1 s.
func (n *Net) Watch(rest time.Duration, do func()) Phase {
	changes := n.Changes
	bytes, packets := n.Sent()
	before := make([]uint64, len(n.Wires))
	for i, w := range n.Wires {
		before[i] = w.Bytes[0] + w.Bytes[1]
	}
	do()
	n.Changed = n.Now
	from := n.Now
	p := Phase{Whole: rest}
	connected := n.connected()
	for n.Now < from+rest {
		n.Run(min(from+rest, n.Now+max(100*time.Millisecond, (n.Now-from)/10)))
		if n.whole(connected) {
			p.Whole = n.Now - from
			break
		}
	}
	n.Run(from + rest)
	p.Last, p.Changes = n.Changed-from, n.Changes-changes
	p.Bytes, p.Packets = n.Sent()
	p.Bytes, p.Packets = p.Bytes-bytes, p.Packets-packets
	for i, w := range n.Wires {
		before[i] = w.Bytes[0] + w.Bytes[1] - before[i]
	}
	slices.Sort(before)
	p.Median, p.Busiest = before[len(before)/2], before[len(before)-1]
	p.Report = n.Report()
	return p
}

// connected numbers the parts of the network: routers with the same number are connected.
// A dead one has none.
func (n *Net) connected() map[*Node]int {
	part := map[*Node]int{}
	for i, node := range n.Nodes {
		if part[node] == 0 {
			for other := range n.Shortest(node) {
				part[other] = i + 1
			}
		}
	}
	return part
}

// whole reports whether all that are connected have ways to each other's prefixes.
func (n *Net) whole(part map[*Node]int) bool {
	for _, owner := range n.Nodes {
		for _, a := range owner.Own {
			for _, node := range n.Nodes {
				if part[node] == 0 || part[node] != part[owner] {
					continue
				}
				if _, ok := n.Reaches(node, a.Key); !ok {
					return false
				}
			}
		}
	}
	return true
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
