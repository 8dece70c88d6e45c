package health

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/internal/state"
)

// fakeProber is a path without sockets.
type fakeProber struct {
	waiting []result
	rtt     func(at time.Duration) (time.Duration, bool)
	err     func(at time.Duration) error
	begin   time.Time
	sent    []time.Duration
	clock   func(at time.Duration) time.Duration // what the wall clock was set by since
	closed  bool
}

func (f *fakeProber) send(round uint16) []error {
	at := time.Since(f.begin)
	f.sent = append(f.sent, at)
	if f.err != nil && f.err(at) != nil {
		return []error{f.err(at)}
	}
	if rtt, ok := f.rtt(at); ok {
		f.waiting = append(f.waiting, result{round: round, at: f.begin.Add(at + rtt)})
	}
	return nil
}

func (f *fakeProber) replies() (out []result) {
	f.waiting = slices.DeleteFunc(f.waiting, func(r result) bool {
		come := !r.at.After(time.Now())
		if come {
			if f.clock != nil {
				r.at = r.at.Add(f.clock(time.Since(f.begin)))
			}
			out = append(out, r)
		}
		return come
	})
	return out
}

func (f *fakeProber) close() { f.closed = true }

type told struct {
	at time.Duration
	Status
}

// checked runs a check for some time and returns what was told.
func checked(t *testing.T, c state.Check, f *fakeProber, how time.Duration) (out []told) {
	c.Targets = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:0")}
	f.begin = time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), how)
	defer cancel()
	run(ctx, c, f, nil, func(s Status) { out = append(out, told{time.Since(f.begin), s}) })
	if !f.closed {
		t.Error("its sockets are open")
	}
	return out
}

func TestRunTellsWhatHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		f := &fakeProber{rtt: func(at time.Duration) (time.Duration, bool) {
			return 20 * ms, at < 10*time.Second || at > 20*time.Second
		}}
		got := checked(t, state.Check{Interval: 600, Down: 3, Up: 5}, f, 29900*ms)
		if !got[0].Up || got[0].RTT != 20*ms || got[0].at != 600*ms || !got[0].Since.Equal(begin) {
			t.Errorf("first is told %+v", got[0])
		}
		var ups []bool
		var at []time.Duration
		for i, s := range got {
			if i == 0 || s.Up != got[i-1].Up {
				ups, at = append(ups, s.Up), append(at, s.at)
				if i > 0 && !s.Since.Equal(begin.Add(s.at)) {
					t.Errorf("told at %s, it says %s", s.at, s.Since.Sub(begin))
				}
			}
			if s.Up == (s.Err != "") && s.at > 13*time.Second && s.at < 20*time.Second {
				t.Errorf("told %+v", s)
			}
		}
		// The last that was answered went out at 9.6 s, the first that was again at 20.4 s.
		if !slices.Equal(ups, []bool{true, false, true}) || at[1] != 9600*ms+3*600*ms+150*ms || at[2] != 20400*ms+4*600*ms+150*ms {
			t.Errorf("told %v at %v", ups, at)
		}
		if len(got) > 18 || len(f.sent) != 50 {
			t.Errorf("in 30 s it tells %d times, and sends %d rounds", len(got), len(f.sent))
		}
	})
}

// That it is looked late at what has come makes it notice no later: whenever a provider dies,
// and with any RTT up to 50 ms.
func TestRunNoticesSilenceInTime(t *testing.T) {
	for interval, within := range map[int]time.Duration{600: 2600 * ms, 200: 950 * ms} {
		for rtt := 5 * ms; rtt <= 50*ms; rtt += 45 * ms {
			for dies := 5 * time.Second; dies < 6*time.Second; dies += 13 * ms {
				synctest.Test(t, func(t *testing.T) {
					f := &fakeProber{rtt: func(at time.Duration) (time.Duration, bool) { return rtt, at+rtt < dies }}
					got := checked(t, state.Check{Interval: interval, Down: 3, Up: 3}, f, 10*time.Second)
					i := slices.IndexFunc(got, func(s told) bool { return !s.Up })
					if i < 0 || got[i].at < dies || got[i].at > dies+within {
						t.Errorf("every %d ms, RTT %s: dead at %s, told %+v", interval, rtt, dies, got)
					}
				})
			}
		}
	}
}

// The wall clock is set, as when a router has found the time: no RTT of it is believed that
// cannot be.
func TestClockThatIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, by := range []time.Duration{-time.Hour, time.Hour} {
			f := &fakeProber{rtt: func(time.Duration) (time.Duration, bool) { return 20 * ms, true }}
			f.clock = func(at time.Duration) time.Duration {
				if at > 5*time.Second && at < 6*time.Second {
					return by
				}
				return 0
			}
			for _, s := range checked(t, state.Check{Interval: 200, Down: 2, Up: 2}, f, 10*time.Second) {
				if !s.Up || s.RTT < 0 || s.RTT > 200*ms {
					t.Errorf("set by %s: told %+v", by, s)
				}
			}
		}
	})
}

func TestRunSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("ping 192.0.2.1: device wan0: no such device")
		f := &fakeProber{
			err: func(at time.Duration) error {
				if at < 3*time.Second {
					return gone
				}
				return nil
			},
			rtt: func(time.Duration) (time.Duration, bool) { return 0, false },
		}
		got := checked(t, state.Check{Interval: 600, Down: 3, Up: 5}, f, 10*time.Second)
		// What cannot be sent has failed at once, and is tried again at every round alone.
		if got[0].Err != gone.Error() || !got[0].Up || got[1].Up || got[1].at != 1200*ms {
			t.Errorf("told %+v", got[:2])
		}
		if last := got[len(got)-1]; last.Err != "no reply" || last.Loss != 1 || last.RTT != 0 {
			t.Errorf("at last told %+v", last)
		}
		if len(f.sent) != 17 {
			t.Errorf("in 10 s it sends %d rounds", len(f.sent))
		}
	})
}

// A router that is too busy to look at answers in time has not lost its uplink.
func TestRunForgivesItsOwnStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stalls := 0
		f := &fakeProber{begin: time.Now()}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		f.rtt = func(at time.Duration) (time.Duration, bool) {
			if at > 5*time.Second && stalls == 0 {
				stalls++
				time.Sleep(5 * time.Second) // the goroutine is held up while it sends
			}
			return 20 * ms, true
		}
		var last Status
		run(ctx, state.Check{Interval: 200, Down: 1, Up: 1, Targets: make([]netip.AddrPort, 1)}, f, nil, func(s Status) {
			if last = s; !s.Up {
				t.Errorf("told %+v", s)
			}
		})
		if stalls != 1 || !last.Up {
			t.Errorf("%d stalls, told %+v", stalls, last)
		}
		for i := 1; i < len(f.sent); i++ {
			if gap := f.sent[i] - f.sent[i-1]; gap < 100*ms {
				t.Errorf("rounds go out %s behind each other", gap)
			}
		}
	})
}
