package compile

import (
	"net/netip"
	"slices"

	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// exits are the sources whose Internet traffic leaves at other sites, or is not to leave at
// all, in the order of the file.
//
// Each has a table of its own at every router that its packets may pass, and a rule that
// leads there, longer sources first. What stands in the table is the routers' matter: with
// Babel every site in `via:` announces a default route for the source alone, the second with a
// metric that no way through the network has, and so on; who finds a better one than its own
// announces nothing. Where nothing stands there, the lookup goes on at an exit, and at the
// source's home if its packets may leave there; else it ends.
//
// A static router has one way, which is compiled, to the first exit that can be reached.
type exits []exit

// exit is one source.
type exit struct {
	src   netip.Prefix // as the network sees it
	real  netip.Prefix // what it is at its home, where that is mapped; else as src
	homes []int        // the sites where it comes from: that of its LAN; for roaming devices the doors
	via   []int        // sites, in order of preference
	block bool         // it does not leave at home
	own   bool         // it is the address of a home's router, whose own traffic is meant
	table uint32
	depth uint32 // how many of the others lie around it

	device, site string // of the site, where a whole LAN of it is meant: all that comes from there is
}

// exitRank is how much longer a way to an exit looks than one to an exit before it: more
// than any way through the network, in units of 0.1 ms: 1.09 s. spec.MaxVia of them are below
// infinity, with as much left for the way.
const exitRank = 10900

func newExits(n *spec.Network, c clients) exits {
	var out exits
	at := map[netip.Prefix]int{}
	rank := map[netip.Prefix]int{} // how narrow the word was by which the file meant it
	for _, e := range n.Exits {
		var via []int
		for _, name := range e.Via {
			if i, ok := n.Site(name); ok {
				via = append(via, i)
			}
		}
		for _, name := range e.For {
			for _, x := range meant(n, c, name, e.Router) {
				narrow := x.rank
				x.via, x.block = via, e.Otherwise == "block"
				k, met := at[x.src]
				switch {
				case !met:
					at[x.src], rank[x.src] = len(out), narrow
					out = append(out, x.exit)
				case rank[x.src] < narrow:
					rank[x.src], out[k] = narrow, x.exit
				}
			}
		}
	}
	var names []string
	for _, e := range out {
		names = append(names, e.src.String())
	}
	for k, slot := range slots(names, max(spec.ExitTables, 2*len(out))) {
		out[k].table = n.Settings.ExitTable() + uint32(slot)
	}
	for k := range out {
		for _, o := range out {
			if o.src.Bits() < out[k].src.Bits() && o.src.Overlaps(out[k].src) {
				out[k].depth++
			}
		}
	}
	return out
}

// slots gives each name a number below size. It is a hash's, so that one name more moves no
// other's: what lives by the numbers would stop while a file is applied.
func slots(names []string, size int) []int {
	out := make([]int, len(names))
	taken := map[int]bool{}
	for i, name := range names {
		at := int(hashName(name) % uint64(size))
		for taken[at] {
			at = (at + 1) % size
		}
		taken[at], out[i] = true, at
	}
	return out
}

// source is a source that a word of `for:` means.
type source struct {
	exit
	rank int // of words that mean the same source, the one with the highest rank holds
}

// meant returns the sources that a word of `for:` means.
func meant(n *spec.Network, c clients, name string, router bool) []source {
	var out []source
	add := func(rank int, p netip.Prefix, homes ...int) {
		if p.IsValid() {
			out = append(out, source{exit{src: p, real: n.Inside(p), homes: homes}, rank})
		}
	}
	if i, ok := n.Site(name); ok {
		homes := []int{i}
		if n.Roams(i) {
			homes = c.doors
		}
		return siteSources(&n.Sites[i], homes, router && !n.Roams(i))
	}
	if name == "clients" {
		for _, p := range c.pool {
			add(0, p, c.doors...)
		}
		return out
	}
	if p, err := netip.ParsePrefix(name); err == nil {
		add(2, p, homesOf(n, c, p)...)
		return out
	}
	for _, d := range n.Clients.Devices {
		if d.Name == name {
			add(1, host(d.Address), c.doors...)
			add(1, host(d.Address6), c.doors...)
		}
	}
	return out
}

// siteSources are a site's LANs, and its router where that is meant.
func siteSources(s *spec.Site, homes []int, router bool) []source {
	var out []source
	for _, l := range s.LANs {
		for _, m := range l.Prefixes {
			out = append(out, source{exit{src: m.Outside(), real: m.Prefix, homes: homes, device: l.Device, site: s.Name}, 0})
		}
	}
	if router {
		out = append(out, source{exit{src: host(s.Address), real: host(s.Address), homes: homes, own: true}, 0}, source{exit{src: host(s.Address6), real: host(s.Address6), homes: homes, own: true}, 0})
	}
	return out
}

// homesOf returns where the hosts of a prefix are.
func homesOf(n *spec.Network, c clients, p netip.Prefix) []int {
	for i := range n.Sites {
		for _, l := range n.Sites[i].LANs {
			for _, m := range l.Prefixes {
				if m.Outside().Overlaps(p) && m.Outside().Bits() <= p.Bits() {
					if n.Roams(i) {
						return c.doors
					}
					return []int{i}
				}
			}
		}
	}
	return c.doors
}

// from is the source as a site's router sees it when it comes from there.
func (e *exit) from(i int) netip.Prefix {
	if slices.Contains(e.homes, i) {
		return e.real
	}
	return e.src
}

// leavesAt reports whether a source may leave by a site's own uplinks.
func (e *exit) leavesAt(i int) bool {
	return slices.Contains(e.via, i) || !e.block && slices.Contains(e.homes, i)
}

// exitRules lead the sources to their tables.
func (c *compiler) exitRules(i int, add func(uint32, state.Rule)) {
	s := &c.n.Sites[i]
	for _, e := range c.exits {
		if c.meets(i, &e) {
			r := state.Rule{IPv6: e.src.Addr().Is6(), From: e.from(i), Action: state.Lookup, Table: e.table}
			depth := 2 * min(e.depth, state.SourceDepth-1)
			add(atExit-depth, r)
			if e.depth > 0 && e.leavesAt(i) {
				r.Table = c.ordinary(s)
				add(atExitHere-depth, r)
			}
		}
	}
	for _, d := range c.ended(i) {
		for _, six := range []bool{false, true} {
			add(atRouterStop, state.Rule{IPv6: six, IIF: d, Action: state.RuleUnreachable})
		}
	}
	for _, e := range c.exits {
		if !e.own || !slices.Contains(e.homes, i) {
			continue
		}
		six := e.src.Addr().Is6()
		add(atRouter, state.Rule{IPv6: six, IIF: "lo", Action: state.Lookup, Table: e.table})
		if !e.block {
			continue
		}
		// Without these it could not come up: its endpoints have names, and its
		// certificates a time.
		for _, x := range needs {
			add(atRouterNeeds, state.Rule{IPv6: six, IIF: "lo", IPProto: x.protocol, DPort: x.port, Action: state.Lookup, Table: c.ordinary(s)})
		}
		for _, p := range c.onLink(i) {
			if p.Addr().Is6() == six {
				add(atRouterAddress, state.Rule{IPv6: six, IIF: "lo", From: p, Action: state.Lookup, Table: c.ordinary(s)})
			}
		}
		add(atRouterStop, state.Rule{IPv6: six, IIF: "lo", Action: state.RuleUnreachable})
	}
}

// needs is what a router needs of the Internet before its exit can be reached: the names of
// endpoints, and the time.
var needs = []struct {
	protocol uint8 // IPPROTO_*
	port     uint16
}{{udp, 53}, {tcp, 53}, {udp, 123}}

const tcp, udp = 6, 17

// ordinary is the table by which what has no other way leaves a site.
func (c *compiler) ordinary(s *spec.Site) uint32 {
	if len(s.Uplinks) > 1 {
		return c.n.Settings.UplinkTable()
	}
	return mainTable
}

// meets reports whether packets of a source may come to a router on their way to its exit:
// any that speaks Babel, and of the others those on the compiled way.
func (c *compiler) meets(i int, e *exit) bool {
	if !c.static[i] {
		return true
	}
	_, on := c.exitHop(i, e)
	return on || slices.Contains(e.homes, i) || slices.Contains(e.via, i)
}

// exitHop returns the neighbour by which a static router hands a source's packets on towards
// its exit; false where they do not come to it, or end there.
func (c *compiler) exitHop(i int, e *exit) (next int, ok bool) {
	for _, h := range e.homes {
		x := slices.IndexFunc(e.via, func(x int) bool { return x == h || c.hop(h, x) >= 0 })
		if x < 0 {
			continue
		}
		for at := h; at != e.via[x] && c.static[at]; at = next {
			if next = c.hop(at, e.via[x]); at == i {
				return next, true
			}
		}
	}
	return -1, false
}

// hop is the first step of the shortest way, -1 where there is none.
func (c *compiler) hop(from, to int) int {
	if c.hops[from] == nil {
		c.hops[from] = c.roads.waysFrom(from)
	}
	return c.hops[from][to]
}

// exitRoutes are what is compiled of the sources' tables: a static router's way, and their end.
func (c *compiler) exitRoutes(i int) []state.Route {
	var out []state.Route
	for k := range c.exits {
		e := &c.exits[k]
		if !c.meets(i, e) {
			continue
		}
		everywhere := netip.PrefixFrom(unspecified(e.src), 0)
		if c.static[i] {
			if via, ok := c.exitHop(i, e); ok && (e.src.Addr().Is4() || c.neighbours6(i)[via]) {
				if r, ok := c.route(i, via, everywhere); ok {
					r.Table = e.table
					out = append(out, r)
				}
			}
		}
		// What the router itself sends ends by a rule, after what it cannot do without.
		if router := e.own && slices.Contains(e.homes, i); !router && !e.leavesAt(i) {
			out = append(out, state.Route{Table: e.table, Dst: everywhere, Metric: lastMetric, Type: state.Unreachable, Protocol: c.n.Settings.Protocol})
		}
	}
	return out
}

// lastMetric is behind every other's.
const lastMetric = 1<<32 - 1

// unspecified returns the unspecified address of a prefix's family.
func unspecified(p netip.Prefix) netip.Addr {
	if p.Addr().Is6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// exitAnnouncements are the defaults that an exit announces.
func (c *compiler) exitAnnouncements(i int) []state.Announcement {
	var out []state.Announcement
	for _, e := range c.exits {
		if rank := slices.Index(e.via, i); rank >= 0 {
			out = append(out, state.Announcement{
				Dst: netip.PrefixFrom(unspecified(e.src), 0), Src: e.src, Metric: uint16(rank * exitRank), While: state.Works,
			})
		}
	}
	return out
}

// exitClaims say who may be an exit for whom in a Babel region.
func (c *compiler) exitClaims(region int) []claim {
	var out []claim
	for _, e := range c.exits {
		x := claim{state.Accept{Dst: netip.PrefixFrom(unspecified(e.src), 0), Src: e.src}, several}
		for _, i := range e.via {
			if !c.static[i] && c.regions.of[i] == region {
				x.Origins = append(x.Origins, origin(&c.n.Sites[i]))
				x.from = i
			}
		}
		if len(x.Origins) > 1 {
			slices.Sort(x.Origins)
			x.from = several
		}
		if len(x.Origins) > 0 {
			out = append(out, x)
		}
	}
	return out
}

// exitTables are where the speaker's defaults for the sources stand.
func (c *compiler) exitTables(i int) []state.ExitTable {
	var out []state.ExitTable
	for _, e := range c.exits {
		x := state.ExitTable{Src: e.src, Table: e.table, Local: e.local(i)}
		if from := e.from(i); from != e.src {
			x.Inside = from
		}
		out = append(out, x)
	}
	return out
}

// local reports whether a source's packets leave by a site's own uplinks while no exit, or no
// other one, is reached.
func (e *exit) local(i int) bool {
	router := e.own && slices.Contains(e.homes, i)
	return e.leavesAt(i) && !router
}

// sources returns all of them, as a site's router sees them. Wherever they pass it is remembered which flows go on to an
// exit: the next file may let them leave here.
func (all exits) sources(i int) []netip.Prefix {
	var out []netip.Prefix
	for _, e := range all {
		out = append(out, e.from(i))
	}
	slices.SortFunc(out, state.ComparePrefixes)
	return out
}
