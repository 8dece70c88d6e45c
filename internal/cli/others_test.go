package cli_test

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// others is what mwan3 and pbr make of a router: marks on the LAN's packets by where they go, and
// on connections by where they came in; rules, and tables with default routes. What goes to the
// first target they have leave by the second uplink, and the other way round.
const others = `
table inet others {
	counter kept { }
	counter broken { }
	chain prerouting {
		type filter hook prerouting priority PRIORITY;
		meta mark set meta mark & 0xff00c0ff
		ct mark & 0x00ff3f00 == 0x00000100 meta mark set meta mark | 0x00000100
		ct mark & 0x00ff3f00 == 0x00000200 meta mark set meta mark | 0x00000200
		ct mark & 0x00ff3f00 == 0x00010000 meta mark set meta mark | 0x00010000
		ct state != new return
		iifname "eth2" ct mark set ct mark | 0x00000200
		iifname != "br-lan" return
		ip daddr 1.1.1.1 meta mark set meta mark | 0x00000200
		ip daddr 9.9.9.9 meta mark set meta mark | 0x00000100
		ip daddr 198.18.0.10 meta l4proto udp meta mark set meta mark | 0x00010000
		meta mark & 0x00000100 != 0 ct mark set ct mark | 0x00000100
		meta mark & 0x00000200 != 0 ct mark set ct mark | 0x00000200
		meta mark & 0x00010000 != 0 ct mark set ct mark | 0x00010000
	}
	chain postrouting {
		type filter hook postrouting priority 300;
		iifname != "br-lan" return
		ip daddr 1.1.1.1 ct mark & 0x00ff3f00 == 0x00000200 meta mark & 0x00ff3f00 == 0x00000200 counter name kept return
		ip daddr 9.9.9.9 ct mark & 0x00ff3f00 == 0x00000100 meta mark & 0x00ff3f00 == 0x00000100 counter name kept return
		ip daddr { 1.1.1.1, 9.9.9.9 } counter name broken
		ip daddr 198.18.0.10 udp dport 7007 ct mark & 0x00ff3f00 == 0x00010000 meta mark & 0x00ff3f00 == 0x00010000 counter name kept return
		ip daddr 198.18.0.10 udp dport 7007 counter name broken
	}
}
`

var othersWays = []string{
	"rule add pref 1001 fwmark 0x100/0x3f00 lookup 1", "rule add pref 1002 fwmark 0x200/0x3f00 lookup 2", "rule add pref 645 fwmark 0x10000/0xff0000 lookup 256",
	"route add default via 211.200.0.1 dev eth1 table 1", "route add default via 58.56.0.1 dev eth2 table 2", "route add default via 58.56.0.1 dev eth2 table 256",
}

// countedPackets are in what nft lists.
var countedPackets = regexp.MustCompile(`packets (\d+) bytes \d+`)

// othersHold is what the others have there.
func (l testLab) othersHold() string {
	l.Helper()
	out := l.in("office", "sh", "-c", "ip rule | grep -v 'proto 8[456]'; ip route show table 1; ip route show table 2; ip route show table 256; nft list table inet others")
	return countedPackets.ReplaceAllString(out, "packets")
}

// The example runs word for word, and beside others that balance, too.
func TestTwoUplinksBesideOthers(t *testing.T) {
	t.Parallel() // it mostly waits
	network, err := os.ReadFile("../../examples/two-uplinks.yaml")
	if err != nil {
		t.Fatal(err)
	}
	labFile, err := os.ReadFile("../../examples/two-uplinks.lab.yaml")
	if err != nil {
		t.Fatal(err)
	}
	l := twoUplinks{homeLab: open(t, "others", string(network), string(labFile))}
	l.reached()
	l.works("eth1", "eth2")
	first, second, inet := netip.MustParseAddr("1.1.1.1"), netip.MustParseAddr("9.9.9.9"), l.outside("inet", "eth0", false)
	l.mirror("inet", inet)
	l.mirror("check-1", first)
	l.mirror("check-2", second)
	own := []netip.Addr{l.outside("office", "eth1", false), l.outside("office", "eth2", false)}
	l.mirror("office", own...)

	weights := func() {
		t.Helper()
		if by := l.seen(l.many("office.host", "tcp", inet, 80)); by[own[0]] < 80-43 || by[own[1]] < 1 || by[own[0]]+by[own[1]] != 80 {
			t.Errorf("of 80 new flows, three to one, left %v", by)
		}
	}
	ways := func() {
		t.Helper()
		var questions []question
		for _, network := range allNetworks {
			for _, a := range own {
				questions = append(questions, question{node: "inet", network: network, to: a}, question{node: "branch.host", network: network, to: a},
					question{node: "office.host", network: network, to: a}, question{node: "office", network: network, to: inet, from: a})
			}
		}
		if faults := l.unanswered(questions, forAnswer); len(faults) > 0 {
			t.Error(strings.Join(faults, "\n"))
		}
		for _, a := range own {
			l.soon(func() string { // the tunnel may only just be there
				if said, err := l.says("inet", netip.AddrPortFrom(a, 8443)); err != nil || said != "hello branch.host "+inet.String() {
					return fmt.Sprintf("port 8443 of %s says %q (%v)", a, said, err)
				}
				return ""
			})
		}
	}
	l.serves("branch.host", "192.168.51.10:443")
	weights()
	ways()

	dir := t.TempDir()
	for i, priority := range []string{"mangle - 1", "mangle + 1"} {
		t.Run("others mark at "+priority, func(t *testing.T) {
			l := l.of(t)
			file := filepath.Join(dir, fmt.Sprint(i, ".nft"))
			l.do(os.WriteFile(file, []byte(strings.Replace(others, "PRIORITY", priority, 1)), 0o600))
			l.in("office", "nft", "-f", file)
			if i == 0 {
				for _, w := range othersWays {
					l.in("office", append([]string{"ip"}, strings.Fields(w)...)...)
				}
			}
			l.othersDecide(first, second, inet)
			weights()
			ways()
			if i == 0 {
				l.in("office", "nft", "delete", "table", "inet", "others")
			}
		})
	}
	t.Run("without the mask of the rule for new flows", func(t *testing.T) {
		l := l.of(t)
		l.frozen("office", func() {
			back := l.without("office", 570)
			l.in("office", "ip", "rule", "add", "pref", "570", "lookup", "200")
			by := l.seen(l.many("office.host", "tcp", first, 12))
			l.in("office", "ip", "rule", "del", "pref", "570")
			back()
			if by[own[1]] == 12 {
				t.Error("what others marked goes where they say all the same")
			}
		})
	})
	t.Run("down and apply", func(t *testing.T) {
		l := l.of(t)
		before := l.othersHold()
		l.in("office", binary, "down")
		if out := l.in("office", "sh", "-c", "ip rule; ip -6 rule; for p in 84 85 86; do ip route show table all proto $p; ip -6 route show table all proto $p; done; nft list tables"); strings.Contains(out, "proto 8") || strings.Contains(out, "tombolo") || strings.Contains(out, "dev eth") {
			t.Errorf("down leaves behind:\n%s", out)
		}
		if after := l.othersHold(); after != before {
			t.Errorf("down has made\n%s\nof\n%s", after, before)
		}
		l.in("office", binary, "apply", filepath.Join(l.lab.Dir(), "network.yaml"), "--site", "office", "--keys", filepath.Join(l.lab.Dir(), "keys"), "--partial", "--lab")
		l.works("eth1", "eth2")
		if after := l.othersHold(); after != before {
			t.Errorf("apply has made\n%s\nof\n%s", after, before)
		}
		l.othersDecide(first, second, inet)
		weights()
		ways()
	})
}

// serves starts a mirror of one TCP port.
func (l homeLab) serves(node, at string) {
	l.Helper()
	l.do(l.lab.Do(l.Context(), node, func() error {
		server, err := net.Listen("tcp", at)
		if err == nil {
			l.Cleanup(func() { server.Close() })
			go (&mirror{node: node}).streams(server)
		}
		return err
	}))
}

// says asks a mirror's port, and returns its answer.
func (l homeLab) says(node string, to netip.AddrPort) (answer string, err error) {
	l.Helper()
	err = l.lab.Do(l.Context(), node, func() error {
		c, err := net.DialTimeout("tcp", to.String(), 2*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(forAnswer))
		if _, err := c.Write([]byte("hello\n")); err != nil {
			return err
		}
		answer, err = bufio.NewReader(c).ReadString('\n')
		return err
	})
	return strings.TrimSpace(answer), err
}

// othersDecide fails unless what others mark goes where they say, with their marks, and also in
// the connections.
func (l twoUplinks) othersDecide(first, second, inet netip.Addr) {
	l.Helper()
	const n = 12
	eth1, eth2 := l.outside("office", "eth1", false), l.outside("office", "eth2", false)
	for _, c := range []struct {
		networks []string
		to, by   netip.Addr
	}{{[]string{"tcp", "udp"}, first, eth2}, {[]string{"tcp", "udp"}, second, eth1}, {[]string{"udp"}, inet, eth2}} {
		for _, network := range c.networks {
			if by := l.seen(l.many("office.host", network, c.to, n)); by[c.by] != n {
				l.Errorf("others have %s to %s leave by %s, and it was seen as %v", network, c.to, c.by, by)
			}
		}
	}
	counts := countedPackets.FindAllStringSubmatch(l.in("office", "nft", "list", "counters", "table", "inet", "others"), -1)
	if len(counts) != 2 || counts[0][1] == "0" || counts[1][1] != "0" {
		l.Errorf("marks of others were kept in, and broken in, these packets: %v", counts)
	}
}

// many is the same question, asked by as many connections.
func (l twoUplinks) many(node, network string, to netip.Addr, n int) (out []question) {
	for range n {
		out = append(out, question{node: node, network: network, to: to})
	}
	return out
}
