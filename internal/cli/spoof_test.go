package cli_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const spoofNetwork = `
network: chain
overlay: 10.9.0.0/24
sites:
  sa: {address: 10.9.0.1, endpoint: sa.example.net, lan: {lan0: [10.1.0.0/24, "fd00:1::/64"]}, uplink: {eth0: dhcp}}
  sb: {address: 10.9.0.2, endpoint: sb.example.net, lan: {lan0: [10.2.0.0/24, "fd00:2::/64"]}, uplink: {eth0: dhcp}}
  sc: {address: 10.9.0.3, endpoint: sc.example.net, lan: {lan0: [10.3.0.0/24, "fd00:3::/64"]}, uplink: {eth0: dhcp}}
  sd: {kind: plain, address: 10.9.0.4, lan: {lan0: [10.4.0.0/24, "fd00:4::/64"]}, uplink: {eth0: dhcp}}
links: [[sa, sb], [sb, sc], [sb, sd]]
`

// Whoever sends with an address that is not their own is not heard: a host in its LAN, a site
// with another's, also with that of whom it sends to. What a site in the middle hands on is.
func TestSpoofedSourcesAreRefused(t *testing.T) {
	t.Parallel()
	l := open(t, "spoof", spoofNetwork, "")
	l.reached()
	to := map[bool]netip.Addr{false: netip.MustParseAddr("10.1.0.10"), true: netip.MustParseAddr("fd00:1::10")}
	m := l.mirror("sa.host", to[false], to[true])
	// once reports whether the host hears a ping that a node sends as another.
	once := func(node, as string) bool {
		t.Helper()
		source := netip.MustParseAddr(as)
		family, bits := "-4", "32"
		if source.Is6() {
			family, bits = "-6", "128"
		}
		l.in(node, "sh", "-c", fmt.Sprintf("ip %[1]s addr replace %[2]s/%[3]s dev lo; ping -n -c 3 -i 0.2 -W 1 -I %[2]s %[4]s; ip %[1]s addr del %[2]s/%[3]s dev lo", family, as, bits, to[source.Is6()]))
		for range 5 {
			time.Sleep(50 * time.Millisecond)
			if m.pinged(source) {
				return true
			}
		}
		return false
	}
	// heard asks again where an answer is expected: this machine may be busy.
	heard := func(node, as string, want bool) bool {
		t.Helper()
		got := once(node, as)
		for range 3 {
			if got || !want {
				break
			}
			got = once(node, as)
		}
		return got
	}
	cases := []struct {
		who, node, as string
		want          bool
	}{
		{"a leaf, as the site in the middle", "sc", "10.2.0.99", false},
		{"a leaf, as the one that it sends to", "sc", "10.1.0.99", false},
		{"a leaf, as the Internet", "sc", "198.51.100.99", false},
		{"a leaf, as its own LAN", "sc", "10.3.0.99", true},
		{"a plain site, as the site in the middle", "sd", "10.2.0.99", false},
		{"a plain site, as itself", "sd", "10.4.0.99", true},
		{"the middle, as the one that it sends to", "sb", "10.1.0.99", false},
		{"the middle, as the leaf", "sb", "10.3.0.99", true},
		{"a leaf, as the site in the middle", "sc", "fd00:2::99", false},
		{"a leaf, as its own LAN", "sc", "fd00:3::99", true},
		{"the middle, as the one that it sends to", "sb", "fd00:1::99", false},
		{"the middle, as the leaf", "sb", "fd00:3::99", true},
	}
	for _, c := range cases {
		if got := heard(c.node, c.as, c.want); got != c.want {
			t.Errorf("%s (%s) is heard: %v", c.who, c.as, got)
		}
	}
	for _, host := range []struct{ who, as string }{{"as another site", "10.2.0.99"}, {"as its router", "10.3.0.1"}, {"as the Internet", "198.51.100.99"}, {"as another site", "fd00:1::99"}, {"as its router", "fd00:3::1"}} {
		if heard("sc.host", host.as, false) {
			t.Errorf("a host in a LAN is heard %s", host.who)
		}
	}
	l.frozen("sb", func() {
		for _, chain := range strings.Fields(l.in("sb", "sh", "-c", "nft list table inet tombolo | sed -n 's/.*chain \\(check-[^ ]*\\) .*/\\1/p'")) {
			defer l.withoutChain("sb", chain)()
		}
		if !heard("sc", "10.2.0.99", true) {
			t.Error("a leaf is not heard as another where nothing refuses it")
		}
	})
}
