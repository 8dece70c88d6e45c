package draw

import (
	"math"
	"slices"
)

// curve is a quadratic Bézier curve; a straight line has its control point halfway.
type curve struct{ a, c, b point }

func straight(a, b point) curve { return curve{a, mid(a, b), b} }

func mid(a, b point) point { return point{(a.x + b.x) / 2, (a.y + b.y) / 2} }

// bent returns the curve from a to b that is bowed to its left by bow times its length.
func bent(a, b point, bow float64) curve {
	m := mid(a, b)
	return curve{a, point{m.x + float64((b.y-a.y)*bow), m.y - float64((b.x-a.x)*bow)}, b}
}

// pulled returns the curve from a to b that is drawn by part of the way to centre.
func pulled(a, b, centre point, part float64) curve {
	m := mid(a, b)
	return curve{a, point{m.x + float64((centre.x-m.x)*part), m.y + float64((centre.y-m.y)*part)}, b}
}

// at is the point of the curve at parameter t from 0 to 1.
func (v curve) at(t float64) point {
	u := 1 - t
	return point{
		float64(u*u*v.a.x) + float64(2*u*t*v.c.x) + float64(t*t*v.b.x),
		float64(u*u*v.a.y) + float64(2*u*t*v.c.y) + float64(t*t*v.b.y),
	}
}

// part is the piece of the curve between two parameters.
func (v curve) part(t0, t1 float64) curve {
	a, b := v.at(t0), v.at(t1)
	// The control point is where the tangents at the ends meet: the curve's blossom at
	// (t0, t1).
	u0, u1 := 1-t0, 1-t1
	c := point{
		float64(u0*u1*v.a.x) + float64((u0*t1+t0*u1)*v.c.x) + float64(t0*t1*v.b.x),
		float64(u0*u1*v.a.y) + float64((u0*t1+t0*u1)*v.c.y) + float64(t0*t1*v.b.y),
	}
	return curve{a, c, b}
}

// reversed is the same curve from b to a.
func (v curve) reversed() curve { return curve{v.b, v.c, v.a} }

// shifted moves the curve d pixels to the right of its direction.
func (v curve) shifted(d float64) curve {
	l := math.Hypot(v.b.x-v.a.x, v.b.y-v.a.y)
	if l == 0 {
		return v
	}
	dx, dy := -(v.b.y-v.a.y)/l*d, (v.b.x-v.a.x)/l*d
	move := func(p point) point { return point{p.x + dx, p.y + dy} }
	return curve{move(v.a), move(v.c), move(v.b)}
}

// trimmed cuts off what is inside the boxes at the two ends.
func (v curve) trimmed(from, to rect) curve {
	const steps = 200
	t0, t1 := 0.0, 1.0
	for i := 0; i < steps && from.contains(v.at(t0)); i++ {
		t0 = float64(i+1) / steps
	}
	for i := steps; i > 0 && to.contains(v.at(t1)); i-- {
		t1 = float64(i-1) / steps
	}
	if t0 >= t1 { // the boxes touch
		return v
	}
	return v.part(t0, t1)
}

// crosses reports whether the curve passes through r.
func (v curve) crosses(r rect) bool {
	// A Bézier curve stays inside the hull of its points.
	if max(v.a.x, v.b.x, v.c.x) < r.x || min(v.a.x, v.b.x, v.c.x) > r.right() ||
		max(v.a.y, v.b.y, v.c.y) < r.y || min(v.a.y, v.b.y, v.c.y) > r.bottom() {
		return false
	}
	if v.flat() {
		return segment{v.a, v.b}.crosses(r)
	}
	return slices.ContainsFunc(v.pieces(), func(g segment) bool { return g.crosses(r) })
}

// flat reports whether the curve is as good as a straight line.
func (v curve) flat() bool {
	m := mid(v.a, v.b)
	return math.Abs(m.x-v.c.x)+math.Abs(m.y-v.c.y) < 0.5
}

// pieces is the curve as straight pieces.
func (v curve) pieces() []segment {
	const steps = 12
	out, last := make([]segment, steps), v.a
	for i := range out {
		next := v.at(float64(i+1) / steps)
		out[i], last = segment{last, next}, next
	}
	return out
}

// path is the curve as path data.
func (v curve) path() pathData {
	if v.flat() {
		return moveTo(v.a).lineTo(v.b)
	}
	return moveTo(v.a).curveTo(v.c, v.b)
}

// curve draws v and remembers it, for labels to keep off.
func (s *scene) curve(l layer, v curve, p paint) {
	s.path(l, v.path(), p)
	s.remember(v)
}

func (s *scene) remember(v curve) { s.lines = append(s.lines, v.pieces()...) }

// crosses reports whether a segment passes through r, by the method of Liang and Barsky.
func (g segment) crosses(r rect) bool {
	t0, t1 := 0.0, 1.0
	dx, dy := g.b.x-g.a.x, g.b.y-g.a.y
	for _, e := range [4][2]float64{{-dx, g.a.x - r.x}, {dx, r.right() - g.a.x}, {-dy, g.a.y - r.y}, {dy, r.bottom() - g.a.y}} {
		p, q := e[0], e[1]
		switch {
		case p == 0 && q < 0:
			return false
		case p < 0:
			t0 = math.Max(t0, q/p)
		case p > 0:
			t1 = math.Min(t1, q/p)
		}
	}
	return t0 < t1
}
