package agent

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tombolo/internal/babel"
	"tombolo/internal/kernel"
	"tombolo/internal/state"
	trace "tombolo/internal/trace/learned"
)

// speaking is a router that speaks with one by a tunnel and with another on a LAN.
func speaking(site string, number byte, links ...state.BabelLink) state.Router {
	r := state.Router{
		Version: state.Version, Site: site,
		Babel: &state.Babel{
			Site: uint32(number), Table: 110, Protocol: 85, Links: links,
			Sources:  state.Sources{Table: 130, Tables: 3, Prefixes: 519, Defaults: 559},
			PrefSrc4: netip.AddrFrom4([4]byte{10, 99, 0, number}), PrefSrc6: netip.MustParseAddr(fmt.Sprintf("fd00::%d", number)),
		},
	}
	for _, l := range links {
		if l.Tunnel {
			r.Interfaces = append(r.Interfaces, state.Interface{Name: l.Device, Addresses: []netip.Prefix{prefix("fe80::7/64")}})
		} else {
			r.Uplinks = []state.Uplink{{Device: l.Device, Addresses: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, number}), 24)}}}
		}
	}
	return r
}

// randomKey is one of few prefixes, which lie in each other, for everybody or for one of few
// sources.
func randomKey(r *rand.Rand) babel.Key {
	p := func(four [4]byte, six string, at int, bits ...int) netip.Prefix {
		if at == 0 {
			return netip.PrefixFrom(netip.AddrFrom4(four), bits[r.IntN(len(bits))]).Masked()
		}
		return netip.PrefixFrom(netip.MustParseAddr(six), 2*bits[r.IntN(len(bits))]).Masked()
	}
	six := r.IntN(2)
	k := babel.Key{Dst: p([4]byte{10, byte(r.IntN(2)), byte(r.IntN(2)), 0}, "fd00:1::", six, 0, 8, 16, 24)}
	if r.IntN(2) == 0 {
		k.Src = p([4]byte{172, 16, byte(r.IntN(2)), 0}, "fd00:2:3::", six, 8, 16, 24, 25)
	}
	return k
}

// announceAll has b and c announce random keys, of which some are of exits, and a take them. It
// returns what a's speaker then says.
func announceAll(r *rand.Rand, a, b, c *state.Router) (changes []babel.RouteChange) {
	said := map[babel.Key]bool{}
	for range r.IntN(12) {
		k := randomKey(r)
		if said[k] {
			continue
		}
		said[k] = true
		hop, by := babel.Hop{Link: "wg-b", NextHop: netip.MustParseAddr("fe80::7")}, b
		if r.IntN(3) == 0 {
			hop, by = babel.Hop{Link: "br0", NextHop: netip.MustParseAddr("192.0.2.3")}, c
			if k.Dst.Addr().Is6() {
				hop.NextHop = netip.MustParseAddr("fe80::3")
			}
		}
		changes = append(changes, babel.RouteChange{Key: k, Hop: &hop})
		by.Babel.Announce = append(by.Babel.Announce, state.Announcement{Dst: k.Dst, Src: k.Src, While: state.Always})
		a.Babel.Accept = append(a.Babel.Accept, state.Accept{Dst: k.Dst, Src: k.Src, Origins: []uint32{by.Babel.Site}})
		if k.Src.IsValid() && r.IntN(3) == 0 && !slices.ContainsFunc(a.Babel.Exits, func(e state.ExitTable) bool { return e.Src == k.Src }) {
			a.Babel.Exits = append(a.Babel.Exits, state.ExitTable{Src: k.Src, Table: uint32(2110 + len(a.Babel.Exits))})
		}
	}
	return changes
}

// What package learned says is laid where the table lays it.
func TestWantedRoutesAreThoseOfTheTable(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 4))
		a := speaking("a", 1, state.BabelLink{Device: "wg-b", Peer: "b", Tunnel: true, Cost: 1}, state.BabelLink{Device: "br0", Cost: 1})
		b := speaking("b", 2, state.BabelLink{Device: "wg-a", Peer: "a", Tunnel: true, Cost: 1})
		c := speaking("c", 3, state.BabelLink{Device: "eth0", Cost: 1})
		changes := announceAll(r, &a, &b, &c)
		for range r.IntN(3) {
			if k := randomKey(r); !k.Src.IsValid() {
				a.Routes = append(a.Routes, state.Route{Table: uint32(109 + r.IntN(2)), Dst: k.Dst, Type: state.Unicast, Device: "wg-static", Protocol: 84})
			}
		}
		table := newTable(*a.Babel, nil, nil)
		table.lead(a.Babel.Exits)
		table.beside(a.Routes)
		table.put(changes, a.Babel)
		table.specific.lay(table.want, nil, nil, map[state.RouteKey]bool{})
		want := state.Router{Routes: slices.Collect(maps.Values(table.want)), Rules: slices.Collect(maps.Keys(table.specific.rules))}
		want.Routes = slices.AppendSeq(want.Routes, maps.Values(table.specific.placed))
		want.Sort()
		got := trace.Routes(trace.World{Routers: []state.Router{a, b, c}})["a"]
		if d := cmp.Diff(words(want.Routes, want.Rules), words(got.Routes, got.Rules)); d != "" {
			t.Fatalf("seed %d (-laid +said):\n%s", seed, d)
		}
	}
}

// words are routes and rules as text, in their order.
func words(routes []state.Route, rules []state.Rule) (out []string) {
	for _, r := range routes {
		out = append(out, fmt.Sprintf("%+v", r))
	}
	for _, r := range rules {
		out = append(out, fmt.Sprintf("%+v", r))
	}
	return out
}

// outside is the world of a router's uplinks, as its agent and as package learned know it.
type outside struct {
	router    state.Router
	devices   map[string]kernel.Device
	specifics map[string][]state.Route
	down      map[string]bool // by a check

	dead     map[string]bool
	leases   map[string][]netip.Prefix
	gateways map[string][]netip.Addr
}

func randomOutside(r *rand.Rand) outside {
	o := outside{
		router:  state.Router{Version: state.Version, Site: "a", Egress: &state.Egress{Protocol: 86, Source: 542, Delegated: 565, Mark: 0x7f000000, Mask: 0xff000000}},
		devices: map[string]kernel.Device{}, specifics: map[string][]state.Route{}, down: map[string]bool{},
		dead: map[string]bool{}, leases: map[string][]netip.Prefix{}, gateways: map[string][]netip.Addr{},
	}
	for i := range 1 + r.IntN(4) {
		u := state.Uplink{Device: fmt.Sprintf("eth%d", i), DHCP: i%2 == 0, Weight: 1 + r.IntN(3), Preference: 1 + r.IntN(2), Table: uint32(201 + i), Mark: uint32(1+i) << 24}
		if r.IntN(2) == 0 {
			u.Check = &state.Check{}
		}
		d := kernel.Device{Name: u.Device, Up: true, Carrier: true}
		for _, at := range []string{"192.0.%d.2/24", "2001:db8:%d::2/64"} {
			if r.IntN(3) > 0 {
				o.address(r, &u, &d, prefix(fmt.Sprintf(at, i)))
			}
		}
		u.DHCP = u.DHCP && len(d.Global) > 0 // else it is one whose lease nobody knows
		if o.dead[u.Device] = r.IntN(3) == 0; o.dead[u.Device] {
			o.down[u.Device], d.Carrier = u.Check != nil, u.Check != nil
		}
		o.devices[u.Device] = d
		o.router.Uplinks = append(o.router.Uplinks, u)
	}
	if len(o.router.Uplinks) > 1 {
		o.router.Egress.Table, o.router.Egress.Outer = 200, 503
	}
	return o
}

// address gives an uplink an address, and mostly a gateway.
func (o *outside) address(r *rand.Rand, u *state.Uplink, d *kernel.Device, a netip.Prefix) {
	six := a.Addr().Is6()
	gateway := a.Addr().Next()
	if six && r.IntN(2) == 0 {
		gateway = netip.MustParseAddr("fe80::1")
	}
	leads := r.IntN(5) > 0
	d.Global = append(d.Global, a)
	o.specifics[u.Device] = append(o.specifics[u.Device], state.Route{Table: 254, Dst: a.Masked(), Type: state.Unicast, Device: u.Device, Protocol: 2})
	switch {
	case u.DHCP && u.Device == "eth2": // it needs no gateway
		o.leases[u.Device] = append(o.leases[u.Device], a)
		d.Defaults = append(d.Defaults, kernel.DeviceDefault{IPv6: six})
	case u.DHCP:
		o.leases[u.Device] = append(o.leases[u.Device], a)
		if six && !leads && len(o.gateways[u.Device]) > 0 {
			return // it has one of IPv4
		}
		o.gateways[u.Device] = append(o.gateways[u.Device], gateway)
		d.Defaults = append(d.Defaults, kernel.DeviceDefault{Gateway: gateway, IPv6: six})
	default:
		u.Addresses = append(u.Addresses, a)
		if leads {
			u.Gateways = append(u.Gateways, gateway)
		}
	}
}

// And what follows the uplinks is what the layout says, of devices as the world has them.
func TestWantedWaysOutAreThoseOfTheLayout(t *testing.T) {
	for seed := range uint64(300) {
		o := randomOutside(rand.New(rand.NewPCG(seed, 5)))
		l := layEgress(&o.router, o.devices, o.specifics, o.down)
		want := state.Router{Routes: slices.Collect(maps.Values(l.routes)), Rules: slices.Collect(maps.Keys(l.rules))}
		for k, x := range l.defaults {
			all := prefix("0.0.0.0/0")
			if k.six {
				all = prefix("::/0")
			}
			for _, h := range x.Hops {
				want.Routes = append(want.Routes, state.Route{Table: k.table, Dst: all, Type: state.Unicast, Device: h.Device, Gateway: h.Gateway, OnLink: h.OnLink, Protocol: 86})
			}
		}
		want.Sort()
		got := trace.Routes(trace.World{
			Routers: []state.Router{o.router},
			Dead:    func(_, device string) bool { return o.dead[device] },
			Uplinks: func(_, device string) ([]netip.Prefix, []netip.Addr) { return o.leases[device], o.gateways[device] },
		})["a"]
		if d := cmp.Diff(words(want.Routes, want.Rules), words(got.Routes, got.Rules)); d != "" {
			t.Fatalf("seed %d (-laid +said):\n%s", seed, d)
		}
	}
}
