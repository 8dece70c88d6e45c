package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// sourceChecks are the chains that refuse the first packets of flows with wrong sources, by the
// device that they come in by: from a LAN what would not be answered there, from a link the
// site's own addresses, and from a site behind which there is no other, others'. Packets of
// known flows do not pay for it.
//
// From LANs it is what rp_filter=1 does; that would look a second way up for every packet, and is
// for IPv4 alone. Of IPv6 only the network's addresses are looked at: a host may have others, of
// which the router knows nothing.
type sourceChecks struct {
	chains strings.Builder
	byName map[string]string // chain by device
}

func (c *compiler) sourceChecks(i int, r *state.Router) *sourceChecks {
	k := &sourceChecks{byName: map[string]string{}}
	for _, d := range c.strictLANs(i, r) {
		k.byName[d] = "check-lans"
	}
	if len(k.byName) > 0 {
		// What the router itself sends to many comes back to it, so that its own programs hear it.
		k.chains.WriteString("\tchain check-lans {\n\t\tmeta nfproto ipv4 fib saddr type local fib daddr type != { broadcast, multicast } drop\n\t\tmeta nfproto ipv4 fib saddr . iif oif missing drop\n")
		fmt.Fprintf(&k.chains, "\t\tip6 saddr @inside6 ip6 saddr != %v fib saddr . iif oif missing drop\n\t}\n", linkLocal6)
	}
	if c.static[i] {
		return k // AllowedIPs are the sources of its peers
	}
	links := false
	edges := slices.SortedFunc(slices.Values(c.graph.edges[i]), func(a, b edge) int {
		return strings.Compare(c.n.Sites[a.to].Name, c.n.Sites[b.to].Name)
	})
	for _, e := range edges {
		if c.n.Links.Options(i, e.to).NoTunnel {
			continue
		}
		device := spec.InterfaceName(c.n.Sites[e.to].Name)
		k.byName[device] = "check-links"
		if c.endsAt(e.to) {
			k.leaf(device, c.behind(e.to, device, r), c.letsIn(e.to))
			continue
		}
		links = true
	}
	if links {
		k.chains.WriteString("\tchain check-links {\n")
		own := append(reach(&c.n.Sites[i]), ownLANs(&c.n.Sites[i])...)
		sources(outermost(own), func(family, set string) { fmt.Fprintf(&k.chains, "\t\t%s saddr %s drop\n", family, set) })
		k.chains.WriteString("\t}\n")
	}
	return k
}

// leaf writes the chain for a site behind which there is no other. Strangers come in there if it
// is an exit or publishes a port.
func (k *sourceChecks) leaf(device string, behind []netip.Prefix, strangers bool) {
	name := "check-" + label(device)
	k.byName[device] = name
	fmt.Fprintf(&k.chains, "\tchain %s {\n", name)
	behind = outermost(append(behind, linkLocal6))
	for _, f := range []struct{ family, all string }{{"ip", "meta nfproto ipv4"}, {"ip6", "meta nfproto ipv6"}} {
		all := f.all
		if strangers {
			all = f.family + " saddr " + insideSet(f.family)
		}
		all += besides(f.family, ofFamily(behind, f.family))
		fmt.Fprintf(&k.chains, "\t\t%s drop\n", all)
	}
	k.chains.WriteString("\t}\n")
}

// besides matches sources of a family other than some. A few are compared one by one: with a set
// for each family and leaf, a hub's ruleset of 300 sites took half as long again to load.
func besides(family string, prefixes []netip.Prefix) string {
	if len(prefixes) > 4 {
		return fmt.Sprintf(" %s saddr != %s", family, anonymous(prefixes, netip.Prefix.String))
	}
	var out strings.Builder
	for _, p := range prefixes {
		fmt.Fprintf(&out, " %s saddr != %v", family, p)
	}
	return out.String()
}

// vmap is the map from devices to the chains.
func (k *sourceChecks) vmap() string {
	var elements []string
	for d, chain := range k.byName {
		elements = append(elements, fmt.Sprintf("%q : jump %s", d, chain))
	}
	slices.Sort(elements)
	return strings.Join(elements, ", ")
}

// endsAt reports whether nothing of other sites comes by way of a site: it has one link, or runs
// nothing of ours that would hand on what others send.
func (c *compiler) endsAt(to int) bool {
	return c.static[to] || len(c.graph.edges[to]) == 1
}

// behind returns the sources of what comes by the device of a link to a site that ends there.
func (c *compiler) behind(to int, device string, r *state.Router) []netip.Prefix {
	s := &c.n.Sites[to]
	out := append(reach(s), foreignPrefixes(s)...)
	if slices.Contains(c.clients.doors, to) {
		out = append(out, c.clients.pool...)
		for _, g := range c.clients.sites {
			out = append(out, reach(&c.n.Sites[g])...)
		}
	}
	for _, x := range r.Routes { // static sites behind it
		if x.Device == device && x.Dst.Bits() > 0 {
			out = append(out, x.Dst)
		}
	}
	return out
}

// letsIn reports whether sources outside the network may come by way of a site, or of static
// ones behind it.
func (c *compiler) letsIn(to int) bool {
	if c.static[to] && c.n.Sites[to].Kind != spec.Plain {
		return true
	}
	exits := slices.ContainsFunc(c.exits, func(e exit) bool { return slices.Contains(e.via, to) })
	return exits || len(c.published(&c.n.Sites[to])) > 0
}

// strictLANs returns the devices of LANs on which no source may be foreign: not where other
// routers are.
func (c *compiler) strictLANs(i int, r *state.Router) []string {
	var out []string
	for _, l := range c.n.Sites[i].LANs {
		others := slices.ContainsFunc(c.n.Sites[i].Uplinks, func(u spec.Uplink) bool { return u.Device == l.Device }) ||
			r.Babel != nil && slices.ContainsFunc(r.Babel.Links, func(b state.BabelLink) bool { return !b.Tunnel && b.Device == l.Device })
		if !others && !slices.Contains(out, l.Device) {
			out = append(out, l.Device)
		}
	}
	slices.Sort(out)
	return out
}
