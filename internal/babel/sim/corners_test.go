package sim

import (
	"net/netip"
	"testing"
	"time"

	"tombolo/internal/babel"
)

var (
	cornerPrefix = netip.MustParsePrefix("10.9.0.0/24")
	cornerKey    = babel.Key{Dst: cornerPrefix}
	cornerOwn    = []babel.Announcement{{Key: cornerKey}}
)

func (n *Net) wantNoLoop(t *testing.T) {
	t.Helper()
	for _, node := range n.Nodes {
		if way, loop := n.Follow(node, cornerKey); loop {
			names := ""
			for _, w := range way {
				names += " " + w.Name
			}
			t.Errorf("%v: a loop:%s", n.Now, names)
			return
		}
	}
}

// A prefix moves to a router that kept a way to where it was, and away again, while the agent
// on that way is dead.
func TestNoLoopWherePrefixWasOurs(t *testing.T) {
	n := New(1)
	x, m, y, z, w := n.Add("x", babel.Timing{}, cornerPrefix), n.Add("m", babel.Timing{}), n.Add("y", babel.Timing{}), n.Add("z", babel.Timing{}), n.Add("w", babel.Timing{})
	const ms = time.Millisecond
	n.Join(x, m, 5*ms)
	n.Join(m, y, 5*ms)
	n.Join(y, z, 5*ms)
	n.Join(m, w, 5*ms)
	wz := n.Join(w, z, 5*ms)
	wz.CutBoth(true)
	n.StartAll(time.Second)
	n.Run(20 * time.Second)
	n.Silence(y)
	n.Run(30 * time.Second)
	n.Announce(x, nil)
	n.Announce(z, cornerOwn)
	n.Run(40 * time.Second)
	wz.CutBoth(false)
	n.Run(2 * time.Minute)
	n.Announce(z, nil)
	n.Run(10 * time.Minute)
	n.wantNoLoop(t)
	n.Start(y)
	n.Run(20 * time.Minute)
	n.wantNoLoop(t)
}

// A second origin appears for less than a second, behind a router that keeps a way to the first.
func TestNoLoopWhereASecondOriginWas(t *testing.T) {
	n := New(1)
	x, y, z, w, v := n.Add("x", babel.Timing{}, cornerPrefix), n.Add("y", babel.Timing{}), n.Add("z", babel.Timing{}), n.Add("w", babel.Timing{}), n.Add("v", babel.Timing{})
	const ms = time.Millisecond
	n.Join(x, y, 2*ms)
	yz := n.Join(y, z, 5*ms)
	zw := n.Join(z, w, 1*ms)
	zw.CutBoth(true)
	n.Join(w, y, 1*ms)
	n.Join(z, v, 2*ms)
	n.StartAll(time.Second)
	n.Run(30 * time.Second)
	n.Silence(x)
	n.Run(time.Minute)
	yz.Delay = [2]time.Duration{60 * ms, 4 * ms}
	zw.CutBoth(false)
	n.Run(3 * time.Minute)
	n.Announce(v, cornerOwn)
	n.Run(n.Now + 800*ms)
	n.Announce(v, nil)
	n.Run(n.Now + 10*time.Minute)
	n.wantNoLoop(t)
}

// Two agents end at once, one is back soon, and a link is cut meanwhile, which heals.
func TestNoLoopThroughAnHeir(t *testing.T) {
	for phase := range 40 {
		n := New(uint64(phase))
		x, a, z, f, b := n.Add("x", babel.Timing{}, cornerPrefix), n.Add("a", babel.Timing{}), n.Add("z", babel.Timing{}), n.Add("f", babel.Timing{}), n.Add("b", babel.Timing{})
		const ms = time.Millisecond
		n.Join(x, a, 2*ms)
		n.Join(a, z, 2*ms)
		zf := n.Join(z, f, 2*ms)
		n.Join(f, b, 2*ms)
		n.Join(b, z, 20*ms)
		n.StartAll(time.Second)
		n.Run(time.Minute + time.Duration(phase)*50*ms)
		zf.CutBoth(true)
		n.Silence(a)
		n.Silence(z)
		n.Run(n.Now + 50*ms)
		n.Start(z)
		n.Run(n.Now + 5*time.Second)
		zf.CutBoth(false)
		n.Run(n.Now + time.Minute)
		n.wantNoLoop(t)
	}
}
