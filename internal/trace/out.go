package trace

import (
	"fmt"
	"net/netip"
	"slices"

	"tombolo/internal/trace/learned"
	"tombolo/internal/trace/ruleset"
)

// leaves hands a packet to a device.
func (w *walk) leaves(r *router, p *packet, to way) {
	device := to.route.Device
	if w.record {
		w.note(r, Step{Stage: Leaves, Device: device, Text: "oif " + device}, p)
	}
	w.hops = append(w.hops, Hop{Router: r.name, Device: device, Src: p.Src, Dst: p.Dst, Port: p.DstPort})
	switch {
	case r.links[device] != nil:
		w.tunnels(r, p, device)
	case to.route.Gateway.IsValid():
		w.via(r, p, device, to.route.Gateway)
	default:
		w.onLink(r, p, device)
	}
}

// via hands a packet to a gateway: another router of the network on that device, or a provider.
func (w *walk) via(r *router, p *packet, device string, gateway netip.Addr) {
	o := w.n.other(r, gateway)
	for _, named := range []map[netip.Addr]learned.End{r.next, w.n.local} {
		if at, known := named[gateway]; known && o.router == nil {
			o = owner{w.n.routers[at.Site], at.Device}
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

// outward reports whether a device is there without us.
func (r *router) outward(device string) bool { return r.links[device] == nil }

// other returns which other router has an address, on a device that is there without us.
func (n *Network) other(r *router, a netip.Addr) owner {
	for _, o := range n.owners[a] {
		if o.router != r {
			return o
		}
	}
	return owner{}
}

// onLink hands a packet to who has its address on a device.
func (w *walk) onLink(r *router, p *packet, device string) {
	if o := w.n.other(r, p.Dst); o.router != nil {
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

// provider takes a packet from an uplink. It knows the addresses of its customers on that wire, and drops
// what has others (RFC 2827).
func (w *walk) provider(r *router, p *packet, u *uplink) {
	if r.dead(u.device) {
		w.loses(r, Leaves, p, fmt.Sprintf("the provider on %s is dead", u.device), "")
		return
	}
	shares := w.n.other(r, p.Src).router != nil
	if !slices.ContainsFunc(u.addresses, func(a netip.Prefix) bool { return a.Addr() == p.Src || shares && a.Contains(p.Src) }) {
		w.loses(nil, Leaves, p, fmt.Sprintf("the provider on %s's %s drops the source %s, which is not that line's", r.name, u.device, p.Src), "nothing translates it there: `masquerade:` of the uplink")
		return
	}
	if u.hides(p) {
		w.hidden = append(w.hidden, hidden{public: u.public, address: p.Src}) // the NAT remembers it
		w.translates(nil, p, u)
	}
	w.outside(p)
}

// hidden is an address that a provider's NAT knows.
type hidden struct{ public, address netip.Addr }

// hides reports whether there must be a NAT on a packet's way out: between private networks there need
// be none.
func (u *uplink) hides(p *packet) bool {
	return u.public.IsValid() && private(p.Src) && !private(p.Dst)
}

// translates is the NAT of a provider.
func (w *walk) translates(r *router, p *packet, u *uplink) {
	p.Src = u.public
	w.step(r, SNAT, p, func() (string, string) {
		if u.known {
			return "from " + u.public.String(), "the provider's NAT"
		}
		return "from " + u.public.String(), "the provider's NAT; this stands for an address that is not known"
	})
}

// outside is the Internet.
func (w *walk) outside(p *packet) {
	for _, h := range w.hidden {
		if h.public != p.Dst || !p.Reply && p.about == nil {
			continue
		}
		p.Dst = h.address
		if p.about != nil {
			p.about.src = h.address
		}
		w.step(nil, DNAT, p, func() (string, string) { return "to " + p.Dst.String(), "the provider's NAT remembers it" })
		break
	}
	if name, behind := w.n.hidden[p.Dst]; behind {
		w.loses(nil, DNAT, p, fmt.Sprintf("the NAT of %s's provider lets nobody in who was not asked", name), "a port that the provider forwards")
		return
	}
	if o := w.n.public[p.Dst]; o != nil {
		device, has := o.local[p.Dst]
		if !has {
			w.loses(nil, RouteStage, p, fmt.Sprintf("%s was leased to %s, which has lost its carrier", p.Dst, o.name), "")
			return
		}
		if o.dead(device) {
			w.loses(nil, Leaves, p, fmt.Sprintf("the provider on %s's %s is dead", o.name, device), "")
			return
		}
		w.arrives(o, p, device)
		return
	}
	if p.Dst.IsPrivate() {
		w.loses(nil, RouteStage, p, fmt.Sprintf("the Internet has no way to %s", p.Dst), "")
		return
	}
	w.delivers(nil, p, Place{Kind: Internet, Addr: p.Dst})
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
			p.Src = r.addressOn(to.route.Device, p.Dst.Is6())
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
	if w.hook(r, ruleset.Postrouting, p, e, reply, st, "", to.route.Device) {
		e.placed = true
		w.leaves(r, p, to)
	}
}
