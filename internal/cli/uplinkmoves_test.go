package cli_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Nobody asks through these uplinks whether they work: only the kernel says that one is gone.
func TestAPulledCableIsLeftAtOnce(t *testing.T) {
	t.Parallel() // it mostly waits
	l := upTwo(t, "cable")
	begin := time.Now()
	var moves, stays []*chat
	for _, six := range []bool{false, true} {
		q := question{node: "office.host", network: "udp", to: l.outside("inet", "eth0", six)}
		moves, stays = append(moves, l.chatBy(q, "office", "eth1")), append(stays, l.chatBy(q, "office", "eth2"))
	}
	tunnel := l.chat(question{node: "office.host", network: "udp", to: l.outside("shop.host", "eth0", false)})
	l.begun(tunnel)
	pulled := time.Now()
	l.do(l.lab.Carrier(t.Context(), "office", "eth1", false))
	for _, x := range moves {
		if seen := l.goesOn(x); seen != l.outside("office", "eth2", x.to.Is6()) {
			t.Errorf("%s is seen as %s", x, seen)
		}
	}
	l.goesOn(tunnel)
	for _, x := range append(moves, tunnel) {
		t.Logf("%s was without an answer for %s", x, x.silence(pulled))
		if x.silence(pulled) > leftIn {
			t.Errorf("%s was without an answer for %s", x, x.silence(pulled))
		}
	}
	if by := l.newFlows(20); by["eth2"] != 20 {
		t.Errorf("of 20 new flows left %v", by)
	}
	back := time.Now()
	l.do(l.lab.Carrier(t.Context(), "office", "eth1", true))
	l.works("eth1", "eth2")
	l.soon(func() string { // IPv6 waits for an advertisement
		if by := l.newFlows(40); by["eth1"] == 0 || by["eth2"] == 0 {
			return fmt.Sprintf("of 40 new flows left %v", by)
		}
		return ""
	})
	for _, x := range stays {
		l.staysOn(x, "eth2", begin)
	}
	for _, x := range moves {
		if got := x.sources(back); len(got) != 1 {
			t.Errorf("%s was seen as %v", x, got)
		}
	}
	l.answered()
}

// leaseNetwork is an office of whose uplinks one is leased, and a shop that dials it by name.
const leaseNetwork = `
network: n
overlay: 10.50.0.0/24
sites:
  office:
    address: 10.50.0.1
    endpoint: [office.example.net, 58.56.0.2]
    lan: {br-lan: [192.168.50.0/24, "fd00:50::/64"]}
    uplink:
      eth1: dhcp
      eth2: {address: 58.56.0.2/30, gateway: 58.56.0.1}
  shop: {address: 10.50.0.3, endpoint: 203.0.113.2, lan: {br-lan: 192.168.52.0/24}, uplink: {eth0: {address: 203.0.113.2/30, gateway: 203.0.113.1}}}
links: mesh
`

// A leased address changes, and the gateway with it, and then the address alone.
func TestALeaseMoves(t *testing.T) {
	t.Parallel() // it mostly waits
	l := twoUplinks{homeLab: open(t, "lease", leaseNetwork, twoLab)}
	l.reached()
	inet, shop := l.outside("inet", "eth0", false), l.outside("shop.host", "eth0", false)
	l.mirror("inet", inet, l.outside("inet", "eth0", true))
	l.mirror("shop.host", shop)
	l.mirror("office.host", l.outside("office.host", "eth0", false), l.outside("office.host", "eth0", true))
	l.in("office", "nft", published)
	moves := l.chatBy(question{node: "office.host", network: "udp", to: inet}, "office", "eth1")
	stays := l.chatBy(question{node: "office.host", network: "tcp", to: inet}, "office", "eth2")
	tunnel := l.chat(question{node: "office.host", network: "tcp", to: shop})
	begin := time.Now()
	for _, to := range []netip.Prefix{netip.MustParsePrefix("192.0.2.99/24"), {}} {
		old := l.outside("office", "eth1", false)
		now, err := l.lab.Relet(t.Context(), "office", "eth1", to)
		l.do(err)
		moved := time.Now()
		if l.outside("office", "eth1", false) != now.Addr() || now.Addr() == old {
			t.Fatalf("%s was leased in place of %s, and the office has %s", now, old, l.outside("office", "eth1", false))
		}
		l.soon(func() string { return l.following("office", old.String()) })
		if net := netip.PrefixFrom(old, 24).Masked(); to.IsValid() {
			if left := l.following("office", strings.TrimSuffix(net.Addr().String(), "0")) + l.following("office", net.String()); left != "" {
				t.Errorf("of the old subnet and gateway there is still\n%s", left)
			}
		}
		if seen := l.goesOn(moves); seen != now.Addr() {
			t.Errorf("what left by eth1 is seen as %s, and not as %s", seen, now.Addr())
		}
		l.goesOn(tunnel)
		t.Logf("to %s: a flow was silent for %s, the tunnel for %s", now, moves.silence(moved), tunnel.silence(moved))
		if s := max(moves.silence(moved), tunnel.silence(moved)); s > diesIn {
			t.Errorf("nobody was heard for %s", s)
		}
		l.staysOn(stays, "eth2", begin)
		l.do(l.lab.ResetUplinks(t.Context()))
		l.mirror("office", now.Addr())
		questions := l.questions("for-lan", allNetworks, bothUplinks, 2)
		for _, network := range allNetworks {
			questions = append(questions, question{node: "inet", network: network, to: now.Addr()},
				question{node: "office.host", network: network, to: now.Addr()}, question{node: "office", network: network, to: inet, from: now.Addr()})
		}
		for _, fault := range l.unanswered(questions, forAnswer) {
			t.Error(fault)
		}
		if by := l.newFlows(40); by["eth1"] == 0 || by["eth2"] == 0 || by["eth1"]+by["eth2"] != 40 {
			t.Errorf("of 40 new flows left %v", by)
		}
		l.rightSources()
		if to.IsValid() {
			if out := l.following("office", "via 192.0.2.1 dev eth1"); out == "" {
				t.Error("the new gateway is in no table")
			}
		}
	}
}

// following returns what follows a site's uplinks (protocol 86) and has a word in it.
func (l testLab) following(site, word string) string {
	l.Helper()
	var found []string
	out := l.in(site, "sh", "-c", "ip rule | grep 'proto 86'; ip -6 rule | grep 'proto 86'; ip -N route show table all proto 86; ip -6 -N route show table all proto 86")
	for line := range strings.Lines(out) {
		if strings.Contains(line, word) {
			found = append(found, line)
		}
	}
	return strings.Join(found, "")
}
