package compile

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// classes divide addresses by which rules of the policy mean them: two of the same class are
// the same to all of them.
type classes struct {
	intervals []interval // of the network's addresses, ascending, none in another
	rules     [][]int    // of each class: the rules that mean it, ascending
	meaning   [][]int    // of each rule: the classes that it means, ascending
	of        [][]int    // of each class: its intervals, ascending
}

// interval is addresses of one class, from first to last; all in the same prefixes.
type interval struct {
	first, last netip.Addr
	class       int
}

// outsideClass is that of all addresses that are not the network's.
const outsideClass = 0

// newClasses divides what lies in all. Of each rule groups has whom it means; their prefixes lie
// in all, too.
func newClasses(all []netip.Prefix, groups []spec.Group) classes {
	var out classes
	meant := map[netip.Prefix][]int{} // rules by the prefixes that they name
	for _, p := range all {
		meant[p] = nil
	}
	var outside []int
	for k, g := range groups {
		for _, p := range g.Prefixes {
			meant[p] = append(meant[p], k)
		}
		if g.Internet {
			outside = append(outside, k)
		}
	}
	prefixes := make([]netip.Prefix, 0, len(meant))
	for p := range meant {
		prefixes = append(prefixes, p)
	}
	slices.SortFunc(prefixes, state.ComparePrefixes) // outer ones before those in them
	out.rules = [][]int{outside}
	number := map[string]int{}
	classOf := func(rules []int) int {
		key := make([]byte, 0, 4*len(rules))
		for _, k := range rules {
			key = binary.BigEndian.AppendUint32(key, uint32(k))
		}
		n, met := number[string(key)]
		if !met {
			n = len(out.rules)
			number[string(key)], out.rules = n, append(out.rules, rules)
		}
		return n
	}
	// The prefixes around the place that is looked at, the innermost last.
	type around struct {
		netip.Prefix
		class int
		rules []int
	}
	var open []around
	var next netip.Addr // what comes before it has an interval
	put := func(last netip.Addr, class int) {
		if !next.IsValid() || last.Less(next) {
			return
		}
		out.intervals = append(out.intervals, interval{next, last, class})
		next = last.Next()
	}
	closeUntil := func(p netip.Prefix) {
		for len(open) > 0 && (!p.IsValid() || !open[len(open)-1].Overlaps(p)) {
			top := open[len(open)-1]
			put(lastOf(top.Prefix), top.class)
			open = open[:len(open)-1]
		}
	}
	for _, p := range prefixes {
		closeUntil(p)
		rules := meant[p]
		if n := len(open); n > 0 {
			if next.Less(p.Addr()) {
				put(p.Addr().Prev(), open[n-1].class)
			}
			rules = append(slices.Clone(open[n-1].rules), rules...)
		}
		rules = sortedRules(slices.Clone(rules))
		next = p.Addr()
		open = append(open, around{p, classOf(rules), rules})
	}
	closeUntil(netip.Prefix{})
	out.of, out.meaning = make([][]int, len(out.rules)), make([][]int, len(groups))
	for k, x := range out.intervals {
		out.of[x.class] = append(out.of[x.class], k)
	}
	for class, rules := range out.rules {
		for _, k := range rules {
			out.meaning[k] = append(out.meaning[k], class)
		}
	}
	return out
}

// whole returns the class of addresses that only the rules mean which mean all of a LAN. It may
// be a new one.
func (c *classes) whole(l spec.LAN) int {
	var rules []int
	met := false
	for _, x := range c.intervals {
		switch in := slices.ContainsFunc(l.Prefixes, func(m spec.Mapped) bool { return m.Outside().Contains(x.first) }); {
		case !in:
		case !met:
			rules, met = c.rules[x.class], true
		default:
			rules = intersection(rules, c.rules[x.class])
		}
	}
	for class := outsideClass + 1; class < len(c.rules); class++ {
		if slices.Equal(c.rules[class], rules) {
			return class
		}
	}
	c.rules = append(slices.Clip(c.rules), rules) // the slice is shared
	c.of = append(slices.Clip(c.of), nil)
	return len(c.rules) - 1
}

// lastOf returns the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for k := range b {
		if keep := p.Bits() - 8*k; keep < 8 {
			b[k] |= byte(0xff) >> max(keep, 0)
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
