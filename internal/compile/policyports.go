package compile

import (
	"fmt"
	"slices"
	"strings"

	"tombolo/internal/spec"
)

// verdicts say what is denied between two classes.
type verdicts struct {
	tcp, udp    portVerdicts
	icmp, other bool
}

// portVerdicts are ranges of ports that together are all, ascending.
type portVerdicts []portVerdict

type portVerdict struct {
	spec.PortRange
	deny bool
}

func whole(deny bool) portVerdicts {
	return portVerdicts{{spec.PortRange{First: 0, Last: 65535}, deny}}
}

// with returns them with another verdict for a range.
func (v portVerdicts) with(r spec.PortRange, deny bool) portVerdicts {
	var out portVerdicts
	add := func(first, last int, deny bool) {
		switch n := len(out); {
		case first > last:
		case n > 0 && out[n-1].deny == deny:
			out[n-1].Last = last
		default:
			out = append(out, portVerdict{spec.PortRange{First: first, Last: last}, deny})
		}
	}
	for _, x := range v {
		add(x.First, min(x.Last, r.First-1), x.deny)
		add(max(x.First, r.First), min(x.Last, r.Last), deny)
		add(max(x.First, r.Last+1), x.Last, x.deny)
	}
	return out
}

// mixed reports whether it matters what kind of packet it is.
func (v verdicts) mixed() bool {
	same := func(p portVerdicts) bool { return len(p) == 1 && p[0].deny == v.other }
	return v.icmp != v.other || !same(v.tcp) || !same(v.udp)
}

// text is the body of a chain that decides by protocol and port.
func (v verdicts) text(deny string) string {
	word := func(denies bool) string {
		if denies {
			return deny
		}
		return "accept"
	}
	var b strings.Builder
	var elements []string
	for _, p := range []struct {
		name string
		portVerdicts
	}{{"tcp", v.tcp}, {"udp", v.udp}} {
		for _, x := range p.portVerdicts {
			if x.deny == v.other {
				continue
			}
			ports := fmt.Sprintf("%d-%d", x.First, x.Last)
			if x.First == x.Last {
				ports = fmt.Sprint(x.First)
			}
			elements = append(elements, fmt.Sprintf("%s . %s : %s", p.name, ports, word(x.deny)))
		}
	}
	if len(elements) > 0 {
		fmt.Fprintf(&b, "\t\tmeta l4proto . th dport vmap { %s }\n", strings.Join(elements, ", "))
	}
	if v.icmp != v.other {
		fmt.Fprintf(&b, "\t\tmeta l4proto { icmp, ipv6-icmp } %s\n", word(v.icmp))
	}
	fmt.Fprintf(&b, "\t\t%s\n", word(v.other))
	return b.String()
}

// sortedRules sorts a list of rules' numbers, each of which stands once then.
func sortedRules(rules []int) []int {
	slices.Sort(rules)
	return slices.Compact(rules)
}
