package health

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tombolo/internal/state"
)

const ms = time.Millisecond

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		down, up int
		rounds   string // + and -: answered or not
		want     string // after each: U or D
	}{
		{3, 5, "--+--+", "UUUUUU"},
		{3, 5, "---", "UUD"},
		{3, 5, "+++---++++-+++++-", "UUUUUDDDDDDDDDDUU"},
		{1, 1, "-+-+", "DUDU"},
		{0, 0, "-+-+", "DUDU"},
		{2, 3, "--++-+++", "UDDDDDDU"},
	} {
		j := NewJudge(state.Check{Down: tt.down, Up: tt.up})
		var got strings.Builder
		for _, r := range tt.rounds {
			before := j.Up()
			if changed := j.Round(r == '+'); changed != (j.Up() != before) {
				t.Errorf("%s: changed is %v from %v to %v", tt.rounds, changed, before, j.Up())
			}
			got.WriteString(map[bool]string{true: "U", false: "D"}[j.Up()])
		}
		if got.String() != tt.want {
			t.Errorf("down %d, up %d, %s: %s, want %s", tt.down, tt.up, tt.rounds, got.String(), tt.want)
		}
	}
}

func TestTimeoutFollowsTheRTT(t *testing.T) {
	for _, tt := range []struct {
		rtt, want time.Duration
	}{
		{0, 150 * ms}, {1 * ms, 150 * ms}, {33 * ms, 150 * ms}, {50 * ms, 200 * ms}, {200 * ms, 650 * ms}, {600 * ms, time.Second}, {time.Hour, time.Second},
	} {
		j := NewJudge(state.Check{})
		if got := j.Timeout(); got != time.Second || j.RTT() != 0 {
			t.Errorf("before any is known it is %s, of %s", got, j.RTT())
		}
		for range 100 {
			j.Answered(tt.rtt)
		}
		if got := j.Timeout(); got.Round(ms) != tt.want {
			t.Errorf("at %s it is %s, want %s", tt.rtt, got, tt.want)
		}
	}
}

func TestLossIsThatOfTheLastRounds(t *testing.T) {
	j := NewJudge(state.Check{Down: 3, Up: 3})
	if j.Loss() != 0 {
		t.Errorf("of no round it is %v", j.Loss())
	}
	j.Round(false)
	j.Round(true)
	if j.Loss() != 0.5 {
		t.Errorf("of two rounds it is %v", j.Loss())
	}
	for i := range 100 {
		j.Round(i%4 != 0)
	}
	if j.Loss() != 0.25 {
		t.Errorf("of many rounds it is %v", j.Loss())
	}
	for range remembered {
		j.Round(true)
	}
	if j.Loss() != 0 {
		t.Errorf("after %d good ones it is %v", remembered, j.Loss())
	}
}

// path is an uplink in virtual time: which rounds come back, and after how long.
type path func(sent instant) (rtt time.Duration, ok bool)

// drive sends rounds over a path until the end and returns when the judge changed its mind.
func drive(c state.Check, p path, end instant) (changes []instant, r *rounds) {
	r = newRounds(c)
	answers := map[uint16]instant{}
	for now := instant(0); now <= end; now += ms {
		for n, at := range answers {
			if at > now {
				continue
			}
			delete(answers, n)
			if _, changed := r.answer(now, n); changed {
				changes = append(changes, now)
			}
		}
		if _, changed := r.expire(now); changed {
			changes = append(changes, now)
		}
		if now%(time.Duration(c.Interval)*ms) == 0 {
			n := r.send(now, 1)
			if rtt, ok := p(now); ok {
				answers[n] = now + rtt
			}
		}
	}
	return changes, r
}

// A provider that dies silently is noticed in time, whenever it does, and never before.
func TestSilenceIsNoticedInTime(t *testing.T) {
	for _, tt := range []struct {
		interval int
		within   time.Duration
	}{{600, 2600 * ms}, {200, 950 * ms}} {
		rapid.Check(t, func(t *rapid.T) {
			dies := instant(rapid.IntRange(1500, 9000).Draw(t, "dies")) * ms
			c := state.Check{Interval: tt.interval, Down: 3, Up: 3}
			changes, r := drive(c, func(sent instant) (time.Duration, bool) {
				rtt := time.Duration(rapid.IntRange(0, 50).Draw(t, "rtt")) * ms
				return rtt, sent+rtt < dies
			}, dies+5*time.Second)
			if len(changes) != 1 || changes[0] < dies || changes[0] > dies+tt.within || r.judge.Up() {
				t.Errorf("every %d ms: dead at %s, noticed at %v", tt.interval, dies, changes)
			}
		})
	}
}

// A queue that fills, so that answers come later than ever, is no silence, nor is a path that
// is up again and slower than it was.
func TestSlowIsNotDead(t *testing.T) {
	const slowAt = 5 * time.Second
	changes, r := drive(state.Check{Interval: 200, Down: 3, Up: 3}, func(sent instant) (time.Duration, bool) {
		if sent < slowAt {
			return 20 * ms, true
		}
		return 350 * ms, true
	}, 20*time.Second)
	if len(changes) > 0 || r.judge.Loss() != 0 {
		t.Errorf("changed at %v, loss %v", changes, r.judge.Loss())
	}
	changes, r = drive(state.Check{Interval: 200, Down: 3, Up: 3}, func(sent instant) (time.Duration, bool) {
		switch {
		case sent < slowAt:
			return 20 * ms, true
		case sent < 2*slowAt:
			return 0, false
		}
		return 900 * ms, true
	}, 20*time.Second)
	if len(changes) != 2 || changes[1] > 2*slowAt+4*time.Second || !r.judge.Up() {
		t.Errorf("changed at %v", changes)
	}
}

// Whatever comes, in whatever order: of each round it is decided once, a lively uplink is up,
// a silent one down, and nothing grows.
func TestRoundsAreJudgedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := state.Check{Interval: 100, Down: rapid.IntRange(1, 5).Draw(t, "down"), Up: rapid.IntRange(1, 5).Draw(t, "up")}
		r := newRounds(c)
		r.next = uint16(rapid.IntRange(65000, 65535).Draw(t, "first")) // numbers begin again
		var now instant
		decided := map[int]int{}
		numbers := map[uint16]int{}
		sent := 0
		note := func(judged bool, n int) {
			if judged {
				decided[n]++
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"send": func(t *rapid.T) {
				now += 100 * ms
				before := judgedOf(r)
				r.expire(now)
				for n := range judgedOf(r) {
					if !before[n] {
						note(true, numbers[n])
					}
				}
				sent++
				numbers[r.send(now, 2)] = sent
			},
			"answer": func(t *rapid.T) {
				n := r.next - uint16(rapid.IntRange(0, 30).Draw(t, "ago"))
				judged, _ := r.answer(now, n)
				note(judged, numbers[n])
			},
			"refuse": func(t *rapid.T) {
				n := r.next - uint16(rapid.IntRange(0, 3).Draw(t, "ago"))
				judged, _ := r.refuse(n)
				note(judged, numbers[n])
			},
			"": func(t *rapid.T) {
				for n, times := range decided {
					if times > 1 || n == 0 {
						t.Fatalf("round %d is judged %d times", n, times)
					}
				}
				if len(r.recent) > 32 {
					t.Fatalf("it knows of %d rounds", len(r.recent))
				}
				if to := r.judge.Timeout(); to < shortest || to > longest {
					t.Fatalf("it waits for %s", to)
				}
			},
		})
		for range c.Up {
			r.answer(now, r.send(now, 1))
		}
		if !r.judge.Up() {
			t.Error("after all those answers it is down")
		}
		for range c.Down {
			r.send(now, 1)
		}
		if r.expire(now + longest); r.judge.Up() {
			t.Error("after all that silence it is up")
		}
	})
}

// judgedOf returns the numbers of the rounds that are judged.
func judgedOf(r *rounds) map[uint16]bool {
	out := map[uint16]bool{}
	for _, x := range r.recent {
		if x.judged {
			out[x.number] = true
		}
	}
	return out
}

// What all targets refuse has failed before its time is over; what one answers has not.
func TestRoundThatAllRefuseFailsAtOnce(t *testing.T) {
	r := newRounds(state.Check{Down: 1, Up: 1})
	n := r.send(0, 2)
	if judged, _ := r.refuse(n); judged {
		t.Error("judged by one of two")
	}
	if judged, changed := r.refuse(n); !judged || !changed {
		t.Error("not judged by both")
	}
	n = r.send(0, 2)
	r.refuse(n)
	if _, changed := r.answer(ms, n); !changed || !r.judge.Up() {
		t.Error("one answer is not enough")
	}
	if judged, changed := r.refuse(n); judged || changed {
		t.Error("judged again")
	}
}
