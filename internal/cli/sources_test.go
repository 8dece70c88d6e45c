package cli_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// edit changes what a router holds to be applied, as a later file may say it: more is
// announced, or accepted.
func (l testLab) edit(site string, change func(babel map[string]any)) {
	l.Helper()
	const file = "/run/tombolo/wanted.json"
	var all map[string]any
	if err := json.Unmarshal([]byte(l.in(site, "cat", file)), &all); err != nil {
		l.Fatal(err)
	}
	change(all["router"].(map[string]any)["babel"].(map[string]any))
	text, err := json.Marshal(all)
	if err != nil {
		l.Fatal(err)
	}
	l.in(site, "sh", "-c", `printf %s "$1" >`+file+`.new; mv `+file+`.new `+file+`; kill -HUP $(cat `+agentPID+")", "sh", string(text))
}

// A route for some sources only is theirs, in both families, and others' packets go as
// before; with the router that announces it, it goes.
func TestRoutesForSomeSourcesOnly(t *testing.T) {
	t.Parallel()
	l := up(t, "sources", strings.ReplaceAll(triangleNetwork, "lan: {lan0: 10.1.0.0/24}", "lan: {lan0: [10.1.0.0/24, 'fd01::/64']}"), "")
	l.reached()
	// Beyond c there is a host that nobody else knows, and half of b's LAN once more.
	l.in("c", "sh", "-c", "ip link add far type bridge; ip link set far up; ip addr add 198.51.100.7/32 dev far; ip addr add 10.2.0.10/32 dev far; ip -6 addr add 2001:db8:7::7/128 dev far nodad")
	here := []any{
		map[string]any{"dst": "0.0.0.0/0", "src": "10.1.0.0/25", "while": "always"},
		map[string]any{"dst": "10.2.0.0/25", "src": "10.1.0.10/32", "while": "always"},
		map[string]any{"dst": "::/0", "src": "fd01::/64", "while": "always"},
	}
	l.edit("c", func(b map[string]any) { b["announce"] = append(b["announce"].([]any), here...) })
	for _, site := range []string{"a", "b"} {
		l.edit(site, func(b map[string]any) {
			for _, x := range here {
				x := x.(map[string]any)
				b["accept"] = append(b["accept"].([]any), map[string]any{"dst": x["dst"], "src": x["src"], "origins": []uint32{0x0a080003}})
			}
		})
	}
	way := func(src, dst string) string {
		six := map[bool]string{true: "-6", false: "-4"}[strings.Contains(dst, ":")]
		out, _ := l.try("a", "ip", six, "route", "get", dst, "from", src, "iif", "lan0")
		for i, w := range strings.Fields(out) {
			if w == "dev" {
				return strings.Fields(out)[i+1]
			}
		}
		return out
	}
	goes := func(src, dst, device string) {
		l.Helper()
		l.soon(func() string {
			if got := way(src, dst); got != device {
				return src + " goes to " + dst + " by " + got + "\n" + l.in("a", "sh", "-c", "ip rule; ip route show table all proto 85; ip -6 rule")
			}
			return ""
		})
	}
	goes("10.1.0.10", "198.51.100.7", "wg-c")
	goes("10.1.0.130", "198.51.100.7", "eth0")
	goes("10.1.0.10", "10.2.0.10", "wg-c")  // its own
	goes("10.1.0.11", "10.2.0.10", "wg-b")  // everybody's, before a default
	goes("10.1.0.10", "10.2.0.130", "wg-b") // beside its own
	goes("fd01::10", "2001:db8:7::7", "wg-c")
	l.answers("a.host", "198.51.100.7")
	l.answers("a.host", "2001:db8:7::7")
	l.answers("a.host", "10.2.0.10")
	if got := l.in("a", "ip", "route", "show", "table", "110", "default"); got != "" {
		t.Errorf("IPv4 has a default route for everybody: %s", got)
	}
	// A rule that another program takes away comes back, and an agent that was killed took
	// nothing away.
	l.in("a", "ip", "rule", "del", "pref", "559")
	goes("10.1.0.10", "198.51.100.7", "wg-c")
	l.in("a", "sh", "-c", "kill -9 $(cat "+agentPID+")")
	if got := way("10.1.0.10", "198.51.100.7"); got != "wg-c" {
		t.Errorf("without an agent it goes by %s", got)
	}
	l.edit("c", func(b map[string]any) { b["announce"] = b["announce"].([]any)[:len(b["announce"].([]any))-len(here)] })
	goes("10.1.0.10", "10.2.0.10", "wg-b")
	l.soon(func() string {
		if out := l.in("a", "sh", "-c", "(ip rule; ip -6 rule; ip route show table all) | grep 'proto 85' | grep -v 'table 110 '; true"); out != "" {
			return "something is left:\n" + out
		}
		return ""
	})
}
