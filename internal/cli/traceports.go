package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"tombolo/internal/spec"
	"tombolo/internal/trace"
)

// flowProtocols are those that are asked.
var flowProtocols = []trace.Protocol{trace.ICMP, trace.TCP, trace.UDP}

// lastPort is the largest there is; 0 is nobody's.
const lastPort = 65535

// span is some ports of a protocol, both ends included; of icmp it is zero.
type span struct {
	protocol    trace.Protocol
	first, last int
}

func (s span) has(t span) bool {
	return s.protocol == t.protocol && s.first <= t.first && t.last <= s.last
}

// ports are as a file has them.
func (s span) ports() string {
	if s.first == s.last {
		return fmt.Sprint(s.first)
	}
	return fmt.Sprintf("%d-%d", s.first, s.last)
}

// part says whose columns a probe is about.
type part int

const (
	all       part = iota
	others         // all but what is published
	published      // that alone
)

// naming is a place of a file that decides about ports.
type naming struct {
	span
	by string
}

// opening are ports that a file publishes, with the first of those that they lead to.
type opening struct {
	span
	to int
}

func opens(open []opening, s span) bool {
	return slices.ContainsFunc(open, func(x opening) bool { return x.has(s) })
}

// probesOf are for what to ask so that whatever differs between files is seen. Ports of which the
// same rules speak are one class, of which one is asked, with what no rule speaks of; published ports
// are asked of whoever calls them there. Both families are, if there are.
func probesOf(networks ...*spec.Network) []*probe {
	named, open := namedBy(networks), publishedBy(networks)
	classes := map[string]*probe{}
	var out []*probe
	for _, p := range flowProtocols {
		for _, s := range spansOf(p, named, open) {
			rules := ""
			for _, x := range named {
				if x.has(s) {
					rules += x.by
				}
			}
			x := probe{Protocol: p, Port: uint16(s.first), stands: []span{s}}
			isOpen := opens(open, s)
			switch class := classes[rules]; {
			case class == nil:
				one := x
				one.part, classes[rules] = others, &one
				out = append(out, &one)
			case opens(open, class.stands[0]) && !isOpen: // what is published may lead elsewhere
				class.Protocol, class.Port, class.stands = p, x.Port, append(x.stands, class.stands...)
			default:
				class.stands = append(class.stands, s)
			}
			if isOpen {
				x.part = published
				out = append(out, &x)
			}
		}
	}
	if slices.ContainsFunc(networks, speaks6) {
		for _, p := range out {
			six := *p
			six.Six = true
			out = append(out, &six)
		}
	}
	return out
}

// namedBy are the ports that rules of policies speak of; those that published ones lead to, at which
// who seems to be the publishing router is a stranger (publishedElsewhere in internal/compile/edges.go);
// and what a router may do of its own where an exit lets it out nowhere (needs in exits.go there).
func namedBy(networks []*spec.Network) (out []naming) {
	for i, n := range networks {
		for k, e := range n.Exits {
			if e.Router && e.Otherwise == "block" {
				by := fmt.Sprintf("%d exit %d,", i, k)
				out = append(out, naming{span{trace.UDP, 53, 53}, by}, naming{span{trace.TCP, 53, 53}, by}, naming{span{trace.UDP, 123, 123}, by})
			}
		}
		if n.Policy == nil {
			continue
		}
		for k, x := range n.Publish {
			to := int(x.To.Port())
			out = append(out, naming{span{protocols[x.Protocol], to, to + x.Port.Last - x.Port.First}, fmt.Sprintf("%d publish %d,", i, k)})
		}
		for k, r := range n.Policy.Rules {
			for _, x := range r.Ports {
				s := span{protocols[x.Protocol], x.Ports.First, x.Ports.Last}
				if s.protocol != trace.ICMP && x.Ports == (spec.PortRange{}) {
					s.first, s.last = 1, lastPort
				}
				out = append(out, naming{s, fmt.Sprintf("%d rule %d,", i, k)})
			}
		}
	}
	return out
}

func publishedBy(networks []*spec.Network) (out []opening) {
	for _, n := range networks {
		for _, x := range n.Publish {
			out = append(out, opening{span{protocols[x.Protocol], x.Port.First, x.Port.Last}, int(x.To.Port())})
		}
	}
	return out
}

// spansOf cuts the ports of a protocol wherever something that is decided about them begins or ends:
// about a published one also by the port that it leads to.
func spansOf(p trace.Protocol, named []naming, open []opening) []span {
	if p == trace.ICMP {
		return []span{{protocol: p}}
	}
	cuts := []int{1, lastPort + 1}
	for _, x := range named {
		if x.protocol == p {
			cuts = append(cuts, x.first, x.last+1)
		}
	}
	rules := slices.Clone(cuts)
	for _, x := range open {
		if x.protocol != p {
			continue
		}
		cuts = append(cuts, x.first, x.last+1)
		for _, c := range rules {
			if x.to < c && c <= x.to+x.last-x.first {
				cuts = append(cuts, x.first+c-x.to)
			}
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	out := make([]span, len(cuts)-1)
	for i := range out {
		out[i] = span{p, cuts[i], cuts[i+1] - 1}
	}
	return out
}

// flowTexts are spans in words, for each protocol: tcp, tcp/22, tcp/80,8000-8010, tcp but 22.
func flowTexts(spans []span, six bool) (out []string) {
	for _, p := range flowProtocols {
		here := joinedOf(spans, p)
		if len(here) == 0 {
			continue
		}
		text := p.String()
		switch most := here[0].first == 1 && here[len(here)-1].last == lastPort; {
		case p == trace.ICMP, most && len(here) == 1:
		case most:
			for i := range here[1:] {
				here[i].first, here[i].last = here[i].last+1, here[i+1].first-1
			}
			text += " but " + portList(here[:len(here)-1])
		default:
			text += "/" + portList(here)
		}
		if six {
			text += ", IPv6"
		}
		out = append(out, text)
	}
	return out
}

// joinedOf are spans of a protocol in the order of ports, those that follow each other as one.
func joinedOf(spans []span, p trace.Protocol) (out []span) {
	last := map[int]int{} // by first
	for _, s := range spans {
		if s.protocol == p {
			last[s.first] = max(last[s.first], s.last)
		}
	}
	for _, first := range slices.Sorted(maps.Keys(last)) {
		if n := len(out); n > 0 && out[n-1].last+1 >= first {
			out[n-1].last = max(out[n-1].last, last[first])
			continue
		}
		out = append(out, span{p, first, last[first]})
	}
	return out
}

func portList(spans []span) string {
	words := make([]string, len(spans))
	for i, s := range spans {
		words[i] = s.ports()
	}
	return strings.Join(words, ",")
}
