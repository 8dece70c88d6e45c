package kernel

import (
	"slices"

	"golang.org/x/sys/unix"

	"tombolo/internal/state"
)

// routeView says which routes of a machine a wanted router must know of. A router may
// carry a million routes of others; what does not matter is left in the kernel.
type routeView struct {
	owner  state.Owner
	tables []uint32                // those that the wanted router uses, without main and local
	inMain map[state.RouteKey]bool // keys of the routes that are wanted in main

	// metric1024 has the keys of IPv6 routes that are wanted with that very metric.
	metric1024 map[state.RouteKey]bool
}

func newRouteView(owner state.Owner, want state.Router) *routeView {
	v := &routeView{owner: owner, inMain: map[state.RouteKey]bool{}, metric1024: map[state.RouteKey]bool{}}
	seen := map[uint32]bool{mainTable: true, unix.RT_TABLE_LOCAL: true, unix.RT_TABLE_UNSPEC: true}
	use := func(table uint32) {
		if !seen[table] {
			seen[table] = true
			v.tables = append(v.tables, table)
		}
	}
	for _, r := range want.Routes {
		use(r.Table)
		if r.Table == mainTable {
			v.inMain[r.Key()] = true
		}
		if r.Metric == defaultMetric6 && r.Dst.Addr().Is6() {
			v.metric1024[r.Key()] = true
		}
	}
	for _, r := range want.Rules {
		if r.Action == state.Lookup {
			use(r.Table)
		}
	}
	slices.Sort(v.tables)
	return v
}

// normalise gives an IPv6 route that has the kernel's own metric none.
func (v *routeView) normalise(r *state.Route) {
	if r.Metric == defaultMetric6 && r.Dst.Addr().Is6() && !v.metric1024[r.Key()] {
		r.Metric = 0
	}
}

// routeQuery is one dump of routes.
type routeQuery struct {
	table    uint32 // 0: all
	protocol uint8  // 0: all
	device   int    // index; 0: all. A kernel that does not filter leaves it to keep.
	not      []byte // protocols that are left out
	keep     func(state.Route) bool
}

// queries returns the dumps that together give every route once. Where the kernel does not
// filter there is but one.
func (v *routeView) queries(strict bool) []routeQuery {
	used := func(r state.Route) bool { return slices.Contains(v.tables, r.Table) }
	ours := func(r state.Route) bool { return r.Protocol == v.owner.Protocol }
	inTheWay := func(r state.Route) bool {
		v.normalise(&r)
		return r.Table == mainTable && v.inMain[r.Key()]
	}
	// What is learned, and what follows the uplinks, has a metric or a table of its own, and
	// is in no other's way.
	beside := []byte{v.owner.Learned(), v.owner.Following()}
	if !strict {
		return []routeQuery{{not: beside, keep: func(r state.Route) bool { return ours(r) || used(r) || inTheWay(r) }}}
	}
	out := []routeQuery{{protocol: v.owner.Protocol, keep: func(r state.Route) bool { return !used(r) }}}
	for _, t := range v.tables {
		out = append(out, routeQuery{table: t, not: beside, keep: func(r state.Route) bool { return r.Table == t }})
	}
	if len(v.inMain) > 0 {
		out = append(out, routeQuery{table: mainTable, not: append(beside, v.owner.Protocol), keep: inTheWay})
	}
	return out
}
