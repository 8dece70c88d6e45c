package cli

import (
	"fmt"
	"math/rand"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tombolo/internal/spec"
	"tombolo/internal/trace"
)

func parsed(t *testing.T, text string) *spec.Network {
	t.Helper()
	n, ds := spec.Parse("n.yaml", []byte(text))
	if n == nil {
		t.Fatal(ds.Err(), "\n", text)
	}
	return n
}

const portsNetwork = `
network: ports
overlay: 10.9.0.0/24
sites:
  a: {address: 10.9.0.1, endpoint: 192.0.2.1, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: {address: 192.0.2.1/30, gateway: 192.0.2.2}}}
  b: {address: 10.9.0.2, endpoint: 192.0.2.5, lan: {lan0: 10.2.0.0/24}, uplink: {eth0: {address: 192.0.2.5/30, gateway: 192.0.2.6}}}
`

func TestWhatIsAskedOfPorts(t *testing.T) {
	for _, c := range []struct{ name, old, now, want string }{
		{"nothing is said", "", "", "icmp: icmp; tcp; udp"},
		{"a port, and what nobody names", "policy: {rules: [{from: a, to: b, deny: 22/tcp}]}", "", "icmp: icmp; tcp but 22; udp | tcp/22: tcp/22"},
		{"of two ranges the parts", "policy: {rules: [{from: a, to: b, deny: 20-30/tcp}]}", "policy: {rules: [{from: b, to: a, deny: 25-40/tcp}]}",
			"icmp: icmp; tcp but 20-40; udp | tcp/20: tcp/20-24 | tcp/25: tcp/25-30 | tcp/31: tcp/31-40"},
		{"what one rule speaks of once", "policy: {rules: [{from: a, to: b, deny: [22/tcp, 80-90/tcp, udp]}]}", "",
			"icmp: icmp; tcp but 22,80-90 | tcp/22: tcp/22,80-90; udp"},
		{"up to the last port", "policy: {rules: [{from: a, to: b, allow: 1024-65535/udp}]}", "",
			"icmp: icmp; tcp; udp/1-1023 | udp/1024: udp/1024-65535"},
		{"published, where it leads", "policy: {rules: [{from: internet, to: b, deny: 9003/tcp}]}\npublish: [{at: a, port: 8000-8010/tcp, to: 10.2.0.10:9000}]", "",
			"icmp: icmp; tcp but 9000-9010; udp | tcp/8000: tcp/8000-8002 | tcp/8003: tcp/8003 | tcp/8004: tcp/8004-8010 | tcp/9000: tcp/9000-9002,9004-9010 | tcp/9003: tcp/9003"},
		{"what a router without an exit needs", "exits: [{for: a, via: b, router: true, otherwise: block}]", "",
			"icmp: icmp; tcp but 53; udp but 53,123 | tcp/53: tcp/53; udp/53,123"},
	} {
		var got []string
		for _, p := range probesOf(parsed(t, portsNetwork+c.old), parsed(t, portsNetwork+c.now)) {
			got = append(got, p.String()+": "+strings.Join(flowTexts(p.stands, p.Six), "; "))
		}
		if s := strings.Join(got, " | "); s != c.want {
			t.Errorf("%s:\n%s, want\n%s", c.name, s, c.want)
		}
	}
}

// The law of diff: what a probe is asked is true of every port that it stands for, in both files.
func TestAProbeStandsForAllItsPorts(t *testing.T) {
	seed := rand.Int63()
	random := rand.New(rand.NewSource(seed))
	for round := range 30 {
		routers := round%2 == 1
		files := [2]*spec.Network{parsed(t, portsNetwork+randomPolicy(random)), parsed(t, portsNetwork+randomPolicy(random))}
		networks, err := bothNetworks(files, live{})
		if err != nil {
			t.Fatal(err)
		}
		covered := map[trace.Protocol]int{}
		for _, p := range probesOf(files[:]...) {
			for i, n := range networks {
				want := n.Reach(groupsOf(files[i], n, *p, routers), p.flow())
				for _, s := range p.stands {
					if p.part == others && i == 0 {
						covered[s.protocol] += s.last - s.first + 1
					}
					for _, port := range []int{s.first, s.last, s.first + random.Intn(s.last-s.first+1)} {
						q := *p
						q.Protocol, q.Port = s.protocol, uint16(port)
						got := n.Reach(groupsOf(files[i], n, q, routers), q.flow())
						if x, y := answersOf(&want), answersOf(&got); x != y {
							t.Fatalf("seed %d: %v says in file %d\n%s\nbut %v\n%s", seed, p, i, x, q, y)
						}
					}
				}
			}
		}
		if covered[trace.TCP] != lastPort || covered[trace.UDP] != lastPort || covered[trace.ICMP] != 1 {
			t.Fatalf("seed %d: %v ports are spoken of", seed, covered)
		}
	}
}

// answersOf is a matrix without what is said of it. A router's own address is that of what is
// published there: what outside reaches by it is in other columns.
func answersOf(m *trace.Matrix) string {
	var b strings.Builder
	each(m, func(i, j int) {
		if m.Groups[i].Place.Kind == trace.Internet && m.Groups[j].Place.Kind == trace.Router && !m.Groups[j].Anyone {
			return
		}
		fmt.Fprintf(&b, "%s → %s: %s %s\n", m.Groups[i].Name, m.Groups[j].Name, wordOf(m, i, j), m.Ways[i][j])
	})
	return b.String()
}

// randomPolicy has rules and published ports whose ends meet now and then.
func randomPolicy(random *rand.Rand) string {
	ports := func() (string, int) {
		first := 8000 + random.Intn(12)
		last := first + random.Intn(6)
		return fmt.Sprintf("%d-%d/%s", first, last, []string{"tcp", "udp"}[random.Intn(2)]), last - first
	}
	b := "policy:\n  default: " + []string{"allow", "deny"}[random.Intn(2)] + "\n  rules:\n"
	for range 4 {
		what, _ := ports()
		if k := random.Intn(5); k < 3 {
			what = []string{"tcp", "icmp", "[udp, 22/tcp]"}[k]
		}
		who := []string{"a", "b", "any", "internet"}
		from := random.Intn(4)
		b += fmt.Sprintf("    - {from: %s, to: %s, %s: %s}\n", who[from], who[random.Intn(3)], []string{"allow", "deny"}[random.Intn(2)], what)
	}
	what, more := ports()
	return b + fmt.Sprintf("publish:\n  - {at: a, port: %s, to: 10.2.0.10:%d}\n", what, 8000+random.Intn(12)-more%2)
}

// Who answers is found by names, also where what is published has none but its ports.
func TestPublishedPortsHaveTheirProbesNames(t *testing.T) {
	n := parsed(t, portsNetwork+"publish: [{at: a, port: 8000-8010/tcp, to: 10.2.0.10:9000}]")
	networks, err := bothNetworks([2]*spec.Network{n, n}, live{})
	if err != nil {
		t.Fatal(err)
	}
	probes := probesOf(n)
	i := slices.IndexFunc(probes, func(p *probe) bool { return p.part == published })
	groups := groupsOf(n, networks[0], *probes[i], false)
	last := groups[len(groups)-1]
	if last.Seen != netip.MustParseAddr("192.0.2.1") || publishedTo(last.Name, []*probe{probes[i]}) != "a:8000-8010/tcp" {
		t.Errorf("%+v", last)
	}
}
