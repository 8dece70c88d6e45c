package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"tombolo/internal/state"
)

// ruleset returns the site's one nftables table. It accepts what is ours and drops
// nothing: another table's drop stands, as it would without us.
func ruleset(r *state.Router) state.Ruleset {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", r.Owner.RulesetTable)
	inputChain(&b, r)
	forwardChain(&b, r.Interfaces)
	mssChain(&b, r.Interfaces)
	postroutingChain(&b, r)
	b.WriteString("}\n")
	text := b.String()
	return state.Ruleset{Family: "inet", Table: r.Owner.RulesetTable, Text: text, Digest: state.RulesetDigest(text)}
}

// inputChain accepts the tunnels' own packets, and what Babel routers say: always from a
// link-local address to port 6696 (RFC 8966 §4).
func inputChain(b *strings.Builder, r *state.Router) {
	var ports []int
	for _, f := range r.Interfaces {
		ports = append(ports, int(f.WireGuard.ListenPort))
	}
	slices.Sort(ports)
	b.WriteString("\tchain input {\n\t\ttype filter hook input priority filter - 5; policy accept;\n")
	if len(ports) > 0 {
		fmt.Fprintf(b, "\t\tudp dport %s accept comment \"tunnels\"\n", anonymous(ports, strconv.Itoa))
	}
	if r.Babel != nil {
		var devices []string
		for _, l := range r.Babel.Links {
			devices = append(devices, l.Device)
		}
		slices.Sort(devices)
		fmt.Fprintf(b, "\t\tiifname %s ip6 saddr fe80::/10 udp dport 6696 accept comment \"babel\"\n", anonymous(devices, strconv.Quote))
	}
	b.WriteString("\t}\n")
}

func forwardChain(b *strings.Builder, interfaces []state.Interface) {
	b.WriteString("\tchain forward {\n\t\ttype filter hook forward priority filter - 5; policy accept;\n")
	if len(interfaces) > 0 {
		names := anonymous(interfaceNames(interfaces), strconv.Quote)
		fmt.Fprintf(b, "\t\tiifname %s accept\n\t\toifname %s accept\n", names, names)
	}
	b.WriteString("\t}\n")
}

// mssChain keeps TCP from sending segments that no tunnel on the way can carry: what
// leaves by a link is clamped to its route, and what enters by one to that link, since the
// other end may be a router that runs nothing of ours. An nftables rule never raises the
// value (net/netfilter/nft_exthdr.c).
func mssChain(b *strings.Builder, interfaces []state.Interface) {
	b.WriteString("\tchain mss {\n\t\ttype filter hook forward priority mangle; policy accept;\n")
	byMTU := map[int][]string{}
	for _, f := range interfaces {
		byMTU[f.MTU] = append(byMTU[f.MTU], f.Name)
	}
	if len(interfaces) > 0 {
		fmt.Fprintf(b, "\t\toifname %s tcp flags syn / syn,rst tcp option maxseg size set rt mtu\n",
			anonymous(interfaceNames(interfaces), strconv.Quote))
	}
	mtus := make([]int, 0, len(byMTU))
	for m := range byMTU {
		mtus = append(mtus, m)
	}
	slices.Sort(mtus)
	for _, m := range mtus {
		slices.Sort(byMTU[m])
		names := anonymous(byMTU[m], strconv.Quote)
		for _, family := range []struct {
			name    string
			headers int // IP and TCP, without options
		}{{"ipv4", 20 + 20}, {"ipv6", 40 + 20}} {
			fmt.Fprintf(b, "\t\tiifname %s meta nfproto %s tcp flags syn / syn,rst tcp option maxseg size set %d\n",
				names, family.name, m-family.headers)
		}
	}
	b.WriteString("\t}\n")
}

// postroutingChain hides the LANs behind the uplinks' addresses, except from sites that
// are joined by the same device without a tunnel.
func postroutingChain(b *strings.Builder, r *state.Router) {
	var sources []netip.Prefix
	for _, l := range r.LANs {
		for _, p := range l.Prefixes {
			if p.Addr().Is4() {
				sources = append(sources, p)
			}
		}
	}
	slices.SortFunc(sources, state.ComparePrefixes)
	b.WriteString("\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n")
	for _, u := range r.Uplinks {
		if !u.Masquerade || len(sources) == 0 {
			continue
		}
		if direct := directPrefixes(u.Device, r); len(direct) > 0 {
			fmt.Fprintf(b, "\t\toifname %q ip daddr %s return\n", u.Device, anonymous(direct, netip.Prefix.String))
		}
		fmt.Fprintf(b, "\t\toifname %q ip saddr %s masquerade\n", u.Device, anonymous(sources, netip.Prefix.String))
	}
	b.WriteString("\t}\n")
}

// directPrefixes returns the IPv4 prefixes that may be routed over a device without a
// tunnel: where a speaker speaks on it, all that it may learn.
func directPrefixes(device string, r *state.Router) []netip.Prefix {
	all := fabric(*r)
	if r.Babel == nil || !slices.ContainsFunc(r.Babel.Links, func(l state.BabelLink) bool { return l.Device == device }) {
		all = nil
		for _, route := range r.Routes {
			if route.Device == device {
				all = append(all, route.Dst)
			}
		}
	}
	out := slices.DeleteFunc(all, func(p netip.Prefix) bool { return !p.Addr().Is4() })
	slices.SortFunc(out, state.ComparePrefixes)
	return slices.Compact(out)
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
