package draw

import (
	"math"
	"slices"
	"strings"

	"tombolo/internal/spec"
)

// The tunnels of a row, and the traffic along them.

var (
	tunnelPaint = paint{stroke: blue, width: 2.2}
	lanPaint    = paint{stroke: muted, width: 2.2} // on one LAN, without a tunnel
	deadPaint   = paint{stroke: faint, width: 1.6, dash: "5 4"}
)

// linkPaint returns how the link between two sites looks.
func (r *row) linkPaint(a, b int) paint {
	return paintOf(r.n.CanLink(a, b), r.n.Links.Options(a, b).NoTunnel)
}

func paintOf(can, noTunnel bool) paint {
	switch {
	case !can:
		return deadPaint
	case noTunnel:
		return lanPaint
	}
	return tunnelPaint
}

// linkLabel is what stands at a link: its options, and the segments that begin on it.
func (r *row) linkLabel(a, b int) block {
	var out block
	for _, text := range linkFacts(r.n, a, b) {
		out = append(out, say(text, noteStyle))
	}
	for _, t := range r.lanes {
		if t.kind == segmentKind && len(t.hops) > 0 && r.sameLink(t.hops[0], a, b) {
			seg := r.n.Segments[t.index]
			out = append(out, say(shorten(seg.Name, 20), strongStyle.in(violet)), say(seg.Kind, noteStyle.in(violet)))
		}
	}
	return out
}

func (r *row) sameLink(hop [2]int, a, b int) bool {
	return hop == [2]int{a, b} || hop == [2]int{b, a}
}

// oneLine joins the lines of a label, for a track.
func oneLine(b block) line {
	var out line
	for i, l := range b {
		if i > 0 {
			out = append(out, span{" · ", noteStyle})
		}
		out = append(out, l...)
	}
	return out
}

func (r *row) linkLabelWidth(a, b int) float64 {
	left, right := r.ends(a, b)
	if right-left == 1 {
		return r.linkLabel(a, b).width()
	}
	return oneLine(r.linkLabel(a, b)).width()
}

// laneRank returns the how-manieth lane of its side t is on the link between a and b, and
// whether it is there at all.
func (r *row) laneRank(t int, a, b int) (int, bool) {
	rank := 0
	for i, o := range r.lanes {
		on := slices.ContainsFunc(o.hops, func(h [2]int) bool { return r.sameLink(h, a, b) })
		if i == t {
			return rank, on
		}
		if on && (o.kind == segmentKind) == (r.lanes[t].kind == segmentKind) {
			rank++
		}
	}
	return 0, false
}

// trackLanes is how many lanes the busiest track has.
func (r *row) trackLanes() int {
	most := 0
	for pair := range r.track {
		a, b, count := r.order[pair[0]], r.order[pair[1]], 0
		for i := range r.lanes {
			if _, on := r.laneRank(i, a, b); on {
				count++
			}
		}
		most = max(most, count)
	}
	return most
}

// offset is how far a lane is from its link: exits and ports above, segments under.
func (r *row) offset(t, rank int) float64 {
	d := laneStep * float64(rank+1)
	if r.lanes[t].kind == segmentKind {
		return d
	}
	return -d
}

// linkPath returns the path of a link, or of a lane beside it, and its last two points,
// from a to b.
func (r *row) linkPath(a, b int, off float64) []point {
	left, right := r.ends(a, b)
	var pts []point
	if right-left == 1 {
		y := r.cardTop + math.Round(r.h/2) + off
		pts = []point{{r.x[left] + r.w, y}, {r.x[right], y}}
	} else {
		y := r.trackY(left, right) + off
		x1, x2 := r.portX(left, right)-off, r.portX(right, left)+off
		pts = []point{{x1, r.cardBottom}, {x1, y}, {x2, y}, {x2, r.cardBottom}}
	}
	if r.pos[a] > r.pos[b] {
		slices.Reverse(pts)
	}
	return pts
}

func (r *row) trackY(left, right int) float64 {
	return r.cardBottom + 16 + float64(r.track[[2]int{left, right}])*r.trackPitch + laneStep*float64(r.trackLanes())
}

// portX is where the track from position p to position to begins: right of the centre when
// it goes right, the farther the nearer to the centre, so that tracks of one card nest.
func (r *row) portX(p, to int) float64 {
	var same []int
	for q := range r.order {
		pair := [2]int{min(p, q), max(p, q)}
		if _, ok := r.track[pair]; ok && (q > p) == (to > p) {
			same = append(same, q)
		}
	}
	// Deep tracks first.
	slices.SortFunc(same, func(x, y int) int {
		return r.track[[2]int{min(p, y), max(p, y)}] - r.track[[2]int{min(p, x), max(p, x)}]
	})
	step := (r.w/2 - 16) / float64(len(same)+1)
	d := 8 + step*float64(slices.Index(same, to)+1)
	if to < p {
		d = -d
	}
	return r.centre(p) + math.Round(d)
}

// polyline draws a path with rounded corners.
func (s *scene) polyline(l layer, pts []point, p paint) {
	d := moveTo(pts[0])
	for i := 1; i < len(pts); i++ {
		if i == len(pts)-1 {
			d = d.lineTo(pts[i])
			break
		}
		in, out := toward(pts[i], pts[i-1], 7), toward(pts[i], pts[i+1], 7)
		d = d.lineTo(in).curveTo(pts[i], out)
	}
	s.path(l, d, p)
	for i := 1; i < len(pts); i++ {
		s.lines = append(s.lines, segment{pts[i-1], pts[i]})
	}
}

// toward is the point d pixels from a in the direction of b.
func toward(a, b point, d float64) point {
	l := math.Hypot(b.x-a.x, b.y-a.y)
	if l == 0 {
		return a
	}
	return point{a.x + (b.x-a.x)/l*d, a.y + (b.y-a.y)/l*d}
}

// drawLink draws the link between two sites with its label.
func (r *row) drawLink(a, b int) {
	r.s.group(links, linkDetails(r.n, a, b), func() {
		r.s.polyline(links, r.linkPath(a, b, 0), r.linkPaint(a, b))
	})
	label := r.linkLabel(a, b)
	if len(label) == 0 {
		return
	}
	left, right := r.ends(a, b)
	gap := func(p int) float64 { return (r.x[p] + r.w + r.x[p+1]) / 2 }
	if right-left == 1 {
		under := 0.0
		for i, t := range r.lanes {
			if _, on := r.laneRank(i, a, b); on && t.kind == segmentKind {
				under += laneStep
			}
		}
		r.s.block(labels, point{gap(left), r.cardTop + math.Round(r.h/2) + under + 5}, middle, label)
		return
	}
	r.s.halo(point{gap((left + right - 1) / 2), r.trackY(left, right)}, oneLine(label))
}

// halo writes a line with its centre at c, over paper that hides what is under it.
func (s *scene) halo(c point, t line) {
	box := rect{c.x - t.width()/2 - 4, c.y - t.height()/2 - 1, t.width() + 8, t.height() + 2}
	s.group(labels, "", func() {
		s.rect(labels, box, 3, paint{fill: paper})
		s.text(labels, point{c.x, c.y - t.height()/2}, middle, t)
	})
}

// drawTraffic draws the lanes: from LANs through the links to the Internet, and back.
func (r *row) drawTraffic() {
	for i, t := range r.lanes {
		p := paint{stroke: t.colour(), width: 1.8}
		if t.choice > 0 {
			p.dash = "6 3"
		}
		r.s.group(flows, trafficTitle(r.n, t), func() {
			for _, h := range t.hops {
				rank, _ := r.laneRank(i, h[0], h[1])
				pts := r.linkPath(h[0], h[1], r.offset(i, rank))
				if t.kind == segmentKind {
					r.s.double(pts)
					continue
				}
				r.s.arrow(flows, pts, p)
			}
			if t.kind != segmentKind {
				r.drawEnds(i, t, p)
			}
		})
	}
}

// double draws the two thin lines of a segment.
func (s *scene) double(pts []point) {
	s.polyline(flows, pts, paint{stroke: violet, width: 4})
	s.polyline(flows, pts, paint{stroke: paper, width: 1.6})
}

// arrow draws a path with a head at its end.
func (s *scene) arrow(l layer, pts []point, p paint) {
	const size = 7
	tip, before := pts[len(pts)-1], pts[len(pts)-2]
	short := slices.Clone(pts)
	short[len(pts)-1] = toward(tip, before, size*0.7)
	s.polyline(l, short, p)
	s.arrowhead(l, before, tip, size, p.stroke)
}

// drawEnds draws a lane's way between LAN and site and between site and Internet.
func (r *row) drawEnds(i int, t traffic, p paint) {
	for _, site := range t.lans {
		rank := 1
		for _, o := range r.lanes[:i] {
			if slices.Contains(o.lans, site) {
				rank++
			}
		}
		x := r.centre(r.pos[site]) - laneStep*float64(rank)
		lan, dev := point{x, r.lanTop}, point{x, r.cardBottom}
		if t.kind == exitKind {
			r.s.arrow(flows, []point{lan, dev}, p)
		} else {
			r.s.arrow(flows, []point{dev, lan}, p)
		}
	}
	at := r.pos[t.at]
	rank := 1
	if r.isDoor(&r.n.Sites[t.at]) {
		rank++
	}
	for _, o := range r.lanes[:i] {
		if o.at == t.at && o.kind != segmentKind {
			rank++
		}
	}
	for _, x := range r.uplinkX(at) {
		up, down := point{x - laneStep*float64(rank), r.pillBottom}, point{x - laneStep*float64(rank), r.cardTop}
		if t.kind == exitKind {
			r.s.arrow(flows, []point{down, up}, p)
		} else {
			r.s.arrow(flows, []point{up, down}, p)
		}
	}
}

// trafficTitle is the tooltip of a lane.
func trafficTitle(n *spec.Network, t traffic) string {
	switch t.kind {
	case exitKind:
		e := n.Exits[t.index]
		return strings.Join(append([]string{exitLabel(e, t.choice)}, otherwise(e)...), "\n")
	case publishKind:
		return published(n.Publish[t.index])
	}
	return "segment " + n.Segments[t.index].Name
}
