package babel

import (
	"testing"
	"time"

	"tombolo/internal/babel/wire"
)

func TestHoldLastsUntilTheLastNeighbourKnows(t *testing.T) {
	r := newRig(t, nil, "a", "b", "c")
	a, b, c := r.up("a", 1, rtt), r.up("b", 2, rtt), r.up("c", 3, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(9), 10, 50)
	r.run(time.Second)
	c.unheld = true
	a.announce(k, router(9), 10, inf)
	r.run(500 * time.Millisecond)
	if m := b.told(k); m != inf {
		t.Fatalf("b was told %d", m)
	}
	r.want(k, "-") // b knows, c does not
	c.unheld = false
	r.run(2 * time.Second)
	r.want(k, "")
}

func TestAnswerThatWaitedForAStalledHostCounts(t *testing.T) {
	r := newRig(t, nil, "a")
	a := r.up("a", 1, rtt)
	a.silent = true
	for r.neighbour(a).State != "suspect" {
		r.run(time.Millisecond)
	}
	r.run(2 * probeGap) // all probes are sent; nothing has come back yet
	r.now += time.Second
	r.take(r.s.Tick(r.now))
	if n := r.neighbour(a); n.State != "suspect" {
		t.Fatalf("%+v", n)
	}
	a.send(wire.Ack{Opaque: r.s.opaque}) // it had been there for a second
	if n := r.neighbour(a); n.State != "up" {
		t.Errorf("%+v", n)
	}
}

func TestUselessRequestsBecomeSeldom(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(9), 10, 100)
	r.run(20 * time.Second)
	a.announce(k, router(9), 11, 3000)
	b.announce(k, router(9), 10, 500) // better, of an older number, and nobody answers
	r.run(time.Second)
	r.want(k, "a")
	b.heard()
	r.run(2 * time.Minute)
	if n := len(heard[wire.SeqnoRequest](b)); n < 4 || n > 40 {
		t.Errorf("asked %d times in two minutes", n)
	}
}

func TestDistanceIsKeptWhileTheRouteIsUsed(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	k := key("10.1.0.0/16")
	a.send(wire.Update{Prefix: k.Dst, RouterID: router(9), Seqno: 10, Metric: 50, Interval: 60000})
	// All is said again after a minute, and then after four and a half more: in between the
	// distance is not used for longer than sourceLife.
	r.run(sourceLife + 100*time.Second)
	b.announce(k, router(9), 10, 160)
	a.announce(k, router(9), 10, inf)
	if via := r.via(k); via == "b" {
		t.Error("a way that may lead back here is used")
	}
}

func TestRoundTripIsTheSmallestOfThreeSeconds(t *testing.T) {
	r := newRig(t, nil, "a")
	a := r.up("a", 1, 20*time.Millisecond)
	a.every = 300 * time.Millisecond // or more samples than are kept would come
	r.run(4 * time.Second)
	a.rtt = 50 * time.Millisecond
	r.run(2600 * time.Millisecond)
	if n := r.neighbour(a); n.RTT != 20*time.Millisecond || n.LastRTT != 50*time.Millisecond {
		t.Errorf("in the window: %+v", n)
	}
	r.run(time.Second)
	if n := r.neighbour(a); n.RTT != 50*time.Millisecond {
		t.Errorf("after it: %+v", n)
	}
	a.rtt = 10 * time.Millisecond
	r.run(400 * time.Millisecond)
	if n := r.neighbour(a); n.RTT != 10*time.Millisecond {
		t.Errorf("a shorter one counts at once: %+v", n)
	}
}

func TestHellosThatComeTwiceOrLateAreNoLoss(t *testing.T) {
	r := newRig(t, nil, "a")
	a := r.up("a", 1, rtt)
	for i := range 50 {
		r.run(100 * time.Millisecond)
		a.send(wire.Hello{Seqno: a.seqno, Interval: 10})
		a.send(wire.Hello{Seqno: a.seqno - uint16(i%10), Interval: 10})
	}
	if n := r.neighbour(a); n.Loss != 0 || n.State != "up" {
		t.Errorf("%+v", n)
	}
}

func TestWayIsLeftOnlyForOneThatLasts(t *testing.T) {
	k := key("10.1.0.0/16")
	for _, x := range []struct {
		metric uint16 // of b, where a's is 1000
		after  time.Duration
		want   string
	}{
		{940, 2900 * time.Millisecond, "a"}, {940, 3200 * time.Millisecond, "b"}, // better by more than 5 %
		{980, 14 * time.Second, "a"}, {980, 16 * time.Second, "b"}, // by more than 1 %
		{995, time.Minute, "a"},
	} {
		r := newRig(t, nil, "a", "b")
		a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
		a.announce(k, router(9), 10, 890) // and 110 of the link
		b.announce(k, router(9), 10, 895)
		r.run(10 * time.Second)
		r.want(k, "a")
		b.announce(k, router(9), 11, x.metric-110)
		r.run(x.after)
		if got := r.via(k); got != x.want {
			t.Errorf("%d against 1000, after %v: by %s, want %s", x.metric, x.after, got, x.want)
		}
	}
	// It begins anew when it was not better for a moment.
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	a.announce(k, router(9), 10, 890)
	r.run(10 * time.Second)
	for range 10 {
		b.announce(k, router(9), 10, 700)
		r.run(2 * time.Second)
		b.announce(k, router(9), 10, 900)
		r.run(100 * time.Millisecond)
	}
	r.want(k, "a")
}
