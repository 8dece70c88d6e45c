package sim

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tombolo/internal/babel"
)

var (
	laws = flag.Int("laws", 24, "random networks that TestLaws looks at")
	seed = flag.Uint64("seed", 0, "the seed of the first of them")
)

// air is what becomes of packets on their way.
type air int

const (
	still air = iota // they all take the same time
	jittery
	lossy
)

// world is a random network to which things happen.
type world struct {
	*Net
	t      *testing.T
	r      *rand.Rand
	air    air
	mobile map[netip.Prefix]*Node // prefixes that move, and where they are; nil: nowhere
	dead   map[*Node]bool
}

func prefixOf(i, j int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), byte(j), 0}), 24)
}

// newWorld makes 5 to 30 routers, in one piece, with up to as many wires more.
func newWorld(t *testing.T, seed uint64) *world {
	w := &world{Net: New(seed), t: t, r: rand.New(rand.NewPCG(seed, 2)), mobile: map[netip.Prefix]*Node{}, dead: map[*Node]bool{}}
	w.air = air(seed % 3)
	n := 5 + w.r.IntN(26)
	for i := range n {
		w.Add(fmt.Sprintf("r%d", i), babel.Timing{}, prefixOf(i, 0))
	}
	joined := map[[2]int]bool{}
	join := func(i, j int) {
		if k := [2]int{min(i, j), max(i, j)}; i != j && !joined[k] {
			joined[k] = true
			w.delay(w.Join(w.Nodes[i], w.Nodes[j], 0))
		}
	}
	for i := 1; i < n; i++ {
		join(i, w.r.IntN(i))
	}
	for range w.r.IntN(n + 1) {
		join(w.r.IntN(n), w.r.IntN(n))
	}
	for j := range 3 {
		w.mobile[prefixOf(200, j)] = nil
	}
	return w
}

// delay gives a wire the delay, jitter and loss of a way through the Internet.
func (w *world) delay(wire *Wire) {
	d := time.Millisecond + time.Duration(w.r.Int64N(int64(60*time.Millisecond)))
	wire.Delay = [2]time.Duration{d, d}
	if w.air != still {
		wire.Jitter = [2]time.Duration{d / 20, d / 20}
	}
	if w.air == lossy {
		loss := w.r.Float64() * w.r.Float64() * 0.1
		wire.Loss = [2]float64{loss, loss}
	}
}

// happen does one thing at random.
func (w *world) happen() {
	wire := w.Wires[w.r.IntN(len(w.Wires))]
	node := w.Nodes[w.r.IntN(len(w.Nodes))]
	switch w.r.IntN(11) {
	case 0:
		wire.Cut = [2]bool{true, true}
	case 1:
		wire.Cut[w.r.IntN(2)] = true
	case 2, 3:
		wire.Cut = [2]bool{}
	case 4:
		w.delay(wire)
	case 5:
		if !w.dead[node] {
			w.dead[node] = true
			w.Kill(node)
		}
	case 6:
		for _, n := range w.Nodes { // in their order
			if w.dead[n] {
				delete(w.dead, n)
				w.Start(n)
				break
			}
		}
	case 7: // began anew at once
		if !w.dead[node] {
			w.Kill(node)
			w.Start(node)
		}
	case 8:
		p := prefixOf(200, w.r.IntN(3))
		if was := w.mobile[p]; was != nil {
			w.own(was, p, false)
		}
		w.mobile[p] = nil
		if w.r.IntN(4) > 0 && !w.dead[node] {
			w.own(node, p, true)
			w.mobile[p] = node
		}
	case 9: // the speaker dies, and is back after a while, as what was dead
		if !w.dead[node] {
			w.dead[node] = true
			w.Silence(node)
		}
	case 10: // the same, and is back at once
		if !w.dead[node] {
			w.Silence(node)
			w.Start(node)
		}
	}
	for _, x := range w.Wires {
		x.Busy = w.r.IntN(3) == 0
	}
}

func (w *world) own(n *Node, p netip.Prefix, yes bool) {
	a := babel.Announcement{Key: babel.Key{Dst: p}}
	own := slices.DeleteFunc(slices.Clone(n.Own), func(x babel.Announcement) bool { return x == a })
	if yes {
		own = append(own, a)
	}
	if w.dead[n] {
		n.Own = own
		return
	}
	w.Announce(n, own)
}

// rest checks what holds when nothing has happened for long.
func (w *world) rest() {
	owners := map[babel.Key]*Node{}
	for _, n := range w.Nodes {
		if !n.dead {
			for _, a := range n.Own {
				owners[a.Key] = n
			}
		}
	}
	for _, n := range w.Nodes {
		if n.dead {
			continue
		}
		for k := range n.FIB {
			if owners[k] == nil {
				w.t.Errorf("%s still has a route to %s, which nobody announces: %+v", n.Name, k.Dst, n.FIB[k])
			}
		}
		best := w.Shortest(n)
		for k, owner := range owners {
			want, connected := best[owner]
			got, reached := w.Reaches(n, k)
			switch {
			case connected != reached:
				w.t.Errorf("%s to %s of %s: connected %v, reached %v (%+v)", n.Name, k.Dst, owner.Name, connected, reached, n.FIB[k])
			case w.air != lossy && got > want*105/100+2*time.Millisecond:
				way, _ := w.Follow(n, k)
				w.t.Errorf("%s to %s of %s: %v by %d hops, the shortest is %v", n.Name, k.Dst, owner.Name, got, len(way)-1, want)
			}
		}
	}
}

// quiet ends what moves, and returns when the network should be at rest.
func (w *world) quiet() {
	for _, x := range w.Wires {
		x.Busy = false
	}
	for _, n := range w.Nodes {
		if n.silent { // what it has would be kept
			delete(w.dead, n)
			w.Start(n)
		}
	}
	w.Run(w.Now + 60*time.Second)
	moves := map[string]int{}
	w.OnEvent = func(n *Node, e babel.Event) {
		if e.Key != nil {
			moves[fmt.Sprintf("%v %s to %s: %s", w.Now, n.Name, e.Key.Dst, e.Reason)]++
		}
	}
	w.Run(w.Now + 30*time.Second)
	w.OnEvent = nil
	routes := 0
	for _, n := range w.Nodes {
		routes += len(n.FIB)
	}
	// A way or two may still be found to be better by a percent.
	if allowed := []int{still: 5, jittery: 5 + routes/50, lossy: routes}[w.air]; len(moves) > allowed {
		w.t.Errorf("at rest there were %d changes of %d routes: %v", len(moves), routes, moves)
	}
}

// TestLaws lets things happen to random networks, and looks at them whenever they are at
// rest. Loops are looked for all the time.
func TestLaws(t *testing.T) {
	for i := range *laws {
		s := *seed + uint64(i)
		t.Run(fmt.Sprint("seed=", s), func(t *testing.T) {
			w := newWorld(t, s)
			for _, n := range w.Nodes {
				w.Run(w.Now + w.upTo(2*time.Second))
				w.Start(n)
			}
			for round := range 3 {
				for range 5 + w.r.IntN(30) {
					w.happen()
					w.Run(w.Now + time.Duration(w.r.ExpFloat64()*float64(2*time.Second)))
				}
				w.quiet()
				w.rest()
				if t.Failed() {
					t.Logf("in round %d, at %v, of %d routers and %d wires", round, w.Now, len(w.Nodes), len(w.Wires))
					break
				}
			}
			for _, f := range w.Faults {
				t.Error(f)
			}
			t.Logf("%d brief loops", w.Brief)
		})
	}
}
