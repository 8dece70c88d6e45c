package draw

import (
	"math"
	"slices"
	"strings"

	"tombolo/internal/spec"
)

// The upper half of a row: the Internet, the clients in it, and the uplinks.

// uplinkLabels returns the text beside each uplink of a site; what enters or leaves at the
// site stands at the first.
func (r *row) uplinkLabels(site int) []block {
	var out []block
	for i, u := range r.n.Sites[site].Uplinks {
		addresses, extra := uplinkFacts(u)
		b := block{say(shorten(u.Device, 15), strongStyle)}
		for _, a := range addresses {
			b = append(b, say(a, monoStyle))
		}
		for _, e := range extra {
			b = append(b, say(e, noteStyle))
		}
		if i == 0 {
			b = append(b, r.internetLabels(site)...)
		}
		out = append(out, b)
	}
	return out
}

// internetLabels says whose traffic leaves at a site, and which ports are published.
func (r *row) internetLabels(site int) block {
	var out block
	s := noteStyle.in(orange)
	for _, t := range r.lanes {
		if t.at != site {
			continue
		}
		switch t.kind {
		case exitKind:
			e := r.n.Exits[t.index]
			for _, text := range wrap(exitLead(e, t.choice), e.For, 24, ",") {
				out = append(out, say(shorten(text, 30), s))
			}
			if t.choice == len(e.Via)-1 {
				for _, text := range otherwise(e) {
					out = append(out, say(text, s))
				}
			}
		case publishKind:
			p := r.n.Publish[t.index]
			from, to, _ := strings.Cut(published(p), " → ")
			out = append(out, say(from+" →", s), say(to, s))
		}
	}
	return cut(out, 10)
}

// span is the distance from a site's first uplink to its last.
func (r *row) span(ups []block) float64 {
	d := 0.0
	for i, u := range ups {
		if i < len(ups)-1 {
			d += math.Max(u.width()+8+16, 40) + laneStep*float64(1+len(r.lanes))
		}
	}
	return d
}

// uplinkX returns where the uplinks of the site at p are.
func (r *row) uplinkX(p int) []float64 {
	ups := r.ups[p]
	x := 0.0
	if len(r.x) > 0 {
		x = r.centre(p)
	}
	x -= math.Round(r.span(ups) / 2)
	var out []float64
	for i := range ups {
		out = append(out, x)
		x += r.span(ups[i:min(i+2, len(ups))])
	}
	return out
}

// uplinkExtent returns how far the uplinks with their labels reach from a card's centre.
func (r *row) uplinkExtent(p int) (left, right float64) {
	ups := r.ups[p]
	if len(ups) == 0 {
		return r.w / 2, r.w / 2
	}
	half := r.span(ups) / 2
	lanes := laneStep * float64(1+len(r.lanes))
	left = half + math.Max(lanes, 18)
	right = half + 8 + ups[len(ups)-1].width()
	if len(ups) == 1 {
		right = 8 + ups[0].width()
	}
	return left, math.Max(right, r.w/2)
}

// pill is the band that stands for the Internet, as wide as the sites.
func (r *row) pill() rect {
	last := len(r.order) - 1
	return rect{r.x[0], r.pillTop, r.x[last] + r.w - r.x[0], pillH}
}

// drawInternet draws the band.
func (r *row) drawInternet() {
	r.s.band(r.pill())
}

// band draws the Internet.
func (s *scene) band(box rect) {
	s.group(back, "", func() {
		s.box(back, box, pillH/2, paint{fill: wash, stroke: hair, width: 1.2})
		label := say("Internet", style{size: 13, bold: true, colour: muted})
		c := box.centre()
		t := s.text(back, point{c.x + 14, c.y - label.height()/2}, middle, label)
		s.cloud(back, point{t.x - 34, c.y + 7}, muted)
	})
}

// cloud draws a small cloud, 26 by 16, with its lower left corner at p.
func (s *scene) cloud(l layer, p point, colour string) {
	at := func(dx, dy float64) string { return num(p.x+dx) + " " + num(p.y+dy) }
	arc := func(r float64, dx, dy float64) string {
		return "A" + num(r) + " " + num(r) + " 0 0 1 " + at(dx, dy)
	}
	d := "M" + at(6, 0) + arc(5.2, 5, -10) + arc(7, 17.5, -11.5) + arc(5.8, 20.5, 0) + "Z"
	s.path(l, pathData(d), paint{fill: paper, stroke: colour, width: 1.4})
}

// drawUplinks draws the lines from a site to the Internet, with their labels.
func (r *row) drawUplinks(p int) {
	site := &r.n.Sites[r.order[p]]
	for i, x := range r.uplinkX(p) {
		r.s.line(links, point{x, r.pillBottom}, point{x, r.cardTop}, paint{stroke: muted, width: 1.4})
		if !reachable(site) {
			r.s.chip(point{x, r.pillBottom + 14}, "NAT")
		}
		r.s.block(labels, point{x + 8, r.pillBottom + chipZone}, start, r.ups[p][i])
	}
	if x := r.uplinkX(p); len(x) > 0 && r.isDoor(site) && site.Dialable(site.BasePort) {
		at := x[0] - laneStep
		d := paint{stroke: green, width: 1.6, dash: "2 3"}
		r.s.line(flows, point{at, r.pillBottom}, point{at, r.cardTop - 3}, d)
		r.s.circle(flows, point{at, r.cardTop - 3}, 2.6, paint{fill: green})
	}
}

func (r *row) isDoor(s *spec.Site) bool {
	return r.n.Clients != nil && slices.Contains(r.n.Clients.At, s.Name)
}

// chip draws a small framed word with its centre at c.
func (s *scene) chip(c point, word string) {
	t := say(word, style{size: 9, bold: true, colour: muted})
	r := rect{c.x - t.width()/2 - 5, c.y - 7.5, t.width() + 10, 15}
	s.group(labels, "", func() {
		s.box(labels, r, 3, paint{fill: paper, stroke: muted, width: 1})
		s.text(labels, point{c.x, c.y - t.height()/2}, middle, t)
	})
}
