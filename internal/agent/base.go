package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"tombolo/internal/endpoint"
	"tombolo/internal/kernel"
	"tombolo/internal/state"
)

// Times of the base loop.
const (
	slowPass = 30 * time.Second       // endpoints, and what no event told
	quiet    = 100 * time.Millisecond // after an event, for those that follow it
	tooLong  = time.Second            // but no longer, while they go on

	backoffFirst = time.Second // after what the kernel refused
	backoffLast  = time.Minute

	// Somebody who undoes what we do, as often as we do it, gets a pass every fightPause
	// after fightRounds of them in a minute.
	fightRounds = 20
	fightPause  = 5 * time.Second
)

// base keeps what was applied. It is one goroutine; what others may see of it is under mu.
type base struct {
	o        *Options
	problems *problems
	hub      *hub
	away     *away
	follow   func(context.Context, Wanted) // what is applied now, after each pass that found it so

	heard  func(kernel.Change) bool // tells others too; true: it concerns what is applied
	silent func() map[string]bool   // tunnels at whose other end nobody is heard

	loads  <-chan load
	record chan struct{} // something else was applied
	calls  chan func(context.Context)

	kernel Kernel
	opened Wanted // what the kernel was opened for
	watch  Watcher

	loaded    *load        // the last, unless it was taken
	forced    bool         // it is to be taken whatever is applied
	resolved  state.Router // with fresh addresses of the endpoints
	steer     endpoint.Watch
	first     bool // no pass was made yet
	reloading bool // a supervisor waits for the end of a reload
	wait      time.Duration
	changes   []time.Time // of the kernel, by us, in the last minute

	mu         sync.Mutex
	current    Wanted
	holds      state.Router // as it was last read
	lastChange time.Time
}

// errNothing says that an agent that follows no file has nothing to keep.
var errNothing = errors.New("nothing is applied")

// run serves until ctx ends, or nothing is applied and there is no file to apply.
func (b *base) run(ctx context.Context) error {
	defer b.close()
	slow := time.NewTicker(slowPass)
	defer slow.Stop()
	next := time.NewTimer(0)
	defer next.Stop()
	steer := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case f := <-b.calls:
			f(ctx)
			continue
		case l := <-b.loads:
			b.take(l)
			b.reloading = b.reloading || l.forced
			steer = true
		case <-b.changed():
			if !b.listen() {
				continue
			}
			if !b.calm(ctx) {
				return nil
			}
			if b.wait > 0 {
				continue // the timer comes
			}
		case <-b.record:
		case <-slow.C:
		case <-next.C:
		}
		err := b.pass(ctx, steer)
		if steer && b.reloading {
			b.reloading = false
			b.o.Notify.ready()
		}
		steer = false
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errNothing):
			return nil
		case err != nil:
			b.wait = min(max(2*b.wait, backoffFirst), backoffLast)
			next.Reset(b.wait)
		default:
			b.wait = 0
			if b.fights() {
				next.Reset(fightPause)
				b.wait = fightPause
			}
		}
	}
}

// calm waits until no more events come; false when ctx ends.
func (b *base) calm(ctx context.Context) bool {
	end := time.After(tooLong)
	for {
		select {
		case <-ctx.Done():
			return false
		case <-end:
			return true
		case <-b.changed():
			b.listen()
		case <-time.After(quiet):
			return true
		}
	}
}

// changed has a value when others changed something; nil while nobody listens.
func (b *base) changed() <-chan struct{} {
	if b.watch == nil {
		return nil
	}
	return b.watch.Changed()
}

// listen takes what changed, and reports whether it concerns what is applied.
func (b *base) listen() bool {
	c, err := b.watch.Take()
	if err != nil { // another one is opened by the next pass
		b.close()
		c.All = true
	}
	b.problems.set("watch", err)
	return b.heard(c)
}

func (b *base) close() {
	if b.watch != nil {
		b.watch.Close()
	}
	if b.kernel != nil {
		b.kernel.Close()
	}
	b.watch, b.kernel = nil, nil
}

// fights reports whether somebody undoes all the time what we do.
func (b *base) fights() bool {
	b.changes = slices.DeleteFunc(b.changes, func(t time.Time) bool { return time.Since(t) > time.Minute })
	fighting := len(b.changes) >= fightRounds
	if fighting {
		b.problems.set("fight", errors.New("another program keeps changing what is tombolo's: `tombolo watch` shows what"))
	} else if len(b.changes) == 0 {
		b.problems.set("fight", nil)
	}
	return fighting
}

// open opens the kernel for w, again only where it must be another one.
func (b *base) open(w Wanted) error {
	same := b.opened.Router.Owner == w.Router.Owner && b.opened.Keys == w.Keys
	if b.kernel != nil && same {
		return nil
	}
	b.close()
	k, err := b.o.Machine.Kernel(w)
	if err != nil {
		return err
	}
	b.kernel, b.opened = k, w
	if b.watch, err = k.Watch(); err != nil {
		b.close()
	}
	return err
}

func (b *base) set(w Wanted, holds state.Router, changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current, b.holds = w, holds
	if changed {
		b.lastChange = time.Now()
	}
}

// now returns what is applied, and when the kernel was last changed.
func (b *base) now() (Wanted, time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current, b.lastChange
}

// load is what the loader found.
type load struct {
	file     bool // the file was looked at
	forced   bool // take it even if nothing changed
	wanted   Wanted
	err      error
	resolved state.Router // what is applied, with fresh addresses
}
