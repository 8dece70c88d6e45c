package udp

import (
	"testing"
	"time"
)

// Wall clock times of the tests are counted from epoch.
const epoch = 1_700_000_000 * time.Second

func TestArrivalSurvivesAStepOfTheWallClock(t *testing.T) {
	const ms = time.Millisecond
	type packet struct{ stamp, want time.Duration }
	var a arrivals
	check := func(what string, wall, since time.Duration, more bool, packets ...packet) {
		t.Helper()
		r := a.take(epoch+wall, since, more)
		for _, p := range packets {
			if got := r.at(epoch + p.stamp); got != p.want {
				t.Errorf("%s: a packet of %v, read at %v, came at %v, want %v", what, p.stamp, wall, got, p.want)
			}
		}
	}
	check("first look", 5000*ms, 100*ms, false, packet{4990 * ms, 90 * ms}, packet{5000 * ms, 100 * ms})
	check("time goes on", 6000*ms, 1100*ms, false, packet{5400 * ms, 500 * ms})
	check("read apart", 7000*ms+500*time.Microsecond, 2100*ms, false, packet{7000 * ms, 2099*ms + 500*time.Microsecond})
	check("of the future", 8000*ms, 3100*ms, false, packet{8001 * ms, 3100 * ms})
	check("too old to be true", 9000*ms, 4100*ms, false, packet{7900 * ms, 4100 * ms}, packet{8100 * ms, 3200 * ms})
	check("no time at all", 10000*ms, 5100*ms, false, packet{-epoch, 5100 * ms})
	// It is set 30 ms forward: an age of 31 ms is one of 1 ms, or of 31.
	check("set forward", 11030*ms, 6100*ms, false, packet{10999 * ms, 6100 * ms}, packet{11029 * ms, 6100 * ms})
	check("older ones left", 11031*ms, 6101*ms, true, packet{10999 * ms, 6101 * ms})
	check("none left", 11130*ms, 6200*ms, false, packet{11125 * ms, 6195 * ms})
	check("set back an hour", 11140*ms-time.Hour, 6210*ms, false, packet{11139 * ms, 6210 * ms})
	check("afterwards", 11150*ms-time.Hour, 6220*ms, false, packet{11149*ms - time.Hour, 6219 * ms})
}

func TestClocksAreReadTogether(t *testing.T) {
	start := time.Now()
	a := arrivals{start: start}
	now := time.Now()
	r := a.look(now, false)
	if r.since != now.Sub(start) || r.wall != time.Duration(now.UnixNano()) || r.set {
		t.Errorf("at %v it reads %+v", now, r)
	}
}
