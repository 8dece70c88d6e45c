package draw

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// shown is an SVG document as its reader sees it: texts, boxes and lines in the order in
// which they are painted.
type shown struct {
	w, h  float64
	texts []shownText
	rects []shownRect
	lines []shownLine
}

type shownText struct {
	box   rect
	text  string
	order int
	group []int // from the root
}

type shownRect struct {
	rect
	filled bool
	order  int
	group  []int
}

type shownLine struct {
	segment
	half  float64 // of its width
	order int
}

// read parses what SVG wrote. Text is measured by the widths of the widest common fonts.
func read(t *testing.T, svg []byte) shown {
	t.Helper()
	var out shown
	var group []int
	var text *shownText
	var span style
	var dx, w, size float64
	var anchor string
	var at point
	d := xml.NewDecoder(bytes.NewReader(svg))
	for order := 0; ; order++ {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("parse SVG: %v", err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			a := attributes(e)
			f := func(name string) float64 { v, _ := strconv.ParseFloat(a[name], 64); return v }
			switch e.Name.Local {
			case "svg":
				out.w, out.h = f("width"), f("height")
			case "g":
				group = append(group, order)
			case "rect":
				out.rects = append(out.rects, shownRect{rect{f("x"), f("y"), f("width"), f("height")}, a["fill"] != "none", order, slices.Clone(group)})
			case "circle":
				out.lines = append(out.lines, shownLine{segment{point{f("cx"), f("cy")}, point{f("cx") + 0.01, f("cy")}}, f("r"), order})
			case "ellipse":
				out.lines = append(out.lines, ellipseLines(f("cx"), f("cy"), f("rx"), f("ry"), f("stroke-width")/2, order)...)
			case "path":
				for _, g := range pathPieces(t, a["d"]) {
					out.lines = append(out.lines, shownLine{g, f("stroke-width") / 2, order})
				}
			case "text":
				text = &shownText{order: order, group: slices.Clone(group)}
				at, anchor, w, size = point{f("x"), f("y")}, a["text-anchor"], 0, 0
				span, dx = styleOf(a), 0
			case "tspan":
				span, dx = styleOf(a), f("dx")
			}
		case xml.CharData:
			if text != nil {
				text.text += string(e)
				w += dx + width(string(e), span)
				size = math.Max(size, span.size)
			}
		case xml.EndElement:
			switch e.Name.Local {
			case "g":
				group = group[:len(group)-1]
			case "text":
				text.box = align(anchor).box(point{at.x, at.y - ascent*size}, w, (ascent+descent)*size)
				out.texts = append(out.texts, *text)
				text = nil
			}
		}
	}
}

func attributes(e xml.StartElement) map[string]string {
	out := map[string]string{}
	for _, a := range e.Attr {
		out[a.Name.Local] = a.Value
	}
	return out
}

func styleOf(a map[string]string) style {
	size, _ := strconv.ParseFloat(a["font-size"], 64)
	return style{size: size, bold: a["font-weight"] == "bold", mono: a["font-family"] == "monospace"}
}

func ellipseLines(cx, cy, rx, ry, half float64, order int) []shownLine {
	var out []shownLine
	on := func(k int) point {
		s, c := math.Sincos(float64(k) * math.Pi / 90)
		return point{cx + rx*c, cy + ry*s}
	}
	for k := range 180 {
		out = append(out, shownLine{segment{on(k), on(k + 1)}, half, order})
	}
	return out
}

// pathPieces reads the path commands that this package writes.
func pathPieces(t *testing.T, d string) []segment {
	t.Helper()
	var out []segment
	var at, first point
	for d != "" {
		end := 1 + strings.IndexAny(d[1:], "MLQAZ")
		if end == 0 {
			end = len(d)
		}
		var v []float64
		for _, word := range strings.Fields(d[1:end]) {
			x, err := strconv.ParseFloat(word, 64)
			if err != nil {
				t.Fatalf("path data %q: %v", d, err)
			}
			v = append(v, x)
		}
		switch d[0] {
		case 'M':
			at = point{v[0], v[1]}
			first = at
		case 'L', 'A': // the arcs of a cloud are as small as their chords
			to := point{v[len(v)-2], v[len(v)-1]}
			out, at = append(out, segment{at, to}), to
		case 'Q':
			c := curve{at, point{v[0], v[1]}, point{v[2], v[3]}}
			out, at = append(out, c.pieces()...), c.b
		case 'Z':
			out = append(out, segment{at, first})
		}
		d = d[end:]
	}
	return out
}

// problems lists what is not legible.
func (s shown) problems() []string {
	var out []string
	page := rect{0, 0, s.w, s.h}
	for i, a := range s.texts {
		if a.box.x < page.x || a.box.right() > page.right() || a.box.y < page.y || a.box.bottom() > page.bottom() {
			out = append(out, fmt.Sprintf("%q leaves the page", a.text))
		}
		for _, b := range s.texts[:i] {
			if a.box.intersects(b.box) {
				out = append(out, fmt.Sprintf("%q covers %q", a.text, b.text))
			}
		}
		for _, r := range s.rects {
			own := len(r.group) <= len(a.group) && slices.Equal(r.group, a.group[:len(r.group)])
			if a.box.intersects(r.rect) && (!own || r.order >= a.order || !inside(a.box, r.rect)) {
				out = append(out, fmt.Sprintf("%q meets a box at %.0f,%.0f", a.text, r.x, r.y))
			}
		}
		for _, l := range s.lines {
			if l.crosses(a.box.grow(l.half-2)) && !s.hidden(a, l) {
				out = append(out, fmt.Sprintf("a line from %.0f,%.0f to %.0f,%.0f crosses %q", l.a.x, l.a.y, l.b.x, l.b.y, a.text))
				break
			}
		}
	}
	return out
}

func inside(in, out rect) bool {
	return out.x <= in.x && in.right() <= out.right() && out.y <= in.y && in.bottom() <= out.bottom()
}

// hidden reports whether something is painted over a line and under a text.
func (s shown) hidden(a shownText, l shownLine) bool {
	return slices.ContainsFunc(s.rects, func(r shownRect) bool {
		return r.filled && l.order < r.order && r.order < a.order && inside(a.box, r.rect)
	})
}

func TestNoTextIsCovered(t *testing.T) {
	for name, n := range pictures() {
		s := read(t, drawn()[name])
		for i := range n.Sites {
			want := shorten(printable(n.Sites[i].Name, ""), 18)
			if !slices.ContainsFunc(s.texts, func(x shownText) bool { return shorten(x.text, 18) == want }) {
				t.Errorf("%s: no text %q", name, want)
			}
		}
		for i, p := range s.problems() {
			if i == 5 {
				t.Errorf("%s: and more", name)
				break
			}
			t.Errorf("%s: %s", name, p)
		}
	}
}
