package babel

import (
	"slices"
	"testing"
	"time"

	"tombolo/internal/babel/wire"
)

// die lets a neighbour fall silent until it is given up.
func (p *peer) die() {
	p.r.t.Helper()
	p.silent = true
	p.r.run(2 * time.Second)
	if state := p.r.neighbour(p).State; state != "dead" {
		p.r.t.Fatalf("the silent neighbour is %s", state)
	}
}

// live has it speak again, with all that it knows.
func (p *peer) live() {
	p.silent, p.next = false, p.r.now
	for p.r.neighbour(p).Cost == wire.Infinity {
		p.r.run(10 * time.Millisecond)
	}
}

// configure changes the speaker's configuration.
func (r *rig) configure(change func(*Config)) {
	c := r.s.config
	c.Links = slices.Clone(c.Links)
	change(&c)
	r.take(r.s.Configure(r.now, c))
}

func (r *rig) eventsOf(k Key) (kinds []EventKind) {
	for _, e := range r.events {
		if e.Key != nil && *e.Key == k {
			kinds = append(kinds, e.Kind)
		}
	}
	r.events = nil
	return kinds
}

func (r *rig) wantEvents(k Key, want ...EventKind) {
	r.t.Helper()
	got := r.eventsOf(k)
	if len(got) != len(want) {
		r.t.Errorf("at %v: events %q, want %q", r.now, got, want)
		return
	}
	for i := range got {
		if got[i] != want[i] {
			r.t.Errorf("at %v: events %q, want %q", r.now, got, want)
			return
		}
	}
}

func TestLastWayThroughASilentNeighbourIsKept(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	k, through := key("10.1.0.0/16"), key("2001:db8::/32")
	a.announce(k, router(1), 1, 0)
	a.announce(through, router(9), 1, 300)
	r.run(2 * time.Second)
	r.wantEvents(k, RouteLearned)
	b.heard()
	a.die()
	r.wantEvents(k, RouteKept)
	updates := heard[wire.Update](b)
	if len(updates) == 0 {
		t.Error("nobody else was told")
	}
	for _, u := range updates {
		if u.Metric != wire.Infinity || u.Silent != 1 {
			t.Errorf("others were told %+v", u)
		}
	}
	r.run(time.Hour)
	r.want(k, "a")
	r.want(through, "a")
	if v := r.s.View().Routes; len(v) != 2 || len(v[0].Routes) != 1 || !v[0].Routes[0].Kept || v[0].Hop == nil {
		t.Errorf("it is shown as %+v", v)
	}
	a.live()
	a.announce(k, router(1), 1, 0)
	r.wantEvents(k, RouteLearned)
	if r.run(100 * time.Millisecond); b.told(k) == wire.Infinity {
		t.Error("others were not told that it is there again")
	}
	r.want(through, "a") // it may still say it
	r.run(2 * sayAgain)
	r.want(k, "a")
	r.want(through, "") // it did not
}

func TestOtherWayThanThroughASilentNeighbourIsTaken(t *testing.T) {
	retracted := func(silent uint8) wire.Update {
		return wire.Update{Prefix: pfx("10.1.0.0/16"), Metric: wire.Infinity, Interval: 6000, Silent: silent}
	}
	for _, c := range []struct {
		name   string
		seqno  uint16
		after  time.Duration
		silent uint8
		want   string
	}{
		{"and stays", 1, 2 * time.Second, 1, "b"},
		{"and is taken back", 1, 2 * time.Second, 0, "-"},
		{"and was none either", 1, 300 * time.Millisecond, 1, "b"},
		{"and is taken back at once", 1, 300 * time.Millisecond, 0, "a"},
		{"and what was before might now lead back here", 2, 300 * time.Millisecond, 0, "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil, "a", "b", "c")
			a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
			r.up("c", 3, rtt)
			k := key("10.1.0.0/16")
			a.announce(k, router(9), 1, 10)
			r.run(2 * time.Second)
			a.die()
			r.want(k, "a")
			b.announce(k, router(9), c.seqno, 50) // feasible, with what we announced
			r.want(k, "b")
			r.run(c.after)
			b.send(retracted(c.silent))
			r.want(k, c.want)
		})
	}
}

func TestKeptRouteIsGivenUp(t *testing.T) {
	k := key("10.1.0.0/16")
	for _, c := range []struct {
		name string
		end  func(*rig, *peer)
	}{
		{"the neighbour takes it back", func(r *rig, a *peer) { a.announce(k, router(1), 1, wire.Infinity) }},
		{"the neighbour says goodbye", func(r *rig, a *peer) { a.send(wire.Update{Metric: wire.Infinity, Interval: 6000}) }},
		{"the link is down", func(r *rig, a *peer) { r.take(r.s.SetLink(r.now, "a", false)) }},
		{"the link is mute", func(r *rig, a *peer) { r.take(r.s.Mute(r.now, "a", true)) }},
		{"it is no link any more", func(r *rig, a *peer) { r.configure(func(c *Config) { c.Links = c.Links[1:] }) }},
		{"the file does not allow it any more", func(r *rig, a *peer) {
			r.configure(func(c *Config) { c.Accept.Exact = map[Key][]uint32{} })
		}},
		{"the neighbour is another", func(r *rig, a *peer) { r.peer("a", 7, rtt); r.run(time.Millisecond) }},
		{"the neighbour does not hear us", func(r *rig, a *peer) { a.silent, a.deaf, a.next = false, true, r.now; r.run(2 * sayAgain) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil, "a", "b")
			a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
			a.announce(k, router(1), 1, 0)
			r.run(2 * time.Second)
			a.die()
			r.want(k, "a")
			b.heard()
			b.unheld = true
			c.end(r, a)
			r.want(k, "-")
			r.run(10 * time.Millisecond)
			if u := heard[wire.Update](b); len(u) == 0 || u[0].Metric != wire.Infinity || u[0].Silent != 0 {
				t.Errorf("others were told %+v, want a retraction", u)
			}
			r.wantEvents(k, RouteLearned, RouteKept, RouteLost)
		})
	}
}

func TestRouteThatIsNewIsNotKept(t *testing.T) {
	r := newRig(t, nil, "a")
	a := r.up("a", 1, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(1), 1, 0)
	a.die()
	r.want(k, "")
}

// What a mute link's neighbour announces is not kept for a moment.
func TestNothingIsKeptOnAMuteLink(t *testing.T) {
	r := newRig(t, nil, "a")
	a := r.up("a", 1, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(1), 1, 0)
	r.run(2 * time.Second)
	a.silent = true
	r.take(r.s.Mute(r.now, "a", true))
	r.run(time.Second)
	r.wantEvents(k, RouteLearned, RouteLost)
	r.want(k, "")
}

// A silence somewhere else does the same to those who hear of it, until they hear better.
func TestSilentRetractionKeepsTheWay(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(9), 1, 200)
	r.run(2 * time.Second)
	b.heard()
	gone := wire.Update{Prefix: k.Dst, Metric: wire.Infinity, Interval: 6000, Silent: 4}
	a.send(gone)
	r.run(10 * time.Millisecond)
	r.want(k, "a")
	if u := heard[wire.Update](b); len(u) != 1 || u[0].Silent != 5 {
		t.Errorf("others were told %+v, want a silent retraction", u)
	}
	a.send(gone) // once more
	r.run(time.Hour)
	r.want(k, "a")
	b.heard()
	b.unheld = true
	gone.Silent = 0
	a.send(gone)
	r.run(10 * time.Millisecond)
	r.want(k, "-")
	if u := heard[wire.Update](b); len(u) != 1 || u[0].Silent != 0 || u[0].Metric != wire.Infinity {
		t.Errorf("others were told %+v, want a retraction", u)
	}
	// Until everybody knows it.
	b.unheld = false
	r.run(2 * time.Second)
	r.want(k, "")
}

// What leaves here where no way is known has another way than through a silent neighbour.
func TestWhatLeavesHereIsNotKept(t *testing.T) {
	k, other := key("10.1.0.0/16"), key("10.2.0.0/16")
	r := newRig(t, func(c *Config) { c.Otherwise = map[Key]bool{k: true} }, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	for _, k := range []Key{k, other} {
		a.announce(k, router(1), 1, 0)
	}
	r.run(2 * time.Second)
	r.want(k, "a")
	b.heard()
	a.die()
	r.want(k, "")
	r.want(other, "a")
	if b.told(k) != wire.Infinity {
		t.Error("others were not told that there is no way")
	}
}
