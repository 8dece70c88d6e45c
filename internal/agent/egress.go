package agent

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"sync"
	"time"

	"tombolo/internal/api"
	"tombolo/internal/health"
	"tombolo/internal/kernel"
	"tombolo/internal/state"
)

// egressLook is how often the uplinks are looked at without being told of a change.
const egressLook = 30 * time.Second

// egress keeps what follows the uplinks: their tables, the rules that lead their addresses
// there, and what new flows leave by. It is one goroutine; what others may see is under mu.
type egress struct {
	machine  *Machine
	hub      *hub
	problems *problems
	wake     chan struct{}
	asks     chan sweepRequest
	changed  func() // called when another family works, or none does any more

	mu      sync.Mutex
	wanted  state.Router
	health  map[string]health.Status // by device
	works   map[bool]bool            // by family (IPv6)
	working map[string]bool          // by device; nil before it was looked
	carries map[string]bool          // devices by which new flows leave
	pending map[forgetting]bool

	ended chan struct{} // closed when run returns

	// The goroutine's.
	ways    Ways
	owner   state.Owner // that ways was opened for
	watch   Watcher
	checks  map[string]*checking
	last    state.Router       // for which the kernel was brought last
	seen    map[string]absence // the uplinks' devices
	missing map[string]bool    // those that have just lost what they had
	answers []answers
}

// sweepRequest asks for everything to be taken away.
type sweepRequest struct{ done chan error }

func newEgress(m *Machine, h *hub, p *problems) *egress {
	return &egress{
		machine: m, hub: h, problems: p, wake: make(chan struct{}, 1), asks: make(chan sweepRequest), changed: func() {},
		health: map[string]health.Status{}, works: map[bool]bool{}, checks: map[string]*checking{}, pending: map[forgetting]bool{}, seen: map[string]absence{}, missing: map[string]bool{}, ended: make(chan struct{}),
	}
}

// follow is told what is applied.
func (e *egress) follow(w Wanted) {
	e.mu.Lock()
	same := reflect.DeepEqual(e.wanted.Uplinks, w.Router.Uplinks) && reflect.DeepEqual(e.wanted.Egress, w.Router.Egress) && e.wanted.Owner == w.Router.Owner
	same = !e.turns(&e.wanted, &w.Router) && same
	e.wanted = w.Router
	e.mu.Unlock()
	if !same {
		poke(e.wake)
	}
}

// leads reports whether any uplink works in a family.
func (e *egress) leads(six bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.works[six]
}

// uplink says of an uplink's device what is known of its way out.
func (e *egress) uplink(d api.Device) api.Uplink {
	e.mu.Lock()
	defer e.mu.Unlock()
	u := api.Uplink{Device: d, Works: e.working[d.Name], Carries: e.carries[d.Name]}
	if e.wanted.Egress == nil { // applied by a version that followed none
		u.Works = d.State == "up"
	}
	if s, checked := e.health[d.Name]; checked {
		u.Checked, u.Since, u.RTT, u.Loss = true, s.Since, s.RTT, s.Loss
	}
	return u
}

// run keeps it until ctx ends; what the kernel holds then stays.
func (e *egress) run(ctx context.Context) {
	defer close(e.ended)
	defer e.close()
	defer e.check(ctx, nil)
	tick := time.NewTicker(egressLook)
	defer tick.Stop()
	wait := time.Duration(0)
	for {
		var changed <-chan struct{}
		if e.watch != nil {
			changed = e.watch.Changed()
		}
		var again <-chan time.Time
		if wait > 0 {
			again = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case s := <-e.asks:
			s.done <- e.sweep(ctx)
			continue
		case <-e.wake:
		case <-tick.C:
		case <-again:
		case <-changed:
			if _, err := e.watch.Take(); err != nil {
				e.close()
			}
		}
		err := e.pass(ctx)
		due, also := e.forgetAnswers(ctx)
		if ctx.Err() != nil {
			return
		}
		switch err = errors.Join(err, also); {
		case err != nil:
			wait = min(max(2*wait, retryFirst), retryLast)
		case len(e.missing) > 0:
			wait = absent
		default:
			wait = 0
		}
		if due > 0 && (wait == 0 || due < wait) {
			wait = due
		}
		if err == nil || wait > time.Second {
			e.problems.set("uplinks", err)
		}
	}
}

func (e *egress) close() {
	if e.watch != nil {
		e.watch.Close()
	}
	if e.ways != nil {
		e.ways.Close()
	}
	e.watch, e.ways = nil, nil
}

// open opens the kernel for what is wanted.
func (e *egress) open(owner state.Owner) error {
	if e.ways != nil && e.owner == owner && e.watch != nil {
		return nil
	}
	e.close()
	ways, err := e.machine.Ways(owner, owner.Following())
	if err != nil {
		return err
	}
	e.ways, e.owner = ways, owner
	e.watch, err = ways.Watch()
	return err
}

// pass brings the kernel to what follows from the uplinks as they are.
func (e *egress) pass(ctx context.Context) error {
	e.mu.Lock()
	r := e.wanted
	e.mu.Unlock()
	if r.Version == 0 {
		return e.sweep(ctx)
	}
	if err := e.open(r.Owner); err != nil {
		return err
	}
	e.check(ctx, &r)
	devices, specifics := map[string]kernel.Device{}, map[string][]state.Route{}
	for _, u := range r.Uplinks {
		d, there, err := e.ways.Device(u.Device)
		if err != nil {
			return err
		}
		if !there {
			e.forgetDevice(u.Device)
			continue
		}
		s, err := e.ways.Specifics(ctx, u.Device, specificsMost)
		if err != nil {
			return err
		}
		devices[u.Device], specifics[u.Device] = e.patience(u, d, s)
	}
	e.mu.Lock()
	down := map[string]bool{}
	for d, s := range e.health {
		down[d] = !s.Up
	}
	e.mu.Unlock()
	l := layEgress(&r, devices, specifics, down)
	err := e.bring(ctx, &r, l)
	e.last = r
	e.settle(&r, l, down)
	return errors.Join(err, e.forget(ctx, &r))
}

// settle tells what is different now, and has the flows forgotten that left by an uplink that
// works no more: their source was translated to an address that others' providers do not know.
func (e *egress) settle(r *state.Router, l egressLayout, down map[string]bool) {
	working, carries := map[string]bool{}, map[string]bool{}
	several := r.Egress != nil && r.Egress.Table != 0
	for _, six := range []bool{false, true} {
		for _, u := range r.Uplinks {
			if _, there := l.defaults[defaultKey{u.Table, six}]; there && !down[u.Device] {
				working[u.Device] = true
			}
		}
		if several {
			for _, h := range l.defaults[defaultKey{r.Egress.Table, six}].Hops {
				carries[h.Device] = true
			}
		}
	}
	if !several {
		carries = working
	}
	e.mu.Lock()
	before := e.working
	other := !maps.Equal(e.works, l.works)
	e.works, e.working, e.carries = l.works, working, carries
	e.mu.Unlock()
	// While none worked, flows left by those that still do not, and would stay there.
	back := len(before) == 0 && len(working) > 0
	for _, u := range r.Uplinks {
		if several && !working[u.Device] && (before[u.Device] || back) {
			e.lose(u)
		}
		if r.Egress == nil || working[u.Device] == before[u.Device] && before != nil {
			continue
		}
		text := u.Device + " works"
		if !working[u.Device] {
			text = u.Device + " does not work"
		}
		e.hub.emit(api.Event{Kind: Uplink, Text: text, Device: u.Device})
	}
	if other {
		e.changed()
	}
}

// retire takes everything away; also where run has ended.
func (e *egress) retire(ctx context.Context) error {
	s := sweepRequest{make(chan error, 1)}
	e.mu.Lock()
	owner := e.wanted.Owner
	e.wanted = state.Router{}
	e.mu.Unlock()
	select {
	case e.asks <- s:
		return <-s.done
	case <-e.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	if owner.Protocol == 0 {
		return nil
	}
	if err := e.open(owner); err != nil {
		return err
	}
	return e.sweep(ctx)
}

// sweep removes every route and rule of the protocol.
func (e *egress) sweep(ctx context.Context) error {
	e.check(ctx, nil)
	if e.ways == nil {
		return nil
	}
	err := e.bring(ctx, &e.last, egressLayout{})
	_, also := sweep(ctx, e.ways, e.owner.Following())
	e.close()
	e.mu.Lock()
	e.working = nil
	e.mu.Unlock()
	return errors.Join(err, also)
}
