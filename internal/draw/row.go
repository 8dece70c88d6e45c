package draw

import (
	"math"
	"slices"

	"tombolo/internal/spec"
)

// row is the picture of a few sites with all details: the Internet above, the sites side
// by side, their LANs under them. Tunnels between neighbours are straight, others run on
// tracks between the sites and the LANs.
type row struct {
	n     *spec.Network
	s     *scene
	lanes []traffic
	extra [][2]int // pairs of sites that need a way between them, linked or not

	order []int // sites from left to right
	pos   []int // the inverse
	cards []card
	lans  []lanBox
	ups   [][]block // label of each uplink

	w, h  float64   // of each card
	x     []float64 // left edge of each card
	pitch float64   // from card to card
	track map[[2]int]int

	top, pillTop, pillBottom, cardTop, cardBottom, lanTop, lanBottom float64
	trackPitch                                                       float64
}

const (
	margin   = 28.0
	pillH    = 38.0
	laneStep = 6.0
	chipZone = 28.0 // under the Internet, for the NAT chips
)

// draw lays the row out and draws it.
func (r *row) draw(st structure) {
	r.arrange(st)
	r.measure()
	r.place()
	r.drawInternet()
	for p := range r.order {
		r.drawUplinks(p)
		r.cards[p].draw(r.n, r.s, point{r.x[p], r.cardTop}, r.w, r.h)
		r.drawLANs(p)
	}
	for _, e := range st.single {
		r.drawLink(e[0], e[1])
	}
	r.drawTraffic()
}

// arrange chooses the order of the sites: that with the shortest links, and among those
// the one closest to the order of the file.
func (r *row) arrange(st structure) {
	count := len(r.n.Sites)
	order := make([]int, count)
	for i := range order {
		order[i] = i
	}
	r.pos = make([]int, count)
	best := math.MaxInt
	permute(order, 0, func(p []int) {
		pos := make([]int, count)
		for at, site := range p {
			pos[site] = at
		}
		sum := 0
		for _, e := range st.single {
			d := pos[e[0]] - pos[e[1]]
			sum += d * d
		}
		if sum < best {
			best = sum
			r.order, r.pos = slices.Clone(p), pos
		}
	})
	r.assignTracks(st)
}

// permute calls f with the orders of a, those first that are like a.
func permute(a []int, from int, f func([]int)) {
	if from >= len(a)-1 {
		f(a)
		return
	}
	for i := from; i < len(a); i++ {
		v := a[i]
		copy(a[from+1:i+1], a[from:i])
		a[from] = v
		permute(a, from+1, f)
		copy(a[from:i], a[from+1:i+1])
		a[i] = v
	}
}

// assignTracks gives each link between sites that are not neighbours a track: shorter ones
// nearer to the sites.
func (r *row) assignTracks(st structure) {
	r.track = map[[2]int]int{}
	type span struct{ a, b int }
	var spans []span
	for _, e := range slices.Concat(st.single, r.extra) {
		a, b := r.ends(e[0], e[1])
		if b-a > 1 && !slices.Contains(spans, span{a, b}) {
			spans = append(spans, span{a, b})
		}
	}
	slices.SortFunc(spans, func(x, y span) int {
		if d := (x.b - x.a) - (y.b - y.a); d != 0 {
			return d
		}
		return x.a - y.a
	})
	var used [][]span
	for _, sp := range spans {
		k := 0
		for k < len(used) && slices.ContainsFunc(used[k], func(o span) bool { return sp.a <= o.b && o.a <= sp.b }) {
			k++
		}
		if k == len(used) {
			used = append(used, nil)
		}
		used[k] = append(used[k], sp)
		r.track[[2]int{sp.a, sp.b}] = k
	}
}

// ends returns the positions of two sites, the left one first.
func (r *row) ends(a, b int) (left, right int) {
	return min(r.pos[a], r.pos[b]), max(r.pos[a], r.pos[b])
}

// measure builds the texts and finds the size of the grid.
func (r *row) measure() {
	for _, site := range r.order {
		c := newCard(r.n, site, fullDetail)
		l := newLANBox(&r.n.Sites[site])
		ups := r.uplinkLabels(site)
		need := math.Max(c.w, l.w)
		if len(ups) > 1 {
			need = math.Max(need, r.span(ups)+4*padX+laneStep*float64(2+len(r.lanes)))
		} else if len(ups) == 1 {
			need = math.Max(need, math.Min(2*(8+ups[0].width()), 250))
		}
		r.cards, r.lans, r.ups = append(r.cards, c), append(r.lans, l), append(r.ups, ups)
		r.w, r.h = math.Max(r.w, need), math.Max(r.h, c.h)
	}
	r.w = math.Max(r.w, 150)
	gap := 72.0
	for a := range r.n.Sites {
		for _, b := range r.n.Links.Neighbours(a) {
			gap = math.Max(gap, r.linkLabelWidth(a, b)+24)
		}
	}
	r.pitch = r.w + gap
	for p := 1; p < len(r.order); p++ {
		_, right := r.uplinkExtent(p - 1)
		left, _ := r.uplinkExtent(p)
		r.pitch = math.Max(r.pitch, right+left+14)
	}
	r.pitch = math.Ceil(r.pitch)
}

// place finds the coordinates of everything.
func (r *row) place() {
	left := margin
	if l, _ := r.uplinkExtent(0); l > r.w/2 {
		left += l - r.w/2
	}
	for p := range r.order {
		r.x = append(r.x, left+float64(p)*r.pitch)
	}
	r.pillTop = r.top
	r.pillBottom = r.pillTop + pillH
	zone := 0.0
	for _, ups := range r.ups {
		for _, u := range ups {
			zone = math.Max(zone, u.height())
		}
	}
	r.cardTop = math.Ceil(r.pillBottom + chipZone + zone + 14)
	r.cardBottom = r.cardTop + r.h
	tracks := 0
	for _, k := range r.track {
		tracks = max(tracks, k+1)
	}
	r.trackPitch = 18 + laneStep*float64(r.trackLanes())
	r.lanTop = r.cardBottom + 34
	if tracks > 0 {
		r.lanTop = r.cardBottom + 20 + float64(tracks)*r.trackPitch
	}
	r.lanBottom = r.cardBottom
	for _, l := range r.lans {
		if l.h > 0 {
			r.lanBottom = math.Max(r.lanBottom, r.lanTop+l.h)
		}
	}
	if tracks > 0 {
		r.lanBottom = math.Max(r.lanBottom, r.lanTop)
	}
}

// extent is the right edge of everything drawn.
func (r *row) extent() float64 {
	last := len(r.order) - 1
	right := r.x[last] + r.w
	for p := range r.order {
		_, e := r.uplinkExtent(p)
		right = math.Max(right, r.centre(p)+e)
	}
	return right
}

// centre is the middle of a card.
func (r *row) centre(p int) float64 { return r.x[p] + r.w/2 }

// lanBox is the LANs of a site: a bar like that of an Ethernet segment, and under it the
// devices with their prefixes.
type lanBox struct {
	devices, prefixes block // line by line
	w, h              float64
}

func newLANBox(s *spec.Site) lanBox {
	var l lanBox
	for _, lan := range s.LANs {
		for i, m := range lan.Prefixes {
			name := shorten(lan.Device, 15)
			if i > 0 {
				name = ""
			}
			l.devices = append(l.devices, say(name, noteStyle))
			l.prefixes = append(l.prefixes, say(m.Prefix.String(), monoStyle))
			if m.As.IsValid() {
				l.devices = append(l.devices, say("seen as", noteStyle))
				l.prefixes = append(l.prefixes, say(m.As.String(), monoStyle))
			}
		}
	}
	if len(l.devices) > 8 {
		more := plural(len(l.devices)-7, "more line")
		l.devices, l.prefixes = append(l.devices[:7:7], say("", noteStyle)), append(l.prefixes[:7:7], say(more, noteStyle))
	}
	if len(l.devices) > 0 {
		l.w = math.Ceil(l.devices.width() + 12 + l.prefixes.width() + 2*padX)
		l.h = math.Ceil(float64(len(l.devices))*lanLine + 2*padY)
	}
	return l
}

const lanLine = 16.0 // pixels from line to line in a LAN box

func (r *row) drawLANs(p int) {
	l := r.lans[p]
	if l.h == 0 {
		return
	}
	c := r.centre(p)
	r.s.line(links, point{c, r.cardBottom}, point{c, r.lanTop}, paint{stroke: muted, width: 1.4})
	box := rect{r.x[p], r.lanTop, r.w, l.h}
	r.s.group(boxes, "", func() {
		r.s.box(boxes, box, 0, paint{fill: wash})
		r.s.rect(boxes, rect{box.x, box.y, box.w, 3}, 0, paint{fill: muted})
		for i := range l.devices {
			y := box.y + padY + 1 + float64(i)*lanLine
			if l.devices[i][0].text != "" {
				r.s.text(boxes, point{box.x + padX, y}, start, l.devices[i])
			}
			r.s.text(boxes, point{box.right() - padX, y}, end, l.prefixes[i])
		}
	})
}
