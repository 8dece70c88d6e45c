package draw

import (
	"math"
	"slices"
)

// ring is the picture of a full mesh, a cycle, or a star: the sites on an ellipse, each on
// a line of its own, so that no text meets another, however many there are.
type ring struct {
	*board
	sites []int // clockwise from the upper right, for a cycle; else by reading order
	hub   int   // in the middle; -1: none
	rows  []ringRow
	sides [2][]int // indices of sites, left and right, from top to bottom

	cx, cy, a, b float64 // the ellipse
}

// ringRow is a site's text beside the ring: a card, or a line where there are many.
type ringRow struct {
	card *card
	text siteRow
	h    float64
}

const (
	ringCards = 16   // up to here the sites have cards
	ringGap   = 12.0 // between cards
)

func newRing(b *board) *ring {
	r := &ring{board: b, hub: -1, rows: make([]ringRow, len(b.n.Sites))}
	for i := range b.n.Sites {
		r.sites = append(r.sites, i)
	}
	half := (len(r.sites) + 1) / 2
	switch b.st.shape {
	case starShape:
		r.hub, r.sites = b.st.order[0], b.st.order[1:]
		half = (len(r.sites) + 1) / 2
		r.sides = [2][]int{r.sites[:half], r.sites[half:]}
	case cycleShape:
		r.sites = b.st.order
		r.sides[1] = r.sites[:half]
		r.sides[0] = slices.Clone(r.sites[half:])
		slices.Reverse(r.sides[0])
	default:
		r.sides = [2][]int{r.sites[:half], r.sites[half:]}
	}
	return r
}

// draw lays the ring out below top and draws it.
func (r *ring) draw(top float64) {
	for _, i := range r.sites {
		r.rows[i] = r.newRow(i)
	}
	r.size(top)
	if r.hub < 0 && len(r.st.meshes) > 0 {
		r.drawMesh()
	}
	for side := range r.sides {
		r.drawSide(side)
	}
	if r.hub >= 0 {
		c := newCard(r.n, r.hub, cardDetail)
		r.place[r.hub] = point{r.cx, r.cy}
		r.clip[r.hub] = c.draw(r.n, r.s, point{r.cx - c.w/2, r.cy - c.h/2}, 0, 0)
	}
	r.route = r.chord
	r.drawLinks()
	if r.hub < 0 { // else they stand in the rows
		r.drawLabels()
	}
}

// chord is a link's way: straight in stars and between neighbours, else through the inside.
func (r *ring) chord(a, b int) curve {
	if r.st.shape != meshShape {
		return straight(r.place[a], r.place[b])
	}
	return pulled(r.place[a], r.place[b], point{r.cx, r.cy}, 0.45)
}

func (r *ring) newRow(i int) ringRow {
	if len(r.sites) <= ringCards {
		c := newCard(r.n, i, cardDetail)
		if r.st.shape == starShape {
			for _, f := range linkFacts(r.n, r.hub, i) {
				c.body = append(c.body, say("link: "+f, noteStyle.sized(10)))
			}
			c.measure()
		}
		if r.st.shape == cycleShape { // room for the links between neighbours
			return ringRow{card: &c, h: c.h + 2.5*ringGap}
		}
		return ringRow{card: &c, h: c.h + ringGap}
	}
	var facts []string
	if r.st.shape == starShape {
		facts = linkFacts(r.n, r.hub, i)
	}
	return ringRow{text: newSiteRow(r.n, i, facts), h: rowPitch}
}

// columns returns the widths of one side's columns; of cards the width of the widest.
func (r *ring) columns(side int) (cols columns, card float64) {
	for _, i := range r.sides[side] {
		if c := r.rows[i].card; c != nil {
			card = math.Max(card, c.w)
		} else {
			cols.fit(r.rows[i].text)
		}
	}
	return cols, card
}

// reach is how far the text of a side extends outward from the ring.
func (r *ring) reach(side int) float64 {
	cols, card := r.columns(side)
	return math.Max(card, cols.width())
}

// size finds the ellipse: so high that the rows fit, and wide enough for what is inside.
func (r *ring) size(top float64) {
	h := 0.0
	for side := range r.sides {
		h = math.Max(h, r.height(side))
	}
	r.b = h/2*1.03 + 8
	r.a = math.Max(190, r.b*0.82)
	if r.hub >= 0 {
		r.a = math.Max(r.a, newCard(r.n, r.hub, cardDetail).w/2+130)
	}
	r.cy = top + h/2
	if r.hub < 0 {
		r.cy = top + r.b + 6
	}
	r.cx = margin + r.reach(0) + r.a
}

func (r *ring) height(side int) float64 {
	h := 0.0
	for _, i := range r.sides[side] {
		h += r.rows[i].h
	}
	return h
}

// x is the distance of the ring from its axis at height y.
func (r *ring) x(y float64) float64 {
	d := (y - r.cy) / r.b
	return math.Round(r.a * math.Sqrt(math.Max(0, 1-d*d)))
}

// bulge is how much farther out than at height y the ring is within a line's height.
func (r *ring) bulge(y float64) float64 {
	if r.hub >= 0 {
		return 0
	}
	return math.Max(0, math.Max(r.x(y-9), r.x(y+9))-r.x(y))
}

// drawSide puts the sites of one side on the ring.
func (r *ring) drawSide(side int) {
	y := r.cy - r.height(side)/2
	cols, cardW := r.columns(side)
	out := float64(2*side - 1) // -1: to the left
	for _, i := range r.sides[side] {
		row := r.rows[i]
		at := point{r.cx + out*r.x(y+row.h/2), y + row.h/2}
		r.place[i] = at
		y += row.h
		if row.card != nil {
			left := at.x
			if side == 0 {
				left -= cardW
			}
			r.clip[i] = row.card.draw(r.n, r.s, point{left, at.y - row.card.h/2}, cardW, 0)
			if r.st.shape == cycleShape {
				r.place[i] = r.clip[i].centre()
			}
			continue
		}
		r.clip[i] = rect{at.x - 5, at.y - 5, 10, 10}
		r.s.drawRow(r.n, i, row.text, at, out, r.bulge(at.y), cols)
	}
}

// drawMesh draws the bundle that stands for all links of the mesh.
func (r *ring) drawMesh() {
	m := r.st.meshes[0]
	c := point{r.cx, r.cy}
	r.s.ellipse(back, c, r.a, r.b, paint{stroke: pale, width: 8})
	r.rosette()
	b := block{
		say("full mesh", nameStyle.in(blue)),
		say(plural(len(m.members), "site")+", each with each", noteStyle),
		say(plural(m.links, "link"), noteStyle),
	}
	b = append(b, meshNotes(m)...)
	w, h := b.width(), b.height()
	r.s.group(labels, "", func() {
		r.s.box(labels, rect{c.x - w/2 - 14, c.y - h/2 - 10, w + 28, h + 20}, 8, paint{fill: paper, stroke: pale, width: 1.5})
		r.s.block(labels, point{c.x, c.y - h/2}, middle, b)
	})
}

// meshNotes says what of a mesh is not drawn singly and yet differs.
func meshNotes(m mesh) block {
	var b block
	if m.dead > singles {
		b = append(b, say("of these, "+thousands(m.dead)+" cannot be made:", noteStyle.in(faint)), say("neither end can be dialled", noteStyle.in(faint)))
	}
	if m.notes > 0 {
		b = append(b, say(thousands(m.notes)+" with options", noteStyle))
	}
	return b
}

// rosette draws, very light, all links of a small mesh, and of a large one those over about
// two fifths of the ring: a hint of each with each.
func (r *ring) rosette() {
	around := slices.Clone(r.sides[1])
	left := slices.Clone(r.sides[0])
	slices.Reverse(left)
	around = append(around, left...)
	y := map[int]point{}
	for side := range r.sides {
		top, out := r.cy-r.height(side)/2, float64(2*side-1)
		for _, i := range r.sides[side] {
			h := r.rows[i].h
			y[i] = point{r.cx + out*r.x(top+h/2), top + h/2}
			top += h
		}
	}
	colour := pale
	if len(around) <= ringCards { // these are all of its links
		colour = light
	}
	for k, i := range around {
		for step := 1; step < len(around); step++ {
			o := around[(k+step)%len(around)]
			if (i < o && len(around) <= ringCards || step == len(around)*2/5) && r.n.CanLink(i, o) {
				r.s.path(back, moveTo(y[i]).lineTo(y[o]), paint{stroke: colour, width: 1})
			}
		}
	}
}
