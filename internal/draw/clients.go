package draw

import (
	"math"

	"tombolo/internal/spec"
)

// clientCard is the box of the roaming devices, in the Internet's corner of a row.
type clientCard struct {
	head    line
	doors   line // where they enter; empty: the picture shows it
	columns []block
	w, h    float64
}

const (
	clientRows    = 4  // in one column
	clientsShown  = 12 // of the rest only the number
	clientGap     = 22.0
	clientLeading = 16.0
)

// newClientCard builds the box; doors says whether it lists where the clients enter.
func newClientCard(n *spec.Network, doors bool) *clientCard {
	c := &clientCard{head: line{{"clients  ", strongStyle.in(green).sized(12)}, {n.Clients.Pool.String(), monoStyle}}}
	devices := n.Clients.Devices
	shown := devices[:min(len(devices), clientsShown)]
	if len(devices) > clientsShown {
		shown = devices[:clientsShown-1]
	}
	if doors && len(n.Clients.At) > 0 {
		text := wrap("enter at", n.Clients.At, 44, ",")
		if len(text) > 1 {
			text[0] += " …"
		}
		c.doors = say(text[0], noteStyle.in(green))
	}
	var lines block
	for _, d := range shown {
		l := line{{shorten(d.Name, 16) + " ", noteStyle.in(ink)}, {d.Address.String(), monoStyle}}
		if d.Full {
			l = append(l, span{" all traffic", noteStyle.in(orange)})
		}
		lines = append(lines, l)
	}
	if more := len(devices) - len(shown); more > 0 {
		lines = append(lines, say("and "+thousands(more)+" more", noteStyle))
	}
	for len(lines) > 0 {
		k := min(len(lines), clientRows)
		c.columns = append(c.columns, lines[:k])
		lines = lines[k:]
	}
	w, rows := -clientGap, 0
	for _, col := range c.columns {
		w += col.width() + clientGap
		rows = max(rows, len(col))
	}
	c.w = math.Ceil(math.Max(w, math.Max(c.head.width(), c.doors.width())) + 2*padX)
	if len(c.doors) > 0 {
		rows++
	}
	c.h = math.Ceil(c.head.height() + 4 + float64(rows)*clientLeading + 2*padY)
	return c
}

func (c *clientCard) draw(s *scene, p point) rect {
	r := rect{p.x, p.y, c.w, c.h}
	s.group(boxes, "", func() {
		s.box(boxes, r, 6, paint{fill: paper, stroke: green, width: 1.2})
		s.text(boxes, point{p.x + padX, p.y + padY}, start, c.head)
		x, y := p.x+padX, p.y+padY+c.head.height()+4
		if len(c.doors) > 0 {
			s.text(boxes, point{x, y}, start, c.doors)
			y += clientLeading
		}
		for _, col := range c.columns {
			for i, l := range col {
				s.text(boxes, point{x, y + float64(i)*clientLeading}, start, l)
			}
			x += col.width() + clientGap
		}
	})
	return r
}
