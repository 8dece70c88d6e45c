package trace_test

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"tombolo/internal/trace"
)

// wheel is a network of sites around five that are all joined to each other: every other one has a
// link to two of them, so that ways are of up to three links.
func wheel(sites int, policy string) string {
	var b strings.Builder
	b.WriteString("network: wheel\noverlay: 10.255.0.0/20\nsites:\n")
	for i := range sites {
		fmt.Fprintf(&b, "  s%d: {address: 10.255.%d.%d, endpoint: \"198.18.%d.%d\", lan: {lan0: 10.%d.%d.0/24}, uplink: {eth0: dhcp}}\n", i, i/250, i%250+1, i/250, i%250+1, 1+i/250, i%250)
	}
	var links []string
	for i := range sites {
		for k := range min(i, 5) {
			if i < 5 || k == i%5 || k == (i+1)%5 {
				links = append(links, fmt.Sprintf("[s%d, s%d]", k, i))
			}
		}
	}
	fmt.Fprintf(&b, "links: [%s]\n", strings.Join(links, ", "))
	b.WriteString(policy)
	return b.String()
}

// policy denies a port between neighbours, and says who may do what else.
func policy(sites int) string {
	var b strings.Builder
	b.WriteString("publish:\n  - {at: s0, port: 8443/tcp, to: 10.1.1.10:443}\npolicy:\n  default: deny\n  rules:\n")
	for i := 0; i+3 < sites; i += 3 {
		fmt.Fprintf(&b, "    - {from: [s%d, s%d], to: s%d, deny: [22/tcp, icmp]}\n", i, i+1, i+2)
	}
	b.WriteString("    - {from: any, to: any, allow: [22/tcp, 443/tcp, icmp]}\n    - {from: any, to: internet, allow: all}\n")
	return b.String()
}

// busy is the time that processors have spent on this program: others may run beside it.
func busy() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkVerdict is one flow, between any two LANs of a network of 50 sites.
func BenchmarkVerdict(b *testing.B) {
	n := build(b, wheel(50, policy(50)), nil)
	lans := make([]netip.Addr, 50)
	for i := range lans {
		lans[i] = netip.AddrFrom4([4]byte{10, 1, byte(i), 10})
	}
	b.ReportAllocs()
	yes, i, began := 0, 0, busy()
	for b.Loop() {
		from, to := i%50, i/50%50
		i++
		v := n.Verdict(trace.Flow{From: trace.Place{Kind: trace.Host, Site: fmt.Sprintf("s%d", from), Addr: lans[from]}, To: lans[to], Protocol: trace.TCP, Port: 443})
		if v.Delivered {
			yes++
		}
	}
	if yes == 0 {
		b.Fatal("nothing was delivered")
	}
	b.ReportMetric(float64(b.N)/(busy()-began).Seconds(), "flows/cpu-s")
}

// BenchmarkReach is all pairs of the LANs of 200 sites, and outside.
func BenchmarkReach(b *testing.B) {
	n := build(b, wheel(200, policy(200)), nil)
	groups := []trace.Group{{Name: "outside", Place: trace.Place{Kind: trace.Internet}, Seen: netip.MustParseAddr("198.51.100.7")}}
	for i := range 200 {
		a := netip.AddrFrom4([4]byte{10, 1, byte(i), 10})
		groups = append(groups, trace.Group{Name: fmt.Sprintf("s%d", i), Place: trace.Place{Kind: trace.Host, Site: fmt.Sprintf("s%d", i), Addr: a}, Seen: a})
	}
	b.ReportAllocs()
	began := busy()
	for b.Loop() {
		n.Reach(groups, trace.Flow{Protocol: trace.TCP, Port: 22})
	}
	b.ReportMetric((busy()-began).Seconds()/float64(b.N), "cpu-s/op")
}

// BenchmarkNew is what comes before the first flow in a network of 200 sites.
func BenchmarkNew(b *testing.B) {
	text := wheel(200, policy(200))
	began := busy()
	for b.Loop() {
		build(b, text, nil)
	}
	b.ReportMetric((busy()-began).Seconds()/float64(b.N), "cpu-s/op")
}
