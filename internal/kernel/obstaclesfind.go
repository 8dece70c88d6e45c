package kernel

import (
	"fmt"
	"net/netip"
	"slices"

	"tombolo/internal/state"
)

// probe is a packet that must pass, and how to say what it stands for.
type probe struct {
	sample
	flow *state.Flow
}

// mostPorts is how many ports of a range are looked at.
const mostPorts = 256

// anyPort stands for all that no rule names: where everything must pass, it is not enough that
// one port does. Into the router that is Babel's (RFC 8966 §4).
const anyPort, babelPort = 54321, 6696

// packets returns what stands for all that a Forward is about.
func (x *search) packets(w state.Forward, pair [2]string, answer bool) []probe {
	p := sample{in: pair[0], out: pair[1], answer: answer}
	if answer {
		p.in, p.out = p.out, p.in
	}
	var out []probe
	for _, six := range []bool{false, true} {
		if !x.speaks(pair, six) {
			continue
		}
		p.six = six
		if len(w.Only) == 0 {
			for _, p.protocol = range []string{"tcp", "udp", "icmp"} {
				if p.port = anyPort; p.protocol == "udp" && p.out == "" {
					p.port = babelPort
				}
				out = append(out, probe{sample: p})
			}
		}
		for k := range w.Only {
			f := &w.Only[k]
			if f.To.IsValid() && f.To.Is6() != six {
				continue
			}
			step := max(1, (int(f.Last)-int(f.First))/mostPorts)
			for port := int(f.First); port <= int(f.Last); port += step {
				p.protocol, p.port, p.to = f.Protocol, uint16(port), f.To
				out = append(out, probe{sample: p, flow: f})
			}
		}
	}
	return out
}

// speaks reports whether packets of a family may go between two devices: a LAN has them only if
// it has such a prefix.
func (x *search) speaks(pair [2]string, six bool) bool {
	for _, l := range x.want.LANs {
		if l.Device == pair[0] || l.Device == pair[1] {
			if !slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool { return p.Addr().Is6() == six }) {
				return false
			}
		}
	}
	return true
}

// stopped returns the obstacle that a base chain is for some of the packets.
func (x *search) stopped(t *filterTable, c *filterChain, w state.Forward, probes []probe) (Obstacle, bool) {
	o := Obstacle{Why: w.Why, Family: t.family, Table: t.name, Chain: c.name, Firewall: t.firewall(c)}
	var seen, stopped []probe
	var first outcome
	for _, p := range probes {
		if t.family == "ip" && p.six || t.family == "ip6" && !p.six {
			continue
		}
		seen = append(seen, p)
		got := (&walk{sample: p.sample, table: t, marked: x.marked, translated: x.translated}).base(c)
		if got.ends != "drops" {
			continue
		}
		if len(stopped) == 0 || first.passes && !got.passes {
			first = got // what is certain goes before what is not
		}
		stopped = append(stopped, p)
		o.Only = narrowed(o.Only, p)
	}
	if len(stopped) == 0 {
		return o, false
	}
	if len(o.Only) == 0 {
		o.What = what(seen, stopped)
	}
	if first.by != nil {
		o.Rule = first.by.text
		if o.Rule == "" {
			o.Rule = fmt.Sprintf("rule %d", first.by.handle)
		}
		if first.by.chain != c.name {
			o.Within = first.by.chain
		}
	}
	if o.Perhaps = first.passes; o.Perhaps {
		o.Unless = "a rule that looks at more"
		if first.unless != nil && first.unless.text != "" {
			o.Unless = first.unless.text
		}
	}
	return o, true
}

// narrowed adds a packet's port to the flows that are stopped: all from the first to the last.
func narrowed(only []state.Flow, p probe) []state.Flow {
	if p.flow == nil {
		return only
	}
	at := slices.IndexFunc(only, func(f state.Flow) bool {
		return f.Protocol == p.flow.Protocol && f.To == p.flow.To && p.flow.First <= f.First && f.Last <= p.flow.Last
	})
	if at < 0 {
		return append(only, state.Flow{Protocol: p.flow.Protocol, First: p.port, Last: p.port, To: p.flow.To})
	}
	only[at].First, only[at].Last = min(only[at].First, p.port), max(only[at].Last, p.port)
	return only
}

// what says which of the packets are stopped, where it is not all: protocols, or families, or both.
func what(seen, stopped []probe) []string {
	if len(seen) == len(stopped) {
		return nil
	}
	words := func(all []probe, six bool) (out []string) {
		for _, p := range all {
			if p.six == six && !slices.Contains(out, p.protocol) {
				out = append(out, p.protocol)
			}
		}
		return out
	}
	four, six := words(stopped, false), words(stopped, true)
	hasFour, hasSix := len(words(seen, false)) > 0, len(words(seen, true)) > 0
	switch {
	case !hasFour:
		return six
	case !hasSix, slices.Equal(four, six):
		return four
	}
	var out []string
	for _, f := range []struct {
		name          string
		stopped, seen []string
	}{{"IPv4", four, words(seen, false)}, {"IPv6", six, words(seen, true)}} {
		switch {
		case len(f.stopped) == len(f.seen):
			out = append(out, f.name)
		default:
			for _, p := range f.stopped {
				out = append(out, f.name+" "+p)
			}
		}
	}
	return out
}
