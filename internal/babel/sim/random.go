package sim

import (
	"container/heap"
	"fmt"
	"math"
	"net/netip"
	"time"

	"tombolo/internal/babel"
)

// Shape is what a random network is like.
type Shape struct {
	Routers, Wires, Prefixes int

	// Jitter is up to how much longer a packet takes, as a share of the wire's delay.
	Jitter float64
	Timing babel.Timing
}

// around is how long light in a fibre takes around half of the Earth, by detours.
const around = 75 * time.Millisecond

// Random returns a network of one piece, of routers that stand anywhere on a sphere; none
// is started. A wire takes as long as its ends are apart, and a little. Prefixes go to
// routers in turns, one to each at least.
func Random(seed uint64, s Shape) *Net {
	n := New(seed)
	points := make([][3]float64, s.Routers)
	for i := range points {
		z, phi := 2*n.rand.Float64()-1, 2*math.Pi*n.rand.Float64()
		r := math.Sqrt(1 - z*z)
		points[i] = [3]float64{r * math.Cos(phi), r * math.Sin(phi), z}
		var own []netip.Prefix
		for p := i; p < s.Prefixes; p += s.Routers {
			own = append(own, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(p >> 8), byte(p), 0}), 24))
		}
		n.Add(fmt.Sprintf("r%d", i), s.Timing, own...)
	}
	joined := map[[2]int]bool{}
	join := func(i, j int) {
		k := [2]int{min(i, j), max(i, j)}
		if i == j || joined[k] {
			return
		}
		joined[k] = true
		a, b := points[i], points[j]
		angle := math.Acos(min(max(a[0]*b[0]+a[1]*b[1]+a[2]*b[2], -1), 1))
		d := 500*time.Microsecond + time.Duration(angle/math.Pi*float64(around)*(1+n.rand.Float64()/2))
		w := n.Join(n.Nodes[i], n.Nodes[j], d)
		jitter := time.Duration(s.Jitter * float64(d))
		w.Jitter = [2]time.Duration{jitter, jitter}
	}
	for i := 1; i < s.Routers; i++ {
		join(i, n.rand.IntN(i))
	}
	for len(n.Wires) < s.Wires {
		join(n.rand.IntN(s.Routers), n.rand.IntN(s.Routers))
	}
	return n
}

// StartAll starts all routers within a time.
func (n *Net) StartAll(within time.Duration) {
	from := n.Now
	for i, node := range n.Nodes {
		n.Run(from + within*time.Duration(i)/time.Duration(len(n.Nodes)))
		n.Start(node)
	}
}

// Shortest returns the delays of the shortest ways from a router, one way, over wires that
// are not cut in either direction; a router that it cannot reach is not in it.
func (n *Net) Shortest(from *Node) map[*Node]time.Duration {
	done := map[*Node]time.Duration{}
	next := &eventHeap{{node: from}}
	for next.Len() > 0 {
		e := heap.Pop(next).(*event)
		if _, ok := done[e.node]; ok || e.node.dead {
			continue
		}
		done[e.node] = e.at
		for _, end := range e.node.ends {
			if w := end.wire; !w.Cut[0] && !w.Cut[1] {
				to := w.A
				if end.side == 0 {
					to = w.B
				}
				heap.Push(next, &event{at: e.at + w.Delay[end.side], node: to})
			}
		}
	}
	return done
}

// Report is how the ways that the routers chose compare with those that there are.
type Report struct {
	Pairs   int // of a router and a prefix of another, that are connected
	Reached int // of these, those that have a way
	Close   int // of these, those whose way is within 5 % of the shortest
	Wrong   int // ways of pairs that are not connected

	Longest float64 // the longest way, as a multiple of the shortest
}

// Report looks at all pairs.
func (n *Net) Report() Report {
	r := Report{Longest: 1}
	for _, from := range n.Nodes {
		if from.dead {
			continue
		}
		best := n.Shortest(from)
		for _, owner := range n.Nodes {
			if owner == from {
				continue
			}
			want, connected := best[owner]
			for _, a := range owner.Own {
				got, ok := n.Reaches(from, a.Key)
				switch {
				case !connected && ok:
					r.Wrong++
				case connected:
					r.Pairs++
					if ok {
						r.Reached++
						r.Longest = max(r.Longest, float64(got)/float64(want))
					}
					if ok && got <= want*105/100 {
						r.Close++
					}
				}
			}
		}
	}
	return r
}

// Sent returns what was sent over all wires so far.
func (n *Net) Sent() (bytes, packets uint64) {
	for _, w := range n.Wires {
		bytes += w.Bytes[0] + w.Bytes[1]
		packets += w.Packets[0] + w.Packets[1]
	}
	return bytes, packets
}
