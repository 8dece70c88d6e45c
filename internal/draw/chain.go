package draw

import "math"

// chain is the picture of sites that are linked one after the other: row by row, every
// second row from right to left. Sites without any links are drawn like it.
type chain struct {
	*board
	cards   []card
	columns int
	w       float64
	heights []float64 // of the cards in each row
	gap     point
}

func (b *board) drawChain(top float64) {
	c := &chain{board: b, gap: point{56, 44}}
	d := cardDetail
	if len(b.st.order) > ringCards {
		d = tinyDetail
	}
	h := 0.0
	for _, i := range b.st.order {
		k := newCard(b.n, i, d)
		c.cards = append(c.cards, k)
		c.w, h = math.Max(c.w, k.w), h+k.h/float64(len(b.st.order))
	}
	for _, e := range b.st.single {
		c.gap.x = math.Max(c.gap.x, c.facts(e).width()+14)
	}
	c.columns = chainColumns(len(c.cards), c.w+c.gap.x, h+c.gap.y)
	c.heights = make([]float64, (len(c.cards)+c.columns-1)/c.columns)
	for k := range c.cards {
		row := k / c.columns
		c.heights[row] = math.Max(c.heights[row], c.cards[k].h)
	}
	c.drawCards(top)
	b.drawLinks()
	for _, e := range b.st.single {
		c.drawLabel(e)
	}
}

// drawCards draws each card in its cell.
func (c *chain) drawCards(top float64) {
	for k, i := range c.st.order {
		row, col := k/c.columns, k%c.columns
		if row%2 == 1 {
			col = c.columns - 1 - col
		}
		if row > 0 && k%c.columns == 0 {
			top += c.heights[row-1] + c.gap.y
		}
		at := point{margin + float64(col)*(c.w+c.gap.x), top}
		c.clip[i] = c.cards[k].draw(c.n, c.s, at, c.w, c.heights[row])
		c.place[i] = c.clip[i].centre()
	}
}

func (c *chain) facts(e [2]int) block {
	var out block
	for _, f := range linkFacts(c.n, e[0], e[1]) {
		out = append(out, say(f, noteStyle.sized(10)))
	}
	return out
}

// drawLabel writes a link's options under it, or beside it where it leads down.
func (c *chain) drawLabel(e [2]int) {
	text := c.facts(e)
	if len(text) == 0 {
		return
	}
	right, left := 0.0, 0.0 // how far the lanes go beside the link
	for i, t := range c.lanes {
		if d := c.laneOffset(i, e); c.drawn(t) && onLink(t, e) {
			right, left = math.Max(right, d), math.Max(left, -d)
		}
	}
	m := mid(c.place[e[0]], c.place[e[1]])
	if c.place[e[0]].y == c.place[e[1]].y {
		c.s.block(labels, point{m.x, m.y + math.Max(left, right) + 5}, middle, text)
		return
	}
	l := oneLine(text)
	c.s.text(labels, point{m.x + math.Max(left, right) + 7, m.y - l.height()/2}, start, l)
}

// chainColumns is in how many columns n cells make a picture one and a half times as wide
// as it is high.
func chainColumns(n int, w, h float64) int {
	best, off := 1, math.Inf(1)
	for c := 1; c <= n; c++ {
		rows := (n + c - 1) / c
		ratio := math.Abs(math.Log(float64(c) * w / (float64(rows) * h) / 1.5))
		if ratio < off-1e-9 {
			best, off = c, ratio
		}
	}
	return best
}
