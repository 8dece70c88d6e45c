package trace_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"tombolo/internal/trace"
	"tombolo/internal/trace/learned"
)

// everybody is who can be asked about in the network of trace_test.go.
func everybody() []trace.Group {
	a := netip.MustParseAddr
	return []trace.Group{
		{Name: "a", Place: host("a", "10.1.0.10"), Seen: a("10.1.0.10")},
		{Name: "b", Place: host("b", "10.2.0.10"), Seen: a("10.2.0.10")},
		{Name: "c", Place: host("c", "192.168.1.10"), Seen: a("10.3.0.10")},
		{Name: "router a", Place: trace.Place{Kind: trace.Router, Site: "a"}, Seen: a("10.9.0.1"), Public: a("203.0.113.2")},
		{Name: "outside", Place: trace.Place{Kind: trace.Internet}, Seen: a("198.51.100.7")},
		{Name: "published", Seen: a("203.0.113.2"), Anyone: true},
	}
}

func TestReachSaysOfEachPairWhatATraceSays(t *testing.T) {
	n := build(t, network, nil)
	groups := everybody()
	for _, f := range []trace.Flow{{Protocol: trace.ICMP}, {Protocol: trace.TCP, Port: 22}, {Protocol: trace.TCP, Port: 8443}} {
		m := n.Reach(groups, f)
		for from := range groups {
			for to := range groups {
				target, ok := trace.Target(&groups[from], &groups[to])
				if asked := m.Asked(from, to); asked != (ok && from != to) {
					t.Fatalf("%s to %s: asked is %v", groups[from].Name, groups[to].Name, asked)
				} else if !asked {
					continue
				}
				g := f
				g.From, g.To = groups[from].Place, target
				want, got := n.Trace(g), m.Verdicts[from][to]
				if got != want.Verdict && !strings.HasPrefix(got.Reason, "it comes to ") {
					t.Errorf("%s to %s: %+v, but traced %+v", groups[from].Name, groups[to].Name, got, want.Verdict)
				}
				if got.Delivered && len(want.Hops) > 0 && !strings.HasPrefix(m.Ways[from][to], want.Hops[0].Router+" "+want.Hops[0].Device) {
					t.Errorf("%s to %s goes by %q, but traced by %+v", groups[from].Name, groups[to].Name, m.Ways[from][to], want.Hops)
				}
			}
		}
	}
}

func TestReachKnowsWhoShouldAnswer(t *testing.T) {
	n := build(t, network, nil)
	groups := everybody()
	at := func(m trace.Matrix, from, to string) trace.Verdict {
		for i := range groups {
			for j := range groups {
				if groups[i].Name == from && groups[j].Name == to {
					return m.Verdicts[i][j]
				}
			}
		}
		t.Fatalf("no %s, or no %s", from, to)
		return trace.Verdict{}
	}
	m := n.Reach(groups, trace.Flow{Protocol: trace.TCP, Port: 8443})
	if v := at(m, "outside", "published"); v.At != "c:192.168.1.10" {
		t.Errorf("the published port: %+v", v)
	}
	if v := at(m, "outside", "router a"); v.Delivered || !strings.Contains(v.Reason, "it comes to c:192.168.1.10") {
		t.Errorf("the router, by the published port: %+v", v)
	}
	m = n.Reach(groups, trace.Flow{Protocol: trace.TCP, Port: 22})
	if v := at(m, "b", "c"); v.Delivered || v.Stage != trace.Filter {
		t.Errorf("what the policy denies: %+v", v)
	}
	if v := at(m, "a", "c"); !v.Delivered {
		t.Errorf("a mapped LAN: %+v", v)
	}
}

// A walk that nobody watches takes what an earlier one left, and does not look at each tunnel's own
// packet again.
func TestVerdictsWithoutStepsAreThoseWithSteps(t *testing.T) {
	n := build(t, wheel(12, policy(12)), func(w *learned.World) {
		w.Down = func(a, b string) bool { return a+b == "s0s7" || a+b == "s7s0" }
		w.Dead = func(site, device string) bool {
			return site == "s4" && device == "eth0" || site == "s9" && device == ""
		}
	})
	for _, f := range []trace.Flow{{Protocol: trace.ICMP}, {Protocol: trace.TCP, Port: 22}, {Protocol: trace.UDP, Port: 53}} {
		for i := range 12 {
			for k := range 13 {
				g := f
				g.From = host(fmt.Sprintf("s%d", i), fmt.Sprintf("10.1.%d.10", i))
				if g.To = netip.AddrFrom4([4]byte{10, 1, byte(k), 10}); k == 12 {
					g.To = netip.MustParseAddr("8.8.8.8")
				}
				if quick, full := n.Verdict(g), n.Trace(g).Verdict; quick != full {
					t.Fatalf("s%d to %s: without steps %+v, with them %+v", i, g.To, quick, full)
				}
			}
		}
	}
}
