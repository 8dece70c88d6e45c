// Package draw makes a picture of a network file: as SVG, laid out by this package, and as
// text for Graphviz and Mermaid, which lay out by themselves.
//
// What the SVG looks like follows from the network alone, without clock or randomness, so
// that the same file gives the same bytes. Few sites stand in a row, with the Internet
// above and the LANs below them, and everything that the file says beside them. More sites
// are drawn by the shape of their links: a full mesh as a ring, a star around its hub, a
// chain as a path, and anything else by an own spring layout; what does not fit there is
// listed under the picture.
//
// Full meshes of nine and more sites are drawn as one thing in all three formats: the 1,770
// links of sixty sites say nothing that "each with each" does not. Links that differ from
// the rest are drawn singly all the same.
package draw

import (
	"math"

	"tombolo/internal/spec"
)

// SVG returns a picture of n as a self-contained SVG document with its own background.
func SVG(n *spec.Network) []byte { return SVGWay(n, nil) }

// SVGWay is SVG with the way of a flow drawn over it: the way there in one colour, the way back
// dashed in another, a cross where it is lost, and captions under the picture. Without a way it is
// the same picture as that of SVG.
func SVGWay(n *spec.Network, w *Way) []byte {
	var s scene
	st := analyse(n)
	p := picture{n: n, s: &s, st: st, flow: w}
	p.header()
	switch {
	case len(n.Sites) == 0:
		p.bodyRight, p.bodyBottom = margin, p.bodyTop-26
	case st.shape == rowShape:
		p.row()
	default:
		p.board()
	}
	p.finish()
	wide := math.Max(p.right, p.bodyRight) + margin
	return s.bytes(wide, p.bodyBottom+margin, "Network "+n.Name, describe(n, st)+w.describe())
}

// picture is what the layouts have in common: a header, a body and a footer.
type picture struct {
	n  *spec.Network
	s  *scene
	st structure

	clients    *clientCard // in the header; nil: none, or listed below
	right      float64     // of the header
	headH      float64
	bodyTop    float64
	bodyRight  float64
	bodyBottom float64
	pill       rect // the Internet, where it is drawn
	clientBox  rect // the clients, where they are drawn

	flow   *Way // nil: none
	ground ground
}

// header measures the title and the clients, which stand beside it in a row's picture.
func (p *picture) header() {
	title, sub := say(shorten(p.n.Name, 60), titleStyle), say(subtitle(p.n), subStyle)
	p.s.text(boxes, point{margin, margin - 4}, start, title)
	p.s.text(boxes, point{margin, margin + 24}, start, sub)
	p.headH = 24 + sub.height()
	p.right = margin + math.Max(title.width(), sub.width())
	if p.n.Clients != nil {
		p.clients = newClientCard(p.n, p.st.shape != rowShape)
		p.right += 40 + p.clients.w
		p.headH = math.Max(p.headH, p.clients.h-4)
	}
	p.bodyTop = margin + p.headH + 26
}

func (p *picture) row() {
	r := &row{n: p.n, s: p.s, lanes: allTraffic(p.n), top: p.bodyTop, extra: p.flow.hops(p.n)}
	r.draw(p.st)
	p.ground = r
	p.pill, p.bodyRight, p.bodyBottom = r.pill(), r.extent(), r.lanBottom
}

// edge is where the header ends on the right: with the Internet, else with the body.
func (p *picture) edge() float64 {
	if p.pill.w > 0 {
		return p.pill.right()
	}
	return p.bodyRight
}

// board draws the body of a picture of many sites.
func (p *picture) board() {
	b := newBoard(p.n, p.s, p.st)
	p.ground = b
	outward := p.flow.outward(p.n)
	if outward {
		p.bodyTop += pillH + 24
	}
	switch p.st.shape {
	case meshShape, starShape, cycleShape:
		newRing(b).draw(p.bodyTop)
	case chainShape:
		b.drawChain(p.bodyTop)
	default:
		b.drawGraph(p.bodyTop)
	}
	p.bodyRight, p.bodyBottom = p.s.extent()
	if outward {
		p.internet()
	}
	p.notes(sections(p.n, b.unplaced))
}

// finish draws what depends on the size of the body: clients and legend.
func (p *picture) finish() {
	if c := p.clients; c != nil {
		x := math.Max(p.right, p.edge()) - c.w
		box := c.draw(p.s, point{x, margin - 4})
		p.clientBox = box
		if p.pill.w > 0 {
			at := math.Min(box.centre().x, p.pill.right()-pillH/2)
			p.s.line(flows, point{at, box.bottom()}, point{at, p.pill.y}, paint{stroke: green, width: 1.6, dash: "2 3"})
		}
		p.right = math.Max(p.right, box.right())
	}
	p.way()
	p.legend()
	p.caption()
}
