package compile_test

import (
	"net/netip"
	"slices"
	"testing"

	"tombolo/internal/compile"
	"tombolo/internal/state"
)

// A management network that the file does not know is not lost to a site that has the same.
func TestConnectedSubnetComesBeforeTheFabricWhereItWouldBeLost(t *testing.T) {
	n := parse(t, "network: n\noverlay: 10.9.0.0/24\nsites:\n  a: {endpoint: 192.0.2.1}\n  b: {lan: {lan0: 192.168.1.0/24}}\n")
	same, other := netip.MustParsePrefix("192.168.1.0/24"), netip.MustParsePrefix("172.17.0.0/16")
	r, err := compile.Router(n, "a", compile.Options{Connected: []netip.Prefix{same, other}})
	if err != nil {
		t.Fatal(err)
	}
	var to []netip.Prefix
	for _, rule := range r.Rules {
		if rule.To.IsValid() {
			to = append(to, rule.To)
		}
	}
	if len(to) != 1 || to[0] != same {
		t.Errorf("rules for %v, want one for %s", to, same)
	}
}

// A site whose leased uplink stands in a network with the same prefix as another site's LAN
// must stay within reach of that network.
func TestLeasedSubnetComesBeforeTheFabric(t *testing.T) {
	n := parse(t, "network: n\noverlay: 10.9.0.0/24\nsites:\n  a: {uplink: {eth0: dhcp}}\n  b: {endpoint: 192.0.2.1, lan: {lan0: 192.168.1.0/24}}\n")
	for _, tt := range []struct {
		lease string
		want  bool
	}{
		{"192.168.1.0/24", true},
		{"192.168.1.128/25", true},
		{"192.168.0.0/16", false}, // the LAN is longer
		{"10.0.0.0/8", false},     // the overlay is
		{"192.168.1.7/32", false}, // a point-to-point link has no subnet
	} {
		lease := netip.MustParsePrefix(tt.lease)
		r, err := compile.Router(n, "a", compile.Options{Leased: []netip.Prefix{lease, lease}})
		if err != nil {
			t.Fatal(err)
		}
		want := state.Rule{Priority: 510, To: lease, Action: state.Lookup, Table: 254, Suppress: 1, Protocol: 84}
		if got := slices.Contains(r.Rules, want); got != tt.want {
			t.Errorf("lease %s: a rule is %v, want %v: %+v", tt.lease, got, tt.want, r.Rules)
		}
	}
}

func TestDeviceNobodyDescribedStillTakesRouterAdvertisements(t *testing.T) {
	n := parse(t, "network: n\noverlay: 10.9.0.0/24\nsites:\n  a: {uplink: {eth0: dhcp}}\n  b: {endpoint: 192.0.2.1}\n")
	r, err := compile.Router(n, "a", compile.Options{Advertised: []string{"eth0", "mgmt", "wg-b"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []state.Sysctl
	for _, s := range r.Sysctls {
		if s.Only != "" {
			got = append(got, s)
		}
	}
	want := []state.Sysctl{
		{Name: "net/ipv6/conf/eth0/accept_ra", Value: "2", Only: "1"},
		{Name: "net/ipv6/conf/mgmt/accept_ra", Value: "2", Only: "1"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}

// Without the setting the kernel refuses the interface's IPv6 addresses.
func TestInterfaceHasIPv6WhereItIsOffByDefault(t *testing.T) {
	n := parse(t, "network: n\noverlay: 10.9.0.0/24\nlinks: [{between: [a, b]}, {between: [a, c], mtu: 1200}]\nsites:\n  a: {endpoint: 192.0.2.1}\n  b:\n  c: {routing: static}\n")
	r, err := compile.Router(n, "a", compile.Options{NoIPv6: true})
	if err != nil {
		t.Fatal(err)
	}
	of := func(device string) bool {
		return slices.Contains(r.Sysctls, state.Sysctl{Name: "net/ipv6/conf/" + device + "/disable_ipv6", Value: "0"})
	}
	if !of("wg-b") || of("wg-c") {
		t.Errorf("got %+v", r.Sysctls)
	}
}

// The port that a link gives one end says nothing of the other, which a port forward moves.
func TestForwardMovesThePortThatTheLinkDoesNotSay(t *testing.T) {
	n := parse(t, "network: n\noverlay: 10.9.0.0/24\nlinks: [{between: [a, b], port: {a: 53000}}]\nsites:\n  a: {address: 10.9.0.1, endpoint: 192.0.2.1}\n  b: {address: 10.9.0.2, endpoint: \"192.0.2.2:61820\"}\n")
	for site, want := range map[string]string{"a": "192.0.2.2:61821", "b": "192.0.2.1:53000"} {
		r, err := compile.Router(n, site, compile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Interfaces[0].WireGuard.Peers[0].Endpoints; !slices.Equal(got, []string{want}) {
			t.Errorf("%s dials %v, want %s", site, got, want)
		}
	}
}
