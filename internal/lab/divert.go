package lab

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tombolo/internal/lab/internet"
)

// emulator is the TUN device of the emulated Internet, in core.
const emulator = "emu0"

// divertMark is on packets in core that go through the emulator, and divertTable is
// where it routes them.
const (
	divertMark   = 1
	divertTable  = 100
	markPriority = 100 // of the rules for marks
)

// diverted is what goes through the emulator instead of plainly through core.
type diverted struct {
	from   []string // devices: all that comes in there
	to4    []netip.Prefix
	to6    []netip.Prefix
	pairs4 []devicePrefix
	pairs6 []devicePrefix

	aliases []alias
}

// alias is an uplink that core knows by another address than its own.
type alias struct {
	device     string
	own, other netip.Addr
}

// aliasMark is on packets to the first alias after their translation; the next ones'
// marks, which are also their tables' and rules' numbers, follow.
const aliasMark = 1000

// devicePrefix is what comes in by a device for a prefix.
type devicePrefix struct {
	device string
	prefix netip.Prefix
}

// divert finds what the emulator has something to do with: all from and to a NAT, and
// the paths that are impaired.
func (p *paths) divert() diverted {
	var d diverted
	for i := range p.places {
		here := &p.places[i]
		if here.alias.IsValid() {
			d.aliases = append(d.aliases, alias{here.device, here.own, here.alias})
		}
		if here.inside() || p.normal != (internet.Impairment{}) {
			d.from = append(d.from, here.device)
		}
		if !here.inside() {
			continue
		}
		d.to4 = append(d.to4, hostPrefix(here.where.NAT.Public))
		for _, prefix := range here.where.Prefixes {
			if prefix.Addr().Is4() {
				d.to4 = append(d.to4, prefix)
			} else {
				d.to6 = append(d.to6, prefix)
			}
		}
	}
	d.from = sorted(d.from, strings.Compare)
	d.to4 = sorted(d.to4, comparePrefixes)
	d.to6 = sorted(d.to6, comparePrefixes)
	for at := range p.impaired() {
		from, to := &p.places[at.from], &p.places[at.to]
		if to.inside() || slices.Contains(d.from, from.device) {
			continue
		}
		for _, prefix := range to.where.Prefixes {
			if prefix.Addr().Is4() {
				d.pairs4 = append(d.pairs4, devicePrefix{from.device, prefix})
			} else {
				d.pairs6 = append(d.pairs6, devicePrefix{from.device, prefix})
			}
		}
	}
	d.pairs4, d.pairs6 = disjoint(d.pairs4), disjoint(d.pairs6)
	return d
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

func sorted[T comparable](list []T, compare func(a, b T) int) []T {
	slices.SortFunc(list, compare)
	return slices.Compact(list)
}

// disjoint sorts pairs and leaves out those that lie in another one: a set of nftables
// holds no overlapping elements.
func disjoint(list []devicePrefix) []devicePrefix {
	list = sorted(list, func(a, b devicePrefix) int {
		return cmp.Or(cmp.Compare(a.device, b.device), comparePrefixes(a.prefix, b.prefix))
	})
	out := list[:0]
	for _, p := range list {
		if n := len(out); n > 0 && out[n-1].device == p.device && out[n-1].prefix.Overlaps(p.prefix) {
			continue // it came first, so it is the wider one
		}
		out = append(out, p)
	}
	return out
}

// ruleset returns core's nftables table, for nft -f. It replaces what was there at once.
// Looking a packet up costs the same however many paths are impaired.
func (d diverted) ruleset() string {
	var s strings.Builder
	s.WriteString("table inet lab\ndelete table inet lab\ntable inet lab {\n")
	set(&s, "from", "type iface_index", "", d.from, func(dev string) string { return quote(dev) })
	set(&s, "to4", "type ipv4_addr", "interval; auto-merge", d.to4, netip.Prefix.String)
	set(&s, "to6", "type ipv6_addr", "interval; auto-merge", d.to6, netip.Prefix.String)
	both := func(p devicePrefix) string { return quote(p.device) + " . " + p.prefix.String() }
	set(&s, "pairs4", "type iface_index . ipv4_addr", "interval", d.pairs4, both)
	set(&s, "pairs6", "type iface_index . ipv6_addr", "interval", d.pairs6, both)
	d.translate(&s)
	fmt.Fprintf(&s, `	chain divert {
		type filter hook prerouting priority mangle; policy accept;
		iif %[1]q return
		iif @from meta mark set %[2]d return
		ip daddr @to4 meta mark set %[2]d return
		ip6 daddr @to6 meta mark set %[2]d return
		iif . ip daddr @pairs4 meta mark set %[2]d
		iif . ip6 daddr @pairs6 meta mark set %[2]d
	}
}
`, emulator, divertMark)
	return s.String()
}

// translate writes the chains that put an alias in the place of an uplink's own address
// and back, without a state.
func (d diverted) translate(s *strings.Builder) {
	if len(d.aliases) == 0 {
		return
	}
	var in, back strings.Builder
	for i, a := range d.aliases {
		fmt.Fprintf(&in, "\t\tiif %q ip saddr %s ip saddr set %s\n", a.device, a.own, a.other)
		fmt.Fprintf(&back, "\t\tip daddr %s ip daddr set %s meta mark set %d return\n", a.other, a.own, aliasMark+i)
	}
	s.WriteString("\tchain leave {\n\t\ttype filter hook prerouting priority raw; policy accept;\n" + in.String() + "\t}\n")
	// After the decision to divert, which knows aliases only.
	s.WriteString("\tchain arrive {\n\t\ttype filter hook prerouting priority dstnat; policy accept;\n")
	fmt.Fprintf(s, "\t\tmeta mark %d return\n%s\t}\n", divertMark, back.String())
	s.WriteString("\tchain answer {\n\t\ttype route hook output priority mangle; policy accept;\n" + back.String() + "\t}\n")
}

func quote(device string) string { return `"` + device + `"` }

// set writes a set and its elements.
func set[T any](s *strings.Builder, name, form, flags string, elements []T, text func(T) string) {
	fmt.Fprintf(s, "\tset %s {\n\t\t%s\n", name, form)
	if flags != "" {
		fmt.Fprintf(s, "\t\tflags %s\n", flags)
	}
	if len(elements) > 0 {
		words := make([]string, len(elements))
		for i, e := range elements {
			words[i] = text(e)
		}
		fmt.Fprintf(s, "\t\telements = { %s }\n", strings.Join(words, ", "))
	}
	s.WriteString("\t}\n")
}
