package trace

import (
	"fmt"
	"net/netip"

	"tombolo/internal/trace/learned"
	"tombolo/internal/trace/ruleset"
)

// leaves hands a packet to a device.
func (w *walk) leaves(r *router, p *packet, to way) {
	out := to.route.out
	if !out.up() {
		w.loses(r, Leaves, p, fmt.Sprintf("%s has no carrier", out.name), "")
		return
	}
	o := w.neighbour(r, p, to)
	if o.router != nil && (o.router.dead || !o.device.up()) { // it answers no ARP
		w.loses(r, Leaves, p, fmt.Sprintf("nobody answers at %s on %s: %s's %s is down", to.next(p), out.name, o.router.name, o.device.name), "")
		if w.record {
			w.steps[len(w.steps)-1].Device = out.name // as long as its ARP remembers, it is handed there
		}
		return
	}
	if w.record {
		w.note(r, Step{Stage: Leaves, Device: out.name, Text: "oif " + out.name}, p)
	}
	w.hops = append(w.hops, Hop{Router: r.name, Device: out.name, Src: p.Src, Dst: p.Dst, Port: p.DstPort})
	switch {
	case out.links != nil:
		w.tunnels(r, p, out)
	case o.router != nil:
		w.arrives(o.router, p, o.device)
	case to.route.Gateway.IsValid() && out.uplink != nil:
		w.provider(r, p, out)
	case to.route.Gateway.IsValid():
		w.loses(r, Leaves, p, fmt.Sprintf("nobody of the network is at %s on %s", to.route.Gateway, out.name), "")
	default:
		w.onLink(r, p, out)
	}
}

// neighbour is the router to which a packet is handed on what is no tunnel, if it is one of the network.
func (w *walk) neighbour(r *router, p *packet, to way) owner {
	out, next := to.route.out, to.next(p)
	if !out.outward() {
		return owner{}
	}
	o := w.n.other(r, out, next)
	if !to.route.Gateway.IsValid() {
		return o
	}
	if o.router != nil && to.route.Table == mainTable && private(next) && o.device.uplink != nil {
		o = owner{} // it has the address of somebody's gateway, in another home
	}
	for _, named := range []map[netip.Addr]learned.End{r.next, w.n.local} {
		at := named[next]
		if x := w.n.routers[at.Site]; x != nil && o.router == nil {
			o = owner{router: x, device: x.device(at.Device)}
		}
	}
	return o
}

// onLink hands a packet to who has its address on a device, and is no router of the network.
func (w *walk) onLink(r *router, p *packet, out *netdev) {
	for _, l := range r.lans {
		if l.device == out && l.prefix.Contains(p.Dst) {
			w.delivers(r, p, Place{Kind: Host, Site: r.name, Addr: p.Dst})
			return
		}
	}
	if out.uplink != nil {
		w.delivers(r, p, Place{Kind: Internet, Addr: p.Dst})
		return
	}
	w.loses(r, Leaves, p, fmt.Sprintf("nobody has %s on %s", p.Dst, out.name), "")
}

// sends has a router itself send a packet. Its source may be open until its way is known.
func (w *walk) sends(r *router, p *packet, out string) {
	to := w.lookup(r, p, "lo", out)
	if to.local != nil {
		if !p.Src.IsValid() {
			p.Src = p.Dst // of itself it asks with the address that it asks
		}
		w.delivers(r, p, Place{Kind: Router, Site: r.name, Addr: p.Dst})
		return
	}
	if !w.leads(r, p, to) {
		return
	}
	if !p.Src.IsValid() {
		if p.Src = to.route.PrefSrc; !p.Src.IsValid() {
			p.Src = r.addressOn(to.route.out, to.next(p))
		}
		if !p.Src.IsValid() {
			w.loses(r, RouteStage, p, fmt.Sprintf("the router has no address for %s", to.route.Device), "")
			return
		}
	}
	// Its program is refused before it is a packet at all (ip_append_data in net/ipv4/ip_output.c).
	if !w.fits(r, p, to.route.out, nil, false) {
		return
	}
	e, reply, st := w.connection(r, p)
	mark, dst := p.Mark, p.Dst
	if !w.hook(r, ruleset.Output, p, e, reply, st, nil, to.route.out) {
		return
	}
	if p.Mark != mark || p.Dst != dst {
		if to = w.lookup(r, p, "lo", out); to.local != nil {
			w.delivers(r, p, Place{Kind: Router, Site: r.name, Addr: p.Dst})
			return
		}
		if !w.leads(r, p, to) {
			return
		}
	}
	if w.next = to.next(p); w.hook(r, ruleset.Postrouting, p, e, reply, st, nil, to.route.out) {
		e.placed = true
		w.leaves(r, p, to)
	}
}
