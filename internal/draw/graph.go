package draw

import (
	"math"
	"slices"
	"strings"

	"tombolo/internal/spec"
)

// graph is the picture of links that have no simple shape: boxes laid out by springs. A
// box is a site's card; a hub with the sites that have no other link; or a full mesh with
// the members that have no other link.
type graph struct {
	*board
	boxes []graphBox
	in    []int // the box of each site
	at    []point
	tied  [][2]int // boxes that are drawn joined: a mesh, and a member with a box of its own
	edges [][2]int // of links between sites in different boxes
}

type graphBox struct {
	card  *card // or else
	table *table
	size  point
}

// boxGap is the least distance between boxes.
var boxGap = point{28, 26}

// leavesMin is from how many sites on, whose only link is to one hub, they become lines
// under it.
const leavesMin = 3

func (b *board) drawGraph(top float64) {
	g := &graph{board: b, in: make([]int, len(b.n.Sites))}
	g.makeBoxes()
	g.layout()
	g.settle(top)
	g.route = g.clear
	for _, t := range g.tied {
		g.s.path(back, straight(g.at[t[0]], g.at[t[1]]).path(), paint{stroke: pale, width: 6})
	}
	for k := range g.boxes {
		g.drawBox(k)
	}
	g.drawLinks()
	g.drawLabels()
	g.listHidden()
}

// makeBoxes decides what is in a box of its own.
func (g *graph) makeBoxes() {
	for i := range g.in {
		g.in[i] = -1
	}
	others := make([]int, len(g.in)) // links outside meshes
	next := make([]int, len(g.in))
	for _, e := range g.st.single {
		if !g.sameMesh(e) {
			others[e[0]]++
			others[e[1]]++
			next[e[0]], next[e[1]] = e[1], e[0]
		}
	}
	meshes := make([]int, len(g.in))
	for _, m := range g.st.meshes {
		for _, i := range m.members {
			meshes[i]++
		}
	}
	for _, m := range g.st.meshes {
		var inside []int
		for _, i := range m.members {
			if others[i] == 0 && meshes[i] == 1 {
				inside = append(inside, i)
			}
		}
		g.addTable(newTable(g.n, -1, meshTitle(m), inside))
	}
	leaves := make([][]int, len(g.in))
	for i := range g.in {
		if h := next[i]; others[i] == 1 && meshes[i] == 0 && others[h] > 1 {
			leaves[h] = append(leaves[h], i)
		}
	}
	for h, l := range leaves {
		if len(l) >= leavesMin && len(g.in) > ringCards {
			g.addTable(newTable(g.n, h, nil, l))
		}
	}
	d := cardDetail
	if len(g.in) > ringCards {
		d = tinyDetail
	}
	for i := range g.in {
		if g.in[i] < 0 {
			c := newCard(g.n, i, d)
			g.in[i] = len(g.boxes)
			g.boxes = append(g.boxes, graphBox{card: &c, size: point{c.w, c.h}})
		}
	}
	g.connect()
}

func (g *graph) addTable(t *table) {
	if t.hub >= 0 {
		g.in[t.hub] = len(g.boxes)
	}
	for _, i := range t.sites {
		g.in[i] = len(g.boxes)
	}
	g.boxes = append(g.boxes, graphBox{table: t, size: point{t.w, t.h}})
}

func meshTitle(m mesh) block {
	return append(block{
		line{{"full mesh  ", nameStyle.sized(13).in(blue)}, {plural(m.links, "link"), noteStyle}},
		say(plural(len(m.members), "site")+", each with each", noteStyle),
	}, meshNotes(m)...)
}

// connect finds which boxes are joined.
func (g *graph) connect() {
	for k, m := range g.st.meshes { // the meshes are the first boxes
		for _, i := range m.members {
			if g.in[i] != k {
				g.tied = append(g.tied, [2]int{k, g.in[i]})
			}
		}
	}
	for _, e := range g.st.single {
		if g.in[e[0]] != g.in[e[1]] && !g.rowEnd(e[0], e[1]) && !g.sameMesh(e) {
			g.edges = append(g.edges, [2]int{g.in[e[0]], g.in[e[1]]})
		}
	}
	g.hide = g.rowEnd
}

// rowEnd reports whether a link is not drawn as a line: one of its ends is a line in a
// table. Those to a hub are the table's branches.
func (g *graph) rowEnd(a, b int) bool { return g.isRow(a) || g.isRow(b) }

func (g *graph) isRow(i int) bool {
	t := g.boxes[g.in[i]].table
	return t != nil && t.hub != i
}

// listHidden writes what is special about links of a mesh that are not drawn into the
// notes.
func (g *graph) listHidden() {
	for _, e := range g.st.single {
		if !g.rowEnd(e[0], e[1]) || !g.sameMesh(e) {
			continue
		}
		facts := linkFacts(g.n, e[0], e[1])
		if !g.n.CanLink(e[0], e[1]) {
			facts = append(facts, "neither end can be dialled")
		}
		g.unplaced = append(g.unplaced, pairName(g.n, e)+": "+strings.Join(facts, " · "))
	}
}

func pairName(n *spec.Network, e [2]int) string {
	return n.Sites[e[0]].Name + " – " + n.Sites[e[1]].Name
}

// sameMesh reports whether a link is part of a mesh, and only drawn because it differs.
func (g *graph) sameMesh(e [2]int) bool {
	return slices.ContainsFunc(g.st.meshes, func(m mesh) bool {
		return slices.Contains(m.members, e[0]) && slices.Contains(m.members, e[1])
	})
}

// layout finds the centres of the boxes.
func (g *graph) layout() {
	degree := make([]int, len(g.boxes))
	pairs := slices.Concat(g.tied, g.edges)
	for _, p := range pairs {
		degree[p[0]]++
		degree[p[1]]++
	}
	unit := point{}
	for _, b := range g.boxes {
		if b.card != nil {
			unit = point{math.Max(unit.x, b.size.x), math.Max(unit.y, b.size.y)}
		}
	}
	unit = point{math.Max(unit.x, 110) * 1.25, math.Max(unit.x, 110) * 0.85}
	radius := func(k int) float64 { // of a box, beyond that of a card
		return math.Max(0, (g.boxes[k].size.x/unit.x+g.boxes[k].size.y/unit.y)/4-0.35)
	}
	var edges []springEdge
	for _, p := range pairs {
		// Room for the many around a hub: their number gives its circle's length.
		l := 1 + float64(0.11*math.Max(0, float64(max(degree[p[0]], degree[p[1]])-5)))
		edges = append(edges, springEdge{p[0], p[1], l + radius(p[0]) + radius(p[1])})
	}
	g.at = layoutSprings(len(g.boxes), edges)
	sizes := make([]point, len(g.boxes))
	for i := range g.at {
		g.at[i] = point{float64(g.at[i].x * unit.x), float64(g.at[i].y * unit.y)}
		sizes[i] = g.boxes[i].size
	}
	part(g.at, sizes, boxGap)
	g.untangle(sizes)
}

// clear is a link's way: straight, or bent as little as keeps it off other boxes.
func (g *graph) clear(a, b int) curve {
	v, _ := g.bow(g.in[a], g.in[b])
	return v
}
