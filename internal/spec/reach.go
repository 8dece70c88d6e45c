package spec

import (
	"fmt"
	"slices"
)

// graph is the sites and the links that can be made between them.
type graph struct {
	n    *Network
	part []int // of each site: the lowest site that it reaches
	size []int // of each part, by its lowest site
}

// newGraph finds the parts of the network: sites that reach each other, directly or by
// others. It asks for a link only where that may join something new, so that a mesh of a
// thousand sites costs a thousand questions and not half a million.
func newGraph(n *Network) *graph {
	g := &graph{n: n, part: make([]int, len(n.Sites)), size: make([]int, len(n.Sites))}
	alone := make([]int, len(n.Sites))
	for i := range alone {
		alone[i] = i
	}
	for len(alone) > 0 {
		root := alone[0]
		queue := []int{root}
		alone = alone[1:]
		for len(queue) > 0 {
			at := queue[0]
			queue = queue[1:]
			g.part[at] = root
			g.size[root]++
			alone = slices.DeleteFunc(alone, func(to int) bool {
				if !g.linked(at, to) {
					return false
				}
				queue = append(queue, to)
				return true
			})
		}
	}
	return g
}

// linked reports whether the link between a and b is asked for and can be made.
func (g *graph) linked(a, b int) bool {
	if !g.n.Links.Has(a, b) {
		return false
	}
	x, y := &g.n.Sites[a], &g.n.Sites[b]
	if len(x.Endpoints) == 0 && len(y.Endpoints) == 0 && len(g.n.Links.options) == 0 {
		return false
	}
	return g.n.CanLink(a, b)
}

// towards returns, for each site, the neighbour by which it reaches another one over the
// fewest links; -1 where it does not.
func (g *graph) towards(to int) []int {
	next := make([]int, len(g.n.Sites))
	var away []int // sites to which no way has been found
	for i := range next {
		if next[i] = -1; i != to {
			away = append(away, i)
		}
	}
	for queue := []int{to}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		away = slices.DeleteFunc(away, func(i int) bool {
			if g.part[i] != g.part[to] || !g.linked(at, i) {
				return false
			}
			next[i] = at
			queue = append(queue, i)
			return true
		})
	}
	return next
}

// fewSplits is how many parts of a network are explained one by one.
const fewSplits = 3

// reachability reports sites that the others cannot reach, and links that cannot be made
// though the file names them.
func (b *builder) reachability() {
	if b.doubt || len(b.n.Sites) == 0 {
		return
	}
	b.reach = newGraph(b.n)
	main := 0
	for i, size := range b.reach.size {
		if size > b.reach.size[main] {
			main = i
		}
	}
	explained, left, firstLeft := 0, 0, Pos{}
	for i, root := range b.reach.part {
		if root != i || root == main || b.f.clients.given && b.n.unjoined(i) {
			continue
		}
		if explained < fewSplits {
			b.explainSplit(root, main)
			explained++
			continue
		}
		if left += b.reach.size[root]; firstLeft == (Pos{}) {
			firstLeft = b.n.Sites[i].Pos
		}
	}
	if left > 0 {
		b.err(firstLeft, codeUnreachable, "give sites an `endpoint:`, or link them to one that has one", "%s cannot be reached either; the first is %q", plural(left, "one more site", "more sites"), b.n.Sites[b.siteAt(firstLeft)].Name)
	}
	b.notMade()
}

// notMade warns of links that cannot be made though the file names them; what is part of a
// mesh or a group is not named.
func (b *builder) notMade() {
	for _, l := range b.asked {
		others := []int{l.b}
		if l.b == everySite {
			others = b.all()
		}
		open := slices.DeleteFunc(others, func(i int) bool {
			return i == l.a || b.reach.part[l.a] != b.reach.part[i] || b.reach.linked(l.a, i)
		})
		if len(open) == 0 {
			continue
		}
		more := ""
		if len(open) > 1 {
			more = fmt.Sprintf(", nor can %d more of this star", len(open)-1)
		}
		b.warn(l.Pos, codeNotMade, "give one of them an `endpoint:`, or delete the link", "the link between %q and %q cannot be made%s: %s; other sites carry what they say", b.n.Sites[l.a].Name, b.n.Sites[open[0]].Name, more, b.neither(l.a, open[0]))
	}
}

func (b *builder) siteAt(p Pos) int {
	return slices.IndexFunc(b.n.Sites, func(s Site) bool { return s.Pos == p })
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// explainSplit says why a part of the network does not reach the main one.
func (b *builder) explainSplit(root, main int) {
	var members []int
	asked := -1 // a link that would join it if it could be made
	from := -1
	for i, r := range b.reach.part {
		if r != root {
			continue
		}
		members = append(members, i)
		for j, other := range b.reach.part {
			if other != root && b.n.Links.Has(i, j) && (asked < 0 || other == main && b.reach.part[asked] != main) {
				from, asked = i, j
			}
		}
	}
	s := &b.n.Sites[members[0]]
	switch {
	case asked >= 0:
		x, y := min(from, asked), max(from, asked)
		b.err(b.n.Sites[y].Pos, codeUnreachable, b.wayOut(x, y),
			"sites %q and %q cannot reach each other: %s, and no third site carries what they say", b.n.Sites[x].Name, b.n.Sites[y].Name, b.neither(x, y))
	case len(members) == 1:
		b.err(s.Pos, codeNotJoined, fmt.Sprintf("add a link, for example `[%s, %s]`, to `links:`", s.Name, b.n.Sites[main].Name), "`links:` joins site %q to no other", s.Name)
	default:
		var names []string
		for _, i := range members {
			names = append(names, b.n.Sites[i].Name)
		}
		b.err(s.Pos, codeNotJoined, fmt.Sprintf("add a link, for example `[%s, %s]`, to `links:`", s.Name, b.n.Sites[main].Name), "`links:` joins %s to each other, and none of them to %q", few(names, 8), b.n.Sites[main].Name)
	}
}

// neither says why neither of two sites can dial the other.
func (b *builder) neither(x, y int) string {
	if len(b.n.Sites[x].Endpoints) == 0 && len(b.n.Sites[y].Endpoints) == 0 {
		return "neither has an endpoint"
	}
	for _, ends := range [][2]int{{x, y}, {y, x}} {
		s, port := &b.n.Sites[ends[0]], b.n.Port(ends[0], ends[1])
		if len(s.Endpoints) > 0 && !s.Inbound.None && b.addressed[ends[0]] && b.addressed[ends[1]] {
			return fmt.Sprintf("%q lets nothing in on UDP port %d, where it waits for %q", s.Name, port, b.n.Sites[ends[1]].Name)
		}
	}
	return "neither lets the other in"
}

func (b *builder) wayOut(x, y int) string {
	for _, ends := range [][2]int{{x, y}, {y, x}} {
		if s := &b.n.Sites[ends[0]]; len(s.Endpoints) > 0 && !s.Inbound.None {
			return fmt.Sprintf("forward the port to %q and add it to its `inbound:`, or choose the port of the link: `{between: [%s, %s], port: {%s: …}}`", s.Name, s.Name, b.n.Sites[ends[1]].Name, s.Name)
		}
	}
	return "give one of them an `endpoint:`, or link both to a site that has one"
}
