package compile

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// natChains translate addresses.
//
// Destinations, before a packet is routed: a published port's to its host, and a mapped LAN's
// (`as:`) to the real one. Sources, when it leaves: first what `nat:` hides, then what came by a
// published port from where the answer would take another way, then a mapped LAN's towards the
// network, and last the LANs' at the uplinks. Both ways of a mapping are one to one, so that hosts
// keep their last bits and either end may begin.
func (c *compiler) natChains(b *strings.Builder, i int, r *state.Router) {
	s := &c.n.Sites[i]
	all := mappings(s)
	published := c.publishedChain(b, s)
	if published || len(all) > 0 {
		b.WriteString("\tchain dstnat {\n\t\ttype nat hook prerouting priority dstnat; policy accept;\n")
		if published {
			b.WriteString("\t\tfib daddr type local jump published\n")
		}
		translation(b, "\t\t%[1]s daddr { %[2]s } dnat %[1]s prefix to %[1]s daddr map { %[3]s }\n", all, mapping.outsideIn)
		b.WriteString("\t}\n")
	}
	if len(all) > 0 { // the router itself
		b.WriteString("\tchain dstnat-router {\n\t\ttype nat hook output priority -100; policy accept;\n")
		translation(b, "\t\t%[1]s daddr { %[2]s } dnat %[1]s prefix to %[1]s daddr map { %[3]s }\n", all, mapping.outsideIn)
		b.WriteString("\t}\n")
	}
	var post strings.Builder
	c.hides(&post, s)
	c.mapsSources(&post, i, r, all)
	c.hairpins(&post, s)
	c.masquerades(&post, i, r)
	if post.Len() > 0 {
		b.WriteString("\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n")
		b.WriteString(post.String())
		b.WriteString("\t}\n")
	}
}

// mapping is a LAN's prefix and the one under which the network has it.
type mapping struct {
	device   string
	real, as netip.Prefix
}

func (m mapping) outsideIn() (from, to netip.Prefix) { return m.as, m.real }
func (m mapping) insideOut() (from, to netip.Prefix) { return m.real, m.as }

// mappings returns the LANs of a site that are mapped.
func mappings(s *spec.Site) []mapping {
	var out []mapping
	for _, l := range s.LANs {
		for _, m := range l.Prefixes {
			if m.As.IsValid() && s.Kind != spec.Plain {
				out = append(out, mapping{l.Device, m.Prefix, m.As})
			}
		}
	}
	slices.SortFunc(out, func(a, b mapping) int { return state.ComparePrefixes(a.as, b.as) })
	return out
}

// translation writes a line for each family of the mappings: its word, the prefixes that are
// translated, and the map. A map without the set before it would be looked at for a packet that
// then is translated to nothing.
func translation(b *strings.Builder, format string, all []mapping, way func(mapping) (from, to netip.Prefix)) {
	keys, elements := map[string][]string{}, map[string][]string{}
	for _, m := range all {
		from, to := way(m)
		f := nftFamily(from)
		keys[f] = append(keys[f], from.String())
		elements[f] = append(elements[f], fmt.Sprintf("%v : %v", from, to))
	}
	for _, f := range slices.Sorted(maps.Keys(keys)) {
		fmt.Fprintf(b, format, f, strings.Join(keys[f], ", "), strings.Join(elements[f], ", "))
	}
}

// mapsSources gives a mapped LAN's hosts the addresses by which the network knows them, also
// among themselves where they use those.
func (c *compiler) mapsSources(b *strings.Builder, i int, r *state.Router, all []mapping) {
	if len(all) == 0 {
		return
	}
	const to = "%[1]s saddr { %[2]s } snat %[1]s prefix to %[1]s saddr map { %[3]s }\n"
	for _, m := range all {
		f := nftFamily(m.as)
		fmt.Fprintf(b, "\t\tct original %s daddr %v oifname %q %s saddr %v snat %s prefix to %s saddr map { %v : %v }\n", f, m.as, m.device, f, m.real, f, f, m.real, m.as)
	}
	if names := interfaceNames(r.Interfaces); len(names) > 0 {
		translation(b, "\t\toifname "+anonymous(names, quoted)+" "+to, all, mapping.insideOut)
	}
	for _, device := range c.besideDevices(i) {
		for f, direct := range directPrefixes(device, r, c.clients.pool) {
			of := slices.DeleteFunc(slices.Clone(all), func(m mapping) bool { return nftFamily(m.as) != f })
			translation(b, fmt.Sprintf("\t\toifname %q %s daddr %s ", device, f, anonymous(direct, netip.Prefix.String))+to, of, mapping.insideOut)
		}
	}
}

// besideDevices returns the devices of a site by which other sites are reached without a tunnel, or
// routers that are no sites.
func (c *compiler) besideDevices(i int) []string {
	var out []string
	for _, e := range c.graph.edges[i] {
		if o := c.n.Links.Options(i, e.to); o.NoTunnel && !slices.Contains(out, o.On[0]) {
			out = append(out, o.On[0])
		}
	}
	for _, x := range c.n.Sites[i].Babel {
		if !c.static[i] && !slices.Contains(out, x.Device) {
			out = append(out, x.Device)
		}
	}
	slices.Sort(out)
	return out
}

// hides writes what `nat:` says of a site.
func (c *compiler) hides(b *strings.Builder, s *spec.Site) {
	for _, x := range c.n.NAT {
		if x.At != s.Name {
			continue
		}
		var towards []netip.Prefix
		for _, name := range x.To {
			if to, ok := c.n.Site(name); ok {
				towards = append(towards, reach(&c.n.Sites[to])...)
			}
		}
		sources(x.Sources, func(family, set string) {
			switch {
			case x.Out != "":
				fmt.Fprintf(b, "\t\toifname %q %s saddr %s masquerade\n", x.Out, family, set)
			case len(x.To) == 0:
				// Not what goes on to an exit: routers on the way know that by its source.
				own := ""
				sources(ownLANs(s), func(f, lans string) {
					if f == family {
						own = fmt.Sprintf("%s daddr != %s ", family, lans)
					}
				})
				fmt.Fprintf(b, "\t\t%s saddr %s %s%s daddr %s masquerade\n", family, set, own, family, insideSet(family))
			default:
				sources(towards, func(f, to string) {
					if f == family {
						fmt.Fprintf(b, "\t\t%s saddr %s %s daddr %s masquerade\n", family, set, family, to)
					}
				})
			}
		})
	}
}

func ownLANs(s *spec.Site) []netip.Prefix {
	lans, _ := ownPrefixes(s)
	return lans
}

// masquerades hides sources behind the uplinks' addresses, except from sites that are joined by
// the same device without a tunnel.
func (c *compiler) masquerades(b *strings.Builder, i int, r *state.Router) {
	bySource := map[string][]netip.Prefix{} // by family
	for _, p := range c.hidden(i, r) {
		bySource[nftFamily(p)] = append(bySource[nftFamily(p)], p)
	}
	for _, u := range r.Uplinks {
		if !u.Masquerade {
			continue
		}
		direct := directPrefixes(u.Device, r, c.clients.pool)
		for _, f := range slices.Sorted(maps.Keys(bySource)) {
			if to := direct[f]; len(to) > 0 {
				fmt.Fprintf(b, "\t\toifname %q %s daddr %s return\n", u.Device, f, anonymous(to, netip.Prefix.String))
			}
			fmt.Fprintf(b, "\t\toifname %q %s saddr %s masquerade\n", u.Device, f, anonymous(bySource[f], netip.Prefix.String))
		}
	}
}
