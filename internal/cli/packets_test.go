package cli_test

import (
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"tombolo/internal/lab"
)

const pairNetwork = `
network: n
overlay: 10.9.0.0/24
sites:
  a: {address: 10.9.0.1, endpoint: a.example.net, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: dhcp}}
  b: {address: 10.9.0.2, lan: {lan0: 10.2.0.0/24}, uplink: {eth0: dhcp}}
links:
  - {between: [a, b], mtu: 1300}
`

// TCP between two LANs is told the tunnel's size, so that no segment needs more, and large
// packets of others are answered with the size that fits.
func TestLargePacketsFitTheTunnel(t *testing.T) {
	t.Parallel()
	l := up(t, "mss", pairNetwork, "")
	l.reached()
	server := l.start("b.host", "iperf3", "-s", "-1")
	out := l.in("a.host", "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do iperf3 -c 10.2.0.10 -t 1 -V && exit; sleep 0.2; done; exit 1")
	_ = server.Wait()
	m := regexp.MustCompile(`TCP MSS: (\d+)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("iperf3 did not say its segment size:\n%s", out)
	}
	if mss, _ := strconv.Atoi(m[1]); mss > 1300-40 {
		t.Errorf("TCP sends segments of %d bytes into a tunnel of 1300", mss)
	}
	// 1400 bytes do not fit and may not be split: the router says what would.
	text := l.fails("a.host", "ping", "-c1", "-W2", "-M", "do", "-s", "1372", "10.2.0.10")
	if !strings.Contains(text, "mtu = 1300") && !strings.Contains(text, "mtu=1300") {
		t.Errorf("a packet that does not fit got no answer with the size that does:\n%s", text)
	}
	l.in("a.host", "ping", "-c1", "-W2", "-M", "do", "-s", "1272", "10.2.0.10")
}

// What tombolo does to a router leaves it what it had: its IPv6 default route, learned
// from router advertisements, although it forwards now; its hosts' way to the Internet.
func TestRouterKeepsItsInternet(t *testing.T) {
	t.Parallel()
	l := up(t, "inet", pairNetwork, "")
	l.reached()
	if out := l.in("a", "ip", "-6", "route", "show", "default"); !strings.Contains(out, "proto ra") {
		t.Errorf("the IPv6 default route is gone: %q", out)
	}
	inet := l.node("inet")
	l.in("a", "ping", "-c1", "-W2", inet.Addr6().String())
	l.in("a.host", "ping", "-c1", "-W2", inet.Addr().String())
	// A tunnel's own packets must never enter a tunnel, and other sites' hosts keep their
	// true addresses.
	server := l.start("b.host", "tcpdump", "-nli", "eth0", "-c1", "icmp[icmptype] == icmp-echo")
	time.Sleep(500 * time.Millisecond)
	l.in("a.host", "ping", "-c3", "-W2", "10.2.0.10")
	if err := server.Wait(); err != nil {
		t.Fatal(err)
	}
	if out := server.Stdout.(*strings.Builder).String(); !strings.Contains(out, "10.1.0.10 > 10.2.0.10") {
		t.Errorf("b's host does not see the true source: %s", out)
	}
}

// A provider leases another address overnight: the name leads there, and the other end
// follows the name.
func TestEndpointNamesAreResolvedAgain(t *testing.T) {
	t.Parallel()
	l := up(t, "relet", pairNetwork, "")
	l.reached()
	l.in("b", "sysctl", "-w", "net.ipv6.conf.eth0.disable_ipv6=1") // else it goes on by IPv6, which stays
	open, err := lab.Open(l.name)
	if err != nil {
		t.Fatal(err)
	}
	moved, err := open.Relet(t.Context(), "a", "eth0", netip.Prefix{})
	if err != nil {
		t.Fatal(err)
	}
	if out := l.in("b", "wg", "show", "wg-a", "endpoints"); strings.Contains(out, moved.Addr().String()) {
		t.Fatalf("b knows of the new address before it looked: %s", out)
	}
	out := ""
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Second) {
		// The agent looks every 30 s, and when it is told to; the hosts file it reads again
		// after 5.
		l.in("b", "sh", "-c", "kill -HUP $(cat /run/tombolo/agent.lock)")
		if out = l.in("b", "wg", "show", "wg-a", "endpoints"); strings.Contains(out, moved.Addr().String()+":") {
			l.reached()
			return
		}
	}
	t.Errorf("b did not follow the name to %s: %s", moved.Addr(), out)
}

// Each router can be changed alone: a site that goes takes its tunnels with it, and nothing
// of the others is lost.
func TestApplyOfAChangedFileTouchesOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	l := up(t, "change", pairNetwork, "")
	l.reached()
	open, err := lab.Open(l.name)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(open.Dir(), "network.yaml")
	l.in("a", "sed", "-i", "s/mtu: 1300/mtu: 1350, cost: 2/", file)
	probe := l.start("a.host", "ping", "-i", "0.05", "-c", "60", "-W", "1", "10.2.0.10")
	for _, site := range []string{"a", "b"} {
		out := l.in(site, binary, "apply", file, "--site", site, "--keys", filepath.Join(open.Dir(), "keys"))
		if !strings.Contains(out, "mtu 1300 → 1350") {
			t.Errorf("the plan does not say what changes:\n%s", out)
		}
	}
	if err := probe.Wait(); err != nil || !strings.Contains(probe.Stdout.(*strings.Builder).String(), " 0% packet loss") {
		t.Errorf("packets were lost while the MTU changed: %v\n%s", err, probe.Stdout)
	}
}

// start starts a command on a node, with its output in a strings.Builder.
func (l testLab) start(node string, argv ...string) *exec.Cmd {
	l.Helper()
	c := exec.Command(binary, append([]string{"lab", "exec", "--name", l.name, node, "--"}, argv...)...)
	var out strings.Builder
	c.Stdout = &out
	if err := c.Start(); err != nil {
		l.Fatal(err)
	}
	c.WaitDelay = time.Second // where what it started does not let go of its output
	l.Cleanup(func() { _ = c.Process.Kill() })
	return c
}

// fails runs a command on a node that must fail, and returns all it wrote.
func (l testLab) fails(node string, argv ...string) string {
	l.Helper()
	c := exec.Command(binary, append([]string{"lab", "exec", "--name", l.name, node, "--"}, argv...)...)
	out, err := c.CombinedOutput()
	if err == nil {
		l.Errorf("%s on %s did not fail:\n%s", strings.Join(argv, " "), node, out)
	}
	return string(out)
}

func (l testLab) node(name string) lab.Node {
	l.Helper()
	open, err := lab.Open(l.name)
	if err != nil {
		l.Fatal(err)
	}
	n, err := open.Node(name)
	if err != nil {
		l.Fatal(err)
	}
	return n
}
