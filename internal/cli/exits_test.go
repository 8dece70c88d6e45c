package cli_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"tombolo/internal/spec"
)

// overlay returns a router's addresses in the network.
func (l exitLab) overlay(site string) []netip.Addr {
	l.Helper()
	text, err := os.ReadFile(l.lab.Dir() + "/network.yaml")
	l.do(err)
	n, _ := spec.Parse("network.yaml", text)
	i, ok := n.Site(site)
	if !ok {
		l.Fatalf("the file has no site %q", site)
	}
	return []netip.Addr{n.Sites[i].Address, n.Sites[i].Address6}
}

// A router without an Internet of its own browses over two hops: the one between sees whose
// packets they are, and the Internet only sees the exit.
func TestRelay(t *testing.T) {
	t.Parallel() // it mostly waits
	network, err := os.ReadFile("../../examples/relay.yaml")
	if err != nil {
		t.Fatal(err)
	}
	labFile, err := os.ReadFile("../../examples/relay.lab.yaml")
	if err != nil {
		t.Fatal(err)
	}
	l := upExits(t, "relayed", string(network), string(labFile))
	l.leavesAt("lab-a", "exit-c")
	l.leavesAt("relay-b", "exit-c")
	at := map[*overheard][]netip.Addr{
		l.overhear("relay-b", "wg-lab-a"):  l.overlay("lab-a"),
		l.overhear("relay-b", "wg-exit-c"): l.overlay("lab-a"),
		l.overhear("exit-c", "wg-relay-b"): l.overlay("lab-a"),
		l.overhear("exit-c", "eth0"):       l.addresses("exit-c"),
		l.overhear("inet", "eth0"):         l.addresses("exit-c"),
	}
	l.browses("lab-a")
	for o, want := range at {
		o.sources(want...)
	}
	for _, site := range []string{"lab-a", "relay-b"} {
		l.nothingLeft(site)
	}
}

const middleNetwork = `
network: middle
overlay: 10.9.0.0/24
sites:
  m: {address: 10.9.0.1, endpoint: m.example.net, lan: {lan0: [10.1.0.0/24, "fd00:1::/64"]}, uplink: {eth0: dhcp}}
  a: {address: 10.9.0.2, lan: {lan0: [10.2.0.0/24, "fd00:2::/64"]}, uplink: {eth0: dhcp}}
  b: {address: 10.9.0.3, lan: {lan0: [10.3.0.0/24, "fd00:3::/64"]}, uplink: {eth0: dhcp}}
  x: {address: 10.9.0.4, endpoint: x.example.net, uplink: {eth0: dhcp}}
  y: {address: 10.9.0.5, endpoint: y.example.net, uplink: {eth0: dhcp}}
links: {star: m}
exits:
  - {for: a, via: x, otherwise: block}
  - {for: b, via: y, otherwise: block}
`

// Two sites browse by different exits through one router between, which leaves by itself.
func TestTwoSitesThroughOneMiddle(t *testing.T) {
	t.Parallel() // it mostly waits
	l := upExits(t, "middle", middleNetwork, "sites: {a: {eth0: {nat: none}}, b: {eth0: {nat: none}}}")
	l.leavesAt("a.host", "x")
	l.leavesAt("b.host", "y")
	l.leavesAt("m.host", "m")
	a, b := l.addresses("a.host"), l.addresses("b.host")
	at := map[*overheard][]netip.Addr{
		l.overhear("m", "wg-a"): a, l.overhear("m", "wg-x"): a, l.overhear("x", "wg-m"): a, l.overhear("x", "eth0"): l.addresses("x"),
		l.overhear("m", "wg-b"): b, l.overhear("m", "wg-y"): b, l.overhear("y", "wg-m"): b, l.overhear("y", "eth0"): l.addresses("y"),
		l.overhear("m", "eth0"): l.addresses("m"),
	}
	for _, host := range []string{"a.host", "b.host", "m.host"} {
		l.browses(host)
	}
	for o, want := range at {
		o.sources(want...)
	}
	l.nothingLeft("a", "b")
}

const switchNetwork = `
network: switch
overlay: 10.9.0.0/24
sites:
  op1: {address: 10.9.0.1, endpoint: op1.example.net, lan: {lan0: [10.1.0.0/24, "fd00:1::/64"]}, uplink: {eth0: dhcp}}
  op2: {address: 10.9.0.2, endpoint: op2.example.net, lan: {lan0: [10.2.0.0/24, "fd00:2::/64"]}, uplink: {eth0: dhcp}}
  op3: {address: 10.9.0.3, endpoint: op3.example.net, lan: {lan0: [10.3.0.0/24, "fd00:3::/64"]}, uplink: {eth0: dhcp}}
links: mesh
`

// switchPaths make the direct way the shortest by far, in both directions.
const switchPaths = "paths: [{between: [op1, op2], rtt: 10ms}, {between: [op1, op3], rtt: 10ms}, {between: [op2, op3], rtt: 10ms}]\n"

// forwardPort has a router hand what comes to a port of its uplink on to its LAN's host, as an
// administrator does.
func (l exitLab) forwardPort(site string, from, to int) {
	l.Helper()
	host := l.node(site + ".host")
	l.in(site, "nft", fmt.Sprintf(`table inet mine {
	chain prerouting {
		type nat hook prerouting priority dstnat
		iifname "eth0" meta nfproto ipv4 tcp dport %[1]d dnat ip to %[2]s:%[4]d
		iifname "eth0" meta nfproto ipv6 tcp dport %[1]d dnat ip6 to [%[3]s]:%[4]d
	}
}`, from, host.Addr(), host.Addr6(), to))
}

// standWithout checks that connections stand while something is taken away from a router, and
// that they go on when its agent has put it back.
func (l exitLab) standWithout(talks []*session, site, harm string) {
	l.Helper()
	before := l.keeping(site)
	l.paused(site, func() {
		l.in(site, "sh", "-c", harm)
		time.Sleep(100 * time.Millisecond)
		for _, k := range talks {
			if !k.stands() {
				l.Errorf("%s goes on without what it needs", k.about)
			}
		}
	})
	l.repaired(site, before)
	for _, k := range talks {
		l.soon(func() string {
			if k.stands() {
				return k.about + " stands"
			}
			return ""
		})
	}
}

// An exit is switched on and off, and connections from outside to the router's own address
// live through it: to the router itself, and to a host behind it. What the LAN begins then
// leaves by the exit, and what it began before is not stuck.
func TestExitOnAndOff(t *testing.T) {
	t.Parallel() // it mostly waits
	l := upExits(t, "switch", switchNetwork, switchPaths)
	const service, forwarded = 7001, 7002
	l.mirror("op2", service, l.addresses("op2")...)
	l.mirror("op2.host", service, l.addresses("op2.host")...)
	l.forwardPort("op2", forwarded, service)
	l.leavesAt("op2.host", "op2")
	var talks, throughs []*session
	flows := map[bool]*flow{}
	for _, six := range []bool{false, true} {
		wan := l.outside("op2", six)
		talks = append(talks, l.talks("inet", netip.AddrPortFrom(wan, service)), l.talks("op2.host", netip.AddrPortFrom(wan, service)))
		throughs = append(throughs, l.talks("inet", netip.AddrPortFrom(wan, forwarded)))
		flows[six] = l.flows("op2.host", l.inet(six))
		flows[six].answered(wan)
	}
	for _, exit := range []string{"op1", "", "op3", "op1", ""} {
		text, site := switchNetwork, "op2"
		if exit != "" {
			text, site = text+"exits: [{for: op2, via: "+exit+"}]\n", exit
		}
		l.applies(text)
		l.leavesAt("op2.host", site)
		for six, f := range flows {
			f.answered(l.outside(site, six))
			// Its own router's address outside is near, wherever the rest leaves.
			for _, network := range []string{"tcp", "udp"} {
				if _, err := l.asks("op2.host", network, netip.AddrPortFrom(l.outside("op2", six), service), patience); err != nil {
					t.Errorf("by exit %q the host does not reach its own router outside: %v", exit, err)
				}
			}
		}
		if exit == "op3" {
			l.standWithout(throughs, "op2", "for f in -4 -6; do ip $f rule del pref 501; done")
		}
	}
	for _, k := range talks {
		k.held(leftIn)
	}
	for _, k := range throughs {
		k.held(patience)
	}
}

// lineNetwork has an exit behind another: what goes to the first passes the second.
const lineNetwork = `
network: line
overlay: 10.9.0.0/24
sites:
  op1: {address: 10.9.0.1, endpoint: op1.example.net, uplink: {eth0: {dhcp: true, check: [198.18.0.11, "2001:db8::11"], check-interval: 200ms}}}
  op2: {address: 10.9.0.2, lan: {lan0: [10.2.0.0/24, "fd00:2::/64"]}, uplink: {eth0: dhcp}}
  op3: {address: 10.9.0.3, endpoint: op3.example.net, uplink: {eth0: {dhcp: true, check: [198.18.0.11, "2001:db8::11"], check-interval: 200ms}}}
links: {chain: [op2, op3, op1]}
exits:
  - {for: op2, via: [op1, op3], otherwise: block}
`

const linePaths = `
internet: {inet: {}, check: {}}
paths: [{between: [op1, op3], rtt: 10ms}, {between: [op2, op3], rtt: 10ms}]
`

// When the exit dies, or its provider, the next one takes over, and hands back to it. Flows go
// on, by the address of who has them.
func TestTheNextExitTakesOver(t *testing.T) {
	t.Parallel() // it mostly waits
	l := upExits(t, "line", lineNetwork, linePaths)
	l.leavesAt("op2.host", "op1")
	flows := map[bool]*flow{}
	for _, six := range []bool{false, true} {
		flows[six] = l.flows("op2.host", l.inet(six))
		flows[six].answered(l.outside("op1", six))
	}
	for _, c := range []struct {
		name, by string
		happens  func() error
		stands   time.Duration // that a stream may stand
	}{
		{"the exit dies", "op3", func() error { return l.lab.Cut(t.Context(), "op1", "") }, 2 * time.Second},
		{"it comes back", "op1", func() error { return l.lab.Heal(t.Context(), "op1", "") }, leftIn},
		{"its provider dies", "op3", func() error {
			return errors.Join(l.lab.Cut(t.Context(), "op1", "check"), l.lab.Cut(t.Context(), "op1", "inet"))
		}, leftIn},
		{"it comes back too", "op1", func() error {
			return errors.Join(l.lab.Heal(t.Context(), "op1", "check"), l.lab.Heal(t.Context(), "op1", "inet"))
		}, leftIn},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := l.with(t)
			streams := []stream{l.stream("op2.host", l.inet(false).Addr().String()), l.stream("op2.host", l.inet(true).Addr().String())}
			time.Sleep(300 * time.Millisecond)
			l.do(c.happens())
			l.leavesAt("op2.host", c.by)
			for six, f := range flows {
				f.answered(l.outside(c.by, six))
			}
			time.Sleep(300 * time.Millisecond)
			for _, s := range streams {
				lost, longest := s.end()
				t.Logf("%d packets lost, at most %s in a row", lost, longest)
				if longest > c.stands {
					t.Errorf("the stream stood for %s", longest)
				}
			}
		})
	}
	t.Run("nobody takes over", func(t *testing.T) {
		l := l.with(t)
		l.paused("op3", func() {
			l.do(l.lab.Cut(t.Context(), "op1", ""))
			time.Sleep(300 * time.Millisecond)
			for end := time.Now().Add(time.Second); time.Now().Before(end); {
				if by, err := l.asks("op2.host", "udp", l.inet(false), askedAgain); err == nil {
					t.Errorf("without the agent of op3, op2.host is seen as %s", by)
				}
			}
		})
		l.leavesAt("op2.host", "op3")
		l.do(l.lab.Heal(t.Context(), "op1", ""))
		l.leavesAt("op2.host", "op1")
	})
	for _, site := range []string{"op1", "op3"} {
		l.do(l.lab.Cut(t.Context(), site, "check"))
	}
	l.blocked("op2", "lan0")
	l.nothingLeft("op2")
}

const phonesNetwork = switchNetwork + `
clients:
  pool: 10.31.0.0/24
  at: [op1, op2, op3]
  devices:
    phone: {address: 10.31.0.10, full: true}
    laptop: {address: 10.31.0.11, full: true}
`

// A device leaves by its exit, whichever door it enters by; another one leaves at its door.
func TestExitForOneDevice(t *testing.T) {
	t.Parallel() // it mostly waits
	l := upExits(t, "phones", phonesNetwork+"exits: [{for: phone, via: op3}]\n", switchPaths)
	for _, door := range []string{"op1", "op2", "op3"} {
		l.roam("phone", door)
		l.roam("laptop", door)
		l.leavesAt("phone", "op3")
		l.leavesAt("laptop", door)
	}
	l.roam("phone", "op1")
	l.roam("laptop", "op2")
	device := l.addresses("phone")
	entered, left := l.overhear("op1", "wg-op3"), l.overhear("op3", "wg-op1")
	l.leavesAt("phone", "op3")
	// The way may still move to the direct one.
	entered.again = func() { l.browses("phone") }
	entered.sources(device...)
	left.sources(device...)

	l.applies(phonesNetwork + "exits: [{for: clients, via: op1}]\n")
	l.leavesAt("phone", "op1")
	l.leavesAt("laptop", "op1")
	l.leavesAt("op2.host", "op2")
	l.applies(phonesNetwork + "exits: [{for: clients, via: op1}, {for: laptop, via: op3}]\n")
	l.leavesAt("laptop", "op3")
	l.leavesAt("phone", "op1")
}

const staticNetwork = `
network: static
overlay: 10.9.0.0/24
routing: static
sites:
  a: {address: 10.9.0.1, lan: {lan0: [10.1.0.0/24, "fd00:1::/64"]}, uplink: {eth0: dhcp}}
  m: {address: 10.9.0.2, endpoint: m.example.net, lan: {lan0: [10.2.0.0/24, "fd00:2::/64"]}, uplink: {eth0: dhcp}}
  x: {address: 10.9.0.3, endpoint: x.example.net, uplink: {eth0: dhcp}}
links: {chain: [a, m, x]}
`

// With static routing the way to the exit is compiled.
func TestExitWithStaticRouting(t *testing.T) {
	t.Parallel() // it mostly waits
	l := upExits(t, "static", staticNetwork+"exits: [{for: a, via: x, otherwise: block}]\n", "")
	l.leavesAt("a.host", "x")
	l.leavesAt("m.host", "m")
	a := l.addresses("a.host")
	at := map[*overheard][]netip.Addr{
		l.overhear("m", "wg_s2s"): a, l.overhear("x", "wg_s2s"): a, l.overhear("x", "eth0"): l.addresses("x"),
	}
	l.browses("a.host")
	for o, want := range at {
		o.sources(want...)
	}
	flows := map[bool]*flow{}
	for _, six := range []bool{false, true} {
		flows[six] = l.flows("a.host", l.inet(six))
		flows[six].answered(l.outside("x", six))
	}
	l.do(l.lab.Cut(t.Context(), "a", "m"))
	time.Sleep(time.Second) // in which the flows go on to ask
	l.nothingLeft("a")
	l.do(l.lab.Heal(t.Context(), "a", "m"))
	l.leavesAt("a.host", "x")
	l.nothingLeft("a")
	l.applies(staticNetwork)
	l.leavesAt("a.host", "a")
	for six, f := range flows {
		f.answered(l.outside("a", six))
	}
	// The exit first: it hears of nobody, and what it forwards before goes on as it began.
	l.applies(staticNetwork+"exits: [{for: a, via: m}]\n", "m", "x", "a")
	l.leavesAt("a.host", "m")
	for six, f := range flows {
		f.answered(l.outside("m", six))
	}
}
