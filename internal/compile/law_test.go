package compile_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tombolo/internal/compile"
	"tombolo/internal/key"
	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// fabric follows packets over what all routers hold, as the kernel and WireGuard would:
// by route, compiled or learned, then by the AllowedIPs of the interface's peers, and at
// the other end past the AllowedIPs of the peer it came from.
type fabric struct {
	network *spec.Network
	routers []state.Router
	learned []map[netip.Prefix]learned
	keys    map[key.Public]int
	devices map[netip.Addr]int // roaming devices, and the doors that they are at
}

func newFabric(t failer, n *spec.Network, devices map[netip.Addr]int) fabric {
	f := fabric{network: n, keys: map[key.Public]int{}, devices: devices}
	keys := allKeys(n)
	for _, k := range keys {
		f.keys[k] = -1 // a device's
	}
	for i, s := range n.Sites {
		f.keys[keys[s.Name]] = i
	}
	f.routers = compile.All(n, compile.Options{Keys: keys})
	for a, door := range devices {
		if b := f.routers[door].Babel; b != nil {
			b.Announce = append(b.Announce, state.Announcement{Dst: netip.PrefixFrom(a, a.BitLen()), While: state.Always})
		}
	}
	f.learned = converge(t, f.routers)
	return f
}

// allKeys returns a key of each site, and of each roaming device but the last.
func allKeys(n *spec.Network) map[string]key.Public {
	keys := map[string]key.Public{}
	for i, s := range n.Sites {
		keys[s.Name] = key.Public{byte(i + 1), byte((i + 1) >> 8), 1}
	}
	if n.Clients != nil {
		for i, d := range n.Clients.Devices[:len(n.Clients.Devices)-1] {
			keys[d.Name] = key.Public{byte(i + 1), 0, 2}
		}
	}
	return keys
}

// walk returns the sites that a packet passes, or why it is lost.
func (f fabric) walk(from int, src, dst netip.Addr) ([]int, error) {
	path := []int{from}
	for at := from; ; {
		if f.owns(at, dst) {
			return path, nil
		}
		if len(path) > len(f.routers) {
			return path, fmt.Errorf("it loops: %v", path)
		}
		next, err := f.next(at, src, dst)
		if err != nil {
			return path, err
		}
		at, path = next, append(path, next)
	}
}

// next returns the site to which a router hands a packet.
func (f fabric) next(at int, src, dst netip.Addr) (int, error) {
	here := f.routers[at]
	r, ok := lookup(here.Routes, dst)
	device, onLAN := r.Device, -1
	for p, l := range f.learned[at] {
		if !p.Contains(dst) || ok && p.Bits() <= r.Dst.Bits() {
			continue
		}
		ok, r.Dst, device, onLAN = true, p, l.device, -1
		if !l.tunnel {
			onLAN = l.next
		}
	}
	switch {
	case !ok:
		return 0, fmt.Errorf("%s has no route to %s", here.Site, dst)
	case onLAN >= 0:
		return onLAN, nil // nothing is filtered there
	}
	peer, ok := choose(here, device, dst)
	if !ok {
		return 0, fmt.Errorf("%s: no peer of %s has %s in its AllowedIPs", here.Site, device, dst)
	}
	next := f.keys[peer.PublicKey]
	if !f.admits(next, at, src) {
		return 0, fmt.Errorf("%s drops %s: not in the AllowedIPs of %s", f.routers[next].Site, src, here.Site)
	}
	return next, nil
}

func (f fabric) owns(site int, a netip.Addr) bool {
	if door, is := f.devices[a]; is {
		return door == site
	}
	s := f.network.Sites[site]
	if s.Address == a || s.Address6 == a || len(s.Babel) > 0 && foreignPrefix(site).Contains(a) {
		return true
	}
	return slices.ContainsFunc(s.LANs, func(l spec.LAN) bool { return l.Prefixes[0].Prefix.Contains(a) })
}

// admits reports whether site lets in a packet with source src over its link with peer.
func (f fabric) admits(site, peer int, src netip.Addr) bool {
	for _, i := range f.routers[site].Interfaces {
		for _, p := range i.WireGuard.Peers {
			if f.keys[p.PublicKey] == peer {
				q, ok := choose(f.routers[site], i.Name, src)
				return ok && q.PublicKey == p.PublicKey
			}
		}
	}
	return false
}

func lookup(routes []state.Route, dst netip.Addr) (best state.Route, ok bool) {
	for _, r := range routes {
		if r.Type == state.Unicast && r.Dst.Contains(dst) && (!ok || r.Dst.Bits() > best.Dst.Bits()) {
			best, ok = r, true
		}
	}
	return best, ok
}

// choose finds the peer by longest AllowedIPs prefix, as WireGuard does.
func choose(r state.Router, device string, a netip.Addr) (best state.Peer, ok bool) {
	bits := -1
	for _, i := range r.Interfaces {
		if i.Name != device {
			continue
		}
		for _, p := range i.WireGuard.Peers {
			for _, prefix := range p.AllowedIPs {
				if prefix.Contains(a) && prefix.Bits() > bits {
					best, ok, bits = p, true, prefix.Bits()
				}
			}
		}
	}
	return best, ok
}

// A connected network of any shape, static, Babel or mixed, carries a packet between any
// two LANs and between any two routers, and back by the same way.
func TestEveryPairIsReachedThereAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, ds := spec.Parse("network.yaml", []byte(randomNetwork(t)))
		if n == nil {
			t.Fatalf("the generator made a bad file: %v", ds)
		}
		f := newFabric(t, n, nil)
		for a := range n.Sites {
			for b := range n.Sites {
				if a == b {
					continue
				}
				pairs := [][2]netip.Addr{
					{n.Sites[a].Address, n.Sites[b].Address},
					{n.Sites[a].Address6, n.Sites[b].Address6},
					{lanHost(n, a), lanHost(n, b)},
				}
				if len(n.Sites[b].Babel) > 0 {
					pairs = append(pairs, [2]netip.Addr{lanHost(n, a), foreignPrefix(b).Addr().Next()})
				}
				for _, pair := range pairs {
					there, err := f.walk(a, pair[0], pair[1])
					if err != nil {
						t.Fatalf("from %s to %s: %v", pair[0], pair[1], err)
					}
					back, err := f.walk(b, pair[1], pair[0])
					if err != nil {
						t.Fatalf("back from %s to %s: %v", pair[1], pair[0], err)
					}
					slices.Reverse(back)
					if !slices.Equal(f.fixed(there), f.fixed(back)) {
						t.Fatalf("there %v, and back %v", there, back)
					}
				}
			}
		}
	})
}

// fixed returns the part of a path that the file fixes. On a LAN routers hear each other
// that no link joins, and not all believe each other; there and back may then differ within
// a Babel region, and the doors and what is static may not.
func (f fabric) fixed(path []int) []int {
	lan := slices.ContainsFunc(f.network.Links.WithOptions(), func(p [2]int) bool { return f.network.Links.Options(p[0], p[1]).NoTunnel })
	static := func(i int) bool { return i >= 0 && i < len(path) && f.network.Sites[path[i]].Routing == spec.Static }
	var out []int
	for i, site := range path {
		if !lan || static(i-1) || static(i) || static(i+1) {
			out = append(out, site)
		}
	}
	return out
}

func lanHost(n *spec.Network, i int) netip.Addr {
	return n.Sites[i].LANs[0].Prefixes[0].Prefix.Addr().Next()
}

// randomNetwork writes a network file of 2 to 12 sites that is connected: a random tree
// whose upper ends can be dialled, and more links with costs; some of Babel sites without a
// tunnel, and some Babel sites with a router of no site beside them. Some sites are doors
// for three roaming devices.
func randomNetwork(t *rapid.T) string {
	count := rapid.IntRange(2, 12).Draw(t, "sites")
	var b strings.Builder
	fmt.Fprintf(&b, "network: n\noverlay: 10.99.0.0/16\nsettings: {port: 20000}\n")
	if doors := rapid.SliceOfNDistinct(rapid.IntRange(0, count-1), 0, 4, rapid.ID).Draw(t, "doors"); len(doors) > 0 {
		fmt.Fprintf(&b, "clients: {pool: 10.98.0.0/16, at: [s%s], devices: {phone: , laptop: , pi: }}\n", strings.Trim(strings.Join(strings.Fields(fmt.Sprint(doors)), ", s"), "[]"))
	}
	b.WriteString("sites:\n")
	speaks := make([]bool, count)
	for i := range count {
		fmt.Fprintf(&b, "  s%d:\n    address: 10.99.1.%d\n    lan: {lan0: 10.%d.0.0/24}\n", i, i+1, i+1)
		fmt.Fprintf(&b, "    uplink: {eth9: {address: 172.16.0.%d/24, gateway: 172.16.0.254}}\n", i+1)
		if i == 0 || rapid.Bool().Draw(t, "endpoint") {
			fmt.Fprintf(&b, "    endpoint: s%d.example.net\n", i)
		}
		speaks[i] = rapid.Bool().Draw(t, "babel")
		switch {
		case !speaks[i]:
			b.WriteString("    routing: static\n")
		case rapid.IntRange(0, 3).Draw(t, "foreign") == 0:
			fmt.Fprintf(&b, "    babel: {core: {accept: %s}}\n", foreignPrefix(i))
		}
	}
	b.WriteString("links:\n")
	linked := map[[2]int]bool{}
	for i := 1; i < count; i++ {
		// To site 0, which can be dialled by all, or on top of that to any other.
		linked[[2]int{0, i}] = true
		if j := rapid.IntRange(0, i-1).Draw(t, "other"); j > 0 {
			linked[[2]int{j, i}] = true
		}
	}
	for i := range count {
		for j := i + 1; j < count; j++ {
			switch {
			case !linked[[2]int{i, j}]:
			case speaks[i] && speaks[j] && rapid.IntRange(0, 4).Draw(t, "no tunnel") == 0:
				fmt.Fprintf(&b, "  - {between: [s%d, s%d], transport: none, on: {s%d: eth9, s%d: eth9}}\n", i, j, i, j)
			default:
				fmt.Fprintf(&b, "  - {between: [s%d, s%d], cost: %d}\n", i, j, rapid.IntRange(1, 5).Draw(t, "cost"))
			}
		}
	}
	return b.String()
}

// foreignPrefix is what a site lets in from a router of no site, where it does.
func foreignPrefix(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 100 + byte(i), 0, 0}), 16)
}
