package compile

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"tombolo/internal/state"
)

// ruleset returns the site's one nftables table. It drops nothing, and accepts nothing that
// is not accepted without it: another table's drop would stand. A chain in which there is
// nothing to do is left out, since every packet would pay for it. pool are the prefixes of
// the roaming devices.
func ruleset(r *state.Router, pool []netip.Prefix) state.Ruleset {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", r.Owner.RulesetTable)
	if len(r.Interfaces) > 0 {
		mssChains(&b, r.Interfaces)
	}
	postroutingChain(&b, r, pool)
	b.WriteString("}\n")
	text := b.String()
	return state.Ruleset{Family: "inet", Table: r.Owner.RulesetTable, Text: text, Digest: state.RulesetDigest(text)}
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

// postroutingChain hides the LANs behind the uplinks' addresses, and at a door the roaming
// devices, except from sites that are joined by the same device without a tunnel. A LAN
// with IPv6 has addresses of its own there; a device has none that the Internet would reach.
func postroutingChain(b *strings.Builder, r *state.Router, pool []netip.Prefix) {
	sources := map[string][]netip.Prefix{} // by family
	for _, l := range r.LANs {
		for _, p := range l.Prefixes {
			if p.Addr().Is4() {
				sources["ip"] = append(sources["ip"], p)
			}
		}
	}
	if r.Clients != nil {
		for _, p := range pool {
			sources[nftFamily(p)] = append(sources[nftFamily(p)], p)
		}
	}
	hides := func(u state.Uplink) bool { return u.Masquerade && len(sources) > 0 }
	if !slices.ContainsFunc(r.Uplinks, hides) {
		return
	}
	b.WriteString("\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n")
	for _, u := range r.Uplinks {
		if !hides(u) {
			continue
		}
		direct := directPrefixes(u.Device, r, pool)
		for _, f := range slices.Sorted(maps.Keys(sources)) {
			if to := direct[f]; len(to) > 0 {
				fmt.Fprintf(b, "\t\toifname %q %s daddr %s return\n", u.Device, f, anonymous(to, netip.Prefix.String))
			}
			slices.SortFunc(sources[f], state.ComparePrefixes)
			fmt.Fprintf(b, "\t\toifname %q %s saddr %s masquerade\n", u.Device, f, anonymous(sources[f], netip.Prefix.String))
		}
	}
	b.WriteString("\t}\n")
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
		slices.SortFunc(out[f], state.ComparePrefixes)
		out[f] = slices.Compact(out[f])
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
