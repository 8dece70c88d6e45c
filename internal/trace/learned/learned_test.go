package learned_test

import (
	"fmt"
	"strings"
	"testing"

	"tombolo/internal/compile"
	"tombolo/internal/key"
	"tombolo/internal/spec"
	"tombolo/internal/state"
	"tombolo/internal/trace/learned"
)

// network compiles a file; every site and device gets a key.
func network(t testing.TB, text string) []state.Router {
	t.Helper()
	n, ds := spec.Parse("network.yaml", []byte(text))
	if n == nil {
		t.Fatalf("the file is bad: %v", ds)
	}
	keys := map[string]key.Public{}
	for i, s := range n.Sites {
		keys[s.Name] = key.Public{byte(i), byte(i >> 8), 1}
	}
	if n.Clients != nil {
		keys[spec.AccessKey] = key.Public{1, 1, 3}
		for i, d := range n.Clients.Devices {
			keys[d.Name] = key.Public{byte(i), byte(i >> 8), 2}
		}
	}
	return compile.All(n, compile.Options{Keys: keys})
}

// mesh is a network in which each site has a link to those whose number is near, and to a hub.
func mesh(sites int) string {
	var b strings.Builder
	b.WriteString("network: n\noverlay: 10.99.0.0/16\nclients: {pool: 10.98.0.0/16, at: [s0, s1, s2], devices: {")
	for i := range 20 {
		fmt.Fprintf(&b, "d%d: , ", i)
	}
	b.WriteString("}}\nsites:\n")
	for i := range sites {
		fmt.Fprintf(&b, "  s%d: {address: 10.99.1.%d, endpoint: s%d.example.net, lan: {lan0: 10.%d.%d.0/24}, uplink: {eth0: dhcp}}\n", i, i+1, i, i/200, i%200+1)
	}
	b.WriteString("links: mesh\nexits: [{for: s3, via: [s0, s1]}]\n")
	return b.String()
}

func BenchmarkRoutes(b *testing.B) {
	for _, sites := range []int{50, 200} {
		w := learned.World{Routers: network(b, mesh(sites)), Doors: map[string]string{"d0": "s1", "d1": "s2"}}
		b.Run(fmt.Sprint(sites), func(b *testing.B) {
			for b.Loop() {
				learned.Routes(w)
			}
		})
	}
}
