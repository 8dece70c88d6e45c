package trace_test

import (
	"net/netip"
	"strings"
	"testing"

	"tombolo/internal/trace"
	"tombolo/internal/trace/learned"
)

// twoLines has three uplinks at a, of which the provider of eth1 drops what nothing translates.
const twoLines = `
network: n
overlay: 10.9.0.0/24
sites:
  a:
    address: 10.9.0.1
    endpoint: 203.0.113.2
    lan: {lan0: 10.1.0.0/24}
    uplink:
      eth0: {address: 203.0.113.2/30, gateway: 203.0.113.1}
      eth1: {address: 203.0.113.6/30, gateway: 203.0.113.5MASQUERADE}
      eth2: {address: 203.0.113.10/30, gateway: 203.0.113.9}
  b: {address: 10.9.0.2, endpoint: 203.0.113.14, lan: {lan0: 10.2.0.0/24}, uplink: {eth0: {address: 203.0.113.14/30, gateway: 203.0.113.13}}}
exits:
  - {for: b, via: a}
`

func reachOutside(t *testing.T, text string, change func(*learned.World)) (trace.Matrix, *trace.Network) {
	t.Helper()
	n := build(t, text, change)
	a := netip.MustParseAddr
	return n.Reach([]trace.Group{
		{Name: "a", Place: host("a", "10.1.0.10"), Seen: a("10.1.0.10")},
		{Name: "b", Place: host("b", "10.2.0.10"), Seen: a("10.2.0.10")},
		{Name: "outside", Place: trace.Place{Kind: trace.Internet}, Seen: a("198.51.100.7")},
	}, trace.Flow{Protocol: trace.ICMP}), n
}

// Whether a flow arrives must not hang on a hash: every way has to lead there.
func TestAPairIsReachedIfEveryWayIs(t *testing.T) {
	all, _ := reachOutside(t, strings.Replace(twoLines, "MASQUERADE", "", 1), nil)
	const ways = "a eth0; back a lan0; or a eth1; back a lan0; or a eth2; back a lan0"
	if v := all.Verdicts[0][2]; !v.Delivered || all.Some(0, 2) || all.Ways[0][2] != ways {
		t.Errorf("by three uplinks: %+v, by %s", v, all.Ways[0][2])
	}
	if way := all.Ways[0][1]; way != "a wg-b, b lan0; back b wg-a, a lan0" {
		t.Errorf("where nothing is chosen there is one way, and it is %s", way)
	}
	some, n := reachOutside(t, strings.Replace(twoLines, "MASQUERADE", ", masquerade: false", 1), nil)
	for from, hops := range []string{"", "b wg-a, "} {
		v := some.Verdicts[from][2]
		if v.Delivered || !some.Some(from, 2) || !strings.HasSuffix(v.Reason, ", if a sends it by eth1") || v.Stage != trace.Leaves {
			t.Errorf("by two of three uplinks: %+v", v)
		}
		back := "; back a lan0"
		if from == 1 {
			back = "; back a wg-b, b lan0"
		}
		if want := hops + "a eth0" + back + "; or " + hops + "a eth2" + back; some.Ways[from][2] != want {
			t.Errorf("it is delivered by %s, want %s", some.Ways[from][2], want)
		}
	}
	others := n.Others(trace.Flow{From: host("a", "10.1.0.10"), To: netip.MustParseAddr("198.51.100.7"), Protocol: trace.ICMP})
	if len(others) != 1 || others[0].Router != "a" || others[0].Device != "eth1" || others[0].Verdict.Stage != trace.Leaves {
		t.Errorf("%+v", others)
	}
	none, _ := reachOutside(t, strings.Replace(twoLines, "MASQUERADE", ", masquerade: false", 1), func(w *learned.World) {
		w.Dead = func(site, device string) bool { return site == "a" && device != "eth1" }
	})
	if v := none.Verdicts[0][2]; v.Delivered || none.Some(0, 2) || strings.Contains(v.Reason, ", if ") {
		t.Errorf("by none: %+v, %s", v, none.Ways[0][2])
	}
}

// The first of the next hops is no other than the rest.
func TestTheFirstWayCanBeTheOneThatIsLost(t *testing.T) {
	text := strings.Replace(strings.Replace(twoLines, "MASQUERADE", "", 1), "203.0.113.1}", "203.0.113.1, masquerade: false}", 1)
	m, n := reachOutside(t, text, nil)
	if v := m.Verdicts[0][2]; !m.Some(0, 2) || !strings.HasSuffix(v.Reason, ", if a sends it by eth0") {
		t.Errorf("%+v", v)
	}
	others := n.Others(trace.Flow{From: host("a", "10.1.0.10"), To: netip.MustParseAddr("198.51.100.7"), Protocol: trace.ICMP})
	if len(others) != 1 || others[0].Device != "eth1" || !others[0].Verdict.Delivered {
		t.Errorf("%+v", others)
	}
}
