package draw

import (
	"math"
	"strings"

	"tombolo/internal/spec"
)

// siteRow is a site on one line: name, address, prefix of its first LAN, and the rest.
type siteRow [4]line

func newSiteRow(n *spec.Network, i int, facts []string) siteRow {
	s := &n.Sites[i]
	row := siteRow{say(shorten(s.Name, 20), strongStyle.sized(12)), say(s.Address.String(), monoStyle)}
	row[2] = firstPrefix(s, monoStyle.in(muted))
	if s.Kind != spec.Linux {
		row[3] = append(row[3], span{string(s.Kind) + " ", noteStyle})
	}
	if len(facts) > 0 {
		row[3] = append(row[3], span{strings.Join(facts, " · ") + " ", noteStyle})
	}
	for _, m := range marks(n, i) {
		row[3] = append(row[3], span{m.word + " ", noteStyle.in(m.colour)})
	}
	return row
}

// firstPrefix is the first of a site's prefixes, as the others see it, and how many more
// there are.
func firstPrefix(s *spec.Site, st style) line {
	var out line
	more := -1
	for _, l := range s.LANs {
		more += len(l.Prefixes)
		if len(out) == 0 && len(l.Prefixes) > 0 {
			out = say(l.Prefixes[0].Outside().String(), st)
		}
	}
	if more > 0 {
		out = append(out, span{" +" + thousands(more), st})
	}
	return out
}

// columns are the widths of rows that stand under each other.
type columns [4]float64

func (c *columns) fit(r siteRow) {
	for k, l := range r {
		c[k] = math.Max(c[k], math.Ceil(l.width()))
	}
}

// width of all columns, with the gap before each that is not empty.
func (c *columns) width() float64 {
	w := 0.0
	for _, v := range c {
		if v > 0 {
			w += v + colGap
		}
	}
	return w
}

const (
	rowPitch = 19.0 // from line to line
	colGap   = 10.0
)

// drawRow writes a site's line outward from its dot at at, gap more than usual from it;
// out is 1 to the right and -1 to the left.
func (s *scene) drawRow(n *spec.Network, i int, row siteRow, at point, out, gap float64, cols columns) {
	s.group(boxes, details(n, i), func() {
		s.reachDot(boxes, at, reachable(&n.Sites[i]))
		a, x := start, at.x+out*(colGap+gap)
		if out < 0 {
			a = end
		}
		for k, l := range row {
			if l.width() > 0 {
				s.text(boxes, point{x, at.y - l.height()/2}, a, l)
			}
			if cols[k] > 0 {
				x += out * (cols[k] + colGap)
			}
		}
	})
}
