package trace

import (
	"net/netip"
	"slices"

	"tombolo/internal/state"
	"tombolo/internal/trace/learned"
)

// uplink is a device that leads to the Internet.
type uplink struct {
	device    string
	addresses []netip.Prefix
	gateways  []netip.Addr
	leased    bool // its addresses are not known: these stand for them

	// What its private IPv4 address is outside of its provider's NAT, and whether that is known.
	public netip.Addr
	known  bool
}

// lease gives an address and a gateway to each uplink of which they are not known, and has w say
// so too. 100.64.0.0/10 is for what lies between a provider and its customers (RFC 6598).
func lease(w *learned.World) func(site, device string) (uplink, bool) {
	known := w.Uplinks
	made := map[[2]string]uplink{}
	n := uint32(0)
	for i := range w.Routers {
		_, seen := w.Observed[w.Routers[i].Site]
		for _, u := range w.Routers[i].Uplinks {
			x := uplink{device: u.Device, addresses: u.Addresses, gateways: u.Gateways}
			if known != nil {
				if a, g := known(w.Routers[i].Site, u.Device); len(a) > 0 || seen {
					x.addresses, x.gateways = a, g
				}
			}
			if len(x.addresses) == 0 && !seen {
				n++
				four := netip.AddrFrom4([4]byte{100, 64 + byte(n>>14), byte(n >> 6), byte(n << 2)})
				x.leased = true
				x.addresses = []netip.Prefix{netip.PrefixFrom(four.Next().Next(), 30)}
				x.gateways = []netip.Addr{four.Next()}
			}
			made[[2]string{w.Routers[i].Site, u.Device}] = x
		}
	}
	w.Uplinks = func(site, device string) ([]netip.Prefix, []netip.Addr) {
		x := made[[2]string{site, device}]
		return x.addresses, x.gateways
	}
	return func(site, device string) (uplink, bool) {
		x, ok := made[[2]string{site, device}]
		return x, ok
	}
}

// hide gives uplinks with private addresses one outside: what leaves by them must be translated by
// their provider, else nothing would come back. Addresses that are not known are stood for (RFC 5737).
func (n *Network) hide(public func(site, device string) netip.Addr) {
	stand := netip.AddrFrom4([4]byte{198, 51, 100, 20})
	for _, name := range n.names {
		r := n.routers[name]
		for _, u := range r.state.Uplinks {
			x := r.device(u.Device).uplink
			if x == nil || x.leased || !slices.ContainsFunc(x.addresses, func(a netip.Prefix) bool { return private(a.Addr()) }) {
				continue
			}
			if public != nil {
				x.public = public(name, u.Device)
			}
			if x.known = x.public.IsValid(); !x.known {
				x.public, stand = stand, stand.Next()
			}
			n.hidden[x.public] = name
		}
	}
}

// cutOff returns which sites have uplinks, and none that works.
func cutOff(w *learned.World) func(site string) bool {
	sites := map[string]bool{}
	for i := range w.Routers {
		r := &w.Routers[i]
		works := func(u state.Uplink) bool { return w.Dead == nil || !w.Dead(r.Site, u.Device) }
		sites[r.Site] = len(r.Uplinks) > 0 && !slices.ContainsFunc(r.Uplinks, works)
	}
	return func(site string) bool { return sites[site] }
}

// leased reports whether an address stands for one that is not known.
func (r *router) leased(a netip.Addr) bool {
	for _, d := range r.uplinks {
		u := d.uplink
		if u.leased && slices.ContainsFunc(u.addresses, func(p netip.Prefix) bool { return p.Addr() == a }) {
			return true
		}
	}
	return false
}

// private reports whether an IPv4 address is none of the Internet (RFC 1918, RFC 6598).
func private(a netip.Addr) bool {
	return a.Is4() && (a.IsPrivate() || shared.Contains(a))
}

var shared = netip.MustParsePrefix("100.64.0.0/10")
