package learned

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"time"

	"tombolo/internal/state"
)

// What a speaker's costs are made of (package babel): a metric of 1 is 0.1 ms.
const (
	unit     = 100 * time.Microsecond
	infinity = 0xffff
)

// link is one end of a link: a device on which a router speaks.
type link struct {
	*state.BabelLink
	node   *node
	speaks bool // the device has what a speaker needs
}

// edge says that a router hears another's announcements.
type edge struct {
	to    int      // who hears, as an index of the nodes
	cost  int      // for it
	order int      // among those by which it hears anybody; the first of equal ways is taken
	site  uint32   // its own
	only  []uint32 // the sites that it hears of by its end of the link; nil: all

	link *link // that end
	at   *link // the other
}

// join finds out who hears whom: the edges of each router are those by which others hear it.
func (w *World) join(nodes []*node) {
	type ends struct{ site, peer string }
	tunnels := map[ends]*link{}
	var segments []*link
	for _, n := range nodes {
		for _, l := range n.links {
			if l.Tunnel {
				tunnels[ends{n.router.Site, l.Peer}] = l
			} else {
				segments = append(segments, l)
			}
		}
	}
	for _, n := range nodes {
		order := 0
		hear := func(l, at *link) {
			if !w.carries(l, at) {
				return
			}
			at.node.heard = append(at.node.heard, edge{
				to: n.index, cost: w.cost(l, at.node), order: order, site: n.router.Babel.Site, only: l.Only, link: l, at: at,
			})
			order++
		}
		for _, l := range n.links {
			if l.Tunnel {
				if at := tunnels[ends{l.Peer, n.router.Site}]; at != nil {
					hear(l, at)
				}
				continue
			}
			for _, at := range segments { // by site
				if at.node != n && w.meet(l, at) {
					hear(l, at)
				}
			}
		}
	}
}

// carries reports whether what is sent at one end of a link comes out at the other.
func (w *World) carries(l, at *link) bool {
	for _, x := range []*link{l, at} {
		if !x.speaks {
			return false
		}
	}
	if l.Tunnel && (w.cutOff(l.node.router.Site) || w.cutOff(at.node.router.Site)) {
		return false
	}
	return !w.down(l.node.router.Site, at.node.router.Site)
}

// hasLinkLocal reports whether a tunnel's device has the link-local address by which a speaker
// speaks. One that is too small for IPv6 has none.
func hasLinkLocal(r *state.Router, device string) bool {
	i := slices.IndexFunc(r.Interfaces, func(f state.Interface) bool { return f.Name == device })
	return i >= 0 && slices.ContainsFunc(r.Interfaces[i].Addresses, func(p netip.Prefix) bool {
		return p.Addr().Is6() && p.Addr().IsLinkLocalUnicast()
	})
}

// meet reports whether two devices are on one segment, and hear each other there.
func (w *World) meet(a, b *link) bool {
	if a.Key != b.Key {
		return false
	}
	if a.Peer == b.node.router.Site && b.Peer == a.node.router.Site {
		return true
	}
	of := w.subnets(b)
	return slices.ContainsFunc(w.subnets(a), func(p netip.Prefix) bool { return slices.ContainsFunc(of, p.Overlaps) })
}

// subnets are those of a segment's device.
func (w *World) subnets(l *link) []netip.Prefix {
	var out []netip.Prefix
	for _, x := range l.node.router.LANs {
		if x.Device == l.Device {
			out = append(out, x.Prefixes...)
		}
	}
	for _, u := range l.node.router.Uplinks {
		if u.Device == l.Device {
			addresses, _ := w.lease(l.node.router.Site, u)
			for _, a := range addresses {
				out = append(out, a.Masked())
			}
		}
	}
	return slices.DeleteFunc(out, func(p netip.Prefix) bool { return p.Addr().IsLinkLocalUnicast() })
}

// cost is that of a neighbour whose packets none is lost of.
func (w *World) cost(l *link, neighbour *node) int {
	cost := float64(min(max(10*l.Cost, 1), infinity-1))
	if w.RTT != nil {
		cost += float64(w.RTT(l.node.router.Site, neighbour.router.Site)) / float64(unit)
	}
	return int(min(math.Round(cost), infinity-1))
}

// gateway returns the address of the neighbour at the other end of a segment, to which packets
// for a prefix are handed.
func (w *World) gateway(at *link, six bool) netip.Addr {
	if !six {
		for _, p := range slices.SortedFunc(slices.Values(w.assigned(at)), state.ComparePrefixes) {
			if p.Addr().Is4() {
				return p.Addr()
			}
		}
	}
	b := [16]byte{0xfe, 0x80}
	binary.BigEndian.PutUint32(b[12:], at.node.router.Babel.Site)
	return netip.AddrFrom16(b)
}

// assigned are the addresses of a segment's device.
func (w *World) assigned(l *link) []netip.Prefix {
	var out []netip.Prefix
	for _, u := range l.node.router.Uplinks {
		if u.Device == l.Device {
			addresses, _ := w.lease(l.node.router.Site, u)
			out = append(out, addresses...)
		}
	}
	for _, x := range l.node.router.LANs {
		for _, p := range x.Prefixes {
			if x.Device != l.Device {
				continue
			}
			if first := p.Addr().Next(); p.Contains(first) {
				out = append(out, netip.PrefixFrom(first, p.Bits()))
			}
		}
	}
	return out
}
