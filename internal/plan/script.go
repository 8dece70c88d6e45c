package plan

import (
	"fmt"
	"net/netip"
	"strings"

	"tombolo/internal/state"
)

var headings = map[string]string{
	KindSysctl:    "settings",
	KindInterface: "interfaces",
	KindAddress:   "addresses",
	KindPeer:      "peers",
	KindRoute:     "routes",
	KindRuleset:   "firewall",
	KindRule:      "rules",
}

// Script returns the commands that make what r owns from nothing, in the order of a plan,
// with a comment before each kind of thing. It can be run by a POSIX shell where the
// placeholders in it (see Op.Commands) have been filled in. What its speaker does no command
// makes; comments at the end say it.
func Script(r state.Router) string {
	var b strings.Builder
	var last string
	for _, op := range fromNothing(r) {
		commands := op.Commands()
		if kind := op.subject().Kind(); kind != last && len(commands) > 0 {
			if last != "" {
				b.WriteByte('\n')
			}
			b.WriteString("# " + headings[kind] + "\n")
			last = kind
		}
		for _, c := range commands {
			b.WriteString(c + "\n")
		}
	}
	if r.Egress != nil {
		if last != "" {
			b.WriteByte('\n')
		}
		ways(&b, r)
	}
	if r.Babel != nil {
		if last != "" {
			b.WriteByte('\n')
		}
		if len(r.Babel.Links) > 0 {
			speaker(&b, r.Babel)
		}
		if r.Clients != nil {
			doorkeeper(&b, r.Babel, r.Clients)
		}
	}
	return b.String()
}

// speaker says in comments what a router tells others and takes from them.
func speaker(b *strings.Builder, s *state.Babel) {
	fmt.Fprintf(b, "# babel: tombolo agent learns the other routes, into table %d with proto %d\n", s.Table, s.Protocol)
	for _, l := range s.Links {
		b.WriteString("# speaks on " + l.Device)
		if l.Peer != "" {
			b.WriteString(" with " + l.Peer)
		}
		fmt.Fprintf(b, ", cost %d ms", l.Cost)
		if l.Key != "" {
			b.WriteString(", signed with key " + l.Key)
		}
		if len(l.Foreign) > 0 {
			b.WriteString(", and takes there from anybody" + prefixList(l.Foreign))
		}
		b.WriteByte('\n')
	}
	for _, a := range s.Announce {
		from := ""
		if a.Src.IsValid() {
			from = " from " + a.Src.String()
		}
		if a.Metric > 0 {
			from += fmt.Sprintf(" at %.1f ms", float64(a.Metric)/10)
		}
		fmt.Fprintf(b, "# announces %s%s%s\n", a.Dst, from, condition(a))
	}
	for _, e := range s.Exits {
		fmt.Fprintf(b, "# learns the default route from %s into table %d\n", e.Src, e.Table)
	}
	fmt.Fprintf(b, "# takes %d prefixes, each only from the sites that may announce it\n", len(s.Accept))
}

// ways says in comments what follows the uplinks.
func ways(b *strings.Builder, r state.Router) {
	fmt.Fprintf(b, "# uplinks: tombolo agent keeps these tables, with proto %d, and at pref %d the rules that lead their addresses there\n", r.Egress.Protocol, r.Egress.Source)
	for _, u := range r.Uplinks {
		fmt.Fprintf(b, "# table %d leads out by %s", u.Table, u.Device)
		if u.Check != nil {
			words := make([]string, len(u.Check.Targets))
			for i, t := range u.Check.Targets {
				if words[i] = t.String(); t.Port() == 0 {
					words[i] = t.Addr().String()
				}
			}
			fmt.Fprintf(b, ", which works while %s answers", strings.Join(words, " or "))
		}
		b.WriteByte('\n')
	}
	if t := r.Egress.Table; t != 0 {
		fmt.Fprintf(b, "# table %d leads out by those that work:", t)
		for i, u := range r.Uplinks {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(b, " %s with weight %d", u.Device, u.Weight)
			if u.Preference > 1 {
				fmt.Fprintf(b, " and preference %d", u.Preference)
			}
		}
		b.WriteByte('\n')
	}
}

// doorkeeper says in comments which devices may enter.
func doorkeeper(b *strings.Builder, s *state.Babel, c *state.Clients) {
	fmt.Fprintf(b, "# clients: tombolo agent routes to whoever is on %s, in table %d with proto %d, for %d s after a handshake\n", c.Device, s.Table, s.Protocol, c.Hold)
	for _, d := range c.Devices {
		fmt.Fprintf(b, "# takes in %s,%s\n", d.Name, prefixList(d.Addresses))
	}
}

func prefixList(prefixes []netip.Prefix) string {
	var b strings.Builder
	for _, p := range prefixes {
		b.WriteString(" " + p.String())
	}
	return b.String()
}

// condition says while what something is announced; nothing for always.
func condition(a state.Announcement) string {
	switch a.While {
	case state.Carrier:
		return fmt.Sprintf(" while %s has carrier", a.Device)
	case state.Probe:
		return fmt.Sprintf(" while %s on %s answers", a.Probe, a.Device)
	case state.Works:
		return " while an uplink works"
	case state.Handshake:
		return fmt.Sprintf(" while %s on %s is there", a.Peer, a.Device)
	}
	return ""
}

// fromNothing returns the plan for a machine that has nothing of ours, and of whose
// settings nothing is known but that it has them.
func fromNothing(r state.Router) []Op {
	have := state.Router{Owner: r.Owner}
	for _, s := range r.Sysctls {
		// A value that Diff changes: any, or the only one that it may change.
		have.Sysctls = append(have.Sysctls, state.Sysctl{Name: s.Name, Value: s.Only})
	}
	ops := Diff(have, r).Ops
	for i, op := range ops {
		if s, ok := op.Before.(Sysctl); ok {
			s.Value = ""
			ops[i].Before = s
		}
	}
	return ops
}
