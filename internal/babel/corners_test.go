package babel

import (
	"testing"
	"time"

	"tombolo/internal/babel/wire"
)

// What is kept or claimed must end, whatever happens beside it.

func TestInheritedLinkThatIsTakenAwayBeforeItIsUp(t *testing.T) {
	k := key("10.1.0.0/16")
	for name, change := range map[string]func(*Config){
		"gone":    func(c *Config) { c.Links = c.Links[1:] },
		"another": func(c *Config) { c.Links[0].NextHop4 = c.Links[0].NextHop4.Next() },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRigDown(t, nil, "a", "b")
			r.take(r.s.Inherit(r.now, []RouteChange{{Key: k, Hop: &Hop{Link: "a"}}}))
			r.want(k, "a")
			r.configure(change)
			r.want(k, "")
		})
	}
}

func TestKeptRouteEndsWhereHellosAreRare(t *testing.T) {
	k := key("10.1.0.0/16")
	for name, after := range map[string]func(*peer){
		"it does not hear us":         func(x *peer) { x.deaf = true },
		"it has it no more":           func(x *peer) { x.silent = true; x.r.run(30 * time.Second); x.silent, x.next = false, x.r.now },
		"it has lost it, and says so": func(x *peer) { x.announce(k, router(9), 1, wire.Infinity) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil, "lan")
			x := r.peer("lan", 2, 0)
			x.every = 4 * time.Second
			r.run(30 * time.Second)
			x.announce(k, router(9), 1, 10)
			r.run(10 * time.Second)
			r.want(k, "lan")
			after(x)
			r.run(5 * time.Minute)
			r.want(k, "")
		})
	}
}

func TestKeptRouteIsForgottenWhileTheHostIsHere(t *testing.T) {
	r, k := door(t, "a", "b")
	a := r.up("a", 1, rtt)
	a.claims(k, router(9), 1, 3, 0)
	r.run(2 * time.Second)
	a.die()
	r.want(k, "a")
	r.attach(k)
	r.want(k, phones)
	r.take(r.s.Detach(r.now, []Key{k}))
	r.want(k, "")
}

func TestKeptRouteIsForgottenWhileThePrefixIsOurs(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a := r.up("a", 1, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(9), 1, 3)
	r.run(2 * time.Second)
	a.die()
	r.want(k, "a")
	r.take(r.s.Announce(r.now, []Announcement{{Key: k}}))
	r.want(k, "")
	r.take(r.s.Announce(r.now, nil))
	r.want(k, "")
}

// It is not gone back to after others were announced, however often the way has changed.
func TestKeptRouteOfLongAgoDoesNotComeBack(t *testing.T) {
	r, k := door(t, "a", "b", "c")
	a, b, c := r.up("a", 1, rtt), r.up("b", 2, rtt), r.up("c", 3, rtt)
	a.claims(k, router(9), 1, 1, 0)
	r.run(5 * time.Second)
	a.die()
	r.want(k, "a")
	n := uint32(2)
	for range 20 {
		b.claims(k, router(8), uint16(n), n, 0)
		r.want(k, "b")
		r.run(600 * time.Millisecond)
		n++
		c.claims(k, router(7), uint16(n), n, 0)
		b.announce(k, router(8), 0, wire.Infinity)
		r.want(k, "c")
		r.run(600 * time.Millisecond)
		n++
	}
	c.announce(k, router(7), 0, wire.Infinity)
	r.want(k, "-")
}

func TestKeptRouteEndsWhenItsNeighbourHasAnotherWay(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a := r.up("a", 1, rtt)
	k := key("10.1.0.0/16")
	r.up("b", 2, rtt)
	a.announce(k, router(9), 1, 10)
	r.run(2 * time.Second)
	a.send(wire.Update{Prefix: k.Dst, Metric: wire.Infinity, Interval: 6000, Silent: 1})
	r.want(k, "a")
	a.announce(k, router(9), 1, 5000) // maybe by us
	r.run(2 * sayAgain)
	if h := r.fib[k]; !h.Unreachable && h.Link != "" {
		t.Errorf("it still goes by %q", h.Link)
	}
}

// Three who keep a way because of each other's words do not do so for ever.
func TestSilenceDoesNotGoRoundForEver(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(9), 1, 10)
	r.run(2 * time.Second)
	a.send(wire.Update{Prefix: k.Dst, Metric: wire.Infinity, Interval: 6000, Silent: 1})
	for range 100 {
		b.heard()
		a.heard()
		for range 4 {
			r.run(3 * time.Second)
			said := b.claimed(k)
			if said.Silent == 0 {
				continue
			}
			// What b is told it says again, to the neighbour that says it to us.
			a.send(wire.Update{Prefix: k.Dst, Metric: wire.Infinity, Interval: 6000, Silent: said.Silent + 1})
		}
		if h, ok := r.fib[k]; !ok || h.Unreachable {
			return
		}
	}
	t.Errorf("it still goes by %q", r.via(k))
}

func TestWhatAnHeirHasJustLearnedIsNotKept(t *testing.T) {
	r, k := heir(t, nil)
	b := r.up("b", 2, rtt)
	r.run(faithful)
	r.want(k, "a")
	b.announce(k, router(9), 1, 10)
	r.want(k, "b")
	r.run(100 * time.Millisecond)
	b.send(wire.Update{Prefix: k.Dst, Metric: wire.Infinity, Interval: 6000, Silent: 1})
	if r.via(k) == "b" {
		t.Error("it is kept")
	}
}

func TestClaimThatKnowsAnOlderOneOfOursIsContested(t *testing.T) {
	r, k := door(t, "a")
	a := r.up("a", 1, rtt)
	r.attach(k) // since we began anew: with number 1, while 9 of ours is known elsewhere
	if got := a.claims(k, router(9), 1, 10, me); len(got) != 1 || !got[0].Contested {
		t.Errorf("displaced: %+v", got)
	}
}

func TestHostThatRoamsAgainIsClaimedAboveWhatWasKnown(t *testing.T) {
	r, k := door(t, "a", "b")
	a := r.up("a", 1, rtt)
	a.claims(k, router(9), 1, 40, 0)
	mobile := r.s.config.Accept.Mobile
	r.configure(func(c *Config) { c.Accept.Mobile = nil })
	r.configure(func(c *Config) { c.Accept.Mobile = mobile })
	a.claims(k, router(9), 2, 40, 0)
	r.attach(k)
	r.want(k, phones)
}

func TestComingAgainIsNewerThanBefore(t *testing.T) {
	k, other := key("10.31.0.10/32"), key("10.31.0.11/32")
	r := newRig(t, func(c *Config) { c.Accept.Mobile = map[Key]bool{k: true, other: true} }, "b")
	b := r.up("b", 2, rtt)
	r.attach(k)
	first := b.claimed(k).Seqno
	for range 40000 {
		r.s.Attach(r.now, []Key{other}, phones)
	}
	r.attach(k)
	if now := b.claimed(k).Seqno; !older(first, now) {
		t.Errorf("its number was %d and is %d", first, now)
	}
}
