package learned

import (
	"maps"
	"net/netip"
	"slices"

	"tombolo/internal/state"
)

// learnedMetric is that of learned routes.
const learnedMetric = 2048

// lay puts what a router has learned where its agent puts it: see internal/agent, learned.go
// and specific.go, whose words these are.
func (n *node) lay(w *World) {
	if n.router.Babel == nil {
		return
	}
	s := sources{node: n, exits: map[netip.Prefix]uint32{}, routes: map[key]state.Route{}}
	for _, e := range n.router.Babel.Exits {
		s.exits[e.Src] = e.Table
	}
	rest := n.held.Routes
	n.held.Routes = make([]state.Route, 0, len(n.learned)+len(rest))
	defer func() { n.held.Routes = append(n.held.Routes, rest...) }()
	for i := range n.learned {
		x := &n.learned[i]
		if x.device == "" {
			continue
		}
		r := n.route(w, x)
		switch table, exit := s.exit(x.key); {
		case !x.src.IsValid() || x.dst.Addr().Is6() && x.dst.Bits() > 0:
			n.held.Routes = append(n.held.Routes, r)
			s.all = append(s.all, x.dst)
		case exit:
			s.place(r, table)
		case n.router.Babel.Sources.Tables > 0:
			s.routes[x.key] = r
		}
	}
	if len(s.routes) > 0 {
		s.lay()
	}
}

// route is a learned route, as if it were for everybody.
func (n *node) route(w *World, x *way) state.Route {
	b := n.router.Babel
	six := x.dst.Addr().Is6()
	r := state.Route{
		Table: b.Table, Dst: x.dst, Src: x.src, Metric: learnedMetric, Type: state.Unicast, Device: x.device,
		PrefSrc: b.PrefSrc4, Protocol: b.Protocol,
	}
	if six {
		r.PrefSrc = b.PrefSrc6
	}
	if x.edge != nil && !x.edge.link.Tunnel {
		r.Gateway, r.OnLink = w.gateway(x.edge.at, six), true
		at := End{x.edge.at.node.router.Site, x.edge.at.Device}
		if other, taken := n.held.Next[r.Gateway]; taken && other != at {
			r.Gateway = w.gateway(x.edge.at, true) // both are the first of one subnet
		}
		if n.held.Next == nil {
			n.held.Next = map[netip.Addr]End{}
		}
		n.held.Next[r.Gateway] = at
	}
	return r
}

// sources are the routes that lead some sources another way.
type sources struct {
	*node
	exits  map[netip.Prefix]uint32
	routes map[key]state.Route // but for those in exits' tables
	all    []netip.Prefix      // destinations of routes for everybody
}

// exit returns the table of an exit's source, for its default route.
func (s *sources) exit(k key) (uint32, bool) {
	t, ok := s.exits[k.src]
	return t, ok && k.dst.Bits() == 0
}

// place puts a route into a table that is its source's alone.
func (s *sources) place(r state.Route, table uint32) {
	r.Table, r.Src = table, netip.Prefix{}
	s.held.Routes = append(s.held.Routes, r)
}

// lay gives the sources their tables and rules. What has no room is left out.
func (s *sources) lay() {
	config := s.router.Babel.Sources
	of := map[netip.Prefix][]netip.Prefix{} // the destinations of a source
	for k := range s.routes {
		of[k.src] = append(of[k.src], k.dst)
	}
	used := uint32(0)
	for _, src := range slices.SortedFunc(maps.Keys(of), state.ComparePrefixes) {
		depth, table := s.depth(src, of), s.router.Babel.Table
		if depth >= state.SourceDepth {
			continue
		}
		if src.Addr().Is4() {
			if used == config.Tables {
				continue
			}
			table = config.Table + used
			used++
			s.fill(table, src, of[src])
		} else {
			for _, dst := range of[src] {
				s.held.Routes = append(s.held.Routes, s.routes[key{dst, src}])
			}
		}
		s.lead(src, table, depth, of[src])
	}
}

// depth is how many other sources lie around one.
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

// fill places the routes of a source of IPv4 in its table: with a throw for what lies within
// one of them and is others' too.
func (s *sources) fill(table uint32, src netip.Prefix, to []netip.Prefix) {
	throws := map[netip.Prefix]bool{}
	aside := func(dst netip.Prefix) {
		around := func(p netip.Prefix) bool { return p.Bits() > 0 && inside(dst, p) }
		if slices.ContainsFunc(to, around) && !slices.Contains(to, dst) {
			throws[dst] = true
		}
	}
	for _, dst := range s.all {
		aside(dst)
	}
	for _, r := range s.router.Routes {
		if r.Table == s.router.Babel.Table {
			aside(r.Dst)
		}
	}
	for k := range s.routes {
		if inside(src, k.src) {
			aside(k.dst)
		}
	}
	for dst := range throws {
		s.place(state.Route{Dst: dst, Metric: learnedMetric, Type: state.Throw, Protocol: s.router.Babel.Protocol}, table)
	}
	for _, dst := range to {
		s.place(s.routes[key{dst, src}], table)
	}
}

// lead makes the rules of a source: to its prefixes, and to its default.
func (s *sources) lead(src netip.Prefix, table, depth uint32, to []netip.Prefix) {
	b := s.router.Babel
	r := state.Rule{IPv6: src.Addr().Is6(), From: src, Action: state.Lookup, Table: table, Protocol: b.Protocol}
	isDefault := func(p netip.Prefix) bool { return p.Bits() == 0 }
	if slices.ContainsFunc(to, isDefault) {
		r.Priority = b.Sources.Defaults - 2*depth
		s.held.Rules = append(s.held.Rules, r)
	}
	if !slices.ContainsFunc(to, isDefault) || len(to) > 1 {
		r.Priority, r.Suppress = b.Sources.Prefixes-depth, 1
		s.held.Rules = append(s.held.Rules, r)
	}
}

// inside reports whether a prefix is a part of another, and not all of it.
func inside(p, around netip.Prefix) bool {
	return around.Bits() < p.Bits() && around.Contains(p.Addr())
}
