package babel

import (
	"testing"
	"time"

	"tombolo/internal/babel/wire"
)

// eachKind runs a test with a neighbour on a tunnel and with one on a segment, who has been
// told of a route.
func eachKind(t *testing.T, f func(t *testing.T, r *rig, x *peer, k Key)) {
	for _, link := range []string{"a", "lan"} {
		t.Run(link, func(t *testing.T) {
			r := newRig(t, nil, "b", link)
			b, x := r.up("b", 2, rtt), r.up(link, 1, rtt)
			k := key("10.1.0.0/16")
			b.announce(k, router(2), 1, 0)
			r.run(time.Second)
			if x.told(k) == 0 {
				t.Fatal("the first time it was not told")
			}
			f(t, r, x, k)
		})
	}
}

// BIRD and babeld retract everything when they start, and take no updates from those whose
// hellos they have not heard.
func TestWhoRetractedEverythingIsToldEverythingOnceItHearsUs(t *testing.T) {
	eachKind(t, func(t *testing.T, r *rig, x *peer, k Key) {
		x.silent = true
		x.send(wire.Update{Metric: wire.Infinity, Interval: 6000})
		r.run(20 * time.Millisecond)
		if x.told(k) != 0 {
			t.Error("it was told before it said that it hears us")
		}
		x.silent, x.next = false, r.now
		r.run(100 * time.Millisecond)
		if x.told(k) == 0 {
			t.Error("nobody told it again")
		}
		r.run(time.Second)
		if x.told(k) != 0 {
			t.Error("it was told once more")
		}
	})
}

// BIRD counts from the same number after each start.
func TestHellosThatStayBehindAreOfANeighbourThatBeganAnew(t *testing.T) {
	eachKind(t, func(t *testing.T, r *rig, x *peer, k Key) {
		for _, late := range []uint16{5, 4, 9} { // a packet overtook these
			x.send(wire.Hello{Seqno: x.seqno - late, Interval: 10})
		}
		r.run(time.Second)
		if x.told(k) != 0 {
			t.Error("hellos that came late have it told again")
		}
		x.seqno -= 20
		r.run(time.Second)
		if x.told(k) == 0 {
			t.Error("nobody told it again")
		}
		r.run(time.Second)
		if x.told(k) != 0 {
			t.Error("it was told once more")
		}
	})
}
