package babel

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"tombolo/internal/babel/wire"
)

const inf = wire.Infinity

func TestFeasibility(t *testing.T) {
	origin, other := router(1), router(2)
	tests := []struct {
		seqno, metric uint16 // of what was announced
		id            wire.RouterID
		s, m          uint16
		want          bool
	}{
		{10, 100, origin, 10, 99, true},
		{10, 100, origin, 10, 100, false}, // it must be less
		{10, 100, origin, 10, 101, false},
		{10, 100, origin, 11, 5000, true},
		{10, 100, origin, 9, 1, false},
		{10, 100, other, 9, 5000, true}, // another origin
		{65535, 100, origin, 0, 5000, true},
		{0, 100, origin, 65535, 1, false},
		{10, 100, origin, 10 + 32767, 5000, true},
		{10, 100, origin, 10 + 32769, 1, false},
		{10, 100, origin, 9, inf, true}, // a retraction always is (RFC 8966 §3.5.1)
	}
	for _, x := range tests {
		e := &entry{}
		e.lower(0, origin, x.seqno, x.metric)
		if got := e.feasible(x.id, x.s, x.m); got != x.want {
			t.Errorf("after (%d, %d), (%s, %d, %d): %v", x.seqno, x.metric, x.id, x.s, x.m, got)
		}
	}
}

func TestDistanceIsLoweredAndNeverRaised(t *testing.T) {
	e := &entry{}
	e.lower(0, router(1), 10, 100)
	for _, x := range []struct{ seqno, metric, wantSeqno, wantMetric uint16 }{
		{10, 200, 10, 100}, {9, 1, 10, 100}, {10, 50, 10, 50}, {11, 300, 11, 300}, {11, 400, 11, 300},
	} {
		e.lower(0, router(1), x.seqno, x.metric)
		if d := e.sources[0]; d.seqno != x.wantSeqno || d.metric != x.wantMetric || len(e.sources) != 1 {
			t.Errorf("after (%d, %d): %+v", x.seqno, x.metric, e.sources)
		}
	}
}

// RFC 8966 §2.6: the only way that is left is longer than what was announced, so that it
// may lead through us.
func TestStarvedRouterAsksForANewerNumberAtOnce(t *testing.T) {
	r := newRig(t, nil, "a", "b", "c")
	a, b, c := r.up("a", 1, rtt), r.up("b", 2, rtt), r.up("c", 3, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(9), 10, 50)
	r.run(time.Second)
	b.announce(k, router(9), 10, 160)
	r.run(time.Second)
	b.heard()
	a.announce(k, router(9), 10, inf)
	r.want(k, "-")
	requests := heard[wire.SeqnoRequest](b)
	if want := (wire.SeqnoRequest{Prefix: k.Dst, Seqno: 11, HopCount: 64, RouterID: router(9)}); len(requests) != 1 || requests[0] != want {
		t.Fatalf("asked %+v, want %+v at once", requests, want)
	}
	r.run(10 * time.Millisecond)
	if m := c.told(k); m != inf {
		t.Errorf("the others were told %d, want a retraction at once", m)
	}
	r.run(2 * time.Second)
	if n := len(heard[wire.SeqnoRequest](b)); n < 2 || n > 4 {
		t.Errorf("in two seconds more it was asked %d times, want 2 to 4", n)
	}
	b.announce(k, router(9), 11, 160)
	r.want(k, "b")
	r.run(100 * time.Millisecond)
	if m := c.told(k); m != 160+110 {
		t.Errorf("the others were told %d", m)
	}
	b.heard()
	r.run(10 * time.Second)
	if n := len(heard[wire.SeqnoRequest](b)); n > 0 {
		t.Errorf("after the answer it was asked %d times", n)
	}
}

func TestUnfeasibleUpdateForTheUsedWayKeepsItAndAsks(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(9), 10, 50)
	r.run(time.Second)
	a.announce(k, router(9), 10, 500) // more than what we announced
	r.want(k, "a")
	if q := heard[wire.SeqnoRequest](a); len(q) != 1 || q[0].Seqno != 11 {
		t.Errorf("asked: %+v", q)
	}
	r.run(time.Second)
	if m := b.told(k); m != 610 {
		t.Errorf("others were told %d, want 610", m)
	}
	// With a third, feasible way it is left and cannot be taken again.
	b.announce(k, router(9), 10, 60)
	r.run(4 * time.Second)
	r.want(k, "b")
	b.announce(k, router(9), 10, inf)
	r.want(k, "-")
}

func TestRequestsArePassedOnOnce(t *testing.T) {
	r := newRig(t, nil, "a", "b", "c")
	a, b, c := r.up("a", 1, rtt), r.up("b", 2, rtt), r.up("c", 3, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(9), 10, 50)
	r.run(time.Second)
	a.heard()
	ask := wire.SeqnoRequest{Prefix: k.Dst, Seqno: 11, HopCount: 5, RouterID: router(9)}
	b.send(ask)
	c.send(ask)
	b.send(ask)
	passed := ask
	passed.HopCount = 4
	if q := heard[wire.SeqnoRequest](a); len(q) != 1 || q[0] != passed {
		t.Errorf("three that are the same: passed on %+v, want %+v once", q, passed)
	}
	older := ask
	older.Seqno = 10
	b.heard()
	b.send(older)
	if q := heard[wire.SeqnoRequest](a); len(q) > 0 {
		t.Errorf("one that we can answer: passed on %+v", q)
	}
	r.run(10 * time.Millisecond)
	if u := heard[wire.Update](b); len(u) != 1 || u[0].Seqno != 10 {
		t.Errorf("answered %+v, want what we have", u)
	}
	other := ask
	other.RouterID = router(8)
	b.send(other)
	r.run(10 * time.Millisecond)
	if u := heard[wire.Update](b); len(u) != 1 || u[0].RouterID != router(9) {
		t.Errorf("of another origin: answered %+v, want ours", u)
	}
	last := ask
	last.Seqno, last.HopCount = 12, 1
	b.send(last)
	if q := heard[wire.SeqnoRequest](a); len(q) > 0 {
		t.Errorf("one whose hops are used up: passed on %+v", q)
	}
	// The answer goes to all who asked.
	b.heard()
	c.heard()
	a.announce(k, router(9), 11, 50)
	r.run(10 * time.Millisecond)
	for _, p := range []*peer{b, c} {
		if u := heard[wire.Update](p); len(u) != 1 || u[0].Seqno != 11 {
			t.Errorf("%s was answered %+v", p.link, u)
		}
	}
}

func TestRequestIsNeverSentBack(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(9), 10, 50)
	b.announce(k, router(9), 9, 500)
	r.run(time.Second)
	a.heard()
	b.heard()
	// The next hop itself asks, as it does when its own way is lost.
	a.send(wire.SeqnoRequest{Prefix: k.Dst, Seqno: 11, HopCount: 5, RouterID: router(9)})
	if q := heard[wire.SeqnoRequest](a); len(q) > 0 {
		t.Errorf("sent back: %+v", q)
	}
	if q := heard[wire.SeqnoRequest](b); len(q) != 1 {
		t.Errorf("to the other: %+v", q)
	}
}

func TestOwnNumberIsRaisedByOne(t *testing.T) {
	r := newRig(t, nil, "a")
	a := r.up("a", 1, rtt)
	k, other := key("10.1.0.0/16"), key("10.2.0.0/16")
	r.take(r.s.Announce(r.now, []Announcement{{Key: k}, {Key: other}}))
	r.run(time.Second)
	a.heard()
	for _, x := range []struct{ asked, want uint16 }{
		{99, 100}, {100, 100}, {101, 101}, {101, 101}, {30000, 102}, {60000, 102}, // 60000 is older than 102
	} {
		a.send(wire.SeqnoRequest{Prefix: k.Dst, Seqno: x.asked, HopCount: 1, RouterID: router(me)})
		r.run(10 * time.Millisecond)
		if u := heard[wire.Update](a); len(u) != 1 || u[0].Seqno != x.want || u[0].Metric != 0 {
			t.Errorf("asked for %d: %+v, want %d", x.asked, u, x.want)
		}
	}
	a.send(wire.SeqnoRequest{Prefix: k.Dst, Seqno: 110, HopCount: 64, RouterID: router(3)})
	r.run(10 * time.Millisecond)
	if u := heard[wire.Update](a); len(u) != 1 || u[0].Seqno != 102 {
		t.Errorf("asked for another origin's: %+v", u)
	}
	a.send(wire.RouteRequest{Prefix: other.Dst})
	r.run(10 * time.Millisecond)
	if u := heard[wire.Update](a); len(u) != 1 || u[0].Seqno != 100 {
		t.Errorf("the other route of ours: %+v", u)
	}
	a.send(wire.SeqnoRequest{Prefix: pfx("10.77.0.0/16"), Seqno: 110, HopCount: 64, RouterID: router(3)})
	r.run(time.Second)
	if u := heard[wire.Update](a); len(u) != 0 {
		t.Errorf("asked for what we do not know: %+v", u)
	}
}

func TestAnnouncingALargerMetricIsFeasibleForAll(t *testing.T) {
	r := newRig(t, nil, "a")
	a := r.up("a", 1, rtt)
	k := key("10.1.0.0/16")
	r.take(r.s.Announce(r.now, []Announcement{{Key: k}}))
	r.run(time.Second)
	a.heard()
	r.take(r.s.Announce(r.now, []Announcement{{Key: k, Metric: 500}}))
	r.run(100 * time.Millisecond)
	if u := heard[wire.Update](a); len(u) != 1 || u[0].Seqno != 101 || u[0].Metric != 500 {
		t.Errorf("told %+v", u)
	}
	r.take(r.s.Announce(r.now, nil))
	r.run(100 * time.Millisecond)
	if u := heard[wire.Update](a); len(u) != 1 || u[0].Metric != inf {
		t.Errorf("told %+v, want a retraction", u)
	}
}

func TestRetractionIsUrgentAndRepeatedUntilAcknowledged(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(9), 10, 50)
	r.run(time.Second)
	b.heard()
	b.unheld = true
	a.announce(k, router(9), 10, inf)
	r.run(20 * time.Millisecond)
	if m := b.told(k); m != inf {
		t.Fatalf("after 20 ms told %d, want a retraction", m)
	}
	r.want(k, "-")
	r.run(500 * time.Millisecond)
	if n := len(heard[wire.Update](b)); n < 2 {
		t.Errorf("it was repeated %d times", n)
	}
	r.want(k, "-") // as long as somebody may send us what is for it (§3.5.4)
	b.unheld = false
	r.run(2 * time.Second)
	r.want(k, "")
	b.heard()
	r.run(2 * time.Second)
	if n := len(heard[wire.Update](b)); n > 0 {
		t.Errorf("it was repeated %d times after that", n)
	}
}

func TestHoldEndsWhenTheNeighbourIsGone(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(9), 10, 50)
	r.run(time.Second)
	b.unheld = true
	a.announce(k, router(9), 10, inf)
	r.run(50 * time.Millisecond)
	r.want(k, "-")
	r.take(r.s.SetLink(r.now, "b", false))
	r.want(k, "")
}

func TestLostDefaultRouteIsNotHeld(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	b.unheld = true
	for _, k := range []Key{key("0.0.0.0/0"), key("::/0"), {Dst: pfx("0.0.0.0/0"), Src: pfx("10.1.0.0/16")}} {
		a.announce(k, router(9), 10, 50)
		r.run(time.Second)
		r.want(k, "a")
		a.announce(k, router(9), 10, inf)
		r.want(k, "")
	}
}

func TestTunnelIsNotToldOfWhatGoesByIt(t *testing.T) {
	r := newRig(t, nil, "a", "b", "lan")
	a, b, l := r.up("a", 1, rtt), r.up("b", 2, rtt), r.up("lan", 3, rtt)
	k, other := key("10.1.0.0/16"), key("10.2.0.0/16")
	a.announce(k, router(9), 10, 50)
	l.announce(other, router(8), 10, 50)
	r.run(time.Second)
	if m := a.told(k); m != 0 {
		t.Errorf("the tunnel that it goes by was told %d", m)
	}
	if m := b.told(k); m != 160 {
		t.Errorf("the other tunnel was told %d", m)
	}
	if u := heard[wire.Update](l); !slices.ContainsFunc(u, func(u wire.Update) bool { return u.Prefix == other.Dst && u.Metric == 160 }) {
		t.Errorf("the segment, where others may need it, was told %+v", u)
	}
	// Where it comes to go by the other one, that is told so.
	b.announce(k, router(9), 11, 0)
	r.run(5 * time.Second)
	r.want(k, "b")
	if m := b.told(k); m != inf {
		t.Errorf("the tunnel that it goes by now was told %d, want a retraction", m)
	}
	if m := a.told(k); m != 110 {
		t.Errorf("the tunnel that it went by was told %d", m)
	}
}

func TestSourceSpecificRoutesAreOthers(t *testing.T) {
	r := newRig(t, nil, "a", "b", "c")
	a, b, c := r.up("a", 1, rtt), r.up("b", 2, rtt), r.up("c", 3, rtt)
	plain := key("0.0.0.0/0")
	ours := Key{Dst: plain.Dst, Src: pfx("10.1.0.0/16")}
	theirs := Key{Dst: plain.Dst, Src: pfx("10.2.0.0/16")}
	a.announce(plain, router(1), 1, 5)
	b.announce(ours, router(2), 1, 500)
	b.announce(theirs, router(2), 1, 500)
	r.run(time.Second)
	r.want(plain, "a")
	r.want(ours, "b")
	r.want(theirs, "b")
	b.announce(ours, router(2), 1, inf)
	r.want(plain, "a")
	r.want(ours, "")
	r.want(theirs, "b")
	r.run(time.Second)
	told := map[Key]uint16{}
	for _, u := range heard[wire.Update](c) {
		told[Key{u.Prefix, u.Source}] = u.Metric
	}
	if told[plain] != 115 || told[ours] != inf || told[theirs] != 610 {
		t.Errorf("told %v", told)
	}
}

func TestNextHopsOfIPv4(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Links[1].NextHop4 = netip.Addr{} }, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	k, six, own := key("10.1.0.0/16"), key("fd00:1::/64"), key("10.9.0.0/16")
	via4, via6 := netip.MustParseAddr("10.0.0.1"), a.address
	a.send(wire.Update{Prefix: k.Dst, RouterID: router(1), Interval: 6000, NextHop: via4})
	a.send(wire.Update{Prefix: six.Dst, RouterID: router(1), Interval: 6000})
	if h := r.fib[k]; h.NextHop != via4 {
		t.Errorf("%+v", h)
	}
	if h := r.fib[six]; h.NextHop != via6 {
		t.Errorf("%+v", h)
	}
	a.send(wire.Update{Prefix: k.Dst, RouterID: router(1), Interval: 6000}) // now by IPv6 (RFC 9229)
	if h := r.fib[k]; h.NextHop != via6 {
		t.Errorf("%+v", h)
	}
	r.take(r.s.Announce(r.now, []Announcement{{Key: own}}))
	r.run(time.Second)
	for p, want := range map[*peer]netip.Addr{a: netip.MustParseAddr("10.0.0.170"), b: netip.MustParseAddr("fe80::aa")} {
		for _, u := range heard[wire.Update](p) {
			if u.Prefix == own.Dst && u.NextHop != want {
				t.Errorf("%s was told of %s by %s, want %s", p.link, u.Prefix, u.NextHop, want)
			}
		}
	}
}

func TestWildcardRetractionTakesAllOfANeighbour(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, 3*rtt)
	k, k2 := key("10.1.0.0/16"), key("fd00:1::/64")
	a.announce(k, router(9), 1, 0)
	a.announce(k2, router(1), 1, 0)
	b.announce(k, router(9), 1, 0)
	r.want(k, "a")
	a.send(wire.Update{Metric: inf, Interval: 6000})
	r.want(k, "b")
	if via := r.via(k2); via == "a" {
		t.Error("the other stays")
	}
}

func TestNewRouterIDAfterARestartIsTakenAtOnce(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(1), 40000, 0)
	r.run(time.Second)
	b.heard()
	a.announce(k, wire.RouterID{3: 1, 7: 1}, 7, 50) // an older number and more: but of another life
	r.want(k, "a")
	r.run(20 * time.Millisecond)
	if u := heard[wire.Update](b); len(u) != 1 || u[0].RouterID != (wire.RouterID{3: 1, 7: 1}) || u[0].Seqno != 7 {
		t.Errorf("the others were told %+v", u)
	}
}

func TestRouteThatNobodyAnnouncesAgainExpires(t *testing.T) {
	r := newRig(t, nil, "a")
	a := r.up("a", 1, rtt)
	k := key("10.1.0.0/16")
	a.send(wire.Update{Prefix: k.Dst, RouterID: router(1), Interval: 1000})
	r.run(30 * time.Second)
	r.want(k, "a")
	if q := heard[wire.RouteRequest](a); !slices.Contains(q, wire.RouteRequest{Prefix: k.Dst}) {
		t.Errorf("it was not asked for before it expired: %+v", q)
	}
	r.run(15 * time.Second)
	r.want(k, "")
}

func TestEverythingIsForgottenInTime(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a := r.up("a", 1, rtt)
	r.up("b", 2, rtt)
	for i := range 200 {
		k := Key{Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i), 0}), 24)}
		a.announce(k, router(1), 1, 0)
	}
	r.run(time.Second)
	a.send(wire.Update{Metric: inf, Interval: 6000})
	r.run(sourceLife + 30*time.Second)
	if n := len(r.s.entries); n != 0 || len(r.s.order) != 0 {
		t.Errorf("%d entries are left", n)
	}
}
