package agent

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tombolo/internal/babel"
	"tombolo/internal/kernel"
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
	report func(error)              // nil: all is well
	turned func(netip.Prefix, bool) // packets of a source that may leave here now go to an exit; false: they leave here. It does not wait

	mu       sync.Mutex
	want     map[state.RouteKey]state.Route
	specific sources
	dropped  map[babel.Key]bool // taken back by the speaker before it settled
	dirty    map[state.RouteKey]bool
	left     map[uint32]bool // tables of exits that are none any more, or others'
	stale    bool            // the kernel may hold something else than have says
	settled  bool
	local    map[uint32]netip.Prefix // tables of exits without which packets of a source leave by an uplink
	wake     chan struct{}

	// The goroutine's: what the kernel holds.
	have  map[state.RouteKey]state.Route
	rules map[state.Rule]bool
	leads map[uint32]bool // local tables that had a way when it was last looked
}

// newTable returns a table that knows nothing yet of what the kernel holds.
func newTable(config state.Babel, k RouteTable, report func(error)) *table {
	return &table{
		config: config, kernel: k, report: report, turned: func(netip.Prefix, bool) {},
		want: map[state.RouteKey]state.Route{}, specific: newSources(config),
		dropped: map[babel.Key]bool{}, dirty: map[state.RouteKey]bool{}, left: map[uint32]bool{},
		stale: true, wake: make(chan struct{}, 1),
	}
}

// inherit returns the hops that an earlier agent learned, and that the speaker may keep. It is
// called before run, if at all.
func (t *table) inherit(ctx context.Context) []babel.RouteChange {
	rules, err := t.kernel.Rules(ctx)
	if err != nil {
		return nil // run will say so
	}
	tables := t.tables(rules)
	routes, err := t.kernel.Routes(ctx, tables, t.config.Protocol)
	if err != nil {
		return nil
	}
	var out []babel.RouteChange
	for _, r := range routes {
		k := babel.Key{Dst: r.Dst, Src: cmp.Or(r.Src, t.specific.sourceOf(r.Table))}
		if r.Type != state.Unicast || r.Metric != learnedMetric || r.Table != t.config.Table && !k.Src.IsValid() {
			continue
		}
		if t.specific.ends(r.Table) && t.specific.at(k) != r.Key() {
			continue // no default route
		}
		out = append(out, babel.RouteChange{Key: k, Hop: &babel.Hop{Link: r.Device}})
	}
	return out
}

// lead says where the default routes of exits' sources go from now on. What a table had, it has
// until others have it (see ops).
func (t *table) lead(exits []state.ExitTable) {
	next, local := exitsOf(exits), map[uint32]netip.Prefix{}
	for _, e := range exits {
		if e.Local {
			local[e.Table] = cmp.Or(e.Inside, e.Src)
		}
	}
	t.mu.Lock()
	t.local = local
	changed := !maps.Equal(t.specific.exits, next)
	if changed {
		for _, table := range t.specific.exits {
			t.left[table] = true
		}
		t.specific.exits, t.specific.changed = next, true
		t.stale = true // there may be something in the new ones
	}
	t.mu.Unlock()
	if changed {
		t.poke()
	}
}

// tables returns where learned routes may lie; rules are those that are there.
func (t *table) tables(rules []state.Rule) []uint32 {
	all := append([]uint32{t.config.Table}, t.specific.found(rules, t.settled)...)
	all = slices.AppendSeq(all, maps.Values(t.specific.exits))
	all = slices.AppendSeq(all, maps.Keys(t.left))
	slices.Sort(all)
	return slices.Compact(all)
}

// beside says which compiled routes the router holds.
func (t *table) beside(compiled []state.Route) {
	t.mu.Lock()
	changed := !slices.Equal(t.specific.compiled, compiled)
	t.specific.compiled, t.specific.changed = compiled, t.specific.changed || changed
	t.mu.Unlock()
	if changed {
		t.poke()
	}
}

// put says what is to be there now.
func (t *table) put(changes []babel.RouteChange, config *state.Babel) {
	if len(changes) == 0 {
		return
	}
	t.mu.Lock()
	for _, c := range changes {
		r, wanted := routeOf(config, c)
		if wanted {
			delete(t.dropped, c.Key)
		} else if !t.settled {
			t.dropped[c.Key] = true
		}
		t.specific.put(c.Key, r, wanted)
		if !ofAll(c.Key) {
			t.dirty[t.specific.at(c.Key)] = true
			continue
		}
		at := state.RouteKey{Table: t.config.Table, Dst: c.Dst, Src: c.Src, Metric: learnedMetric}
		t.dirty[at] = true
		if t.want[at] = r; !wanted {
			delete(t.want, at)
		}
	}
	t.mu.Unlock()
	t.poke()
}

// routeOf returns the kernel's route for a change; false where there is to be none. Where
// it is not ofAll, its place is still to be found.
func routeOf(config *state.Babel, c babel.RouteChange) (state.Route, bool) {
	if c.Hop == nil {
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
	if !tunnel && c.Hop.NextHop.IsValid() { // a roaming device, at whose interface nobody speaks, has none
		r.Gateway, r.OnLink = c.Hop.NextHop, true
	}
	if r.PrefSrc = config.PrefSrc4; c.Dst.Addr().Is6() {
		r.PrefSrc = config.PrefSrc6
	}
	return r, true
}

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
	for _, r := range t.specific.routes {
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
			t.report(errors.Join(err, t.excess()))
		}
	}
}

// excess says which routes have no place. Nothing but a change of theirs mends that.
func (t *table) excess() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.specific.excess
}

// shaken reports whether after a change the kernel may hold other routes than before: when
// a device goes down or loses an address, it drops routes of IPv4 without a word.
func (t *table) shaken(c kernel.Change) bool {
	used := map[string]bool{}
	t.mu.Lock()
	for _, r := range t.want {
		used[r.Device] = true
	}
	for _, r := range t.specific.routes {
		used[r.Device] = true
	}
	t.mu.Unlock()
	for _, r := range t.have {
		used[r.Device] = true
	}
	ours := func(device string) bool { return used[device] }
	return c.All || c.Rules || slices.ContainsFunc(c.Addresses, ours) ||
		slices.ContainsFunc(c.Routes, func(s kernel.RouteSource) bool { return s.Protocol == t.config.Protocol }) ||
		slices.ContainsFunc(c.Links, func(l kernel.LinkState) bool { return ours(l.Name) })
}
