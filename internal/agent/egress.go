package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"tombolo/internal/api"
	"tombolo/internal/health"
	"tombolo/internal/kernel"
	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// specificsMost is how many routes of main an uplink's table takes over.
const specificsMost = 256

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
	turn    map[uint32]bool          // marks of flows that may leave another way by what was applied

	// The goroutine's.
	ways   Ways
	owner  state.Owner // that ways was opened for
	watch  Watcher
	checks map[string]*checking
	last   state.Router // for which the kernel was brought last
}

// checking is a check that runs.
type checking struct {
	of     state.Uplink
	cancel context.CancelFunc
	done   chan struct{}
}

// sweepRequest asks for everything to be taken away.
type sweepRequest struct{ done chan error }

func newEgress(m *Machine, h *hub, p *problems) *egress {
	return &egress{
		machine: m, hub: h, problems: p, wake: make(chan struct{}, 1), asks: make(chan sweepRequest), changed: func() {},
		health: map[string]health.Status{}, works: map[bool]bool{}, checks: map[string]*checking{}, turn: map[uint32]bool{},
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
	if s, checked := e.health[d.Name]; checked {
		u.Checked, u.Since, u.RTT, u.Loss = true, s.Since, s.RTT, s.Loss
	}
	return u
}

// run keeps it until ctx ends; what the kernel holds then stays.
func (e *egress) run(ctx context.Context) {
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
		var retry <-chan time.Time
		if wait > 0 {
			retry = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case s := <-e.asks:
			s.done <- e.sweep(ctx)
			continue
		case <-e.wake:
		case <-tick.C:
		case <-retry:
		case <-changed:
			if _, err := e.watch.Take(); err != nil {
				e.close()
			}
		}
		err := e.pass(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			wait = 0
		} else {
			wait = min(max(2*wait, retryFirst), retryLast)
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
			continue
		}
		devices[u.Device] = d
		if specifics[u.Device], err = e.ways.Specifics(ctx, u.Device, specificsMost); err != nil {
			return err
		}
	}
	e.mu.Lock()
	down := map[string]bool{}
	for d, s := range e.health {
		down[d] = !s.Up
	}
	e.mu.Unlock()
	l := layEgress(&r, devices, specifics, down)
	if err := e.bring(ctx, &r, l); err != nil {
		return err
	}
	e.last = r
	e.settle(ctx, &r, l)
	e.forgetTurned(ctx, &r)
	return nil
}

// bring makes the kernel hold a layout, what is new before what goes.
func (e *egress) bring(ctx context.Context, r *state.Router, l egressLayout) error {
	tables := tablesOf(r)
	protocol := r.Owner.Following()
	have, err := e.ways.Defaults(ctx, tables, protocol)
	if err != nil {
		return fmt.Errorf("read the uplinks' default routes: %w", err)
	}
	there := map[defaultKey]kernel.Default{}
	for _, d := range have {
		there[defaultKey{d.Table, d.IPv6}] = d
	}
	for _, k := range sortedDefaults(l.defaults) {
		if !there[k].Equal(l.defaults[k]) {
			if err := e.ways.SetDefault(ctx, protocol, l.defaults[k]); err != nil {
				return err
			}
		}
	}
	ops, err := e.ops(ctx, tables, protocol, l)
	if err != nil {
		return err
	}
	if err := e.ways.Apply(ctx, ops); err != nil {
		return err
	}
	for _, k := range sortedDefaults(there) {
		if _, wanted := l.defaults[k]; !wanted {
			if err := e.ways.SetDefault(ctx, protocol, kernel.Default{Table: k.table, IPv6: k.six, Metric: there[k].Metric}); err != nil {
				return err
			}
		}
	}
	return nil
}

// ops returns what is to be done about the subnets' routes, and the rules.
func (e *egress) ops(ctx context.Context, tables []uint32, protocol uint8, l egressLayout) ([]plan.Op, error) {
	routes, err := e.ways.Routes(ctx, tables, protocol)
	if err != nil && len(tables) > 0 {
		return nil, fmt.Errorf("read the uplinks' routes: %w", err)
	}
	rules, err := e.ways.Rules(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the uplinks' rules: %w", err)
	}
	var ops, removals []plan.Op
	here := map[state.RouteKey]state.Route{}
	for _, r := range routes {
		if r.Dst.Bits() == 0 {
			continue
		}
		here[r.Key()] = r
		if _, wanted := l.routes[r.Key()]; !wanted {
			removals = append(removals, plan.Op{Verb: plan.Remove, Before: plan.Route{Route: r}})
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(l.routes), compareKeys) {
		want := l.routes[k]
		switch old, met := here[k]; {
		case !met:
			ops = append(ops, plan.Op{Verb: plan.Add, Object: plan.Route{Route: want}})
		case old != want:
			ops = append(ops, plan.Op{Verb: plan.Change, Object: plan.Route{Route: want}, Before: plan.Route{Route: old}})
		}
	}
	known := map[state.Rule]bool{}
	for _, r := range rules {
		known[r] = true
		if !l.rules[r] {
			removals = append(removals, plan.Op{Verb: plan.Remove, Before: plan.Rule{Rule: r}})
		}
	}
	for _, r := range slices.SortedFunc(maps.Keys(l.rules), state.CompareRules) {
		if !known[r] {
			ops = append(ops, plan.Op{Verb: plan.Add, Object: plan.Rule{Rule: r}})
		}
	}
	return append(ops, removals...), nil
}

// settle tells what is different now, and forgets the flows that left by an uplink that works
// no more: their source was translated to an address that others' providers do not know.
func (e *egress) settle(ctx context.Context, r *state.Router, l egressLayout) {
	working, carries := map[string]bool{}, map[string]bool{}
	several := false
	for _, six := range []bool{false, true} {
		for _, u := range r.Uplinks {
			if _, there := l.defaults[defaultKey{u.Table, six}]; there && !e.unwell(u.Device) {
				working[u.Device] = true
			}
		}
		if r.Egress != nil && r.Egress.Table != 0 {
			several = true
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
		if working[u.Device] == before[u.Device] && before != nil {
			if back && u.Pin != 0 && several {
				e.problems.set("flows", e.machine.ForgetFlows(ctx, u.Pin, r.Egress.Mask))
			}
			continue
		}
		text := u.Device + " works"
		if !working[u.Device] {
			text = u.Device + " does not work"
			if u.Pin != 0 && several {
				e.problems.set("flows", e.machine.ForgetFlows(ctx, u.Pin, r.Egress.Mask))
			}
		}
		e.hub.emit(api.Event{Kind: Uplink, Text: text, Device: u.Device})
	}
	if other {
		e.changed()
	}
}

func (e *egress) unwell(device string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, checked := e.health[device]
	return checked && !s.Up
}

// check starts and ends checks, so that there are those of r; none where it is nil.
func (e *egress) check(ctx context.Context, r *state.Router) {
	wanted := map[string]state.Uplink{}
	if r != nil && r.Egress != nil {
		for _, u := range r.Uplinks {
			if u.Check != nil {
				wanted[u.Device] = u
			}
		}
	}
	for device, c := range e.checks {
		if u, still := wanted[device]; still && u.Mark == c.of.Mark && reflect.DeepEqual(u.Check, c.of.Check) {
			continue
		}
		c.cancel()
		<-c.done
		delete(e.checks, device)
		e.mu.Lock()
		delete(e.health, device)
		e.mu.Unlock()
	}
	for device, u := range wanted {
		if e.checks[device] != nil {
			continue
		}
		c := &checking{of: u, done: make(chan struct{})}
		var life context.Context
		life, c.cancel = context.WithCancel(ctx)
		e.checks[device] = c
		go func() {
			defer close(c.done)
			e.machine.Check(life, *u.Check, device, u.Mark, func(s health.Status) { e.heard(device, s) })
		}()
	}
}

// heard takes what a check says.
func (e *egress) heard(device string, s health.Status) {
	e.mu.Lock()
	was, known := e.health[device]
	e.health[device] = s
	e.mu.Unlock()
	if !known || was.Up != s.Up {
		poke(e.wake)
	}
}

// retire takes everything away, while run serves.
func (e *egress) retire(ctx context.Context) error {
	s := sweepRequest{make(chan error, 1)}
	e.mu.Lock()
	e.wanted = state.Router{}
	e.mu.Unlock()
	select {
	case e.asks <- s:
		return <-s.done
	case <-ctx.Done():
		return ctx.Err()
	}
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

// tablesOf returns the tables that follow a router's uplinks.
func tablesOf(r *state.Router) []uint32 {
	var out []uint32
	if r.Egress == nil {
		return nil
	}
	if r.Egress.Table != 0 {
		out = append(out, r.Egress.Table)
	}
	for _, u := range r.Uplinks {
		if u.Table != 0 {
			out = append(out, u.Table)
		}
	}
	return out
}

func sortedDefaults(m map[defaultKey]kernel.Default) []defaultKey {
	return slices.SortedFunc(maps.Keys(m), func(a, b defaultKey) int {
		if a.table != b.table {
			return int(a.table) - int(b.table)
		}
		if a.six == b.six {
			return 0
		}
		if b.six {
			return -1
		}
		return 1
	})
}
