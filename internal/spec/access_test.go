package spec_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tombolo/internal/spec"
)

// twins is a network with everything that words of `nat:` and `policy:` can name.
const twins = `network: n
overlay: 10.9.0.0/24
overlay6: fd09:0:0::/48
sites:
  north: {address: 10.9.0.1, endpoint: n.example.net, lan: {br-lan: [{prefix: 192.168.1.0/24, as: 10.61.1.0/24}, {prefix: "fd01::/64", as: "fd61:1::/64"}], wg1: 10.66.0.0/24}, uplink: {eth0: dhcp}}
  south: {address: 10.9.0.2, lan: {br-lan: {prefix: 192.168.1.0/24, as: 10.61.2.0/24}}, uplink: {eth0: dhcp}}
  third: {address: 10.9.0.3, babel: {br-core: {accept: [10.20.0.0/16, 10.20.1.0/24]}}, lan: {br-lan: 192.168.3.0/24, br-iot: 192.168.4.0/24}}
clients: {pool: 10.8.0.0/24, at: [north, third], devices: {phone: {address: 10.8.0.10}}}
`

func prefixes(text string) []netip.Prefix {
	var out []netip.Prefix
	for _, f := range strings.Fields(text) {
		if !strings.Contains(f, "/") {
			a := netip.MustParseAddr(f)
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		out = append(out, netip.MustParsePrefix(f))
	}
	return out
}

// Every word means what the documentation says.
func TestWordsOfRules(t *testing.T) {
	for words, want := range map[string]spec.Group{
		"north":                    {Prefixes: prefixes("10.9.0.1 10.61.1.0/24 10.66.0.0/24 fd09::1 fd61:1::/64")},
		"north:br-lan":             {Prefixes: prefixes("10.61.1.0/24 fd61:1::/64")},
		"third:br-iot":             {Prefixes: prefixes("192.168.4.0/24")},
		"phone":                    {Prefixes: prefixes("10.8.0.10 fd09:0:0:1::a08:a")},
		"clients":                  {Prefixes: prefixes("10.8.0.0/24 fd09:0:0:1::a08:0/120")},
		"[clients, phone]":         {Prefixes: prefixes("10.8.0.0/24 fd09:0:0:1::a08:0/120")},
		"10.61.2.10":               {Prefixes: prefixes("10.61.2.10")},
		"10.20.7.0/24":             {Prefixes: prefixes("10.20.7.0/24")},
		"[10.61.2.0/25, south]":    {Prefixes: prefixes("10.9.0.2 10.61.2.0/24 fd09::2")},
		"fd61:1::/65":              {Prefixes: prefixes("fd61:1::/65")},
		"internet":                 {Internet: true},
		"[internet, third:br-lan]": {Prefixes: prefixes("192.168.3.0/24"), Internet: true},
		"any":                      {Prefixes: prefixes("10.8.0.0/24 10.9.0.0/24 10.20.0.0/16 10.61.1.0/24 10.61.2.0/24 10.66.0.0/24 192.168.3.0/24 192.168.4.0/24 fd09::/48 fd61:1::/64")},
		"[phone, any]":             {Prefixes: prefixes("10.8.0.0/24 10.9.0.0/24 10.20.0.0/16 10.61.1.0/24 10.61.2.0/24 10.66.0.0/24 192.168.3.0/24 192.168.4.0/24 fd09::/48 fd61:1::/64")},
	} {
		n := parse(t, twins+"policy: {rules: [{from: "+words+", to: any, allow: all}, {from: south, to: "+words+", deny: icmp}]}\n")
		if d := cmp.Diff(want, n.Policy.Rules[0].From, compareNet); d != "" {
			t.Errorf("from %s (-want +got):\n%s", words, d)
		}
		if d := cmp.Diff(want, n.Policy.Rules[1].To, compareNet); d != "" {
			t.Errorf("to %s (-want +got):\n%s", words, d)
		}
	}
}

// Protocols and ports are read in both orders, and come sorted and apart.
func TestPortsOfRules(t *testing.T) {
	for text, want := range map[string][]spec.PolicyPort{
		"all":                         nil,
		"[443/tcp, all]":              nil,
		"icmp":                        {{Protocol: "icmp"}},
		"[443/tcp, udp/53, icmp]":     {{Protocol: "icmp"}, {"tcp", spec.PortRange{First: 443, Last: 443}}, {"udp", spec.PortRange{First: 53, Last: 53}}},
		"[tcp/8000-8010, 8005/tcp]":   {{"tcp", spec.PortRange{First: 8000, Last: 8010}}},
		"[80/tcp, tcp/82, 81/tcp]":    {{"tcp", spec.PortRange{First: 80, Last: 82}}},
		"[80/tcp, tcp, 90-91/tcp]":    {{Protocol: "tcp"}},
		"[1-65535/udp, 7/udp, 7/tcp]": {{"tcp", spec.PortRange{First: 7, Last: 7}}, {"udp", spec.PortRange{First: 1, Last: 65535}}},
	} {
		n := parse(t, twins+"policy: {default: deny, rules: [{from: south, to: north, allow: "+text+"}]}\n")
		if d := cmp.Diff(want, n.Policy.Rules[0].Ports); d != "" || !n.Policy.Deny || !n.Policy.Rules[0].Allow {
			t.Errorf("%s: deny %v, allow %v (-want +got):\n%s", text, n.Policy.Deny, n.Policy.Rules[0].Allow, d)
		}
	}
}

func TestPolicyDefaults(t *testing.T) {
	if n := parse(t, twins); n.Policy != nil || n.NAT != nil {
		t.Errorf("of a file without: %+v, %+v", n.Policy, n.NAT)
	}
	if n := parse(t, twins+"policy: {}\n"); n.Policy == nil || n.Policy.Deny || n.Policy.Rules != nil {
		t.Errorf("of an empty policy: %+v", n.Policy)
	}
	n := parse(t, twins+"policy:\n  rules:\n    - {from: any, to: third, deny: all}\n")
	if p := n.Policy; p.Deny || p.Rules[0].Allow || p.Rules[0].Pos != (spec.Pos{Line: 11, Column: 7}) {
		t.Errorf("of one rule: %+v", p)
	}
}

// Sources are as the router sees them that translates: its own mapped LANs as they are.
func TestSourcesOfNAT(t *testing.T) {
	n := parse(t, twins+`nat:
  - {at: north, masquerade: north, to: [south, third]}
  - {at: north, masquerade: [10.61.1.64/26, 192.168.1.0/28, 10.61.2.0/24], out: wg-south}
  - {at: third, masquerade: [north:br-lan, phone]}
  - {at: south, masquerade: south, out: eth0}
  - {at: third, masquerade: clients, out: wg-clients}
  - {at: third, masquerade: any, out: br-core}
`)
	want := []spec.NAT{
		{At: "north", Sources: prefixes("10.9.0.1 10.66.0.0/24 192.168.1.0/24 fd01::/64 fd09::1"), To: []string{"south", "third"}},
		{At: "north", Sources: prefixes("10.61.2.0/24 192.168.1.0/28 192.168.1.64/26"), Out: "wg-south"},
		{At: "third", Sources: prefixes("10.8.0.10 10.61.1.0/24 fd09:0:0:1::a08:a fd61:1::/64")},
		{At: "south", Sources: prefixes("10.9.0.2 192.168.1.0/24 fd09::2"), Out: "eth0"},
		{At: "third", Sources: prefixes("10.8.0.0/24 fd09:0:0:1::a08:0/120"), Out: "wg-clients"},
		{At: "third", Sources: prefixes("10.8.0.0/24 10.9.0.0/24 10.20.0.0/16 10.61.1.0/24 10.61.2.0/24 10.66.0.0/24 192.168.3.0/24 192.168.4.0/24 fd09::/48 fd61:1::/64"), Out: "br-core"},
	}
	for i := range want {
		want[i].Pos = spec.Pos{Line: 10 + i, Column: 5}
	}
	if d := cmp.Diff(want, n.NAT, compareNet); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// A published host is kept by the address that all know, however its own site calls it.
func TestPublishedHostsOfMappedLANs(t *testing.T) {
	n := parse(t, twins+`publish:
  - {at: north, port: tcp/80, to: 192.168.1.10:80}
  - {at: south, port: 80-89/udp, to: "10.61.2.10:8000"}
  - {at: north, port: 81/tcp, to: "[fd01::10]:80"}
`)
	want := []spec.Publish{
		{Pos: spec.Pos{Line: 10, Column: 5}, At: "north", Port: spec.PortRange{First: 80, Last: 80}, Protocol: "tcp", To: netip.MustParseAddrPort("10.61.1.10:80")},
		{Pos: spec.Pos{Line: 11, Column: 5}, At: "south", Port: spec.PortRange{First: 80, Last: 89}, Protocol: "udp", To: netip.MustParseAddrPort("10.61.2.10:8000")},
		{Pos: spec.Pos{Line: 12, Column: 5}, At: "north", Port: spec.PortRange{First: 81, Last: 81}, Protocol: "tcp", To: netip.MustParseAddrPort("[fd61:1::10]:80")},
	}
	if d := cmp.Diff(want, n.Publish, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// Lists are unions: an address is meant by a list if it is by one of its words; and prefixes
// come sorted, none inside another.
func TestListsOfWordsAreUnions(t *testing.T) {
	words := []string{"north", "south", "third", "north:br-lan", "third:br-iot", "phone", "clients", "10.61.2.10", "10.61.2.0/25", "10.61.1.0/24", "10.20.0.0/17", "10.20.9.0/24", "any", "internet"}
	var probes []netip.Addr
	alone := map[string]spec.Group{}
	for _, w := range words {
		g := parse(t, twins+"policy: {rules: [{from: "+w+", to: south, allow: all}]}\n").Policy.Rules[0].From
		alone[w] = g
		for _, p := range g.Prefixes {
			probes = append(probes, p.Addr(), spec.AddressAt(p, 1<<min(p.Addr().BitLen()-p.Bits(), 20)-1))
		}
	}
	in := func(g spec.Group, a netip.Addr) bool {
		return slices.ContainsFunc(g.Prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.SampledFrom(words), 1, 6).Draw(t, "list")
		n, ds := spec.Parse("n.yaml", []byte(twins+"policy: {rules: [{from: ["+strings.Join(list, ", ")+"], to: south, allow: all}]}\n"))
		if n == nil {
			t.Fatal(ds)
		}
		got, internet := n.Policy.Rules[0].From, false
		for _, a := range probes {
			want := false
			for _, w := range list {
				want = want || in(alone[w], a)
				internet = internet || alone[w].Internet
			}
			if in(got, a) != want {
				t.Fatalf("%v of %v: %v", a, list, !want)
			}
		}
		if got.Internet != internet {
			t.Fatalf("%v: internet is %v", list, got.Internet)
		}
		for i := 1; i < len(got.Prefixes); i++ {
			p, q := got.Prefixes[i-1], got.Prefixes[i]
			if p.Overlaps(q) || p.Addr().Compare(q.Addr()) >= 0 {
				t.Fatalf("%v: %v before %v", list, p, q)
			}
		}
	})
}

// ruled returns a full mesh of sites and a policy of rules about them.
func ruled(sites, rules int) []byte {
	var b strings.Builder
	b.Write(large(sites))
	b.WriteString("policy:\n  default: deny\n  rules:\n")
	for i := range rules {
		from, to := i%sites, (i*7+1+i/sites)%sites
		fmt.Fprintf(&b, "    - {from: [site%04d, site%04d], to: 10.%d.%d.%d, allow: [%d/tcp, udp/53]}\n", from, (from+1+i/sites)%sites, to/250+10, to%250, 1+i%200, 1+i%60000)
	}
	return []byte(b.String())
}

// The limit is far above what is needed, for machines that are busy; the benchmark measures.
func TestTenThousandRulesAreReadInTime(t *testing.T) {
	text := ruled(300, 10_000)
	start := time.Now()
	n, ds := spec.Parse("big.yaml", text)
	if n == nil || len(n.Policy.Rules) != 10_000 || len(ds) > 0 {
		t.Fatalf("%.500s", ds)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func BenchmarkParse10000Rules(b *testing.B) {
	for name, text := range map[string][]byte{"rules=10": ruled(300, 10), "rules=10000": ruled(300, 10_000)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if n, ds := spec.Parse("big.yaml", text); n == nil {
					b.Fatal(ds)
				}
			}
		})
	}
}
