package truth_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tombolo/internal/compile"
	"tombolo/internal/spec"
	"tombolo/internal/trace"
	"tombolo/internal/trace/truth"
)

const file = `
network: n
overlay: 10.9.0.0/24
sites:
  a: {address: 10.9.0.1, endpoint: 203.0.113.2, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: {address: 203.0.113.2/30, gateway: 203.0.113.1}}}
  b: {address: 10.9.0.2, endpoint: 203.0.113.6, lan: {lan0: {prefix: 192.168.1.0/24, as: 10.2.0.0/24}}, uplink: {eth0: {address: 203.0.113.6/30, gateway: 203.0.113.5}}}
`

func addr(a string) netip.Addr { return netip.MustParseAddr(a) }

// situation is a host that asks another behind a mapped LAN, as captures have it.
func situation(t *testing.T) truth.Situation {
	t.Helper()
	n, diagnostics := spec.Parse("n.yaml", []byte(file))
	if n == nil {
		t.Fatal(diagnostics)
	}
	event := func(node, device string, out bool, src, dst string) truth.Event {
		return truth.Event{Node: node, Device: device, Out: out, Src: addr(src), Dst: addr(dst), Port: 7007}
	}
	return truth.Situation{
		When: "when all is well", File: file, Routers: compile.All(n, compile.Options{}),
		Nodes: []truth.Node{
			{Name: "a", Kind: trace.Router, Addresses: []netip.Addr{addr("10.1.0.1")}},
			{Name: "b", Kind: trace.Router, Addresses: []netip.Addr{addr("192.168.1.1")}},
			{Name: "a.host", Kind: trace.Host, Site: "a", Addresses: []netip.Addr{addr("10.1.0.10")}},
			{Name: "b.host", Kind: trace.Host, Site: "b", Addresses: []netip.Addr{addr("192.168.1.10")}},
		},
		Flows: []truth.Flow{{
			Flow: trace.Flow{From: trace.Place{Kind: trace.Host, Site: "a", Addr: addr("10.1.0.10")}, To: addr("10.2.0.10"), Protocol: trace.UDP, Port: 7007},
			There: []truth.Event{
				event("a", "lan0", false, "10.1.0.10", "10.2.0.10"),
				event("a", "wg-b", true, "10.1.0.10", "10.2.0.10"),
				event("b", "wg-a", false, "10.1.0.10", "10.2.0.10"),
				event("b", "lan0", true, "10.1.0.10", "192.168.1.10"),
				event("b.host", "", false, "10.1.0.10", "192.168.1.10"),
			},
			Back: []truth.Event{
				event("b", "lan0", false, "192.168.1.10", "10.1.0.10"),
				event("b", "wg-a", true, "10.2.0.10", "10.1.0.10"),
				event("a", "wg-b", false, "10.2.0.10", "10.1.0.10"),
				event("a", "lan0", true, "10.2.0.10", "10.1.0.10"),
				event("a.host", "", false, "10.2.0.10", "10.1.0.10"),
			},
		}},
	}
}

func difference(t *testing.T, s truth.Situation) string {
	t.Helper()
	d, err := s.Difference()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Whatever else is captured, or is not, is a difference.
func TestEverythingElseIsADifference(t *testing.T) {
	s := situation(t)
	n, err := s.Tracer()
	if err != nil {
		t.Fatal(err)
	}
	if d := n.Compare(&s.Flows[0]); d != "" {
		t.Fatal(d)
	}
	for leg := range 3 {
		events := func(f *truth.Flow) *[]truth.Event { return []*[]truth.Event{&f.There, &f.Back, &f.Told}[leg] }
		count := len(*events(&s.Flows[0]))
		for i := range count + 1 {
			changes := map[string]func(e []truth.Event) []truth.Event{
				"one more": func(e []truth.Event) []truth.Event {
					return slices.Insert(e, i, truth.Event{Node: "a", Device: "eth0", Out: true, Src: addr("10.1.0.10"), Dst: addr("10.2.0.10"), Port: 7007})
				},
			}
			if i < count {
				changes["one less"] = func(e []truth.Event) []truth.Event { return slices.Delete(e, i, i+1) }
				for word, change := range map[string]func(*truth.Event){
					"node":        func(e *truth.Event) { e.Node = "c" },
					"device":      func(e *truth.Event) { e.Device = "eth7" },
					"direction":   func(e *truth.Event) { e.Out = !e.Out },
					"source":      func(e *truth.Event) { e.Src = e.Src.Next() },
					"destination": func(e *truth.Event) { e.Dst = e.Dst.Next() },
					"port":        func(e *truth.Event) { e.Port++ },
				} {
					changes[word] = func(e []truth.Event) []truth.Event { change(&e[i]); return e }
				}
			}
			for word, change := range changes {
				f := s.Flows[0]
				e := events(&f)
				*e = change(slices.Clone(*e))
				if d := n.Compare(&f); !strings.Contains(d, "the tracer: ") || !strings.Contains(d, "captured:\n") {
					t.Errorf("leg %d, event %d, %s: %q", leg, i, word, d)
				}
			}
		}
	}
}

// What is kept is what was seen.
func TestSituationsAreKept(t *testing.T) {
	text, err := json.Marshal(situation(t))
	if err != nil {
		t.Fatal(err)
	}
	var s truth.Situation
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	if d := difference(t, s); d != "" {
		t.Error(d)
	}
	s.Flows[0].There = s.Flows[0].There[:3]
	if difference(t, s) == "" {
		t.Error("a difference is lost")
	}
	s.Down = [][2]string{{"b", "a"}}
	if d := difference(t, s); !strings.Contains(d, "unreachable 10.2.0.0/24") {
		t.Error(d)
	}
}

// Of two ways that are about as long either may be taken, and no other.
func TestEitherOfTwoWaysMayBeTaken(t *testing.T) {
	s := situation(t)
	n, diagnostics := spec.Parse("n.yaml", []byte(file+"  c: {address: 10.9.0.3, endpoint: 203.0.113.10, uplink: {eth0: {address: 203.0.113.10/30, gateway: 203.0.113.9}}}\n"+
		"links: [{between: [a, b], cost: 100}, {between: [a, c], cost: 50}, {between: [c, b], cost: 50}]\n"))
	if n == nil {
		t.Fatal(diagnostics)
	}
	s.Routers = compile.All(n, compile.Options{})
	f := &s.Flows[0]
	by := func(node, from, to string, like truth.Event) []truth.Event {
		in, out := like, like
		in.Node, in.Device, in.Out = node, from, false
		out.Node, out.Device, out.Out = node, to, true
		return []truth.Event{in, out}
	}
	if d := difference(t, s); d != "" {
		t.Error(d)
	}
	f.There[1].Device, f.There[2].Device = "wg-c", "wg-c"
	f.There = slices.Insert(f.There, 2, by("c", "wg-a", "wg-b", f.There[1])...)
	if d := difference(t, s); d != "" {
		t.Error(d)
	}
	f.There[3].Device = "eth0"
	if difference(t, s) == "" {
		t.Error("a way that is none is taken for one")
	}
}
