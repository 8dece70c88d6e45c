package plan

import (
	"slices"

	"tombolo/internal/state"
)

// phase is a part of a plan. What is new comes before what goes, so that packets always
// have a way; within that, nothing comes before what it stands on.
type phase int

const (
	// Filters of sources, and what forwarding would make the kernel forget.
	sysctlsPhase phase = iota

	// Routes that the kernel would drop, or change, with what the next phases replace
	// under them. They come back with the other routes.
	displacedPhase

	interfacesPhase
	newSysctlsPhase // of interfaces that were not there before
	addressesPhase
	peersPhase
	routesPhase

	// The filter before the rules: rules lead packets into tunnels, and none is to get
	// there unfiltered.
	rulesetsPhase

	// By rising priority: the first rules keep the tunnels' own packets out of the
	// tunnels.
	rulesPhase

	// Forwarding is switched on when all is there that keeps packets from where they are
	// not to go.
	forwardingPhase

	// Marks of tunnels that stay change when there are rules for the new mark and still
	// rules for the old one.
	marksPhase

	oldRulesPhase
	oldRoutesPhase
	oldPeersPhase
	oldAddressesPhase
	oldRulesetsPhase
	oldInterfacesPhase // takes along the interface's addresses and peers

	phases
)

// differ collects a plan.
type differ struct {
	owner state.Owner
	have  state.Router
	want  state.Router
	links []*link // ours, have or wanted, by name

	ops       [phases][]Op
	conflicts []Conflict
}

// Diff returns what to do to a router that holds have so that it holds want.
//
// Only what belongs to want.Owner is looked at, on both sides: have may hold anything
// else, which no operation touches. Where such a thing stands in the place of one that is
// wanted there is a Conflict, and no operation for that object.
//
// The operations are in the order in which they must be done, and the same for the same
// values. Each one's Before is what is there when its turn comes. For that, some objects
// change twice: an interface lets go of a UDP port that another is to have, and a peer of
// an allowed IP that moves to another (which the kernel would take from it silently, and
// Undo would not give back).
//
// These count as equal: any listen port, where 0 is wanted; any endpoint, where no address
// is wanted, or where it is one of those wanted; rulesets with the same digest; peers that
// differ in name, endpoint names and handshake; interfaces with the same public key,
// unless it is not known.
//
// A setting that have does not list is passed over, since this kernel has none, except
// when it belongs to an interface that the plan adds.
func Diff(have, want state.Router) Plan {
	d := &differ{owner: want.Owner, have: have, want: want}
	d.findLinks()
	d.diffInterfaces()
	d.diffSysctls()
	for _, l := range d.links {
		d.diffAddresses(l)
		d.diffPeers(l)
	}
	d.diffRoutes()
	d.diffRulesets()
	d.diffRules()
	return Plan{Ops: slices.Concat(d.ops[:]...), Conflicts: d.conflicts}
}

func (d *differ) add(at phase, o Object) {
	d.ops[at] = append(d.ops[at], Op{Verb: Add, Object: o})
}

func (d *differ) change(at phase, before, o Object) {
	d.ops[at] = append(d.ops[at], Op{Verb: Change, Object: o, Before: before})
}

func (d *differ) remove(at phase, before Object) {
	d.ops[at] = append(d.ops[at], Op{Verb: Remove, Before: before})
}

func (d *differ) conflict(o Object, reason string) {
	d.conflicts = append(d.conflicts, Conflict{o, reason})
}

// ours returns the things for which owned is true, in a list of their own.
func ours[T any](things []T, owned func(T) bool) []T {
	var out []T
	for _, t := range things {
		if owned(t) {
			out = append(out, t)
		}
	}
	return out
}
