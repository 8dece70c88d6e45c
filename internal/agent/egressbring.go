package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"tombolo/internal/kernel"
	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// specificsMost is how many routes of main an uplink's table takes over.
const specificsMost = 256

// egressSteps are what is to be done beside default routes. What is near, the routes to
// subnets, comes before a default in the same table and goes after it: in between it would go
// by the gateway. A rule comes after what it leads to and goes before it.
type egressSteps struct {
	near, rules       []plan.Op
	oldRules, oldNear []plan.Op
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
	steps, err := e.steps(ctx, tables, protocol, l)
	if err != nil {
		return err
	}
	return errors.Join(
		e.apply(ctx, steps.near),
		e.setDefaults(ctx, r, l, there),
		e.apply(ctx, steps.rules),
		e.apply(ctx, steps.oldRules),
		e.dropDefaults(ctx, protocol, l, there),
		e.apply(ctx, steps.oldNear),
	)
}

// setDefaults sets the default routes that are not there as they should be. That of all
// uplinks leaves out whose own was refused.
func (e *egress) setDefaults(ctx context.Context, r *state.Router, l egressLayout, there map[defaultKey]kernel.Default) error {
	var errs []error
	refused := map[string]bool{}
	set := func(d kernel.Default) {
		if there[defaultKey{d.Table, d.IPv6}].Equal(d) {
			return
		}
		if err := e.ways.SetDefault(ctx, r.Owner.Following(), d); err != nil {
			errs = append(errs, err)
			for _, h := range d.Hops {
				refused[h.Device] = true
			}
		}
	}
	var shared []kernel.Default
	for _, k := range sortedDefaults(l.defaults) {
		if r.Egress != nil && k.table == r.Egress.Table {
			shared = append(shared, l.defaults[k])
			continue
		}
		set(l.defaults[k])
	}
	for _, d := range shared {
		d.Hops = slices.DeleteFunc(slices.Clone(d.Hops), func(h kernel.Hop) bool { return refused[h.Device] })
		set(d)
	}
	return errors.Join(errs...)
}

// dropDefaults removes the default routes that are not wanted.
func (e *egress) dropDefaults(ctx context.Context, protocol uint8, l egressLayout, there map[defaultKey]kernel.Default) error {
	var errs []error
	for _, k := range sortedDefaults(there) {
		if _, wanted := l.defaults[k]; !wanted {
			errs = append(errs, e.ways.SetDefault(ctx, protocol, kernel.Default{Table: k.table, IPv6: k.six, Metric: there[k].Metric}))
		}
	}
	return errors.Join(errs...)
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

// steps returns what is to be done about the subnets' routes, and the rules.
func (e *egress) steps(ctx context.Context, tables []uint32, protocol uint8, l egressLayout) (egressSteps, error) {
	var s egressSteps
	routes, err := e.ways.Routes(ctx, tables, protocol)
	if err != nil && len(tables) > 0 {
		return s, fmt.Errorf("read the uplinks' routes: %w", err)
	}
	rules, err := e.ways.Rules(ctx)
	if err != nil {
		return s, fmt.Errorf("read the uplinks' rules: %w", err)
	}
	here := map[state.RouteKey]state.Route{}
	for _, r := range routes {
		if r.Dst.Bits() == 0 {
			continue
		}
		here[r.Key()] = r
		if _, wanted := l.routes[r.Key()]; !wanted {
			s.oldNear = append(s.oldNear, plan.Op{Verb: plan.Remove, Before: plan.Route{Route: r}})
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(l.routes), compareKeys) {
		want := l.routes[k]
		switch old, met := here[k]; {
		case !met:
			s.near = append(s.near, plan.Op{Verb: plan.Add, Object: plan.Route{Route: want}})
		case old != want:
			s.near = append(s.near, plan.Op{Verb: plan.Change, Object: plan.Route{Route: want}, Before: plan.Route{Route: old}})
		}
	}
	known := map[state.Rule]bool{}
	for _, r := range rules {
		known[r] = true
		if !l.rules[r] {
			s.oldRules = append(s.oldRules, plan.Op{Verb: plan.Remove, Before: plan.Rule{Rule: r}})
		}
	}
	for _, r := range slices.SortedFunc(maps.Keys(l.rules), state.CompareRules) {
		if !known[r] {
			s.rules = append(s.rules, plan.Op{Verb: plan.Add, Object: plan.Rule{Rule: r}})
		}
	}
	return s, nil
}

// tablesOf returns the tables that follow a router's uplinks.
func tablesOf(r *state.Router) []uint32 {
	if r.Egress == nil {
		return nil
	}
	var out []uint32
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

// sortedDefaults returns the keys by table, IPv4 before IPv6.
func sortedDefaults(m map[defaultKey]kernel.Default) []defaultKey {
	return slices.SortedFunc(maps.Keys(m), func(a, b defaultKey) int {
		switch {
		case a.table != b.table:
			return cmp.Compare(a.table, b.table)
		case a.six == b.six:
			return 0
		case b.six:
			return -1
		}
		return 1
	})
}
