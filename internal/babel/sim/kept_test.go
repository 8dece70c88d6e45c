package sim

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tombolo/internal/babel"
)

// TestSilentSpeakersLoseNothing ends the speakers of random networks and starts them again, one
// and several at a time, for milliseconds and for minutes, and looks at every change of a forwarding table: from everywhere every
// prefix is still reached, all the time. Only in the first seconds of one speaker no other ends.
func TestSilentSpeakersLoseNothing(t *testing.T) {
	for i := range *laws {
		s := *seed + uint64(i)
		t.Run(fmt.Sprint("seed=", s), func(t *testing.T) {
			w := newWorld(t, s)
			w.mobile = map[netip.Prefix]*Node{}
			for _, n := range w.Nodes {
				w.Start(n)
			}
			w.quiet()
			w.rest()
			if t.Failed() {
				return
			}
			var what string
			faults := 0
			w.OnChange = func(n *Node, k babel.Key) {
				if _, ok := w.Reaches(n, k); !ok && !slices.Contains(n.Own, babel.Announcement{Key: k}) {
					if faults++; faults < 10 {
						t.Errorf("%v: %s has lost its way to %s (%+v): %s", w.Now, n.Name, k.Dst, n.FIB[k], what)
					}
				}
			}
			began := map[*Node]babel.Time{}
			for range 30 {
				n := w.Nodes[w.r.IntN(len(w.Nodes))]
				if w.Now-began[n] < w.Grace { // of one origin's changes each may loop for a moment
					continue
				}
				began[n] = w.Now
				if calm := w.began + 6*time.Second; w.Now < calm && !n.silent {
					w.Run(calm) // what a new speaker has just found is not kept yet
				}
				what += fmt.Sprintf("\n%v: %s, silent %v", w.Now, n.Name, !n.silent)
				if n.silent {
					w.Start(n)
				} else {
					w.Silence(n)
				}
				if w.r.IntN(2) == 0 { // and it is back soon, whoever else is not
					w.Run(w.Now + time.Duration(w.r.ExpFloat64()*float64(100*time.Millisecond)))
					if n.silent {
						w.Start(n)
					}
				}
				w.Run(w.Now + time.Duration(w.r.ExpFloat64()*float64(10*time.Second)))
			}
			w.OnChange = nil
			w.quiet()
			w.rest()
			for _, f := range w.Faults {
				t.Error(f)
			}
		})
	}
}
