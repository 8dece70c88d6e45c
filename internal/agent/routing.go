package agent

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"tombolo/internal/babel"
	"tombolo/internal/state"
)

// routing is the speaker's host and the table of what it learned, while there is something
// to route. Its methods but host and routes are the base loop's.
type routing struct {
	machine  *Machine
	hub      *hub
	problems *problems
	start    time.Time

	displaced func(map[uint64]displacement) // of the hosts
	turned    func(netip.Prefix, bool)      // of the table

	owner   state.Owner
	config  state.Babel // of table
	cancel  context.CancelFunc
	running sync.WaitGroup
	swept   map[uint8]bool // protocols of which no route was left when it was last looked

	inherited []babel.RouteChange // until there is a host

	mu    sync.Mutex
	table *table
	h     *host
}

func newRouting(m *Machine, h *hub, p *problems, start time.Time) *routing {
	return &routing{machine: m, hub: h, problems: p, start: start, swept: map[uint8]bool{}, displaced: func(map[uint64]displacement) {}, turned: func(netip.Prefix, bool) {}}
}

// follow makes the routing what w says.
func (r *routing) follow(ctx context.Context, w Wanted) {
	b := w.Router.Babel
	if r.table != nil && (b == nil || w.Router.Owner != r.owner || b.Table != r.config.Table ||
		b.Protocol != r.config.Protocol || b.Site != r.config.Site || b.Sources != r.config.Sources) {
		r.problems.set("routing", r.retire(ctx))
	}
	if b == nil {
		if o := w.Router.Owner; o.Protocol != 0 && !r.swept[o.Learned()] { // what an earlier agent learned
			err := r.sweep(ctx, o, o.Learned())
			r.problems.set("routing", err)
			r.swept[o.Learned()] = err == nil
		}
		return
	}
	err := r.run(ctx, w)
	r.problems.set("routing", err)
}

// run starts what does not run yet, and tells the host what is applied.
func (r *routing) run(ctx context.Context, w Wanted) error {
	b := w.Router.Babel
	if r.table == nil {
		k, err := r.machine.Table(w.Router.Owner, b.Protocol)
		if err != nil {
			return err
		}
		r.owner, r.config, r.swept[b.Protocol] = w.Router.Owner, *b, false
		t := newTable(*b, k, func(err error) { r.problems.set("learned", err) })
		t.turned = r.turned
		r.inherited = t.inherit(ctx)
		ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
		r.running.Go(func() {
			defer k.Close()
			t.run(ctx)
		})
		r.mu.Lock()
		r.table = t
		r.mu.Unlock()
	}
	r.table.lead(b.Exits)
	if r.h != nil {
		return r.h.configure(ctx, w)
	}
	socket, err := r.machine.Socket(r.start)
	if err != nil {
		return fmt.Errorf("no routes are learned: %w", err)
	}
	h, err := newHost(r.machine, socket, r.table, r.hub, r.problems, r.start, w)
	if err != nil {
		_ = socket.Close()
		return err
	}
	h.displaced = r.displaced
	h.inherit(r.inherited)
	r.inherited = nil
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	end := r.cancel
	r.cancel = func() { cancel(); end() }
	r.running.Go(func() { h.run(life) })
	r.mu.Lock()
	r.h = h
	r.mu.Unlock()
	return nil
}

// stop ends it and leaves the learned routes.
func (r *routing) stop() {
	if r.cancel != nil {
		r.cancel()
		r.running.Wait()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.table, r.h, r.cancel = nil, nil, nil
}

// retire says goodbye to the neighbours, ends, and takes the learned routes away.
func (r *routing) retire(ctx context.Context) error {
	if r.table == nil {
		return nil
	}
	if r.h != nil {
		r.h.retract(ctx)
	}
	owner, protocol := r.owner, r.config.Protocol
	r.stop()
	return r.sweep(ctx, owner, protocol)
}

func (r *routing) sweep(ctx context.Context, owner state.Owner, protocol uint8) error {
	k, err := r.machine.Table(owner, protocol)
	if err != nil {
		return err
	}
	defer k.Close()
	_, err = sweep(ctx, k, protocol)
	return err
}

// host returns the speaker's host; nil while there is none.
func (r *routing) host() *host {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.h
}

// routes returns how many routes are learned, and how many by each device.
func (r *routing) routes() (int, map[string]int) {
	r.mu.Lock()
	t := r.table
	r.mu.Unlock()
	if t == nil {
		return 0, nil
	}
	return t.routes()
}
