package kernel

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tombolo/internal/plan"
)

// What others have is told, in both families, and what is ours is not; of what fills a table
// of ours one is enough.
func TestStrangers(t *testing.T) {
	namespace(t)
	veth(t)
	sh(t, `
		for ip in "ip -4" "ip -6"; do
			$ip rule add pref 505 fwmark 0x100/0xff00 lookup main
			$ip rule add pref 499 not fwmark 51820 lookup 51820
			$ip rule add pref 498 uidrange 0-99 lookup 51820
			$ip rule add pref 510 lookup 110 protocol 84
			$ip rule add pref 511 lookup 110 protocol 86
		done
		ip rule add pref 497 tos 0x10 lookup 51820
		ip route add 0.0.0.0/1 dev v0; ip route add 128.0.0.0/1 dev v0; ip route add 10.50.0.0/16 dev v0
		ip route add default dev v0 table 51820; ip route add 10.51.0.0/16 dev v0 table 51820
		for n in 1 2 3; do ip route add 10.60.$n.0/24 dev v0 table 110 proto static; done
		ip route add 10.61.0.0/24 dev v0 table 110 proto 84
		ip -6 route add 8000::/1 dev v0; ip -6 route add default dev v0 table 51820
		ip -6 route add fd10::/64 dev v0 table 110`)
	got, err := ReadStrangers([]uint8{84, 85, 86}, func(table uint32) bool { return table == 110 })
	if err != nil {
		t.Fatal(err)
	}
	var rules, routes []string
	for _, r := range got.Rules {
		if 0 < r.Priority && r.Priority < 32766 {
			word := map[bool]string{true: "-6 "}[r.IPv6]
			word += map[bool]string{true: "not "}[r.Not]
			word += map[bool]string{true: "narrow "}[r.Narrow]
			rules = append(rules, word+strings.TrimPrefix(plan.Rule{Rule: r.Rule}.ID(), "-6 "))
		}
	}
	for _, r := range got.Routes {
		if r.Device == "v0" {
			routes = append(routes, plan.Route{Route: r}.ID())
		}
	}
	if d := cmp.Diff([]string{
		"narrow pref 497 lookup 51820",
		"narrow pref 498 lookup 51820", "-6 narrow pref 498 lookup 51820",
		"not pref 499 fwmark 0xca6c/0xffffffff lookup 51820", "-6 not pref 499 fwmark 0xca6c/0xffffffff lookup 51820",
		"pref 505 fwmark 0x100/0xff00 lookup main", "-6 pref 505 fwmark 0x100/0xff00 lookup main",
	}, rules); d != "" {
		t.Errorf("rules (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{
		"10.60.1.0/24 table 110", "fd10::/64 table 110",
		"0.0.0.0/1 table main", "128.0.0.0/1 table main", "8000::/1 table main",
		"0.0.0.0/0 table 51820", "::/0 table 51820",
	}, routes); d != "" {
		t.Errorf("routes (-want +got):\n%s", d)
	}
}
