package trace

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"

	"tombolo/internal/state"
)

// route is one with its device; of a type that has none, one without a name.
type route struct {
	*state.Route
	out *netdev
}

// fib is one routing table in one family.
type fib struct {
	routes bart.Table[[]route] // of one destination: narrower sources first, then by rising metric
}

func (f *fib) add(r route) {
	at, _ := f.routes.Get(r.Dst)
	at = append(at, r)
	slices.SortStableFunc(at, func(a, b route) int {
		return cmp.Or(cmp.Compare(bitsOf(b.Src), bitsOf(a.Src)), cmp.Compare(a.Metric, b.Metric))
	})
	f.routes.Insert(r.Dst, at)
}

func bitsOf(p netip.Prefix) int {
	if !p.IsValid() {
		return 0
	}
	return p.Bits()
}

// lookup returns the route to a destination for a source: of the longest destinations first, of
// those with sources the ones that the source lies in (fib6_table_lookup in net/ipv6/route.c).
// With several of one key it is a multipath route, of which hops returns all.
func (f *fib) lookup(src, dst netip.Addr) (r *route, hops []route) {
	if f == nil {
		return nil, nil
	}
	pick := func(at []route) (*route, []route) {
		for i := range at {
			r := &at[i]
			if r.Src.IsValid() && !r.Src.Contains(src) {
				continue
			}
			n := i + 1
			for n < len(at) && at[n].Src == r.Src && at[n].Metric == r.Metric {
				n++
			}
			return r, at[i:n]
		}
		return nil, nil
	}
	at, ok := f.routes.Lookup(dst)
	if !ok {
		return nil, nil
	}
	if r, hops = pick(at); r != nil {
		return r, hops
	}
	for _, at := range f.routes.Supernets(netip.PrefixFrom(dst, dst.BitLen())) {
		if r, hops = pick(at); r != nil {
			return r, hops
		}
	}
	return nil, nil
}

// rule is a policy rule with the table that it leads to. It begins with what most are about.
type rule struct {
	mark, mask uint32
	more       bool // it is about more than a mark
	fib        *fib
	*state.Rule
}

func newRule(r *state.Rule) rule {
	more := r.From.IsValid() || r.To.IsValid() || r.IIF != "" || r.OIF != "" || r.IPProto != 0 || r.DPort != 0
	return rule{mark: r.Mark, mask: r.Mask, more: more, Rule: r}
}

// matches reports whether a rule is about a packet, and if not, why.
func (r *rule) matches(p *packet, iif, oif string) (bool, string) {
	switch {
	case r.mask != 0 && p.Mark&r.mask != r.mark:
		return false, "the packet's mark is not that"
	case !r.more:
		return true, ""
	case r.From.IsValid() && !r.From.Contains(p.Src):
		return false, "the source is not in it"
	case r.To.IsValid() && !r.To.Contains(p.Dst):
		return false, "the destination is not in it"
	case r.IIF != "" && r.IIF != iif:
		return false, "it came in by another device"
	case r.OIF != "" && r.OIF != oif:
		return false, "it is bound to no such device"
	case r.IPProto != 0 && r.IPProto != p.wire():
		return false, "it is another protocol"
	case r.DPort != 0 && r.DPort != p.DstPort:
		return false, "it goes to another port"
	}
	return true, ""
}

// way is the result of a route lookup.
type way struct {
	route *route  // nil: there is none
	hops  []route // several of a multipath route
	rule  *rule
	local *netdev // whose address it is
}

// next is the address to which a packet is handed.
func (t way) next(p *packet) netip.Addr {
	if t.route.Gateway.IsValid() {
		return t.route.Gateway
	}
	return p.Dst
}

// lookup finds a packet's way: its own addresses first, then by the rules in order
// (fib_rules_lookup in net/core/fib_rules.c). iif is "lo" of what the router itself sends.
func (w *walk) lookup(r *router, p *packet, iif, oif string) way {
	if device, ok := r.local[p.Dst]; ok {
		w.step(r, RouteStage, p, func() (string, string) {
			return "lookup local", fmt.Sprintf("%s is the router's own, on %s", p.Dst, device.name)
		})
		return way{local: device}
	}
	if r.broadcasts[p.Dst] {
		x := &state.Route{Table: localTable, Dst: netip.PrefixFrom(p.Dst, 32), Type: broadcast}
		w.step(r, RouteStage, p, func() (string, string) { return describeRoute(x), "" })
		return way{route: &route{Route: x}}
	}
	rules := r.rules[family(p.Dst)]
	for k := range rules {
		x := &rules[k]
		if ok, why := x.matches(p, iif, oif); !ok {
			w.passed(r, p, x, why)
			continue
		}
		if x.Action != state.Lookup {
			w.step(r, Rule, p, func() (string, string) { return describeRule(x.Rule), "the lookup ends here" })
			return way{rule: x}
		}
		found, hops := x.fib.lookup(p.Src, p.Dst)
		switch {
		case found == nil:
			w.passed(r, p, x, "the table has no way there")
			continue
		case x.Suppress > 0 && found.Dst.Bits() < x.Suppress:
			w.passed(r, p, x, "the table has a default route only, which this rule passes over")
			continue
		case found.Type == state.Throw:
			w.passed(r, p, x, "the table throws it back")
			continue
		}
		if len(hops) > 1 && w.depth == 0 {
			found = &hops[w.choose(len(hops))]
			c := &w.choices[w.chosen-1]
			c.router, c.device = r.name, found.Device
		}
		w.step(r, Rule, p, func() (string, string) { return describeRule(x.Rule), "" })
		w.step(r, RouteStage, p, func() (string, string) { return describeRoute(found.Route), whyRoute(found.Route, hops) })
		return way{route: found, hops: hops, rule: x}
	}
	return way{}
}

func family(a netip.Addr) int {
	if a.Is6() {
		return 1
	}
	return 0
}

// describeRule is a rule as `ip rule` has it.
func describeRule(r *state.Rule) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d:", r.Priority)
	word := func(format string, ok bool, args ...any) {
		if ok {
			fmt.Fprintf(&b, " "+format, args...)
		}
	}
	word("from %s", r.From.IsValid(), r.From)
	word("from all", !r.From.IsValid())
	word("to %s", r.To.IsValid(), r.To)
	word("fwmark %#x/%#x", r.Mask != 0, r.Mark, r.Mask)
	word("iif %s", r.IIF != "", r.IIF)
	word("oif %s", r.OIF != "", r.OIF)
	word("ipproto %d", r.IPProto != 0, r.IPProto)
	word("dport %d", r.DPort != 0, r.DPort)
	if r.Action == state.Lookup {
		word("lookup %s", true, tableName(r.Table))
	} else {
		word("%s", true, r.Action)
	}
	word("suppress_prefixlength %d", r.Suppress > 0, r.Suppress-1)
	return b.String()
}

func tableName(t uint32) string {
	switch t {
	case mainTable:
		return "main"
	case localTable:
		return "local"
	}
	return fmt.Sprint(t)
}

// broadcast is the type of routes for all in a network (linux/rtnetlink.h, RTN_BROADCAST).
const broadcast state.RouteType = "broadcast"

const (
	mainTable  = 254
	localTable = 255
)

// describeRoute is a route as `ip route` has it.
func describeRoute(r *state.Route) string {
	var b strings.Builder
	if r.Type != state.Unicast {
		fmt.Fprintf(&b, "%s ", r.Type)
	}
	if r.Dst.Bits() == 0 {
		b.WriteString("default")
	} else {
		b.WriteString(r.Dst.String())
	}
	if r.Src.IsValid() && r.Src.Bits() > 0 {
		fmt.Fprintf(&b, " from %s", r.Src)
	}
	if r.Gateway.IsValid() {
		fmt.Fprintf(&b, " via %s", r.Gateway)
	}
	if r.Device != "" {
		fmt.Fprintf(&b, " dev %s", r.Device)
	}
	if r.Metric != 0 {
		fmt.Fprintf(&b, " metric %d", r.Metric)
	}
	return b.String()
}

func whyRoute(r *state.Route, hops []route) string {
	if len(hops) > 1 {
		names := make([]string, len(hops))
		for i, h := range hops {
			names[i] = h.Device
		}
		return "a flow goes by one of " + strings.Join(names, ", ")
	}
	switch r.Protocol {
	case 2:
		return "its own network"
	case 0:
		return ""
	}
	return ""
}
