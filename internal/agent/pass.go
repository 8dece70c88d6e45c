package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"tombolo/internal/api"
	"tombolo/internal/endpoint"
	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// take keeps what the loader found for the next pass.
func (b *base) take(l load) {
	b.resolved = l.resolved
	if b.o.Source == nil || !l.file {
		return
	}
	b.problems.set("file", l.err)
	if l.err == nil {
		b.loaded = &l
		b.forced = b.forced || l.forced
	}
}

// pass brings the router to what is applied, or to what its file wants now.
func (b *base) pass(ctx context.Context, steer bool) error {
	unlock, err := b.o.Records.Lock(ctx)
	if err != nil {
		return err // somebody changes this router: later
	}
	defer unlock()
	applied, err := b.o.Records.Applied()
	nothing := errors.Is(err, os.ErrNotExist)
	if err != nil && !nothing {
		b.problems.set("record", err)
		return err
	}
	b.problems.set("record", nil)
	if next, ok := b.due(applied, nothing); ok {
		if err := b.adopt(ctx, applied, next); err == nil {
			return nil
		} else if ctx.Err() != nil {
			return err
		}
		// What was there is kept.
	}
	if nothing {
		b.set(Wanted{}, state.Router{}, false)
		b.follow(ctx, Wanted{})
		if b.o.Source == nil && !b.o.Stay {
			return errNothing
		}
		return nil
	}
	err = b.keep(ctx, applied, steer)
	b.problems.set("apply", err)
	if err != nil && ctx.Err() == nil {
		// The speaker goes on over what there is, and a supervisor need not wait.
		b.set(applied, b.holds, false)
		b.follow(ctx, applied)
	}
	return err
}

// due returns what the file wants, if it is to take the place of what is applied.
func (b *base) due(applied Wanted, nothing bool) (Wanted, bool) {
	if b.loaded == nil {
		return Wanted{}, false
	}
	if b.o.Records.Waiting() {
		b.forced = false // who asked meant what stands there now, and that may be put back
		return Wanted{}, false
	}
	w, source := b.loaded.wanted, b.o.Source
	own := !nothing && applied.File == source.Name()
	switch {
	case b.forced, w.Digest != source.Taken():
		return w, true
	case own && applied.Digest == w.Digest && !sameRouter(w.Router, applied.Router):
		return w, true // the machine around it changed: a lease, a device
	}
	// Taken, and not in force: it is what nobody confirmed. To take it again by itself
	// would be the lock-out that was just undone.
	var held error
	if nothing || own && applied.Digest != w.Digest {
		held = fmt.Errorf("%s is not in force: it was put back, as nobody confirmed it; it is taken when it changes, or on SIGHUP", source.Name())
	}
	b.problems.set("held", held)
	b.loaded = nil
	return Wanted{}, false
}

// sameRouter compares two routers but for the addresses of endpoints, which Steer follows.
func sameRouter(a, b state.Router) bool {
	return reflect.DeepEqual(unresolved(a), unresolved(b))
}

func unresolved(r state.Router) state.Router {
	r.Interfaces = slices.Clone(r.Interfaces)
	for i, f := range r.Interfaces {
		if f.WireGuard == nil {
			continue
		}
		d := *f.WireGuard
		d.Peers = slices.Clone(d.Peers)
		for j := range d.Peers {
			if len(d.Peers[j].Endpoints) > 0 {
				d.Peers[j].Addresses = nil
			}
		}
		r.Interfaces[i].WireGuard = &d
	}
	return r
}

// adopt brings the router to what the file wants. On an error nothing was changed.
func (b *base) adopt(ctx context.Context, applied, next Wanted) error {
	last := b.steer.Last
	b.steer.Last = applied.Router
	err := b.bring(ctx, next, next.Router)
	if err == nil {
		err = b.o.Records.Remember(next)
	}
	if err == nil {
		err = b.o.Source.Take(next.Digest)
	}
	if err != nil {
		b.steer.Last = last
		b.problems.set("file", fmt.Errorf("%s was not applied: %w", b.o.Source.Name(), err))
		return err
	}
	b.problems.set("file", nil)
	b.problems.set("held", nil)
	b.loaded, b.forced, b.resolved = nil, false, state.Router{}
	b.steer = endpoint.Watch{Last: next.Router}
	b.hub.emit(api.Event{Kind: Reloaded, Text: fmt.Sprintf("%s is in force, as site %s", next.File, next.Router.Site)})
	b.follow(ctx, next)
	return nil
}

// keep brings the router to what is applied, and its endpoints to where their names lead.
func (b *base) keep(ctx context.Context, applied Wanted, steer bool) error {
	want := applied.Router
	if sameRouter(b.resolved, want) {
		want = b.resolved
	}
	if b.steer.Last.Version == 0 || !sameRouter(b.steer.Last, want) {
		b.steer = endpoint.Watch{Last: applied.Router}
	}
	if err := b.bring(ctx, applied, want); err != nil {
		return err
	}
	if steer {
		b.steer.Silent = b.silent()
		for _, op := range b.steer.Steer(b.holds, want, time.Now()) {
			if err := b.kernel.Apply(ctx, []plan.Op{op}); err != nil {
				return err
			}
			b.hub.emit(api.Event{Kind: Applied, Text: "endpoint moves: " + strings.Join(op.Commands(), "; ")})
		}
	}
	b.follow(ctx, applied)
	return nil
}

// bring makes the router hold want, which is w's router with other addresses of endpoints.
func (b *base) bring(ctx context.Context, w Wanted, want state.Router) error {
	if err := b.open(w); err != nil {
		return err
	}
	since := b.away.mark()
	have, err := b.kernel.Read(ctx, want)
	if err != nil {
		return err
	}
	have = b.away.spare(since, have, want)
	want = endpoint.Remembered(have, b.away.located(b.holds, want), want)
	p := plan.Diff(have, endpoint.Roamed(have, want, b.steer.Last, time.Now()))
	if len(p.Conflicts) > 0 {
		c := p.Conflicts[0]
		return fmt.Errorf("%s %s is in the way: %s", c.Object.Kind(), c.Object.ID(), c.Reason)
	}
	if len(p.Ops) > 0 {
		if err := b.kernel.Apply(ctx, p.Ops); err != nil {
			return err
		}
		b.changes = append(b.changes, time.Now())
		b.hub.emit(api.Event{Kind: Applied, Text: summary(p.Ops)})
		if have, err = b.kernel.Read(ctx, want); err != nil {
			return err
		}
		have = b.away.spare(since, have, want)
		if left := plan.Diff(have, endpoint.Roamed(have, want, b.steer.Last, time.Now())); !left.Roamed() {
			return fmt.Errorf("the router does not hold what was applied: %s", summary(left.Ops))
		}
	}
	b.set(w, have, len(p.Ops) > 0)
	return nil
}

// shown is how many operations a summary names.
const shown = 4

func summary(ops []plan.Op) string {
	var words []string
	for _, op := range ops[:min(shown, len(ops))] {
		words = append(words, op.String())
	}
	if more := len(ops) - len(words); more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, ", ")
}
