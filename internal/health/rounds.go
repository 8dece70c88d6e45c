package health

import (
	"slices"
	"time"

	"tombolo/internal/state"
)

// kept is how long it is known of a round that it went out, so that a late answer is
// understood.
const kept = 2 * time.Second

// instant is the time since something that is the same for all.
type instant = time.Duration

// round is one probe of every target.
type round struct {
	number   uint16
	sent     instant
	deadline instant
	judged   bool
	answered bool
	left     int // probes of which it is not known that they failed
}

// rounds says of each round that goes out what becomes of it, and has it judged. Several are
// on their way at a time.
type rounds struct {
	judge  Judge
	recent []round // by the time they were sent
	next   uint16
}

func newRounds(c state.Check) *rounds { return &rounds{judge: NewJudge(c)} }

// send begins a round of some probes and returns its number.
func (r *rounds) send(now instant, probes int) uint16 {
	r.recent = slices.DeleteFunc(r.recent, func(x round) bool { return x.judged && now-x.sent > kept })
	r.next++
	r.recent = append(r.recent, round{number: r.next, sent: now, deadline: now + r.judge.Timeout(), left: probes})
	return r.next
}

func (r *rounds) find(number uint16) int {
	return slices.IndexFunc(r.recent, func(x round) bool { return x.number == number })
}

// answer takes an answer to a round, and when it came. changed says that the uplink now works,
// judged that the round is answered by it.
func (r *rounds) answer(at instant, number uint16) (judged, changed bool) {
	i := r.find(number)
	if i < 0 || r.recent[i].answered {
		return false, false
	}
	x := &r.recent[i]
	x.answered = true
	rtt := at - x.sent
	if rtt < 0 {
		rtt = 0 // the clock was set, or is not that fine
	}
	if late := at > x.deadline; x.judged || late {
		x.judged = true
		later := 0
		for _, y := range r.recent[i+1:] {
			if y.judged && !y.answered {
				later++
			}
		}
		r.judge.Late(rtt, later)
		return false, false
	}
	x.judged = true
	r.judge.Answered(rtt)
	return true, r.judge.Round(true)
}

// refuse takes that a probe of a round failed, which fails when all have.
func (r *rounds) refuse(number uint16) (judged, changed bool) {
	i := r.find(number)
	if i < 0 || r.recent[i].judged {
		return false, false
	}
	x := &r.recent[i]
	if x.left--; x.left > 0 {
		return false, false
	}
	x.judged = true
	return true, r.judge.Round(false)
}

// expire fails the rounds whose time is over.
func (r *rounds) expire(now instant) (judged, changed bool) {
	for i := range r.recent {
		if x := &r.recent[i]; !x.judged && x.deadline <= now {
			x.judged, judged = true, true
			changed = r.judge.Round(false) || changed
		}
	}
	return judged, changed
}

// deadline returns when the next round expires; false where none is on its way.
func (r *rounds) deadline() (at instant, ok bool) {
	for _, x := range r.recent {
		if !x.judged && (!ok || x.deadline < at) {
			at, ok = x.deadline, true
		}
	}
	return at, ok
}

// wait gives the rounds that are on their way until some time.
func (r *rounds) wait(until instant) {
	for i := range r.recent {
		r.recent[i].deadline = max(r.recent[i].deadline, until)
	}
}
