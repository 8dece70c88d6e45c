package agent

import (
	"maps"
	"net/netip"
	"testing"

	"tombolo/internal/state"
)

// What went on towards an exit, or left here, is forgotten when other rules or routes lead there;
// and between a source's home and its exits what conntrack may have understood the wrong way round.
func TestFlowsTurnWithTheExits(t *testing.T) {
	lan := prefix("10.1.0.0/24")
	with := func(exit uint32, rules []state.Rule, routes []state.Route, lans ...state.LAN) *state.Router {
		return &state.Router{
			Version: state.Version, LANs: lans, Rules: rules, Routes: routes,
			Egress: &state.Egress{Exit: exit, Mask: 0xff000000}, Uplinks: []state.Uplink{{Device: "eth0", Pin: 0x11}},
		}
	}
	to := []state.Rule{{Priority: 559, From: lan, Action: state.Lookup, Table: 2110, Protocol: 84}}
	other := state.Rule{Priority: 501, Mark: 1, Mask: 0xff000000, Action: state.Lookup, Table: 201, Protocol: 84}
	end := []state.Route{{Table: 2110, Dst: prefix("0.0.0.0/0"), Type: state.Unreachable, Protocol: 84}}
	elsewhere := state.Route{Table: 1110, Dst: prefix("0.0.0.0/0"), Type: state.Unicast, Device: "wg-b", Protocol: 84}
	home := state.LAN{Device: "lan0", Prefixes: []netip.Prefix{prefix("10.1.0.0/16")}}
	for _, c := range []struct {
		name          string
		before, after *state.Router
		turns, back   bool
	}{
		{"at first", &state.Router{}, with(0x41, to, end), false, false},
		{"none", with(0, nil, nil), with(0, nil, nil), false, false},
		{"the same, and another tunnel", with(0x41, to, end), with(0x41, append(to[:1:1], other), append(end[:1:1], elsewhere)), false, false},
		{"there is one", with(0, nil, nil), with(0x41, to, end), true, true},
		{"it is one itself", with(0x41, to, end), with(0x41, to, nil), true, true},
		{"there are none any more", with(0x41, to, end), with(0, nil, nil), true, true},
		{"at home", with(0, nil, nil, home), with(0x41, to, end, home), true, false},
		{"at last", with(0x41, to, end), &state.Router{}, false, false},
	} {
		e := newEgress(&Machine{}, nil, nil)
		want := map[forgetting]bool{}
		if c.turns {
			for _, mark := range []uint32{0, 0x11} {
				want[forgetting{mark: mark, source: lan}] = true
			}
			want[forgetting{mark: 0x41, source: lan}] = true
		}
		if c.back {
			want[forgetting{source: lan, towards: true}] = true
		}
		if got := e.turns(c.before, c.after); got != c.turns || !maps.Equal(e.pending, want) {
			t.Errorf("%s: %v; %v is to be forgotten, want %v", c.name, got, e.pending, want)
		}
	}
}
