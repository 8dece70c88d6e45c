// Package health finds out whether an uplink works: whether one of some hosts on the Internet
// answers through it. A Judge decides by what becomes of rounds of probes, and rounds times
// them; both are pure. Run does it with sockets.
//
// # How soon
//
// A round goes out every Check.Interval, whether or not the last one was answered. A provider
// that dies silently is noticed Down intervals and one timeout after the last round that was
// answered; the timeout follows the RTT (see Judge.Timeout). With rounds every 600 ms, three
// of which make it down, that is 2.0 s where the RTT is 50 ms, and with rounds every 200 ms
// 0.8 s.
//
// A round is answered when any of the targets answers, whichever is first: a host that is
// gone takes no uplink down.
package health

import (
	"math/bits"
	"time"

	"tombolo/internal/state"
)

// Bounds of the time that an answer may take.
const (
	shortest = 150 * time.Millisecond
	longest  = time.Second
	slack    = 50 * time.Millisecond
)

// remembered is how many of the last rounds count for the loss.
const remembered = 32

// Judge decides whether an uplink works. It begins with one that works until Down rounds say
// otherwise: an agent that starts anew, or whose file has changed, must not take away ways
// that carried packets all the while, and one that is dead is found out soon enough.
type Judge struct {
	down, up int // rounds in a row
	dead     bool
	misses   int // in a row, of late
	hits     int
	judged   int
	lost     uint32 // a bit for each of the last rounds, the newest in bit 0
	srtt     time.Duration
}

// NewJudge returns the judge that c asks for.
func NewJudge(c state.Check) Judge { return Judge{down: max(1, c.Down), up: max(1, c.Up)} }

// Round takes what became of a round, and reports whether the uplink is now another than
// before.
func (j *Judge) Round(answered bool) (changed bool) {
	j.judged = min(j.judged+1, remembered)
	j.lost <<= 1
	before := j.dead
	if answered {
		j.misses, j.hits = 0, j.hits+1
		j.dead = j.dead && j.hits < j.up
	} else {
		j.lost |= 1
		j.misses, j.hits = j.misses+1, 0
		j.dead = j.dead || j.misses >= j.down
	}
	return j.dead != before
}

// Answered takes the time until the first answer to a round that is counted as answered.
func (j *Judge) Answered(rtt time.Duration) {
	if j.srtt == 0 {
		j.srtt = max(rtt, 1)
		return
	}
	gain := time.Duration(8) // as TCP's (RFC 6298 §2)
	if rtt < j.srtt {
		gain = 4 // who waits too long notices late
	}
	j.srtt += (rtt - j.srtt) / gain
}

// Late takes the time until the answer to a round that is counted as failed; later is how
// many rounds failed that went out after it. What was sent before something that has come is
// not missing, and from now on it is waited as long: where the RTT grows at once, as when a
// queue fills, the uplink works.
func (j *Judge) Late(rtt time.Duration, later int) {
	j.Answered(rtt)
	j.srtt = max(j.srtt, rtt)
	j.misses = min(j.misses, later)
}

// Calm reports whether rounds are answered, so that to look at the next one when its timeout
// is over is to look for nothing: to do so an interval later is soon enough, as the silence
// of the ones behind it is then noticed in time.
func (j *Judge) Calm() bool { return !j.dead && j.misses == 0 && j.srtt > 0 && j.down > 1 }

// Up reports whether the uplink works.
func (j *Judge) Up() bool { return !j.dead }

// Timeout is how long after it was sent a round counts as failed: 1 s while no RTT is known,
// then three times that and 50 ms, but from 150 ms to 1 s.
func (j *Judge) Timeout() time.Duration {
	if j.srtt == 0 {
		return longest
	}
	return min(max(3*j.srtt+slack, shortest), longest)
}

// RTT returns the smoothed time until an answer; 0 while none has come.
func (j *Judge) RTT() time.Duration { return j.srtt }

// Loss returns the part of the last 32 rounds that nobody answered in time, 0 to 1.
func (j *Judge) Loss() float64 {
	if j.judged == 0 {
		return 0
	}
	return float64(bits.OnesCount32(j.lost)) / float64(j.judged)
}
