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
			delete(e.missing, u.Device)
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

// absent is how long an uplink may be without address or gateway before that counts: a DHCP
// client takes them away and puts them back when it renews a lease.
const absent = 500 * time.Millisecond

// absence is an uplink's device as it was before it lost what it had.
type absence struct {
	device    kernel.Device
	specifics []state.Route
	since     time.Time // zero: it has all
}

// patience returns an uplink's device as it is, or for a moment as it was.
func (e *egress) patience(u state.Uplink, d kernel.Device, specifics []state.Route) (kernel.Device, []state.Route) {
	before := e.seen[u.Device]
	lost := false
	for _, six := range []bool{false, true} {
		lost = lost || wayOut(u, before.device, true, six).there && !wayOut(u, d, true, six).there
	}
	if !lost || !d.Up || !d.Carrier {
		e.seen[u.Device] = absence{d, specifics, time.Time{}}
		delete(e.missing, u.Device)
		return d, specifics
	}
	if before.since.IsZero() {
		before.since = time.Now()
		e.seen[u.Device], e.missing[u.Device] = before, true
	}
	if time.Since(before.since) >= absent {
		e.seen[u.Device] = absence{d, specifics, time.Time{}}
		delete(e.missing, u.Device)
		return d, specifics
	}
	return before.device, before.specifics
}

// bring makes the kernel hold a layout, what is new before what goes. What is refused keeps
// nothing else from being done.
func (e *egress) bring(ctx context.Context, r *state.Router, l egressLayout) error {
	tables := tablesOf(r)
	for _, t := range tablesOf(&e.last) { // of an uplink that is none any more
		if !slices.Contains(tables, t) {
			tables = append(tables, t)
		}
	}
	protocol := r.Owner.Following()
	have, err := e.ways.Defaults(ctx, tables, protocol)
	if err != nil {
		return fmt.Errorf("read the uplinks' default routes: %w", err)
	}
	there := map[defaultKey]kernel.Default{}
	for _, d := range have {
		there[defaultKey{d.Table, d.IPv6}] = d
	}
	ops, err := e.ops(ctx, tables, protocol, l)
	if err != nil {
		return err
	}
	some := func(verb bool, route bool) (out []plan.Op) {
		for _, op := range ops {
			object := op.Object
			if op.Verb == plan.Remove {
				object = op.Before
			}
			if _, is := object.(plan.Route); is == route && (op.Verb == plan.Remove) != verb {
				out = append(out, op)
			}
		}
		return out
	}
	// What is near before what leads everywhere, and the other way round where it goes: nothing
	// near goes by a gateway in between.
	errs, refused := []error{e.apply(ctx, some(true, true))}, map[string]bool{}
	// The shared table last: it leaves out who is refused.
	keys := sortedDefaults(l.defaults)
	slices.SortStableFunc(keys, func(a, b defaultKey) int { return len(l.defaults[a].Hops) - len(l.defaults[b].Hops) })
	for _, k := range keys {
		want := l.defaults[k]
		if r.Egress != nil && k.table == r.Egress.Table {
			want.Hops = slices.DeleteFunc(slices.Clone(want.Hops), func(h kernel.Hop) bool { return refused[h.Device] })
		}
		if there[k].Equal(want) {
			continue
		}
		if err := e.ways.SetDefault(ctx, protocol, want); err != nil {
			errs, refused[want.Hops[0].Device] = append(errs, err), true
		}
	}
	errs = append(errs, e.apply(ctx, some(true, false)), e.apply(ctx, some(false, false)))
	for _, k := range sortedDefaults(there) {
		if _, wanted := l.defaults[k]; !wanted {
			errs = append(errs, e.ways.SetDefault(ctx, protocol, kernel.Default{Table: k.table, IPv6: k.six, Metric: there[k].Metric}))
		}
	}
	return errors.Join(append(errs, e.apply(ctx, some(false, true)))...)
}

// apply carries operations out, one by one where the kernel refuses any.
func (e *egress) apply(ctx context.Context, ops []plan.Op) error {
	if len(ops) == 0 {
		return nil
	}
	if err := e.ways.Apply(ctx, ops); err == nil || len(ops) < 2 || ctx.Err() != nil {
		return err
	}
	var errs []error
	for _, op := range ops {
		errs = append(errs, e.ways.Apply(ctx, []plan.Op{op}))
	}
	return errors.Join(errs...)
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
