package draw

import (
	"math"
	"strings"
)

// What a way is drawn on, and the signs of it.

func (r *row) cardOf(site int) rect { return rect{r.x[r.pos[site]], r.cardTop, r.w, r.h} }

func (r *row) drawHop(a, b int, off float64, p paint) { r.s.arrow(ways, r.linkPath(a, b, off), p) }

func (r *row) uplink(site int, device string) point {
	at := r.pos[site]
	x := r.uplinkX(at)
	for i, u := range r.n.Sites[site].Uplinks {
		if u.Device == device {
			return point{x[i], r.cardTop}
		}
	}
	if len(x) > 0 {
		return point{x[0], r.cardTop}
	}
	return point{r.centre(at), r.cardTop}
}

func (r *row) lan(site int) (card, lan point, ok bool) {
	at := r.pos[site]
	c := r.centre(at)
	return point{c, r.cardBottom}, point{c, r.lanTop}, r.lans[at].h > 0
}

func (b *board) cardOf(site int) rect { return b.clip[site] }

// drawHop draws nothing between sites that share a box: they are lines of it.
func (b *board) drawHop(from, to int, off float64, p paint) {
	if b.clip[from] == b.clip[to] {
		return
	}
	v := b.between(from, to, off)
	b.s.curve(ways, v.part(0, 0.98), p)
	b.s.arrowhead(ways, v.at(0.9), v.b, 8, p.stroke)
}

func (b *board) uplink(site int, _ string) point {
	return point{b.clip[site].centre().x, b.clip[site].y}
}

// lan has no place of its own: it is a line in the card.
func (b *board) lan(int) (card, lan point, ok bool) { return point{}, point{}, false }

// internet draws the Internet over the body of a board, for a way that goes there.
func (p *picture) internet() {
	p.pill = rect{margin, p.bodyTop - pillH - 24, math.Max(p.bodyRight-margin, 160), pillH}
	p.bodyRight = math.Max(p.bodyRight, p.pill.right())
	p.s.band(p.pill)
}

// outline draws a rounded frame without filling it.
func (s *scene) outline(l layer, r rect, radius float64, p paint) {
	radius = math.Min(radius, math.Min(r.w, r.h)/2)
	x, y, right, bottom := r.x, r.y, r.right(), r.bottom()
	d := moveTo(point{x + radius, y}).lineTo(point{right - radius, y}).curveTo(point{right, y}, point{right, y + radius}).
		lineTo(point{right, bottom - radius}).curveTo(point{right, bottom}, point{right - radius, bottom}).
		lineTo(point{x + radius, bottom}).curveTo(point{x, bottom}, point{x, bottom - radius}).
		lineTo(point{x, y + radius}).curveTo(point{x, y}, point{x + radius, y})
	s.path(l, d+"Z", p)
}

// cross draws the sign of where a flow is lost.
func (s *scene) cross(l layer, c point) {
	const r, arm = 7.0, 3.0
	s.circle(l, c, r, paint{fill: red, stroke: paper, width: 1.2})
	for _, d := range []float64{arm, -arm} {
		s.path(l, moveTo(point{c.x - arm, c.y - d}).lineTo(point{c.x + arm, c.y + d}), paint{stroke: paper, width: 2})
	}
}

// captionWidth is in characters.
const captionWidth = 92

// caption writes under the picture what the way is, and how it ends.
func (p *picture) caption() {
	if p.flow == nil {
		return
	}
	y := p.bodyBottom + 32
	write := func(text string, st style) {
		for i, part := range wrap("", strings.Fields(text), captionWidth, "") {
			x := margin + signW + 7
			if i > 0 {
				x += 12
			}
			t := say(shorten(part, captionWidth+4), st)
			r := p.s.text(labels, point{x, y - t.height()/2}, start, t)
			p.bodyRight, p.bodyBottom = math.Max(p.bodyRight, r.right()), y+6
			y += 18
		}
	}
	write(p.flow.Flow, strongStyle)
	for _, d := range []struct {
		name  string
		stops []Stop
		p     paint
	}{{"there: ", p.flow.There, therePaint}, {"back: ", p.flow.Back, backPaint}} {
		if len(d.stops) > 0 {
			p.s.arrow(labels, []point{{margin, y}, {margin + signW, y}}, d.p)
			write(d.name+words(d.stops), noteStyle.in(d.p.stroke))
		}
	}
	if p.flow.Lost != nil {
		p.s.cross(labels, point{margin + signW/2, y})
	}
	for _, text := range p.flow.Verdict {
		write(text, strongStyle)
	}
}

// describe says in words what the way is.
func (w *Way) describe() string {
	if w == nil {
		return ""
	}
	out := "\n" + w.Flow + ".\nIt goes " + words(w.There) + "."
	if len(w.Back) > 0 {
		out += "\nIts answer goes " + words(w.Back) + "."
	}
	return out + "\n" + strings.Join(w.Verdict, "\n")
}
