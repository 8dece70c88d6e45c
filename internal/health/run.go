package health

import (
	"context"
	"errors"
	"time"

	"tombolo/internal/state"
)

// Status is how an uplink fares.
type Status struct {
	Up    bool
	Since time.Time     // when Up became what it is; at first, when the check began
	RTT   time.Duration // smoothed; 0: nobody has answered yet
	Loss  float64       // part of the last 32 rounds that nobody answered in time, 0 to 1
	Err   string        // why the last round failed; empty when it was answered
}

const (
	// least is the shortest time between rounds.
	least = 20 * time.Millisecond
	// reportEvery is how often it is told how an uplink fares that is as before.
	reportEvery = 2 * time.Second
	// stall is how late this may be called before it takes that for a sign that the router was
	// busy, and not that nobody answered: what waits for connections may be late too.
	stall = 50 * time.Millisecond
	// grace is how long that then has.
	grace = 30 * time.Millisecond
)

// errNoReply says that nobody answered in time.
var errNoReply = errors.New("no reply")

// result is what became of a probe: an answer, or why there will be none.
type result struct {
	round uint16
	at    time.Time
	err   error
}

// prober sends the probes of a round.
type prober interface {
	// send sends a round, and returns why probes could not be sent.
	send(round uint16) []error
	// replies returns the answers that have come and of which nobody was told, with the wall
	// clock's time when they did.
	replies() []result
	// close ends what send began.
	close()
}

// Run checks an uplink until ctx ends: it asks c's targets through a device, with a mark on
// every packet, and tells report when the uplink works or works no more, and every now and
// then. report is called by Run and must not wait. A device that is gone, or without a way to
// the targets, is no error: then nobody answers.
//
// Nobody is woken by the reply to an echo request: the kernel notes when it came, and while all
// is well it is looked at when the next round goes out. So a check wakes a small router once
// in an interval, and what keeps the router busy makes no reply late.
//
// It must be called in the namespace of the device; nothing that it starts outlives it.
func Run(ctx context.Context, c state.Check, device string, mark uint32, report func(Status)) {
	results := make(chan result, 16)
	run(ctx, c, newSockets(c.Targets, device, mark, results), results, report)
}

// run is Run with any prober, which sends what becomes of probes later to results.
func run(ctx context.Context, c state.Check, p prober, results <-chan result, report func(Status)) {
	defer p.close()
	begin := time.Now()
	l := &loop{
		rounds: newRounds(c), prober: p, probes: len(c.Targets), report: report,
		results: results, interval: max(least, time.Duration(c.Interval)*time.Millisecond), since: begin,
		now: func() instant { return time.Since(begin) },
	}
	l.told = -reportEvery
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due := l.due()
		timer.Reset(max(0, due-l.now()))
		select {
		case <-ctx.Done():
			return
		case r := <-results:
			l.take(r)
		case <-timer.C:
			l.tick(due)
		}
	}
}

// loop is what one Run knows.
type loop struct {
	rounds   *rounds
	prober   prober
	results  <-chan result
	probes   int // in a round
	interval time.Duration
	report   func(Status)
	now      func() instant

	next  instant // when the next round goes out
	told  instant // when report was called
	since time.Time
	err   error // of the last round
	cause error // of probes since then
}

// due returns when there is something to do.
func (l *loop) due() instant {
	if at, ok := l.rounds.deadline(); ok && !l.rounds.judge.Calm() {
		return min(at, l.next)
	}
	return l.next
}

// tick does what is due, when what has come meanwhile is taken.
func (l *loop) tick(due instant) {
	for waiting := true; waiting; {
		select {
		case r := <-l.results:
			l.take(r)
		default:
			waiting = false
		}
	}
	for _, r := range l.prober.replies() {
		l.take(r)
	}
	now := l.now()
	if now-due > stall {
		l.rounds.wait(now + grace)
	}
	judged, changed := l.rounds.expire(now)
	l.judged(judged, changed, false)
	if now < l.next {
		return
	}
	l.next = max(l.next+l.interval, now+l.interval/2) // no haste after a stall
	number := l.rounds.send(now, l.probes)
	for _, err := range l.prober.send(number) {
		l.take(result{round: number, err: err})
	}
}

// instant returns when something was that the wall clock says; the clock may have been set
// since.
func (l *loop) instant(at time.Time) instant {
	return l.now() - max(0, time.Now().Round(0).Sub(at.Round(0)))
}

// take takes what became of a probe.
func (l *loop) take(r result) {
	if r.err == nil {
		judged, changed := l.rounds.answer(l.instant(r.at), r.round)
		l.judged(judged, changed, true)
		return
	}
	l.cause = r.err
	judged, changed := l.rounds.refuse(r.round)
	l.judged(judged, changed, false)
}

// judged tells of a round that was judged.
func (l *loop) judged(judged, changed, answered bool) {
	if !judged {
		return
	}
	switch {
	case answered:
		l.err = nil
	case l.cause != nil:
		l.err = l.cause
	default:
		l.err = errNoReply
	}
	l.cause = nil
	if changed {
		l.since = time.Now()
	}
	now := l.now()
	if !changed && now-l.told < reportEvery {
		return
	}
	l.told = now
	j := &l.rounds.judge
	s := Status{Up: j.Up(), Since: l.since, RTT: j.RTT(), Loss: j.Loss()}
	if l.err != nil {
		s.Err = l.err.Error()
	}
	l.report(s)
}
