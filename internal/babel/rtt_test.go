package babel

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestWhichRoundTripCounts(t *testing.T) {
	ms := time.Millisecond
	var r rtts
	now := Time(0)
	take := func(n int, every, rtt time.Duration) {
		for range n {
			now += every
			r.add(now, rtt)
		}
	}
	counts := func(what string, want time.Duration) {
		t.Helper()
		if got, ok := r.smallest(now); !ok || got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	if _, ok := r.smallest(now); ok {
		t.Error("there is one before the first")
	}
	take(1, time.Second, 50*ms)
	counts("the first", 50*ms)
	take(1, 3*time.Second, 47*ms)
	counts("a smaller one, at once", 47*ms)
	take(10, 200*ms, 65*ms)
	counts("a spike of two seconds", 47*ms)
	take(1, 200*ms, 47*ms)
	take(16, 200*ms, 65*ms)
	counts("a longer way after three seconds", 65*ms)
	take(1, 200*ms, 64*ms)
	counts("what was before is forgotten", 64*ms)
	take(19, 3*time.Second, 65*ms)
	counts("a little longer, within a minute", 64*ms)
	take(2, 3*time.Second, 65*ms)
	counts("and after it", 65*ms)
	take(1, 3*time.Second, 20*ms)
	counts("a shorter way", 20*ms)
	take(2, 3*time.Second, 40*ms)
	counts("a longer one, seldom measured, twice", 20*ms)
	take(1, 3*time.Second, 40*ms)
	counts("and a third time", 40*ms)
	take(500, 100*ms, 41*ms)
	counts("often measured, within a minute", 40*ms)
	take(120, 100*ms, 41*ms)
	counts("and after it", 41*ms)
}

// What trembles around a short way, as on a busy machine, hardly moves what counts.
func TestTremblingIsNotSeen(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var x rtts
	moved, last := 0, time.Duration(0)
	for i := range 400 {
		now := Time(i) * 3 * time.Second
		x.add(now, 2*time.Millisecond+time.Duration(r.ExpFloat64()*float64(time.Millisecond)))
		if got, _ := x.smallest(now); i > 10 && max(got, last)-min(got, last) > 300*time.Microsecond {
			moved++
			last = got
		}
	}
	if moved > 10 {
		t.Errorf("it moved %d times in 20 minutes", moved)
	}
}
