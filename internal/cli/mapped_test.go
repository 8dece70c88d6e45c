package cli_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Two sites with the same LAN, and a third that is like no other. Each publishes a host: its own,
// that of the other twin, and that of the first.
const twinsNetwork = `
network: twins
overlay: 10.60.0.0/24
sites:
  north:
    address: 10.60.0.1
    endpoint: 211.200.0.2
    lan: {br-lan: [{prefix: 192.168.1.0/24, as: 10.61.1.0/24}, {prefix: "fd00:1::/64", as: "fd00:61:1::/64"}]}
    uplink: {eth0: {address: 211.200.0.2/30, gateway: 211.200.0.1}}
  south:
    address: 10.60.0.2
    endpoint: 58.56.0.2
    lan: {br-lan: [{prefix: 192.168.1.0/24, as: 10.61.2.0/24}, {prefix: "fd00:1::/64", as: "fd00:61:2::/64"}]}
    uplink: {eth0: {address: 58.56.0.2/30, gateway: 58.56.0.1}}
  third:
    address: 10.60.0.3
    endpoint: third.example.net
    lan: {br-lan: [10.62.0.0/24, "fd00:62::/64"]}
    uplink: {eth0: dhcp}
links: mesh
publish:
  - {at: north, port: 7007/tcp, to: 10.61.1.10:7007}
  - {at: north, port: 7007/udp, to: 10.61.1.10:7007}
  - {at: north, port: 7007/tcp, to: "[fd00:61:1::10]:7007"}
  - {at: north, port: 7007/udp, to: "[fd00:61:1::10]:7007"}
  - {at: south, port: 7000-7010/tcp, to: 10.61.1.10:7000}
  - {at: south, port: 7007/udp, to: 10.61.1.10:7007}
  - {at: third, port: 7007/tcp, to: 10.61.2.10:7007}
  - {at: third, port: 7007/udp, to: 10.61.2.10:7007}
`

const twinsLab = "internet:\n  inet: {address: [198.18.0.10, 2001:db8::10]}\n"

// twins is that network, with a mirror in each LAN.
type twins struct{ homeLab }

var twinHosts = []string{"north.host", "south.host", "third.host"}

// mapped is how the network sees a host.
func mapped(host string, six bool) netip.Addr {
	return netip.MustParseAddr(map[string][2]string{
		"north.host": {"10.61.1.10", "fd00:61:1::10"},
		"south.host": {"10.61.2.10", "fd00:61:2::10"},
		"third.host": {"10.62.0.10", "fd00:62::10"},
	}[host][map[bool]int{true: 1}[six]])
}

func upTwins(t *testing.T, name string) twins {
	t.Helper()
	l := twins{open(t, name, twinsNetwork, twinsLab)}
	l.reached()
	for _, host := range twinHosts {
		l.mirror(host, l.outside(host, "eth0", false), l.outside(host, "eth0", true))
	}
	return l
}

// asks returns the faults of questions, each of which a node must answer that sees an address.
func (l homeLab) asks(questions []question, node string, seen func(question) netip.Addr) []string {
	l.Helper()
	return l.all(questions, func(q question) error {
		by, as, err := l.ask(q, forAnswer)
		if err == nil && q.network != "icmp" && (by != node || as != seen(q)) {
			err = fmt.Errorf("%s answers, and sees %s; it should be %s, and see %s", by, as, node, seen(q))
		}
		return err
	})
}

// Hosts with the same address speak with each other, and with a third, and see each other's
// mapped addresses, in both families.
func TestTwinsSeeEachOtherMapped(t *testing.T) {
	t.Parallel()
	l := upTwins(t, "mapped")
	all := func() (faults []string) {
		for _, to := range twinHosts {
			var questions []question
			for _, from := range twinHosts {
				for _, network := range allNetworks {
					for _, six := range []bool{false, true} {
						if from != to || from != "third.host" {
							questions = append(questions, question{node: from, network: network, to: mapped(to, six)})
						}
					}
				}
			}
			faults = append(faults, l.asks(questions, to, func(q question) netip.Addr { return mapped(q.node, q.to.Is6()) })...)
		}
		return faults
	}
	for _, fault := range all() {
		t.Error(fault)
	}
	// What a host says of a port on which nobody listens is for who asked: the packet that it
	// quotes must be the one that was sent.
	for _, from := range twinHosts {
		for _, to := range twinHosts {
			for _, six := range []bool{false, true} {
				if from != to {
					l.refused(from, mapped(to, six))
				}
			}
		}
	}
	l.frozen("south", func() {
		defer l.withoutChain("south", "postrouting")()
		if _, seen, err := l.ask(question{node: "south.host", network: "udp", to: mapped("third.host", false)}, forNone); err == nil && seen == mapped("south.host", false) {
			t.Error("south's host is seen mapped without the rule that maps it")
		}
	})
}

// refused fails unless a datagram to a port without a server is answered by an ICMP error that
// the sender takes for its own.
func (l homeLab) refused(from string, to netip.Addr) {
	l.Helper()
	l.do(l.lab.Do(l.Context(), from, func() error {
		c, err := net.Dial("udp", netip.AddrPortFrom(to, 9).String())
		if err != nil {
			return err
		}
		defer c.Close()
		for range 5 {
			if _, err = c.Write([]byte("?")); err == nil {
				_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
				_, err = c.Read(make([]byte, 1))
			}
			if errors.Is(err, syscall.ECONNREFUSED) {
				return nil
			}
		}
		return fmt.Errorf("from %s to port 9 of %s: %s, and not refused", from, to, fmt.Sprint(err))
	}))
}

// A published port leads to its host, mapped or not, at the site or behind another; who asks is
// seen, but for hosts inside to which the answer would go another way.
func TestPublishedPortsOfMappedHosts(t *testing.T) {
	t.Parallel()
	l := upTwins(t, "twinports")
	ports := func(site string, six bool) (out []question) {
		for _, network := range []string{"tcp", "udp"} {
			out = append(out, question{node: "inet", network: network, to: l.outside(site, "eth0", six)})
		}
		return out
	}
	source := func(q question) netip.Addr { return l.outside("inet", "eth0", q.to.Is6()) }
	for _, c := range []struct{ site, host string }{{"north", "north.host"}, {"south", "north.host"}, {"third", "south.host"}} {
		for _, fault := range l.asks(ports(c.site, false), c.host, source) {
			t.Errorf("by way of %s: %s", c.site, fault)
		}
	}
	for _, fault := range l.asks(ports("north", true), "north.host", source) {
		t.Error(fault)
	}
	// Its own LAN, another's, and the same one behind the publishing site.
	for _, site := range []string{"north", "south", "third"} {
		for _, host := range twinHosts {
			want := map[string]string{"north": "north.host", "south": "north.host", "third": "south.host"}[site]
			for _, network := range []string{"tcp", "udp"} {
				q := question{node: host, network: network, to: l.outside(site, "eth0", false)}
				if node, _, err := l.ask(q, forAnswer); err != nil || node != want {
					t.Errorf("%s: %s answers, want %s (%v)", q, node, want, err)
				}
			}
		}
	}
	// By its other addresses one reaches the router.
	if out, err := l.try("third.host", "sh", "-c", "echo hello | timeout 2 nc -w 1 10.60.0.1 7007"); err == nil && strings.Contains(out, "north.host") {
		t.Errorf("the port is published on the router's overlay address too: %q", out)
	}
}

// Outside its site a mapped LAN has the addresses that it is mapped to, also for exits and the
// policy; what is masqueraded at the exit has come there with those. A device that enters
// elsewhere reaches a published port of its own door, and what the policy lets it.
func TestMappedLANsHaveExitsAndPolicy(t *testing.T) {
	t.Parallel()
	network := twinsNetwork + `
clients:
  pool: 10.31.0.0/24
  at: third
  devices:
    phone: {address: 10.31.0.10, full: true}
exits:
  - {for: north, via: third, otherwise: block}
policy:
  rules:
    - {from: 10.61.2.0/24, to: 10.61.1.10, deny: udp/7007}
    - {from: "fd00:61:2::/64", to: north, deny: [tcp, udp]}
    - {from: phone, to: third, allow: all}
    - {from: phone, to: 10.61.2.10, allow: 7007/tcp}
    - {from: phone, to: any, deny: all}
    - {from: south, to: internet, deny: icmp}
`
	l := twins{open(t, "twinexits", network, twinsLab)}
	l.roam("phone", "third")
	addresses := map[string][]netip.Addr{}
	for _, host := range append(twinHosts, "inet") {
		addresses[host] = []netip.Addr{l.outside(host, "eth0", false), l.outside(host, "eth0", true)}
		l.mirror(host, addresses[host]...)
	}
	inet, six := addresses["inet"][0], addresses["inet"][1]
	l.answers("third.host", "10.61.1.10")
	exit := map[bool]netip.Addr{false: l.outside("third", "eth0", false), true: l.outside("third", "eth0", true)}
	for _, c := range []struct {
		question
		answered bool
		seen     netip.Addr
	}{
		{question{node: "north.host", network: "tcp", to: inet}, true, exit[false]},
		{question{node: "north.host", network: "udp", to: inet}, true, exit[false]},
		{question{node: "north.host", network: "icmp", to: inet}, true, exit[false]},
		{question{node: "north.host", network: "tcp", to: six}, true, exit[true]},
		{question{node: "south.host", network: "tcp", to: inet}, true, l.outside("south", "eth0", false)},
		{question{node: "south.host", network: "icmp", to: inet}, false, inet},
		{question{node: "south.host", network: "udp", to: mapped("north.host", false)}, false, inet},
		{question{node: "south.host", network: "tcp", to: mapped("north.host", false)}, true, mapped("south.host", false)},
		{question{node: "south.host", network: "tcp", to: mapped("north.host", true)}, false, inet},
		{question{node: "north.host", network: "tcp", to: mapped("south.host", true)}, true, mapped("north.host", true)},
		{question{node: "south.host", network: "icmp", to: mapped("north.host", true)}, true, inet},
		{question{node: "phone", network: "udp", to: mapped("third.host", false)}, true, netip.MustParseAddr("10.31.0.10")},
		{question{node: "phone", network: "tcp", to: mapped("south.host", false)}, true, netip.MustParseAddr("10.31.0.10")},
		{question{node: "phone", network: "udp", to: mapped("south.host", false)}, false, inet},
		{question{node: "phone", network: "tcp", to: mapped("north.host", false)}, false, inet},
		{question{node: "phone", network: "udp", to: inet}, true, exit[false]},
		// The door publishes south's host: over TCP the phone may reach that, and only so.
		{question{node: "phone", network: "tcp", to: exit[false]}, true, netip.MustParseAddr("10.60.0.3")},
		{question{node: "phone", network: "udp", to: exit[false]}, false, inet},
	} {
		wait := forNone
		if c.answered {
			wait = forAnswer
		}
		_, seen, err := l.ask(c.question, wait)
		if (err == nil) != c.answered || c.answered && c.network != "icmp" && seen != c.seen {
			t.Errorf("%s: seen as %s (%v), want %s, answered: %v", c.question, seen, err, c.seen, c.answered)
		}
	}
	for _, c := range []struct {
		site, from string
	}{{"north", "192.168.1."}, {"third", "10.61.1."}} {
		if rules := l.in(c.site, "ip", "rule"); !strings.Contains(rules, "from "+c.from) {
			t.Errorf("%s has no rule from %s:\n%s", c.site, c.from, rules)
		}
	}
}
