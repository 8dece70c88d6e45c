package draw

import (
	"strings"

	"tombolo/internal/spec"
)

// section is a list under the picture of many sites, of what the picture only hints at.
type section struct {
	head   string
	colour string
	lines  []string
}

const (
	noteWidth = 58 // characters
	noteLines = 10 // of one section
)

// sections returns the lists that a network needs; links are the labels that found no room.
func sections(n *spec.Network, links []string) []section {
	var exits, ports, segments []string
	for _, e := range n.Exits {
		text := strings.Join(e.For, ", ") + " → " + strings.Join(e.Via, ", then ")
		exits = append(exits, strings.Join(append([]string{text}, otherwise(e)...), "; "))
	}
	for _, p := range n.Publish {
		ports = append(ports, p.At+": "+published(p))
	}
	for _, s := range n.Segments {
		var at []string
		for _, a := range s.Attach {
			text := a.Site
			if how := attachment(a); how != "" {
				text += " (" + how + ")"
			}
			at = append(at, text)
		}
		segments = append(segments, s.Name+", "+s.Kind+": "+strings.Join(at, ", "))
	}
	var out []section
	for _, s := range []section{
		{"Exits", orange, exits}, {"Published ports", orange, ports},
		{"Segments", violet, segments}, {"Links", blue, links},
	} {
		if len(s.lines) > 0 {
			out = append(out, s)
		}
	}
	return out
}

// block is a section's text, wrapped and cut to length.
func (s section) block() block {
	b := block{say(s.head, strongStyle.in(s.colour))}
	var lines block
	for _, text := range s.lines {
		for i, part := range wrap("", strings.Fields(text), noteWidth, "") {
			if i > 0 {
				part = "  " + part
			}
			lines = append(lines, say(shorten(part, noteWidth+4), noteStyle))
		}
	}
	return append(b, cut(lines, noteLines)...)
}

// notes writes the sections side by side under the body.
func (p *picture) notes(all []section) {
	limit := max(p.right, p.bodyRight, 760)
	x, y, bottom := margin, p.bodyBottom+30, p.bodyBottom
	for _, s := range all {
		b := s.block()
		if x > margin && x+b.width() > limit {
			x, y = margin, bottom+20
		}
		r := p.s.block(labels, point{x, y}, start, b)
		x = r.right() + 40
		bottom = max(bottom, r.bottom())
		p.bodyRight = max(p.bodyRight, r.right())
	}
	p.bodyBottom = bottom
}
