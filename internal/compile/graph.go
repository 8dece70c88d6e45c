package compile

import (
	"hash/fnv"

	"tombolo/internal/spec"
)

// graph holds links, with the cost of each.
//
// AllowedIPs also filter what comes in, so a static network only works when the way back
// is the way there. So every link has, below its cost, a weight from a hash of its ends:
// no two ways are then of equal length, and the one shortest way is the same from both.
type graph struct {
	edges [][]edge // by site
}

type edge struct {
	to     int
	weight uint64 // cost<<tieBits + a hash below 2^32
}

// tieBits leaves room for the hashes of 256 links in a row.
const tieBits = 40

// newGraph finds the links that can be made. It looks into the link options only for
// sites that have any: a full mesh of a thousand is half a million links.
func newGraph(n *spec.Network) *graph {
	g := &graph{edges: make([][]edge, len(n.Sites))}
	hashes := make([]uint64, len(n.Sites))
	open := make([]bool, len(n.Sites)) // dialled at any port
	special := make([]bool, len(n.Sites))
	for i := range n.Sites {
		s := &n.Sites[i]
		hashes[i] = hashName(s.Name)
		open[i] = len(s.Endpoints) > 0 && !s.Inbound.None && len(s.Inbound.Ports) == 0
	}
	for _, p := range n.Links.WithOptions() {
		special[p[0]], special[p[1]] = true, true
	}
	for a, degree := range degrees(n) {
		g.edges[a] = make([]edge, 0, degree)
	}
	for a := range n.Sites {
		for b := a + 1; b < len(n.Sites); b++ {
			if !n.Links.Has(a, b) || !open[a] && !open[b] && !n.CanLink(a, b) {
				continue
			}
			cost := 1
			if special[a] && special[b] {
				cost = max(1, n.Links.Options(a, b).Cost)
			}
			w := uint64(cost)<<tieBits + mix(hashes[a]^hashes[b])
			g.edges[a] = append(g.edges[a], edge{b, w})
			g.edges[b] = append(g.edges[b], edge{a, w})
		}
	}
	return g
}

// degrees counts the links of each site that the file asks for.
func degrees(n *spec.Network) []int {
	out := make([]int, len(n.Sites))
	for a := range out {
		for b := a + 1; b < len(out); b++ {
			if n.Links.Has(a, b) {
				out[a]++
				out[b]++
			}
		}
	}
	return out
}

// each calls f for every link once, its lower end first.
func (g *graph) each(f func(a, b int, weight uint64)) {
	for a, edges := range g.edges {
		for _, e := range edges {
			if a < e.to {
				f(a, e.to, e.weight)
			}
		}
	}
}

// ways is what one site knows of the shortest paths: for each other site the neighbour by
// which it is reached, -1 where there is no way.
type ways []int

// ways returns the neighbour by which site i's compiled routes lead to each other site. A
// Babel router has such routes only through the doors that it stands at.
func (c *compiler) ways(i int) ways {
	if c.static[i] {
		return c.roads.waysFrom(i)
	}
	out := make(ways, len(c.n.Sites))
	doors := c.regions.out(c.regions.of[i])
	for to, region := range c.regions.of {
		out[to] = -1
		if d, other := doors[region]; other && d.from == i {
			out[to] = d.to
		}
	}
	return out
}

// waysFrom finds the shortest ways from one site (Dijkstra, without a heap: in the dense
// networks that are large, looking for the nearest costs no more than the links do).
func (g *graph) waysFrom(from int) ways {
	const far = ^uint64(0)
	dist := make([]uint64, len(g.edges))
	via := make(ways, len(g.edges))
	done := make([]bool, len(g.edges))
	for i := range dist {
		dist[i], via[i] = far, -1
	}
	dist[from] = 0
	for {
		at, best := -1, far
		for i, d := range dist {
			if !done[i] && d < best {
				at, best = i, d
			}
		}
		if at < 0 {
			return via
		}
		done[at] = true
		for _, e := range g.edges[at] {
			d := best + e.weight
			if d >= dist[e.to] {
				continue
			}
			dist[e.to] = d
			if via[e.to] = via[at]; at == from {
				via[e.to] = e.to
			}
		}
	}
}

func hashName(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return h.Sum64()
}

// mix spreads a hash over 32 bits (the finaliser of SplitMix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return (x ^ x>>31) >> 32
}
