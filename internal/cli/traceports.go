package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"tombolo/internal/spec"
	"tombolo/internal/trace"
)

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
func probesOf(networks ...*spec.Network) []probe {
	named, open := namedBy(networks), publishedBy(networks)
	classes := map[string][]span{}
	var out []probe
	for _, p := range []trace.Protocol{trace.ICMP, trace.TCP, trace.UDP} {
		for _, s := range spansOf(p, named, open) {
			rules := ""
			for _, x := range named {
				if x.has(s) {
					rules += x.by
				}
			}
			classes[rules] = append(classes[rules], s)
			if opens(open, s) {
				out = append(out, probe{Protocol: p, Port: uint16(s.first), part: published, stands: []span{s}})
			}
		}
	}
	for _, class := range classes {
		// One that is published may lead elsewhere.
		i := slices.IndexFunc(class, func(s span) bool { return !opens(open, s) })
		s := class[max(i, 0)]
		out = append(out, probe{Protocol: s.protocol, Port: uint16(s.first), part: others, stands: class})
	}
	if slices.ContainsFunc(networks, speaks6) {
		for _, p := range out {
			p.Six = true
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b probe) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port), cmp.Compare(a.part, b.part), cmp.Compare(bit(a.Six), bit(b.Six)))
	})
	return out
}

// namedBy are the ports that rules of policies speak of, and what a router may do of its own where an
// exit lets it out nowhere (needs in internal/compile/exits.go).
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
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.first, b.first))
	})
	for len(spans) > 0 {
		here := spans[:1] // those of a protocol, joined
		p, rest := here[0].protocol, spans[1:]
		for len(rest) > 0 && rest[0].protocol == p {
			if end := &here[len(here)-1]; end.last+1 >= rest[0].first {
				end.last = max(end.last, rest[0].last)
			} else {
				here = append(here, rest[0]) // never beyond what was read
			}
			rest = rest[1:]
		}
		spans = rest
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

func portList(spans []span) string {
	words := make([]string, len(spans))
	for i, s := range spans {
		words[i] = s.ports()
	}
	return strings.Join(words, ",")
}
