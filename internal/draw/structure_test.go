package draw

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"tombolo/internal/spec"
)

func TestShapeOfLinks(t *testing.T) {
	withExtra := starOf(12)
	withExtra.Links.Add(3, 4)
	for _, c := range []struct {
		name  string
		n     *spec.Network
		want  shape
		lines int // links drawn one by one
	}{
		{"few sites", meshOf(6), rowShape, 15},
		{"small mesh", meshOf(8), meshShape, 28},
		{"mesh of reachable sites", open(meshOf(60)), meshShape, 0},
		{"mesh with options", busy(open(meshOf(60))), meshShape, 2},
		{"mesh with many links that cannot be made", meshOf(60), meshShape, 0},
		{"mesh with few links that cannot be made", meshOf(9), meshShape, 0},
		{"star", starOf(60), starShape, 59},
		{"star and a link", withExtra, graphShape, 12},
		{"chain", chainOf(60), chainShape, 59},
		{"cycle", cycleOf(60), cycleShape, 60},
		{"nothing linked", many("none", 9), chainShape, 0},
		{"meshes joined by a mesh", groupsOf(60), graphShape, 6},
		{"anything", randomOf(30, 1), graphShape, 47},
	} {
		st := analyse(c.n)
		if st.shape != c.want || len(st.single) != c.lines {
			t.Errorf("%s: shape %d with %d links drawn one by one, want %d with %d", c.name, st.shape, len(st.single), c.want, c.lines)
		}
	}
}

// Every link is in exactly one mesh or drawn singly, but for those that differ.
func TestNoLinkIsLost(t *testing.T) {
	for name, n := range pictures() {
		st := analyse(n)
		shown := map[[2]int]bool{}
		for _, e := range st.single {
			shown[e] = true
		}
		for _, m := range st.meshes {
			for i, a := range m.members {
				for _, b := range m.members[i+1:] {
					shown[[2]int{a, b}] = true
				}
			}
		}
		for _, e := range allLinks(n) {
			if !shown[e] {
				t.Errorf("%s: link %v is not drawn", name, e)
			}
			delete(shown, e)
		}
		if len(shown) > 0 {
			t.Errorf("%s: %d links are drawn that are not there", name, len(shown))
		}
	}
}

func TestMeshDrawsSinglyWhatDiffers(t *testing.T) {
	n := open(meshOf(20))
	n.Links.SetOptions(2, 5, spec.LinkOptions{Cost: 10})
	n.Links.SetOptions(3, 4, spec.LinkOptions{Keepalive: 1}) // says nothing in a picture
	n.Sites[7].Inbound.None, n.Sites[9].Inbound.None = true, true
	want := [][2]int{{2, 5}, {7, 9}}
	if diff := cmp.Diff(want, analyse(n).single); diff != "" {
		t.Error(diff)
	}
}

func TestExitFollowsTheCheapestPath(t *testing.T) {
	n := open(many("path", 4))
	n.Links.Add(0, 1)
	n.Links.Add(1, 2)
	n.Links.SetOptions(0, 2, spec.LinkOptions{Cost: 10})
	n.Links.Add(2, 3)
	n.Exits = []spec.Exit{{For: []string{"site1", "10.100.1.0/24"}, Via: []string{"site4"}}}
	got := allTraffic(n)
	if len(got) != 1 {
		t.Fatalf("%d lanes, want 1", len(got))
	}
	if diff := cmp.Diff([][2]int{{0, 1}, {1, 2}, {2, 3}}, got[0].hops); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{0, 1}, got[0].lans); diff != "" {
		t.Error(diff)
	}
}

// The spring layout keeps lines off boxes that they do not belong to, in all networks of
// the tests.
func TestLinesKeepOffOtherSites(t *testing.T) {
	for name, n := range pictures() {
		st := analyse(n)
		if st.shape != graphShape {
			continue
		}
		g := &graph{board: newBoard(n, new(scene), st), in: make([]int, len(n.Sites))}
		g.makeBoxes()
		g.layout()
		if hits := g.hits(); hits > 0 {
			t.Errorf("%s: lines pass through %d boxes", name, hits)
		}
	}
}
