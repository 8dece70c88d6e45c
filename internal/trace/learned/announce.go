package learned

import (
	"net/netip"
	"slices"

	"tombolo/internal/state"
)

// key is what routes are told apart by: babel.Key.
type key struct{ dst, src netip.Prefix }

func compareKeys(a, b key) int {
	if c := state.ComparePrefixes(a.dst, b.dst); c != 0 {
		return c
	}
	return state.ComparePrefixes(a.src, b.src)
}

// origin is a router that announces a key.
type origin struct {
	node   *node
	metric int
	device string // at which the key's host is, where it roams; or the one that announces it

	// foreign says that this is a router of no site, whom node hears.
	foreign bool
}

// nobody is the site of routers of no site, and no site's.
const nobody = 0

func (o *origin) site() uint32 {
	if o.foreign {
		return nobody
	}
	return o.node.router.Babel.Site
}

// plainCost is what a router costs that tells no times: of babeld and BIRD on a wire.
const plainCost = 96

// announced returns who announces what now, by key and in the order of the nodes; who announces the
// same stands once.
func (w *World) announced(nodes []*node) map[key][]origin {
	out := map[key][]origin{}
	say := func(k key, o origin) {
		all := out[k]
		if i := slices.IndexFunc(all, func(x origin) bool { return x.node == o.node }); i < 0 {
			out[k] = append(all, o)
		} else if all[i].device == "" && !o.foreign {
			all[i] = o
		}
	}
	for _, n := range nodes {
		b := n.router.Babel
		if b == nil {
			continue
		}
		w.guests(n, say)
		for _, a := range b.Announce {
			if w.holds(n, a) {
				say(key{a.Dst, a.Src}, origin{node: n, metric: int(a.Metric)})
			}
		}
		w.foreigners(n, say)
	}
	return out
}

// guests says which roaming devices are at a router.
func (w *World) guests(n *node, say func(key, origin)) {
	c := n.router.Clients
	if c == nil || !w.carrier(n.router, c.Device) || w.cutOff(n.router.Site) {
		return
	}
	mobile := map[netip.Prefix]bool{}
	for _, a := range n.router.Babel.Accept {
		if a.Mobile {
			mobile[a.Dst] = true
		}
	}
	for _, d := range c.Devices {
		if w.Doors[d.Name] != n.router.Site || w.dead(d.Name, "") {
			continue
		}
		for _, p := range d.Addresses {
			if mobile[p] {
				say(key{dst: p}, origin{node: n, device: c.Device})
			}
		}
	}
}

// foreigners says what routers of no site announce on a router's segments.
func (w *World) foreigners(n *node, say func(key, origin)) {
	if w.Foreign == nil {
		return
	}
	for _, l := range n.links {
		if l.Tunnel || !l.speaks || len(l.Foreign) == 0 {
			continue
		}
		for _, p := range w.Foreign(n.router.Site, l.Device) {
			k := key{dst: p}
			if slices.ContainsFunc(l.Foreign, func(f netip.Prefix) bool { return covers(f, k) }) {
				say(k, origin{node: n, metric: 10*l.Cost + plainCost, device: l.Device, foreign: true})
			}
		}
	}
}

// holds reports whether an announcement's condition holds.
func (w *World) holds(n *node, a state.Announcement) bool {
	switch a.While {
	case state.Always:
		return true
	case state.Works:
		return n.works[family(a.Dst)]
	case state.Carrier, state.Probe:
		return w.carrier(n.router, a.Device)
	case state.Handshake:
		return w.carrier(n.router, a.Device) && !w.dead(a.Peer, "") && !w.down(n.router.Site, a.Peer) &&
			!w.cutOff(n.router.Site) && !w.cutOff(a.Peer)
	}
	return false
}

// family numbers a prefix's family: 1 is IPv6.
func family(p netip.Prefix) int {
	if p.Addr().Is6() {
		return 1
	}
	return 0
}
