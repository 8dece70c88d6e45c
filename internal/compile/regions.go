package compile

import (
	"cmp"
	"slices"

	"tombolo/internal/spec"
)

// regions are the parts of a network within which one kind of routing reaches from end to
// end: Babel regions, joined by links of two Babel routers, and static regions, joined by
// links of two others.
//
// Static routers filter by AllowedIPs: a prefix belongs to one peer, and a packet from it
// is dropped when it comes by another. So traffic between a static region and anything
// else must enter and leave by one and the same way, whatever Babel does meanwhile. The
// regions, each taken for one node, are a graph whose edges are the links of a Babel
// router and a static one. Of those only a spanning forest carries traffic (Kruskal: the
// cheapest first, equal ones by the names of their ends); its links are the doors.
//
// In a forest there is one way at most between two nodes, so the doors that a packet
// between two sites passes are given by the file, and the way back passes the same ones.
// What is between two doors is within one region: in a static region the one shortest path,
// the same from both its ends (see graph); in a Babel region any path at all, since its
// links take everything. And no best path leaves a region and comes back, because it would
// have to use a door twice. So the AllowedIPs of every static router are right for all
// that Babel may do, and a link that is no door carries nothing: with as little as its two
// ends' own addresses in the AllowedIPs, what one of them sends to the other and the
// replies would take different ways.
//
// Towards its Babel region the router at a door is the origin of everything behind it: the
// static region and the regions beyond that. Router-ids do not pass a static region, so
// each Babel region needs to know only its own.
type regions struct {
	of    []int         // of each site: the lowest site of its region
	doors map[int][]way // by region: the ways out of it
	used  map[[2]int]bool
}

// way is a door seen from the region that it leads out of.
type way struct{ from, to int } // sites

// newRegions finds the regions and the doors. static says which sites have no speaker.
func newRegions(n *spec.Network, g *graph, static []bool) *regions {
	r := &regions{of: make([]int, len(n.Sites)), doors: map[int][]way{}, used: map[[2]int]bool{}}
	parts := newParts(len(n.Sites))
	best := map[[2]int]crossing{} // by pair of regions
	g.each(func(a, b int, _ uint64) {
		if static[a] == static[b] {
			parts.join(a, b)
		}
	})
	for i := range r.of {
		r.of[i] = parts.of(i)
	}
	g.each(func(a, b int, weight uint64) {
		if static[a] == static[b] {
			return
		}
		x := crossing{way{a, b}, weight >> tieBits, n.Sites[a].Name, n.Sites[b].Name}
		if x.second < x.first {
			x.first, x.second = x.second, x.first
		}
		pair := [2]int{min(r.of[a], r.of[b]), max(r.of[a], r.of[b])}
		if other, met := best[pair]; !met || compareCrossings(x, other) < 0 {
			best[pair] = x
		}
	})
	crossings := make([]crossing, 0, len(best))
	for _, x := range best {
		crossings = append(crossings, x)
	}
	slices.SortFunc(crossings, compareCrossings)
	for _, x := range crossings {
		if a, b := x.from, x.to; parts.join(a, b) {
			r.doors[r.of[a]] = append(r.doors[r.of[a]], way{a, b})
			r.doors[r.of[b]] = append(r.doors[r.of[b]], way{b, a})
			r.used[[2]int{a, b}], r.used[[2]int{b, a}] = true, true
		}
	}
	return r
}

// crossing is a link of a Babel router and a static one.
type crossing struct {
	way
	cost          uint64
	first, second string // names of its ends, sorted
}

func compareCrossings(x, y crossing) int {
	return cmp.Or(cmp.Compare(x.cost, y.cost), cmp.Compare(x.first, y.first), cmp.Compare(x.second, y.second))
}

// carries reports whether the link between two sites carries traffic.
func (r *regions) carries(a, b int) bool { return r.of[a] == r.of[b] || r.used[[2]int{a, b}] }

// roads returns the links that carry traffic.
func (r *regions) roads(g *graph) *graph {
	out := &graph{edges: make([][]edge, len(g.edges))}
	for a, edges := range g.edges {
		kept := edges
		for i, e := range edges {
			if !r.carries(a, e.to) {
				kept = slices.DeleteFunc(slices.Clone(edges[i:]), func(e edge) bool { return !r.carries(a, e.to) })
				kept = slices.Concat(edges[:i], kept)
				break
			}
		}
		out.edges[a] = kept
	}
	return out
}

// out returns, for each other region, the door by which a region leads there.
func (r *regions) out(region int) map[int]way {
	first := map[int]way{}
	type step struct {
		region int
		by     way
	}
	var queue []step
	for _, d := range r.doors[region] {
		queue = append(queue, step{r.of[d.to], d})
	}
	for ; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		first[at.region] = at.by
		for _, d := range r.doors[at.region] {
			next := r.of[d.to]
			if _, known := first[next]; !known && next != region {
				queue = append(queue, step{next, at.by})
			}
		}
	}
	return first
}

// parts are disjoint sets of sites.
type parts []int

func newParts(n int) parts {
	p := make(parts, n)
	for i := range p {
		p[i] = i
	}
	return p
}

// of returns the lowest member of a site's set.
func (p parts) of(i int) int {
	for p[i] != i {
		p[i] = p[p[i]]
		i = p[i]
	}
	return i
}

// join unites the sets of two sites, and reports whether they were two.
func (p parts) join(a, b int) bool {
	a, b = p.of(a), p.of(b)
	p[max(a, b)] = min(a, b)
	return a != b
}
