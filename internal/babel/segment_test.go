package babel

import (
	"testing"
	"time"

	"tombolo/internal/babel/wire"
)

func TestNewNeighbourOnASegmentDoesNotKeepNewsFromTheOthers(t *testing.T) {
	r := newRig(t, nil, "a", "lan")
	a, x := r.up("a", 1, rtt), r.up("lan", 2, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(1), 1, 100)
	r.run(time.Second)
	before := x.told(k)
	a.announce(k, router(1), 2, 2000)
	y := r.peer("lan", 3, rtt)
	for r.neighbour(y).Cost == wire.Infinity { // it comes before the news is out
		r.now += time.Millisecond
		y.hello()
		r.s.link("lan").sendHello()
		r.take(r.s.Handle(r.now, Packet{}))
	}
	r.run(2 * time.Second)
	if after := x.told(k); after < before+1500 {
		t.Errorf("told %d before, and now %d", before, after)
	}
	if y.told(k) == 0 {
		t.Error("the new one was told nothing")
	}
}
