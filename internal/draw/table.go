package draw

import (
	"math"

	"tombolo/internal/spec"
)

// table is sites that hang on one thing, as lines in a box under it: the sites whose only
// link is to a hub, or the members of a mesh that have no other links.
type table struct {
	head  *card // the hub; nil for a mesh
	title block // of a mesh
	hub   int   // -1 for a mesh
	sites []int
	rows  []siteRow
	cols  columns
	per   int // rows in one column
	w, h  float64
}

const (
	tablePad  = 14.0
	tableTree = 20.0 // left of a row's dot, for the branch that leads to it
	tableGap  = 18.0 // between columns
)

func newTable(n *spec.Network, hub int, title block, sites []int) *table {
	t := &table{hub: hub, title: title, sites: sites}
	headW, headH := title.width(), title.height()
	if hub >= 0 {
		c := newCard(n, hub, tinyDetail)
		t.head, headW, headH = &c, c.w, c.h
	}
	for _, i := range sites {
		var facts []string
		if hub >= 0 {
			facts = linkFacts(n, hub, i)
		}
		row := newSiteRow(n, i, facts)
		t.rows = append(t.rows, row)
		t.cols.fit(row)
	}
	t.per = max(6, int(math.Ceil(math.Sqrt(6*float64(len(sites))))))
	columns := (len(sites) + t.per - 1) / t.per
	if columns > 0 {
		t.per = (len(sites) + columns - 1) / columns
	}
	w := float64(columns)*(tableTree+t.cols.width()+tableGap) - tableGap
	t.w = math.Ceil(math.Max(w, headW) + 2*tablePad)
	t.h = math.Ceil(headH + 2*tablePad)
	if columns > 0 {
		t.h += 12 + float64(t.per)*rowPitch
	}
	return t
}

// draw puts the table with its upper left corner at p.
func (t *table) draw(n *spec.Network, s *scene, p point) rect {
	r := rect{p.x, p.y, t.w, t.h}
	outline, fill := hair, wash
	if t.head == nil {
		outline = pale
	}
	s.box(back, r, 8, paint{fill: fill, stroke: outline, width: 1.4})
	bottom := p.y + tablePad + t.title.height()
	if t.head != nil {
		c := t.head.draw(n, s, point{p.x + tablePad, p.y + tablePad}, 0, 0)
		bottom = c.bottom()
	} else {
		s.block(boxes, point{p.x + tablePad, p.y + tablePad}, start, t.title)
	}
	bus := bottom + 8
	for k, i := range t.sites {
		x := p.x + tablePad + float64(k/t.per)*(tableTree+t.cols.width()+tableGap)
		at := point{x + tableTree, bottom + 12 + (float64(k%t.per)+0.5)*rowPitch}
		s.drawRow(n, i, t.rows[k], at, 1, 0, t.cols)
		t.branch(n, s, i, x+6, at)
	}
	if len(t.sites) > 0 {
		t.drawTrunk(n, s, point{p.x + tablePad + 6, bottom}, bus)
	}
	return r
}

// drawTrunk draws what the branches have in common: from under the head along the bus, and
// down each column.
func (t *table) drawTrunk(n *spec.Network, s *scene, from point, bus float64) {
	p := t.paint(n, t.sites...)
	if t.head != nil {
		s.path(links, moveTo(from).lineTo(point{from.x, bus}), p)
	}
	last := from.x
	for k := 0; k < len(t.sites); k += t.per {
		rows := min(t.per, len(t.sites)-k)
		last = from.x + float64(k/t.per)*(tableTree+t.cols.width()+tableGap)
		down := point{last, bus + 4 + (float64(rows)-0.5)*rowPitch}
		s.path(links, moveTo(point{last, bus}).lineTo(down), p)
	}
	if last > from.x {
		s.path(links, moveTo(point{from.x, bus}).lineTo(point{last, bus}), p)
	}
}

// paint is how the way to some of the sites looks: grey only if none of their links can be
// made.
func (t *table) paint(n *spec.Network, sites ...int) paint {
	if t.head == nil {
		return paint{stroke: pale, width: 5}
	}
	p := deadPaint
	for _, i := range sites {
		if n.CanLink(t.hub, i) {
			p = paintOf(true, n.Links.Options(t.hub, i).NoTunnel)
		}
	}
	return paint{stroke: p.stroke, width: 1.6, dash: p.dash}
}

// branch draws the end of the way to a row: of the link to the hub, or of the membership
// in the mesh.
func (t *table) branch(n *spec.Network, s *scene, i int, x float64, at point) {
	title := ""
	if t.head != nil {
		title = linkDetails(n, t.hub, i)
	}
	s.group(links, title, func() {
		s.path(links, moveTo(point{x, at.y}).lineTo(point{at.x - 5, at.y}), t.paint(n, i))
	})
}
