package sim

import (
	"reflect"
	"testing"
	"time"
)

func TestManyRouters(t *testing.T) {
	const routers, wires, prefixes = 100, 200, 150
	n := Random(1, Shape{Routers: routers, Wires: wires, Prefixes: prefixes, Jitter: 0.02})
	step := func(name string, within time.Duration, perWire, busiest uint64, do func()) {
		t.Helper()
		p := n.Watch(30*time.Second, do)
		t.Logf("%s: whole after %v, %d changes, %d bytes a wire, the busiest %d; %+v", name, p.Whole, p.Changes, p.Bytes/wires, p.Busiest, p.Report)
		r := p.Report
		if r.Pairs == 0 || r.Reached != r.Pairs || r.Wrong != 0 || r.Close < r.Pairs*99/100 {
			t.Errorf("%s: %+v", name, r)
		}
		if p.Whole > within || p.Bytes/wires > perWire || p.Busiest > busiest {
			t.Errorf("%s: took %v and %d bytes a wire, on the busiest %d; want at most %v, %d and %d",
				name, p.Whole, p.Bytes/wires, p.Busiest, within, perWire, busiest)
		}
		for _, f := range n.Faults {
			t.Error(f)
		}
		n.Faults = nil
	}
	// Hellos both ways make 150 bytes a second, ten times that for a short while.
	step("cold start", 3*time.Second, 60_000, 150_000, func() { n.StartAll(time.Second) })
	used := n.Busiest()
	step("the busiest wire is cut", 4*time.Second, 20_000, 100_000, func() { used.CutBoth(true) })
	step("and returns", time.Second, 20_000, 100_000, func() { used.CutBoth(false) })
	step("a router dies", 4*time.Second, 20_000, 100_000, func() { n.Kill(used.A) })
	step("and starts again", 3*time.Second, 20_000, 150_000, func() { n.Start(used.A) })
	step("a tenth of the wires flap", 5*time.Second, 150_000, 500_000, func() { n.Flap(0.1, 3*time.Second, 20*time.Second) })
}

func TestWaysAreTheShortestByDelay(t *testing.T) {
	for seed := range uint64(5) {
		n := Random(seed, Shape{Routers: 50, Wires: 100, Prefixes: 50, Jitter: 0.05})
		n.StartAll(time.Second)
		n.Run(60 * time.Second)
		r := n.Report()
		t.Logf("seed %d: %+v", seed, r)
		if r.Pairs != 50*49 || r.Reached != r.Pairs || r.Close < r.Pairs*99/100 {
			t.Errorf("seed %d: %+v, want all reached and 99 %% within 5 %%", seed, r)
		}
	}
}

func TestEqualSeedsGiveEqualNetworks(t *testing.T) {
	run := func() (*Net, [][2]uint64) {
		n := Random(5, Shape{Routers: 20, Wires: 40, Prefixes: 30, Jitter: 0.05})
		n.StartAll(time.Second)
		n.Flap(0.3, 2*time.Second, 10*time.Second)
		var bytes [][2]uint64
		for _, w := range n.Wires {
			bytes = append(bytes, w.Bytes)
		}
		return n, bytes
	}
	a, aBytes := run()
	b, bBytes := run()
	if !reflect.DeepEqual(aBytes, bBytes) {
		t.Error("other bytes were sent")
	}
	for i := range a.Nodes {
		if !reflect.DeepEqual(a.Nodes[i].FIB, b.Nodes[i].FIB) || !reflect.DeepEqual(a.Nodes[i].Speaker.View(), b.Nodes[i].Speaker.View()) {
			t.Errorf("%s is in another state", a.Nodes[i].Name)
		}
	}
}
