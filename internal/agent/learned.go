package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"tombolo/internal/babel"
	"tombolo/internal/kernel"
	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// learnedMetric is the metric of learned routes. One that is compiled has 0 (in IPv6 1024)
// and goes before: so no learned route stands in its way while a network changes from
// one kind of routing to the other.
const learnedMetric = 2048

const (
	// settleTime is how long routes that an earlier agent learned are kept although the
	// speaker has not learned them yet.
	settleTime = 5 * time.Second

	retryFirst = 100 * time.Millisecond // after a refusal; doubled at each
	retryLast  = 10 * time.Second
)

// table keeps the learned routes in the kernel. The speaker's host says what is to be
// there, without ever waiting; one goroutine makes it so.
type table struct {
	config state.Babel
	kernel RouteTable
	report func(error) // nil: all is well

	mu      sync.Mutex
	want    map[babel.Key]state.Route
	dropped map[babel.Key]bool // taken back by the speaker before it settled
	dirty   map[babel.Key]bool
	stale   bool // the kernel may hold something else than have says
	settled bool
	wake    chan struct{}

	have map[babel.Key]state.Route // the goroutine's: what the kernel holds
}

// newTable returns a table that knows nothing yet of what the kernel holds.
func newTable(config state.Babel, k RouteTable, report func(error)) *table {
	return &table{
		config: config, kernel: k, report: report,
		want: map[babel.Key]state.Route{}, dropped: map[babel.Key]bool{}, dirty: map[babel.Key]bool{},
		stale: true, wake: make(chan struct{}, 1),
	}
}

// put says what is to be there now.
func (t *table) put(changes []babel.RouteChange, config *state.Babel) {
	if len(changes) == 0 {
		return
	}
	t.mu.Lock()
	for _, c := range changes {
		t.dirty[c.Key] = true
		if r, ok := routeOf(config, c); ok {
			t.want[c.Key] = r
			delete(t.dropped, c.Key)
			continue
		}
		delete(t.want, c.Key)
		if !t.settled {
			t.dropped[c.Key] = true
		}
	}
	t.mu.Unlock()
	t.poke()
}

// routeOf returns the kernel's route for a change; false where there is to be none.
func routeOf(config *state.Babel, c babel.RouteChange) (state.Route, bool) {
	// IPv4 has no source-specific routes: they will be rules and tables of their own.
	if c.Hop == nil || c.Src.IsValid() && c.Dst.Addr().Is4() {
		return state.Route{}, false
	}
	r := state.Route{
		Table: config.Table, Dst: c.Dst, Src: c.Src, Metric: learnedMetric,
		Type: state.Unicast, Protocol: config.Protocol,
	}
	if c.Hop.Unreachable {
		r.Type = state.Unreachable
		return r, true
	}
	r.Device = c.Hop.Link
	tunnel := slices.ContainsFunc(config.Links, func(l state.BabelLink) bool { return l.Device == r.Device && l.Tunnel })
	if !tunnel {
		r.Gateway, r.OnLink = c.Hop.NextHop, true
	}
	if r.PrefSrc = config.PrefSrc4; c.Dst.Addr().Is6() {
		r.PrefSrc = config.PrefSrc6
	}
	return r, true
}

func keyOf(r state.Route) babel.Key { return babel.Key{Dst: r.Dst, Src: r.Src} }

// suspect says that somebody changed the kernel's routes, or a device took them along.
func (t *table) suspect() {
	t.mu.Lock()
	t.stale = true
	t.mu.Unlock()
}

func (t *table) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// routes returns how many are wanted by each device.
func (t *table) routes() (total int, byDevice map[string]int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	byDevice = map[string]int{}
	for _, r := range t.want {
		if r.Type == state.Unicast {
			byDevice[r.Device]++
			total++
		}
	}
	return total, byDevice
}

// run serves the table until ctx ends; what the kernel holds then stays.
func (t *table) run(ctx context.Context) {
	settle := time.NewTimer(settleTime)
	defer settle.Stop()
	wait := time.Duration(0)
	var watch Watcher
	defer func() {
		if watch != nil {
			watch.Close()
		}
	}()
	for {
		var changed <-chan struct{}
		if watch != nil {
			changed = watch.Changed()
		} else if w, err := t.kernel.Watch(); err == nil {
			watch, changed = w, w.Changed()
		} else {
			t.report(err)
		}
		var retry <-chan time.Time
		if wait > 0 {
			retry = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-settle.C:
			t.mu.Lock()
			t.settled, t.stale = true, true
			t.mu.Unlock()
		case <-t.wake:
		case <-retry:
			t.suspect()
		case <-changed:
			c, err := watch.Take()
			if err != nil {
				watch.Close()
				watch, c.All = nil, true
			}
			if !t.shaken(c) {
				continue
			}
			t.suspect()
		}
		err := t.write(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			wait = 0
		} else {
			wait = min(max(2*wait, retryFirst), retryLast)
		}
		// A device that goes is refused once or twice before the speaker knows: that is
		// no problem yet.
		if err == nil || wait > time.Second {
			t.report(err)
		}
	}
}

// shaken reports whether after a change the kernel may hold other routes than before: when
// a device goes down or loses an address, it drops routes of IPv4 without a word.
func (t *table) shaken(c kernel.Change) bool {
	used := map[string]bool{}
	t.mu.Lock()
	for _, r := range t.want {
		used[r.Device] = true
	}
	t.mu.Unlock()
	for _, r := range t.have {
		used[r.Device] = true
	}
	ours := func(device string) bool { return used[device] }
	return c.All || slices.ContainsFunc(c.Addresses, ours) ||
		slices.ContainsFunc(c.Routes, func(s kernel.RouteSource) bool { return s.Protocol == t.config.Protocol }) ||
		slices.ContainsFunc(c.Links, func(l kernel.LinkState) bool { return ours(l.Name) })
}

// write brings the kernel to what is wanted.
func (t *table) write(ctx context.Context) error {
	t.mu.Lock()
	stale := t.stale || t.have == nil
	t.stale = false
	t.mu.Unlock()
	if stale {
		routes, err := t.kernel.Routes(ctx, []uint32{t.config.Table}, t.config.Protocol)
		if err != nil {
			t.have = nil
			return fmt.Errorf("read learned routes: %w", err)
		}
		t.have = make(map[babel.Key]state.Route, len(routes))
		var twice []plan.Op
		for _, r := range routes {
			// Of two with one key, which only another program can have made, one goes.
			if _, ok := t.have[keyOf(r)]; ok || r.Metric != learnedMetric {
				twice = append(twice, plan.Op{Verb: plan.Remove, Before: plan.Route{Route: r}})
				continue
			}
			t.have[keyOf(r)] = r
		}
		if err := t.kernel.Apply(ctx, twice); err != nil {
			return err
		}
	}
	return t.apply(ctx, t.ops(stale))
}

// ops returns what is to be done, and forgets what was dirty. all looks at every route and
// not only at those that changed.
func (t *table) ops(all bool) []plan.Op {
	t.mu.Lock()
	defer t.mu.Unlock()
	keys := t.dirty
	t.dirty = map[babel.Key]bool{}
	if all {
		for k := range t.want {
			keys[k] = true
		}
		for k := range t.have {
			if t.settled || t.dropped[k] {
				keys[k] = true
			}
		}
	}
	if t.settled {
		t.dropped = map[babel.Key]bool{}
	}
	var ops, removals []plan.Op
	for _, k := range slices.SortedFunc(maps.Keys(keys), compareKeys) {
		want, wanted := t.want[k]
		have, there := t.have[k]
		switch {
		case wanted && there && want != have:
			ops = append(ops, plan.Op{Verb: plan.Change, Object: plan.Route{Route: want}, Before: plan.Route{Route: have}})
		case wanted && !there:
			ops = append(ops, plan.Op{Verb: plan.Add, Object: plan.Route{Route: want}})
		case !wanted && there:
			removals = append(removals, plan.Op{Verb: plan.Remove, Before: plan.Route{Route: have}})
		}
	}
	return append(ops, removals...) // a packet that loses one way finds the other
}

func compareKeys(a, b babel.Key) int {
	if c := state.ComparePrefixes(a.Dst, b.Dst); c != 0 {
		return c
	}
	return state.ComparePrefixes(a.Src, b.Src)
}

// apply carries operations out. One that is refused does not keep the others from being
// done; the table is then distrusted, and the error says what was refused.
func (t *table) apply(ctx context.Context, ops []plan.Op) error {
	var refused []string
	for len(ops) > 0 {
		err := t.kernel.Apply(ctx, ops)
		if err == nil {
			break
		}
		var failed *kernel.ApplyError
		if !errors.As(err, &failed) {
			t.have = nil
			return err
		}
		refused = append(refused, fmt.Sprintf("%s: %v", failed.Op, failed.Err))
		rest := slices.DeleteFunc(slices.Clone(ops), func(op plan.Op) bool { return op == failed.Op })
		if len(rest) == len(ops) {
			t.have = nil
			return err
		}
		ops = rest
	}
	for _, op := range ops {
		if op.Verb == plan.Remove {
			delete(t.have, keyOf(op.Before.(plan.Route).Route))
		} else {
			r := op.Object.(plan.Route).Route
			t.have[keyOf(r)] = r
		}
	}
	if len(refused) > 0 {
		t.have = nil
		return fmt.Errorf("learned route refused: %s", strings.Join(refused[:min(len(refused), 3)], "; "))
	}
	return nil
}

// sweep removes every route of the protocol, for when there is to be no speaker any more.
func sweep(ctx context.Context, k RouteTable, protocol uint8, tables []uint32) (int, error) {
	routes, err := k.Routes(ctx, tables, protocol)
	if err != nil {
		return 0, fmt.Errorf("read learned routes: %w", err)
	}
	var ops []plan.Op
	for _, r := range routes {
		ops = append(ops, plan.Op{Verb: plan.Remove, Before: plan.Route{Route: r}})
	}
	return len(ops), k.Apply(ctx, ops)
}
