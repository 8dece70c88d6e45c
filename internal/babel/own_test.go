package babel

import (
	"strings"
	"testing"
	"time"

	"tombolo/internal/babel/wire"
)

const ranked = 4096 // the metric of the exit that comes second

// exit is a rig that announces k as the second of the exits 0xaa, 1, 2 and 9, with neighbours
// on "a" and "b".
func exit(t *testing.T) (r *rig, a, b *peer, k Key) {
	t.Helper()
	k = Key{pfx("0.0.0.0/0"), pfx("192.168.36.0/24")}
	r = newRig(t, func(c *Config) {
		c.Accept.Exact = map[Key][]uint32{k: {1, 2, 9}}
	}, "a", "b")
	a, b = r.up("a", 1, rtt), r.up("b", 2, rtt)
	r.own(k, ranked)
	r.run(settling)
	b.heard()
	return r, a, b, k
}

func (r *rig) own(k Key, metric uint16) {
	r.take(r.s.Announce(r.now, []Announcement{{Key: k, Metric: metric}}))
}

// says fails the test unless the neighbour was last told this of a key.
func (p *peer) says(k Key, id wire.RouterID, metric uint16) {
	p.r.t.Helper()
	p.r.run(10 * time.Millisecond)
	last := wire.Update{}
	for _, u := range heard[wire.Update](p) {
		if u.Prefix == k.Dst && u.Source == k.Src {
			last = u
		}
	}
	if last.Metric != metric || metric < wire.Infinity && last.RouterID != id {
		p.r.t.Errorf("at %v: it is told %d of %v, want %d of %v", p.r.now, last.Metric, last.RouterID, metric, id)
	}
}

// ends fails the test unless packets to a key end here, and the view says why.
func (r *rig) ends(k Key, here bool, why string) {
	r.t.Helper()
	for _, e := range r.s.View().Routes {
		if e.Key != k {
			continue
		}
		if e.Own != here || !strings.Contains(e.Why, why) {
			r.t.Errorf("at %v: here %v because %q, want %v because %q", r.now, e.Own, e.Why, here, why)
		}
		return
	}
	r.t.Errorf("%v is not in the view", k)
}

func TestABetterExitIsPreferredAtOnce(t *testing.T) {
	r, a, b, k := exit(t)
	r.ends(k, true, "this router's own")
	a.announce(k, router(9), 1, 0)
	r.want(k, "a")
	r.ends(k, false, "preferred to this router's own")
	b.says(k, router(9), 110)
	r.wantEvents(k, RouteMoved)
	// To the one by whom it goes nothing is announced.
	a.says(k, router(me), wire.Infinity)
	// Whoever asks for a newer number of ours hears what holds.
	b.send(wire.SeqnoRequest{Prefix: k.Dst, Source: k.Src, Seqno: 101, HopCount: 9, RouterID: router(me)})
	b.says(k, router(9), 110)
}

func TestAWorseExitIsNot(t *testing.T) {
	r, a, b, k := exit(t)
	a.announce(k, router(9), 1, ranked-110) // as much as ours, with the link
	r.want(k, "")
	r.ends(k, true, "this router's own, preferred to")
	a.announce(k, router(9), 1, ranked-111)
	r.want(k, "a")
	b.says(k, router(9), ranked-1)
	a.announce(k, router(9), 2, ranked)
	r.want(k, "")
	b.says(k, router(me), ranked)
	r.wantEvents(k, RouteMoved, RouteMoved)
	// One whose metric is 0 goes before all.
	a.announce(k, router(9), 2, 10)
	r.want(k, "a")
	r.own(k, 0)
	r.want(k, "")
	b.says(k, router(me), 0)
	r.own(k, ranked)
	r.want(k, "a")
}

func TestOwnTakesOverWhenTheBetterIsLost(t *testing.T) {
	lose := map[string]func(r *rig, a *peer, k Key){
		"retracted":      func(_ *rig, a *peer, k Key) { a.announce(k, router(9), 1, wire.Infinity) },
		"not feasible":   func(_ *rig, a *peer, k Key) { a.announce(k, router(9), 1, ranked) },
		"of none we may": func(_ *rig, a *peer, k Key) { a.announce(k, router(7), 1, 0) },
		"silent":         func(_ *rig, a *peer, _ Key) { a.die() },
		"link down":      func(r *rig, _ *peer, _ Key) { r.take(r.s.SetLink(r.now, "a", false)) },
		"its way is silent": func(_ *rig, a *peer, k Key) {
			a.send(wire.Update{Prefix: k.Dst, Source: k.Src, Metric: wire.Infinity, Interval: 6000, Silent: 1})
		},
		"the policy is another": func(r *rig, _ *peer, k Key) {
			r.configure(func(c *Config) { c.Accept.Exact = map[Key][]uint32{k: {1}} })
		},
		"we are the first": func(r *rig, _ *peer, k Key) { r.own(k, 0) },
	}
	for name, f := range lose {
		t.Run(name, func(t *testing.T) {
			r, a, b, k := exit(t)
			a.announce(k, router(9), 1, 0)
			r.run(5 * time.Second)
			r.want(k, "a")
			b.heard()
			r.eventsOf(k)
			f(r, a, k)
			r.want(k, "")
			r.ends(k, true, "this router's own")
			want := uint16(ranked)
			if name == "we are the first" {
				want = 0
			}
			b.says(k, router(me), want)
			for _, e := range r.eventsOf(k) {
				if e != RouteMoved && e != Refused {
					t.Errorf("people are told %q", e)
				}
			}
			r.run(time.Minute)
			r.want(k, "") // nothing that was kept comes back
		})
	}
}

// Between two that are better there is the usual hysteresis, but none to leave one that is
// no longer better than our own.
func TestOtherExitsHaveTheirHysteresis(t *testing.T) {
	r, a, b, k := exit(t)
	a.announce(k, router(9), 1, 200)
	r.run(settling)
	b.announce(k, router(2), 1, 150)
	r.want(k, "a")
	r.run(muchFor)
	r.want(k, "b")
	a.announce(k, router(9), 1, 100)
	r.want(k, "b")
	b.announce(k, router(2), 2, ranked)
	r.want(k, "a")
	r.run(time.Second)
	b.announce(k, router(2), 2, 1)
	r.want(k, "a")
}

func TestAnotherIsUsedWhenOursIsWithdrawn(t *testing.T) {
	r, a, b, k := exit(t)
	a.announce(k, router(9), 1, 2*ranked)
	r.want(k, "")
	r.take(r.s.Announce(r.now, nil))
	r.want(k, "a")
	b.says(k, router(9), 2*ranked+110)
	r.own(k, ranked)
	r.want(k, "")
	b.says(k, router(me), ranked)
	// What we announced of the other binds us: it is not taken with more, but asked for anew.
	a.announce(k, router(9), 1, 3*ranked)
	r.take(r.s.Announce(r.now, nil))
	r.want(k, "")
}

// A better exit that is not feasible is asked for a newer number, ever more seldom.
func TestABetterExitThatIsNotFeasibleIsAskedFor(t *testing.T) {
	r, a, b, k := exit(t)
	a.announce(k, router(9), 1, 100)
	b.says(k, router(9), 210)
	a.announce(k, router(9), 1, wire.Infinity)
	r.want(k, "")
	a.heard()
	a.announce(k, router(9), 1, 300)
	r.want(k, "") // who has it now may have it from us
	r.run(time.Millisecond)
	if asked := heard[wire.SeqnoRequest](a); len(asked) != 1 || asked[0].RouterID != router(9) || asked[0].Seqno != 2 || asked[0].Source != k.Src {
		t.Fatalf("it asked %+v", asked)
	}
	r.run(10 * time.Minute)
	if n := len(heard[wire.SeqnoRequest](a)); n > 4*60 {
		t.Errorf("it asked %d times in ten minutes", n)
	}
	a.announce(k, router(9), 2, 300)
	r.want(k, "a")
	// One that would not be preferred is not asked for.
	a.announce(k, router(9), 2, wire.Infinity)
	a.heard()
	a.announce(k, router(9), 2, 2*ranked)
	r.run(time.Minute)
	if asked := heard[wire.SeqnoRequest](a); len(asked) > 0 {
		t.Errorf("it asked %+v", asked)
	}
}

// Asked for a newer number of ours we raise it, as ever, and only while we announce it.
func TestOurNumberRisesWhileWeAnnounceIt(t *testing.T) {
	r, a, b, k := exit(t)
	ask := func(seqno uint16) {
		b.send(wire.SeqnoRequest{Prefix: k.Dst, Source: k.Src, Seqno: seqno, HopCount: 9, RouterID: router(me)})
	}
	last := func() (seqno uint16) {
		r.run(time.Second)
		for _, u := range heard[wire.Update](b) {
			if u.Prefix == k.Dst && u.RouterID == router(me) {
				seqno = u.Seqno
			}
		}
		return seqno
	}
	ask(101)
	if got := last(); got != 101 {
		t.Errorf("the number is %d", got)
	}
	a.announce(k, router(9), 1, 0)
	ask(102)
	a.announce(k, router(9), 1, wire.Infinity)
	if got := last(); got != 101 {
		t.Errorf("once more ours, the number is %d", got)
	}
	// With a larger metric it would not be feasible for those who know the smaller one.
	a.announce(k, router(9), 2, 0)
	r.own(k, 2*ranked)
	a.announce(k, router(9), 2, wire.Infinity)
	if got := last(); got != 102 {
		t.Errorf("with a larger metric, the number is %d", got)
	}
}

// exitHeir is an exit that begins anew, and finds that packets went to another by "a".
func exitHeir(t *testing.T, metric uint16) (r *rig, k Key) {
	t.Helper()
	k = Key{pfx("0.0.0.0/0"), pfx("192.168.36.0/24")}
	r = newRigDown(t, func(c *Config) { c.Accept.Exact = map[Key][]uint32{k: {1, 2, 9}} }, "a", "b")
	r.take(r.s.Inherit(r.now, []RouteChange{{Key: k, Hop: &Hop{Link: "a"}}}))
	r.own(k, metric)
	for _, l := range []string{"a", "b"} {
		r.take(r.s.SetLink(r.now, l, true))
	}
	return r, k
}

// Packets on their way by another exit go on by it when the speaker begins anew.
func TestAnExitThatBeginsAnewGoesOn(t *testing.T) {
	r, k := exitHeir(t, ranked)
	r.want(k, "a")
	r.ends(k, false, "")
	b := r.up("b", 2, rtt)
	if m := b.told(k); m != 0 && m != wire.Infinity {
		t.Errorf("others are told %d", m)
	}
	a := r.up("a", 1, rtt)
	a.announce(k, router(9), 1, 0)
	r.want(k, "a")
	b.says(k, router(9), 110)
	r.run(time.Minute)
	r.want(k, "a")
	a.die()
	r.want(k, "")
}

func TestAnExitThatBeginsAnewAndFindsNobodyIsOne(t *testing.T) {
	end := map[string]struct {
		metric uint16
		f      func(r *rig, k Key)
	}{
		"after a while": {ranked, func(r *rig, _ Key) { r.run(faithful + 10*time.Millisecond) }},
		"retracted":     {ranked, func(r *rig, k Key) { r.up("a", 1, rtt).announce(k, router(9), 1, wire.Infinity) }},
		"worse":         {ranked, func(r *rig, k Key) { r.up("a", 1, rtt).announce(k, router(9), 1, ranked) }},
		"link down":     {ranked, func(r *rig, _ Key) { r.take(r.s.SetLink(r.now, "a", false)) }},
		"the first":     {0, func(*rig, Key) {}},
		"silent again": {ranked, func(r *rig, k Key) {
			a := r.up("a", 1, rtt)
			a.announce(k, router(9), 1, 0)
			r.want(k, "a")
			r.run(1100 * time.Millisecond)
			a.silent = true
			r.run(faithful / 4)
		}},
	}
	for name, c := range end {
		t.Run(name, func(t *testing.T) {
			r, k := exitHeir(t, c.metric)
			if c.metric > 0 {
				r.want(k, "a")
			}
			c.f(r, k)
			r.want(k, "")
			r.ends(k, true, "this router's own")
			b := r.up("b", 2, rtt)
			b.send(wire.RouteRequest{Prefix: k.Dst, Source: k.Src})
			b.says(k, router(me), c.metric)
		})
	}
}
