package agent

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"tombolo/internal/babel"
	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// sources are the learned routes that lead some sources another way (RFC 9079), laid out in
// rules and tables as state.Sources says. Of all routes the longest destination wins, and
// of those the longest source (§1.3), but the kernel asks for a rule's source first. So:
//
//   - each source of IPv4 has a table of its own, and a rule that leads there before those
//     that are for everybody; a source inside another comes before it;
//   - what lies within a destination there, and is others' too, stands there as `throw`: the
//     lookup goes on, and finds it;
//   - a default route is looked for once more behind all prefixes, by a second rule. This
//     is all that IPv6 needs, whose tables have sources;
//   - the default of an exit's source goes to that source's table (state.ExitTable), of IPv4
//     and IPv6 alike, to which compiled rules lead.
type sources struct {
	config state.Babel // but for Exits
	exits  map[netip.Prefix]uint32

	routes   map[babel.Key]state.Route // as routeOf made them
	compiled []state.Route
	changed  bool // since lay

	tables map[netip.Prefix]uint32 // of sources
	swept  bool                    // nothing of an earlier agent's can be left in tables of no source
	placed map[state.RouteKey]state.Route
	rules  map[state.Rule]bool
	excess error // what has no place
}

func newSources(config state.Babel) sources {
	return sources{
		config: config, exits: exitsOf(config.Exits),
		routes: map[babel.Key]state.Route{}, tables: map[netip.Prefix]uint32{},
	}
}

func exitsOf(all []state.ExitTable) map[netip.Prefix]uint32 {
	out := make(map[netip.Prefix]uint32, len(all))
	for _, e := range all {
		out[e.Src] = e.Table
	}
	return out
}

// ofAll reports whether a route lies where those for everybody do, without any rule.
func ofAll(k babel.Key) bool { return !k.Src.IsValid() || k.Dst.Addr().Is6() && k.Dst.Bits() > 0 }

// exit returns the table of an exit's source, for its default route.
func (s *sources) exit(k babel.Key) (uint32, bool) {
	t, ok := s.exits[k.Src]
	return t, ok && k.Dst.Bits() == 0
}

// at is where a route for a source lies. Of IPv4 its table may not be known yet; it is then 0.
func (s *sources) at(k babel.Key) state.RouteKey {
	if t, ok := s.exit(k); ok {
		return state.RouteKey{Table: t, Dst: k.Dst, Metric: learnedMetric}
	}
	if k.Src.Addr().Is6() {
		return state.RouteKey{Table: s.config.Table, Dst: k.Dst, Src: k.Src, Metric: learnedMetric}
	}
	return state.RouteKey{Table: s.tables[k.Src], Dst: k.Dst, Metric: learnedMetric}
}

// put takes a change of any learned route.
func (s *sources) put(k babel.Key, r state.Route, wanted bool) {
	if ofAll(k) {
		s.changed = s.changed || len(s.routes) > 0
		return
	}
	if _, exit := s.exit(k); s.config.Sources.Tables == 0 && !exit {
		return // applied by a version that had no tables for them
	}
	s.changed = true
	// A default that leads nowhere would end the lookup for all prefixes too: the kernel
	// passes over what it finds, and not over an error (net/ipv4/fib_rules.c,
	// fib4_rule_suppress).
	if s.routes[k] = r; !wanted || r.Type != state.Unicast && k.Dst.Bits() == 0 {
		delete(s.routes, k)
	}
}

// found takes the rules that are there, and returns the tables in which routes may lie. An
// earlier agent's sources keep their tables; once it has settled, what lies in others goes.
func (s *sources) found(rules []state.Rule, settled bool) []uint32 {
	var tables []uint32
	for i := range s.config.Sources.Tables {
		tables = append(tables, s.config.Sources.Table+i)
	}
	for _, r := range rules {
		_, met := s.tables[r.From]
		if slices.Contains(tables, r.Table) && !met && !s.sourceOf(r.Table).IsValid() {
			s.tables[r.From] = r.Table
		}
	}
	if s.swept && len(s.tables) == 0 {
		return nil
	}
	s.swept = settled
	return tables
}

// sourceOf returns whose a table is; the zero Prefix if nobody's.
func (s *sources) sourceOf(table uint32) netip.Prefix {
	for p, t := range s.exits {
		if t == table {
			return p
		}
	}
	for p, t := range s.tables {
		if t == table {
			return p
		}
	}
	return netip.Prefix{}
}

// ends reports whether a table is an exit's source's.
func (s *sources) ends(table uint32) bool {
	for _, t := range s.exits {
		if t == table {
			return true
		}
	}
	return false
}

// lay makes placed and rules of routes, and marks what that changes as dirty. all are the
// other learned routes, have and rules what the kernel holds.
func (s *sources) lay(all, have map[state.RouteKey]state.Route, rules map[state.Rule]bool, dirty map[state.RouteKey]bool) {
	if !s.changed && s.placed != nil && s.excess == nil {
		return
	}
	s.changed = false
	before := s.placed
	s.placed, s.rules, s.excess = map[state.RouteKey]state.Route{}, map[state.Rule]bool{}, nil
	of := map[netip.Prefix][]netip.Prefix{} // the destinations of a source
	for k, r := range s.routes {
		if table, ok := s.exit(k); ok {
			s.place(r, table)
			continue
		}
		of[k.Src] = append(of[k.Src], k.Dst)
	}
	s.free(of, have, rules)
	for _, src := range slices.SortedFunc(maps.Keys(of), state.ComparePrefixes) {
		depth := s.depth(src, of)
		table, ok := s.table(src)
		if !ok || depth >= state.SourceDepth {
			s.excess = fmt.Errorf("routes from %s have no place: there are %d tables for sources, and sources inside each other %d deep",
				src, s.config.Sources.Tables, state.SourceDepth)
			continue
		}
		if src.Addr().Is4() {
			s.fill(table, src, of[src], all)
		} else {
			for _, dst := range of[src] {
				r := s.routes[babel.Key{Dst: dst, Src: src}]
				s.placed[r.Key()] = r
			}
		}
		s.lead(src, table, depth, of[src])
	}
	for _, m := range []map[state.RouteKey]state.Route{before, s.placed} {
		for k := range m {
			if before[k] != s.placed[k] {
				dirty[k] = true
			}
		}
	}
}

// depth is how many other sources lie around one: also those of exits, whose rules are there
// whether or not anything is learned for them.
func (s *sources) depth(src netip.Prefix, of map[netip.Prefix][]netip.Prefix) uint32 {
	depth := uint32(0)
	for o := range of {
		if inside(src, o) {
			depth++
		}
	}
	for o := range s.exits {
		if inside(src, o) && of[o] == nil {
			depth++
		}
	}
	return depth
}

// place puts a route into a table that is its source's alone.
func (s *sources) place(r state.Route, table uint32) {
	r.Table, r.Src = table, netip.Prefix{}
	s.placed[r.Key()] = r
}

// free forgets the tables that nothing needs any more: of a source that is gone, when it
// has no route there and no rule leads there.
func (s *sources) free(of map[netip.Prefix][]netip.Prefix, have map[state.RouteKey]state.Route, rules map[state.Rule]bool) {
	used := map[uint32]bool{}
	for k := range have {
		used[k.Table] = true
	}
	for r := range rules {
		used[r.Table] = true
	}
	maps.DeleteFunc(s.tables, func(src netip.Prefix, table uint32) bool { return of[src] == nil && !used[table] })
}

// table returns the table of a source: of a new one the first that is free.
func (s *sources) table(src netip.Prefix) (uint32, bool) {
	if src.Addr().Is6() {
		return s.config.Table, true
	}
	if t, ok := s.tables[src]; ok {
		return t, true
	}
	for i := range s.config.Sources.Tables {
		if t := s.config.Sources.Table + i; !s.sourceOf(t).IsValid() {
			s.tables[src] = t
			return t, true
		}
	}
	return 0, false
}

// fill places the routes of a source of IPv4 in its table.
func (s *sources) fill(table uint32, src netip.Prefix, to []netip.Prefix, all map[state.RouteKey]state.Route) {
	aside := func(dst netip.Prefix) {
		within := func(p netip.Prefix) bool { return p.Bits() > 0 && inside(dst, p) }
		if slices.ContainsFunc(to, within) {
			s.place(state.Route{Dst: dst, Metric: learnedMetric, Type: state.Throw, Protocol: s.config.Protocol}, table)
		}
	}
	for _, r := range all {
		aside(r.Dst)
	}
	for _, r := range s.compiled {
		if r.Table == s.config.Table {
			aside(r.Dst)
		}
	}
	for k := range s.routes {
		if inside(src, k.Src) {
			aside(k.Dst)
		}
	}
	for _, dst := range to {
		s.place(s.routes[babel.Key{Dst: dst, Src: src}], table)
	}
}

// lead makes the rules of a source.
func (s *sources) lead(src netip.Prefix, table, depth uint32, to []netip.Prefix) {
	r := state.Rule{IPv6: src.Addr().Is6(), From: src, Action: state.Lookup, Table: table, Protocol: s.config.Protocol}
	for _, dst := range to {
		if dst.Bits() == 0 {
			r.Priority, r.Suppress = s.config.Sources.Defaults-2*depth, 0
		} else {
			r.Priority, r.Suppress = s.config.Sources.Prefixes-depth, 1
		}
		s.rules[r] = true
	}
}

// ruleOps returns what is to be done about rules: no source is without one in between.
// Before it settled none goes, since it may lead to what an earlier agent learned.
func (s *sources) ruleOps(have map[state.Rule]bool, settled bool) []plan.Op {
	var ops, removals []plan.Op
	for _, r := range slices.SortedFunc(maps.Keys(s.rules), state.CompareRules) {
		if !have[r] {
			ops = append(ops, plan.Op{Verb: plan.Add, Object: plan.Rule{Rule: r}})
		}
	}
	for _, r := range slices.SortedFunc(maps.Keys(have), state.CompareRules) {
		if settled && !s.rules[r] {
			removals = append(removals, plan.Op{Verb: plan.Remove, Before: plan.Rule{Rule: r}})
		}
	}
	return append(ops, removals...)
}

// inside reports whether a prefix is a part of another, and not all of it.
func inside(p, around netip.Prefix) bool {
	return around.Bits() < p.Bits() && around.Contains(p.Addr())
}
