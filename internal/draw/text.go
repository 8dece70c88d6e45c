package draw

import (
	"math"
	"strings"
)

// style is how a piece of text looks.
type style struct {
	size   float64 // pixels
	bold   bool
	mono   bool
	colour string
}

// The colours. Each hue has one meaning; everything else is ink on paper.
const (
	paper  = "#ffffff" // page
	ink    = "#1f2933" // names, addresses
	muted  = "#5b6876" // what explains
	faint  = "#94a1b0" // what is not there: links that cannot be made
	hair   = "#cdd6e0" // outlines
	wash   = "#f4f6f9" // fill of bands
	blue   = "#2563c4" // tunnels
	pale   = "#dbe7f8" // many tunnels as one
	light  = "#b7cdf0" // links that are drawn, but not one by one
	orange = "#c2570c" // traffic to and from the Internet that goes a way of its own
	green  = "#15803d" // clients
	violet = "#7c3aed" // layer 2

	magenta = "#be185d" // the way of a flow
	teal    = "#0e7490" // the way of its answer
	red     = "#c81e1e" // where it is lost
)

var (
	titleStyle  = style{size: 20, bold: true, colour: ink}
	subStyle    = style{size: 12, colour: muted}
	nameStyle   = style{size: 15, bold: true, colour: ink}
	tagStyle    = style{size: 11, colour: muted}
	addrStyle   = style{size: 12, mono: true, colour: ink}
	monoStyle   = style{size: 11, mono: true, colour: ink}
	noteStyle   = style{size: 11, colour: muted}
	strongStyle = style{size: 11, bold: true, colour: ink}
)

func (s style) in(colour string) style { s.colour = colour; return s }

func (s style) sized(size float64) style { s.size = size; return s }

// height of a line in style s.
func (s style) height() float64 { return (ascent + descent) * s.size }

// span is text in one style, line is spans side by side.
type (
	span struct {
		text string
		s    style
	}
	line []span
)

// say makes a line of one span.
func say(text string, s style) line { return line{{text, s}} }

func (l line) width() float64 {
	w := 0.0
	for _, sp := range l {
		w += width(sp.text, sp.s)
	}
	return w
}

func (l line) height() float64 {
	h := 0.0
	for _, sp := range l {
		h = math.Max(h, sp.s.height())
	}
	return h
}

// block is lines one under the other.
type block []line

func (b block) width() float64 {
	w := 0.0
	for _, l := range b {
		w = math.Max(w, l.width())
	}
	return w
}

func (b block) height() float64 {
	h := 0.0
	for _, l := range b {
		h += l.height() + leading
	}
	return math.Max(0, h-leading)
}

const leading = 2 // pixels between lines

// align says on which side of a place a text stands.
type align string

const (
	start  align = "start"
	middle align = "middle"
	end    align = "end"
)

// box is where a text with this width and height is when it is put at p (its top).
func (a align) box(p point, w, h float64) rect {
	switch a {
	case middle:
		p.x -= w / 2
	case end:
		p.x -= w
	}
	return rect{p.x, p.y, w, h}
}

// text writes a line with its top at p and returns where it is.
func (s *scene) text(l layer, p point, a align, t line) rect {
	r := a.box(p, t.width(), t.height())
	s.taken = append(s.taken, r)
	baseline := 0.0
	for _, sp := range t {
		baseline = math.Max(baseline, ascent*sp.s.size)
	}
	b := &s.layers[l]
	b.WriteString("<text" + attr("x", p.x) + attr("y", p.y+baseline))
	if a != start {
		b.WriteString(` text-anchor="` + string(a) + `"`)
	}
	if len(t) == 1 {
		b.WriteString(t[0].s.attrs() + ">" + escapeXML(t[0].text) + "</text>\n")
		return r
	}
	b.WriteString(">")
	space := 0.0 // blanks between spans are distances: viewers disagree about keeping them
	for _, sp := range t {
		inner := strings.TrimLeft(sp.text, " ")
		space += width(sp.text[:len(sp.text)-len(inner)], sp.s)
		text := strings.TrimRight(inner, " ")
		b.WriteString("<tspan")
		if space > 0 {
			b.WriteString(attr("dx", space))
		}
		b.WriteString(sp.s.attrs() + ">" + escapeXML(text) + "</tspan>")
		space = width(inner[len(text):], sp.s)
	}
	b.WriteString("</text>\n")
	return r
}

// block writes lines one under the other, the first with its top at p.
func (s *scene) block(l layer, p point, a align, b block) rect {
	r := a.box(p, b.width(), b.height())
	for _, t := range b {
		s.text(l, p, a, t)
		p.y += t.height() + leading
	}
	return r
}

func (s style) attrs() string {
	family := "sans-serif"
	if s.mono {
		family = "monospace"
	}
	out := ` font-family="` + family + `"` + attr("font-size", s.size)
	if s.bold {
		out += ` font-weight="bold"`
	}
	return out + ` fill="` + s.colour + `"`
}

// wrap puts words into lines of at most n characters, the first after lead, with sep
// after each word but the last.
func wrap(lead string, words []string, n int, sep string) []string {
	out, cur := []string(nil), lead
	for i, w := range words {
		if i < len(words)-1 {
			w += sep
		}
		if cur != "" && len([]rune(cur))+1+len([]rune(w)) > n {
			out, cur = append(out, cur), ""
		}
		cur = strings.TrimSpace(cur + " " + w)
	}
	return append(out, cur)
}
