package cli_test

import (
	cryptorand "crypto/rand"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tombolo/internal/compile"
	"tombolo/internal/key"
	"tombolo/internal/lab"
	"tombolo/internal/spec"
	"tombolo/internal/trace"
	"tombolo/internal/trace/truth"
)

// describe finds out how the lab is.
func (l *truthLab) describe() {
	l.Helper()
	l.now = truth.Situation{
		File: l.file.String(), Routers: compile.All(l.network, compile.Options{Keys: l.keys()}),
		RTT: 800 * time.Microsecond, Doors: map[string]string{},
	}
	l.outer, l.devices = map[netip.Addr]string{}, map[[2]string]bool{}
	for i := range l.now.Routers {
		r := &l.now.Routers[i]
		for _, f := range r.Interfaces {
			l.devices[[2]string{r.Site, f.Name}] = true
		}
		for _, d := range r.LANs {
			l.devices[[2]string{r.Site, d.Device}] = true
		}
		for _, d := range r.Uplinks {
			l.devices[[2]string{r.Site, d.Device}] = true
		}
	}
	if l.wire {
		l.now.Near = [][2]string{{l.sites[0].name, l.sites[1].name}}
	}
	for _, s := range l.sites {
		if s.guest {
			l.now.Doors[s.name] = l.doors[0]
		}
	}
	if l.phone {
		if !l.full {
			l.now.Takes = map[string][]netip.Prefix{"phone": l.inside()}
		}
		switch {
		case l.apart && !l.away:
			l.enters(l.doors[0]) // where it is
		case !l.away:
			l.enters(l.doors[l.IntN(len(l.doors))])
		}
	}
	all, err := l.lab.Nodes()
	l.do(err)
	for _, n := range all {
		if n.Kind == lab.Core {
			continue
		}
		l.nodes = append(l.nodes, n)
		kind := map[lab.NodeKind]trace.PlaceKind{lab.RouterNode: trace.Router, lab.LANHost: trace.Host, lab.DeviceNode: trace.Device, lab.InternetNode: trace.Internet}[n.Kind]
		l.now.Nodes = append(l.now.Nodes, truth.Node{Name: n.Name, Kind: kind, Site: n.Site, Addresses: l.addressesOf(n)})
		if n.Kind == lab.RouterNode {
			l.uplinksOf(n)
		}
	}
	l.aim()
}

// uplinksOf notes what a router's uplinks have.
func (l *truthLab) uplinksOf(n lab.Node) {
	l.Helper()
	gateways := map[string][]netip.Addr{}
	for line := range strings.Lines(l.in(n.Name, "sh", "-c", "ip -4 route show default; ip -6 route show default")) {
		if f := strings.Fields(line); len(f) > 4 && f[1] == "via" {
			gateways[f[4]] = append(gateways[f[4]], netip.MustParseAddr(f[2]))
		}
	}
	for _, d := range n.Devices {
		if !d.Uplink {
			continue
		}
		l.now.Uplinks = append(l.now.Uplinks, truth.Uplink{Site: n.Name, Device: d.Name, Addresses: d.Addresses, Gateways: gateways[d.Name], Public: d.Public})
		for _, a := range d.Addresses {
			l.outer[a.Addr()] = n.Name
			if d.Public.IsValid() { // its provider lets nobody in, in IPv6 too
				l.closed = append(l.closed, a.Addr())
			}
		}
	}
}

// enters takes the phone to a door; to none if that is empty.
func (l *truthLab) enters(door string) {
	l.Helper()
	l.now.Doors = maps.Clone(l.now.Doors) // those of former situations stay as they were
	l.now.Doors["phone"] = door
	if door == "" {
		delete(l.now.Doors, "phone")
	}
	l.roam("phone", door)
}

// inside is what a device without `full:` sends into its tunnel.
func (l *truthLab) inside() []netip.Prefix {
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
func (l *truthLab) keys() map[string]key.Public {
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
func (l *truthLab) addressesOf(n lab.Node) (out []netip.Addr) {
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
func (l *truthLab) aim() {
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
	l.targets = slices.DeleteFunc(l.targets, func(a netip.Addr) bool { return slices.Contains(l.closed, a) })
	for _, u := range l.now.Uplinks {
		if u.Public.IsValid() { // to it that is somebody outside
			l.targets = append(l.targets, u.Public)
		}
	}
	if slices.ContainsFunc(l.sites, func(s truthSite) bool { return s.mapped }) {
		l.targets = append(l.targets, netip.MustParseAddr("192.168.1.10"), netip.MustParseAddr("fd00:ffff::10")) // from their own site
	}
}

// tunnels are the pairs of sites with a link, in the file's order.
func (l *truthLab) tunnels() (out [][2]string) {
	for i, a := range l.sites {
		for k, b := range l.sites {
			if i < k && l.network.Links.Has(i, k) && (!l.wire || k > 1) {
				out = append(out, [2]string{a.name, b.name})
			}
		}
	}
	return out
}
