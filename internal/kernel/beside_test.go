package kernel

import (
	"context"
	"slices"
	"testing"

	"tombolo/internal/state"
)

// What is learned and what follows the uplinks is read from every table, and nothing else is; of a
// route by two uplinks, both.
func TestBesideIsAllThatAnAgentKeeps(t *testing.T) {
	namespace(t)
	uplinks(t)
	k := open(t)
	setDefault(t, k, Default{Table: 2110, Hops: []Hop{{Device: "w0", Gateway: addrOf("192.0.20.1")}, {Device: "w1", Gateway: addrOf("192.0.21.1")}}})
	sh(t, `ip route add 10.1.0.0/24 dev w0 table 110 metric 2048 proto 85
		ip -6 route add fd00:1::/64 dev w1 table 130 metric 2048 proto 85
		ip -6 route add unreachable fd00:2::/64 table 130 proto 85
		ip route add 10.2.0.0/24 dev w0 table 110 proto 84
		ip route add 10.3.0.0/24 dev w0 table 110
		ip rule add pref 540 from 10.1.0.0/24 lookup 130 protocol 85
		ip rule add pref 510 from 192.0.20.2 lookup 2110 protocol 86
		ip rule add pref 520 lookup 110 protocol 84`)
	routes, rules, err := k.Beside(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	route := func(table uint32, dst, device string, gateway string, protocol uint8, metric uint32) state.Route {
		r := state.Route{Table: table, Dst: prefixOf(dst), Type: state.Unicast, Device: device, Protocol: protocol, Metric: metric}
		if gateway != "" {
			r.Gateway = addrOf(gateway)
		}
		if device == "" {
			r.Type = state.Unreachable
		}
		return r
	}
	want := []state.Route{
		route(110, "10.1.0.0/24", "w0", "", 85, 2048),
		route(130, "fd00:1::/64", "w1", "", 85, 2048),
		route(130, "fd00:2::/64", "", "", 85, 0),
		route(2110, "0.0.0.0/0", "w0", "192.0.20.1", 86, 0),
		route(2110, "0.0.0.0/0", "w1", "192.0.21.1", 86, 0),
	}
	slices.SortFunc(want, state.CompareRoutes)
	if !slices.Equal(routes, want) {
		t.Errorf("routes are\n%v, want\n%v", routes, want)
	}
	wanted := []state.Rule{
		{Priority: 510, From: prefixOf("192.0.20.2/32"), Action: state.Lookup, Table: 2110, Protocol: 86},
		{Priority: 540, From: prefixOf("10.1.0.0/24"), Action: state.Lookup, Table: 130, Protocol: 85},
	}
	if !slices.Equal(rules, wanted) {
		t.Errorf("rules are\n%v, want\n%v", rules, wanted)
	}
}
