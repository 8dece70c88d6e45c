package cli

import (
	"fmt"
	"os"
	"strings"

	"tombolo/internal/compile"
	"tombolo/internal/kernel"
	"tombolo/internal/plan"
	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// The codes of what check finds on the machine itself. Like those of the file they do not
// change.
const (
	codeStrangeRule  = "rule-among-ours"
	codeRuleBefore   = "rule-before-ours"
	codeStrangeMark  = "mark-among-ours"
	codeStrangeRoute = "route-among-ours"
	codeShadow       = "route-before-exits"
)

// neighbours returns what other programs on this machine have in the way of ours, if it is a
// router of the network and we may look: the site that was asked for, else the one that is
// called like the host.
func (a *app) neighbours(f file, path, asked string) (spec.Diagnostics, error) {
	name := asked
	if name == "" {
		name, _ = os.Hostname()
	}
	i, known := f.Site(name)
	switch {
	case !known && asked != "":
		return nil, unknownSite(f.Network, asked)
	case !known, f.Sites[i].Kind == spec.Plain, os.Geteuid() != 0:
		return nil, nil
	}
	o := compile.Owner(f.Settings)
	found, err := kernel.ReadStrangers([]uint8{o.Protocol, o.Learned(), o.Following()}, func(table uint32) bool { return tableOfOurs(f.Settings, table) })
	if err != nil {
		return nil, fmt.Errorf("look at this machine's neighbours: %w", err)
	}
	s := strangers{Strangers: found, owner: o, settings: f.Settings, file: path, seen: map[string]bool{}}
	s.look(len(f.Exits) > 0 || len(f.Sites[i].Uplinks) > 1)
	return s.out, nil
}

func tableOfOurs(s spec.Settings, table uint32) bool {
	for _, r := range s.Tables() {
		if r.First <= table && table <= r.Last {
			return true
		}
	}
	return false
}

// strangers is what other programs have on a machine, beside what is to be ours there.
type strangers struct {
	kernel.Strangers
	owner    state.Owner
	settings spec.Settings
	file     string

	seen map[string]bool // what was told of: texts of rules, and devices of halves
	out  spec.Diagnostics
}

// look finds what is in the way. chooses says whether the router chooses between ways to the
// Internet; if not, it is all the same to it what main holds.
func (s *strangers) look(chooses bool) {
	for _, r := range s.Rules {
		if text := ruleText(r); !s.seen[text] {
			s.rule(r, text)
		}
	}
	for _, r := range s.Routes {
		switch {
		case tableOfOurs(s.settings, r.Table):
			s.warn(codeStrangeRoute, "say another `table:` in `settings:`, or have that program use another",
				"table %d is tombolo's, and another program has routes there (protocol %d), such as %s", r.Table, r.Protocol, plan.Route{Route: r}.ID())
		case chooses && r.Table == mainTable && r.Dst.Bits() == 1 && r.Type == state.Unicast && !s.seen["half"+by(r)]:
			s.seen["half"+by(r)] = true
			s.warn(codeShadow, "have that program set a default route of its own instead, or none (OpenVPN: `pull-filter ignore redirect-gateway`)",
				"route %s%s of another program is half of the Internet, and goes before exits and uplinks as all that is more specific than a default route", r.Dst, by(r))
		}
	}
}

// mainTable is the kernel's own table of ordinary routes (linux/rtnetlink.h, RT_TABLE_MAIN).
const mainTable = 254

// rule says what is in the way about one rule, the worst of it.
func (s *strangers) rule(r kernel.StrangeRule, text string) {
	const all = ^uint32(0)
	first, last := s.owner.RuleFirst, s.owner.RuleLast
	way, taken := s.takes(r)
	switch {
	case r.Priority <= last && taken:
		s.warn(codeRuleBefore, "tombolo's links, replies and exits need to go first: have that program leave routes alone (wg-quick: `Table = off`), or give its rule a priority above "+fmt.Sprint(last),
			"rule %q of another program takes all packets before tombolo's rules behind it, of %d to %d: it leads to %s%s", text, first, last, plan.Route{Route: way}.ID(), by(way))
	case first <= r.Priority && r.Priority <= last:
		s.warn(codeStrangeRule, "give it another priority; or say another `priority:` in `settings:`", "rule %q of another program stands among those of tombolo, %d to %d", text, first, last)
	case r.Mask == all:
		s.warn(codeStrangeMark, "give that rule a mask, such as `fwmark 0x1/0xff`", "rule %q of another program compares all bits of the mark, also those of tombolo, %#x, so what tombolo has marked is another to it", text, s.settings.Mask)
	case r.Mask&s.settings.Mask != 0:
		s.warn(codeStrangeMark, "say another `mask:` in `settings:`, and a `mark:` within it", "rule %q of another program goes by bits of the mark that are tombolo's, %#x", text, s.settings.Mask)
	default:
		return
	}
	s.seen[text] = true
}

// takes reports whether a rule leads everything, or half of it, out by a route.
func (s *strangers) takes(r kernel.StrangeRule) (state.Route, bool) {
	chosen := r.From.IsValid() || r.To.IsValid() || r.IIF != "" || r.OIF != "" || r.Mask != 0
	if r.Action != state.Lookup || r.Narrow || chosen != r.Not {
		return state.Route{}, false
	}
	for _, x := range s.Routes {
		// What is suppressed is no longer than one less: see state.Rule.
		if x.Table == r.Table && x.Dst.Addr().Is6() == r.IPv6 && x.Dst.Bits() <= 1 && x.Dst.Bits() >= r.Suppress && !x.Src.IsValid() && x.Type == state.Unicast {
			return x, true
		}
	}
	return state.Route{}, false
}

// ruleText returns a rule as `ip rule` takes it, without the family.
func ruleText(r kernel.StrangeRule) string {
	text := strings.TrimPrefix(plan.Rule{Rule: r.Rule}.ID(), "-6 ")
	if r.Not {
		text = "not " + text
	}
	return text
}

func by(r state.Route) string {
	if r.Device == "" {
		return ""
	}
	return " by " + r.Device
}

func (s *strangers) warn(code, hint, format string, args ...any) {
	s.out = append(s.out, spec.Diagnostic{Severity: spec.Warning, Code: code, File: s.file, Message: "this machine: " + fmt.Sprintf(format, args...), Hint: hint})
}
