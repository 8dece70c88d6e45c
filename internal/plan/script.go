package plan

import (
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
// placeholders in it (see Op.Commands) have been filled in.
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
	return b.String()
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
