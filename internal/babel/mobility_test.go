package babel

import (
	"slices"
	"testing"
	"time"

	"tombolo/internal/babel/wire"
)

const phones = "wg-clients"

// door is a rig that hosts may be attached to, and one of them.
func door(t *testing.T, links ...string) (*rig, Key) {
	t.Helper()
	k := key("10.31.0.10/32")
	return newRig(t, func(c *Config) { c.Accept.Mobile = map[Key]bool{k: true, key("fd00::10/128"): true} }, links...), k
}

func (r *rig) attach(k Key) []Displacement {
	o := r.s.Attach(r.now, []Key{k}, phones)
	r.take(o)
	r.run(10 * time.Millisecond)
	return o.Displaced
}

// claims announces a host, as another door does.
func (p *peer) claims(k Key, id wire.RouterID, seqno uint16, number uint32, before byte) []Displacement {
	return p.sendAll(wire.Update{Prefix: k.Dst, RouterID: id, Seqno: seqno, Metric: 50, Interval: 6000, Mobility: number, Before: uint32(before)})
}

// claimed returns the last update about a key that a neighbour was sent.
func (p *peer) claimed(k Key) (last wire.Update) {
	for _, u := range heard[wire.Update](p) {
		if u.Prefix == k.Dst {
			last = u
		}
	}
	return last
}

func TestClaimsAreOrdered(t *testing.T) {
	ordered := []claim{{0, 1, 0}, {0, 2, 0}, {1, 9, 0}, {2, 1, 9}, {2, 3, 0}, {7, 1, 0}}
	for i, c := range ordered {
		for j, d := range ordered {
			if got, want := c.against(d), min(max(i-j, -1), 1); got != want {
				t.Errorf("%+v against %+v: %d, want %d", c, d, got, want)
			}
		}
	}
	if !(claim{2, 1, 0}).beats(claim{1<<32 - 3, 9, 0}) {
		t.Error("numbers do not go on after the last")
	}
}

func TestAttachedHostIsAnnouncedAboveWhatIsKnown(t *testing.T) {
	r, k := door(t, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	if d := r.attach(k); d != nil {
		t.Errorf("displaced at once: %+v", d)
	}
	r.want(k, phones)
	if u := b.claimed(k); u.Mobility != 1 || u.Before != 0 || u.Metric != 0 {
		t.Errorf("the first time it is announced as %+v", u)
	}
	r.take(r.s.Detach(r.now, []Key{k}))
	r.run(10 * time.Millisecond)
	if u := b.claimed(k); u.Metric != wire.Infinity {
		t.Errorf("when it has gone it is announced as %+v", u)
	}
	a.claims(k, router(9), 1, 40, 0)
	r.want(k, "a")
	r.run(100 * time.Millisecond)
	if u := b.claimed(k); u.Mobility != 40 || u.RouterID != router(9) {
		t.Errorf("another's claim is passed on as %+v", u)
	}
	r.attach(k)
	r.want(k, phones)
	if u := b.claimed(k); u.Mobility != 41 || u.Before != 9 || u.RouterID != r.s.config.RouterID {
		t.Errorf("after the other's claim it is announced as %+v", u)
	}
	// It comes again from somewhere.
	r.attach(k)
	if u := b.claimed(k); u.Mobility != 42 || u.Before != me {
		t.Errorf("the second time it is announced as %+v", u)
	}
}

func TestHigherClaimDisplaces(t *testing.T) {
	mine := wire.RouterID{3: me, 7: 1}
	for _, c := range []struct {
		name      string
		resumed   bool
		id        wire.RouterID
		number    uint32
		before    byte
		displaced bool
		contested bool
	}{
		{"it moved from here", false, router(9), 2, me, true, false},
		{"the other did not know", false, router(9), 2, 5, true, true},
		{"the other knew of nobody", false, router(9), 7, 0, true, true},
		{"the same number, of a higher site", false, router(0xee), 1, me, true, true},
		{"the same number, of a lower site", false, router(9), 1, 0, false, false},
		{"a lower number", false, router(9), 0, 0, false, false},
		{"any number, when the agent has begun anew", true, router(9), 1, me, true, true},
		{"none either, of a lower site", true, router(9), 0, 0, false, false},
		{"none either, of a higher site", true, router(0xee), 0, 0, true, true},
		{"what we were ourselves", false, mine, 9, 0, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, k := door(t, "a")
			a := r.up("a", 1, rtt)
			if c.resumed {
				r.take(r.s.Resume(r.now, []Key{k}, phones))
			} else {
				r.attach(k)
			}
			r.want(k, phones)
			got := a.claims(k, c.id, 1, c.number, c.before)
			var want []Displacement
			if c.displaced {
				want = []Displacement{{k, c.id, c.contested}}
			}
			if !slices.Equal(got, want) {
				t.Errorf("displaced by %+v, want %+v", got, want)
			}
			if r.want(k, map[bool]string{true: "a", false: phones}[c.displaced]); c.displaced {
				r.attach(k) // it is here after all
				r.want(k, phones)
			}
		})
	}
}

func TestResumedHostThatIsElsewhereIsDisplacedAtOnce(t *testing.T) {
	r, k := door(t, "a")
	a := r.up("a", 1, rtt)
	a.claims(k, router(9), 1, 3, 0)
	o := r.s.Resume(r.now, []Key{k}, phones)
	r.take(o)
	if want := []Displacement{{k, router(9), true}}; !slices.Equal(o.Displaced, want) {
		t.Errorf("displaced %+v, want %+v", o.Displaced, want)
	}
	r.want(k, "a")
}

// The highest claim holds, and not the shortest way.
func TestHostIsSoughtWhereItIs(t *testing.T) {
	r, k := door(t, "a", "b", "c")
	a, b, c := r.up("a", 1, rtt), r.up("b", 2, rtt), r.up("c", 3, 50*time.Millisecond)
	a.claims(k, router(8), 1, 1, 0)
	r.want(k, "a")
	r.run(10 * time.Second)
	c.claims(k, router(9), 1, 2, 8)
	r.want(k, "c") // at once
	b.claims(k, router(8), 1, 1, 0)
	r.run(time.Minute)
	r.want(k, "c")
	b.claims(k, router(9), 1, 2, 8)
	r.run(10 * time.Second)
	r.want(k, "b") // nearer to the same
	r.run(100 * time.Millisecond)
	b.claims(k, router(9), 2, 4, 0) // it came back there: the others must know the number
	r.run(10 * time.Millisecond)
	if u := a.claimed(k); u.Mobility != 4 {
		t.Errorf("the others are told %+v", u)
	}
}

func TestNumbersOfWhatDoesNotRoamAreIgnored(t *testing.T) {
	r, _ := door(t, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	k := key("10.1.0.0/16")
	a.claims(k, router(8), 1, 1, 0)
	b.claims(k, router(9), 1, 2, 0)
	r.want(k, "a")
	r.attach(k)
	r.want(k, "a")
}

func TestHostThatTheFileForgetsIsLetGo(t *testing.T) {
	r, k := door(t, "a")
	a := r.up("a", 1, rtt)
	r.attach(k)
	a.heard()
	r.configure(func(c *Config) { c.Accept.Mobile = nil })
	r.run(10 * time.Millisecond)
	if u := a.claimed(k); u.Metric != wire.Infinity {
		t.Errorf("it is announced as %+v", u)
	}
	if len(r.s.highest) > 0 {
		t.Errorf("remembered: %v", r.s.highest)
	}
}
