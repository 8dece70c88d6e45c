package compile

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tombolo/internal/spec"
)

// packet is the first one of a flow, as the chains of the policy look at it.
type packet struct {
	from, to netip.Addr
	protocol string
	port     int
}

// chainsOf returns the lines of each chain of a ruleset's text.
func chainsOf(text string) map[string][]string {
	out := map[string][]string{}
	name := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch rest, begins := strings.CutPrefix(line, "chain "); {
		case begins:
			name = strings.TrimSuffix(rest, " {")
		case line == "}":
			name = ""
		case name != "":
			out[name] = append(out[name], line)
		}
	}
	return out
}

// within reports whether a value of a map's key is the packet's.
func (p packet) within(what, value string) bool {
	first, last, isRange := strings.Cut(value, "-")
	if !isRange {
		last = first
	}
	address := func(a netip.Addr) bool {
		return a.Compare(netip.MustParseAddr(first)) >= 0 && a.Compare(netip.MustParseAddr(last)) <= 0
	}
	switch what {
	case "ip saddr", "ip6 saddr":
		return address(p.from)
	case "ip daddr", "ip6 daddr":
		return address(p.to)
	case "meta l4proto":
		return p.protocol == value
	case "th dport":
		var low, high int
		_, _ = fmt.Sscan(first, &low) // what nft takes is numbers
		_, _ = fmt.Sscan(last, &high)
		return low <= p.port && p.port <= high
	}
	panic(what)
}

// verdict returns what a line says of a packet; "" where it says nothing.
func (p packet) verdict(t *testing.T, line string) string {
	t.Helper()
	if rest, is := strings.CutPrefix(line, "meta l4proto { icmp, ipv6-icmp } "); is {
		if p.protocol == "icmp" {
			return rest
		}
		return ""
	}
	keys, elements, isMap := strings.Cut(line, " vmap { ")
	if !isMap {
		return line
	}
	found := ""
	for element := range strings.SplitSeq(strings.TrimSuffix(elements, " }"), ", ") {
		key, verdict, _ := strings.Cut(element, " : ")
		means := true
		values := strings.Split(key, " . ")
		for i, what := range strings.Split(keys, " . ") {
			means = means && p.within(what, values[i])
		}
		if means && found != "" {
			t.Errorf("%+v is twice in %s", p, line)
		}
		if means {
			found = verdict
		}
	}
	return found
}

// denied reports what the chains make of a packet.
func (p packet) denied(t *testing.T, chains map[string][]string, name string) (denied, decided bool) {
	t.Helper()
	for _, line := range chains[name] {
		switch verdict, to, _ := strings.Cut(p.verdict(t, line), " "); verdict {
		case "accept":
			return false, true
		case "drop", "reject":
			return true, true
		case "goto":
			return p.denied(t, chains, to)
		case "jump":
			if denied, decided = p.denied(t, chains, to); decided {
				return denied, true
			}
		}
	}
	return false, false
}

// What is written into the ruleset decides as the rules do, whether ports stand in the map of the
// destinations or in chains.
func TestWrittenPolicyDecidesAsTheRulesDo(t *testing.T) {
	for seed := range 100 {
		r := rand.New(rand.NewPCG(uint64(seed), 11))
		n := manySites(t, 6)
		n.Policy = randomPolicy(n, 1+r.IntN(40), 6, r)
		somePorts(n, r)
		c := newCompiler(n, Options{})
		all := c.allPrefixes()
		var b strings.Builder
		c.policy().at(c, 0).write(&b, nil)
		chains := chainsOf(b.String())
		own := reach(&n.Sites[0])
		address := func() netip.Addr {
			if r.IntN(6) == 0 {
				return netip.MustParseAddr("198.51.100.7")
			}
			a := n.Sites[r.IntN(3)*r.IntN(3)].LANs[0].Prefixes[0].Prefix.Addr().As4()
			a[3] = []byte{0, 1, 2, 3, 4, 255}[r.IntN(6)]
			return netip.AddrFrom4(a)
		}
		here := func(a netip.Addr) bool {
			return slices.ContainsFunc(own, func(o netip.Prefix) bool { return o.Contains(a) })
		}
		for range 500 {
			p := packet{address(), address(), []string{"tcp", "udp", "icmp", "gre"}[r.IntN(4)], []int{1, 40, 41, 42, 50, 53, 60, 100, 443, 1023, 1024, 65535}[r.IntN(12)]}
			if !here(p.from) && !here(p.to) {
				continue // its hosts are asked about elsewhere
			}
			got, _ := p.denied(t, chains, "access")
			if want := denied(n, all, p.from, p.to, p.protocol, p.port); got != want {
				t.Fatalf("seed %d: %+v is denied: %v, want %v by %+v\n%s", seed, p, got, want, n.Policy, b.String())
			}
		}
	}
}

// Rules that all have ports of their own share no chain; then they need none.
func TestPortsOfTheirOwnNeedNoChains(t *testing.T) {
	n := manySites(t, 300)
	n.Policy = &spec.Policy{Deny: true}
	for k := range 10_000 {
		n.Policy.Rules = append(n.Policy.Rules, spec.PolicyRule{
			From: group(n, 1+k%299, -1), To: group(n, 0, 1+k%250), Allow: true,
			Ports: []spec.PolicyPort{{Protocol: "tcp", Ports: spec.PortRange{First: 1000 + k, Last: 1000 + k}}},
		})
	}
	nftTakes(t, n, "s9")
	s, err := Router(n, "s0", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(s.Rulesets[0].Text, "chain access-ports-"); got > 0 {
		t.Errorf("%d chains for ports", got)
	}
}
