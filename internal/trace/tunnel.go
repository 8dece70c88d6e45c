package trace

import (
	"fmt"
	"net/netip"
	"slices"

	"tombolo/internal/state"
	"tombolo/internal/trace/ruleset"
)

// tunnels hands a packet to a tunnel: its peer is the one whose AllowedIPs have the destination,
// and the other end takes it if the sender's AllowedIPs there have the source.
func (w *walk) tunnels(r *router, p *packet, out *netdev) {
	l := chosen(out.links, p.Dst)
	if l == nil {
		w.loses(r, AllowedIPs, p, fmt.Sprintf("no peer of %s has %s among its AllowedIPs", out.name, p.Dst), "")
		return
	}
	w.step(r, AllowedIPs, p, func() (string, string) { return fmt.Sprintf("%s: peer %s", out.name, l.peer.Name), "" })
	if l.roamer != nil {
		w.toDevice(r, p, l)
		return
	}
	switch {
	case l.down && l.to == nil:
		w.loses(r, Outer, p, fmt.Sprintf("%s is at no door", r.name), "")
		return
	case l.to == nil || l.device == nil:
		w.loses(r, AllowedIPs, p, fmt.Sprintf("peer %s of %s is no router of this network", l.peer.Name, out.name), "")
		return
	case l.down:
		w.loses(r, Outer, p, fmt.Sprintf("the link to %s carries nothing", l.to.name), "")
		return
	}
	if (w.record || !l.carries) && !w.outer(r, out, l) {
		return
	}
	if x := chosen(l.device.links, p.Src); x == nil || x.to != r {
		w.loses(l.to, AllowedIPs, p, fmt.Sprintf("%s does not take %s from %s", l.device.name, p.Src, r.name), "")
		return
	}
	w.arrives(l.to, p, l.device)
}

// chosen returns the peer with the longest of the AllowedIPs that have an address: the one to which a
// device sends what goes there, and the only one from which it takes what comes from there.
func chosen(links []link, dst netip.Addr) *link {
	if len(links) == 1 && links[0].all {
		return &links[0]
	}
	var best *link
	bits := -1
	for i := range links {
		for _, a := range links[i].peer.AllowedIPs {
			if a.Bits() > bits && a.Contains(dst) {
				best, bits = &links[i], a.Bits()
			}
		}
	}
	return best
}

// has reports whether an address is behind a device's tunnel, as it sees that.
func (d *roamer) has(a netip.Addr) bool {
	return d.takes == nil || slices.ContainsFunc(d.takes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// toDevice hands a packet to a roaming device.
func (w *walk) toDevice(r *router, p *packet, l *link) {
	switch {
	case l.down:
		w.loses(r, Outer, p, fmt.Sprintf("%s is not at this door", l.roamer.name), "")
		return
	case r.cut:
		w.loses(r, Outer, p, fmt.Sprintf("no uplink of %s works", r.name), "")
		return
	}
	if !l.roamer.has(p.Src) {
		w.loses(r, AllowedIPs, p, fmt.Sprintf("%s takes nothing from %s: its tunnel is for the network alone", l.roamer.name, p.Src), "`full: true` of the device")
		return
	}
	w.delivers(r, p, Place{Kind: Device, Name: l.roamer.name, Addr: p.Dst})
}

// outer walks a tunnel's own packet as far as the provider: it may find no way, or one into a
// tunnel.
func (w *walk) outer(r *router, tunnel *netdev, l *link) bool {
	to := endpoint(l.to)
	switch {
	case l.to.cut:
		w.loses(r, Outer, &packet{}, fmt.Sprintf("no uplink of %s works", l.to.name), "")
		return false
	case !to.IsValid():
		return true // by what they are joined the file does not say
	}
	wg := tunnel.made.WireGuard
	p := &packet{Packet: Packet{Dst: to, Protocol: UDP, SrcPort: wg.ListenPort, DstPort: listens(l), Mark: wg.FwMark}}
	w.depth++
	defer func() { w.depth-- }()
	found := w.lookup(r, p, "lo", "")
	switch {
	case found.local != nil || found.route == nil || found.route.Type != state.Unicast:
		if len(r.uplinks) == 0 {
			return true
		}
		w.loses(r, Outer, p, fmt.Sprintf("the tunnel's own packet has no way to %s", to), "")
		return false
	case found.route.out.links != nil:
		w.loses(r, Outer, p, fmt.Sprintf("the tunnel's own packet would go into the tunnel %s", found.route.Device), "")
		return false
	}
	out := found.route.out
	if p.Src = found.route.PrefSrc; !p.Src.IsValid() {
		p.Src = r.addressOn(out, found.next(p))
	}
	if out.uplink != nil && out.dead {
		w.loses(r, Outer, p, fmt.Sprintf("the provider on %s is dead", out.name), "")
		return false
	}
	w.next = found.next(p)
	e := w.conns.begin(r, p.tuple())
	if !w.hook(r, ruleset.Output, p, e, false, "new", nil, out) || !w.hook(r, ruleset.Postrouting, p, e, false, "new", nil, out) {
		return false
	}
	e.placed = true
	if u := out.uplink; u != nil && u.hides(p) {
		w.translates(r, p, u)
	}
	w.depth-- // it is a line of its own
	w.step(r, Outer, p, func() (string, string) {
		return fmt.Sprintf("udp to %s by %s", to, out.name), "the tunnel's own packet"
	})
	w.depth++
	return true
}

// listens is the port of a link's other end.
func listens(l *link) uint16 {
	return l.device.made.WireGuard.ListenPort
}

// endpoint is an address of a router that packets from outside reach, if it has one.
func endpoint(r *router) netip.Addr {
	for _, d := range r.uplinks {
		x := d.uplink
		if d.dead || len(x.addresses) == 0 {
			continue
		}
		i := slices.IndexFunc(x.addresses, func(a netip.Prefix) bool { return a.Addr().Is4() })
		return x.addresses[max(i, 0)].Addr()
	}
	return netip.Addr{}
}
