package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"tombolo/internal/babel"
	"tombolo/internal/kernel"
	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// write brings the kernel to what is wanted.
func (t *table) write(ctx context.Context) error {
	t.mu.Lock()
	stale := t.stale || t.have == nil
	t.stale = false
	t.mu.Unlock()
	if stale {
		if err := t.read(ctx); err != nil {
			t.have = nil
			return err
		}
	}
	ops := t.ops(stale)
	if len(ops) > 0 && t.excess() != nil {
		t.poke() // what these free may be a place for it
	}
	return t.apply(ctx, ops)
}

// read finds out what the kernel holds.
func (t *table) read(ctx context.Context) error {
	rules, err := t.kernel.Rules(ctx)
	if err != nil {
		return fmt.Errorf("read learned rules: %w", err)
	}
	t.mu.Lock()
	tables := t.tables(rules)
	t.mu.Unlock()
	routes, err := t.kernel.Routes(ctx, tables, t.config.Protocol)
	if err != nil {
		return fmt.Errorf("read learned routes: %w", err)
	}
	t.have, t.rules = make(map[state.RouteKey]state.Route, len(routes)), map[state.Rule]bool{}
	for _, r := range rules {
		t.rules[r] = true
	}
	var twice []plan.Op
	for _, r := range routes {
		// Of two with one key, which only another program can have made, one goes.
		if _, ok := t.have[r.Key()]; ok || r.Metric != learnedMetric {
			twice = append(twice, plan.Op{Verb: plan.Remove, Before: plan.Route{Route: r}})
			continue
		}
		t.have[r.Key()] = r
	}
	return t.kernel.Apply(ctx, twice)
}

// ops returns what is to be done, and forgets what was dirty. all looks at everything and
// not only at what changed.
func (t *table) ops(all bool) []plan.Op {
	t.mu.Lock()
	defer t.mu.Unlock()
	dirty := t.dirty
	t.dirty = map[state.RouteKey]bool{}
	t.specific.lay(t.want, t.have, t.rules, dirty)
	if all {
		for k := range t.want {
			dirty[k] = true
		}
		for k := range t.specific.placed {
			dirty[k] = true
		}
		for k := range t.have {
			if t.settled || t.dropped[babel.Key{Dst: k.Dst, Src: cmp.Or(k.Src, t.specific.sourceOf(k.Table))}] {
				dirty[k] = true
			}
		}
	}
	if t.settled {
		t.dropped = map[babel.Key]bool{}
	}
	var ops, removals []plan.Op
	for _, k := range slices.SortedFunc(maps.Keys(dirty), compareKeys) {
		want, wanted := t.want[k]
		if !wanted {
			want, wanted = t.specific.placed[k]
		}
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
	// No rule leads to a table before all is in it, nor after something has left it.
	return slices.Concat(throwsFirst(ops), t.specific.ruleOps(t.rules, t.settled), removals)
}

// throwsFirst has what a wider route must not swallow stand before it.
func throwsFirst(ops []plan.Op) []plan.Op {
	slices.SortStableFunc(ops, func(a, b plan.Op) int {
		throws := func(op plan.Op) int {
			if op.Object.(plan.Route).Type == state.Throw {
				return 0
			}
			return 1
		}
		return throws(a) - throws(b)
	})
	return ops
}

func compareKeys(a, b state.RouteKey) int {
	return cmp.Or(
		cmp.Compare(a.Table, b.Table), state.ComparePrefixes(a.Dst, b.Dst), state.ComparePrefixes(a.Src, b.Src),
	)
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
		switch o := op.Object.(type) {
		case plan.Route:
			t.have[o.Key()] = o.Route
		case plan.Rule:
			t.rules[o.Rule] = true
		}
		if op.Verb == plan.Remove {
			switch o := op.Before.(type) {
			case plan.Route:
				delete(t.have, o.Key())
			case plan.Rule:
				delete(t.rules, o.Rule)
			}
		}
	}
	t.tell()
	if len(refused) > 0 {
		t.have = nil
		return fmt.Errorf("learned route refused: %s", strings.Join(refused[:min(len(refused), 3)], "; "))
	}
	return nil
}

// tell says whose packets leave by another way than before: here, or by an exit.
func (t *table) tell() {
	if t.have == nil {
		return
	}
	t.mu.Lock()
	local := t.local
	t.mu.Unlock()
	leads := map[uint32]bool{}
	for table := range local {
		leads[table] = false
	}
	for k, r := range t.have {
		if _, is := local[k.Table]; is && k.Dst.Bits() == 0 && r.Type == state.Unicast {
			leads[k.Table] = true
		}
	}
	for table, source := range local {
		was, known := t.leads[table]
		if known && was != leads[table] {
			t.turned(source, leads[table])
		}
	}
	t.leads = leads
}

// sweep removes every route and rule of the protocol, for when there is to be no speaker
// any more.
func sweep(ctx context.Context, k RouteTable, protocol uint8) (int, error) {
	rules, err := k.Rules(ctx)
	if err != nil {
		return 0, fmt.Errorf("read learned rules: %w", err)
	}
	routes, err := k.Routes(ctx, nil, protocol)
	if err != nil {
		return 0, fmt.Errorf("read learned routes: %w", err)
	}
	var ops []plan.Op
	for _, r := range rules {
		ops = append(ops, plan.Op{Verb: plan.Remove, Before: plan.Rule{Rule: r}})
	}
	for _, r := range routes {
		ops = append(ops, plan.Op{Verb: plan.Remove, Before: plan.Route{Route: r}})
	}
	return len(ops), k.Apply(ctx, ops)
}
