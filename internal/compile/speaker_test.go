package compile_test

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tombolo/internal/compile"
	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// failer is a testing.T or a rapid.T.
type failer interface {
	Fatalf(format string, args ...any)
}

// learned is a route that a speaker has chosen.
type learned struct {
	origin, metric uint32
	device         string
	next           int // -1: the router's own, or that of a router of no site
	tunnel         bool
}

// nobody is the router-id of routers of no site.
const nobody = 0xdeadbeef

// converge returns what all speakers know when all is quiet: the shortest path to each
// announcement, as far as each believes it. It is Bellman and Ford's, not Babel.
func converge(t failer, routers []state.Router) []map[netip.Prefix]learned {
	known := make([]map[netip.Prefix]learned, len(routers))
	for i := range known {
		known[i] = map[netip.Prefix]learned{}
	}
	for range len(routers) + 1 {
		next := make([]map[netip.Prefix]learned, len(routers))
		for i := range routers {
			next[i] = hears(t, routers, known, i)
		}
		known = next
	}
	for i := range known {
		for p, l := range known[i] {
			if l.next < 0 {
				delete(known[i], p) // it is in main, by a device of the router's own
			}
		}
	}
	return known
}

// hears returns what one speaker chooses from what its neighbours know.
func hears(t failer, routers []state.Router, known []map[netip.Prefix]learned, i int) map[netip.Prefix]learned {
	b := routers[i].Babel
	out := map[netip.Prefix]learned{}
	if b == nil {
		return out
	}
	offer := func(l state.BabelLink, p netip.Prefix, r learned) {
		if best, met := out[p]; takes(b, l, p, r.origin) && (!met || r.metric < best.metric) {
			out[p] = r
		}
	}
	for _, a := range b.Announce {
		holds(t, routers[i], a)
		out[a.Dst] = learned{origin: b.Site, next: -1}
	}
	for _, l := range b.Links {
		for _, p := range l.Foreign {
			longer, _ := p.Addr().Prefix(24)
			offer(l, longer, learned{origin: nobody, metric: 1, next: -1})
		}
		for _, j := range neighbours(t, routers, i, l) {
			for p, r := range known[j] {
				offer(l, p, learned{r.origin, r.metric + uint32(l.Cost)<<12 + tie(i, j), l.Device, j, l.Tunnel})
			}
		}
	}
	return out
}

// takes reports whether a speaker believes an announcement: state.Babel in other words.
func takes(b *state.Babel, l state.BabelLink, p netip.Prefix, origin uint32) bool {
	in := func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) }
	if slices.ContainsFunc(l.Foreign, in) {
		return true
	}
	if len(l.Only) > 0 && !slices.Contains(l.Only, origin) {
		return false
	}
	return slices.ContainsFunc(b.Accept, func(a state.Accept) bool {
		return a.Dst == p && slices.Contains(a.Origins, origin) || a.Within && len(a.Origins) == 0 && in(a.Dst)
	})
}

// neighbours returns the routers that a speaker hears on a link: the other end of a tunnel,
// and on a LAN all that speak there.
func neighbours(t failer, routers []state.Router, i int, l state.BabelLink) []int {
	var out []int
	for j, r := range routers {
		if i == j || r.Babel == nil || l.Tunnel && r.Site != l.Peer {
			continue
		}
		for _, other := range r.Babel.Links {
			if l.Tunnel && other.Tunnel && other.Peer == routers[i].Site || !l.Tunnel && l.Device == "eth9" && other.Device == "eth9" {
				out = append(out, j)
			}
		}
	}
	if l.Tunnel && len(out) != 1 {
		t.Fatalf("%s speaks with %s, which does not speak with it", routers[i].Site, l.Peer)
	}
	return out
}

// tie tells equally long ways apart, the same from both ends, as real delays would.
func tie(i, j int) uint32 {
	h := fnv.New32a()
	_, _ = fmt.Fprint(h, min(i, j), max(i, j))
	return h.Sum32() % 256
}

// holds fails where the condition of an announcement can never be true.
func holds(t failer, r state.Router, a state.Announcement) {
	switch a.While {
	case state.Always:
		return
	case state.Carrier:
		if slices.ContainsFunc(r.LANs, func(l state.LAN) bool { return l.Device == a.Device && slices.Contains(l.Prefixes, a.Dst) }) {
			return
		}
	case state.Handshake:
		for _, f := range r.Interfaces {
			if f.Name == a.Device && slices.ContainsFunc(f.WireGuard.Peers, func(p state.Peer) bool { return p.Name == a.Peer }) {
				return
			}
		}
	}
	t.Fatalf("%s announces %+v", r.Site, a)
}

// What a router takes is what others announce by the file, from whom they do, and nothing
// else.
func TestAcceptIsWhatOthersAnnounce(t *testing.T) {
	type said struct {
		dst    netip.Prefix
		origin uint32
	}
	rapid.Check(t, func(t *rapid.T) {
		n, ds := spec.Parse("network.yaml", []byte(randomNetwork(t)))
		if n == nil {
			t.Fatalf("the generator made a bad file: %v", ds)
		}
		routers := compile.All(n, compile.Options{Keys: allKeys(n)})
		for i, r := range routers {
			if r.Babel == nil {
				continue
			}
			for _, a := range r.Babel.Accept {
				if slices.ContainsFunc(r.Babel.Announce, func(x state.Announcement) bool { return x.Dst == a.Dst }) {
					t.Fatalf("%s takes %v, which it announces itself", r.Site, a.Dst)
				}
				if a.Mobile != (n.Clients != nil && a.Dst.IsSingleIP() && (n.Clients.Pool.Contains(a.Dst.Addr()) || n.Clients.Pool6.Contains(a.Dst.Addr()))) {
					t.Fatalf("%s takes %v, mobile %t", r.Site, a.Dst, a.Mobile)
				}
			}
			want, got := map[said]bool{}, map[said]bool{}
			others := heard(n, i)
			if n.Sites[i].Routing == spec.Static {
				others = nil // it speaks for its devices' sake alone, with nobody
			}
			for _, j := range others {
				for _, a := range routers[j].Babel.Announce {
					want[said{a.Dst, routers[j].Babel.Site}] = true
				}
				if len(n.Sites[j].Babel) > 0 {
					want[said{foreignPrefix(j), nobody}] = true
				}
			}
			// The door that a device is at announces it, also where that is the router itself.
			for _, j := range append(others, i) {
				for _, p := range devicesAt(routers[j]) {
					want[said{p, routers[j].Babel.Site}] = true
				}
			}
			for _, a := range r.Babel.Accept {
				if a.Within {
					got[said{a.Dst, nobody}] = true
				}
				for _, o := range a.Origins {
					got[said{a.Dst, o}] = true
				}
			}
			for x := range want {
				if !got[x] {
					t.Fatalf("%s does not take %v from %#x", r.Site, x.dst, x.origin)
				}
			}
			for x := range got {
				if !want[x] {
					t.Fatalf("%s takes %v from %#x, which does not announce it", r.Site, x.dst, x.origin)
				}
			}
		}
	})
}

// heard returns the routers of a site's Babel region, without itself. Another region on the
// same LAN is heard too, and not believed.
func heard(n *spec.Network, from int) []int {
	out := []int{from}
	for at := 0; at < len(out); at++ {
		for j := range n.Sites {
			if n.Sites[j].Routing == spec.Babel && !slices.Contains(out, j) && n.Links.Has(out[at], j) && n.CanLink(out[at], j) {
				out = append(out, j)
			}
		}
	}
	return out[1:]
}

// In whatever order the file names the sites, each router gets the same.
func TestOrderOfTheFileDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := randomNetwork(t)
		head, rest, _ := strings.Cut(text, "sites:\n")
		sites, links, _ := strings.Cut(rest, "links:\n")
		blocks := strings.Split(sites, "  s")[1:]
		order := rapid.Permutation(blocks).Draw(t, "order")
		shuffled := head + "sites:\n  s" + strings.Join(order, "  s") + "links:\n" + links
		n, _ := spec.Parse("network.yaml", []byte(text))
		m, ds := spec.Parse("network.yaml", []byte(shuffled))
		if m == nil {
			t.Fatalf("the generator made a bad file: %v", ds)
		}
		for _, s := range n.Sites {
			want, _ := compile.Router(n, s.Name, compile.Options{})
			got, _ := compile.Router(m, s.Name, compile.Options{})
			if d := cmp.Diff(string(want.Encode()), string(got.Encode())); d != "" {
				t.Fatalf("%s in another order:\n%s", s.Name, d)
			}
		}
	})
}

// Of two links between the same regions the cheaper one is the door, and of equal ones the
// first by name. The other keeps its peers, which may send nothing.
func TestOneDoorBetweenTwoRegions(t *testing.T) {
	for costs, want := range map[[2]int]string{{1, 2}: "a", {2, 1}: "b", {1, 1}: "a"} {
		n := parse(t, fmt.Sprintf(`network: n
overlay: 10.9.0.0/24
sites:
  a: {endpoint: a.example.net}
  b: {endpoint: b.example.net}
  s: {routing: static, endpoint: s.example.net}
links: [[a, b], {between: [s, a], cost: %d}, {between: [b, s], cost: %d}]
`, costs[0], costs[1]))
		for _, r := range compile.All(n, compile.Options{}) {
			for _, f := range r.Interfaces {
				for _, p := range f.WireGuard.Peers {
					names := []string{r.Site, p.Name}
					slices.Sort(names)
					if carries := len(p.AllowedIPs) > 0; carries != (names[1] == "b" || names[0] == want) {
						t.Errorf("costs %v: %s lets %s send %v", costs, r.Site, p.Name, p.AllowedIPs)
					}
				}
			}
			ways := slices.ContainsFunc(r.Routes, func(x state.Route) bool { return x.Type == state.Unicast && x.Dst.Bits() > 0 })
			if r.Site != "s" && ways != (r.Site == want) {
				t.Errorf("costs %v: %s has the routes %v", costs, r.Site, r.Routes)
			}
		}
	}
}

// A leaf is believed what is its own; a site with more behind it, everything.
func TestLeafIsBelievedOnlyItself(t *testing.T) {
	n := parse(t, `network: n
overlay: 10.9.0.0/24
sites:
  hub: {address: 10.9.0.1, endpoint: hub.example.net}
  leaf: {address: 10.9.0.2}
  door: {address: 10.9.0.3}
  plain: {kind: plain, endpoint: p.example.net}
  core: {address: 10.9.0.4, babel: {br0: {accept: 10.64.0.0/16}}}
  more: {address: 10.9.0.5}
  behind: {address: 10.9.0.6, endpoint: b.example.net}
links: [{chain: [leaf, hub, door, plain]}, [hub, core], {chain: [hub, more, behind]}]
`)
	want := map[string][]uint32{
		"hub wg-leaf": {0x0a090002}, "hub wg-door": {0x0a090003}, "hub wg-core": nil, "hub wg-more": nil,
		"leaf wg-hub": nil, "door wg-hub": nil, "core wg-hub": nil, "core br0": {0x0a090004},
		"more wg-hub": nil, "more wg-behind": {0x0a090006}, "behind wg-more": nil,
	}
	for _, r := range compile.All(n, compile.Options{}) {
		if r.Babel == nil {
			continue
		}
		for _, l := range r.Babel.Links {
			name := r.Site + " " + l.Device
			only, known := want[name]
			if !known || !slices.Equal(l.Only, only) {
				t.Errorf("%s takes only %#x, want %#x", name, l.Only, only)
			}
			delete(want, name)
		}
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

// On a LAN where sites meet there is one link for all of them, with the highest of their
// costs and the key of the device.
func TestSitesOnOneLANAreOneLink(t *testing.T) {
	site := "{uplink: {eth0: {address: 10.8.0.%d/24, gateway: 10.8.0.254}}, babel: {eth0: {key: wire%s}}}"
	n := parse(t, "network: n\noverlay: 10.9.0.0/24\nsites:\n"+
		"  a: "+fmt.Sprintf(site, 1, ", accept: 10.64.0.0/16")+"\n  b: "+fmt.Sprintf(site, 2, "")+"\n  c: "+fmt.Sprintf(site, 3, "")+`
links:
  - {between: [a, b], transport: none, on: {a: eth0, b: eth0}, cost: 3}
  - {between: [a, c], transport: none, on: {a: eth0, c: eth0}}
`)
	routers := compile.All(n, compile.Options{})
	got := routers[0].Babel.Links
	if len(got) != 1 || got[0].Peer != "" || got[0].Tunnel || got[0].Cost != 3 || got[0].Key != "wire" || len(got[0].Only) != 2 || len(got[0].Foreign) != 1 {
		t.Errorf("a speaks on %+v", got)
	}
	if got := routers[1].Babel.Links; len(got) != 1 || got[0].Peer != "a" || got[0].Key != "wire" || got[0].Only != nil {
		t.Errorf("b speaks on %+v", got)
	}
}

// A tunnel of Babel routers carries IPv6 also through an uplink that leaves too little.
func TestBabelLinkIsNeverTooSmallForIPv6(t *testing.T) {
	n := parse(t, "network: n\noverlay: 10.9.0.0/24\nsites:\n  a: {endpoint: a.example.net, uplink: {ppp0: {dhcp: true, mtu: 1300}}}\n  b:\n  s: {routing: static}\n")
	r, err := compile.Router(n, "a", compile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{1280, 1220} { // to b, to s
		if got := r.Interfaces[i].MTU; got != want {
			t.Errorf("%s has MTU %d, want %d", r.Interfaces[i].Name, got, want)
		}
	}
}

// Where a site's prefix may be learned, a subnet that the router is in stays with it.
func TestSubnetIsCoveredByWhatMayBeLearned(t *testing.T) {
	n := parse(t, `network: n
overlay: 10.9.0.0/24
sites:
  a: {endpoint: a.example.net}
  b: {lan: {lan0: 192.168.1.0/24}, babel: {br0: {accept: 10.64.0.0/16}}}
`)
	routers := compile.All(n, compile.Options{})
	for p, want := range map[string][2]bool{"192.168.1.0/24": {true, false}, "10.64.7.0/24": {true, true}, "10.65.0.0/16": {false, false}} {
		for i, r := range routers {
			if got := compile.Covered(r, netip.MustParsePrefix(p)); got != want[i] {
				t.Errorf("%s is covered at %s: %t", p, r.Site, got)
			}
		}
	}
}

// What the fabric has no way for ends at the router, and is not sent to the Internet: but
// not what main has a route for, and not what is the router's own.
func TestWhatHasNoWayEndsHere(t *testing.T) {
	n := parse(t, `
network: n
overlay: 10.9.0.0/24
sites:
  a: {endpoint: a.example.net, lan: {lan0: 10.1.0.0/24}, babel: {lan0: {accept: 10.50.0.0/16}}}
  b: {endpoint: b.example.net, lan: {lan0: [10.2.0.0/24, "fd00:2::/64"]}}
  s: {routing: static, endpoint: s.example.net, lan: {lan0: 10.3.0.0/24}}
links: [[a, b], [b, s]]
`)
	for _, r := range compile.All(n, compile.Options{}) {
		var ends []string
		for _, x := range r.Routes {
			if x.Type == state.Unreachable && x.Dst.Bits() > 0 {
				ends = append(ends, x.Dst.String())
				if x.Table != 111 {
					t.Errorf("%s: %s ends in table %d, before it was looked up", r.Site, x.Dst, x.Table)
				}
			}
		}
		var order []string
		for _, x := range r.Rules {
			if x.Priority >= 520 && x.Priority < 540 && !x.IPv6 {
				order = append(order, fmt.Sprintf("%d %d", x.Priority, x.Table))
			}
		}
		six := n.Overlay6.String()
		want := map[string][]string{
			"a": {"10.2.0.0/24", "10.3.0.0/24", "10.9.0.0/24", "10.50.0.0/16", "fd00:2::/64", six},
			"b": {"10.1.0.0/24", "10.3.0.0/24", "10.9.0.0/24", "10.50.0.0/16", six},
		}[r.Site]
		if d := cmp.Diff(want, ends); d != "" {
			t.Errorf("%s (-want +got):\n%s", r.Site, d)
		}
		rules := []string{"520 110", "530 254", "531 111"}
		if r.Site == "s" {
			rules = rules[:1]
		}
		if d := cmp.Diff(rules, order); d != "" {
			t.Errorf("%s (-want +got):\n%s", r.Site, d)
		}
	}
}
