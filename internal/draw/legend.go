package draw

import (
	"fmt"
	"strings"

	"tombolo/internal/spec"
)

// legendItem is a sign and what it means.
type legendItem struct {
	draw func(p point) // p is the sign's left end, on its centre line
	w    float64       // of the sign
	text string
}

// signW is how long the lines in the legend are.
const signW = 24.0

// legend explains the signs that are in the picture, under it.
func (p *picture) legend() {
	items := p.legendItems()
	if len(items) == 0 {
		return
	}
	limit := max(p.right, p.bodyRight)
	x, y := margin, p.bodyBottom+30
	for _, it := range items {
		t := say(it.text, noteStyle)
		if x > margin && x+it.w+7+t.width() > limit {
			x, y = margin, y+20
		}
		it.draw(point{x, y})
		p.s.text(labels, point{x + it.w + 7, y - t.height()/2}, start, t)
		x += it.w + 7 + t.width() + 22
	}
	p.bodyBottom = y + 6
}

func (p *picture) legendItems() []legendItem {
	lineItem := func(text string, pt paint) legendItem {
		return legendItem{func(at point) { p.s.line(links, at, point{at.x + signW, at.y}, pt) }, signW, text}
	}
	out := p.reachItems()
	tunnels, lan, dead := countLinks(p.n, p.st.single)
	if tunnels > 0 {
		out = append(out, lineItem("tunnel", tunnelPaint))
	}
	if lan > 0 {
		out = append(out, lineItem("on one LAN, no tunnel", lanPaint))
	}
	if dead > 0 {
		out = append(out, lineItem("neither end can be dialled", deadPaint))
	}
	if len(p.n.Exits) > 0 || len(p.n.Publish) > 0 {
		out = append(out, legendItem{func(at point) {
			p.s.arrow(links, []point{at, {at.x + signW, at.y}}, paint{stroke: orange, width: 1.8})
		}, signW, internetMeaning(p.n)})
	}
	if p.clients != nil && p.pill.w > 0 {
		out = append(out, lineItem("clients enter", paint{stroke: green, width: 1.6, dash: "2 3"}))
	}
	if len(p.n.Segments) > 0 {
		out = append(out, legendItem{func(at point) { p.s.double([]point{at, {at.x + signW, at.y}}) }, signW, "layer 2 segment"})
	}
	return out
}

func internetMeaning(n *spec.Network) string {
	switch {
	case len(n.Publish) == 0:
		return "exit to the Internet"
	case len(n.Exits) == 0:
		return "published port"
	}
	return "exit to the Internet, published port"
}

// reachItems explains the dots, where the picture has both.
func (p *picture) reachItems() []legendItem {
	var open, closed bool
	for i := range p.n.Sites {
		if reachable(&p.n.Sites[i]) {
			open = true
		} else {
			closed = true
		}
	}
	var out []legendItem
	if open {
		out = append(out, legendItem{func(at point) { p.s.reachDot(links, point{at.x + 4, at.y}, true) }, 8, "can be dialled from outside"})
	}
	if closed {
		out = append(out, legendItem{func(at point) { p.s.reachDot(links, point{at.x + 4, at.y}, false) }, 8, "dials out"})
	}
	return out
}

// reachDot draws the sign for a site that can, or cannot, be dialled.
func (s *scene) reachDot(l layer, c point, open bool) {
	if open {
		s.circle(l, c, 4, paint{fill: blue})
	} else {
		s.circle(l, c, 3.4, paint{fill: paper, stroke: blue, width: 1.4})
	}
}

// countLinks returns how many of the links are tunnels, how many need none, and how many
// cannot be made.
func countLinks(n *spec.Network, pairs [][2]int) (tunnels, lan, dead int) {
	for _, e := range pairs {
		switch {
		case !n.CanLink(e[0], e[1]):
			dead++
		case n.Links.Options(e[0], e[1]).NoTunnel:
			lan++
		default:
			tunnels++
		}
	}
	return tunnels, lan, dead
}

func allLinks(n *spec.Network) [][2]int { return newAdjacency(n).edges() }

// describe says in words what the picture shows.
func describe(n *spec.Network, st structure) string {
	out := []string{subtitle(n) + "."}
	if n.Overlay6.IsValid() {
		out = append(out, "IPv6 overlay "+n.Overlay6.String()+".")
	}
	for i := range n.Sites {
		s := &n.Sites[i]
		text := s.Name + " " + s.Address.String() + ", " + reach(n, s)
		for _, l := range s.LANs {
			for _, m := range l.Prefixes {
				text += ", LAN " + mapped(m)
			}
		}
		out = append(out, text+".")
	}
	_, _, dead := countLinks(n, allLinks(n))
	if dead > 0 {
		out = append(out, plural(dead, "link")+" cannot be made: neither end can be dialled.")
	}
	for _, m := range st.meshes {
		out = append(out, fmt.Sprintf("%d sites are a full mesh.", len(m.members)))
	}
	for _, e := range n.Exits {
		out = append(out, "Traffic of "+strings.Join(e.For, ", ")+" leaves at "+strings.Join(e.Via, ", then ")+".")
	}
	return strings.Join(out, "\n")
}
