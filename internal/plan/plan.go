// Package plan says what to do to a router that holds one state so that it holds another.
//
// Diff is a function of two values and touches nothing. Apply is the pure model of what
// the operations do, and the law that holds them together, tested by fuzzing, is that
// Diff(Apply(have, Diff(have, want)), want) is empty and that no operation ever touches an
// object that is not ours.
package plan

import (
	"net/netip"

	"tombolo/internal/state"
)

// Verb is what an operation does to its object.
type Verb string

// The verbs.
const (
	Add    Verb = "add"
	Change Verb = "change"
	Remove Verb = "remove"
)

// Op is one step of a plan: it adds Object, changes Before into Object, or removes Before.
// An Op can be turned round (see Invert), so a plan that stopped half way can be undone.
type Op struct {
	Verb   Verb
	Object Object // Add, Change: what is to be
	Before Object // Change, Remove: what was
}

// Object is one thing that an operation adds, changes or removes: an Interface, Address,
// Peer, Route, Rule, Ruleset or Sysctl.
type Object interface {
	// ID names the object within its kind: "wg-op1", "wg-op1 10.0.32.2/32".
	ID() string
	// Kind is the name of the kind in the singular: "interface", "peer".
	Kind() string
}

// Interface is an interface without its addresses and peers, which are objects of their
// own. Only the Before of a removal has them: they go with the interface, without
// operations of their own, and Undo needs them.
type Interface struct{ state.Interface }

// Address is an address of an interface of ours.
type Address struct {
	Interface string       `json:"interface"`
	Prefix    netip.Prefix `json:"prefix"`
}

// Peer is a peer of a WireGuard interface of ours.
type Peer struct {
	Interface string `json:"interface"`
	state.Peer
}

// Route is a route with our protocol number.
type Route struct{ state.Route }

// Rule is a policy routing rule of ours.
type Rule struct{ state.Rule }

// Ruleset is one nftables table of ours.
type Ruleset struct{ state.Ruleset }

// Sysctl is a kernel setting. It can be changed, never added or removed.
type Sysctl struct{ state.Sysctl }

// Plan is what Diff finds.
type Plan struct {
	Ops []Op `json:"ops,omitempty"`

	// Conflicts are things that are not ours and stand where ours must be. A plan with
	// conflicts is not to be applied.
	Conflicts []Conflict `json:"conflicts,omitempty"`
}

// Conflict is a thing that is not ours in the place of one that we want.
type Conflict struct {
	Object Object `json:"object"` // as it is there
	Reason string `json:"reason"` // with the way out
}

// Empty reports whether there is nothing to do and nothing in the way.
func (p Plan) Empty() bool { return len(p.Ops) == 0 && len(p.Conflicts) == 0 }
