package trace

import (
	"fmt"
	"net/netip"

	"tombolo/internal/state"
	"tombolo/internal/trace/learned"
	"tombolo/internal/trace/ruleset"
)

// leaves hands a packet to a device.
func (w *walk) leaves(r *router, p *packet, to way) {
	device := to.route.Device
	if !r.up(device) {
		w.loses(r, Leaves, p, fmt.Sprintf("%s has no carrier", device), "")
		return
	}
	if w.record {
		w.note(r, Step{Stage: Leaves, Device: device, Text: "oif " + device}, p)
	}
	w.hops = append(w.hops, Hop{Router: r.name, Device: device, Src: p.Src, Dst: p.Dst, Port: p.DstPort})
	switch {
	case r.links[device] != nil:
		w.tunnels(r, p, device)
	case to.route.Gateway.IsValid():
		w.via(r, p, to.route)
	default:
		w.onLink(r, p, device)
	}
}

// via hands a packet to a gateway: another router of the network on that device, or a provider.
func (w *walk) via(r *router, p *packet, route *state.Route) {
	device, gateway := route.Device, route.Gateway
	o := w.n.other(r, device, gateway)
	if o.router != nil && route.Table == mainTable && private(gateway) && o.router.uplinks[o.device] != nil {
		o = owner{} // it has the address of somebody's gateway, in another home
	}
	for _, named := range []map[netip.Addr]learned.End{r.next, w.n.local} {
		if at, known := named[gateway]; known && o.router == nil {
			o = owner{router: w.n.routers[at.Site], device: at.Device}
		}
	}
	if o.router != nil {
		w.arrives(o.router, p, o.device)
		return
	}
	u := r.uplinks[device]
	if u == nil {
		w.loses(r, Leaves, p, fmt.Sprintf("nobody of the network is at %s on %s", gateway, device), "")
		return
	}
	w.provider(r, p, u)
}

// onLink hands a packet to who has its address on a device.
func (w *walk) onLink(r *router, p *packet, device string) {
	if o := w.n.other(r, device, p.Dst); o.router != nil {
		w.arrives(o.router, p, o.device)
		return
	}
	for _, l := range r.lans {
		if l.device == device && l.prefix.Contains(p.Dst) {
			w.delivers(r, p, Place{Kind: Host, Site: r.name, Addr: p.Dst})
			return
		}
	}
	if u := r.uplinks[device]; u != nil {
		w.delivers(r, p, Place{Kind: Internet, Addr: p.Dst})
		return
	}
	w.loses(r, Leaves, p, fmt.Sprintf("nobody has %s on %s", p.Dst, device), "")
}

// sends has a router itself send a packet. Its source may be open until its way is known.
func (w *walk) sends(r *router, p *packet, out string) {
	to := w.lookup(r, p, "lo", out)
	if to.local != "" {
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
			p.Src = r.addressOn(to.route.Device, to.next(p))
		}
		if !p.Src.IsValid() {
			w.loses(r, RouteStage, p, fmt.Sprintf("the router has no address for %s", to.route.Device), "")
			return
		}
	}
	// Its program is refused before it is a packet at all (ip_append_data in net/ipv4/ip_output.c).
	if !w.fits(r, p, to.route.Device, nil, false) {
		return
	}
	e, reply, st := w.connection(r, p)
	mark, dst := p.Mark, p.Dst
	if !w.hook(r, ruleset.Output, p, e, reply, st, "", to.route.Device) {
		return
	}
	if p.Mark != mark || p.Dst != dst {
		if to = w.lookup(r, p, "lo", out); to.local != "" {
			w.delivers(r, p, Place{Kind: Router, Site: r.name, Addr: p.Dst})
			return
		}
		if !w.leads(r, p, to) {
			return
		}
	}
	if w.next = to.next(p); w.hook(r, ruleset.Postrouting, p, e, reply, st, "", to.route.Device) {
		e.placed = true
		w.leaves(r, p, to)
	}
}
