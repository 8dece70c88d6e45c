package plan

import (
	"slices"

	"tombolo/internal/state"
)

// Invert returns the operation that takes op back. That of a removed interface adds it
// with its addresses and peers in it; Undo takes these apart.
func Invert(op Op) Op {
	switch op.Verb {
	case Add:
		return Op{Verb: Remove, Before: op.Object}
	case Remove:
		return Op{Verb: Add, Object: op.Before}
	}
	return Op{Verb: Change, Object: op.Before, Before: op.Object}
}

// Undo returns what takes the operations back that were done, in the order in which they
// were done: the reverse, each inverted.
//
// What it cannot give back: the endpoint of a peer that had none before (WireGuard cannot
// forget one), a route beside which there is another with the same key, and of an
// interface that was removed its settings and the routes of others over it. A setting that came with an interface goes with it.
func Undo(done []Op) []Op {
	var out []Op
	for _, op := range slices.Backward(done) {
		back := Invert(op)
		switch o := back.Object.(type) {
		case Interface:
			if back.Verb == Add {
				out = append(out, expand(o.Interface)...)
				continue
			}
		case Sysctl:
			if o.Value == "" {
				continue
			}
		}
		out = append(out, back)
	}
	return out
}

// expand returns the operations that add an interface, its addresses and its peers.
func expand(i state.Interface) []Op {
	out := []Op{{Verb: Add, Object: Interface{bare(i)}}}
	for _, p := range i.Addresses {
		out = append(out, Op{Verb: Add, Object: Address{i.Name, p}})
	}
	for _, p := range wireGuard(&i).Peers {
		out = append(out, Op{Verb: Add, Object: Peer{i.Name, quiet(p)}})
	}
	return out
}
