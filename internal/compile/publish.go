package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tombolo/internal/spec"
)

// published are the ports of a site that lead to hosts.
func (c *compiler) published(s *spec.Site) []spec.Publish {
	var out []spec.Publish
	for _, p := range c.n.Publish {
		if p.At == s.Name && s.Kind != spec.Plain {
			out = append(out, p)
		}
	}
	return out
}

// target is the host of a published port, as the site that publishes it reaches it.
func target(s *spec.Site, p spec.Publish) netip.Addr { return s.Inside(host(p.To.Addr())).Addr() }

// publishedChain sends what comes to a published port of the site's uplinks to its host, whoever
// sent it: also hosts inside, to which it would be the way outside. It reports whether there is
// one.
//
// By the other addresses of the router one reaches the router.
func (c *compiler) publishedChain(b *strings.Builder, s *spec.Site) bool {
	ports := c.published(s)
	if len(ports) == 0 {
		return false
	}
	router := append(ownLANs(s), c.n.Overlay, c.n.Overlay6, linkLocal6, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
	b.WriteString("\tchain published {\n")
	sources(outermost(router), func(family, set string) { fmt.Fprintf(b, "\t\t%s daddr %s return\n", family, set) })
	elements := map[string][]string{}
	for _, p := range ports {
		to := target(s, p)
		f := nftFamily(host(to))
		if p.Port.First != p.Port.Last && p.Port.First == int(p.To.Port()) {
			fmt.Fprintf(b, "\t\t%s dport %d-%d dnat %s to %v\n", p.Protocol, p.Port.First, p.Port.Last, f, to)
			continue
		}
		for k := range p.Port.Last - p.Port.First + 1 {
			elements[f] = append(elements[f], fmt.Sprintf("%s . %d : %v . %d", p.Protocol, p.Port.First+k, to, int(p.To.Port())+k))
		}
	}
	for _, f := range []string{"ip", "ip6"} {
		if e := elements[f]; len(e) > 0 {
			slices.Sort(e)
			fmt.Fprintf(b, "\t\tdnat %s to meta l4proto . th dport map { %s }\n", f, strings.Join(e, ", "))
		}
	}
	b.WriteString("\t}\n")
	return true
}

// hairpins hides who comes to a published port from where the answer would not come back to this
// router: from the host's own LAN, and from other sites, if the host is at another too.
func (c *compiler) hairpins(b *strings.Builder, s *spec.Site) {
	var far []netip.Prefix
	near := map[netip.Prefix][]netip.Prefix{} // by LAN
	for _, p := range c.published(s) {
		to := host(target(s, p))
		lan := slices.IndexFunc(ownLANs(s), func(l netip.Prefix) bool { return l.Contains(to.Addr()) })
		if lan < 0 {
			far = append(far, to)
			continue
		}
		l := ownLANs(s)[lan]
		near[l] = append(near[l], to)
	}
	for _, l := range ownLANs(s) {
		sources(compacted(near[l]), func(family, hosts string) {
			fmt.Fprintf(b, "\t\tct status dnat %s saddr %v %s daddr %s masquerade\n", family, l, family, hosts)
		})
	}
	lans := map[string]string{}
	sources(ownLANs(s), func(family, set string) { lans[family] = fmt.Sprintf("%s saddr != %s ", family, set) })
	sources(compacted(far), func(family, hosts string) {
		set := insideSet(family)
		fmt.Fprintf(b, "\t\tct status dnat %s saddr %s %s%s daddr %s masquerade\n", family, set, lans[family], family, hosts)
	})
	c.strangers(b, s, compacted(far))
	// Who comes by the Internet from the host's own site has the address of its uplink, which
	// that site takes from nobody. Where it is leased, it is not known here.
	for j := range c.n.Sites {
		there := slices.DeleteFunc(compacted(far), func(p netip.Prefix) bool { return !covers(reach(&c.n.Sites[j]), p) })
		sources(there, func(family, hosts string) {
			sources(publicAddresses(&c.n.Sites[j]), func(f, set string) {
				if f == family {
					fmt.Fprintf(b, "\t\tct status dnat %s saddr %s %s daddr %s masquerade\n", family, set, family, hosts)
				}
			})
		})
	}
}

// strangers hides all who come to a published port of a host behind something that takes the
// network's own sources alone.
func (c *compiler) strangers(b *strings.Builder, s *spec.Site, far []netip.Prefix) {
	i, _ := c.n.Site(s.Name)
	there := slices.DeleteFunc(far, func(p netip.Prefix) bool { return !c.onlyOurs(i, p) })
	sources(there, func(family, hosts string) {
		fmt.Fprintf(b, "\t\tct status dnat %s daddr %s masquerade\n", family, hosts)
	})
}

// onlyOurs reports whether a host at another site hears, or answers by the way that they came,
// only those who have addresses of the network: AllowedIPs of a static site and of a device that
// has no full tunnel name no others, and links without a tunnel are not remembered.
func (c *compiler) onlyOurs(i int, to netip.Prefix) bool {
	if c.n.Clients != nil {
		for _, d := range c.n.Clients.Devices {
			if d.Address == to.Addr() || d.Address6 == to.Addr() {
				return !d.Full
			}
		}
	}
	j := slices.IndexFunc(c.n.Sites, func(s spec.Site) bool { return covers(reach(&s), to) })
	if j < 0 || c.roams(j) {
		return j >= 0
	}
	for at := i; at != j; {
		next := c.hop(at, j)
		if next < 0 {
			return false
		}
		if c.static[next] || c.n.Links.Options(at, next).NoTunnel {
			return true
		}
		at = next
	}
	return false
}

// publicAddresses are those of a site's uplinks, as far as the file knows them.
func publicAddresses(s *spec.Site) []netip.Prefix {
	var out []netip.Prefix
	for _, e := range s.Endpoints {
		if a, ok := e.Addr(); ok {
			out = append(out, host(a))
		}
	}
	for _, u := range s.Uplinks {
		for _, a := range u.Addresses {
			out = append(out, host(a.Addr()))
		}
	}
	return compacted(out)
}
