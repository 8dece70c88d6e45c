package agent

import (
	"context"
	"errors"
	"maps"
	"slices"

	"tombolo/internal/state"
)

// Flows that left by an uplink and go on towards an exit, or the other way round, would go on
// with the wrong source for as long as they last: by the one way it was translated, and by the
// other it was not. So they are forgotten, and the next packet begins a new connection.

// turns reports whether packets of some source find their exit by other compiled rules or routes
// than before, and has the flows forgotten, by the next pass, that went on towards one: they may
// leave here now. Of those that left here, the kernel itself forgets the masqueraded ones when
// they leave by another device (Linux net/netfilter/nf_nat_core.c, nf_nat_oif_changed).
func (e *egress) turns(before, after *state.Router) bool {
	if before.Version == 0 || after.Version == 0 || sameExits(before, after) {
		return false
	}
	for _, r := range []*state.Router{before, after} {
		if r.Egress != nil && r.Egress.Exit != 0 {
			e.turn[r.Egress.Exit] = true
		}
		for _, u := range r.Uplinks {
			if u.Pin != 0 {
				e.turn[u.Pin] = true
			}
		}
	}
	return len(e.turn) > 0
}

func (e *egress) forgetTurned(ctx context.Context, r *state.Router) {
	e.mu.Lock()
	turn := e.turn
	e.turn = map[uint32]bool{}
	e.mu.Unlock()
	if r.Egress != nil && len(turn) > 0 {
		e.forget(ctx, r.Egress.Mask, slices.Collect(maps.Keys(turn))...)
	}
}

// sameExits reports whether packets of all sources find their exits by the same compiled rules
// and routes.
func sameExits(a, b *state.Router) bool {
	rules, routes := exitsApplied(a)
	others, ways := exitsApplied(b)
	return slices.Equal(rules, others) && slices.Equal(routes, ways)
}

func exitsApplied(r *state.Router) (rules []state.Rule, routes []state.Route) {
	tables := map[uint32]bool{}
	for _, x := range r.Rules {
		if x.From.IsValid() {
			rules = append(rules, x)
			tables[x.Table] = true
		}
	}
	for _, x := range r.Routes {
		if tables[x.Table] {
			routes = append(routes, x)
		}
	}
	return rules, routes
}

// turned has the flows forgotten that left by the uplinks, where they go to an exit from now
// on, or the other way round: their source was translated, or was not.
func (e *egress) turned(towards bool) {
	e.mu.Lock()
	r := e.wanted
	e.mu.Unlock()
	if r.Egress == nil {
		return
	}
	marks := []uint32{r.Egress.Exit}
	if towards {
		marks = nil
		for _, u := range r.Uplinks {
			marks = append(marks, u.Pin)
		}
	}
	e.forget(context.Background(), r.Egress.Mask, marks...)
}

// forget has the flows with any of the marks forgotten.
func (e *egress) forget(ctx context.Context, mask uint32, marks ...uint32) {
	var errs []error
	for _, m := range marks {
		if m != 0 {
			errs = append(errs, e.machine.ForgetFlows(ctx, m, mask))
		}
	}
	e.problems.set("flows", errors.Join(errs...))
}
