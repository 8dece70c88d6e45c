package compile_test

import (
	"fmt"
	"strings"
	"testing"

	"tombolo/internal/compile"
)

// mesh writes the network file of a full mesh.
func mesh(sites int) string {
	var b strings.Builder
	b.WriteString("network: big\noverlay: 10.200.0.0/16\nlinks: mesh\nsites:\n")
	for i := range sites {
		fmt.Fprintf(&b, "  site%d:\n    address: 10.200.%d.%d\n    endpoint: 198.18.%d.%d\n    lan: {br-lan: 10.%d.%d.0/24}\n",
			i, (i+1)>>8, (i+1)&255, (i+1)>>8, (i+1)&255, i>>8, i&255)
	}
	return b.String()
}

// Every router's state of 300 sites and 44,850 links.
func BenchmarkAllOf300(b *testing.B) {
	n := parse(b, mesh(300))
	b.ReportAllocs()
	for b.Loop() {
		compile.All(n, compile.Options{})
	}
}

// One router's state of 1,000 sites and 499,500 links.
func BenchmarkOneOf1000(b *testing.B) {
	n := parse(b, mesh(1000))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := compile.Router(n, "site500", compile.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

// The same, with static routing.
func BenchmarkOneOf1000Static(b *testing.B) {
	n := parse(b, "routing: static\n"+mesh(1000))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := compile.Router(n, "site500", compile.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
