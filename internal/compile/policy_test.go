package compile

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/internal/spec"
)

// manySites is a star of sites with a LAN each; its policy is to be filled in.
func manySites(t testing.TB, sites int) *spec.Network {
	t.Helper()
	var b strings.Builder
	b.WriteString("network: many\noverlay: 10.200.0.0/22\nlinks: {star: s0}\nsites:\n")
	for i := range sites {
		fmt.Fprintf(&b, "  s%d: {address: 10.200.%d.%d, endpoint: s%d.example.net, lan: {lan0: [10.%d.%d.0/24, 'fd00:%x::/64']}, uplink: {eth0: dhcp}}\n", i, (i+1)/256, (i+1)%256, i, 100+i/256, i%256, i+1)
	}
	n, diagnostics := spec.Parse("many.yaml", []byte(b.String()))
	if n == nil {
		t.Fatal(diagnostics)
	}
	return n
}

// group is a site's, or a part of its LAN.
func group(n *spec.Network, site, host int) spec.Group {
	if host < 0 {
		return spec.Group{Prefixes: reach(&n.Sites[site])}
	}
	lan := n.Sites[site].LANs[0].Prefixes[0].Prefix.Addr().As4()
	lan[3] = byte(host)
	return spec.Group{Prefixes: []netip.Prefix{host32(netip.AddrFrom4(lan))}}
}

func host32(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, 32) }

var policyPortsOfTests = [][]spec.PolicyPort{
	nil, {{Protocol: "tcp", Ports: spec.PortRange{First: 443, Last: 443}}}, {{Protocol: "udp", Ports: spec.PortRange{First: 50, Last: 60}}, {Protocol: "icmp"}},
	{{Protocol: "tcp"}}, {{Protocol: "tcp", Ports: spec.PortRange{First: 1, Last: 1023}}, {Protocol: "udp", Ports: spec.PortRange{First: 53, Last: 53}}},
}

func randomPolicy(n *spec.Network, rules, sites int, r *rand.Rand) *spec.Policy {
	p := &spec.Policy{Deny: r.IntN(2) == 0}
	any := func() spec.Group {
		switch r.IntN(8) {
		case 0:
			return spec.Group{Internet: true}
		case 1:
			return group(n, r.IntN(sites), 1+r.IntN(3))
		}
		return group(n, r.IntN(sites), -1)
	}
	for range rules {
		p.Rules = append(p.Rules, spec.PolicyRule{From: any(), To: any(), Allow: r.IntN(2) == 0, Ports: policyPortsOfTests[r.IntN(len(policyPortsOfTests))]})
	}
	return p
}

// denied is what the file says: the first rule that is about a packet decides.
func denied(n *spec.Network, all []netip.Prefix, from, to netip.Addr, protocol string, port int) bool {
	in := func(prefixes []netip.Prefix, a netip.Addr) bool {
		return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	means := func(g spec.Group, a netip.Addr) bool {
		return in(g.Prefixes, a) || g.Internet && !in(all, a)
	}
	for _, x := range n.Policy.Rules {
		about := len(x.Ports) == 0
		for _, p := range x.Ports {
			about = about || p.Protocol == protocol && (p.Ports == (spec.PortRange{}) || protocol != "icmp" && p.Ports.First <= port && port <= p.Ports.Last)
		}
		if about && means(x.From, from) && means(x.To, to) {
			return !x.Allow
		}
	}
	return n.Policy.Deny && in(all, from) && in(all, to)
}

func (v verdicts) denies(protocol string, port int) bool {
	ranges := map[string]portVerdicts{"tcp": v.tcp, "udp": v.udp}[protocol]
	for _, r := range ranges {
		if r.First <= port && port <= r.Last {
			return r.deny
		}
	}
	if protocol == "icmp" {
		return v.icmp
	}
	return v.other
}

func (c classes) classOf(a netip.Addr) int {
	for _, x := range c.intervals {
		if !a.Less(x.first) && !x.last.Less(a) {
			return x.class
		}
	}
	return outsideClass
}

// Classes, and what the rules say of two of them, are what the rules say of each packet.
func TestClassesDecideAsTheRulesDo(t *testing.T) {
	for seed := range 60 {
		r := rand.New(rand.NewPCG(uint64(seed), 7))
		n := manySites(t, 6)
		n.Policy = randomPolicy(n, 1+r.IntN(25), 6, r)
		c := newCompiler(n, Options{})
		p := c.policy().at(c, 0)
		all := c.allPrefixes()
		address := func() netip.Addr {
			if r.IntN(6) == 0 {
				return netip.MustParseAddr("198.51.100.7")
			}
			site := &n.Sites[r.IntN(6)]
			if r.IntN(4) == 0 {
				return site.Address
			}
			a := site.LANs[0].Prefixes[0].Prefix.Addr().As4()
			a[3] = []byte{0, 1, 2, 3, 4, 255}[r.IntN(6)]
			return netip.AddrFrom4(a)
		}
		for range 300 {
			from, to := address(), address()
			protocol, port := []string{"tcp", "udp", "icmp", "gre"}[r.IntN(4)], []int{1, 49, 50, 53, 60, 61, 443, 1023, 1024, 65535}[r.IntN(10)]
			a, b := p.from.classOf(from), p.to.classOf(to)
			got := p.sequence(a, b).denies(protocol, port)
			if want := denied(n, all, from, to, protocol, port); got != want {
				t.Fatalf("seed %d: %s %d from %s to %s is denied: %v, want %v by %+v", seed, protocol, port, from, to, got, want, n.Policy)
			}
		}
	}
}

func TestNftTakesPolicies(t *testing.T) {
	for seed := range 10 {
		r := rand.New(rand.NewPCG(uint64(seed), 8))
		n := manySites(t, 8)
		n.Policy = randomPolicy(n, 40, 8, r)
		nftTakes(t, n, "s0")
		nftTakes(t, n, "s5")
	}
}

func nftTakes(t testing.TB, n *spec.Network, site string) {
	t.Helper()
	s, err := Router(n, site, Options{})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rules")
	if err := os.WriteFile(file, []byte(s.Rulesets[0].Text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("nft", "-c", "-f", file).CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s\n%s", site, err, out, s.Rulesets[0].Text)
	}
}

// Ten thousand rules over three hundred sites, all about one router and each with a port of its
// own, take no time worth waiting for. It is ten times what `bench -only access` has as the target:
// with a map for each rule the kernel took longer.
func TestManyRulesAreCompiledAndLoaded(t *testing.T) {
	const limit = 10 * time.Second
	n := manySites(t, 300)
	n.Policy = &spec.Policy{Deny: true}
	for k := range 10_000 {
		n.Policy.Rules = append(n.Policy.Rules, spec.PolicyRule{
			From: group(n, 1+k%299, -1), To: group(n, 0, 1+k/299), Allow: true,
			Ports: []spec.PolicyPort{{Protocol: "tcp", Ports: spec.PortRange{First: 1000 + k, Last: 1000 + k}}},
		})
	}
	for what, do := range map[string]func(){
		"to compile":                  func() { _, _ = Router(n, "s0", Options{}) },
		"to compile and have checked": func() { nftTakes(t, n, "s0") },
	} {
		start := time.Now()
		do()
		took := time.Since(start)
		t.Logf("%s: %v", what, took)
		if took > limit {
			t.Errorf("they take %v %s", took, what)
		}
	}
}
