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

// portElement is a verdict for a protocol and ports, both as nft has them.
type portElement struct{ ports, verdict string }

// byPort returns where ports decide otherwise than the rest, in the order of the ports.
func (v verdicts) byPort(deny string) (out []portElement) {
	for _, p := range []struct {
		name string
		portVerdicts
	}{{"tcp", v.tcp}, {"udp", v.udp}} {
		for _, x := range p.portVerdicts {
			if x.deny == v.other {
				continue
			}
			ports := fmt.Sprintf("%s . %d-%d", p.name, x.First, x.Last)
			if x.First == x.Last {
				ports = fmt.Sprintf("%s . %d", p.name, x.First)
			}
			out = append(out, portElement{ports, word(x.deny, deny)})
		}
	}
	return out
}

// withoutPorts returns them as if no port were spoken of.
func (v verdicts) withoutPorts() verdicts {
	v.tcp, v.udp = whole(v.other), whole(v.other)
	return v
}

// text is the body of a chain that decides by protocol and port; none where nothing depends on that.
func (v verdicts) text(deny string) string {
	if !v.mixed() {
		return ""
	}
	var b strings.Builder
	var elements []string
	for _, x := range v.byPort(deny) {
		elements = append(elements, x.ports+" : "+x.verdict)
	}
	if len(elements) > 0 {
		fmt.Fprintf(&b, "\t\tmeta l4proto . th dport vmap { %s }\n", strings.Join(elements, ", "))
	}
	if v.icmp != v.other {
		fmt.Fprintf(&b, "\t\tmeta l4proto { icmp, ipv6-icmp } %s\n", word(v.icmp, deny))
	}
	fmt.Fprintf(&b, "\t\t%s\n", word(v.other, deny))
	return b.String()
}

// word is a verdict as nft has it.
func word(denies bool, deny string) string {
	if denies {
		return deny
	}
	return "accept"
}

// denial is how flows from a class are denied: strangers are not told.
func denial(from int) string {
	if from == outsideClass {
		return "drop"
	}
	return "goto denied"
}

// sortedRules sorts a list of rules' numbers, each of which stands once then.
func sortedRules(rules []int) []int {
	slices.Sort(rules)
	return slices.Compact(rules)
}
