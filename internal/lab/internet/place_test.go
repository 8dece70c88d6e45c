package internet

import (
	"net/netip"
	"testing"
	"time"
)

var public = netip.MustParseAddr("198.51.100.7")

func TestSetPlacesNamesEveryMistake(t *testing.T) {
	nat := NAT{Kind: FullCone, Public: public}
	for _, c := range []struct {
		name   string
		places []Place
		want   string
	}{
		{"reserved", []Place{{Name: ""}, {Name: "*"}}, "place \"\": the name is reserved\nplace \"*\": the name is reserved"},
		{"twice", []Place{{Name: "a"}, {Name: "a"}}, `place "a" is named twice`},
		{"same prefix", []Place{
			{Name: "a", Prefixes: prefixes("10.0.0.0/24")}, {Name: "b", Prefixes: prefixes("10.0.0.1/24")}},
			`place "b": 10.0.0.0/24 is also at place "a"`},
		{"invalid prefix", []Place{{Name: "a", Prefixes: []netip.Prefix{{}}}}, `place "a": a prefix is invalid`},
		{"public address taken", []Place{
			{Name: "a", Prefixes: prefixes("198.51.100.7/32")}, {Name: "b", NAT: nat}},
			`place "b": 198.51.100.7/32 is also at place "a"`},
		{"no public address", []Place{{Name: "a", NAT: NAT{Kind: Symmetric}}},
			`place "a": a symmetric NAT needs a public IPv4 address, not "invalid IP"`},
		{"unlike sharers", []Place{{Name: "a", NAT: nat}, {Name: "b", NAT: NAT{Kind: Symmetric, Public: public}}},
			`place "b": the NAT at 198.51.100.7 is described differently elsewhere`},
		{"ports", []Place{{Name: "a", NAT: NAT{Kind: FullCone, Public: public, PortMin: 9, PortMax: 8}}},
			`place "a": NAT ports 9-8 are no range`},
		{"timeout", []Place{{Name: "a", NAT: NAT{Kind: FullCone, Public: public, UDPTimeout: -1}}},
			`place "a": a NAT timeout is negative`},
		{"kind", []Place{{Name: "a", NAT: NAT{Kind: 9, Public: public}}}, `place "a": NAT kind 9 is unknown`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, Place{Name: "before", Prefixes: prefixes("192.0.2.0/24")})
			if err := b.SetPlaces(c.places); err == nil || err.Error() != c.want {
				t.Errorf("%v, want %s", err, c.want)
			}
			b.pass(udp("192.0.2.1:1", "192.0.2.2:1", ""))
			if b.pair("before", "before").Sent != 1 {
				t.Error("the places changed all the same")
			}
		})
	}
}

func TestNATKindsHaveNames(t *testing.T) {
	for kind := None; kind <= Symmetric; kind++ {
		text, err := kind.MarshalText()
		var back NATKind
		if err != nil || back.UnmarshalText(text) != nil || back != kind || kind.String() != string(text) {
			t.Errorf("%d is written %q (%v) and read as %d", kind, text, err, back)
		}
	}
	var k NATKind
	want := `NAT kind "cone" is none of none, full-cone, address-restricted, port-restricted, symmetric`
	if err := k.UnmarshalText([]byte("cone")); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestUnchangedNATKeepsItsMappings: adding a place elsewhere is not a reboot.
func TestUnchangedNATKeepsItsMappings(t *testing.T) {
	home := Place{Name: "home", Prefixes: prefixes("10.0.0.0/24"), NAT: NAT{Kind: FullCone, Public: public}}
	b := newBench(t, home)
	b.want(udp("10.0.0.2:4000", "203.0.113.1:53", ""), "udp 198.51.100.7:4000 > 203.0.113.1:53")
	answer := func() []byte { return udp("203.0.113.1:53", "198.51.100.7:4000", "") }
	if err := b.SetPlaces([]Place{home, {Name: "new"}}); err != nil {
		t.Fatal(err)
	}
	b.want(answer(), "udp 203.0.113.1:53 > 10.0.0.2:4000")
	home.NAT.UDPTimeout = time.Minute
	if err := b.SetPlaces([]Place{home}); err != nil {
		t.Fatal(err)
	}
	b.want(answer(), "")
}
