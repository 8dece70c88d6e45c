package trace

import (
	"fmt"
	"net/netip"
	"strings"

	"tombolo/internal/state"
)

// whyNoWay says what in the network file would mend it that a packet has no way.
func (n *Network) whyNoWay(r *router, p *packet, to way) string {
	if x, there := n.byAddr[p.Dst]; there && x.door == nil {
		return fmt.Sprintf("device %s is at no door", x.name)
	}
	for _, name := range n.names {
		if l, ok := n.routers[name].home(p.Dst); ok {
			return fmt.Sprintf("%v is at site %s: is there a link by which %s reaches it, and does it work?", l, name, r.name)
		}
		if _, own := n.routers[name].local[p.Dst]; own {
			return fmt.Sprintf("%s is site %s: is there a link by which %s reaches it, and does it work?", p.Dst, name, r.name)
		}
	}
	if to.route != nil && to.route.Type == state.Unreachable && to.route.Dst.Bits() == 0 {
		return "an exit with `otherwise: block` lets it out nowhere else while none of `via:` is reached"
	}
	if p.Dst.IsPrivate() {
		return "no site has this prefix: add it as a `lan:`"
	}
	if p.Dst.Is6() {
		return "the site has no uplink with IPv6, and no exit"
	}
	return "the site has no uplink, and no exit"
}

// home returns the prefix of a router's LANs, or what they are mapped to, that has an address.
func (r *router) home(a netip.Addr) (netip.Prefix, bool) {
	for _, l := range r.lans {
		if l.prefix.Contains(a) {
			return l.prefix, true
		}
	}
	if r.state.Babel != nil {
		for _, x := range r.state.Babel.Announce {
			if x.Dst.Bits() > 0 && !x.Dst.IsSingleIP() && x.Dst.Contains(a) {
				return x.Dst, true
			}
		}
	}
	return netip.Prefix{}, false
}

// hintOf says what a chain that stopped a packet is made from.
func hintOf(chain string) string {
	switch {
	case strings.HasPrefix(chain, "access") || chain == "denied":
		return "`policy:` does not allow it: add a rule before those that deny it"
	case strings.HasPrefix(chain, "guard"):
		return "an exit with `otherwise: block` keeps it at home"
	case strings.HasPrefix(chain, "check-"):
		return "its source is not one that may come from there"
	}
	return ""
}
