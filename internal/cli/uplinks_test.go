package cli_test

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
)

// twoNetwork is an office with two providers, a shop with one, and a branch that dials them
// from behind a NAT.
const twoNetwork = `
network: n
overlay: 10.50.0.0/24
sites:
  office:
    address: 10.50.0.1
    endpoint: [211.200.0.2, 58.56.0.2]
    lan: {br-lan: [192.168.50.0/24, "fd00:50::/64"]}
    uplink:
      eth1: {address: 211.200.0.2/30, gateway: 211.200.0.1, weight: 3}
      eth2: {address: 58.56.0.2/30, gateway: 58.56.0.1, weight: 1}
  branch: {address: 10.50.0.2, lan: {br-lan: [192.168.51.0/24, "fd00:51::/64"]}, uplink: {eth0: dhcp}}
  shop:
    address: 10.50.0.3
    endpoint: 203.0.113.2
    lan: {br-lan: [192.168.52.0/24, "fd00:52::/64"]}
    uplink: {eth0: {address: 203.0.113.2/30, gateway: 203.0.113.1}}
links: mesh
`

// Who asks the office from outside: one is answered by the router itself, one is sent on to a
// host in its LAN, and one to a host in the branch's.
const twoLab = `
internet:
  inet: {address: [198.18.0.10, 2001:db8::10]}
  for-lan: {address: [198.18.0.11, 2001:db8::11]}
  for-branch: {address: [198.18.0.12, 2001:db8::12]}
`

// published sends them there. It is an administrator's own, without SNAT: the true source is
// seen.
const published = `
table inet published {
	chain prerouting {
		type nat hook prerouting priority dstnat;
		iifname != { "eth1", "eth2" } return
		ip saddr 198.18.0.11 dnat ip to 192.168.50.10
		ip saddr 198.18.0.12 dnat ip to 192.168.51.10
		ip6 saddr 2001:db8::11 dnat ip6 to fd00:50::10
		ip6 saddr 2001:db8::12 dnat ip6 to fd00:51::10
	}
}
`

// twoUplinks is that network, with mirrors.
type twoUplinks struct {
	homeLab
	mirrors map[string]*mirror // by who asks them
}

func upTwo(t *testing.T, name string) twoUplinks {
	t.Helper()
	l := twoUplinks{homeLab: open(t, name, twoNetwork, twoLab)}
	l.reached()
	var own []netip.Addr
	for _, device := range []string{"eth1", "eth2"} {
		own = append(own, l.outside("office", device, false), l.outside("office", device, true))
	}
	l.mirrors = map[string]*mirror{"inet": l.mirror("office", own...)}
	l.mirror("inet", l.outside("inet", "eth0", false), l.outside("inet", "eth0", true))
	l.mirror("shop.host", l.outside("shop.host", "eth0", false))
	for asker, host := range map[string]string{"for-lan": "office.host", "for-branch": "branch.host"} {
		l.mirrors[asker] = l.mirror(host, l.outside(host, "eth0", false), l.outside(host, "eth0", true))
	}
	l.in("office", "nft", strings.TrimSpace(published))
	return l
}

// questions asks for each of the networks, families and uplinks; n times, as another connection may
// go another way.
func (l twoUplinks) questions(node string, networks, devices []string, n int) (out []question) {
	l.Helper()
	for _, network := range networks {
		for _, device := range devices {
			for _, six := range []bool{false, true} {
				for range n {
					out = append(out, question{node: node, network: network, to: l.outside("office", device, six)})
				}
			}
		}
	}
	return out
}

var (
	allNetworks = []string{"tcp", "udp", "icmp"}
	bothUplinks = []string{"eth1", "eth2"}
)

// answered fails unless whoever asks from outside is answered, by who is meant, who sees the
// true source; and the LAN's host, too.
func (l twoUplinks) answered() {
	l.Helper()
	l.do(l.lab.ResetUplinks(l.Context()))
	for asker, m := range l.mirrors {
		for _, fault := range l.all(l.questions(asker, allNetworks, bothUplinks, 2), func(q question) error {
			source := l.outside(asker, "eth0", q.to.Is6())
			node, seen, err := l.ask(q, forAnswer)
			switch {
			case err != nil:
				return err
			case q.network != "icmp" && (node != m.node || seen != source):
				return fmt.Errorf("%s answers, and sees %s", node, seen)
			}
			return nil
		}) {
			l.Error(fault)
		}
		for _, six := range []bool{false, true} {
			if a := l.outside(asker, "eth0", six); !m.pinged(a) {
				l.Errorf("%s has seen no ping from %s", m.node, a)
			}
		}
	}
	if faults := l.hairpin(); len(faults) > 0 {
		l.Errorf("to its router's own address:\n%s", strings.Join(faults, "\n"))
	}
	l.rightSources()
}

// hairpin has the LAN's host open its own router's addresses, and returns what is wrong.
func (l twoUplinks) hairpin() []string {
	l.Helper()
	return l.all(l.questions("office.host", allNetworks, bothUplinks, 1), func(q question) error {
		node, seen, err := l.ask(q, forAnswer)
		if host := l.outside("office.host", "eth0", q.to.Is6()); err == nil && q.network != "icmp" && (node != "office" || seen != host) {
			return fmt.Errorf("%s answers, and sees %s", node, seen)
		}
		return err
	})
}

// wrongSources returns how many packets the providers have dropped for their sources.
func (l homeLab) wrongSources() (n uint64) {
	l.Helper()
	counts, err := l.lab.Uplinks(l.Context())
	l.do(err)
	for _, c := range counts {
		n += c.Wrong()
	}
	return n
}

func (l homeLab) rightSources() {
	l.Helper()
	if n := l.wrongSources(); n > 0 {
		l.Errorf("%d packets left with a wrong source:\n%s", n, l.must("lab", "counters", "--name", l.name, "office", "branch"))
	}
}

// Whatever comes in by an uplink is answered by the same one, also where the answer comes from
// a LAN or from another site's; and who opens its own router's outer address from the LAN gets
// its answer from there.
func TestAnswersLeaveByTheUplinkTheyCameIn(t *testing.T) {
	t.Parallel() // it mostly waits
	l := upTwo(t, "answers")
	l.answered()
	t.Run("main's default route leads into a tunnel", func(t *testing.T) { l.of(t).careless() })
	t.Run("the way to the branch changes", func(t *testing.T) { l.of(t).otherWay() })
	t.Run("with one uplink too", func(t *testing.T) { l.of(t).carelessWithOne() })

	// Without one of its parts each of this fails.
	forwarded := l.questions("for-lan", []string{"udp", "tcp"}, []string{"eth2"}, 6)
	for _, c := range []struct {
		name, site string
		questions  []question
		away       func(testLab) (back func())
		right      bool // what leaves the wrong way has the right source
	}{
		{"without the rules for replies", "office", forwarded, func(l testLab) func() { return l.without("office", 501) }, false},
		{"without the marks of replies", "office", forwarded, func(l testLab) func() { return l.withoutChain("office", "reply-eth2") }, false},
		{"without what is remembered", "office", forwarded, func(l testLab) func() { return l.withoutChain("office", "from-eth2") }, false},
		{"without the rules for tunnels", "branch", l.questions("for-branch", []string{"udp", "tcp", "icmp"}, bothUplinks, 1), func(l testLab) func() { return l.without("branch", 540) }, false},
		{"without the rules for addresses", "office", l.bound(6), func(l testLab) func() { return l.without("office", 542) }, false},
		// Which leaves "from the uplink's address by the uplink", as one finds it written.
		{"without the rules for LANs", "office", l.questions("office.host", []string{"udp", "tcp", "icmp"}, bothUplinks, 1), func(l testLab) func() { return l.without("office", 510, 511, 530) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := l.of(t)
			if faults := l.unanswered(c.questions, forAnswer); len(faults) > 0 {
				t.Fatalf("before:\n%s", strings.Join(faults, "\n"))
			}
			l.frozen(c.site, func() {
				back := c.away(l.testLab)
				l.do(l.lab.ResetUplinks(t.Context()))
				faults, wrong := l.unanswered(c.questions, forNone), l.wrongSources()
				back()
				t.Logf("%d of %d questions are not answered, %d packets left with a wrong source", len(faults), len(c.questions), wrong)
				if len(faults) == 0 || wrong == 0 && !c.right {
					t.Error("all goes well")
				}
			})
			if faults := l.unanswered(c.questions, forAnswer); len(faults) > 0 {
				t.Errorf("after:\n%s", strings.Join(faults, "\n"))
			}
		})
	}
}

// otherWay cuts the tunnel by which a published connection came to its host: it goes on by way of
// the shop, and its answers too.
func (l twoUplinks) otherWay() {
	l.Helper()
	var chats []*chat
	for _, q := range l.questions("for-branch", []string{"tcp", "udp"}, bothUplinks, 1) {
		x := l.chat(q)
		l.begun(x)
		chats = append(chats, x)
	}
	begin := time.Now()
	l.do(l.lab.Cut(l.Context(), "office", "branch"))
	l.goes("office", "192.168.51.0/24", "wg-shop")
	for _, x := range chats {
		if seen, want := l.goesOn(x), l.outside("for-branch", "eth0", x.to.Is6()); seen != want {
			l.Errorf("%s is seen as %s, and not as %s", x, seen, want)
		}
	}
	for _, x := range chats {
		if s := x.silence(begin); s > diesIn {
			l.Errorf("%s was without an answer for %s", x, s)
		}
		x.close()
	}
	l.do(l.lab.Heal(l.Context(), "office", "branch"))
}

// careless makes such routes as one finds on routers: the one that goes before all others in
// main, as by a tunnel that is brought up by hand, and the two that are more specific, as OpenVPN
// makes them.
func (l twoUplinks) careless() {
	l.Helper()
	for _, routes := range [][]string{
		{"prepend default dev wg-branch", "-6 prepend default dev wg-branch metric 1"},
		{"add 0.0.0.0/1 dev wg-branch", "add 128.0.0.0/1 dev wg-branch", "-6 add 2000::/3 dev wg-branch"},
	} {
		l.route("office", routes...)
		l.answered()
		for i, r := range routes {
			routes[i] = strings.NewReplacer("prepend", "del", "add", "del").Replace(r)
		}
		l.route("office", routes...)
	}
}

func (l testLab) route(site string, words ...string) {
	l.Helper()
	for _, w := range words {
		family, rest := "-4", w
		if after, six := strings.CutPrefix(w, "-6 "); six {
			family, rest = "-6", after
		}
		l.in(site, append([]string{"ip", family, "route"}, strings.Fields(rest)...)...)
	}
}

// carelessWithOne does so where there is one uplink. The tunnels' own packets must not go round in
// the tunnel, also while there is no other way for them.
func (l twoUplinks) carelessWithOne() {
	l.Helper()
	l.route("shop", "prepend default dev wg-office", "-6 prepend default dev wg-office metric 1")
	own := []netip.Addr{l.outside("shop", "eth0", false), l.outside("shop", "eth0", true)}
	l.mirror("shop", own...)
	works := func() {
		l.Helper()
		var questions []question
		for _, network := range allNetworks {
			for _, to := range own {
				questions = append(questions, question{node: "inet", network: network, to: to})
			}
			for _, six := range []bool{false, true} {
				questions = append(questions, question{node: "shop", network: network, to: l.outside("office.host", "eth0", six)},
					question{node: "shop.host", network: network, to: l.outside("branch.host", "eth0", six)})
			}
		}
		for _, fault := range l.unanswered(questions, forAnswer) {
			l.Error(fault)
		}
	}
	works()
	l.do(l.lab.Carrier(l.Context(), "shop", "eth0", false))
	before := l.sent("shop", "wg-office")
	time.Sleep(time.Second)
	if n := l.sent("shop", "wg-office") - before; n > 10_000 {
		l.Errorf("%d packets in a second went into the tunnel, which leads nowhere", n)
	}
	l.do(l.lab.Carrier(l.Context(), "shop", "eth0", true))
	l.answers("shop.host", "192.168.51.10")
	works()
	l.route("shop", "del default dev wg-office", "-6 del default dev wg-office")
}

// sent returns how many packets a device has sent.
func (l testLab) sent(node, device string) int {
	l.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(l.in(node, "cat", "/sys/class/net/"+device+"/statistics/tx_packets")))
	if err != nil {
		l.Fatal(err)
	}
	return n
}

// of returns the lab for a part of its test.
func (l twoUplinks) of(t *testing.T) twoUplinks {
	l.homeLab = homeLab{testLab{t, l.name}, l.lab}
	return l
}

// bound asks a host outside by the addresses of the office's second uplink.
func (l twoUplinks) bound(n int) (out []question) {
	for _, network := range []string{"tcp", "udp"} {
		for _, six := range []bool{false, true} {
			for range n {
				out = append(out, question{"office", network, l.outside("inet", "eth0", six), l.outside("office", "eth2", six)})
			}
		}
	}
	return out
}
