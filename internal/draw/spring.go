package draw

import "math"

// springs lays out a graph so that the distance of two nodes in the picture is near to the
// length of the shortest path between them (stress majorization; Gansner, Koren and North,
// "Graph Drawing by Stress Majorization", GD 2004, here node by node).
//
// There is no randomness: the nodes begin on a circle, and of several orders around it the
// one whose result has the least stress is taken. Products are rounded by conversion, so
// that no processor may fuse them with a sum (Go specification, "Floating-point
// operators"), and the same graph gives the same places everywhere.
type springs struct {
	n     int
	dist  [][]float64 // wanted
	place []point     // unit: one plain link
}

// springEdge is a link with the length that it should have.
type springEdge struct {
	a, b   int
	length float64
}

// layoutSprings returns the places of n nodes.
func layoutSprings(n int, edges []springEdge) []point {
	dist := allDistances(n, edges)
	best, least := []point(nil), math.Inf(1)
	for _, order := range circleOrders(n, edges) {
		s := springs{n: n, dist: dist, place: circle(order, dist)}
		rounds := 200
		if n > 150 {
			rounds = 40
		}
		for range rounds {
			s.relax()
		}
		if e := s.stress(); e < least*0.999 {
			best, least = s.place, e
		}
	}
	return best
}

// circle puts nodes on a circle as wide as the graph.
func circle(order []int, dist [][]float64) []point {
	r := 0.0
	for _, row := range dist {
		for _, d := range row {
			r = math.Max(r, d/2)
		}
	}
	out := make([]point, len(order))
	for k, v := range order {
		angle := 2 * math.Pi * float64(k) / float64(len(order))
		out[v] = point{float64(r * math.Cos(angle)), float64(r * math.Sin(angle))}
	}
	return out
}

// circleOrders returns the nodes as they come, breadth first and depth first from the one
// with most links.
func circleOrders(n int, edges []springEdge) [][]int {
	next := make([][]int, n)
	for _, e := range edges {
		next[e.a], next[e.b] = append(next[e.a], e.b), append(next[e.b], e.a)
	}
	root := 0
	plain := make([]int, n)
	for v := range next {
		plain[v] = v
		if len(next[v]) > len(next[root]) {
			root = v
		}
	}
	if n > 150 {
		return [][]int{visit(n, root, next, true)}
	}
	return [][]int{visit(n, root, next, true), visit(n, root, next, false), plain}
}

// visit walks the graph from root, then from what it has not reached.
func visit(n, root int, next [][]int, deep bool) []int {
	var order []int
	seen := make([]bool, n)
	for first := -1; first < n; first++ {
		todo := []int{max(first, 0)}
		if first < 0 {
			todo[0] = root
		}
		for len(todo) > 0 {
			at := 0
			if deep {
				at = len(todo) - 1
			}
			v := todo[at]
			todo = append(todo[:at:at], todo[at+1:]...)
			if seen[v] {
				continue
			}
			seen[v], order = true, append(order, v)
			todo = append(todo, next[v]...)
		}
	}
	return order
}

// allDistances returns the lengths of the shortest paths. Nodes that are not joined are a
// little farther from each other than the farthest that are.
func allDistances(n int, edges []springEdge) [][]float64 {
	next := make([][]springEdge, n)
	for _, e := range edges {
		next[e.a] = append(next[e.a], e)
		next[e.b] = append(next[e.b], springEdge{e.b, e.a, e.length})
	}
	dist, far := make([][]float64, n), 1.0
	for v := range dist {
		dist[v] = distances(v, next)
		for _, d := range dist[v] {
			if !math.IsInf(d, 1) {
				far = math.Max(far, d)
			}
		}
	}
	for _, row := range dist {
		for w := range row {
			if math.IsInf(row[w], 1) {
				row[w] = far + 1
			}
		}
	}
	return dist
}

func distances(from int, next [][]springEdge) []float64 {
	d := make([]float64, len(next))
	for i := range d {
		d[i] = math.Inf(1)
	}
	d[from] = 0
	queue := []int{from} // label correcting: lengths differ little
	for len(queue) > 0 {
		v := queue[0]
		queue = queue[1:]
		for _, e := range next[v] {
			if l := d[v] + e.length; l < d[e.b]-1e-9 {
				d[e.b] = l
				queue = append(queue, e.b)
			}
		}
	}
	return d
}

// relax moves each node once to where the springs to all others want it.
func (s *springs) relax() {
	for i := range s.place {
		var sum point
		weights := 0.0
		for j := range s.place {
			if i == j {
				continue
			}
			want := s.dist[i][j]
			w := 1 / float64(want*want)
			dx, dy := s.place[i].x-s.place[j].x, s.place[i].y-s.place[j].y
			l := math.Sqrt(float64(dx*dx) + float64(dy*dy))
			if l < 1e-6 { // on one another: part them by their numbers
				dx, dy, l = float64(i-j), 1, math.Sqrt(float64((i-j)*(i-j))+1)
			}
			sum.x += float64(w * (s.place[j].x + float64(want*dx)/l))
			sum.y += float64(w * (s.place[j].y + float64(want*dy)/l))
			weights += w
		}
		if weights > 0 {
			s.place[i] = point{sum.x / weights, sum.y / weights}
		}
	}
}

func (s *springs) stress() float64 {
	e := 0.0
	for i := range s.place {
		for j := range i {
			d := math.Hypot(s.place[i].x-s.place[j].x, s.place[i].y-s.place[j].y) - s.dist[i][j]
			e += float64(d*d) / float64(s.dist[i][j]*s.dist[i][j])
		}
	}
	return e
}

// part moves boxes (given by their centres and sizes) until none overlaps another.
func part(at []point, size []point, gap point) {
	for scale := 0; ; scale++ {
		for range 300 {
			if !partOnce(at, size, gap) {
				return
			}
		}
		for i := range at { // too dense to push apart: spread everything
			at[i] = point{float64(at[i].x * 1.15), float64(at[i].y * 1.15)}
		}
	}
}

// partOnce pushes each two boxes that overlap half way apart, and reports whether there
// were any.
func partOnce(at, size []point, gap point) bool {
	moved := false
	for i := range at {
		for j := range i {
			dx, dy := at[i].x-at[j].x, at[i].y-at[j].y
			ox := (size[i].x+size[j].x)/2 + gap.x - math.Abs(dx)
			oy := (size[i].y+size[j].y)/2 + gap.y - math.Abs(dy)
			if ox <= 0.01 || oy <= 0.01 {
				continue
			}
			moved = true
			// The cheaper way; a box is wider than it is high, so weigh by that.
			if ox*0.6 < oy {
				d := math.Copysign(ox/2, dx)
				at[i].x, at[j].x = at[i].x+d, at[j].x-d
			} else {
				d := math.Copysign(oy/2, dy)
				at[i].y, at[j].y = at[i].y+d, at[j].y-d
			}
		}
	}
	return moved
}
