package ruleset

import (
	"cmp"
	"slices"
)

// box is an element of a map with two keys: addresses, and ports of a protocol with what the map
// has for both.
type box struct {
	first, last wide
	ports       span[uint32]
}

// boxes are the elements of such a map, of which no two overlap, as a tree of segments: each node
// stands for some addresses, and has the ports of the boxes that hold all those, but not all of
// the node above. So those of one node do not overlap either, an address lies in one node of each
// height, and a box is in few of them.
type boxes struct {
	bounds []wide // each begins a segment that ends before the next
	starts []uint32
	ports  []span[uint32] // of node k from starts[k], ascending
}

// newBoxes returns the tree of some boxes.
func newBoxes(all []box) (*boxes, error) {
	if overlap(all) {
		return nil, errOverlap
	}
	t := &boxes{}
	for _, x := range all {
		t.bounds = append(t.bounds, x.first)
		if end, any := x.last.next(); any {
			t.bounds = append(t.bounds, end)
		}
	}
	slices.SortFunc(t.bounds, wide.compare)
	t.bounds = slices.Compact(t.bounds)
	n := len(t.bounds)
	nodes := make([][]span[uint32], 2*n)
	put := func(k int, s span[uint32]) { nodes[k] = append(nodes[k], s) }
	for _, x := range all {
		low, high := t.segment(x.first)+n, t.segment(x.last)+n+1
		for ; low < high; low, high = low/2, high/2 {
			if low%2 == 1 {
				put(low, x.ports)
				low++
			}
			if high%2 == 1 {
				high--
				put(high, x.ports)
			}
		}
	}
	t.starts = make([]uint32, 0, len(nodes)+1)
	for _, s := range nodes {
		t.starts = append(t.starts, uint32(len(t.ports)))
		slices.SortFunc(s, func(a, b span[uint32]) int { return cmp.Compare(a.first, b.first) })
		t.ports = append(t.ports, s...)
	}
	t.starts = append(t.starts, uint32(len(t.ports)))
	return t, nil
}

// segment returns which one an address lies in, -1 before the first.
func (t *boxes) segment(n wide) int {
	low, high := 0, len(t.bounds) // the first that begins after n lies between
	for low < high {
		middle := int(uint(low+high) >> 1)
		if n.less(t.bounds[middle]) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low - 1
}

// find returns the value of the box that an address and a port lie in.
func (t *boxes) find(n wide, port uint32) (uint32, bool) {
	k := t.segment(n)
	if k < 0 {
		return 0, false
	}
	for k += len(t.bounds); k > 0; k /= 2 {
		if from, to := t.starts[k], t.starts[k+1]; from < to {
			if value, found := findNarrow(t.ports[from:to], port); found {
				return value, true
			}
		}
	}
	return 0, false
}

// overlap reports whether two boxes do: it goes through the addresses, with the ports of all boxes
// around.
func overlap(all []box) bool {
	type event struct {
		at    wide
		opens bool
		ports span[uint32]
	}
	var events []event
	for _, x := range all {
		events = append(events, event{x.first, true, x.ports})
		if end, any := x.last.next(); any {
			events = append(events, event{end, false, x.ports})
		}
	}
	slices.SortFunc(events, func(a, b event) int {
		return cmp.Or(a.at.compare(b.at), cmp.Compare(one(a.opens), one(b.opens)))
	})
	var open []span[uint32]
	for _, e := range events {
		k, _ := slices.BinarySearchFunc(open, e.ports.first, func(s span[uint32], n uint32) int { return cmp.Compare(s.first, n) })
		if !e.opens {
			open = slices.Delete(open, k, k+1)
			continue
		}
		if k > 0 && open[k-1].last >= e.ports.first || k < len(open) && open[k].first <= e.ports.last {
			return true
		}
		open = slices.Insert(open, k, e.ports)
	}
	return false
}
