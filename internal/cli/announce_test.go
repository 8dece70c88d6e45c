package cli_test

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tombolo/internal/api"
)

// behindNetwork has what is announced on a condition: a LAN, a LAN with a probe, and a
// neighbour that speaks no Babel.
const behindNetwork = `
network: n
overlay: 10.8.0.0/24
sites:
  a: {address: 10.8.0.1, endpoint: a.example.net, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: dhcp}}
  b: {address: 10.8.0.2, endpoint: b.example.net, lan: {lan0: {prefix: 10.2.0.0/24, probe: 10.2.0.10}}, uplink: {eth0: dhcp}}
  c: {address: 10.8.0.3, kind: plain, lan: {lan0: 10.3.0.0/24}, uplink: {eth0: dhcp}}
links: [[a, b], [a, c]]
`

// soon waits until nothing is wrong any more; fault says what is.
func (l testLab) soon(fault func() string) {
	l.Helper()
	var last string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if last = fault(); last == "" {
			return
		}
	}
	l.Fatalf("after %s: %s", patience, last)
}

// answers waits until a node has an answer from an address.
func (l testLab) answers(node, to string) {
	l.Helper()
	l.soon(func() string {
		out, err := l.try(node, "ping", "-n", "-c1", "-W1", to)
		if err != nil {
			return "no answer: " + out
		}
		return ""
	})
}

// try runs a command on a node and returns all it wrote.
func (l testLab) try(node string, argv ...string) (string, error) {
	c := exec.Command(binary, append([]string{"lab", "exec", "--name", l.name, node, "--"}, argv...)...)
	out, err := c.CombinedOutput()
	return string(out), err
}

// status is what a router's agent says. It may be that there is a problem.
func (l testLab) status(site string) (s api.Status) {
	l.Helper()
	c := exec.Command(binary, "lab", "exec", "--name", l.name, site, "--", binary, "status", "--json")
	out, _ := c.Output()
	if err := json.Unmarshal(out, &s); err != nil {
		l.Fatalf("%v in %s", err, out)
	}
	return s
}

// announces waits until a router announces a prefix, or does not, and says why.
func (l testLab) announces(site, dst string, now bool, why string) {
	l.Helper()
	l.soon(func() string {
		for _, a := range l.status(site).Announced {
			if a.Dst.String() != dst {
				continue
			}
			if a.Now == now && strings.Contains(a.Why, why) {
				return ""
			}
			return site + " announces " + dst + ", by its own account: " + a.Why
		}
		return site + " knows nothing of " + dst
	})
}

// lost checks that what goes to an address ends at the router, and is not sent to the
// Internet in place of the tunnel.
func (l testLab) lost(router, host, to string) {
	l.Helper()
	l.soon(func() string {
		if out, err := l.try(router, "ip", "route", "get", to); err == nil {
			return "it is sent somewhere else: " + out
		}
		return ""
	})
	// Of such answers the kernel sends few in a second (icmp_ratelimit).
	l.soon(func() string {
		if out, err := l.try(host, "ping", "-n", "-c1", "-W2", to); err == nil || !strings.Contains(out, "nreachable") {
			return "the host is not told that there is no way:\n" + out
		}
		return ""
	})
}

func TestALANIsAnnouncedWhileItWorks(t *testing.T) {
	t.Parallel() // it mostly waits
	l := up(t, "behind", behindNetwork, "")
	l.reached()
	for _, c := range []struct {
		name, node, off, on, why string
	}{
		{"the cable is pulled", "a.host", "ip link set eth0 down", "ip link set eth0 up; ip route replace default via 10.1.0.1", "lan0 is without carrier"},
		{"the device is set down", "a", "ip link set lan0 down", "ip link set lan0 up", "lan0 is down"},
		{
			"the device is removed and made again", "a", "ip link del lan0",
			"ip link add lan0 type bridge && ip link set lan0-host master lan0 && ip addr add 10.1.0.1/24 dev lan0 && ip link set lan0 up", "lan0 is missing",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := testLab{t, l.name}
			l.in(c.node, "sh", "-c", c.off)
			l.announces("a", "10.1.0.0/24", false, c.why)
			l.goes("b", "10.1.0.0/24", "")
			l.lost("b", "b.host", "10.1.0.10")
			if out := l.in("a", binary, "status"); !strings.Contains(out, "\n2 of 2 links up") || !strings.Contains(out, "; 1 of ") {
				t.Errorf("the status does not say it at once:\n%s", out)
			}
			l.in("b.host", "ping", "-n", "-c1", "-W5", "10.8.0.1") // the router itself stays
			l.in(c.node, "sh", "-c", c.on)
			l.announces("a", "10.1.0.0/24", true, "lan0 has carrier")
			l.goes("b", "10.1.0.0/24", "wg-a")
			l.answers("b.host", "10.1.0.10")
		})
	}
	t.Run("the probed host is silent", func(t *testing.T) {
		l := testLab{t, l.name}
		l.announces("b", "10.2.0.0/24", true, "10.2.0.10 answers")
		l.in("b.host", "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
		l.announces("b", "10.2.0.0/24", false, "10.2.0.10 does not answer")
		l.goes("a", "10.2.0.0/24", "")
		l.lost("a", "a.host", "10.2.0.10")
		l.in("b.host", "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=0")
		l.announces("b", "10.2.0.0/24", true, "10.2.0.10 answers")
		l.answers("a.host", "10.2.0.10")
	})
	t.Run("behind a neighbour without Babel", func(t *testing.T) {
		l := testLab{t, l.name}
		l.announces("a", "10.3.0.0/24", true, "c is connected")
		l.goes("b", "10.3.0.0/24", "wg-a")
		l.answers("b.host", "10.3.0.10")
		l.answers("c.host", "10.2.0.10")
	})
}

// A line for each destination, after one for all of them; each way only when it is asked for.
func TestRoutesAreALineEach(t *testing.T) {
	t.Parallel()
	l := up(t, "lines", triangleNetwork, "")
	l.reached()
	l.soon(func() string {
		out := l.in("a", binary, "routes")
		lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
		if lines[0] != "9 destinations: 3 of this router, 6 of 2 other sites by 2 neighbours" || len(lines) != 2+1+9 {
			return out
		}
		if n := linesWith(out, "10.2.0.0/24", "b ", "wg-b", "the shortest of 2", "c: "); n != 1 {
			return "the way to b's LAN and the next are not in a line: " + out
		}
		return ""
	})
	if out := l.in("a", binary, "routes", "--all"); strings.Count(out, "\n") != 2+1+9+6 {
		t.Errorf("all ways are:\n%s", out)
	}
	if out := l.in("a", binary, "routes", "10.2.0.9"); strings.Count(out, "\n") != 2+1+2 || !strings.Contains(out, "wg-c") {
		t.Errorf("the ways to an address are:\n%s", out)
	}
}
