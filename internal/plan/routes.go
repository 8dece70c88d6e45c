package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"tombolo/internal/state"
)

// defaultMetric6 is the metric that an IPv6 route has when none is given
// (net/ipv6/route.c, IP6_RT_PRIO_USER).
const defaultMetric6 = 1024

// keyOf returns what the kernel tells a route apart by, metric included.
func keyOf(r state.Route) state.RouteKey {
	k := r.Key()
	if k.Metric == 0 && k.Dst.Addr().Is6() {
		k.Metric = defaultMetric6
	}
	return k
}

func compareKeys(a, b state.RouteKey) int {
	return cmp.Or(
		cmp.Compare(a.Table, b.Table),
		state.ComparePrefixes(a.Dst, b.Dst),
		state.ComparePrefixes(a.Src, b.Src),
		cmp.Compare(a.Metric, b.Metric),
	)
}

// compareByKey orders routes by what the kernel tells them apart by, then by the rest.
func compareByKey(a, b state.Route) int {
	if a.Table == b.Table && a.Dst == b.Dst && a.Metric == b.Metric && a.Src == b.Src {
		return state.CompareRoutes(a, b)
	}
	return cmp.Or(compareKeys(keyOf(a), keyOf(b)), state.CompareRoutes(a, b))
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

// sortedRoutes returns the routes by key, in a list of their own.
func sortedRoutes(routes []state.Route) []state.Route {
	out := slices.Clone(routes)
	slices.SortFunc(out, compareByKey)
	return out
}

// diffRoutes walks both lists, which are in the order of their keys.
func (d *differ) diffRoutes() {
	have := sortedRoutes(d.have.Routes)
	want := sortedRoutes(ours(d.want.Routes, d.owner.OwnsRoute))
	displaced := d.displaced()
	for len(have) > 0 || len(want) > 0 {
		var k state.RouteKey
		switch {
		case len(want) == 0 || len(have) > 0 && compareKeys(keyOf(have[0]), keyOf(want[0])) < 0:
			k = keyOf(have[0])
		default:
			k = keyOf(want[0])
		}
		h, w := prefixWithKey(have, k), prefixWithKey(want, k)
		have, want = have[len(h):], want[len(w):]
		if len(h) == 1 && len(w) == 1 && h[0] == w[0] && !displaced(h[0]) {
			continue // nearly all, nearly always
		}
		d.diffRoutesOfKey(h, w, displaced)
	}
	slices.SortStableFunc(d.ops[routesPhase], compareRouteOps)
	slices.SortStableFunc(d.ops[displacedPhase], compareRouteOps)
	slices.Reverse(d.ops[displacedPhase])
	slices.SortStableFunc(d.ops[oldRoutesPhase], compareRouteOps)
	slices.Reverse(d.ops[oldRoutesPhase])
}

func prefixWithKey(routes []state.Route, k state.RouteKey) []state.Route {
	n := 0
	for n < len(routes) && keyOf(routes[n]) == k {
		n++
	}
	return routes[:n]
}

// diffRoutesOfKey compares the routes that have one key: usually at most one on each side.
// The kernel may hold more (ip route append), and a route with another protocol is not
// ours. Surplus ones of ours go first, since a replacement replaces the first it finds.
func (d *differ) diffRoutesOfKey(have, want []state.Route, displaced func(state.Route) bool) {
	if len(want) > 0 {
		for _, h := range have {
			if !d.owner.OwnsRoute(h) {
				d.conflict(Route{h}, fmt.Sprintf(
					"tombolo did not make it: its protocol is %d, not %d; remove it (%s), or choose another table",
					h.Protocol, d.owner.Protocol, routeCommand("del", h)))
				return
			}
		}
	}
	have = ours(have, d.owner.OwnsRoute)
	var keep *state.Route
	if len(want) > 0 {
		w := want[len(want)-1]
		same := slices.IndexFunc(have, func(h state.Route) bool { return sameRoute(h, w) && !displaced(h) })
		if same < 0 {
			same = slices.IndexFunc(have, func(h state.Route) bool { return !displaced(h) })
		}
		switch {
		case same < 0:
			d.add(routesPhase, Route{w})
		default:
			if keep = &have[same]; !sameRoute(*keep, w) {
				d.change(routesPhase, Route{*keep}, Route{w})
			}
		}
	}
	for i := range have {
		switch {
		case keep == &have[i]:
		case len(want) > 0 || displaced(have[i]):
			d.remove(displacedPhase, Route{have[i]})
		default:
			d.remove(oldRoutesPhase, Route{have[i]})
		}
	}
}

// displaced returns a function that reports whether the kernel would drop or change a
// route while the plan replaces an interface or an address below it.
func (d *differ) displaced() func(state.Route) bool {
	replaced := map[string]bool{}
	for _, l := range d.links {
		if l.replaced && !l.blocked {
			replaced[l.name] = true
		}
	}
	lost := d.lostAddresses()
	if len(replaced) == 0 && len(lost) == 0 {
		return func(state.Route) bool { return false }
	}
	return func(r state.Route) bool { return replaced[r.Device] || lost[r.PrefSrc] }
}

// compareRouteOps puts routes over a gateway last: the kernel wants a way to the gateway
// before it takes them.
func compareRouteOps(a, b Op) int {
	x, y := a.subject().(Route).Route, b.subject().(Route).Route
	return cmp.Or(compareBools(x.Gateway.IsValid(), y.Gateway.IsValid()), compareByKey(x, y))
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

// diffRules adds rules by rising priority, and removes them by falling priority. Any
// difference makes another rule.
func (d *differ) diffRules() {
	have, want := d.sortedRules(d.have), d.sortedRules(d.want)
	want = slices.Compact(want)
	var gone []state.Rule
	for len(have) > 0 || len(want) > 0 {
		switch {
		case len(want) == 0 || len(have) > 0 && state.CompareRules(have[0], want[0]) < 0:
			gone, have = append(gone, have[0]), have[1:]
		case len(have) == 0 || have[0] != want[0]:
			d.add(rulesPhase, Rule{want[0]})
			want = want[1:]
		default:
			have, want = have[1:], want[1:]
		}
	}
	for _, r := range slices.Backward(gone) {
		d.remove(oldRulesPhase, Rule{r})
	}
}

func (d *differ) sortedRules(r state.Router) []state.Rule {
	out := ours(r.Rules, d.owner.OwnsRule)
	slices.SortFunc(out, state.CompareRules)
	return out
}

// diffRulesets compares tables by their digests.
func (d *differ) diffRulesets() {
	have, want := rulesetsByID(d, d.have), rulesetsByID(d, d.want)
	for _, id := range sortedKeys(want) {
		w := want[id]
		h, there := have[id]
		switch {
		case !there:
			d.add(rulesetsPhase, w)
		case h.Digest != w.Digest:
			d.change(rulesetsPhase, h, w)
		}
	}
	for _, id := range slices.Backward(sortedKeys(have)) {
		if _, wanted := want[id]; !wanted {
			d.remove(oldRulesetsPhase, have[id])
		}
	}
}

func rulesetsByID(d *differ, r state.Router) map[string]Ruleset {
	out := map[string]Ruleset{}
	for _, s := range ours(r.Rulesets, d.owner.OwnsRuleset) {
		out[Ruleset{s}.ID()] = Ruleset{s}
	}
	return out
}

// diffSysctls changes settings. One of an interface that the plan adds is set when the
// interface is there: nobody but the kernel's defaults can have set it.
func (d *differ) diffSysctls() {
	have := map[string]string{}
	for _, s := range d.have.Sysctls {
		have[s.Name] = s.Value
	}
	skip, fresh := map[string]bool{}, map[string]bool{}
	for _, l := range d.links {
		skip[l.name], fresh[l.name] = l.blocked, l.fresh()
	}
	want := slices.Clone(d.want.Sysctls)
	slices.SortStableFunc(want, compareSysctls)
	want = slices.CompactFunc(want, func(a, b state.Sysctl) bool { return a.Name == b.Name })
	for _, w := range want {
		of := sysctlInterface(w.Name)
		value, known := have[w.Name]
		switch {
		case skip[of]:
		case fresh[of]:
			d.change(newSysctlsPhase, Sysctl{state.Sysctl{Name: w.Name}}, Sysctl{w})
		case !known || value == w.Value || w.Only != "" && value != w.Only:
		default:
			d.change(sysctlsPhase, Sysctl{state.Sysctl{Name: w.Name, Value: value}}, Sysctl{w})
		}
	}
}

// compareSysctls puts accept_ra first: when forwarding is switched on the kernel drops the
// IPv6 default routes that it learned on devices where accept_ra is not 2
// (rt6_purge_dflt_routers in net/ipv6/route.c).
func compareSysctls(a, b state.Sysctl) int {
	ra := func(s state.Sysctl) bool { return !strings.HasSuffix(s.Name, "/accept_ra") }
	return cmp.Or(compareBools(ra(a), ra(b)), strings.Compare(a.Name, b.Name))
}

// sysctlInterface returns the interface that a setting is of, or nothing:
// net/ipv4/conf/wg-op1/rp_filter.
func sysctlInterface(name string) string {
	parts := strings.Split(name, "/")
	if len(parts) != 5 || parts[0] != "net" || parts[2] != "conf" && parts[2] != "neigh" {
		return ""
	}
	if parts[3] == "all" || parts[3] == "default" {
		return ""
	}
	return parts[3]
}
