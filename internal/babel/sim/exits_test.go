package sim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tombolo/internal/babel"
)

// rank is how far the metrics of two exits for one source are apart.
const rank = 4096

// exits is a random network in which several routers are exits for several sources.
type exits struct {
	*world
	of    map[babel.Key][]*Node // by rank
	keys  []babel.Key
	works map[*Node]bool // its uplink does

	looping map[babel.Key]babel.Time // since when
	longest time.Duration            // of all loops
	loops   int
}

// newExits makes 4 to 12 routers with ways that are short, compared with a rank.
func newExits(t *testing.T, seed uint64) *exits {
	w := &exits{
		world: &world{Net: New(seed), t: t, r: rand.New(rand.NewPCG(seed, 4)), dead: map[*Node]bool{}, air: air(seed % 3)},
		of:    map[babel.Key][]*Node{}, works: map[*Node]bool{}, looping: map[babel.Key]babel.Time{},
	}
	w.Several = map[babel.Key]bool{}
	n := 4 + w.r.IntN(9)
	for i := range n {
		w.works[w.Add(fmt.Sprintf("r%d", i), babel.Timing{}, prefixOf(i, 0))] = true
	}
	for i := 1; i < n; i++ {
		w.near(w.Join(w.Nodes[i], w.Nodes[w.r.IntN(i)], 0))
	}
	for range w.r.IntN(n + 1) {
		if a, b := w.Nodes[w.r.IntN(n)], w.Nodes[w.r.IntN(n)]; a != b && a.ends["wg-"+b.Name] == nil {
			w.near(w.Join(a, b, 0))
		}
	}
	for j := range 3 {
		k := babel.Key{Dst: netip.MustParsePrefix("0.0.0.0/0"), Src: prefixOf(j, 0)}
		if j == 2 {
			k = babel.Key{Dst: netip.MustParsePrefix("::/0"), Src: netip.MustParsePrefix("fd00:2::/64")}
		}
		w.keys = append(w.keys, k)
		w.Several[k] = true
		for i, at := range w.r.Perm(n)[:2+w.r.IntN(3)] {
			w.of[k] = append(w.of[k], w.Nodes[at])
			w.Nodes[at].Own = append(w.Nodes[at].Own, babel.Announcement{Key: k, Metric: uint16(i * rank)})
		}
	}
	w.OnChange = func(_ *Node, k babel.Key) { w.look(k) }
	return w
}

// near gives a wire a delay that is nothing beside a rank, by as many as there are.
func (w *exits) near(x *Wire) {
	d := time.Millisecond + time.Duration(w.r.Int64N(int64(9*time.Millisecond)))
	x.Delay = [2]time.Duration{d, d}
	if w.air != still {
		x.Jitter = [2]time.Duration{d / 20, d / 20}
	}
	if w.air == lossy {
		loss := w.r.Float64() * 0.02
		x.Loss = [2]float64{loss, loss}
	}
}

// look counts loops, and how long they last.
func (w *exits) look(k babel.Key) {
	if !w.Several[k] {
		return
	}
	loop := slices.ContainsFunc(w.Nodes, func(n *Node) bool {
		_, loop := w.Follow(n, k)
		return loop
	})
	since, was := w.looping[k]
	switch {
	case loop && !was:
		w.looping[k] = w.Now
		w.loops++
	case !loop && was:
		w.longest = max(w.longest, w.Now-since)
		delete(w.looping, k)
	}
}

// announce has a router announce what it is to.
func (w *exits) announce(n *Node) {
	own := slices.DeleteFunc(slices.Clone(n.Own), func(a babel.Announcement) bool { return w.Several[a.Key] })
	for _, k := range w.keys {
		if i := slices.Index(w.of[k], n); i >= 0 && w.works[n] {
			own = append(own, babel.Announcement{Key: k, Metric: uint16(i * rank)})
		}
	}
	if w.dead[n] {
		n.Own = own
		return
	}
	w.Announce(n, own)
}

// befall does one thing at random.
func (w *exits) befall() {
	wire, node := w.Wires[w.r.IntN(len(w.Wires))], w.Nodes[w.r.IntN(len(w.Nodes))]
	k := w.keys[w.r.IntN(len(w.keys))]
	exit := w.of[k][w.r.IntN(len(w.of[k]))]
	switch w.r.IntN(12) {
	case 0, 1:
		wire.Cut = [2]bool{true, true}
	case 2:
		wire.Cut[w.r.IntN(2)] = true
	case 3, 4:
		wire.Cut = [2]bool{}
	case 5, 6, 7: // its uplink fails, or works again
		w.works[exit] = !w.works[exit]
		w.announce(exit)
	case 8: // the file names the exits in another order
		w.r.Shuffle(len(w.of[k]), func(i, j int) { w.of[k][i], w.of[k][j] = w.of[k][j], w.of[k][i] })
		for _, n := range w.of[k] {
			w.announce(n)
		}
	case 9: // the speaker begins anew
		if !w.dead[exit] {
			w.Silence(exit)
			w.Start(exit)
		}
	case 10:
		w.toggle(node, w.Kill)
	case 11:
		w.toggle(exit, w.Silence)
	}
	for _, x := range w.Wires {
		x.Busy = w.r.IntN(3) == 0
	}
}

func (w *exits) toggle(n *Node, end func(*Node)) {
	if w.dead[n] {
		delete(w.dead, n)
		w.Start(n)
		return
	}
	w.dead[n] = true
	end(n)
}

// first returns the exit that a router's packets must leave by: of those that work and that
// it is connected with, the first.
func (w *exits) first(from *Node, k babel.Key) *Node {
	connected := w.Shortest(from)
	for _, x := range w.of[k] {
		if _, ok := connected[x]; ok && w.works[x] {
			return x
		}
	}
	return nil
}

// settled checks what holds when nothing has happened for long.
func (w *exits) settled() {
	for _, k := range w.keys {
		if since, loop := w.looping[k]; loop {
			w.t.Errorf("%v: a loop for %v since %v", w.Now, k, since)
		}
		for _, n := range w.Nodes {
			if n.dead {
				continue
			}
			way, loop := w.Follow(n, k)
			last := way[len(way)-1]
			_, reached := w.Reaches(n, k)
			switch want := w.first(n, k); {
			case loop:
				w.t.Errorf("%s: a loop for %v", n.Name, k)
			case want == nil && (reached || len(way) > 1):
				w.t.Errorf("%s has a way for %v to %s, and there is no exit", n.Name, k, last.Name)
			case want != nil && (!reached || last != want):
				w.t.Errorf("%s leaves for %v at %s (reached %v), want %s", n.Name, k, last.Name, reached, want.Name)
			}
		}
	}
}

// TestExits lets things happen to networks with several exits: at rest every router's packets
// leave by the first of those that work and can be reached.
func TestExits(t *testing.T) {
	for i := range *laws {
		s := *seed + uint64(i)
		t.Run(fmt.Sprint("seed=", s), func(t *testing.T) {
			w := newExits(t, s)
			for _, n := range w.Nodes {
				w.Run(w.Now + w.upTo(2*time.Second))
				w.Start(n)
			}
			w.quiet()
			w.settled()
			for round := range 4 {
				for range 3 + w.r.IntN(20) {
					w.befall()
					w.Run(w.Now + time.Duration(w.r.ExpFloat64()*float64(2*time.Second)))
				}
				w.quiet()
				w.settled()
				if t.Failed() {
					t.Logf("in round %d, at %v, of %d routers and %d wires", round, w.Now, len(w.Nodes), len(w.Wires))
					break
				}
			}
			for _, f := range w.Faults {
				t.Error(f)
			}
			if w.longest > w.Grace {
				t.Errorf("a loop lasted %v", w.longest)
			}
			t.Logf("%d changes, %d loops for a moment, the longest of %v", w.Changes, w.loops, w.longest)
		})
	}
}

// An uplink fails and works again: all leave by the other exit as soon as they can have heard
// of it, and back.
func TestExitsTakeOverAtOnce(t *testing.T) {
	w := &exits{world: &world{Net: New(7), t: t}, of: map[babel.Key][]*Node{}, works: map[*Node]bool{}}
	k := babel.Key{Dst: netip.MustParsePrefix("0.0.0.0/0"), Src: prefixOf(9, 0)}
	w.keys, w.Several = []babel.Key{k}, map[babel.Key]bool{k: true}
	for i := range 4 { // a chain, with exits at both ends
		n := w.Add(fmt.Sprintf("r%d", i), babel.Timing{})
		if w.works[n] = true; i > 0 {
			w.Join(w.Nodes[i-1], n, 10*time.Millisecond)
		}
	}
	w.of[k] = []*Node{w.Nodes[0], w.Nodes[3]}
	for _, n := range w.Nodes {
		n.Own = nil
		w.Start(n)
		w.announce(n)
	}
	w.Run(20 * time.Second)
	w.settled()
	for _, up := range []bool{false, true} {
		w.works[w.Nodes[0]] = up
		w.announce(w.Nodes[0])
		w.Run(w.Now + 120*time.Millisecond) // three times 10 ms and urgent's 5, there and back, and a little
		w.settled()
	}
	for _, f := range w.Faults {
		t.Error(f)
	}
}
