package draw

import (
	"cmp"
	"math"
	"net/netip"
	"slices"

	"tombolo/internal/spec"
)

// kind is what a lane of traffic stands for.
type kind int

const (
	exitKind    kind = iota // out to the Internet at another site
	publishKind             // in from the Internet, to another site's host
	segmentKind             // layer 2 between sites
)

// traffic is something that follows the links: where it starts, the hops that it takes,
// and where it ends.
type traffic struct {
	kind   kind
	index  int      // in Exits, Publish or Segments
	choice int      // of an exit: which of its via
	at     int      // the site with the uplink; of a segment its first
	lans   []int    // sites in whose LANs it starts (exit) or ends (publish)
	hops   [][2]int // from, to; sorted
}

// colour of the lane.
func (t traffic) colour() string {
	if t.kind == segmentKind {
		return violet
	}
	return orange
}

// allTraffic returns the lanes of a network: exits, published ports and segments, in the
// order of the file.
func allTraffic(n *spec.Network) []traffic {
	var out []traffic
	for i, e := range n.Exits {
		for choice, via := range e.Via {
			if v, ok := n.Site(via); ok {
				out = append(out, exitTraffic(n, e, i, choice, v))
			}
		}
	}
	for i, p := range n.Publish {
		at, ok := n.Site(p.At)
		if !ok {
			continue
		}
		t := traffic{kind: publishKind, index: i, at: at}
		if to, ok := siteOf(n, p.To.Addr()); ok {
			t.lans = []int{to}
			t.hops = reversed(pathsTo(n, at, []int{to}))
		}
		out = append(out, t)
	}
	for i, s := range n.Segments {
		var sites []int
		for _, a := range s.Attach {
			if v, ok := n.Site(a.Site); ok {
				sites = append(sites, v)
			}
		}
		if len(sites) > 1 {
			out = append(out, traffic{kind: segmentKind, index: i, at: sites[0], hops: pathsTo(n, sites[0], sites[1:])})
		}
	}
	return out
}

func exitTraffic(n *spec.Network, e spec.Exit, index, choice, via int) traffic {
	t := traffic{kind: exitKind, index: index, choice: choice, at: via}
	var sources []int
	for _, who := range e.For {
		v, ok := n.Site(who)
		if p, err := netip.ParsePrefix(who); !ok && err == nil {
			v, ok = siteOf(n, p.Addr())
		}
		if !ok { // clients: they may enter anywhere
			continue
		}
		sources = append(sources, v)
		if len(n.Sites[v].LANs) > 0 {
			t.lans = append(t.lans, v)
		}
	}
	slices.Sort(t.lans)
	t.lans = slices.Compact(t.lans)
	t.hops = pathsTo(n, via, sources)
	return t
}

// pathsTo returns the hops of the cheapest paths from sources to site to, each once.
func pathsTo(n *spec.Network, to int, sources []int) [][2]int {
	next := nextHops(n, to)
	seen := map[int]bool{to: true}
	var hops [][2]int
	for _, v := range sources {
		for ; !seen[v] && next[v] >= 0; v = next[v] {
			seen[v] = true
			hops = append(hops, [2]int{v, next[v]})
		}
	}
	slices.SortFunc(hops, func(a, b [2]int) int { return slices.Compare(a[:], b[:]) })
	return hops
}

func reversed(hops [][2]int) [][2]int {
	for i := range hops {
		hops[i][0], hops[i][1] = hops[i][1], hops[i][0]
	}
	return hops
}

// nextHops returns each site's next hop on its cheapest path to site to, over links that
// can be made; -1 where there is none. Of equal paths it takes that with fewer hops, then
// that over sites which come first.
func nextHops(n *spec.Network, to int) []int {
	type label struct{ cost, hops int }
	best := make([]label, len(n.Sites))
	next := make([]int, len(n.Sites))
	done := make([]bool, len(n.Sites))
	for i := range best {
		best[i], next[i] = label{math.MaxInt32, 0}, -1
	}
	best[to] = label{}
	for {
		v := -1
		for i := range best {
			if !done[i] && best[i].cost < math.MaxInt32 && (v < 0 || less(best[i].cost, best[i].hops, best[v].cost, best[v].hops)) {
				v = i
			}
		}
		if v < 0 {
			return next
		}
		done[v] = true
		for _, w := range n.Links.Neighbours(v) {
			if done[w] || !n.CanLink(v, w) {
				continue
			}
			l := label{best[v].cost + max(1, n.Links.Options(v, w).Cost), best[v].hops + 1}
			if less(l.cost, l.hops, best[w].cost, best[w].hops) {
				best[w], next[w] = l, v
			}
		}
	}
}

func less(c1, h1, c2, h2 int) bool {
	return cmp.Or(cmp.Compare(c1, c2), cmp.Compare(h1, h2)) < 0
}
