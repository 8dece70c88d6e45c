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

func TestSegmentIsSpokenToByMulticast(t *testing.T) {
	r := newRig(t, nil, "a", "lan")
	a, x, y := r.up("a", 1, rtt), r.up("lan", 2, rtt), r.up("lan", 3, 3*rtt)
	if n := r.neighbour(x); n.RTT != rtt || n.TxCost != fullSegment || n.RxCost != fullSegment {
		t.Errorf("%+v", n)
	}
	if n := r.neighbour(y); n.RTT != 3*rtt {
		t.Errorf("%+v", n)
	}
	k, kx := key("10.1.0.0/16"), key("10.2.0.0/16")
	a.announce(k, router(1), 1, 0)
	x.announce(kx, router(9), 1, 100)
	y.announce(kx, router(9), 1, 0)
	if h := r.fib[kx]; h.Link != "lan" || h.NextHop != x.address && h.NextHop != y.address {
		t.Errorf("%+v", h)
	}
	r.run(5 * time.Second)
	if h := r.fib[kx]; h.NextHop != x.address { // 210 against 310
		t.Errorf("%+v", h)
	}
	for _, p := range []*peer{x, y} {
		said := p.heard()
		for _, want := range []*peer{x, y} {
			ihu := false
			for _, t := range said {
				i, ok := t.(wire.IHU)
				ihu = ihu || ok && i.Address == want.address && i.RxCost == fullSegment && i.Stamped
			}
			if !ihu {
				t.Errorf("%s heard no IHU for %s", p.address, want.address)
			}
		}
		p.said = said
		if m := p.told(k); m != 110 {
			t.Errorf("%s was told %d", p.address, m)
		}
	}
	// One of them dies: the other is used.
	r.want(kx, "lan")
	x.silent = true
	r.run(10 * time.Second)
	if h := r.fib[kx]; h.NextHop != y.address {
		t.Errorf("after one died: %+v", h)
	}
	r.run(2 * time.Minute)
	for _, n := range r.s.View().Neighbours {
		if n.Address == x.address {
			t.Errorf("it is still known: %+v", n)
		}
	}
}

func TestRetractionOnASegmentIsRepeated(t *testing.T) {
	r := newRig(t, nil, "a", "lan")
	a, x := r.up("a", 1, rtt), r.up("lan", 2, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(1), 1, 0)
	r.run(time.Second)
	x.heard()
	a.announce(k, router(1), 1, inf)
	r.want(k, "-")
	r.run(2 * time.Second)
	if n := len(heard[wire.Update](x)); n != repeats {
		t.Errorf("said %d times, want %d", n, repeats)
	}
	r.want(k, "")
}

func TestSegmentsNeighboursAreBounded(t *testing.T) {
	r := newRig(t, nil, "lan")
	for i := range 200 {
		p := r.peer("lan", byte(i)+1, rtt)
		if p.address != r.s.link("lan").Address {
			p.hello()
		}
	}
	if n := len(r.s.View().Neighbours); n != maxNeighbours {
		t.Errorf("%d neighbours", n)
	}
}

func TestAnotherRouterOnATunnelTakesThePlaceOfTheOld(t *testing.T) {
	r := newRig(t, nil, "a")
	a := r.up("a", 1, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(1), 1, 0)
	r.want(k, "a")
	a.silent = true
	b := r.up("a", 2, rtt)
	r.want(k, "")
	if v := r.s.View().Neighbours; len(v) != 1 || v[0].Address != b.address {
		t.Errorf("%+v", v)
	}
}
