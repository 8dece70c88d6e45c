package babel

import (
	"testing"
	"time"

	"tombolo/internal/babel/wire"
)

// heir is a rig whose speaker inherits ways to k by "a", and whose links are up.
func heir(t *testing.T, change func(*Config)) (r *rig, k Key) {
	t.Helper()
	k = key("10.1.0.0/16")
	r = newRigDown(t, change, "a", "b", "lan")
	r.take(r.s.Inherit(r.now, []RouteChange{
		{Key: k, Hop: &Hop{Link: "a"}},
		{Key: key("10.2.0.0/16"), Hop: &Hop{Unreachable: true}},
		{Key: key("10.3.0.0/16"), Hop: &Hop{Link: "lan"}},
		{Key: key("10.4.0.0/16"), Hop: &Hop{Link: "gone"}},
	}))
	for _, l := range []string{"a", "b", "lan"} {
		r.take(r.s.SetLink(r.now, l, true))
	}
	return r, k
}

func TestInheritedHopStays(t *testing.T) {
	r, k := heir(t, nil)
	r.want(k, "a")
	for _, none := range []string{"10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"} {
		r.want(key(none), "")
	}
	r.run(time.Hour) // nobody is there
	r.want(k, "a")
	b := r.up("b", 2, rtt)
	b.announce(k, router(9), 1, 500)
	r.want(k, "b")
}

func TestHeirGoesNoOtherWayAtFirst(t *testing.T) {
	r, k := heir(t, nil)
	b := r.up("b", 2, rtt)
	b.announce(k, router(9), 1, 10)
	r.run(time.Second)
	r.want(k, "a")
	r.run(faithful)
	r.want(k, "b")
}

// Where it went is announced again: there is a distance again, and soon the shortest way is taken.
func TestHeirIsFreeSoonWhenItsWayIsAnnounced(t *testing.T) {
	r, k := heir(t, nil)
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	b.announce(k, router(9), 1, 10)
	a.announce(k, router(9), 1, 30)
	r.want(k, "a")
	r.run(confirmed)
	r.want(k, "b")
}

func TestHeirGoesAnotherWayWhenItsOwnIsTakenBack(t *testing.T) {
	r, k := heir(t, nil)
	a, b := r.peer("a", 1, rtt), r.up("b", 2, rtt)
	b.announce(k, router(9), 1, 10)
	r.want(k, "a")
	a.announce(k, router(9), 1, wire.Infinity)
	r.want(k, "b")
}

func TestHeirGoesWhereItWentWhenThatIsAnnounced(t *testing.T) {
	r, k := heir(t, nil)
	b := r.up("b", 2, rtt)
	b.announce(k, router(9), 1, 35)
	a := r.up("a", 1, rtt)
	b.heard()
	a.announce(k, router(9), 1, 30)
	r.want(k, "a")
	r.run(10 * time.Millisecond)
	if m := b.told(k); m != 140 {
		t.Errorf("others are told %d", m)
	}
	// Its neighbour's word ends it at once.
	a.announce(k, router(9), 1, wire.Infinity)
	r.want(k, "b")
}

func TestInheritanceEnds(t *testing.T) {
	for name, end := range map[string]func(*rig){
		"the neighbour does not announce it": func(r *rig) { r.up("a", 1, rtt); r.run(2 * sayAgain) },
		"the neighbour says goodbye": func(r *rig) {
			r.up("a", 1, rtt).send(wire.Update{Metric: wire.Infinity, Interval: 6000})
		},
		"the link goes":    func(r *rig) { r.take(r.s.SetLink(r.now, "a", false)) },
		"the link is mute": func(r *rig) { r.take(r.s.Mute(r.now, "a", true)) },
		"the file changes": func(r *rig) {
			r.configure(func(c *Config) { c.Accept.Exact = map[Key][]uint32{} })
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, k := heir(t, nil)
			r.want(k, "a")
			end(r)
			r.want(k, "")
			r.wantEvents(k, RouteLost)
		})
	}
}

func TestInheritanceByALinkThatDoesNotComeUpEnds(t *testing.T) {
	r := newRigDown(t, nil, "a")
	k := key("10.1.0.0/16")
	r.take(r.s.Inherit(r.now, []RouteChange{{Key: k, Hop: &Hop{Link: "a"}}}))
	r.run(time.Second)
	r.want(k, "a")
	r.run(sayAgain)
	r.want(k, "")
}

func TestWhatTheFileDoesNotAllowIsNotInherited(t *testing.T) {
	r, k := heir(t, func(c *Config) { c.Accept.Exact = map[Key][]uint32{} })
	r.want(k, "")
}

// Whoever keeps a way because of a router that has begun anew is told that it has one still.
func TestHeirSaysWhatItKeeps(t *testing.T) {
	r, k := heir(t, nil)
	b := r.peer("b", 2, rtt)
	r.run(time.Second)
	var told []wire.Update
	for _, u := range heard[wire.Update](b) {
		if u.Prefix == k.Dst {
			told = append(told, u)
		}
	}
	if len(told) == 0 || told[0].Metric != wire.Infinity || told[0].Silent != 1 {
		t.Errorf("it was told %+v, want a silent retraction", told)
	}
	// Asked for what it does not know, or not yet, it does not say that there is none.
	b.send(wire.RouteRequest{Prefix: pfx("10.77.0.0/16")})
	if u := heard[wire.Update](b); len(u) != 1 || u[0].Silent != 1 {
		t.Errorf("the answer was %+v", u)
	}
	r.run(sayAgain)
	b.heard()
	b.send(wire.RouteRequest{Prefix: pfx("10.77.0.0/16")})
	if u := heard[wire.Update](b); len(u) != 1 || u[0].Silent != 0 {
		t.Errorf("the answer was %+v", u)
	}
}
