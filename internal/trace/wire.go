package trace

import (
	"net/netip"
	"slices"
)

// owner is a router that has an address, on which device, and in which subnet.
type owner struct {
	router *router
	device string
	subnet netip.Prefix
}

// outward reports whether a device is there without us.
func (r *router) outward(device string) bool { return r.links[device] == nil }

// other returns which other router has an address on the wire of a router's device: in a subnet that
// both have there. Private subnets may be anybody's: of those that several have nobody can say.
func (n *Network) other(r *router, device string, a netip.Addr) owner {
	var found owner
	for _, o := range n.owners[a] {
		if o.router == r || o.router.maps(o.subnet) || !r.shares(device, o.subnet) {
			continue
		}
		if found.router != nil {
			return owner{}
		}
		found = o
	}
	return found
}

// shares reports whether a device has an address in a subnet.
func (r *router) shares(device string, subnet netip.Prefix) bool {
	if u := r.uplinks[device]; u != nil && slices.ContainsFunc(u.addresses, subnet.Overlaps) {
		return true
	}
	return slices.ContainsFunc(r.lans, func(l lan) bool { return l.device == device && l.prefix.Overlaps(subnet) && !r.maps(l.prefix) })
}

// maps reports whether a LAN's prefix is its router's alone: what it announces is another.
func (r *router) maps(prefix netip.Prefix) bool {
	if r.state.Babel == nil || !slices.ContainsFunc(r.lans, func(l lan) bool { return l.prefix == prefix }) {
		return false
	}
	for _, x := range r.state.Babel.Announce {
		if x.Dst == prefix {
			return false
		}
	}
	return true
}

// subnet returns the one of a router's own address on a device that is there without us.
func (r *router) subnet(device string, a netip.Addr) netip.Prefix {
	for _, l := range r.lans {
		if l.device == device && l.prefix.Contains(a) {
			return l.prefix
		}
	}
	if u := r.uplinks[device]; u != nil {
		for _, p := range u.addresses {
			if p.Addr() == a {
				return p.Masked()
			}
		}
	}
	return netip.PrefixFrom(a, a.BitLen())
}
