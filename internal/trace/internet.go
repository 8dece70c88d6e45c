package trace

import (
	"fmt"
	"net/netip"
	"slices"
)

// provider takes a packet from an uplink. It knows the addresses of its customers on that wire, and drops
// what has others (RFC 2827).
func (w *walk) provider(r *router, p *packet, out *netdev) {
	u := out.uplink
	if out.dead {
		w.loses(r, Leaves, p, fmt.Sprintf("the provider on %s is dead", out.name), "")
		return
	}
	own := slices.ContainsFunc(u.addresses, func(a netip.Prefix) bool { return a.Addr() == p.Src })
	if !own && w.n.other(r, out, p.Src).router == nil && !r.routed(p.Src) {
		w.loses(nil, Leaves, p, fmt.Sprintf("the provider on %s's %s drops the source %s, which is not that line's", r.name, out.name, p.Src), "nothing translates it there: `masquerade:` of the uplink")
		return
	}
	if u.hides(p) {
		w.hidden = append(w.hidden, hidden{u.public, p.Src, r, out}) // the NAT remembers it
		w.translates(nil, p, u)
	}
	w.outside(p)
}

// hidden is an address that a provider's NAT knows.
type hidden struct {
	public, address netip.Addr
	router          *router
	device          *netdev
}

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
	if w.remembered(p) {
		return
	}
	if name, behind := w.n.hidden[p.Dst]; behind {
		w.loses(nil, DNAT, p, fmt.Sprintf("the NAT of %s's provider lets nobody in who was not asked", name), "have the provider forward the port")
		return
	}
	o := w.n.public[p.Dst]
	switch {
	case o != nil && private(p.Dst) && !private(p.Src) && !o.leased(p.Dst):
		// Another network's address: this one is not of the Internet.
	case o != nil:
		w.reaches(o, o.local[p.Dst], p)
		return
	}
	if r, device := w.n.routedTo(p.Dst); r != nil {
		w.reaches(r, device, p)
		return
	}
	if private(p.Dst) || p.Dst.IsPrivate() {
		w.loses(nil, RouteStage, p, fmt.Sprintf("the Internet has no way to %s", p.Dst), "")
		return
	}
	w.delivers(nil, p, Place{Kind: Internet, Addr: p.Dst})
}

// remembered hands an answer to who is behind a NAT that remembers it, and reports whether there is one.
func (w *walk) remembered(p *packet) bool {
	for _, h := range w.hidden {
		if h.public != p.Dst || !p.Reply && p.about == nil {
			continue
		}
		p.Dst = h.address
		if p.about != nil {
			p.about.src = h.address
		}
		w.step(nil, DNAT, p, func() (string, string) { return "to " + p.Dst.String(), "the provider's NAT remembers it" })
		w.reaches(h.router, h.device, p)
		return true
	}
	return false
}

// reaches hands a packet from outside to a router's uplink.
func (w *walk) reaches(r *router, in *netdev, p *packet) {
	switch {
	case in == nil:
		w.loses(nil, RouteStage, p, fmt.Sprintf("%s was leased to %s, which has lost its carrier", p.Dst, r.name), "")
	case in.dead:
		w.loses(nil, Leaves, p, fmt.Sprintf("the provider on %s's %s is dead", r.name, in.name), "")
	default:
		w.arrives(r, p, in)
	}
}

// routed reports whether an address is in a LAN whose addresses are of the Internet: such a LAN would be
// of no use if the router's provider did not know it.
func (r *router) routed(a netip.Addr) bool {
	if a.IsPrivate() || private(a) {
		return false
	}
	return slices.ContainsFunc(r.lans, func(l lan) bool { return l.prefix.Contains(a) && !l.mapped })
}

// routedTo returns whose LAN an address of the Internet is in, and the uplink by which it comes: the
// first that has the family and works.
func (n *Network) routedTo(a netip.Addr) (*router, *netdev) {
	for _, r := range n.routed {
		if !r.routed(a) {
			continue
		}
		for _, d := range r.uplinks {
			if !d.dead && slices.ContainsFunc(d.uplink.addresses, func(p netip.Prefix) bool { return p.Addr().Is6() == a.Is6() }) {
				return r, d
			}
		}
	}
	return nil, nil
}
