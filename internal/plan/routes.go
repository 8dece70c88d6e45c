package plan

import (
	"cmp"
	"fmt"
	"slices"

	"tombolo/internal/state"
)

// defaultMetric6 is the metric that an IPv6 route has when none is given
// (net/ipv6/route.c, IP6_RT_PRIO_USER).
const defaultMetric6 = 1024

// metricOf returns the metric that the kernel gives a route.
func metricOf(r *state.Route) uint32 {
	if r.Metric == 0 && r.Dst.Addr().Is6() {
		return defaultMetric6
	}
	return r.Metric
}

// keyOf returns what the kernel tells a route apart by, metric included.
func keyOf(r state.Route) state.RouteKey {
	k := r.Key()
	k.Metric = metricOf(&r)
	return k
}

// compareKeys orders routes by what the kernel tells them apart by. It looks no further
// than it must: on a router with ten thousand routes this is what a plan does.
func compareKeys(a, b *state.Route) int {
	if a.Table != b.Table {
		return cmp.Compare(a.Table, b.Table)
	}
	if a.Dst != b.Dst {
		return state.ComparePrefixes(a.Dst, b.Dst)
	}
	if a.Src != b.Src {
		return state.ComparePrefixes(a.Src, b.Src)
	}
	if a.Metric == b.Metric {
		return 0
	}
	return cmp.Compare(metricOf(a), metricOf(b))
}

// compareByKey orders routes by their keys, then by the rest.
func compareByKey(a, b *state.Route) int {
	if c := compareKeys(a, b); c != 0 {
		return c
	}
	return state.CompareRoutes(*a, *b)
}

// sameRoute compares two routes with the same key. The kernel shows IPv6 routes that lead
// nowhere as routes over lo.
func sameRoute(a, b state.Route) bool {
	a.Metric = b.Metric
	if a.Type == b.Type && a.Type != state.Unicast {
		a.Device, b.Device = "", ""
	}
	return a == b
}

// sortedRoutes returns the routes by key, those for which keep is true.
func sortedRoutes(routes []state.Route, keep func(state.Route) bool) []*state.Route {
	out := make([]*state.Route, 0, len(routes))
	for i := range routes {
		if keep(routes[i]) {
			out = append(out, &routes[i])
		}
	}
	slices.SortFunc(out, compareByKey)
	return out
}

// diffRoutes walks both lists, which are in the order of their keys.
func (d *differ) diffRoutes() {
	have := sortedRoutes(d.have.Routes, func(state.Route) bool { return true })
	want := sortedRoutes(d.want.Routes, d.owner.OwnsRoute)
	displaced := d.displaced()
	for len(have) > 0 || len(want) > 0 {
		var k *state.Route
		if len(want) == 0 || len(have) > 0 && compareKeys(have[0], want[0]) < 0 {
			k = have[0]
		} else {
			k = want[0]
		}
		h, w := withKey(have, k), withKey(want, k)
		have, want = have[len(h):], want[len(w):]
		if len(h) == 1 && len(w) == 1 && *h[0] == *w[0] && !displaced(h[0]) {
			continue // nearly all, nearly always
		}
		d.diffRoutesOfKey(h, w, displaced)
	}
	slices.SortStableFunc(d.ops[routesPhase], compareRouteOps)
	for _, p := range []phase{displacedPhase, oldRoutesPhase} {
		slices.SortStableFunc(d.ops[p], compareRouteOps)
		slices.Reverse(d.ops[p])
	}
}

// withKey returns the routes at the beginning of the list that have the key of k.
func withKey(routes []*state.Route, k *state.Route) []*state.Route {
	n := 0
	for n < len(routes) && compareKeys(routes[n], k) == 0 {
		n++
	}
	return routes[:n]
}

// diffRoutesOfKey compares the routes that have one key: usually at most one on each side.
// The kernel may hold more (ip route append), and a route with another protocol is not
// ours. Surplus ones of ours go first, since a replacement replaces the first it finds.
func (d *differ) diffRoutesOfKey(have, want []*state.Route, displaced func(*state.Route) bool) {
	mine := make([]*state.Route, 0, len(have))
	for _, h := range have {
		if d.owner.OwnsRoute(*h) {
			mine = append(mine, h)
		} else if len(want) > 0 {
			d.conflict(Route{*h}, fmt.Sprintf(
				"tombolo did not make it: its protocol is %d, not %d; remove it (%s), or choose another table",
				h.Protocol, d.owner.Protocol, routeCommand("del", *h)))
			return
		}
	}
	var keep *state.Route
	if len(want) > 0 {
		w := want[len(want)-1]
		keep = stays(mine, w, displaced)
		if keep == nil {
			d.add(routesPhase, Route{*w})
		} else if !sameRoute(*keep, *w) {
			d.change(routesPhase, Route{*keep}, Route{*w})
		}
	}
	for _, h := range mine {
		switch {
		case h == keep:
		case len(want) > 0 || displaced(h):
			d.remove(displacedPhase, Route{*h})
		default:
			d.remove(oldRoutesPhase, Route{*h})
		}
	}
}

// stays returns the route that is to stay or to be replaced, if any: the one that is
// wanted, else the first.
func stays(have []*state.Route, want *state.Route, displaced func(*state.Route) bool) *state.Route {
	var keep *state.Route
	for _, h := range have {
		if displaced(h) {
			continue
		}
		if sameRoute(*h, *want) {
			return h
		}
		if keep == nil {
			keep = h
		}
	}
	return keep
}

// displaced returns a function that reports whether the kernel would drop or change a
// route while the plan replaces an interface or an address below it.
func (d *differ) displaced() func(*state.Route) bool {
	replaced := map[string]bool{}
	for _, l := range d.links {
		if l.replaced && !l.blocked {
			replaced[l.name] = true
		}
	}
	lost := d.lostAddresses()
	if len(replaced) == 0 && len(lost) == 0 {
		return func(*state.Route) bool { return false }
	}
	return func(r *state.Route) bool { return replaced[r.Device] || lost[r.PrefSrc] }
}

// compareRouteOps puts routes over a gateway last: the kernel wants a way to the gateway
// before it takes them.
func compareRouteOps(a, b Op) int {
	x, y := a.subject().(Route).Route, b.subject().(Route).Route
	return cmp.Or(compareBools(x.Gateway.IsValid(), y.Gateway.IsValid()), compareByKey(&x, &y))
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
