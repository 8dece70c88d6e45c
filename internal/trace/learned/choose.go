package learned

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
)

// way is how a router hands on packets to a key.
type way struct {
	key
	edge   *edge  // that it was heard by; nil: who announces it is no router of ours
	device string // of the router; empty: it knows none, or its own
}

// group is keys that the same routers announce, and that all others take from the same ones:
// everybody goes the same way to each of them.
type group struct {
	key     key
	members []int // all its keys, by number
	origins []origin
	takes   []bitset // by origin: the routers that take it from that one, by whatever link
	foreign map[*link]bool
}

type bitset []uint64

func (s bitset) set(i int)      { s[i/64] |= 1 << (i % 64) }
func (s bitset) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

// choose has every router choose its ways to all that is announced.
func choose(nodes []*node, announced map[key][]origin) {
	keys := slices.SortedFunc(maps.Keys(announced), compareKeys)
	s := newSearch(nodes)
	ways := make([]way, len(nodes)*len(keys)) // by router and key
	for _, g := range groups(nodes, keys, announced) {
		s.run(g)
		for i := range nodes {
			w := way{edge: s.by[i], device: s.here[i]}
			if w.edge != nil {
				w.device = w.edge.link.Device
			}
			for _, k := range g.members {
				w.key = keys[k]
				ways[i*len(keys)+k] = w
			}
		}
	}
	for i, n := range nodes {
		n.learned = ways[i*len(keys) : (i+1)*len(keys)]
	}
}

// groups gathers the keys. That each has few origins and each router one list of what it takes
// makes it cheap.
func groups(nodes []*node, keys []key, announced map[key][]origin) []*group {
	size := (len(nodes) + 63) / 64
	all := make([]group, len(keys))
	at := make(map[key]*group, len(keys))
	for i, k := range keys {
		g := &all[i]
		g.key, g.members, g.origins = k, []int{i}, announced[k]
		for range g.origins {
			g.takes = append(g.takes, make(bitset, size))
		}
		at[k] = g
	}
	for _, n := range nodes {
		if n.router.Babel != nil && len(n.links) > 0 {
			n.take(all, at)
		}
	}
	same := map[string]*group{}
	var out []*group
	for i := range all {
		g := &all[i]
		if len(g.foreign) > 0 { // they are few
			out = append(out, g)
			continue
		}
		id := g.id()
		if first := same[id]; first != nil {
			first.members = append(first.members, i)
			continue
		}
		same[id] = g
		out = append(out, g)
	}
	return out
}

// take notes what a router takes, as state.Babel says.
func (n *node) take(all []group, at map[key]*group) {
	for _, a := range n.router.Babel.Accept {
		if a.Within {
			for i := range all {
				if g := &all[i]; covers(a.Dst, g.key) {
					for o := range g.origins {
						g.takes[o].set(n.index)
					}
				}
			}
			continue
		}
		g := at[key{a.Dst, a.Src}]
		if g == nil {
			continue
		}
		for i, o := range g.origins {
			if slices.Contains(a.Origins, o.site()) {
				g.takes[i].set(n.index)
			}
		}
	}
	for _, l := range n.links {
		for _, p := range l.Foreign {
			for i := range all {
				if g := &all[i]; covers(p, g.key) {
					if g.foreign == nil {
						g.foreign = map[*link]bool{}
					}
					g.foreign[l] = true
				}
			}
		}
	}
}

// id is the same for groups that are one.
func (g *group) id() string {
	var b []byte
	for i, o := range g.origins {
		b = binary.AppendUvarint(b, uint64(o.node.index))
		b = binary.AppendUvarint(b, uint64(o.metric))
		b = binary.AppendUvarint(b, uint64(o.site()))
		b = append(binary.AppendUvarint(b, uint64(len(o.device))), o.device...)
		for _, x := range g.takes[i] {
			b = binary.LittleEndian.AppendUint64(b, x)
		}
	}
	return string(b)
}

// search is Dijkstra's, from all who announce a key at once: each begins with the metric that
// it announces.
type search struct {
	nodes []*node
	best  []int // metrics
	from  []int // the origin of the best way, as an index of group.origins
	done  []bool
	by    []*edge  // the best way; nil: none, or the router's own
	here  []string // the device by which the best way leaves, if to no router of ours
	heap  []reached
}

// reached is a router in the heap.
type reached struct{ metric, node int }

const unknown = -1

func newSearch(nodes []*node) *search {
	n := len(nodes)
	return &search{
		nodes: nodes, best: make([]int, n), from: make([]int, n), done: make([]bool, n),
		by: make([]*edge, n), here: make([]string, n),
	}
}

func (s *search) run(g *group) {
	for i := range s.nodes {
		s.from[i], s.done[i], s.by[i], s.here[i] = unknown, false, nil, ""
	}
	for i, o := range g.origins {
		at := o.node.index
		s.from[at], s.best[at], s.here[at] = i, o.metric, o.device
		s.push(reached{o.metric, at})
	}
	for len(s.heap) > 0 {
		r := s.pop()
		if s.done[r.node] {
			continue
		}
		s.done[r.node] = true
		// Each announces the one way that it goes itself, and no other that it knows.
		o := s.from[r.node]
		site := g.origins[o].site()
		heard := s.nodes[r.node].heard
		for i := range heard {
			if e := &heard[i]; s.better(e, r.metric+e.cost) && e.takes(g, o, site) {
				s.take(e, o, r.metric+e.cost)
			}
		}
	}
}

// takes reports whether a router takes what it hears: babel's Speaker.allowed.
func (e *edge) takes(g *group, origin int, site uint32) bool {
	if e.site == site {
		return false // it goes by us
	}
	if g.foreign != nil && g.foreign[e.link] {
		return true
	}
	return (e.only == nil || slices.Contains(e.only, site)) && g.takes[origin].has(e.to)
}

// better reports whether a way is better than what a router has. Its own goes before one that is
// as good.
func (s *search) better(e *edge, metric int) bool {
	if s.from[e.to] == unknown {
		return true
	}
	old := s.by[e.to]
	switch {
	case s.done[e.to] || metric > s.best[e.to]:
		return false
	case old == nil:
		return metric < s.best[e.to]
	}
	return metric < s.best[e.to] || e.order < old.order
}

// take has a router go a way.
func (s *search) take(e *edge, origin, metric int) {
	nearer := s.from[e.to] == unknown || metric < s.best[e.to]
	s.from[e.to], s.best[e.to], s.by[e.to], s.here[e.to] = origin, metric, e, ""
	if nearer {
		s.push(reached{metric, e.to})
	}
}

func (s *search) push(r reached) {
	h := append(s.heap, r)
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if h[up].metric <= h[i].metric {
			break
		}
		h[up], h[i] = h[i], h[up]
		i = up
	}
	s.heap = h
}

func (s *search) pop() reached {
	h := s.heap
	top, last := h[0], len(h)-1
	h[0] = h[last]
	h = h[:last]
	for i := 0; ; {
		down := 2*i + 1
		if down >= last {
			break
		}
		if down+1 < last && h[down+1].metric < h[down].metric {
			down++
		}
		if h[i].metric <= h[down].metric {
			break
		}
		h[i], h[down] = h[down], h[i]
		i = down
	}
	s.heap = h
	return top
}

// covers reports whether a prefix is a key's destination, or lies around it.
func covers(p netip.Prefix, k key) bool {
	return p.Bits() <= k.dst.Bits() && p.Contains(k.dst.Addr())
}
