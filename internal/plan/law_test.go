package plan

import (
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"tombolo/internal/state"
)

// The laws of a plan. Each is written to be read on its own.
var laws = map[string]func(t *rapid.T, have, want state.Router){
	"AfterAPlanNothingIsLeft":       lawNothingIsLeft,
	"AfterAPlanItIsAsWanted":        lawAsWanted,
	"AKernelTakesEveryStep":         lawEveryStepFits,
	"WhatIsNotOursIsNotTouched":     lawForeignUntouched,
	"NoTwoInterfacesShareAPort":     lawPorts,
	"AllowedIPsAreNeverTaken":       lawAllowedIPs,
	"RoutesGoBeforeTheirInterface":  lawRoutesFirst,
	"EveryStepCanBeUndone":          lawUndo,
	"TheSameValuesGiveTheSamePlan":  lawDeterministic,
	"WhatIsThereIsLeftAlone":        lawReflexive,
	"APlanSurvivesJSON":             lawJSON,
	"NothingGoesBeforeWhatIsNewHas": lawAddBeforeRemove,
}

// checkLaws draws two routers and holds all laws against them. A law that does not speak
// of such a pair returns.
func checkLaws(t *rapid.T) {
	have, want := routers(true).Draw(t, "have"), routers(false).Draw(t, "want")
	for _, name := range sortedKeys(laws) {
		t.Log(name)
		laws[name](t, have, want)
	}
}

func TestLaws(t *testing.T) { rapid.Check(t, checkLaws) }

func FuzzDiff(f *testing.F) {
	// Two routers take some thousand random bits; from nothing the fuzzer would be long
	// in finding that out. (It also minimises what it finds for long: -fuzzminimizetime=20x.)
	random := rand.NewChaCha8([32]byte{})
	for range 4 {
		seed := make([]byte, 12<<10)
		_, _ = random.Read(seed)
		f.Add(seed)
	}
	f.Fuzz(rapid.MakeFuzz(checkLaws))
}

func lawNothingIsLeft(t *rapid.T, have, want state.Router) {
	p := Diff(have, want)
	if len(p.Conflicts) > 0 {
		return
	}
	if again := Diff(Apply(have, p.Ops), want); !again.Empty() {
		t.Fatalf("after\n%s\nthere is left\n%s", p.Text(false), again.Text(false))
	}
}

func lawEveryStepFits(t *rapid.T, have, want state.Router) {
	p := Diff(have, want)
	if len(p.Conflicts) > 0 {
		return
	}
	if _, _, err := Check(have, p.Ops); err != nil {
		t.Fatalf("%v, in\n%s", err, p.Text(false))
	}
}

func lawForeignUntouched(t *rapid.T, have, want state.Router) {
	p := Diff(have, want)
	theirs := map[string]bool{}
	for _, i := range have.Interfaces {
		theirs[i.Name] = !want.Owner.OwnsInterface(i)
	}
	gone := map[string]bool{}
	for _, op := range p.Ops {
		for _, o := range []Object{op.Object, op.Before} {
			if o != nil && !isOurs(want.Owner, theirs, o) {
				t.Fatalf("%s touches what is not ours", op)
			}
		}
		if i, ok := op.Before.(Interface); ok && op.Verb == Remove {
			gone[i.Name] = true
		}
	}
	before, after := foreign(have, want.Owner, gone), foreign(Apply(have, p.Ops), want.Owner, gone)
	if d := difference(before, after); d != "" {
		t.Fatalf("what is not ours changed:\n%s", d)
	}
}

func isOurs(o state.Owner, theirs map[string]bool, object Object) bool {
	switch x := object.(type) {
	case Interface:
		return o.OwnsInterface(x.Interface) && !theirs[x.Name]
	case Address:
		return !theirs[x.Interface]
	case Peer:
		return !theirs[x.Interface]
	case Route:
		return o.OwnsRoute(x.Route)
	case Rule:
		return o.OwnsRule(x.Rule)
	case Ruleset:
		return o.OwnsRuleset(x.Ruleset)
	case Sysctl:
		return !theirs[sysctlInterface(x.Name)]
	}
	return false
}

// foreign returns what is not ours, without the routes over interfaces that are gone.
func foreign(r state.Router, o state.Owner, gone map[string]bool) state.Router {
	r = Apply(r, nil)
	r.Sysctls = nil
	r.Interfaces = slices.DeleteFunc(r.Interfaces, o.OwnsInterface)
	r.Routes = slices.DeleteFunc(r.Routes, func(x state.Route) bool { return o.OwnsRoute(x) || gone[x.Device] })
	r.Rules = slices.DeleteFunc(r.Rules, o.OwnsRule)
	r.Rulesets = slices.DeleteFunc(r.Rulesets, o.OwnsRuleset)
	return r
}

func lawPorts(t *rapid.T, have, want state.Router) {
	p := Diff(have, want)
	if len(p.Conflicts) > 0 {
		return
	}
	for k := range p.Ops {
		used := map[uint16]string{}
		for _, i := range Apply(have, p.Ops[:k+1]).Interfaces {
			port := listenPort(&i)
			if other := used[port]; port != 0 && other != "" {
				t.Fatalf("after %s, %s and %s both listen on port %d", p.Ops[k], other, i.Name, port)
			}
			used[port] = i.Name
		}
	}
}

func lawAllowedIPs(t *rapid.T, have, want state.Router) {
	p := Diff(have, want)
	if len(p.Conflicts) > 0 {
		return
	}
	for k, op := range p.Ops {
		set, ok := op.Object.(Peer)
		if !ok {
			continue
		}
		for _, i := range Apply(have, p.Ops[:k]).Interfaces {
			for _, other := range wireGuard(&i).Peers {
				if i.Name == set.Interface && other.PublicKey != set.PublicKey && len(both(other.AllowedIPs, set.AllowedIPs)) > 0 {
					t.Fatalf("%s takes %v from another peer", op, both(other.AllowedIPs, set.AllowedIPs))
				}
			}
		}
	}
}

func lawRoutesFirst(t *rapid.T, have, want state.Router) {
	p := Diff(have, want)
	if len(p.Conflicts) > 0 {
		return
	}
	for k, op := range p.Ops {
		i, ok := op.Before.(Interface)
		if !ok || op.Verb != Remove {
			continue
		}
		for _, r := range Apply(have, p.Ops[:k]).Routes {
			if want.Owner.OwnsRoute(r) && r.Device == i.Name {
				t.Fatalf("%s takes the route %s along", op, Route{r}.ID())
			}
		}
	}
}

// lawUndo stops a plan after every step and undoes it.
func lawUndo(t *rapid.T, have, want state.Router) {
	p := Diff(have, want)
	if len(p.Conflicts) > 0 {
		return
	}
	for i := range have.Routes[min(1, len(have.Routes)):] {
		if keyOf(have.Routes[i]) == keyOf(have.Routes[i+1]) {
			return // a second route of a key cannot come back
		}
	}
	for k := range len(p.Ops) + 1 {
		done := p.Ops[:k]
		back, _, err := Check(Apply(have, done), Undo(done))
		if err != nil {
			t.Fatalf("undo %d steps: %v", k, err)
		}
		if d := difference(restorable(have, have, done), restorable(back, have, done)); d != "" {
			t.Fatalf("after %d steps of\n%sand back:\n%s", k, p.Text(false), d)
		}
	}
}

// restorable returns what of a router can be given back after done; see Undo.
func restorable(r, have state.Router, done []Op) state.Router {
	gone := map[string]bool{}
	for _, op := range done {
		if i, ok := op.Before.(Interface); ok && op.Verb == Remove {
			gone[i.Name] = true
		}
	}
	endpoint := map[string]bool{}
	for _, i := range have.Interfaces {
		for _, p := range wireGuard(&i).Peers {
			endpoint[Peer{i.Name, p}.ID()] = len(p.Addresses) > 0
		}
	}
	r = Apply(r, nil)
	for _, i := range r.Interfaces {
		for j, p := range wireGuard(&i).Peers {
			p = quiet(p)
			if !endpoint[(Peer{i.Name, p}).ID()] {
				p.Addresses = nil
			}
			i.WireGuard.Peers[j] = p
		}
	}
	r.Routes = slices.DeleteFunc(r.Routes, func(x state.Route) bool { return gone[x.Device] && !have.Owner.OwnsRoute(x) })
	r.Sysctls = slices.DeleteFunc(r.Sysctls, func(s state.Sysctl) bool { return gone[sysctlInterface(s.Name)] })
	return r
}

func lawDeterministic(t *rapid.T, have, want state.Router) {
	p := Diff(have, want)
	h, w := Apply(have, nil), Apply(want, nil)
	slices.Reverse(h.Interfaces)
	slices.Reverse(w.Interfaces)
	slices.Reverse(h.Routes)
	slices.Reverse(w.Routes)
	slices.Reverse(h.Rules)
	slices.Reverse(w.Rules)
	slices.Reverse(w.Sysctls)
	for _, i := range slices.Concat(h.Interfaces, w.Interfaces) {
		slices.Reverse(i.Addresses)
		for _, p := range wireGuard(&i).Peers {
			slices.Reverse(p.AllowedIPs)
		}
	}
	before := string(h.Encode()) + string(w.Encode())
	if d := difference(p, Diff(h, w)); d != "" {
		t.Fatalf("in another order there is another plan:\n%s", d)
	}
	if string(h.Encode())+string(w.Encode()) != before {
		t.Fatalf("Diff changed its arguments")
	}
	Apply(h, p.Ops)
	if string(h.Encode())+string(w.Encode()) != before {
		t.Fatalf("Apply changed its argument")
	}
}

func lawReflexive(t *rapid.T, have, _ state.Router) {
	for _, i := range have.Interfaces {
		if wireGuard(&i).PublicKey.IsZero() {
			have.Interfaces = slices.DeleteFunc(slices.Clone(have.Interfaces), func(x state.Interface) bool { return x.Name == i.Name })
		}
	}
	for _, r := range have.Routes {
		if !have.Owner.OwnsRoute(r) {
			return // it may be in the way of ours
		}
	}
	have.Routes = slices.CompactFunc(slices.Clone(have.Routes), func(a, b state.Route) bool { return keyOf(a) == keyOf(b) })
	if p := Diff(have, have); !p.Empty() {
		t.Fatalf("it is as it should be, and still:\n%s", p.Text(false))
	}
}

func lawAddBeforeRemove(t *rapid.T, have, want state.Router) {
	p := Diff(have, want)
	if len(p.Conflicts) > 0 {
		return
	}
	lastAdd := map[string]int{}
	for k, op := range p.Ops {
		if op.Verb == Add {
			lastAdd[op.subject().Kind()] = k
		}
	}
	for k, op := range p.Ops {
		if s := op.subject(); op.Verb == Remove && (s.Kind() == KindRule || s.Kind() == KindRuleset) && k < lastAdd[s.Kind()] {
			t.Fatalf("%s comes before %s", op, p.Ops[lastAdd[s.Kind()]])
		}
	}
}
