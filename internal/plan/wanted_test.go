package plan

import (
	"slices"

	"pgregory.net/rapid"

	"tombolo/internal/state"
)

// lawAsWanted compares what a router holds after a plan with what was wanted, field by
// field and without Diff, which may be blind to one.
func lawAsWanted(t *rapid.T, have, want state.Router) {
	p := Diff(have, want)
	if len(p.Conflicts) > 0 {
		return
	}
	after, o := Apply(have, p.Ops), want.Owner
	got := state.Router{
		Interfaces: ours(after.Interfaces, o.OwnsInterface), Routes: ours(after.Routes, o.OwnsRoute),
		Rules: ours(after.Rules, o.OwnsRule), Rulesets: ours(after.Rulesets, o.OwnsRuleset),
	}
	expected := Apply(want, nil)
	expected = state.Router{
		Interfaces: expected.Interfaces, Routes: expected.Routes, Rules: expected.Rules, Rulesets: expected.Rulesets,
	}
	if len(got.Interfaces) != len(expected.Interfaces) {
		t.Fatalf("there are %d interfaces, want %d", len(got.Interfaces), len(expected.Interfaces))
	}
	for i := range got.Interfaces {
		allow(&got.Interfaces[i], &expected.Interfaces[i])
	}
	for _, r := range []*state.Router{&got, &expected} {
		for i := range r.Routes {
			if r.Routes[i].Dst.Addr().Is6() && r.Routes[i].Metric == 0 {
				r.Routes[i].Metric = 1024
			}
		}
		for i := range r.Rulesets {
			r.Rulesets[i].Text = ""
		}
		r.Sort()
	}
	if d := difference(expected, got); d != "" {
		t.Fatalf("after\n%s\nit is (-wanted +there):\n%s", p.Text(false), d)
	}
	checkSettings(t, have, want, after)
}

// allow makes the fields equal in which the two may differ.
func allow(got, expected *state.Interface) {
	if got.WireGuard == nil || expected.WireGuard == nil {
		return
	}
	g, e := *got.WireGuard, *expected.WireGuard
	if e.ListenPort == 0 {
		e.ListenPort = g.ListenPort
	}
	g.PrivateKey = e.PrivateKey
	g.Peers, e.Peers = slices.Clone(g.Peers), slices.Clone(e.Peers)
	for i := range min(len(g.Peers), len(e.Peers)) {
		p, q := &g.Peers[i], &e.Peers[i]
		p.Name, p.Endpoints, p.Handshake, p.Sent = q.Name, q.Endpoints, q.Handshake, q.Sent
		if len(q.Addresses) == 0 || len(p.Addresses) == 1 && slices.Contains(q.Addresses, p.Addresses[0]) {
			q.Addresses = p.Addresses
		}
	}
	got.WireGuard, expected.WireGuard = &g, &e
}

func checkSettings(t *rapid.T, have, want, after state.Router) {
	value := func(r state.Router, name string) (string, bool) {
		i := slices.IndexFunc(r.Sysctls, func(s state.Sysctl) bool { return s.Name == name })
		if i < 0 {
			return "", false
		}
		return r.Sysctls[i].Value, true
	}
	for _, w := range want.Sysctls {
		was, known := value(have, w.Name)
		is, _ := value(after, w.Name)
		isNew := false // the interface, or it is another one now
		for _, i := range want.Interfaces {
			there := slices.IndexFunc(have.Interfaces, func(h state.Interface) bool { return h.Name == i.Name && h.Kind == i.Kind })
			isNew = isNew || i.Name == sysctlInterface(w.Name) && there < 0
		}
		expected := w.Value
		if !isNew && (!known || w.Only != "" && was != w.Only) {
			expected = was
		}
		if is != expected {
			t.Fatalf("%s is %q, want %q (only from %q; it was %q)", w.Name, is, expected, w.Only, was)
		}
	}
}
