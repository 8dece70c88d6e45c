package draw

import (
	"bytes"
	"encoding/xml"
	"math"
	"strconv"
	"strings"
)

// point is a place in the picture: pixels from its upper left corner.
type point struct{ x, y float64 }

// rect is an upright rectangle. Its right and lower edges are x+w and y+h.
type rect struct{ x, y, w, h float64 }

func (r rect) right() float64  { return r.x + r.w }
func (r rect) bottom() float64 { return r.y + r.h }
func (r rect) centre() point   { return point{r.x + r.w/2, r.y + r.h/2} }

// grow returns r with d more on each side.
func (r rect) grow(d float64) rect { return rect{r.x - d, r.y - d, r.w + 2*d, r.h + 2*d} }

func (r rect) intersects(o rect) bool {
	return r.x < o.right() && o.x < r.right() && r.y < o.bottom() && o.y < r.bottom()
}

func (r rect) contains(p point) bool {
	return r.x <= p.x && p.x <= r.right() && r.y <= p.y && p.y <= r.bottom()
}

// paint is how a shape is filled and outlined. An empty colour is none.
type paint struct {
	fill, stroke string
	width        float64 // of the outline
	dash         string  // stroke-dasharray
	opacity      float64 // of the outline; 0 means 1
}

// layer orders what is painted over what.
type layer int

const (
	back   layer = iota // bands and bundles
	links               // lines between sites
	flows               // whose traffic goes where, along the links
	ways                // the way of a flow, if one is asked for
	boxes               // cards with their text
	frames              // of the boxes that a flow comes by
	labels              // text beside lines
	nLayers
)

// scene is a picture while it is put together. Everything in it has its final place; what
// shows in it is bounded by w and h.
type scene struct {
	layers [nLayers]bytes.Buffer
	taken  []rect // where labels can not go: boxes and texts
	lines  []segment
}

// segment is a straight piece of a line that labels avoid.
type segment struct{ a, b point }

// group puts what f draws on one layer into a group with a tooltip.
func (s *scene) group(l layer, title string, f func()) {
	b := &s.layers[l]
	b.WriteString("<g>")
	if title != "" {
		b.WriteString("<title>" + escapeXML(title) + "</title>")
	}
	b.WriteString("\n")
	f()
	b.WriteString("</g>\n")
}

// box draws a rectangle with rounded corners and keeps labels off it.
func (s *scene) box(l layer, r rect, radius float64, p paint) {
	s.rect(l, r, radius, p)
	s.taken = append(s.taken, r)
}

// rect draws a rectangle with rounded corners.
func (s *scene) rect(l layer, r rect, radius float64, p paint) {
	b := &s.layers[l]
	b.WriteString("<rect" + attr("x", r.x) + attr("y", r.y) + attr("width", r.w) + attr("height", r.h))
	if radius > 0 {
		b.WriteString(attr("rx", radius))
	}
	b.WriteString(p.attrs() + "/>\n")
}

// circle draws a dot.
func (s *scene) circle(l layer, c point, r float64, p paint) {
	s.layers[l].WriteString("<circle" + attr("cx", c.x) + attr("cy", c.y) + attr("r", r) + p.attrs() + "/>\n")
}

// ellipse draws an ellipse with half axes rx and ry.
func (s *scene) ellipse(l layer, c point, rx, ry float64, p paint) {
	s.layers[l].WriteString("<ellipse" + attr("cx", c.x) + attr("cy", c.y) + attr("rx", rx) + attr("ry", ry) + p.attrs() + "/>\n")
	s.remember(curve{point{c.x - rx, c.y}, point{c.x - rx, c.y - ry}, point{c.x, c.y - ry}})
	s.remember(curve{point{c.x + rx, c.y}, point{c.x + rx, c.y + ry}, point{c.x, c.y + ry}})
}

// path draws a path whose data has been written with pathData.
func (s *scene) path(l layer, d pathData, p paint) {
	s.layers[l].WriteString(`<path d="` + string(d) + `"` + p.attrs() + "/>\n")
}

// line draws a straight line and remembers it, for labels to keep off.
func (s *scene) line(l layer, a, b point, p paint) {
	s.path(l, moveTo(a).lineTo(b), p)
	s.lines = append(s.lines, segment{a, b})
}

// arrowhead draws a filled triangle with its tip at tip, pointing away from from.
func (s *scene) arrowhead(l layer, from, tip point, size float64, colour string) {
	d := math.Hypot(tip.x-from.x, tip.y-from.y)
	if d == 0 {
		return
	}
	ux, uy := (tip.x-from.x)/d*size, (tip.y-from.y)/d*size
	left := point{tip.x - ux - uy*0.55, tip.y - uy + ux*0.55}
	right := point{tip.x - ux + uy*0.55, tip.y - uy - ux*0.55}
	s.path(l, moveTo(tip).lineTo(left).lineTo(right)+"Z", paint{fill: colour})
}

// bytes returns the SVG document: w by h pixels, with a title and a description for those
// who do not see it.
func (s *scene) bytes(w, h float64, title, description string) []byte {
	var b bytes.Buffer
	w, h = math.Ceil(w), math.Ceil(h)
	b.WriteString(`<svg xmlns="http://www.w3.org/2000/svg"` + attr("width", w) + attr("height", h) +
		` viewBox="0 0 ` + num(w) + " " + num(h) + `" role="img" aria-labelledby="tombolo-title tombolo-desc">` + "\n")
	b.WriteString(`<title id="tombolo-title">` + escapeXML(title) + "</title>\n")
	b.WriteString(`<desc id="tombolo-desc">` + escapeXML(description) + "</desc>\n")
	b.WriteString("<rect" + attr("x", 0.5) + attr("y", 0.5) + attr("width", w-1) + attr("height", h-1) + attr("rx", 10) +
		paint{fill: paper, stroke: hair, width: 1}.attrs() + "/>\n")
	for i := range s.layers {
		b.Write(s.layers[i].Bytes())
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func (p paint) attrs() string {
	fill := p.fill
	if fill == "" {
		fill = "none"
	}
	out := ` fill="` + fill + `"`
	if p.stroke != "" {
		out += ` stroke="` + p.stroke + `"` + attr("stroke-width", p.width)
	}
	if p.dash != "" {
		out += ` stroke-dasharray="` + p.dash + `"`
	}
	if p.opacity != 0 {
		out += attr("stroke-opacity", p.opacity)
	}
	return out
}

// pathData is the d attribute of a path.
type pathData string

func moveTo(p point) pathData { return pathData("M" + num(p.x) + " " + num(p.y)) }

func (d pathData) lineTo(p point) pathData { return d + pathData("L"+num(p.x)+" "+num(p.y)) }

// curveTo is a quadratic Bézier curve.
func (d pathData) curveTo(control, p point) pathData {
	return d + pathData("Q"+num(control.x)+" "+num(control.y)+" "+num(p.x)+" "+num(p.y))
}

func attr(name string, v float64) string { return " " + name + `="` + num(v) + `"` }

// num writes a number with at most one decimal.
func num(v float64) string {
	text := strconv.FormatFloat(v, 'f', 1, 64)
	text = strings.TrimSuffix(text, ".0")
	if text == "-0" {
		return "0"
	}
	return text
}

// escapeXML escapes text for content and attributes. What XML 1.0 cannot hold (§2.2)
// becomes U+FFFD.
func escapeXML(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(text)) // a bytes.Buffer does not refuse
	return b.String()
}
