package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	holdShort = time.Second     // after a cut, packets must come for so long
	holdLong  = 3 * time.Second // what is to be the best way must stay it for so long

	coldLimit   = 60 * time.Second // for the best way to be used at first
	cutLimit    = 60 * time.Second // for packets to come again
	returnLimit = 20 * time.Second // for the better way to be used again
	changeLimit = 20 * time.Second // for a change of delay to be followed
	moveLimit   = 20 * time.Second // for a host to be followed
	hostMoves   = 3
	helloTime   = 10 * time.Second

	defaultsSettle = 30 * time.Second

	// Between two cuts. OSPF originates an LSA once in five seconds (RFC 2328 appendix B,
	// MinLSInterval): with less, what is measured is how it dampens a link that flaps.
	cutPause = 6 * time.Second
)

// figures are what was measured of a contender. A time that was not reached within its
// limit is never.
type figures struct {
	cold       []time.Duration // from the start until the best way is used and stays so
	cut        []time.Duration // traffic lost after a cut both ways, of the worse direction
	oneWay     []time.Duration // after a cut in one direction
	back       []time.Duration // from the return of the better way until it is used
	backLost   int             // packets lost meanwhile, all in all
	moved      []time.Duration // from a change of delay until the better way is used
	movedBack  []time.Duration
	movedLost  int             // packets lost by both, all in all
	movedTurns int             // how often a direction changed its way at each, at most
	spikeMoved bool            // a spike of a second was followed
	spikeTried bool            //
	host       []time.Duration // from a host's move until packets to it are sent the right way
	busy, idle float64         // bytes/s of routing on a link, of the direction with more
	looped     int             // packets that took more routers than there are
}

// never is a time that was not reached.
const never = time.Duration(1<<63 - 1)

// trial measures one contender.
type trial struct {
	entry
	o    options
	t    *triangle
	flow flow
	f    figures
}

// try measures a contender in a lab of its own.
func try(ctx context.Context, o options, e entry, name string) (f figures, err error) {
	network := e.network
	if network == "" {
		network = triangleFile
	}
	t, err := newTriangle(ctx, o, name, network)
	if err != nil {
		return f, err
	}
	defer func() {
		if e := t.close(ctx); err == nil {
			err = e
		}
	}()
	r := &trial{entry: e, o: o, t: t}
	if r.flow, err = newFlow(ctx, t.lab, "op2.host", "op3.host"); err != nil {
		return f, err
	}
	defer r.flow.stop()
	steps := []func(context.Context) error{r.coldStarts, r.hello, r.cuts, r.cutsOneWay, r.delayChange, r.spike, r.hostMoves}
	if e.defaults {
		steps = []func(context.Context) error{r.firstStart, r.firstCut}
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return f, err
		}
		if err := t.running(); err != nil {
			return f, err
		}
	}
	for _, s := range r.flow {
		for _, p := range s.since(time.Time{}) {
			if p.hops > through {
				r.f.looped++
			}
		}
	}
	return r.f, nil
}

// await is flow.await, and an error where a program of the contender ends meanwhile.
func (r *trial) await(ctx context.Context, f flow, from time.Time, hold, limit time.Duration, should func(packet) bool) (time.Time, bool, error) {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	defer func() { <-done }()
	go func() {
		defer close(done)
		for pause(inner, 100*time.Millisecond) == nil {
			if err := r.t.running(); err != nil {
				cancel(err)
			}
		}
	}()
	at, ok, err := f.await(inner, from, hold, limit, should)
	if err != nil {
		err = context.Cause(inner)
	}
	cancel(nil)
	return at, ok, err
}

func (r *trial) say(format string, args ...any) {
	progress("%s: %s", r.name, fmt.Sprintf(format, args...))
}

// coldStarts starts all routers at once, several times, and leaves them running.
func (r *trial) coldStarts(ctx context.Context) error {
	runs := 1
	if r.ours {
		runs = 3
	}
	for i := range runs {
		if i > 0 {
			if err := r.stop(ctx, r.t); err != nil {
				return err
			}
			if err := pause(ctx, time.Second); err != nil {
				return err
			}
		}
		if err := r.firstStart(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (r *trial) firstStart(ctx context.Context) error {
	start := time.Now()
	if err := r.start(ctx, r.t); err != nil {
		return err
	}
	want, what := by(through), "the best way is in use"
	if r.defaults { // they choose what they like
		want, what = came, "packets come"
	}
	at, ok, err := r.await(ctx, r.flow, start, holdLong, coldLimit, want)
	if err != nil {
		return err
	}
	took := since(start, at, ok)
	r.f.cold = append(r.f.cold, took)
	r.say("%s after %s", what, timeText(took))
	return r.anyWay(ctx)
}

func since(start, at time.Time, ok bool) time.Duration {
	if !ok {
		return never
	}
	return at.Sub(start)
}

// anyWay waits until packets come both ways; that they never do is an error.
func (r *trial) anyWay(ctx context.Context) error {
	_, ok, err := r.await(ctx, r.flow, time.Now().Add(-time.Second), time.Second, cutLimit, came)
	if err == nil && !ok {
		err = fmt.Errorf("no traffic passes within %s", cutLimit)
	}
	return err
}

// way is through how many routers the last packet of each direction came.
func (r *trial) way() int {
	for _, s := range r.flow {
		if _, held := s.steady(time.Now().Add(-2*time.Second), by(through)); held == 0 {
			return direct
		}
	}
	return through
}

// hello measures what routing itself sends, on the link in use from op2 and on the other.
func (r *trial) hello(ctx context.Context) error {
	used, idle := "wg-op1", "wg-op3"
	if r.way() == direct {
		used, idle = idle, used
	}
	type answer struct {
		rate float64
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		in, out, err := r.t.capture(ctx, "op2", idle, helloTime)
		answers <- answer{max(in, out), err}
	}()
	in, out, err := r.t.capture(ctx, "op2", used, helloTime)
	a := <-answers
	if err != nil {
		return err
	}
	if a.err != nil {
		return a.err
	}
	r.f.busy, r.f.idle = max(in, out), a.rate
	r.say("routing sends %.0f B/s on the link in use, %.0f B/s on an idle one", r.f.busy, r.f.idle)
	return nil
}

// firstCut lets the defaults settle, which takes them long, and cuts once.
func (r *trial) firstCut(ctx context.Context) error {
	if err := pause(ctx, defaultsSettle); err != nil {
		return err
	}
	return r.cut(ctx, &r.f.cut, 0, false)
}

func (r *trial) cuts(ctx context.Context) error {
	for i := range r.o.runs {
		if err := errors.Join(r.cut(ctx, &r.f.cut, i, false), pause(ctx, cutPause)); err != nil {
			return err
		}
	}
	return nil
}

func (r *trial) cutsOneWay(ctx context.Context) error {
	for i := range r.o.runs {
		if err := errors.Join(r.cut(ctx, &r.f.oneWay, i, true), pause(ctx, cutPause)); err != nil {
			return err
		}
	}
	return nil
}

// cut cuts a link in use, waits until packets come again, heals it, and waits until the
// better way is in use, where it was. In turn it is each link and direction of the way.
func (r *trial) cut(ctx context.Context, lost *[]time.Duration, turn int, oneWay bool) error {
	ends := [][2]string{{"op1", "op2"}, {"op3", "op1"}, {"op2", "op1"}, {"op1", "op3"}}
	before := r.way()
	if before == direct {
		ends = [][2]string{{"op3", "op2"}, {"op2", "op3"}}
	}
	a, b := ends[turn%len(ends)][0], ends[turn%len(ends)][1]
	do, what := r.t.lab.Cut, "cut "+a+" – "+b
	if oneWay {
		do, what = r.t.lab.CutOneWay, "cut "+a+" → "+b
	}
	start := time.Now()
	if err := do(ctx, a, b); err != nil {
		return err
	}
	// Not the packets under way when the cut came, of which the last ones may arrive.
	recovered, ok, err := r.await(ctx, r.flow, start.Add(50*time.Millisecond), holdShort, cutLimit, came)
	if err != nil {
		return err
	}
	outage := never
	if ok {
		n, err := r.flow.lost(ctx, start.Add(-200*time.Millisecond), recovered)
		if err != nil {
			return err
		}
		outage = time.Duration(n) * probeInterval
	}
	*lost = append(*lost, outage)
	healed := time.Now()
	if err := r.t.lab.Heal(ctx, a, b); err != nil {
		return err
	}
	if r.defaults || before == direct {
		r.say("%s: %s of traffic lost", what, timeText(outage))
		if r.defaults {
			return nil
		}
		return pause(ctx, returnLimit/2) // for it to learn that the link is back
	}
	back, ok, err := r.await(ctx, r.flow, healed, holdShort, returnLimit, by(through))
	if err != nil {
		return err
	}
	until := healed.Add(returnLimit)
	if ok {
		until = back.Add(holdShort)
	}
	n, err := r.flow.lost(ctx, healed, until)
	if err != nil {
		return err
	}
	took := since(healed, back, ok)
	r.f.back, r.f.backLost = append(r.f.back, took), r.f.backLost+n
	r.say("%s: %s of traffic lost; back after %s, %d packets lost", what, timeText(outage), timeText(took), n)
	return nil
}

// delayChange makes the way in use slower than the other, and faster again.
func (r *trial) delayChange(ctx context.Context) error {
	if !r.delay || r.way() != through {
		return nil
	}
	for _, change := range []struct {
		rtt   string
		want  int
		times *[]time.Duration
	}{
		{"rtt=45ms", direct, &r.f.moved}, // 65 ms against 52
		{"rtt=27ms", through, &r.f.movedBack},
	} {
		start := time.Now()
		if err := r.t.lab.ChangePath(ctx, "op1", "op3", change.rtt); err != nil {
			return err
		}
		at, ok, err := r.await(ctx, r.flow, start, holdLong, changeLimit, by(change.want))
		if err != nil {
			return err
		}
		until := start.Add(changeLimit)
		if ok {
			until = at.Add(holdShort)
		}
		n, err := r.flow.lost(ctx, start, until)
		if err != nil {
			return err
		}
		*change.times, r.f.movedLost = append(*change.times, since(start, at, ok)), r.f.movedLost+n
		turns := max(r.flow[0].turns(start), r.flow[1].turns(start))
		r.f.movedTurns = max(r.f.movedTurns, turns)
		r.say("%s between op1 and op3: moved after %s, in %d turns, %d packets lost", change.rtt, timeText(since(start, at, ok)), turns, n)
	}
	return nil
}

// spike makes the way in use slow for a second.
func (r *trial) spike(ctx context.Context) error {
	if !r.delay || r.way() != through {
		return nil
	}
	start := time.Now()
	for _, rtt := range []string{"rtt=45ms", "rtt=27ms"} {
		if err := r.t.lab.ChangePath(ctx, "op1", "op3", rtt); err != nil {
			return err
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
	if err := pause(ctx, 5*time.Second); err != nil {
		return err
	}
	r.f.spikeTried = true
	for _, s := range r.flow {
		for _, p := range s.since(start) {
			r.f.spikeMoved = r.f.spikeMoved || p.hops == direct
		}
	}
	r.say("a spike of one second: moved: %v", r.f.spikeMoved)
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func timeText(d time.Duration) string {
	if d == never {
		return "never"
	}
	return rounded(d)
}

// worst is the longest of times.
func worst(times []time.Duration) time.Duration { return slices.Max(times) }
