package cli_test

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"tombolo/internal/lab"
)

const agentPID = "/run/tombolo/agent.lock"

// b and c know each other only by way of a.
const forkNetwork = `
network: n
overlay: 10.9.0.0/24
sites:
  a: {address: 10.9.0.1, endpoint: a.example.net, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: dhcp}}
  b: {address: 10.9.0.2, lan: {lan0: 10.2.0.0/24}, uplink: {eth0: dhcp}}
  c: {address: 10.9.0.3, lan: {lan0: 10.3.0.0/24}, uplink: {eth0: dhcp}}
links: {star: a}
`

// An agent that is killed leaves the tunnels and the routes as they are, its neighbours keep
// the ways through it where they have no other, and its successor finds them: whatever the
// agents suffer, for however long, no packet is lost.
func TestKilledAgentsLoseNoPacket(t *testing.T) {
	t.Parallel() // it mostly waits
	l := up(t, "killed", forkNetwork, "")
	l.reached()
	kill := func(site string) { // with its keeper, that nobody starts it again
		l.in(site, "sh", "-c", "p=$(cat "+agentPID+"); kill -9 $(ps -o ppid= -p $p) $p")
	}
	start := func(site string) {
		if out, err := exec.Command(binary, "lab", "exec", "--name", l.name, site, "--", binary, "status").CombinedOutput(); err == nil {
			t.Fatalf("the agent of %s is not dead:\n%s", site, out)
		}
		l.in(site, "sh", "-c", binary+" keeper >>/run/tombolo/log 2>&1 </dev/null &")
	}
	const settled = 8 * time.Second // then nothing is kept any more for a dead agent's sake
	for _, c := range []struct {
		name   string
		happen func()
	}{
		{"all for a moment", func() {
			for _, site := range []string{"a", "b", "c"} {
				kill(site)
			}
			time.Sleep(2 * time.Second)
			for _, site := range []string{"a", "b", "c"} {
				start(site)
			}
			time.Sleep(settled)
		}},
		{"the one between for long", func() {
			kill("a")
			time.Sleep(30 * time.Second)
			start("a")
			time.Sleep(settled)
		}},
		{"an end for longer than the one between", func() {
			kill("b")
			time.Sleep(3 * time.Second)
			kill("a")
			time.Sleep(3 * time.Second)
			start("a")
			time.Sleep(settled)
			start("b")
			time.Sleep(settled)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := testLab{t, l.name}
			streams := []stream{l.stream("b.host", "10.3.0.10"), l.stream("a.host", "10.2.0.10")}
			time.Sleep(time.Second)
			c.happen()
			for _, s := range streams {
				if lost, longest := s.end(); lost > 0 {
					t.Errorf("%d packets were lost, at most %s in a row", lost, longest)
				}
			}
			if t.Failed() {
				for _, site := range []string{"a", "b", "c"} {
					t.Logf("%s:\n%s", site, l.in(site, "cat", "/run/tombolo/log"))
				}
			}
			for _, site := range []string{"a", "b", "c"} {
				if out := l.in(site, "ip", "route", "show", "table", "110", "proto", "85"); strings.Count(out, "dev wg-") != 4 {
					t.Errorf("%s has lost routes:\n%s", site, out)
				}
			}
		})
	}
}

// A way that is kept though nobody is heard there ends when the tunnel itself is silent.
func TestKeptWayEndsWithItsTunnel(t *testing.T) {
	t.Parallel() // it mostly waits
	l := homeLab{testLab: up(t, "kept", pairNetwork, "")}
	var err error
	l.lab, err = lab.Open(l.name)
	l.do(err)
	l.reached()
	time.Sleep(2 * time.Second)
	l.do(l.lab.Cut(t.Context(), "b", ""))
	l.soon(func() string {
		if out := l.in("a", binary, "routes", "10.2.0.0/24"); !strings.Contains(out, "nobody is heard there") {
			return "it is not said that the way is kept:\n" + out
		}
		return ""
	})
	l.goes("a", "10.2.0.0/24", "wg-b")
	for end := time.Now().Add(2 * time.Minute); l.device("a", "10.2.0.0/24") != ""; time.Sleep(500 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the way is still there:\n%s", l.in("a", "cat", "/run/tombolo/log"))
		}
	}
	l.do(l.lab.Heal(t.Context(), "b", ""))
	l.reached()
}

// An agent that `apply` left behind is started again when it is killed, and a stale route
// that nobody announces any more is swept.
func TestKilledAgentIsStartedAgain(t *testing.T) {
	t.Parallel()
	l := up(t, "again", pairNetwork, "")
	l.reached()
	first := l.in("a", "cat", agentPID)
	l.in("a", "ip", "route", "add", "10.99.0.0/24", "dev", "wg-b", "table", "110", "proto", "85", "metric", "2048")
	l.in("a", "sh", "-c", "kill -9 $(cat "+agentPID+")")
	for end := time.Now().Add(patience); l.in("a", "cat", agentPID) == first; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody started it again")
		}
	}
	l.goes("a", "10.2.0.0/24", "wg-b")
	for end := time.Now().Add(patience); strings.Contains(l.in("a", "ip", "route", "show", "table", "110"), "10.99.0.0"); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the stale route is still there")
		}
	}
	// Learned routes that somebody takes away come back; what down takes away does not.
	l.in("a", "ip", "route", "flush", "table", "110")
	for end := time.Now().Add(patience); !strings.Contains(l.in("a", "ip", "route", "show", "table", "110"), "10.2.0.0/24"); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the learned route does not come back")
		}
	}
	l.in("a", binary, "down")
	if out := l.in("a", "sh", "-c", "ip route show table 110; ip -6 route show table 110; ip rule | grep proto; ls /run/tombolo/agent.sock 2>/dev/null; true"); strings.TrimSpace(out) != "" {
		t.Errorf("down left something: %s", out)
	}
	// The neighbour was told, and does not wait for a deadline.
	if l.device("b", "10.1.0.0/24") != "" {
		t.Error("the neighbour still goes that way")
	}
}
