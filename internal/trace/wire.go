package trace

import (
	"net/netip"
	"slices"

	"tombolo/internal/state"
)

// owner is a router that has an address, on which device, and in which subnet.
type owner struct {
	router *router
	device *netdev
	subnet netip.Prefix // zero: that of a LAN which is mapped, and on nobody's wire
}

// other returns which other router has an address on the wire of a router's device: in a subnet that
// both have there. Private subnets may be anybody's: of those that several have nobody can say.
func (n *Network) other(r *router, device *netdev, a netip.Addr) owner {
	var found owner
	for _, o := range n.owners[a] {
		if o.router == r || !o.subnet.IsValid() || !r.shares(device, o.subnet) {
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
func (r *router) shares(device *netdev, subnet netip.Prefix) bool {
	if u := device.uplink; u != nil && slices.ContainsFunc(u.addresses, subnet.Overlaps) {
		return true
	}
	return slices.ContainsFunc(r.lans, func(l lan) bool { return l.device == device && l.prefix.Overlaps(subnet) && !l.mapped })
}

// maps reports whether a LAN's prefix is its router's alone: what it announces is another.
func (r *router) maps(lan netip.Prefix) bool {
	announces := func(x state.Announcement) bool { return x.Dst == lan }
	return r.state.Babel != nil && !slices.ContainsFunc(r.state.Babel.Announce, announces)
}

// subnet returns the one of a router's own address on a device that is there without us.
func (r *router) subnet(device *netdev, a netip.Addr) netip.Prefix {
	for _, l := range r.lans {
		switch {
		case l.device != device || !l.prefix.Contains(a):
		case l.mapped:
			return netip.Prefix{}
		default:
			return l.prefix
		}
	}
	if u := device.uplink; u != nil {
		for _, p := range u.addresses {
			if p.Addr() == a {
				return p.Masked()
			}
		}
	}
	return netip.PrefixFrom(a, a.BitLen())
}
