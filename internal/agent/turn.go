package agent

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"tombolo/internal/kernel"
	"tombolo/internal/state"
)

// Flows that left by an uplink and go on towards an exit, or the other way round, would go on
// with the wrong source for as long as they last: by the one way it was translated, and by the
// other it was not. And those that left by an uplink which works no more stay on it. So they
// are forgotten, and the next packet begins a new connection.

// forgetting is what is to be forgotten: the flows with a mark, of a source; the zero Prefix is
// any. Or all that were opened towards the source.
type forgetting struct {
	mark    uint32
	source  netip.Prefix
	towards bool
}

// turns reports whether packets of some source find their exit by other compiled rules or routes
// than before, and has the flows forgotten, by the next pass, that went on towards one or left
// here: they may go another way now.
func (e *egress) turns(before, after *state.Router) bool {
	if before.Version == 0 || after.Version == 0 {
		return false
	}
	sources := otherExits(before, after)
	for _, p := range sources {
		e.forgetBack(after, p)
	}
	for _, r := range []*state.Router{before, after} {
		for _, p := range sources {
			// Where nothing was known of the source: an exit whose home was told before it.
			e.pending[forgetting{source: p}] = true
			if r.Egress != nil && r.Egress.Exit != 0 {
				e.pending[forgetting{mark: r.Egress.Exit, source: p}] = true
			}
			for _, u := range r.Uplinks {
				if u.Pin != 0 {
					e.pending[forgetting{mark: u.Pin, source: p}] = true
				}
			}
		}
	}
	return len(sources) > 0
}

// forgetBack has forgotten what was opened towards a source, at routers between it and an exit.
// Where the way there is another than the way back, conntrack has only met the answers, and
// takes the source's own packets for answers to these: as such they would go back to the exit
// that it had, and leave here as they are. At home it has met both.
func (e *egress) forgetBack(r *state.Router, source netip.Prefix) {
	home := slices.ContainsFunc(r.LANs, func(l state.LAN) bool { return slices.ContainsFunc(l.Prefixes, source.Overlaps) })
	if !home {
		e.pending[forgetting{source: source, towards: true}] = true
	}
}

// otherExits returns the sources whose packets find their exit by other compiled rules and
// routes in one router than in the other, sorted.
func otherExits(a, b *state.Router) []netip.Prefix {
	was, is := exitsApplied(a), exitsApplied(b)
	var out []netip.Prefix
	for _, m := range []map[netip.Prefix][]any{was, is} {
		for p := range m {
			if !slices.Equal(was[p], is[p]) && !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	slices.SortFunc(out, state.ComparePrefixes)
	return out
}

// exitsApplied returns the rules and routes of each source.
func exitsApplied(r *state.Router) map[netip.Prefix][]any {
	out := map[netip.Prefix][]any{}
	tables := map[uint32]netip.Prefix{}
	for _, x := range r.Rules {
		if x.From.IsValid() && x.IIF == "" {
			out[x.From] = append(out[x.From], x)
			tables[x.Table] = x.From
		}
	}
	for _, x := range r.Routes {
		if p, is := tables[x.Table]; is {
			out[p] = append(out[p], x)
		}
	}
	return out
}

// turned has the flows of a source forgotten that left by the uplinks, where they go to an
// exit from now on, or the other way round. It does not wait.
func (e *egress) turned(source netip.Prefix, towards bool) {
	e.mu.Lock()
	r := e.wanted
	switch {
	case r.Egress == nil:
	case towards:
		for _, u := range r.Uplinks {
			if u.Pin != 0 {
				e.pending[forgetting{mark: u.Pin, source: source}] = true
			}
		}
	case r.Egress.Exit != 0:
		e.pending[forgetting{mark: r.Egress.Exit, source: source}] = true
		e.forgetBack(&r, source)
	}
	e.mu.Unlock()
	poke(e.wake)
}

// lose has the flows forgotten that left by an uplink, by the pass that calls it.
func (e *egress) lose(u state.Uplink) {
	if u.Pin == 0 {
		return
	}
	e.mu.Lock()
	e.pending[forgetting{mark: u.Pin}] = true
	e.mu.Unlock()
}

// answers are to flows that were forgotten: those that were on their way then make connections
// of their own.
type answers struct {
	to   []kernel.Tuple
	from time.Time
	done int // how many of answersAfter
}

// answersAfter is when they are forgotten too: most come within a round trip.
var answersAfter = []time.Duration{200 * time.Millisecond, 1500 * time.Millisecond}

// forgetAnswers forgets those whose time has come, and returns how long it is until that of
// others; 0: there are none.
func (e *egress) forgetAnswers(ctx context.Context) (next time.Duration, err error) {
	var errs []error
	e.answers = slices.DeleteFunc(e.answers, func(a answers) bool { return len(a.to) == 0 })
	for i := range e.answers {
		a := &e.answers[i]
		for a.done < len(answersAfter) && time.Since(a.from) >= answersAfter[a.done] {
			errs = append(errs, e.machine.ForgetAnswers(ctx, a.to))
			a.done++
		}
		if a.done == len(answersAfter) {
			continue
		}
		if wait := answersAfter[a.done] - time.Since(a.from); next == 0 || wait < next {
			next = wait
		}
	}
	e.answers = slices.DeleteFunc(e.answers, func(a answers) bool { return a.done == len(answersAfter) })
	return next, errors.Join(errs...)
}

// forget does what is to be forgotten. What cannot be is tried again, but where the kernel
// never can.
func (e *egress) forget(ctx context.Context, r *state.Router) error {
	if r.Egress == nil {
		return nil
	}
	e.mu.Lock()
	pending := e.pending
	e.pending = map[forgetting]bool{}
	e.mu.Unlock()
	sources := map[uint32][]netip.Prefix{}
	var back []netip.Prefix
	for f := range pending {
		if f.towards {
			back = append(back, f.source)
		} else if _, all := pending[forgetting{mark: f.mark}]; !all {
			sources[f.mark] = append(sources[f.mark], f.source)
		} else {
			sources[f.mark] = nil
		}
	}
	var errs []error
	done := func(err error, what func(forgetting) bool) {
		errs = append(errs, err)
		if err == nil || errors.Is(err, errors.ErrUnsupported) {
			return
		}
		e.mu.Lock()
		for f := range pending {
			if what(f) {
				e.pending[f] = true
			}
		}
		e.mu.Unlock()
	}
	if len(back) > 0 {
		done(e.machine.ForgetTowards(ctx, back...), func(f forgetting) bool { return f.towards })
	}
	for mark, of := range sources {
		flows, err := e.machine.ForgetFlows(ctx, mark, r.Egress.Mask, of...)
		e.answers = append(e.answers, answers{flows, time.Now(), 0})
		done(err, func(f forgetting) bool { return f.mark == mark && !f.towards })
	}
	err := errors.Join(errs...)
	if len(pending) > 0 || err != nil {
		e.problems.set("flows", err)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return nil // it is said, and does not change
	}
	return err
}
