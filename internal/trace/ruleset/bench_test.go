package ruleset_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"tombolo/internal/trace/ruleset"
)

// manyRules is a network of 200 sites with a policy of 5000 rules.
func manyRules() string {
	r := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	b.WriteString("network: many\noverlay: 10.200.0.0/22\nlinks: {star: s0}\nsites:\n")
	for i := range 200 {
		fmt.Fprintf(&b, "  s%d: {address: 10.200.%d.%d, endpoint: s%d.example.net, lan: {lan0: [10.100.%d.0/24, 'fd00:%x::/64']}, uplink: {eth0: dhcp}}\n", i, (i+1)/256, (i+1)%256, i, i, i+1)
	}
	b.WriteString("policy:\n  default: deny\n  rules:\n")
	for range 5000 {
		fmt.Fprintf(&b, "    - {from: 10.100.%d.%d, to: s%d, %s: [%d/tcp, icmp]}\n", r.IntN(200), r.IntN(9), r.IntN(200), []string{"allow", "deny"}[r.IntN(2)], 1+r.IntN(2000))
	}
	return b.String()
}

// A packet through all that a router asks of it when it is forwarded.
func BenchmarkForwarded(b *testing.B) {
	for name, network := range map[string]string{"small": access, "many": manyRules()} {
		site, packet := "north", "tcp 192.168.1.10:1000 10.3.0.10:443 syn iif=lan0 oif=wg-door "
		if name == "many" {
			site, packet = "s7", "tcp 10.100.7.5:1000 10.100.9.7:443 syn iif=lan0 oif=wg-s0 "
		}
		table, err := ruleset.Parse(rulesets(b, network)[site])
		if err != nil {
			b.Fatal(err)
		}
		for _, words := range []string{"established", "new"} {
			for _, record := range []bool{false, true} {
				b.Run(fmt.Sprintf("%s/%s/steps=%v", name, words, record), func(b *testing.B) {
					first, conn := at(b, packet+words)
					p, c := first, *conn
					b.ReportAllocs()
					for b.Loop() {
						p, c = first, *conn
						for _, h := range []ruleset.Hook{ruleset.Prerouting, ruleset.Forward, ruleset.Postrouting} {
							table.Run(h, &p, &c, testEnv, record)
						}
					}
				})
			}
		}
	}
}

func BenchmarkParse(b *testing.B) {
	text := rulesets(b, manyRules())["s7"]
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ruleset.Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}
