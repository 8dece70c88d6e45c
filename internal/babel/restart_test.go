package babel

import (
	"testing"
	"time"

	"tombolo/internal/babel/wire"
)

const rtt = 10 * time.Millisecond

// restart has a peer begin anew, as after a crash that was too short to be seen: its
// numbers are others, and it knows nothing.
func (p *peer) restart() {
	p.seqno += 20000
	p.stamps = nil
	p.heard()
	p.hello()
}

func TestNeighbourThatBeganAnewIsToldEverything(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	k := key("10.1.0.0/16")
	b.announce(k, router(2), 1, 0)
	r.run(time.Second)
	if a.told(k) == 0 {
		t.Fatal("the first time it was not told")
	}
	a.restart()
	r.run(time.Second)
	if a.told(k) == 0 {
		t.Error("nobody told it again")
	}
}

func TestRoutesThroughANeighbourThatBeganAnewEnd(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	own, through := key("10.1.0.0/16"), key("10.9.0.0/16")
	a.announce(own, router(1), 1, 0)
	a.announce(through, router(9), 1, 50)
	r.run(time.Second)
	r.want(own, "a")
	r.want(through, "a")
	a.restart()
	// Its feasibility distances are gone, so that it may choose a way through us: its route is
	// not announced any more, and packets go by it only while there is no other.
	r.want(through, "a")
	r.run(10 * time.Millisecond)
	if m := b.told(through); m != wire.Infinity {
		t.Errorf("others are told the metric %d", m)
	}
	r.want(own, "a") // no way to what is its own leads elsewhere
	b.announce(through, router(9), 1, 40)
	r.want(through, "b")
	b.announce(through, router(9), 1, wire.Infinity)
	r.want(through, "a")
	r.run(20 * time.Second)
	r.want(through, "") // it did not say that it has them still
	r.want(own, "")
}

func TestOwnRouteOfANeighbourThatBeganAnewStays(t *testing.T) {
	r := newRig(t, nil, "a")
	a := r.up("a", 1, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(1), 1, 0)
	r.run(time.Second)
	r.events = nil
	a.restart()
	r.run(300 * time.Millisecond)
	a.announce(k, wire.RouterID{3: 1, 7: 1}, 30000, 0)
	r.run(20 * time.Second)
	r.want(k, "a")
	for _, e := range r.events {
		if e.Kind == RouteLost {
			t.Errorf("%s: %s", e.Kind, e.Reason)
		}
	}
}

func TestNewNeighbourIsAskedForAllUntilItAnswers(t *testing.T) {
	r := newRig(t, nil, "a")
	a := r.peer("a", 1, rtt)
	asked := func() int { return len(heard[wire.RouteRequest](a)) }
	for r.neighbour(a).Cost == wire.Infinity {
		r.run(time.Millisecond)
	}
	a.unheld = true
	// The first request is lost: the peer acknowledges nothing at all in this time.
	n := asked()
	a.silent = true
	r.run(50 * time.Millisecond)
	n += asked()
	a.silent = false
	r.run(time.Second)
	if again := asked(); n == 0 || again == 0 {
		t.Errorf("asked %d times, and %d times when that was lost", n, again)
	}
	r.run(time.Second)
	if more := asked(); more > 0 {
		t.Errorf("asked %d times more after it was acknowledged", more)
	}
}

func TestRequestForAllOnATunnelIsAnsweredAlsoSoonAfterTheLast(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	k := key("10.1.0.0/16")
	b.announce(k, router(2), 1, 0)
	r.run(time.Second)
	for i := range 3 {
		a.heard()
		a.send(wire.RouteRequest{})
		r.run(500 * time.Millisecond)
		if i == 0 && a.told(k) == 0 {
			t.Error("the first request was not answered")
		}
	}
	a.heard()
	a.send(wire.RouteRequest{})
	r.run(2 * time.Second)
	if n := len(heard[wire.Update](a)); n != 1 {
		t.Errorf("the last of four requests was answered by %d updates, want 1", n)
	}
}

func TestWhatWasLostWhileANeighbourDidNotAnswerIsRetracted(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	k := key("10.1.0.0/16")
	b.announce(k, router(2), 1, 0)
	r.run(time.Second)
	// It hears us all the time, but what it sends is lost for a second, and our word that
	// we do not hear it as well.
	a.silent = true
	r.run(2 * time.Second)
	b.announce(k, router(2), 1, wire.Infinity)
	r.run(time.Second)
	a.heard()
	a.silent, a.next = false, r.now
	r.run(time.Second)
	if m := a.told(k); m != wire.Infinity {
		t.Errorf("it was told the metric %d, want a retraction", m)
	}
}

func TestGhostsOfAnEarlierLifeAreNotTaken(t *testing.T) {
	r := newRig(t, nil, "a")
	a := r.up("a", 1, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, wire.RouterID{3: me, 7: 77}, 1, 50)
	r.run(time.Second)
	r.want(k, "")
}
