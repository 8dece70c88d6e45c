package draw

import (
	"slices"
	"strings"

	"tombolo/internal/spec"
)

// Way is a flow's way through the network, and that of its answer, for SVGWay to draw over the
// picture. It is in plain names, so that whoever follows flows need not be known here.
type Way struct {
	There, Back []Stop // in the order in which the packets come by; Back may be empty
	Lost        *Stop  // where it ends before its end; nil: it does not
	Reason      string // why it is lost there, for the tooltip of the cross

	Flow    string   // what it is; these are the captions
	Verdict []string // how it ends
}

// Stop is a place that a flow comes by.
type Stop struct {
	Name string // of a site or a roaming device; empty: the Internet
	LAN  bool   // a host behind the site

	// The site's uplinks by which it comes from the Internet and leaves to it; empty: the first.
	In, Out string
}

// String is how the caption names a stop.
func (s Stop) String() string {
	switch {
	case s.Name == "":
		return "Internet"
	case s.LAN:
		return s.Name + "'s LAN"
	}
	return shorten(s.Name, maxName)
}

// words are stops as text.
func words(stops []Stop) string {
	var out []string
	for _, s := range stops {
		out = append(out, s.String())
	}
	return strings.Join(out, " → ")
}

// place says what of the picture a stop is.
type place struct {
	kind placeKind
	site int
}

type placeKind int

const (
	nowhere placeKind = iota
	atSite
	atLAN
	atClient
	atInternet
)

func placeOf(n *spec.Network, s Stop) place {
	if s.Name == "" {
		return place{kind: atInternet}
	}
	if i, ok := n.Site(s.Name); ok {
		if s.LAN {
			return place{atLAN, i}
		}
		return place{atSite, i}
	}
	if n.Clients != nil && slices.ContainsFunc(n.Clients.Devices, func(d spec.Device) bool { return d.Name == s.Name }) {
		return place{kind: atClient}
	}
	return place{}
}

// outward reports whether the way leaves the sites, so that the Internet has to be in the picture.
func (w *Way) outward(n *spec.Network) bool {
	return w != nil && slices.ContainsFunc(slices.Concat(w.There, w.Back), func(s Stop) bool {
		k := placeOf(n, s).kind
		return k == atInternet || k == atClient
	})
}

// hops are the pairs of sites that the way goes between.
func (w *Way) hops(n *spec.Network) [][2]int {
	var out [][2]int
	if w == nil {
		return out
	}
	for _, stops := range [][]Stop{w.There, w.Back} {
		for i := 1; i < len(stops); i++ {
			a, b := placeOf(n, stops[i-1]), placeOf(n, stops[i])
			pair := [2]int{min(a.site, b.site), max(a.site, b.site)}
			if a.kind == atSite && b.kind == atSite && a.site != b.site && !slices.Contains(out, pair) {
				out = append(out, pair)
			}
		}
	}
	return out
}

// ground is what a way is drawn on: a row, or a board.
type ground interface {
	// cardOf is the box that stands for a site.
	cardOf(site int) rect
	// drawHop draws an arrow from site to site, off pixels beside their link.
	drawHop(a, b int, off float64, p paint)
	// uplink is where a site's way to the Internet begins.
	uplink(site int, device string) point
	// lan is where the LAN of a site is joined to it, if that is in the picture.
	lan(site int) (card, lan point, ok bool)
}

var (
	therePaint = paint{stroke: magenta, width: 2.4}
	backPaint  = paint{stroke: teal, width: 2.4, dash: "5 3"}
)

// beside is how far from the middle of a link the way is drawn: there on one side, back on the
// other, nearer than lanes are.
const beside = 3.0

// way draws the flow's way over the finished picture.
func (p *picture) way() {
	if p.flow == nil || p.ground == nil {
		return
	}
	p.stretches("the way there", p.flow.There, -beside, therePaint)
	p.stretches("the way back", p.flow.Back, beside, backPaint)
	p.outlines()
	if at := p.flow.Lost; at != nil {
		if c, ok := p.crossAt(placeOf(p.n, *at)); ok {
			p.s.group(labels, p.flow.Reason, func() { p.s.cross(labels, c) })
		}
	}
}

// stretches draws one direction, stop by stop.
func (p *picture) stretches(title string, stops []Stop, off float64, pt paint) {
	p.s.group(ways, title, func() {
		for i := 1; i < len(stops); i++ {
			from, to := stops[i-1], stops[i]
			a, b := placeOf(p.n, from), placeOf(p.n, to)
			switch {
			case a.kind == atSite && b.kind == atSite && a.site != b.site:
				p.ground.drawHop(a.site, b.site, off, pt)
			case a.kind == atSite && (b.kind == atInternet || b.kind == atClient):
				up, down := p.uplinkOf(a.site, from.Out, off)
				p.s.arrow(ways, []point{down, up}, pt)
				p.door(b, off, pt, false)
			case b.kind == atSite && (a.kind == atInternet || a.kind == atClient):
				p.door(a, off, pt, true)
				up, down := p.uplinkOf(b.site, to.In, off)
				p.s.arrow(ways, []point{up, down}, pt)
			case a.kind == atLAN && b == place{atSite, a.site}, b.kind == atLAN && a == place{atSite, b.site}:
				site, lan, ok := p.ground.lan(a.site)
				if !ok {
					continue
				}
				site.x, lan.x = site.x+off, lan.x+off
				if a.kind == atLAN {
					site, lan = lan, site
				}
				p.s.arrow(ways, []point{site, lan}, pt)
			}
		}
	})
}

// uplinkOf is the line between the Internet and a site.
func (p *picture) uplinkOf(site int, device string, off float64) (up, down point) {
	down = p.ground.uplink(site, device)
	down.x += off
	x := min(max(down.x, p.pill.x+pillH/2), p.pill.right()-pillH/2)
	return point{x, p.pill.bottom()}, down
}

// door draws the way between the clients' box and the Internet, which they are in.
func (p *picture) door(at place, off float64, pt paint, in bool) {
	if at.kind != atClient || p.clientBox.w == 0 {
		return
	}
	x := min(p.clientBox.centre().x, p.pill.right()-pillH/2) + off
	pts := []point{{x, p.clientBox.bottom()}, {x, p.pill.y}}
	if !in {
		slices.Reverse(pts)
	}
	p.s.arrow(ways, pts, pt)
}

// outlines marks the boxes that the way comes by, so that it can be followed through them.
func (p *picture) outlines() {
	var seen []rect
	mark := func(stops []Stop, pt paint) {
		for _, s := range stops {
			at := placeOf(p.n, s)
			box := p.pill
			switch at.kind {
			case nowhere, atLAN:
				continue
			case atClient:
				box = p.clientBox
			case atSite:
				box = p.ground.cardOf(at.site)
			case atInternet:
			}
			if box.w == 0 || slices.Contains(seen, box) {
				continue
			}
			seen = append(seen, box)
			radius := 6.0
			if box == p.pill {
				radius = pillH / 2
			}
			p.s.outline(frames, box, radius, pt)
		}
	}
	mark(p.flow.There, paint{stroke: magenta, width: 2})
	mark(p.flow.Back, paint{stroke: teal, width: 2, dash: "5 3"})
}

// crossAt is where the cross of a stop is: at the corner of its box, which has no text.
func (p *picture) crossAt(at place) (point, bool) {
	box := p.pill
	switch at.kind {
	case nowhere:
		return point{}, false
	case atClient:
		box = p.clientBox
	case atSite, atLAN:
		if box = p.ground.cardOf(at.site); box.w <= 10 { // a dot, with text beside it
			return box.centre(), true
		}
	case atInternet:
		return point{box.x + pillH/2, box.centre().y}, box.w > 0
	}
	return point{box.x, box.y}, box.w > 0
}
