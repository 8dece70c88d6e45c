package cli_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tombolo/internal/trace"
)

const liveNetwork = `
network: live
overlay: 10.9.0.0/24
sites:
  a: {address: 10.9.0.1, endpoint: a.example.net, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: dhcp}}
  b: {address: 10.9.0.2, endpoint: b.example.net, lan: {lan0: 10.2.0.0/24}, uplink: {eth0: dhcp, eth1: dhcp}}
  c: {address: 10.9.0.3, lan: {lan0: 10.3.0.0/24}, uplink: {eth0: dhcp}}
links: {chain: [a, b, c]}
`

// traced is what tombolo trace says of a flow, as text and for programs.
func (l testLab) traced(file string, args ...string) (text string, t trace.Trace) {
	l.Helper()
	for _, more := range [][]string{nil, {"--json"}} {
		c := exec.Command(binary, append(append([]string{"trace", file, "a:10.1.0.10", "c:10.3.0.10"}, args...), more...)...)
		var diagnostics strings.Builder
		c.Stderr = &diagnostics
		out, err := c.Output()
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 2) {
			l.Fatalf("%v: %v\n%s", c.Args, err, diagnostics.String())
		}
		if more == nil {
			text = diagnostics.String() + string(out)
			continue
		}
		if err := json.Unmarshal(out, &t); err != nil {
			l.Fatalf("%v in %s", err, out)
		}
	}
	return text, t
}

// A trace over what the routers hold says what is wrong with one of them now, which the file
// cannot know; and once it is mended, the devices by which the packets go.
func TestTraceLive(t *testing.T) {
	t.Parallel() // it mostly waits
	l := up(t, "live", liveNetwork, "")
	l.reached()
	file := filepath.Join(t.TempDir(), "n.yaml")
	if err := os.WriteFile(file, []byte(liveNetwork), 0o600); err != nil {
		t.Fatal(err)
	}
	live := []string{"--live", "--ask", binary + " lab exec --name " + l.name + " {site} -- " + binary + " state"}
	lost := func(what string) {
		t.Helper()
		text, now := l.traced(file, live...)
		if v := now.Verdict; v.Delivered || v.Router != "b" {
			t.Errorf("%s: --live should say that it is lost at b, and says\n%s", what, text)
		}
		if text, wanted := l.traced(file); !wanted.Verdict.Delivered {
			t.Errorf("%s: the file alone should not know, and says\n%s", what, text)
		}
	}
	l.frozen("b", func() {
		back := l.without("b", priorityOf(l, "b", "lookup 110"))
		lost("without the rule")
		back()
		l.in("b", "ip", "route", "del", "10.3.0.0/24", "table", "110")
		lost("without the learned route")
		back = l.withoutChain("b", "forward")
		if text, _ := l.traced(file, live...); !strings.Contains(text, "but b has another ruleset") {
			t.Errorf("a ruleset that somebody changed is to be said:\n%s", text)
		}
		back()
		l.in("b", "mv", "/run/tombolo/wanted.json", "/run/tombolo/away")
		text, now := l.traced(file, live...)
		l.in("b", "mv", "/run/tombolo/away", "/run/tombolo/wanted.json")
		if !now.Verdict.Delivered || strings.Count(text, "b does not say what it holds") != 1 || !strings.Contains(text, "but b did not say") {
			t.Errorf("b, which says nothing, is to be taken as it should be, and that to be said:\n%s", text)
		}
	})
	l.soon(func() string {
		if text, now := l.traced(file, live...); !now.Verdict.Delivered {
			return "once mended it is still lost:\n" + text
		}
		return ""
	})
	_, now := l.traced(file, live...)
	const pings = 20
	before := map[trace.Hop]int{}
	for _, h := range now.Hops {
		if h.Device != "" {
			before[h] = l.sent(h.Router, h.Device)
		}
	}
	l.in("a.host", "ping", "-n", "-q", "-i", "0.05", "-c", "20", "10.3.0.10")
	for h, n := range before {
		if sent := l.sent(h.Router, h.Device) - n; sent < pings {
			t.Errorf("%s should send %d pings by %s, and sent %d packets", h.Router, pings, h.Device, sent)
		}
	}
	if len(before) != 3 {
		t.Errorf("the hops are %v; they should be those of three routers", now.Hops)
	}
}

// priorityOf returns the priority of the first rule that has some words.
func priorityOf(l testLab, site, words string) (priority int) {
	l.Helper()
	for line := range strings.Lines(l.in(site, "ip", "rule")) {
		if number, rest, ok := strings.Cut(line, ":"); ok && strings.Contains(rest, words) {
			if err := json.Unmarshal([]byte(number), &priority); err != nil {
				l.Fatal(err)
			}
			return priority
		}
	}
	l.Fatalf("%s has no rule with %q", site, words)
	return 0
}

// On a wire routers know each other by link-local addresses, which no file has: they are asked for.
func TestTraceLiveOverAWire(t *testing.T) {
	t.Parallel() // it mostly waits
	const network = `
network: wire
overlay: 10.9.0.0/24
sites:
  a: {lan: {lan0: "fd00:1::/64"}, uplink: {eth0: {address: 211.9.0.2/29, gateway: 211.9.0.1}}}
  b: {endpoint: b.example.net, lan: {lan0: "fd00:2::/64"}, uplink: {eth0: {address: 211.9.0.3/29, gateway: 211.9.0.1}}}
  c: {lan: {lan0: "fd00:3::/64"}, uplink: {eth0: dhcp}}
links: [{between: [a, b], transport: none, on: {a: eth0, b: eth0}}, [b, c]]
`
	l := up(t, "livewire", network, "")
	l.answers("a.host", "fd00:3::10")
	file := filepath.Join(t.TempDir(), "n.yaml")
	if err := os.WriteFile(file, []byte(network), 0o600); err != nil {
		t.Fatal(err)
	}
	out := l.must("trace", file, "a:fd00:1::10", "fd00:3::10", "--live", "--ask", binary+" lab exec --name "+l.name+" {site} -- "+binary+" state")
	if !strings.Contains(out, "delivered to c:fd00:3::10, and answered") || !strings.Contains(out, "via fe80::") {
		t.Errorf("%s", out)
	}
}
