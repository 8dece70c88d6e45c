package draw

import (
	"slices"

	"tombolo/internal/spec"
)

// shape is what the links of a network look like as a whole.
type shape int

const (
	rowShape   shape = iota // few sites: side by side, with all details
	meshShape               // each with each
	starShape               // all links at one site
	chainShape              // one after the other
	cycleShape              // one after the other, and the last with the first
	graphShape              // anything else
)

const (
	rowMax  = 6  // sites in a row
	meshMin = 9  // sites whose full mesh is drawn as one thing; 8 are 28 lines
	singles = 12 // links that differ inside a mesh and are still drawn one by one
)

// structure says which links are drawn as one thing and which singly. Every link of the
// network is in a mesh or in single; those of a mesh that differ from the rest are in
// both.
type structure struct {
	shape  shape
	single [][2]int // a < b, sorted
	meshes []mesh
	order  []int // of the sites along a chain or cycle; hub first in a star
}

// mesh is a set of sites, each linked with each.
type mesh struct {
	members []int // ascending
	links   int
	dead    int // of these, how many neither end can dial
	notes   int // with options that are not drawn singly
}

// analyse finds the structure of a network's links.
func analyse(n *spec.Network) structure {
	left := newAdjacency(n)
	var st structure
	tried := make([]bool, len(n.Sites))
	for {
		v := left.busiest(tried)
		if v < 0 || left.degree[v] < meshMin-1 {
			break
		}
		members := left.clique(v)
		if len(members) < meshMin {
			tried[v] = true
			continue
		}
		left.remove(members)
		m, differ := describeMesh(n, members)
		st.meshes = append(st.meshes, m)
		st.single = append(st.single, differ...)
	}
	rest := left.edges()
	st.shape, st.order = classify(n, st.meshes, rest)
	st.single = append(st.single, rest...)
	slices.SortFunc(st.single, func(a, b [2]int) int { return slices.Compare(a[:], b[:]) })
	return st
}

// classify names the shape of links: those in meshes and the rest.
func classify(n *spec.Network, meshes []mesh, rest [][2]int) (shape, []int) {
	everyone := make([]int, len(n.Sites))
	for i := range everyone {
		everyone[i] = i
	}
	switch all := len(n.Sites); {
	case all <= rowMax:
		return rowShape, nil
	case len(meshes) == 1 && len(meshes[0].members) == all:
		return meshShape, nil
	case len(meshes) > 0:
		return graphShape, nil
	case len(rest) == 0:
		return chainShape, everyone
	}
	if order, ok := star(len(n.Sites), rest); ok {
		return starShape, order
	}
	if order, closed, ok := walk(len(n.Sites), rest); ok && closed {
		return cycleShape, order
	} else if ok {
		return chainShape, order
	}
	if len(n.Sites) < meshMin && len(rest) == len(n.Sites)*(len(n.Sites)-1)/2 {
		return meshShape, nil
	}
	return graphShape, nil
}

// describeMesh counts what is in a mesh, and picks the links that are drawn singly: those
// with options and those that cannot be made, while they are few.
func describeMesh(n *spec.Network, members []int) (mesh, [][2]int) {
	m := mesh{members: members, links: len(members) * (len(members) - 1) / 2}
	var noted, dead [][2]int
	for i, a := range members {
		for _, b := range members[i+1:] {
			switch {
			case !n.CanLink(a, b):
				dead = append(dead, [2]int{a, b})
			case len(linkFacts(n, a, b)) > 0:
				noted = append(noted, [2]int{a, b})
			}
		}
	}
	m.dead, m.notes = len(dead), len(noted)
	var differ [][2]int
	if len(dead) <= singles {
		differ = append(differ, dead...)
	}
	if len(noted) <= singles {
		differ, m.notes = append(differ, noted...), 0
	}
	return m, differ
}

// star reports whether one site has all the links, and returns it, then the others.
func star(n int, edges [][2]int) ([]int, bool) {
	if len(edges) != n-1 || n < 3 {
		return nil, false
	}
	hub := edges[0][0]
	if e := edges[1]; hub != e[0] && hub != e[1] {
		hub = edges[0][1]
	}
	order := []int{hub}
	for _, e := range edges {
		switch hub {
		case e[0]:
			order = append(order, e[1])
		case e[1]:
			order = append(order, e[0])
		default:
			return nil, false
		}
	}
	slices.Sort(order[1:])
	return order, true
}

// walk reports whether the links lead through all sites one after the other, and whether
// the last is linked with the first. The walk starts at the end that comes first.
func walk(n int, edges [][2]int) (order []int, closed, ok bool) {
	next := make([][]int, n)
	for _, e := range edges {
		next[e[0]] = append(next[e[0]], e[1])
		next[e[1]] = append(next[e[1]], e[0])
	}
	at, ends := 0, 0
	for v := n - 1; v >= 0; v-- {
		switch len(next[v]) {
		case 1:
			at, ends = v, ends+1
		case 2:
		default:
			return nil, false, false
		}
	}
	if ends != 0 && ends != 2 {
		return nil, false, false
	}
	seen := make([]bool, n)
	for at >= 0 {
		order, seen[at] = append(order, at), true
		i := slices.IndexFunc(next[at], func(w int) bool { return !seen[w] })
		if i < 0 {
			break
		}
		at = next[at][i]
	}
	return order, ends == 0, len(order) == n
}

// adjacency is links from which meshes are taken away.
type adjacency struct {
	has    [][]bool
	degree []int
}

func newAdjacency(n *spec.Network) *adjacency {
	a := &adjacency{has: make([][]bool, len(n.Sites)), degree: make([]int, len(n.Sites))}
	for i := range a.has {
		a.has[i] = make([]bool, len(n.Sites))
		for _, j := range n.Links.Neighbours(i) {
			a.has[i][j] = true
			a.degree[i]++
		}
	}
	return a
}

// busiest returns the site with most links that is not in skip, or -1.
func (a *adjacency) busiest(skip []bool) int {
	best := -1
	for v := range a.has {
		if !skip[v] && (best < 0 || a.degree[v] > a.degree[best]) {
			best = v
		}
	}
	return best
}

// clique returns sites that are all linked with each other, v among them: v's neighbours
// without, one by one, that which has fewest links inside the set.
func (a *adjacency) clique(v int) []int {
	members := []int{v}
	for w, linked := range a.has[v] {
		if linked {
			members = append(members, w)
		}
	}
	inside := make([]int, len(a.has))
	for _, x := range members {
		for _, y := range members {
			if a.has[x][y] {
				inside[x]++
			}
		}
	}
	for {
		worst := 0
		for i, x := range members {
			if i > 0 && (worst == 0 || inside[x] <= inside[members[worst]]) {
				worst = i
			}
		}
		if worst == 0 || inside[members[worst]] == len(members)-1 {
			break
		}
		gone := members[worst]
		members = slices.Delete(members, worst, worst+1)
		for _, x := range members {
			if a.has[x][gone] {
				inside[x]--
			}
		}
	}
	slices.Sort(members)
	return members
}

// remove takes the links between members away.
func (a *adjacency) remove(members []int) {
	for _, x := range members {
		for _, y := range members {
			if a.has[x][y] {
				a.has[x][y] = false
				a.degree[x]--
			}
		}
	}
}

func (a *adjacency) edges() [][2]int {
	var out [][2]int
	for x := range a.has {
		for y := x + 1; y < len(a.has); y++ {
			if a.has[x][y] {
				out = append(out, [2]int{x, y})
			}
		}
	}
	return out
}
