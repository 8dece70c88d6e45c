package draw

import (
	"math"
	"slices"

	"tombolo/internal/spec"
)

// detail is how much is said of a site in its card.
type detail int

const (
	fullDetail detail = iota // LANs and uplinks are drawn beside the card
	cardDetail               // LANs and uplinks are lines in the card
	tinyDetail               // name and address
)

// card is a site's box with its text, before it has a place.
type card struct {
	site  int
	head  line // left in the first line
	tag   line // right in the first line
	body  block
	w, h  float64
	title string // tooltip
}

const (
	padX = 12.0
	padY = 9.0
)

// maxName is how many characters of a name are shown; the tooltip has them all.
const maxName = 26

func newCard(n *spec.Network, i int, d detail) card {
	s := &n.Sites[i]
	c := card{site: i, title: details(n, i)}
	switch d {
	case fullDetail:
		c.head = say(shorten(s.Name, maxName), nameStyle)
		c.tag = say(tag(n, s), tagStyle)
		c.body = append(block{say(s.Address.String(), addrStyle)}, reachLines(n, s)...)
	case cardDetail:
		c.head = say(shorten(s.Name, maxName), nameStyle.sized(13))
		c.tag = say(tag(n, s), tagStyle.sized(10))
		c.body = append(block{say(s.Address.String(), monoStyle)}, reachLines(n, s)...)
		c.body = append(c.body, lanLines(s, 3)...)
		c.body = append(c.body, uplinkLines(s, 2)...)
	case tinyDetail:
		c.head = say(shorten(s.Name, 18), nameStyle.sized(12))
		if s.Kind != spec.Linux {
			c.tag = say(string(s.Kind), tagStyle.sized(9))
		}
		c.body = block{say(s.Address.String(), monoStyle.sized(10))}
		if l := firstPrefix(s, monoStyle.sized(10).in(muted)); len(l) > 0 {
			c.body = append(c.body, l)
		}
	}
	c.body = append(c.body, roleLines(n, i, d)...)
	c.measure()
	return c
}

// measure sets the size that the text needs.
func (c *card) measure() {
	first := 14 + c.head.width()
	if len(c.tag) > 0 {
		first += 14 + c.tag.width()
	}
	c.w = math.Ceil(math.Max(first, c.body.width()) + 2*padX)
	c.h = math.Ceil(c.head.height() + 3 + c.body.height() + 2*padY)
}

// reachLines says how the site is reached, one line for each endpoint.
func reachLines(n *spec.Network, s *spec.Site) block {
	if !reachable(s) {
		return block{say(reach(n, s), noteStyle)}
	}
	var out block
	for i, e := range endpoints(n, s) {
		if i == 3 {
			out = append(out, say("and "+plural(len(s.Endpoints)-3, "other"), noteStyle))
			break
		}
		out = append(out, say(shorten(e, 34), noteStyle))
	}
	if text := inbound(s); text != "" {
		out = append(out, say(shorten(text, 34), noteStyle))
	}
	return out
}

// lanLines lists a site's prefixes, at most limit.
func lanLines(s *spec.Site, limit int) block {
	var out block
	for _, l := range s.LANs {
		for _, m := range l.Prefixes {
			out = append(out, line{{shorten(l.Device, 15) + " ", noteStyle.sized(10)}, {m.Prefix.String(), monoStyle.sized(10)}})
			if m.As.IsValid() {
				out = append(out, line{{"seen as ", noteStyle.sized(10)}, {m.As.String(), monoStyle.sized(10)}})
			}
		}
	}
	return cut(out, limit)
}

// uplinkLines lists a site's uplinks, at most limit.
func uplinkLines(s *spec.Site, limit int) block {
	var out block
	for _, u := range s.Uplinks {
		l := line{{shorten(u.Device, 15) + " ", noteStyle.sized(10)}}
		addresses, extra := uplinkFacts(u)
		if len(addresses) > 0 {
			l = append(l, span{addresses[0], monoStyle.sized(10)})
		}
		if u.MTU != 0 && u.MTU != 1500 {
			l = append(l, span{" " + extra[0], noteStyle.sized(10)})
		}
		out = append(out, l)
	}
	return cut(out, limit)
}

// cut shortens a list to limit lines and says how many are left out.
func cut(b block, limit int) block {
	if len(b) <= limit {
		return b
	}
	more := plural(len(b)-limit+1, "more line")
	return append(slices.Clip(b[:limit-1]), say("and "+more, noteStyle.sized(10)))
}

// roleLines says what a site does for others: a door for clients, a segment's end. Where
// exits and published ports are not drawn at an uplink, they stand here too.
func roleLines(n *spec.Network, i int, d detail) block {
	if d == tinyDetail {
		return markLine(n, i)
	}
	var out block
	s := &n.Sites[i]
	small := noteStyle
	if d != fullDetail {
		small = small.sized(10)
	}
	if n.Clients != nil && slices.Contains(n.Clients.At, s.Name) {
		out = append(out, say("door for clients", small.in(green)))
	}
	for _, seg := range n.Segments {
		for _, a := range seg.Attach {
			if a.Site == s.Name {
				text := seg.Name
				if how := attachment(a); how != "" {
					text += ": " + how
				}
				out = append(out, say(shorten(text, 40), small.in(violet)))
			}
		}
	}
	if d == fullDetail && len(s.Uplinks) > 0 {
		return out
	}
	return append(out, internetLines(n, i, small.in(orange))...)
}

// markLine is a site's roles, one word each.
func markLine(n *spec.Network, i int) block {
	var l line
	for _, m := range marks(n, i) {
		l = append(l, span{m.word + " ", noteStyle.sized(10).in(m.colour)})
	}
	if len(l) == 0 {
		return nil
	}
	return block{l}
}

// internetLines says whose traffic leaves at a site, and what is published there.
func internetLines(n *spec.Network, i int, s style) block {
	var out block
	for _, e := range n.Exits {
		if k := slices.Index(e.Via, n.Sites[i].Name); k >= 0 {
			out = append(out, say(shorten(exitLabel(e, k), 34), s))
		}
	}
	for _, p := range n.Publish {
		if p.At == n.Sites[i].Name {
			out = append(out, say(shorten(published(p), 40), s))
		}
	}
	return cut(out, 3)
}

// draw puts the card at p (its upper left corner), at least w by h.
func (c *card) draw(n *spec.Network, s *scene, p point, w, h float64) rect {
	r := rect{p.x, p.y, math.Max(w, c.w), math.Max(h, c.h)}
	s.group(boxes, c.title, func() {
		s.box(boxes, r, 6, paint{fill: paper, stroke: ink, width: 1.2})
		x, y := p.x+padX, p.y+padY
		dot := point{x + 4, y + c.head.height()/2}
		s.reachDot(boxes, dot, reachable(&n.Sites[c.site]))
		s.text(boxes, point{x + 14, y}, start, c.head)
		if len(c.tag) > 0 {
			down := (c.head.height() - c.tag.height()) * 0.75
			s.text(boxes, point{r.right() - padX, y + down}, end, c.tag)
		}
		s.block(boxes, point{x, y + c.head.height() + 3}, start, c.body)
	})
	return r
}
