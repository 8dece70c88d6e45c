package state

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tombolo/internal/key"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// full is a router in which every field has a value. It is not a sensible one.
func full() Router {
	return Router{
		Version: Version, Network: "home", Site: "op2", Owner: DefaultOwner(),
		Endpoints: []string{"op2.example.net:51820"},
		LANs:      []LAN{{Device: "br-lan", Prefixes: []netip.Prefix{prefix("192.168.36.0/24"), prefix("fd00:36::/64")}}},
		Uplinks: []Uplink{{
			Device: "eth0", DHCP: true, Addresses: []netip.Prefix{prefix("192.0.2.2/24")},
			Gateways: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, MTU: 1500, Masquerade: true,
			Weight: 3, Preference: 1, Table: 201, Mark: 0x01000000, Pin: 0x09000000,
			Check: &Check{Targets: []netip.AddrPort{netip.MustParseAddrPort("1.1.1.1:443")}, Interval: 600, Down: 3, Up: 5},
		}},
		Forwards: []Forward{{
			In: "eth0", Out: "br-lan", Why: "published",
			Only: []Flow{{Protocol: "tcp", First: 443, Last: 444, To: netip.MustParseAddr("192.168.36.10")}},
		}},
		Interfaces: []Interface{{
			Name: "wg-op1", Kind: WireGuardKind, Alias: "tombolo home op1", MTU: 1420, Down: true,
			Addresses: []netip.Prefix{prefix("10.0.32.2/32")},
			WireGuard: &WireGuard{
				PrivateKey: "op2", PublicKey: key.Public{1}, ListenPort: 51821, FwMark: 0x7f000000,
				Peers: []Peer{{
					Name: "op1", PublicKey: key.Public{2}, Preshared: "op1+op2", Endpoints: []string{"op1.example.net:51822"},
					Addresses: []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::1]:51822")}, AllowedIPs: []netip.Prefix{prefix("::/0")},
					Keepalive: 25, Handshake: 1, Sent: 2, Received: 3,
				}},
			},
		}},
		Routes: []Route{{
			Table: 110, Dst: prefix("::/0"), Src: prefix("fd00::/64"), Metric: 5, Type: Unicast, Device: "wg-op1",
			Gateway: netip.MustParseAddr("fe80::1"), OnLink: true, PrefSrc: netip.MustParseAddr("fd00::1"), Protocol: 84,
		}},
		Rules: []Rule{{
			Priority: 500, IPv6: true, From: prefix("fd00::/64"), To: prefix("fd01::/64"), IIF: "lo", OIF: "eth0",
			Mark: 1, Mask: 255, Action: Lookup, Table: 110, Suppress: 1, IPProto: 17, DPort: 53, Protocol: 84,
		}},
		Rulesets: []Ruleset{{Family: "inet", Table: "tombolo", Text: "table inet tombolo {\n}\n", Digest: RulesetDigest("x")}},
		Sysctls:  []Sysctl{{Name: "net/ipv4/ip_forward", Value: "1", Only: "0"}},
		Babel: &Babel{
			Site: 0x0a002002, Table: 110, Protocol: 85,
			Sources:  Sources{Table: 130, Tables: 32, Prefixes: 519, Defaults: 560},
			Exits:    []ExitTable{{Src: prefix("192.168.36.0/24"), Table: 2110, Inside: prefix("10.0.0.0/24"), Local: true}},
			PrefSrc4: netip.MustParseAddr("10.0.32.2"), PrefSrc6: netip.MustParseAddr("fd00:32::2"),
			Links: []BabelLink{{
				Device: "wg-op1", Peer: "op1", Tunnel: true, Cost: 1, Key: "segment",
				Foreign: []netip.Prefix{prefix("10.9.0.0/16")}, Only: []uint32{1},
			}},
			Announce: []Announcement{{
				Dst: prefix("fd00:36::/64"), Src: prefix("fd00::/16"), Metric: 4096, While: Probe, Device: "br-lan",
				Probe: netip.MustParseAddr("192.168.36.10"), Peer: "op4",
			}},
			Accept: []Accept{{Dst: prefix("fd00:35::/64"), Src: prefix("fd00::/16"), Origins: []uint32{7}, Within: true, Mobile: true}},
		},
		Egress: &Egress{Protocol: 86, Table: 200, Outer: 500, Source: 542, Delegated: 565, Mark: 0x7f000000, Mask: 0xff000000, Exit: 0x41000000},
		Clients: &Clients{
			Device: "wg-clients", Port: 51820, Hold: 180,
			Devices: []Client{{Name: "phone", PublicKey: key.Public{3}, Addresses: []netip.Prefix{prefix("10.0.31.10/32")}}},
		},
	}
}

// A field that full leaves out would not be tested by those that use it.
func TestFullHasEveryField(t *testing.T) {
	var look func(v reflect.Value, path string)
	look = func(v reflect.Value, path string) {
		switch {
		case v.Kind() == reflect.Pointer:
			look(v.Elem(), path)
		case v.Kind() == reflect.Slice && v.Len() > 0:
			look(v.Index(0), path+"[0]")
		case v.Kind() == reflect.Struct && strings.HasPrefix(v.Type().PkgPath(), "tombolo/"):
			for i := range v.NumField() {
				look(v.Field(i), path+"."+v.Type().Field(i).Name)
			}
		case v.IsZero():
			t.Errorf("%s has no value", path)
		}
	}
	look(reflect.ValueOf(full()), "full")
}

func TestJSONCarriesEveryField(t *testing.T) {
	got, err := Decode(full().Encode())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(full(), got, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}, netip.AddrPort{})); d != "" {
		t.Errorf("it came back as another:\n%s", d)
	}
}

func TestJSONOfAnEmptyRouterHasNoEmptyParts(t *testing.T) {
	want := `{
  "version": 1,
  "owner": {
    "alias": "",
    "protocol": 0,
    "ruleFirst": 0,
    "ruleLast": 0,
    "rulesetTable": ""
  }
}
`
	if got := string(Router{}.Encode()); got != want {
		t.Errorf("got %s", got)
	}
}

func TestDecodeErrors(t *testing.T) {
	for text, want := range map[string]string{
		`{"version": 2}`:              "read router state: it is version 2 and this program knows version 1",
		`{}`:                          "read router state: it is version 0 and this program knows version 1",
		`{"version": 1, "colour": 1}`: `read router state: json: unknown field "colour"`,
		`{"version": 1, "routes": [{"dst": "10.0.0.0/33"}]}`: `read router state: netip.ParsePrefix("10.0.0.0/33"): prefix length out of range`,
		``:                              "read router state: EOF",
		`{"version": 1} {"version": 1}`: "read router state: there is more after its end",
	} {
		if _, err := Decode([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", text, err, want)
		}
	}
}

func TestSortGivesOneOrder(t *testing.T) {
	r := Router{
		LANs:       []LAN{{Device: "b"}, {Device: "a"}},
		Forwards:   []Forward{{In: "b"}, {In: "a", Out: "c"}, {In: "a", Only: []Flow{{Protocol: "udp", First: 2}, {Protocol: "udp", First: 1}}}},
		Interfaces: []Interface{{Name: "wg-b"}, {Name: "wg-a", Addresses: []netip.Prefix{prefix("fd00::1/64"), prefix("10.0.0.1/32"), prefix("10.0.0.1/24")}}},
		Routes: []Route{
			{Table: 120, Dst: prefix("10.0.0.0/8")}, {Table: 110, Dst: prefix("::/0")}, {Table: 110, Dst: prefix("10.0.0.0/16")},
			{Table: 110, Dst: prefix("10.0.0.0/8"), Metric: 5}, {Table: 110, Dst: prefix("10.0.0.0/8")},
		},
		Rules:    []Rule{{Priority: 501}, {Priority: 500, IPv6: true}, {Priority: 500, Table: 2}, {Priority: 500, Table: 1}},
		Rulesets: []Ruleset{{Family: "ip", Table: "a"}, {Family: "inet", Table: "b"}, {Family: "inet", Table: "a"}},
		Sysctls:  []Sysctl{{Name: "b"}, {Name: "a"}},
	}
	r.Interfaces[0].WireGuard = &WireGuard{Peers: []Peer{
		{PublicKey: key.Public{2}}, {PublicKey: key.Public{1}, AllowedIPs: []netip.Prefix{prefix("::/0"), prefix("0.0.0.0/0")}},
		{Name: "b"}, {Name: "a"},
	}}
	r.Clients = &Clients{Devices: []Client{{Name: "b"}, {Name: "a", Addresses: []netip.Prefix{prefix("fd00::1/128"), prefix("10.0.0.1/32")}}}}
	r.Sort()
	want := Router{
		LANs:       []LAN{{Device: "a"}, {Device: "b"}},
		Forwards:   []Forward{{In: "a", Only: []Flow{{Protocol: "udp", First: 1}, {Protocol: "udp", First: 2}}}, {In: "a", Out: "c"}, {In: "b"}},
		Interfaces: []Interface{{Name: "wg-a", Addresses: []netip.Prefix{prefix("10.0.0.1/24"), prefix("10.0.0.1/32"), prefix("fd00::1/64")}}, {Name: "wg-b"}},
		Routes: []Route{
			{Table: 110, Dst: prefix("10.0.0.0/8")}, {Table: 110, Dst: prefix("10.0.0.0/8"), Metric: 5}, {Table: 110, Dst: prefix("10.0.0.0/16")},
			{Table: 110, Dst: prefix("::/0")}, {Table: 120, Dst: prefix("10.0.0.0/8")},
		},
		Rules:    []Rule{{Priority: 500, Table: 1}, {Priority: 500, Table: 2}, {Priority: 500, IPv6: true}, {Priority: 501}},
		Rulesets: []Ruleset{{Family: "inet", Table: "a"}, {Family: "inet", Table: "b"}, {Family: "ip", Table: "a"}},
		Sysctls:  []Sysctl{{Name: "a"}, {Name: "b"}},
	}
	want.Interfaces[1].WireGuard = &WireGuard{Peers: []Peer{
		{Name: "a"}, {Name: "b"},
		{PublicKey: key.Public{1}, AllowedIPs: []netip.Prefix{prefix("0.0.0.0/0"), prefix("::/0")}}, {PublicKey: key.Public{2}},
	}}
	want.Clients = &Clients{Devices: []Client{{Name: "a", Addresses: []netip.Prefix{prefix("10.0.0.1/32"), prefix("fd00::1/128")}}, {Name: "b"}}}
	if d := cmp.Diff(want, r, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}, netip.AddrPort{})); d != "" {
		t.Error(d)
	}
}

// Two things are in no particular order only when they are the same thing: else a sorted
// list would depend on how it was before.
func TestCompareTellsEveryFieldApart(t *testing.T) {
	r := full()
	changeEach(t, r.Routes[0], func(name string, changed Route) {
		if CompareRoutes(r.Routes[0], changed) == 0 {
			t.Errorf("CompareRoutes does not look at %s", name)
		}
	})
	changeEach(t, r.Forwards[0], func(name string, changed Forward) {
		if CompareForwards(r.Forwards[0], changed) == 0 {
			t.Errorf("CompareForwards does not look at %s", name)
		}
	})
	changeEach(t, r.Forwards[0].Only[0], func(name string, changed Flow) {
		if CompareFlows(r.Forwards[0].Only[0], changed) == 0 {
			t.Errorf("CompareFlows does not look at %s", name)
		}
	})
	changeEach(t, r.Rules[0], func(name string, changed Rule) {
		if CompareRules(r.Rules[0], changed) == 0 {
			t.Errorf("CompareRules does not look at %s", name)
		}
	})
}

// changeEach calls f with copies of v in each of which one field is zero.
func changeEach[T any](t *testing.T, v T, f func(name string, changed T)) {
	t.Helper()
	for i := range reflect.TypeFor[T]().NumField() {
		c := v
		reflect.ValueOf(&c).Elem().Field(i).SetZero()
		f(reflect.TypeFor[T]().Field(i).Name, c)
	}
}

func TestKeyIsWhatTheKernelTellsRoutesApartBy(t *testing.T) {
	r := full().Routes[0]
	apart := []string{"Table", "Dst", "Src", "Metric"}
	changeEach(t, r, func(name string, changed Route) {
		if (changed.Key() != r.Key()) != slices.Contains(apart, name) {
			t.Errorf("the key with another %s: same %t", name, changed.Key() == r.Key())
		}
	})
}

func TestOwnership(t *testing.T) {
	o := DefaultOwner()
	for alias, want := range map[string]bool{
		"tombolo": true, "tombolo home op1": true, "": false, "tombolo2": false, "my tombolo": false, "Tombolo": false,
	} {
		if got := o.OwnsInterface(Interface{Alias: alias}); got != want {
			t.Errorf("an interface with alias %q is ours: %t", alias, got)
		}
	}
	for rule, want := range map[Rule]bool{
		{Priority: 500, Protocol: 84}: true, {Priority: 599, Protocol: 84}: true,
		{Priority: 499, Protocol: 84}: false, {Priority: 600, Protocol: 84}: false, {Priority: 500, Protocol: 3}: false,
	} {
		if got := o.OwnsRule(rule); got != want {
			t.Errorf("rule %d with protocol %d is ours: %t", rule.Priority, rule.Protocol, got)
		}
	}
	if o.OwnsRoute(Route{Protocol: 42}) || !o.OwnsRoute(Route{Protocol: 84}) {
		t.Error("routes are told apart by another thing than the protocol")
	}
	if o.OwnsRuleset(Ruleset{Table: "fw4"}) || !o.OwnsRuleset(Ruleset{Table: "tombolo"}) {
		t.Error("rulesets are told apart by another thing than the table")
	}
}

func TestAnOwnerOfNothingOwnsNothing(t *testing.T) {
	var o Owner
	if o.OwnsInterface(Interface{}) || o.OwnsRoute(Route{}) || o.OwnsRule(Rule{}) || o.OwnsRuleset(Ruleset{}) {
		t.Error("what has no mark is taken for ours")
	}
}
