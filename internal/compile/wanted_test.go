package compile_test

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"tombolo/internal/spec"
	"tombolo/internal/state"
	trace "tombolo/internal/trace/learned"
)

// What package learned finds by Dijkstra's search is as short as what converge finds, also
// where routers hear each other on a LAN and not all believe each other.
func TestWantedWaysAreAsShortAsThoseThatConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, ds := spec.Parse("network.yaml", []byte(randomNetwork(t)))
		if n == nil {
			t.Fatalf("the generator made a bad file: %v", ds)
		}
		f := newFabric(t, n, nil)
		held := trace.Routes(trace.World{Routers: f.routers, Foreign: func(site, _ string) []netip.Prefix {
			i, _ := n.Site(site)
			longer, _ := foreignPrefix(i).Addr().Prefix(24)
			return []netip.Prefix{longer}
		}})
		said := make([]map[netip.Prefix]learned, len(f.routers))
		for i, r := range f.routers {
			said[i] = map[netip.Prefix]learned{}
			for _, x := range held[r.Site].Routes {
				if r.Babel != nil && x.Table == r.Babel.Table && x.Protocol == r.Babel.Protocol && x.Device != "core" {
					said[i][x.Dst] = f.said(t, i, x, held[r.Site].Next)
				}
			}
		}
		for i := range f.routers {
			for p, want := range f.learned[i] {
				if n.Sites[i].Routing != spec.Babel {
					continue
				}
				if got, ok := said[i][p]; !ok || f.length(said, i, p) != f.length(f.learned, i, p) {
					t.Fatalf("%s goes to %s by %+v (%d), want %+v (%d)", f.routers[i].Site, p, got, f.length(said, i, p), want, f.length(f.learned, i, p))
				}
			}
			for p := range said[i] {
				if _, ok := f.learned[i][p]; !ok {
					t.Fatalf("%s has a way to %s", f.routers[i].Site, p)
				}
			}
		}
	})
}

// said is a route with the router that it leads to.
func (f fabric) said(t failer, at int, r state.Route, next map[netip.Addr]trace.End) learned {
	for _, l := range f.routers[at].Babel.Links {
		if l.Device != r.Device {
			continue
		}
		peer := l.Peer
		if !l.Tunnel {
			peer = next[r.Gateway].Site
		}
		to := slices.IndexFunc(f.routers, func(o state.Router) bool { return o.Site == peer })
		if to < 0 {
			t.Fatalf("nobody is the next of %+v", r)
		}
		return learned{device: l.Device, next: to, tunnel: l.Tunnel}
	}
	t.Fatalf("%s does not speak by the device of %+v", f.routers[at].Site, r)
	return learned{}
}

// length is the cost of a way.
func (f fabric) length(ways []map[netip.Prefix]learned, at int, p netip.Prefix) int {
	cost := 0
	for range f.routers {
		l, ok := ways[at][p]
		if !ok {
			return cost
		}
		for _, x := range f.routers[at].Babel.Links {
			if x.Device == l.device {
				cost += x.Cost
			}
		}
		at = l.next
	}
	return -1 // a loop
}
