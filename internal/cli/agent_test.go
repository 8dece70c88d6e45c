package cli_test

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

const agentPID = "/run/tombolo/agent.lock"

// An agent that is killed leaves the tunnels and the routes as they are, and its successor
// finds them: whatever both routers' agents suffer, no packet between their LANs is lost.
func TestKilledAgentsLoseNoPacket(t *testing.T) {
	l := up(t, "killed", pairNetwork, "")
	l.reached()
	for _, site := range []string{"a", "b"} { // with their keepers, that nobody starts them again
		l.in(site, "sh", "-c", "p=$(cat "+agentPID+"); kill -9 $(ps -o ppid= -p $p) $p")
	}
	s := l.stream("a.host", "10.2.0.10")
	time.Sleep(2 * time.Second)
	for _, site := range []string{"a", "b"} {
		if out, err := exec.Command(binary, "lab", "exec", "--name", l.name, site, "--", binary, "status").CombinedOutput(); err == nil {
			t.Fatalf("the agent of %s is not dead:\n%s", site, out)
		}
		l.in(site, "sh", "-c", binary+" keeper >/run/tombolo/log 2>&1 </dev/null &")
	}
	time.Sleep(8 * time.Second) // until the routes of the dead agents are no longer kept for their sake
	if lost, _ := s.end(); lost > 0 {
		t.Errorf("%d packets were lost\na:\n%s\nb:\n%s", lost, l.in("a", "cat", "/run/tombolo/log"), l.in("b", "cat", "/run/tombolo/log"))
	}
	for _, site := range []string{"a", "b"} {
		if out := l.in(site, "ip", "route", "show", "table", "110", "proto", "85"); strings.Count(out, "dev wg-") != 2 {
			t.Errorf("%s has lost routes:\n%s", site, out)
		}
	}
}

// An agent that `apply` left behind is started again when it is killed, and a stale route
// that nobody announces any more is swept.
func TestKilledAgentIsStartedAgain(t *testing.T) {
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
