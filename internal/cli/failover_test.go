package cli_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// diesNetwork is an office with two providers that are watched closely, a branch that dials it
// from behind a NAT, and a shop with an address of its own: each of the two dials the other.
const diesNetwork = `
network: n
overlay: 10.50.0.0/24
sites:
  office:
    address: 10.50.0.1
    endpoint: [211.200.0.2, 58.56.0.2]
    lan: {br-lan: [192.168.50.0/24, "fd00:50::/64"]}
    uplink:
      eth1: {address: 211.200.0.2/30, gateway: 211.200.0.1, weight: 3, check: 1.1.1.1, check-interval: 200ms}
      eth2: {address: 58.56.0.2/30, gateway: 58.56.0.1, weight: 1, check: 9.9.9.9, check-interval: 200ms}
  branch: {address: 10.50.0.2, lan: {br-lan: 192.168.51.0/24}, uplink: {eth0: dhcp}}
  shop: {address: 10.50.0.3, endpoint: 203.0.113.2, lan: {br-lan: 192.168.52.0/24}, uplink: {eth0: {address: 203.0.113.2/30, gateway: 203.0.113.1}}}
links: [[office, branch], [office, shop]]
`

const diesLab = `
internet:
  inet: {address: [198.18.0.10, 2001:db8::10]}
  check-1: {address: 1.1.1.1}
  check-2: {address: 9.9.9.9}
`

// works waits until the office's agent says which uplinks work.
func (l homeLab) works(devices ...string) {
	l.Helper()
	l.soon(func() string {
		var now []string
		for _, u := range l.status("office").Uplinks {
			if u.Works {
				now = append(now, u.Name)
			}
		}
		if !slices.Equal(now, devices) {
			return fmt.Sprintf("%v work, and not %v", now, devices)
		}
		return ""
	})
}

// newFlows opens connections from the office's LAN, and returns how many left by each uplink.
func (l homeLab) newFlows(n int) map[string]int {
	l.Helper()
	var questions []question
	for i := range n {
		questions = append(questions, question{node: "office.host", network: []string{"tcp", "udp"}[i/2%2], to: l.outside("inet", "eth0", i%2 == 1)})
	}
	seen, count := l.seen(questions), map[string]int{}
	for _, device := range bothUplinks {
		for _, six := range []bool{false, true} {
			count[device] += seen[l.outside("office", device, six)]
		}
	}
	return count
}

// dies is that lab, with chats that go on.
type dies struct {
	homeLab
	to4, to6 netip.Addr
	chats    map[string]*chat
}

// A provider that dies is left within a second where it is asked every 200 ms; a test that shares
// two processors gets ten times that.
const diesIn = 10 * time.Second

func upDies(t *testing.T) dies {
	t.Helper()
	l := dies{homeLab: open(t, "dies", diesNetwork, diesLab), chats: map[string]*chat{}}
	l.reached()
	l.to4, l.to6 = l.outside("inet", "eth0", false), l.outside("inet", "eth0", true)
	l.mirror("inet", l.to4, l.to6)
	for _, n := range []string{"branch.host", "shop.host"} {
		a := l.outside(n, "eth0", false)
		l.mirror(n, a)
		l.chats["tunnel to "+n] = l.chat(question{node: "office.host", network: "tcp", to: a})
	}
	l.works("eth1", "eth2")
	for _, network := range []string{"udp", "tcp"} {
		for _, to := range []netip.Addr{l.to4, l.to6} {
			for _, d := range bothUplinks {
				l.chats[fmt.Sprint(network, " by ", d, " to ", to)] = l.chatBy(question{node: "office.host", network: network, to: to}, "office", d)
			}
		}
	}
	for _, to := range []netip.Addr{l.to4, l.to6} {
		x := l.chatUnbound(question{node: "office", network: "udp", to: to})
		for l.begun(x).seen != l.outside("office", "eth1", to.Is6()) {
			x.close()
			x = l.chatUnbound(x.question)
		}
		l.chats[fmt.Sprint("the router's own to ", to)] = x
	}
	return l
}

// each calls f for the chats whose name has a word in it.
func (l dies) each(word string, f func(name string, x *chat)) {
	for _, name := range slices.Sorted(maps.Keys(l.chats)) {
		if strings.Contains(name, word) {
			f(name, l.chats[name])
		}
	}
}

// of returns the lab for a part of its test.
func (l dies) of(t *testing.T) dies {
	l.homeLab = homeLab{testLab{t, l.name}, l.lab}
	return l
}

// staysOn fails unless a chat was seen, since some time, as the uplink's address alone, and lost
// nothing.
func (l homeLab) staysOn(x *chat, device string, since time.Time) {
	l.Helper()
	l.complete(x, since)
	want := l.outside("office", device, x.to.Is6())
	if got := x.sources(since); len(got) != 1 || got[0] != want {
		l.Errorf("%s was seen as %v, and not as %s alone", x, got, want)
	}
}

// A provider dies without a word, under load, and comes back.
func TestAProviderDies(t *testing.T) {
	t.Parallel() // it mostly waits
	l := upDies(t)
	begin := time.Now()
	time.Sleep(time.Second)
	l.do(l.lab.Cut(t.Context(), "office/eth1", ""))
	l.works("eth2")
	l.each("", func(name string, x *chat) {
		switch lives := strings.Contains(name, "eth2"); {
		case strings.Contains(name, "tcp by eth1"):
			// No address outlives its provider; but it is told.
			l.soon(func() string {
				if _, _, err := x.last(); err == nil {
					return name + " hangs"
				}
				return ""
			})
		case lives:
			l.staysOn(x, "eth2", begin)
		default:
			if seen := l.goesOn(x); strings.Contains(name, "to ") && !strings.Contains(name, "tunnel") && seen != l.outside("office", "eth2", x.to.Is6()) {
				l.Errorf("%s is seen as %s", name, seen)
			}
			t.Logf("%s: %s without an answer", name, x.silence(begin))
			if x.silence(begin) > diesIn {
				l.Errorf("%s was without an answer for %s", name, x.silence(begin))
			}
		}
	})
	if by := l.newFlows(20); by["eth2"] != 20 {
		l.Errorf("of 20 new flows left %v", by)
	}
	for _, site := range []string{"branch", "shop"} {
		if out := l.in(site, "wg", "show", "wg-office", "endpoints"); !strings.Contains(out, "\t58.56.0.2:") {
			l.Errorf("%s has the office at %s", site, out)
		}
	}
	t.Run("comes back", func(t *testing.T) { l.of(t).comesBack() })
	t.Run("without the agent", func(t *testing.T) { l.of(t).withoutAgent() })
	t.Run("all are dead", func(t *testing.T) { l.of(t).allDie() })
}

// comesBack has the provider come back: what went by the other stays there, new flows use both.
func (l dies) comesBack() {
	l.Helper()
	var pinned []*chat
	for i := range 8 {
		x := l.chat(question{node: "office.host", network: "udp", to: []netip.Addr{l.to4, l.to6}[i%2]})
		l.begun(x)
		pinned = append(pinned, x)
	}
	healed := time.Now()
	l.do(l.lab.Heal(l.Context(), "office/eth1", ""))
	l.works("eth1", "eth2")
	by := l.newFlows(80)
	l.Logf("new flows: %v", by)
	// Of 80 with weights of three to one, 20 leave by eth2: six standard deviations are 23.
	if by["eth1"] < 80-43 || by["eth2"] < 1 || by["eth1"]+by["eth2"] != 80 {
		l.Errorf("of 80 new flows left %v", by)
	}
	stay := func(since time.Time) {
		l.Helper()
		for _, x := range pinned {
			l.staysOn(x, "eth2", since)
		}
		l.each("by eth2", func(_ string, x *chat) { l.staysOn(x, "eth2", since) })
	}
	stay(healed)
	for _, word := range []string{"udp", "tunnel", "own"} {
		l.each(word, func(_ string, x *chat) { l.complete(x, healed) })
	}

	// Without the rules by which flows stay, these do not: the kernel forgets what masquerade made
	// of a flow that leaves by another device (nf_nat_oif_changed), and the other end sees another
	// address.
	l.frozen("office", func() {
		back, away := l.without("office", 500), time.Now()
		time.Sleep(time.Second)
		back()
		if !slices.ContainsFunc(pinned, func(x *chat) bool {
			return slices.Contains(x.sources(away), l.outside("office", "eth1", x.to.Is6()))
		}) {
			l.Error("without rule 500 all flows stay where they are")
		}
	})
	for _, x := range pinned {
		l.goesOn(x)
		x.close()
	}
}

// withoutAgent has the provider die while nobody looks: it takes the agent to leave it.
func (l dies) withoutAgent() {
	l.Helper()
	x := l.chatBy(question{node: "office.host", network: "udp", to: l.to4}, "office", "eth1")
	defer x.close()
	cut := time.Now()
	l.frozen("office", func() {
		l.do(l.lab.Cut(l.Context(), "office/eth1", ""))
		time.Sleep(2 * time.Second)
		if s := x.silence(cut); s < time.Second {
			l.Errorf("with nobody to move it, what left by a dead uplink was silent for %s alone", s)
		}
	})
	if seen := l.goesOn(x); seen != l.outside("office", "eth2", false) {
		l.Errorf("it is seen as %s", seen)
	}
	l.do(l.lab.Heal(l.Context(), "office/eth1", ""))
	l.works("eth1", "eth2")
}

// allDie has both providers die: the checks may be wrong, so all are used. When one comes back all
// goes by it.
func (l dies) allDie() {
	l.Helper()
	var some []*chat
	for i := range 8 {
		some = append(some, l.chat(question{node: "office.host", network: "udp", to: []netip.Addr{l.to4, l.to6}[i%2]}))
	}
	for _, d := range bothUplinks {
		l.do(l.lab.Cut(l.Context(), "office/"+d, ""))
	}
	l.works()
	for _, family := range []string{"-4", "-6"} {
		if out := l.in("office", "ip", family, "route", "show", "table", "200"); !strings.Contains(out, "eth1") || !strings.Contains(out, "eth2") {
			l.Errorf("new flows leave by\n%s", out)
		}
	}
	time.Sleep(time.Second / 2)
	for _, d := range bothUplinks {
		l.do(l.lab.Heal(l.Context(), "office/"+d, ""))
		l.works(map[string][]string{"eth1": {"eth1"}, "eth2": {"eth1", "eth2"}}[d]...)
		if d != "eth1" {
			continue
		}
		for _, x := range some {
			if seen := l.goesOn(x); seen != l.outside("office", d, x.to.Is6()) {
				l.Errorf("%s is seen as %s", x, seen)
			}
		}
		l.each("tunnel", func(_ string, x *chat) { l.goesOn(x) })
	}
	for _, x := range some {
		x.close()
	}
}
