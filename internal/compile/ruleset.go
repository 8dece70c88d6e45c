package compile

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// ruleset returns the site's one nftables table. It accepts nothing that is not accepted
// without it (another table's drop would stand), and drops nothing but what an exit with
// `otherwise: block` keeps at home. A chain in which there is nothing to do is left out, since
// every packet would pay for it.
func (c *compiler) ruleset(i int, r *state.Router, tunnels []tunnelMark) state.Ruleset {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", r.Owner.RulesetTable)
	if c.marked(i, r) || len(c.n.NAT) > 0 {
		insideSets(&b, c.inside(i, r))
	}
	if c.marked(i, r) {
		m := marks{Builder: &b, egress: r.Egress, own: c.n.Settings.Mark, mask: c.n.Settings.Mask, uplinks: r.Uplinks, tunnels: tunnels, devices: interfaceNames(r.Interfaces), exits: c.exits.sources(i), checks: c.sourceChecks(i, r)}
		m.chains()
	}
	if len(r.Interfaces) > 0 {
		mssChains(&b, r.Interfaces)
	}
	c.guardChains(&b, i, r)
	c.policyChains(&b, i, r)
	c.natChains(&b, i, r)
	b.WriteString("}\n")
	text := b.String()
	return state.Ruleset{Family: "inet", Table: r.Owner.RulesetTable, Text: text, Digest: state.RulesetDigest(text)}
}

// marked reports whether a router remembers how connections came in and left.
func (c *compiler) marked(i int, r *state.Router) bool {
	return r.Egress != nil || len(c.tunnelMarks(i)) > 0
}

// insideSets hold the network's own prefixes that lie in no other: nft refuses sets that overlap.
func insideSets(b *strings.Builder, inside []netip.Prefix) {
	byFamily := map[string][]string{}
	for _, p := range outermost(inside) {
		byFamily[nftFamily(p)] = append(byFamily[nftFamily(p)], p.String())
	}
	for _, f := range []struct{ family, name, kind string }{{"ip", "inside4", "ipv4_addr"}, {"ip6", "inside6", "ipv6_addr"}} {
		words := byFamily[f.family]
		fmt.Fprintf(b, "\tset %s {\n\t\ttype %s; flags interval;\n", f.name, f.kind)
		if len(words) > 0 {
			fmt.Fprintf(b, "\t\telements = { %s }\n", strings.Join(words, ", "))
		}
		fmt.Fprintf(b, "\t}\n")
	}
}

// mssChains keep TCP from sending segments that no tunnel on the way can carry: what
// leaves by a link is clamped to its route, and what enters by one to that link, since the
// other end may be a router that runs nothing of ours. An nftables rule never raises the
// value (net/netfilter/nft_exthdr.c). All packets but a connection's first pass one rule.
func mssChains(b *strings.Builder, interfaces []state.Interface) {
	b.WriteString("\tchain mss {\n")
	fmt.Fprintf(b, "\t\toifname %s tcp option maxseg size set rt mtu\n", anonymous(interfaceNames(interfaces), strconv.Quote))
	byMTU := map[int][]string{}
	for _, f := range interfaces {
		byMTU[f.MTU] = append(byMTU[f.MTU], f.Name)
	}
	for _, m := range slices.Sorted(maps.Keys(byMTU)) {
		slices.Sort(byMTU[m])
		names := anonymous(byMTU[m], strconv.Quote)
		for _, family := range []struct {
			name    string
			headers int // IP and TCP, without options
		}{{"ipv4", 20 + 20}, {"ipv6", 40 + 20}} {
			fmt.Fprintf(b, "\t\tiifname %s meta nfproto %s tcp option maxseg size set %d\n", names, family.name, m-family.headers)
		}
	}
	b.WriteString("\t}\n")
	b.WriteString("\tchain forward {\n\t\ttype filter hook forward priority mangle; policy accept;\n")
	b.WriteString("\t\ttcp flags syn / syn,rst jump mss\n\t}\n")
}

// hidden returns the sources that have no address of their own outside: the LANs, at a door
// the roaming devices, and at an exit those who leave there. A LAN's IPv6 addresses are known
// outside, but for those of its own making (RFC 4193), and where they leave by another site.
func (c *compiler) hidden(i int, r *state.Router) []netip.Prefix {
	var out []netip.Prefix
	for _, l := range r.LANs {
		for _, p := range l.Prefixes {
			if p.Addr().Is4() || p.Addr().IsPrivate() {
				out = append(out, p)
			}
		}
	}
	if r.Clients != nil {
		out = append(out, c.clients.pool...)
	}
	for _, e := range c.exits {
		if slices.Contains(e.via, i) {
			out = append(out, e.from(i))
		}
	}
	return outermost(append(out, c.beside(i)...))
}

// beside returns the subnets from which packets come to an exit that is joined to their site by
// a device without a tunnel: there that site may have hidden them behind its own address.
func (c *compiler) beside(i int) []netip.Prefix {
	var out []netip.Prefix
	for _, e := range c.exits {
		if !slices.Contains(e.via, i) {
			continue
		}
		for _, h := range e.homes {
			if o := c.n.Links.Options(i, h); h != i && c.n.Links.Has(i, h) && o.NoTunnel {
				out = append(out, subnets(&c.n.Sites[i], o.On[0])...)
			}
		}
	}
	return out
}

// subnets returns the prefixes of a site's device.
func subnets(s *spec.Site, device string) []netip.Prefix {
	var out []netip.Prefix
	for _, l := range s.LANs {
		for _, m := range l.Prefixes {
			if l.Device == device {
				out = append(out, m.Prefix)
			}
		}
	}
	for _, u := range s.Uplinks {
		for _, a := range u.Addresses {
			if u.Device == device {
				out = append(out, a.Masked())
			}
		}
	}
	return out
}

// nftFamily returns the nft word for a prefix's family.
func nftFamily(p netip.Prefix) string {
	if p.Addr().Is6() {
		return "ip6"
	}
	return "ip"
}

// directPrefixes returns the prefixes, by family, that may be routed over a device without a
// tunnel: where a speaker speaks on it, all that it may learn. The pool stands for all the
// devices in it, so that one more of them changes no rule.
func directPrefixes(device string, r *state.Router, pool []netip.Prefix) map[string][]netip.Prefix {
	all := fabric(*r)
	if r.Babel == nil || !slices.ContainsFunc(r.Babel.Links, func(l state.BabelLink) bool { return l.Device == device }) {
		all = nil
		for _, route := range r.Routes {
			if route.Device == device {
				all = append(all, route.Dst)
			}
		}
	}
	out := map[string][]netip.Prefix{}
	for _, p := range all {
		for _, whole := range pool {
			if whole.Contains(p.Addr()) {
				p = whole
			}
		}
		out[nftFamily(p)] = append(out[nftFamily(p)], p)
	}
	for f := range out {
		out[f] = outermost(out[f])
	}
	return out
}

func interfaceNames(interfaces []state.Interface) []string {
	out := make([]string, 0, len(interfaces))
	for _, f := range interfaces {
		out = append(out, f.Name)
	}
	slices.Sort(out)
	return out
}

// anonymous writes an anonymous set, or its one element alone.
func anonymous[T any](elements []T, text func(T) string) string {
	if len(elements) == 1 {
		return text(elements[0])
	}
	words := make([]string, len(elements))
	for i, e := range elements {
		words[i] = text(e)
	}
	return "{ " + strings.Join(words, ", ") + " }"
}

// compacted returns prefixes sorted, each once.
func compacted(prefixes []netip.Prefix) []netip.Prefix {
	out := slices.Clone(prefixes)
	slices.SortFunc(out, state.ComparePrefixes)
	return slices.Compact(out)
}

// outermost returns the prefixes that lie in no other, sorted: nft refuses sets that overlap.
func outermost(all []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range compacted(all) { // outer ones come before those in them
		if n := len(out); n == 0 || !out[n-1].Contains(p.Addr()) {
			out = append(out, p)
		}
	}
	return out
}

// insideSet names the set of the network's own prefixes in a family.
func insideSet(family string) string {
	if family == "ip6" {
		return "@inside6"
	}
	return "@inside4"
}
