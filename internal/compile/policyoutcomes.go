package compile

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strconv"

	"tombolo/internal/spec"
)

// outcome is what the rules say of two classes.
type outcome struct {
	verdicts
	text  string        // of the chain that they would be; none where nothing depends on protocol and port
	ports []portElement // and as elements
}

// sequence returns what the rules say of two classes. The same rules are about most pairs: their
// outcome is put together once.
func (p *sitePolicy) sequence(from, to int) *outcome {
	rules, denied := intersection(p.from.rules[from], p.to.rules[to]), p.denies(from, to)
	key := make([]byte, 0, 256)
	key = append(key, denial(from)...)
	key = strconv.AppendBool(key, denied)
	for _, k := range rules {
		key = binary.BigEndian.AppendUint32(key, uint32(k))
	}
	x := p.outcomes[string(key)]
	if x == nil {
		v := p.overridden(rules, denied)
		x = &outcome{verdicts: v, text: v.text(denial(from))}
		if x.text != "" {
			x.ports = v.byPort(denial(from))
		}
		p.outcomes[string(key)] = x
	}
	return x
}

// overridden puts together what some rules say, before which comes whether all is denied.
func (p *policy) overridden(rules []int, deny bool) verdicts {
	var out verdicts
	out.other, out.icmp = deny, deny
	out.tcp, out.udp = whole(deny), whole(deny)
	for _, k := range slices.Backward(rules) { // an earlier one overrides a later
		x := p.Rules[k]
		denies := !x.Allow
		if len(x.Ports) == 0 {
			out.other, out.icmp, out.tcp, out.udp = denies, denies, whole(denies), whole(denies)
		}
		for _, port := range x.Ports {
			r := port.Ports
			if r == (spec.PortRange{}) {
				r = spec.PortRange{First: 0, Last: 65535}
			}
			switch port.Protocol {
			case "icmp":
				out.icmp = denies
			case "tcp":
				out.tcp = out.tcp.with(r, denies)
			case "udp":
				out.udp = out.udp.with(r, denies)
			}
		}
	}
	return out
}

// intersection returns what stands in two ascending lists.
func intersection(a, b []int) []int {
	var out []int
	for len(a) > 0 && len(b) > 0 {
		switch c := cmp.Compare(a[0], b[0]); {
		case c == 0:
			out = append(out, a[0])
			a, b = a[1:], b[1:]
		case c < 0:
			a = a[1:]
		default:
			b = b[1:]
		}
	}
	return out
}
