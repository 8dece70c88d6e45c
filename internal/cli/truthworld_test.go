package cli_test

import (
	cryptorand "crypto/rand"
	"net/netip"
	"slices"
	"strings"

	"tombolo/internal/compile"
	"tombolo/internal/key"
	"tombolo/internal/lab"
	"tombolo/internal/spec"
	"tombolo/internal/trace/learned"
)

// describe tells the tracer of the lab.
func (l *truth) describe() {
	l.Helper()
	l.world = learned.World{Routers: compile.All(l.network, compile.Options{Keys: l.keys()}), Doors: map[string]string{}}
	if l.phone {
		if !l.full {
			l.world.Takes = map[string][]netip.Prefix{"phone": l.inside()}
		}
		l.world.Doors["phone"] = l.doors[l.IntN(len(l.doors))]
		l.roam("phone", l.world.Doors["phone"])
	}
	addresses, gateways := map[[2]string][]netip.Prefix{}, map[[2]string][]netip.Addr{}
	l.outer, l.behind = map[netip.Addr]string{}, map[netip.Addr]netip.Addr{}
	all, err := l.lab.Nodes()
	l.do(err)
	for _, n := range all {
		if n.Kind == lab.Core {
			continue
		}
		l.nodes = append(l.nodes, n)
		if n.Kind != lab.RouterNode {
			continue
		}
		for _, d := range n.Devices {
			if d.Uplink {
				addresses[[2]string{n.Name, d.Name}] = d.Addresses
				if d.Public.IsValid() {
					for _, a := range d.Addresses { // it lets nobody in, in IPv6 too
						l.behind[a.Addr()] = d.Public
					}
				}
				for _, a := range d.Addresses {
					l.outer[a.Addr()] = n.Name
				}
			}
		}
		for line := range strings.Lines(l.in(n.Name, "sh", "-c", "ip -4 route show default; ip -6 route show default")) {
			if f := strings.Fields(line); len(f) > 4 && f[1] == "via" {
				at := [2]string{n.Name, f[4]}
				gateways[at] = append(gateways[at], netip.MustParseAddr(f[2]))
			}
		}
	}
	l.world.Uplinks = func(site, device string) ([]netip.Prefix, []netip.Addr) {
		return addresses[[2]string{site, device}], gateways[[2]string{site, device}]
	}
	l.world.Down = func(a, b string) bool { return l.down == [2]string{a, b} || l.down == [2]string{b, a} }
	l.world.Dead = func(site, device string) bool { return device != "" && l.dead == [2]string{site, device} }
	l.aim()
}

// inside is what a device without `full:` sends into its tunnel.
func (l *truth) inside() []netip.Prefix {
	out := []netip.Prefix{l.network.Overlay, l.network.Overlay6, l.network.Clients.Pool}
	for i := range l.network.Sites {
		for _, lan := range l.network.Sites[i].LANs {
			for _, m := range lan.Prefixes {
				out = append(out, m.Outside())
			}
		}
	}
	return out
}

// keys stand for those that the lab made: where packets go does not depend on which.
func (l *truth) keys() map[string]key.Public {
	l.Helper()
	out := map[string]key.Public{}
	names := []string{"phone", spec.AccessKey}
	for _, s := range l.sites {
		names = append(names, s.name)
	}
	for _, name := range names {
		k, err := key.NewPrivate(cryptorand.Reader)
		l.do(err)
		out[name] = k.Public()
	}
	return out
}

// addressesOf are those at which a node can be asked.
func (l *truth) addressesOf(n lab.Node) (out []netip.Addr) {
	l.Helper()
	if n.Kind == lab.DeviceNode {
		return []netip.Addr{netip.MustParseAddr(phone)}
	}
	for _, d := range n.Devices {
		for _, a := range d.Addresses {
			out = append(out, a.Addr())
		}
	}
	if i, ok := l.network.Site(n.Name); ok {
		out = append(out, l.network.Sites[i].Address, l.network.Sites[i].Address6)
	}
	return out
}

// aim finds what flows may go to, in its order.
func (l *truth) aim() {
	l.targets = []netip.Addr{netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("fd00:77::1")} // nobody's
	if l.phone {
		l.targets = append(l.targets, netip.MustParseAddr(phone))
	}
	for _, s := range l.sites {
		for k := range s.lans {
			for _, six := range []bool{false, true} {
				if !six || s.six {
					l.targets = append(l.targets, netip.MustParseAddr(s.host(k, six)))
				}
			}
		}
	}
	for _, n := range l.nodes {
		if n.Kind != lab.LANHost && n.Kind != lab.DeviceNode {
			l.targets = append(l.targets, l.addressesOf(n)...)
		}
	}
	l.targets = slices.DeleteFunc(l.targets, func(a netip.Addr) bool { return l.behind[a].IsValid() }) // the tracer knows of no NAT and no filter but ours
	if slices.ContainsFunc(l.sites, func(s truthSite) bool { return s.mapped }) {
		l.targets = append(l.targets, netip.MustParseAddr("192.168.1.10"), netip.MustParseAddr("fd00:ffff::10")) // from their own site
	}
}

// tunnels are the pairs of sites with a link, in the file's order.
func (l *truth) tunnels() (out [][2]string) {
	for i, a := range l.sites {
		for k, b := range l.sites {
			if i < k && l.network.Links.Has(i, k) {
				out = append(out, [2]string{a.name, b.name})
			}
		}
	}
	return out
}
