package draw

import (
	"math"
	"slices"
	"strings"

	"tombolo/internal/spec"
)

// board is what the pictures of many sites have in common: sites have places, links are
// curves between them, and traffic runs beside the links.
type board struct {
	n     *spec.Network
	s     *scene
	st    structure
	lanes []traffic

	place []point // of each site, where its links meet
	clip  []rect  // of each site: lines end at its edge
	route func(a, b int) curve
	hide  func(a, b int) bool // links that are shown in another way; nil: none

	unplaced []string // link labels without room, for the notes
}

func newBoard(n *spec.Network, s *scene, st structure) *board {
	b := &board{n: n, s: s, st: st, lanes: allTraffic(n), place: make([]point, len(n.Sites)), clip: make([]rect, len(n.Sites))}
	b.route = func(x, y int) curve { return straight(b.place[x], b.place[y]) }
	return b
}

// between is the visible part of the line from one site to another, d pixels beside it.
func (b *board) between(from, to int, d float64) curve {
	v := b.route(min(from, to), max(from, to)).shifted(d)
	v = v.trimmed(b.clip[min(from, to)], b.clip[max(from, to)])
	if from > to {
		return v.reversed()
	}
	return v
}

// drawLinks draws the links that are drawn singly, and the traffic; labels come after
// everything else has its place.
func (b *board) drawLinks() {
	for _, e := range b.st.single {
		if b.hidden(e) {
			continue
		}
		p := paintOf(b.n.CanLink(e[0], e[1]), b.n.Links.Options(e[0], e[1]).NoTunnel)
		p.width = max(1.2, p.width-0.6)
		b.s.group(links, linkDetails(b.n, e[0], e[1]), func() { b.s.curve(links, b.between(e[0], e[1], 0), p) })
	}
	for i := range b.lanes {
		if b.drawn(b.lanes[i]) {
			b.drawLane(i)
		}
	}
}

func (b *board) hidden(e [2]int) bool { return b.hide != nil && b.hide(e[0], e[1]) }

// lanesMax is how many hops of one exit, port or segment are drawn; longer ones only stand
// in the notes.
const lanesMax = 16

func (b *board) drawn(t traffic) bool { return len(t.hops) > 0 && len(t.hops) <= lanesMax }

func (b *board) drawLane(i int) {
	t := b.lanes[i]
	p := paint{stroke: t.colour(), width: 1.6}
	if t.choice > 0 {
		p.dash = "6 3"
	}
	b.s.group(flows, trafficTitle(b.n, t), func() {
		for _, h := range t.hops {
			if b.hidden(h) {
				continue
			}
			v := b.between(h[0], h[1], b.laneOffset(i, h))
			if t.kind == segmentKind {
				b.s.curve(flows, v, paint{stroke: violet, width: 3.6})
				b.s.path(flows, v.path(), paint{stroke: paper, width: 1.4})
				continue
			}
			b.s.curve(flows, v.part(0, 0.98), p)
			b.s.arrowhead(flows, v.at(0.9), v.b, 7, p.stroke)
		}
	})
}

// laneOffset is how far beside its link a lane runs: exits on one side, segments on the
// other, each in the order of the file.
func (b *board) laneOffset(i int, hop [2]int) float64 {
	t, rank := b.lanes[i], 1
	for _, o := range b.lanes[:i] {
		if b.drawn(o) && (o.kind == segmentKind) == (t.kind == segmentKind) && onLink(o, hop) {
			rank++
		}
	}
	d := 5 * float64(rank)
	if t.kind == segmentKind {
		return d
	}
	return -d
}

// onLink reports whether traffic takes a link, in either direction.
func onLink(t traffic, hop [2]int) bool {
	return slices.Contains(t.hops, hop) || slices.Contains(t.hops, [2]int{hop[1], hop[0]})
}

// drawLabels writes the links' options beside them where there is room, and leaves the
// rest for the notes.
func (b *board) drawLabels() {
	for _, e := range b.st.single {
		facts := linkFacts(b.n, e[0], e[1])
		if len(facts) == 0 || b.hidden(e) {
			continue
		}
		text := strings.Join(facts, " · ")
		if !b.label(b.between(e[0], e[1], 0), say(text, noteStyle.sized(10))) {
			b.unplaced = append(b.unplaced, pairName(b.n, e)+": "+text)
		}
	}
}

// label writes t on the curve, with paper under it, at the first place where it covers
// neither text nor box nor, if that can be, another line.
func (b *board) label(v curve, t line) bool {
	if math.Hypot(v.b.x-v.a.x, v.b.y-v.a.y) < t.width()+24 && math.Abs(v.b.y-v.a.y) < 40 {
		return false // it would hide the line
	}
	for _, strict := range []bool{true, false} {
		for _, at := range []float64{0.5, 0.43, 0.57, 0.36, 0.64, 0.29, 0.71, 0.22, 0.78} {
			c := v.at(at)
			box := rect{c.x - t.width()/2 - 4, c.y - t.height()/2 - 1, t.width() + 8, t.height() + 2}
			if b.free(box) && (!strict || b.crossings(box) <= ownPieces(v, box)) {
				b.s.halo(c, t)
				return true
			}
		}
	}
	return false
}

func (b *board) free(box rect) bool {
	return !slices.ContainsFunc(b.s.taken, box.grow(1).intersects)
}

// crossings counts the pieces of lines that pass through box.
func (b *board) crossings(box rect) int {
	c := 0
	for _, g := range b.s.lines {
		if g.crosses(box) {
			c++
		}
	}
	return c
}

// ownPieces is how many pieces of v pass through box.
func ownPieces(v curve, box rect) int {
	c := 0
	for _, g := range v.pieces() {
		if g.crosses(box) {
			c++
		}
	}
	return c
}

// extent is the rectangle around everything that has been drawn.
func (s *scene) extent() (right, bottom float64) {
	for _, r := range s.taken {
		right, bottom = max(right, r.right()), max(bottom, r.bottom())
	}
	for _, g := range s.lines {
		right, bottom = max(right, g.a.x, g.b.x), max(bottom, g.a.y, g.b.y)
	}
	return right, bottom
}
