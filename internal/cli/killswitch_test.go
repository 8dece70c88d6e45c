package cli_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"tombolo/internal/lab"
)

// What of op2's LAN does not leave by an exit does not leave. Its host also has an IPv6 address
// of which the file knows nothing.
const (
	blockedExits = "exits: [{for: op2, via: [op1, op3], otherwise: block}]\n"
	strangerLAN  = "2001:db8:f2::"
)

func upBlocked(t *testing.T, name, exits string) exitLab {
	t.Helper()
	l := upExits(t, name, switchNetwork+exits, switchPaths)
	l.in("op2", "ip", "address", "add", strangerLAN+"1/64", "dev", "lan0", "nodad")
	// Used where it is asked for.
	l.in("op2.host", "ip", "address", "add", strangerLAN+"10/64", "dev", "eth0", "nodad", "preferred_lft", "0")
	return l
}

// persists has a node send to the Internet host all the time, whatever it is told: UDP, from
// each of its addresses, TCP and pings. It returns what ends that.
func (l exitLab) persists(node string) (stop func()) {
	l.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l.Cleanup(cancel)
	n := l.node(node)
	sources := []netip.Addr{n.Addr(), n.Addr6()}
	if n.Kind == lab.LANHost {
		sources = append(sources, netip.MustParseAddr(strangerLAN+"10"))
	}
	for _, from := range sources {
		to := l.inet(from.Is6())
		if n.Kind != lab.LANHost {
			from = netip.Addr{} // as the router chooses
		}
		go repeat(ctx, 5*time.Millisecond, func() {
			if c, err := l.dial(node, "udp", from, to, time.Second); err == nil {
				defer c.Close()
				for range 20 { // from one port, and then from another
					_, _ = fmt.Fprint(c, "?")
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
		go repeat(ctx, 20*time.Millisecond, func() {
			if c, err := l.dial(node, "tcp", from, to, 300*time.Millisecond); err == nil {
				c.Close()
			}
		})
		go repeat(ctx, 20*time.Millisecond, func() {
			_, _ = l.lab.Ping(ctx, node, lab.Echo{To: to.Addr(), From: from, Timeout: 100 * time.Millisecond})
		})
	}
	return cancel
}

func repeat(ctx context.Context, pause time.Duration, f func()) {
	for ctx.Err() == nil {
		f()
		time.Sleep(pause)
	}
}

// leaked returns how many packets op2's provider was handed for the Internet, or with a wrong
// source.
func (l exitLab) leaked() uint64 {
	l.Helper()
	counts, err := l.lab.Uplinks(l.Context(), "op2")
	l.do(err)
	return counts[0].Count(func(s lab.Sent) bool { return s.Destination == lab.ToInternet || s.WrongSource })
}

// silent waits until a node that sends all the time has no answers. It is told so but now and
// then (icmp_ratelimit).
func (l exitLab) silent(from string) {
	l.Helper()
	for _, six := range []bool{false, true} {
		l.soon(func() string {
			if by, err := l.asks(from, "tcp", l.inet(six), askedAgain); err == nil {
				return fmt.Sprintf("%s is seen as %s", from, by)
			}
			return ""
		})
	}
}

// tight checks that nothing leaks.
func (l exitLab) tight() {
	l.Helper()
	l.nothingLeft("op2")
}

// leaksBut checks that nothing leaks but from one address, and begins to count anew.
func (l exitLab) leaksBut(site string, from netip.Addr) {
	l.Helper()
	counts, err := l.lab.Uplinks(l.Context(), site)
	l.do(err)
	for _, s := range counts[0].Sent {
		if (s.Destination == lab.ToInternet || s.WrongSource) && s.From != from {
			l.Errorf("%+v", s)
		}
	}
	l.do(l.lab.ResetUplinks(l.Context()))
}

// exitTables returns the tables of op2's exits, by family.
func (l exitLab) exitTables(site string) (four, six []string) {
	l.Helper()
	find := func(family string) (tables []string) {
		for _, m := range regexp.MustCompile(`559:\tfrom \S+ lookup (\d+)`).FindAllStringSubmatch(l.in(site, "ip", family, "rule"), -1) {
			tables = append(tables, m[1])
		}
		if len(tables) == 0 {
			l.Fatalf("%s has no tables of exits", site)
		}
		return tables
	}
	return find("-4"), find("-6")
}

// flush is what another program may do to what keeps packets at home.
type flush struct{ what, how string }

func (l exitLab) flushes(site string) []flush {
	l.Helper()
	four, six := l.exitTables(site)
	var routes []string
	for _, t := range four {
		routes = append(routes, "ip route flush table "+t)
	}
	for _, t := range six {
		routes = append(routes, "ip -6 route flush table "+t)
	}
	return []flush{
		{nftablesGo, "nft flush ruleset"},
		{"tables are flushed", strings.Join(routes, "; ")},
		{"rules are deleted", exitRulesGo},
		{"others' rules come first", "for f in -4 -6; do ip $f rule add pref 1 lookup main; done; sleep 0.2; for f in -4 -6; do ip $f rule del pref 1; done"},
	}
}

// keeping is what keeps packets at home on a router, as text.
func (l exitLab) keeping(site string) string {
	l.Helper()
	out, _ := l.try(site, "sh", "-c", "(ip rule; ip -6 rule; ip route show table all; ip -6 route show table all) | grep 'proto 84'; nft list table inet tombolo")
	return out
}

// repaired waits until that is as it was.
func (l exitLab) repaired(site, before string) {
	l.Helper()
	l.soon(func() string {
		if now := l.keeping(site); now != before {
			return "it is not put back:\n" + now + "\nIt was\n" + before
		}
		return ""
	})
}

const nftablesGo = "nftables are flushed"

// exitRulesGo takes the rules about exits away.
const exitRulesGo = "for f in -4 -6; do for p in 559 560 561 563 564; do while ip $f rule del pref $p 2>/dev/null; do :; done; done; done"

// paused stops a router's agent, which would put back what is taken away, and has it go on
// after f.
func (l exitLab) paused(site string, f func()) {
	l.Helper()
	pid := strings.TrimSpace(l.in(site, "cat", agentPID))
	l.in(site, "kill", "-STOP", pid)
	defer l.in(site, "kill", "-CONT", pid)
	f()
}

// processes returns those in a node's network namespace whose command lines hold the words.
func (l exitLab) processes(node, words string) (pids []string) {
	l.Helper()
	out, err := exec.Command("ip", "netns", "pids", l.node(node).Namespace).Output()
	l.do(err)
	for _, pid := range strings.Fields(string(out)) {
		line, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		if strings.Contains(strings.ReplaceAll(string(line), "\x00", " "), words) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestNothingLeaks(t *testing.T) {
	t.Parallel() // it mostly waits
	l := upBlocked(t, "leaks", blockedExits)
	l.leavesAt("op2.host", "op1")
	l.in("op2", binary, "down")
	l.do(l.lab.ResetUplinks(t.Context()))
	l.start("op3.host", "ping", "-n", "-i", "0.05", "10.1.0.10") // who sends nothing hears later that nobody answers
	defer l.persists("op2.host")()
	time.Sleep(200 * time.Millisecond)
	again := func() { l.applies(switchNetwork+blockedExits, "op2") }
	cut := func(sites ...string) {
		for _, s := range sites {
			l.do(l.lab.Cut(t.Context(), s, ""))
		}
	}
	heal := func(sites ...string) {
		for _, s := range sites {
			l.do(l.lab.Heal(t.Context(), s, ""))
		}
	}
	for _, c := range []struct {
		name, by string
		happens  func()
	}{
		{"it comes up", "op1", again},
		{"the exit dies", "op3", func() { cut("op1") }},
		{"all exits die", "", func() { cut("op3") }},
		{"and it comes up without them", "", func() { l.in("op2", binary, "down"); again() }},
		{"they come back", "op1", func() { heal("op1", "op3") }},
		{"another order", "op3", func() { l.applies(strings.Replace(switchNetwork+blockedExits, "op1, op3]", "op3, op1]", 1)) }},
		{"and back", "op1", func() { l.applies(switchNetwork + blockedExits) }},
		{"the agent is killed", "op1", func() { l.in("op2", "sh", "-c", "kill -9 $(cat "+agentPID+")") }},
		{"the tunnels' process is killed", "op1", func() {
			for _, pid := range l.processes("op2", "tunnel --worker") {
				l.in("op2", "kill", "-9", pid)
			}
		}},
		{"its tunnel is deleted", "op1", func() { l.in("op2", "ip", "link", "del", "wg-op1") }},
		{"an agent brings it up", "op1", func() {
			l.in("op2", binary, "down")
			l.in("op2", "sh", "-c", binary+" agent --site op2 --file "+l.lab.Dir()+"/network.yaml --keys "+l.lab.Dir()+"/keys --partial >/run/tombolo/log 2>&1 </dev/null &")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := l.with(t)
			c.happens()
			if c.by == "" {
				l.silent("op2.host")
			} else {
				l.leavesAt("op2.host", c.by)
			}
			l.tight()
		})
	}
	for _, f := range l.flushes("op2") {
		t.Run(f.what, func(t *testing.T) {
			l := l.with(t)
			before := l.keeping("op2")
			l.paused("op2", func() {
				l.in("op2", "sh", "-c", f.how)
				time.Sleep(300 * time.Millisecond)
				l.tight()
			})
			l.repaired("op2", before)
			l.leavesAt("op2.host", "op1")
			l.tight()
		})
	}
	t.Run("without what keeps it", func(t *testing.T) {
		l := l.with(t)
		before := l.keeping("op2")
		l.paused("op2", func() {
			l.in("op2", "sh", "-c", "nft delete chain inet tombolo guard; "+exitRulesGo)
			l.soon(func() string {
				if l.leaked() == 0 {
					return "nothing is seen of what leaks"
				}
				return ""
			})
		})
		l.repaired("op2", before)
	})
}

// ownExits are op2's, whose router's own traffic is meant too.
const ownExits = "exits: [{for: op2, via: [op1, op3], otherwise: block, router: true}]\n"

// What the router itself sends leaves by the exit too, or not at all; but it comes up.
func TestNothingOfTheRouterLeaks(t *testing.T) {
	t.Parallel() // it mostly waits
	l := upBlocked(t, "leaksown", ownExits)
	l.leavesAt("op2", "op1")
	l.in("op2", binary, "down")
	l.do(l.lab.ResetUplinks(t.Context()))
	l.applies(switchNetwork+ownExits, "op2")
	defer l.persists("op2")()
	defer l.persists("op2.host")()
	for _, host := range []string{"op2", "op2.host"} {
		l.leavesAt(host, "op1")
	}
	l.tight()
	for _, s := range []string{"op1", "op3"} {
		l.do(l.lab.Cut(t.Context(), s, ""))
	}
	l.silent("op2")
	l.in("op2", "sh", "-c", "kill -9 $(cat "+agentPID+")")
	l.applies(strings.Replace(switchNetwork+ownExits, "op1, op3]", "op3, op1]", 1), "op2")
	l.silent("op2")
	l.tight()
	for _, f := range l.flushes("op2") {
		t.Run(f.what, func(t *testing.T) {
			l := l.with(t)
			before := l.keeping("op2")
			l.paused("op2", func() {
				l.in("op2", "sh", "-c", f.how)
				time.Sleep(300 * time.Millisecond)
				if f.what != nftablesGo {
					l.tight()
				}
			})
			l.repaired("op2", before)
			if f.what == nftablesGo {
				// Where no route is found the kernel looks once more, from the uplink's address
				// (Linux net/ipv6/ip6_output.c, ip6_dst_lookup_tail). See docs/uplinks.md.
				// What began meanwhile goes on until it has an end.
				l.leaksBut("op2", l.addresses("op2")[1])
				time.Sleep(time.Second)
				l.leaksBut("op2", l.addresses("op2")[1])
			}
			l.tight()
		})
	}
	// Names and the time it asks for by its own uplink. On a busy machine the way is put back after the rest.
	l.soon(func() string {
		before := l.leaked()
		for _, six := range []bool{false, true} {
			for _, port := range []uint16{53, 123} {
				l.asksPort("op2", six, port)
			}
		}
		time.Sleep(200 * time.Millisecond)
		if n := l.leaked() - before; n != 4 {
			return fmt.Sprintf("%d questions for names and the time were sent", n)
		}
		return ""
	})
	l.do(l.lab.ResetUplinks(t.Context()))
	for _, s := range []string{"op1", "op3"} {
		l.do(l.lab.Heal(t.Context(), s, ""))
	}
	l.leavesAt("op2", "op1")
	l.asksPort("op2", false, 53)
	l.tight()
}

// asksPort sends a datagram to a port of the Internet host.
func (l exitLab) asksPort(from string, six bool, port uint16) {
	l.Helper()
	c, err := l.dial(from, "udp", netip.Addr{}, netip.AddrPortFrom(l.inet(six).Addr(), port), time.Second)
	if err != nil {
		l.Error(err)
		return
	}
	defer c.Close()
	_, _ = fmt.Fprint(c, "?")
}
