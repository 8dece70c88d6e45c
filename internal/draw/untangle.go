package draw

import (
	"math"
	"slices"
)

// untangleMax is up to how many boxes lines are kept off other boxes; the work grows with
// the cube of the number.
const untangleMax = 120

// untangle moves boxes away from lines that do not belong to them, until every line finds
// a way around; where that does not succeed it takes the best that was seen.
func (g *graph) untangle(sizes []point) {
	if len(g.boxes) > untangleMax {
		return
	}
	best, least := slices.Clone(g.at), g.hits()
	for round := 0; round < 200 && least > 0; round++ {
		if round%15 == 14 { // it is too dense
			for k := range g.at {
				g.at[k] = point{float64(g.at[k].x * 1.06), float64(g.at[k].y * 1.06)}
			}
		}
		for _, e := range slices.Concat(g.edges, g.tied) {
			for k := range g.boxes {
				if k != e[0] && k != e[1] {
					g.nudge(e[0], e[1], k)
				}
			}
		}
		part(g.at, sizes, boxGap)
		if hits := g.hits(); hits < least {
			best, least = slices.Clone(g.at), hits
		}
	}
	g.at = best
}

// nudge moves box k away from the line between a and b, and these a little the other way,
// when the line passes through it.
func (g *graph) nudge(a, b, k int) {
	pa, pb, pk := g.at[a], g.at[b], g.at[k]
	dx, dy := pb.x-pa.x, pb.y-pa.y
	l := math.Sqrt(float64(dx*dx) + float64(dy*dy))
	if l < 1 {
		return
	}
	along := (float64((pk.x-pa.x)*dx) + float64((pk.y-pa.y)*dy)) / (l * l)
	if along < 0.05 || along > 0.95 {
		return
	}
	nx, ny := -dy/l, dx/l
	off := float64((pk.x-pa.x)*nx) + float64((pk.y-pa.y)*ny)
	size := g.boxes[k].size
	need := float64(math.Abs(nx)*size.x)/2 + float64(math.Abs(ny)*size.y)/2 + 8
	if math.Abs(off) >= need {
		return
	}
	push := math.Copysign((need-math.Abs(off))*0.35, off)
	g.at[k] = point{pk.x + float64(nx*push), pk.y + float64(ny*push)}
	g.at[a] = point{pa.x - float64(nx*push*0.3), pa.y - float64(ny*push*0.3)}
	g.at[b] = point{pb.x - float64(nx*push*0.3), pb.y - float64(ny*push*0.3)}
}

// hits counts how often a line passes through a box.
func (g *graph) hits() int {
	sum := 0
	for _, e := range g.edges {
		_, c := g.bow(e[0], e[1])
		sum += c
	}
	for _, e := range g.tied {
		sum += g.through(straight(g.at[e[0]], g.at[e[1]]), e[0], e[1])
	}
	return sum
}

// settle moves the boxes to their places below top.
func (g *graph) settle(top float64) {
	left, up := math.Inf(1), math.Inf(1)
	for k, p := range g.at {
		left, up = math.Min(left, p.x-g.boxes[k].size.x/2), math.Min(up, p.y-g.boxes[k].size.y/2)
	}
	for k := range g.at {
		g.at[k].x = math.Round(g.at[k].x - left + margin)
		g.at[k].y = math.Round(g.at[k].y - up + top)
	}
	for i, k := range g.in {
		g.clip[i], g.place[i] = g.area(k), g.at[k]
	}
}

// area is where a box is.
func (g *graph) area(k int) rect {
	return rect{g.at[k].x - g.boxes[k].size.x/2, g.at[k].y - g.boxes[k].size.y/2, g.boxes[k].size.x, g.boxes[k].size.y}
}

func (g *graph) drawBox(k int) {
	r, b := g.area(k), g.boxes[k]
	if b.card != nil {
		b.card.draw(g.n, g.s, point{r.x, r.y}, 0, 0)
		return
	}
	b.table.draw(g.n, g.s, point{r.x, r.y})
}

// bow returns the least bent way between two boxes of those that pass through fewest
// others, and through how many.
func (g *graph) bow(a, b int) (curve, int) {
	best, least := straight(g.at[a], g.at[b]), math.MaxInt
	for _, bow := range []float64{0, 0.08, -0.08, 0.16, -0.16, 0.26, -0.26, 0.38, -0.38} {
		v := bent(g.at[a], g.at[b], bow)
		if c := g.through(v, a, b); c < least {
			best, least = v, c
		}
		if least == 0 {
			break
		}
	}
	return best, least
}

// through counts the boxes other than a and b that a curve passes through.
func (g *graph) through(v curve, a, b int) int {
	c := 0
	for k := range g.boxes {
		if k != a && k != b && v.crosses(g.area(k).grow(6)) {
			c++
		}
	}
	return c
}
