package sim

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"tombolo/internal/babel"
)

const phases = 200 // random moments at which something happens to the home network

// atRest is the home network some time after its start, with traffic between the LANs of op2
// and op3, by op1.
func atRest(t *testing.T, seed uint64) *home {
	h := newHome(t, seed)
	h.OnEvent = nil
	h.Run(10 * time.Second)
	h.w12.Busy, h.w13.Busy = true, true
	h.Run(20*time.Second + h.upTo(time.Second))
	if h.via(h.op2, h.lan3) != "wg-op1" {
		t.Fatalf("seed %d: op2 goes to op3's LAN by %s", seed, h.via(h.op2, h.lan3))
	}
	return h
}

// until returns how long it takes until something holds; at most the limit.
func (h *home) until(limit time.Duration, holds func() bool) time.Duration {
	from := h.Now
	for h.Now-from < limit && !holds() {
		h.Run(h.Now + time.Millisecond)
	}
	return h.Now - from
}

func (h *home) both() bool {
	_, there := h.Reaches(h.op2, h.lan3)
	_, back := h.Reaches(h.op3, h.lan2)
	return there && back
}

// quantiles sorts times and says how they are spread.
func quantiles(d []time.Duration) string {
	slices.Sort(d)
	return fmt.Sprintf("best %v, median %v, 95 %% %v, worst %v", d[0], d[len(d)/2], d[len(d)*95/100], d[len(d)-1])
}

func TestUsedWayIsCut(t *testing.T) {
	cuts := map[string]func(h *home){
		"both ways":             func(h *home) { h.w13.Cut = [2]bool{true, true} },
		"from op1 to op3":       func(h *home) { h.w13.Cut[0] = true },
		"from op3 to op1":       func(h *home) { h.w13.Cut[1] = true },
		"op2 to op1, both ways": func(h *home) { h.w12.Cut = [2]bool{true, true} },
		"op1 dies":              func(h *home) { h.Kill(h.op1) },
	}
	for name, cut := range cuts {
		t.Run(name, func(t *testing.T) {
			var lost []time.Duration
			for s := range uint64(phases) {
				h := atRest(t, s)
				cut(h)
				lost = append(lost, h.until(5*time.Second, h.both))
				h.Run(h.Now + 5*time.Second)
				if !h.both() || len(h.Faults) > 0 {
					t.Errorf("seed %d: reached %v, faults %v", s, h.both(), h.Faults)
				}
			}
			t.Log(quantiles(lost))
			if median, worst := lost[len(lost)/2], lost[len(lost)-1]; median > 300*time.Millisecond || worst > 500*time.Millisecond {
				t.Errorf("median %v, want at most 300 ms; worst %v, want at most 500 ms", median, worst)
			}
		})
	}
}

// A second loss, after sequence numbers have been asked for, is no slower than the first.
func TestUsedWayIsCutAgainAndAgain(t *testing.T) {
	var lost []time.Duration
	for s := range uint64(phases / 5) {
		h := atRest(t, s)
		for range 5 {
			h.w13.Cut = [2]bool{true, true}
			lost = append(lost, h.until(5*time.Second, h.both))
			h.Run(h.Now + 3*time.Second)
			h.w13.Cut = [2]bool{}
			h.Run(h.Now + 15*time.Second + h.upTo(time.Second))
			if h.via(h.op2, h.lan3) != "wg-op1" {
				t.Fatalf("seed %d: not back", s)
			}
		}
	}
	t.Log(quantiles(lost))
	if median, worst := lost[len(lost)/2], lost[len(lost)-1]; median > 300*time.Millisecond || worst > 500*time.Millisecond {
		t.Errorf("median %v, want at most 300 ms; worst %v, want at most 500 ms", median, worst)
	}
}

func TestBetterWayIsUsedAgainWhenItReturns(t *testing.T) {
	var took []time.Duration
	for s := range uint64(phases) {
		h := atRest(t, s)
		h.w13.Cut = [2]bool{true, true}
		h.Run(h.Now + 20*time.Second + h.upTo(2*time.Second))
		h.w13.Cut = [2]bool{}
		from, worked := h.Now, true
		took = append(took, h.until(20*time.Second, func() bool {
			worked = worked && h.both() // no packet is lost meanwhile
			return h.via(h.op2, h.lan3) == "wg-op1" && h.via(h.op3, h.lan2) == "wg-op1"
		}))
		if !worked {
			t.Errorf("seed %d: packets were lost on the way back, from %v to %v", s, from, h.Now)
		}
	}
	t.Log(quantiles(took))
	if worst := took[len(took)-1]; worst > 10*time.Second {
		t.Errorf("after %v, want 10 s", worst)
	}
}

func TestWayThatBecomesLongerIsLeft(t *testing.T) {
	var took []time.Duration
	for s := range uint64(phases) {
		h := atRest(t, s)
		h.w13.Delay = [2]time.Duration{22500 * time.Microsecond, 22500 * time.Microsecond} // 47 ms are 65
		took = append(took, h.until(20*time.Second, func() bool { return h.via(h.op2, h.lan3) == "wg-op3" }))
		if !h.both() {
			t.Errorf("seed %d: not reached", s)
		}
	}
	t.Log(quantiles(took))
	if worst := took[len(took)-1]; worst > 10*time.Second {
		t.Errorf("after %v, want 10 s", worst)
	}
}

func TestSpikeOfASecondMovesNothing(t *testing.T) {
	for s := range uint64(phases) {
		h := atRest(t, s)
		changes := h.op2.Changes + h.op3.Changes
		h.w13.Delay = [2]time.Duration{60 * time.Millisecond, 60 * time.Millisecond}
		h.Run(h.Now + time.Second)
		h.w13.Delay = [2]time.Duration{13500 * time.Microsecond, 13500 * time.Microsecond}
		h.Run(h.Now + 20*time.Second)
		if now := h.op2.Changes + h.op3.Changes; now != changes {
			t.Errorf("seed %d: %d changes", s, now-changes)
		}
	}
}

func TestBestWayIsInUseSoonAfterTheStart(t *testing.T) {
	var took []time.Duration
	for s := range uint64(phases) {
		h := &home{Net: New(s), t: t}
		h.build()
		late := time.Duration(s%5) * 3 * time.Second // all at once, or one after the other
		for i, n := range h.Nodes {
			h.Run(time.Duration(i) * late)
			h.Start(h.Nodes[(i+int(s))%3])
			_ = n
		}
		took = append(took, h.until(10*time.Second, func() bool {
			return h.via(h.op2, h.lan3) == "wg-op1" && h.via(h.op3, h.lan2) == "wg-op1"
		}))
		h.Run(h.Now + 5*time.Second)
		if h.via(h.op2, h.lan3) != "wg-op1" || h.via(h.op3, h.lan2) != "wg-op1" {
			t.Errorf("seed %d: it was left again", s)
		}
	}
	t.Log(quantiles(took))
	if worst := took[len(took)-1]; worst > 5*time.Second {
		t.Errorf("after %v, want 5 s", worst)
	}
}

func TestCutAndHealEveryTwoSecondsDoesNoHarm(t *testing.T) {
	var lost, took []time.Duration
	for s := range uint64(phases / 10) {
		h := atRest(t, s)
		for range 15 {
			h.w13.Cut = [2]bool{true, true}
			at := h.Now
			lost = append(lost, h.until(2*time.Second, h.both))
			h.Run(at + 2*time.Second)
			h.w13.Cut = [2]bool{}
			h.Run(at + 4*time.Second)
		}
		took = append(took, h.until(60*time.Second, func() bool { return h.via(h.op2, h.lan3) == "wg-op1" }))
		if !h.both() || len(h.Faults) > 0 {
			t.Errorf("seed %d: reached %v, faults %v", s, h.both(), h.Faults)
		}
	}
	t.Logf("lost: %s; back: %s", quantiles(lost), quantiles(took))
	if worst := lost[len(lost)-1]; worst > 500*time.Millisecond {
		t.Errorf("lost for %v after a cut, want at most 500 ms", worst)
	}
	if worst := took[len(took)-1]; worst > 20*time.Second {
		t.Errorf("the better way was not in use %v after the last heal", worst)
	}
}

func TestBytesOfHellos(t *testing.T) {
	h := atRest(t, 1)
	rate := func(d time.Duration) (active, idle float64) {
		a, i := h.w13.Bytes, h.w23.Bytes
		h.Run(h.Now + d)
		return float64(max(h.w13.Bytes[0]-a[0], h.w13.Bytes[1]-a[1])) / d.Seconds(),
			float64(max(h.w23.Bytes[0]-i[0], h.w23.Bytes[1]-i[1])) / d.Seconds()
	}
	active, idle := rate(time.Minute)
	t.Logf("a link with traffic %.0f B/s, one without %.0f B/s", active, idle)
	if active > 1000 || idle > 100 {
		t.Error("want at most 1 kB/s and 100 B/s")
	}
}

func TestPrefixThatMovesIsFollowed(t *testing.T) {
	moving := prefixOf(99, 1)
	k := babel.Key{Dst: moving}
	var took []time.Duration
	for s := range uint64(phases) {
		h := atRest(t, s)
		own := func(n *Node, yes bool) {
			a := babel.Announcement{Key: k}
			if yes {
				h.Announce(n, append(slices.Clone(n.Own), a))
			} else {
				h.Announce(n, slices.DeleteFunc(slices.Clone(n.Own), func(x babel.Announcement) bool { return x == a }))
			}
		}
		own(h.op3, true)
		h.Run(h.Now + 20*time.Second)
		own(h.op1, true) // it appears there; the other learns it from routing
		from := h.Now
		for slices.Contains(h.op3.Own, babel.Announcement{Key: k}) {
			h.Run(h.Now + time.Millisecond)
			if h.Now-from > 13500*time.Microsecond {
				own(h.op3, false)
			}
		}
		h.until(10*time.Second, func() bool {
			_, two := h.Reaches(h.op2, k)
			_, three := h.Reaches(h.op3, k)
			return two && three && h.via(h.op2, k) == "wg-op1"
		})
		took = append(took, h.Now-from)
		h.Run(h.Now + 5*time.Second)
		if h.via(h.op2, k) != "wg-op1" || h.via(h.op3, k) != "wg-op1" || len(h.Faults) > 0 {
			t.Errorf("seed %d: op2 by %s, op3 by %s, faults %v", s, h.via(h.op2, k), h.via(h.op3, k), h.Faults)
		}
	}
	t.Log(quantiles(took))
	if worst := took[len(took)-1]; worst > 150*time.Millisecond+26*time.Millisecond {
		t.Errorf("after %v, want 150 ms and the path's delay", worst)
	}
}

func TestIdleLinkThatDiedIsLeftOnceTrafficIsOnIt(t *testing.T) {
	var took []time.Duration
	for s := range uint64(phases) {
		h := newHome(t, s)
		h.OnEvent = nil
		h.Run(30*time.Second + h.upTo(2*time.Second))
		// Nobody has sent anything for long. It dies, and then, at any time before that is
		// known, somebody sends.
		h.w12.Cut = [2]bool{true, true}
		h.Run(h.Now + h.upTo(1500*time.Millisecond))
		h.w12.Busy = true
		took = append(took, h.until(10*time.Second, h.both))
	}
	t.Log(quantiles(took))
	if median, worst := took[len(took)/2], took[len(took)-1]; median > 450*time.Millisecond || worst > 700*time.Millisecond {
		t.Errorf("median %v, worst %v", median, worst) // the meter is read five times a second
	}
}

func TestIdleLinkThatDiedIsKnownInThreeSeconds(t *testing.T) {
	var took []time.Duration
	for s := range uint64(phases) {
		h := newHome(t, s)
		h.OnEvent = nil
		h.Run(30*time.Second + h.upTo(2*time.Second))
		h.w12.Cut = [2]bool{true, true}
		took = append(took, h.until(10*time.Second, h.both))
	}
	t.Log(quantiles(took))
	if worst := took[len(took)-1]; worst > 3*time.Second {
		t.Errorf("after %v", worst)
	}
}

func TestLossOfATenthEndsNoNeighbour(t *testing.T) {
	for _, busy := range []bool{true, false} {
		for s := range uint64(4) {
			h := newHome(t, s)
			downs := 0
			h.OnEvent = func(_ *Node, e babel.Event) {
				if e.Kind == babel.NeighbourDown {
					downs++
				}
			}
			for _, w := range h.Wires {
				w.Loss, w.Busy = [2]float64{0.1, 0.1}, busy
			}
			h.Run(20 * time.Minute)
			if downs > 0 {
				t.Errorf("seed %d, traffic %v: neighbours were lost %d times", s, busy, downs)
			}
		}
	}
}
