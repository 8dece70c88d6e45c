package lab

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tombolo/internal/lab/internet"
	"tombolo/internal/state"
)

// TestCorners has what is rare: one wire for several, providers' boxes that are alike,
// forwarded ports, gateways outside the subnet.
func TestCorners(t *testing.T) {
	l := up(t, examples["corners"], File{})
	inet := node(t, l, "inet")
	for _, from := range []string{"a", "b", "c", "d", "e", "a-site-with-a-long-name"} {
		for _, to := range []netip.Addr{inet.Addr(), inet.Addr6()} {
			if !answers(t, l, from, to) {
				t.Errorf("%s does not reach %s", from, to)
			}
		}
	}
	for _, to := range []string{"203.0.113.77", "203.0.113.9", "2001:db8:77::9", "198.51.100.5", "203.0.113.10", "2001:db8:88::10"} {
		for _, from := range []string{"inet", "b", "e"} {
			if from != "e" || to != "198.51.100.5" {
				if !answers(t, l, from, addr(to)) {
					t.Errorf("%s does not reach %s", from, to)
				}
			}
		}
	}
	// What comes in by the second uplink is answered by the first, whose provider drops it,
	// until somebody knows better.
	const long = "a-site-with-a-long-name"
	if reaches(t, l, "inet", addr("198.18.7.2")) {
		t.Error("an answer with another provider's source arrives")
	}
	in(t, l, long, "ip route add default via 198.18.7.1 dev eth1 table 207")
	in(t, l, long, "ip rule add from 198.18.7.2 lookup 207")
	for _, from := range []string{"inet", "b", "e"} {
		if !answers(t, l, from, addr("198.18.7.2")) {
			t.Errorf("%s does not reach the second uplink", from)
		}
	}
	// a and c share a wire: no router is between them. b is on another one.
	if !answers(t, l, "a", addr("192.168.1.3")) || !answers(t, l, "b", addr("192.168.1.1")) || reaches(t, l, "b", addr("192.168.1.3")) {
		t.Error("the wire of a and c is not what it should be")
	}
	if !answers(t, l, "a.host", addr("fd00:a::1")) || !answers(t, l, "b.host-guests", addr("10.3.0.1")) {
		t.Error("a LAN does not work")
	}
	if got := in(t, l, long, "cat /sys/class/net/eth0/mtu"); got != "1400" {
		t.Errorf("MTU %s", got)
	}
	if got := in(t, l, long, "ip -6 route show default"); !strings.Contains(got, "via 2001:db8:88::1 dev eth0 proto static") ||
		!strings.Contains(got, "via fe80::1 dev eth1 proto ra metric 1124") {
		t.Errorf("default routes: %s", got)
	}
}

// TestNATKinds sends to a mapping from where it was not opened to.
func TestNATKinds(t *testing.T) {
	sites := map[string]Site{}
	routers := []state.Router{}
	for kind := internet.FullCone; kind <= internet.Symmetric; kind++ {
		name := kind.String()
		sites[name] = Site{Uplinks: map[string]Uplink{"eth0": {NAT: &kind}}}
		routers = append(routers, state.Router{Site: name, Uplinks: dhcp("eth0")})
	}
	l := up(t, routers, File{Sites: sites, Internet: []InternetHost{{Name: "x"}, {Name: "y"}}})
	for kind := internet.FullCone; kind <= internet.Symmetric; kind++ {
		got := probeNAT(t, l, kind.String())
		want := natProbe{
			samePort:    kind != internet.Symmetric,
			otherPort:   kind <= internet.AddressRestricted,
			otherSender: kind == internet.FullCone,
		}
		if got != want {
			t.Errorf("%s: %+v, want %+v", kind, got, want)
		}
	}
}

func TestThirtySitesComeUpSoon(t *testing.T) {
	start := time.Now()
	l := up(t, mesh(30), File{})
	// About a second alone on two cores.
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	for i := range 30 {
		from, to := fmt.Sprintf("s%d", i), node(t, l, fmt.Sprintf("s%d", (i+1)%30))
		if !answers(t, l, from, to.Addr()) || !answers(t, l, from, to.Addr6()) {
			t.Errorf("%s does not reach %s", from, to.Name)
		}
	}
}
