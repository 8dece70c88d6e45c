package cli_test

import (
	"strings"
	"testing"
	"time"
)

// Whatever another program takes away is put back, and packets flow again.
func TestWhatIsTakenAwayIsPutBack(t *testing.T) {
	t.Parallel()
	l := up(t, "repair", pairNetwork, "")
	l.reached()
	for _, c := range []struct{ name, harm, look, want string }{
		{"the learned routes", "ip route flush table 110", "ip route show table 110", "10.2.0.0/24 dev wg-b"},
		{"a rule", "ip rule del pref 520", "ip rule", "lookup 110"},
		{"all rules", "ip rule flush; ip rule add pref 32766 lookup main; ip -6 rule flush; ip -6 rule add pref 32766 lookup main", "ip rule; ip -6 rule", "lookup 110"},
		{"the nftables table", "nft delete table inet tombolo", "nft list tables", "table inet tombolo"},
		{"all of nftables", "nft flush ruleset", "nft list tables", "table inet tombolo"},
		{"the tunnel's addresses", "ip addr flush dev wg-b; ip -6 addr flush dev wg-b", "ip addr show dev wg-b", "inet6 fe80:"},
		{"the tunnel is set down", "ip link set wg-b down", "ip link show dev wg-b", "UP"},
		{"the tunnel's interface", "ip link del wg-b", "ip link", "wg-b"},
		{"a peer", "wg set wg-b peer $(wg show wg-b peers) remove", "wg show wg-b", "peer: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := testLab{t, l.name}
			before := l.in("a", "sh", "-c", c.look)
			if !strings.Contains(before, c.want) {
				t.Fatalf("there is no %q to begin with:\n%s\n%s", c.want, before, l.in("a", "cat", "/run/tombolo/log"))
			}
			l.in("a", "sh", "-c", c.harm)
			begin := time.Now()
			l.soon(func() string {
				if out := l.in("a", "sh", "-c", c.look); !strings.Contains(out, c.want) {
					return "it is not put back: " + out
				}
				return ""
			})
			t.Logf("put back after %s", time.Since(begin).Round(10*time.Millisecond))
			l.answers("a.host", "10.2.0.10")
			l.answers("b.host", "10.1.0.10")
			t.Logf("answered after %s", time.Since(begin).Round(10*time.Millisecond))
		})
	}
	if p := l.status("a").Problems; len(p) > 0 {
		t.Errorf("problems are left: %q", p)
	}
}

// In place of an agent that a person restarts, or a service manager, or the kernel ends for
// its memory, another goes on at once, and the stream with it.
func TestRestartsDoNotStopTheStream(t *testing.T) {
	t.Parallel()
	l := upHome(t, "restart")
	l.reached()
	l.goes("op2", lanOfOp3, "wg-op1")
	l.goes("op3", lanOfOp2, "wg-op1")
	time.Sleep(10 * time.Second) // until the keeper takes it for well
	for _, c := range []struct{ name, how string }{
		{"SIGKILL", "kill -9 $(cat " + agentPID + ")"},
		{"SIGTERM, as a service is restarted", "p=$(cat " + agentPID + "); kill $p; while kill -0 $p 2>/dev/null; do sleep 0.01; done; " + binary + " keeper >>/run/tombolo/log 2>&1 </dev/null &"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := testLab{t, l.name}
			s := l.stream("op2.host", "192.168.37.10")
			time.Sleep(time.Second)
			for _, site := range []string{"op1", "op2", "op3"} {
				first := l.in(site, "cat", agentPID)
				l.in(site, "sh", "-c", c.how)
				l.soon(func() string {
					if now, _ := l.try(site, "cat", agentPID); now == first {
						return "nobody started it again"
					}
					return ""
				})
				time.Sleep(2 * time.Second)
			}
			time.Sleep(6 * time.Second) // until what the dead ones learned is not kept for their sake
			if lost, longest := s.end(); lost > 0 {
				t.Errorf("%d packets were lost, at most %s in a row", lost, longest)
			}
		})
	}
}
