package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// guardChains keep at home what may not leave there, should another program flush our
// tables: rules and routes lead to an end, but only while they are there.
//
// A packet in the reply direction answers somebody who came in by that uplink, and is let out.
func (c *compiler) guardChains(b *strings.Builder, i int, r *state.Router) {
	uplinks := c.guarded(i, r)
	if len(uplinks) == 0 {
		return
	}
	blocked, allowed, own := c.kept(i)
	devices := c.ended(i)
	if len(blocked) > 0 {
		b.WriteString("\tchain guard {\n\t\ttype filter hook forward priority filter - 5; policy accept;\n")
		fmt.Fprintf(b, "\t\toifname != %s accept\n\t\tct direction reply accept\n", anonymous(uplinks, quoted))
		c.verdicts(b, blocked, allowed)
		if len(devices) > 0 {
			// Told, hosts that have IPv6 by themselves turn to IPv4 at once.
			fmt.Fprintf(b, "\t\tiifname %s reject with icmpx type admin-prohibited\n", anonymous(devices, quoted))
		}
		b.WriteString("\t}\n")
	}
	if len(own) == 0 {
		return
	}
	b.WriteString("\tchain guard-router {\n\t\ttype filter hook output priority filter - 5; policy accept;\n")
	fmt.Fprintf(b, "\t\toifname != %s accept\n", anonymous(uplinks, quoted))
	fmt.Fprintf(b, "\t\tmeta mark & %#x != 0 accept\n", r.Egress.Mask) // the tunnels' own, replies, checks
	b.WriteString("\t\tct direction reply accept\n\t\tct state related accept\n")
	b.WriteString("\t\tudp dport { 53, 67, 123, 547 } accept\n\t\ttcp dport 53 accept\n")
	b.WriteString("\t\tip protocol igmp accept\n")
	b.WriteString("\t\ticmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-report, mld-listener-done, mld2-listener-report } accept\n")
	sources(c.onLink(i), func(family, set string) { fmt.Fprintf(b, "\t\t%s daddr %s accept\n", family, set) })
	// Connections from before this table are in neither direction for sure: who is logged in
	// by the uplink's address stays so.
	sources(own, func(family, set string) {
		fmt.Fprintf(b, "\t\t%s saddr != %s tcp flags & (syn | ack) != syn accept\n", family, set)
	})
	sources(own, func(family, _ string) {
		fmt.Fprintf(b, "\t\tmeta nfproto %s drop\n", map[string]string{"ip": "ipv4", "ip6": "ipv6"}[family])
	})
	b.WriteString("\t}\n")
}

// verdicts writes which sources may leave, longer prefixes first.
func (c *compiler) verdicts(b *strings.Builder, blocked, allowed []netip.Prefix) {
	for bits := 128; bits >= 0; bits-- {
		of := func(prefixes []netip.Prefix) []netip.Prefix {
			return slices.DeleteFunc(slices.Clone(prefixes), func(p netip.Prefix) bool { return p.Bits() != bits })
		}
		sources(of(allowed), func(family, set string) { fmt.Fprintf(b, "\t\t%s saddr %s accept\n", family, set) })
		sources(of(blocked), func(family, set string) { fmt.Fprintf(b, "\t\t%s saddr %s drop\n", family, set) })
	}
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }

// sources calls f for each family of which there are prefixes.
func sources(prefixes []netip.Prefix, f func(family, set string)) {
	for _, family := range []string{"ip", "ip6"} {
		if of := ofFamily(prefixes, family); len(of) > 0 {
			f(family, anonymous(of, netip.Prefix.String))
		}
	}
}

// ofFamily returns the prefixes of a family, "ip" or "ip6".
func ofFamily(prefixes []netip.Prefix, family string) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(prefixes), func(p netip.Prefix) bool { return nftFamily(p) != family })
}

// guarded returns the devices of uplinks; not those by which another site is reached without
// a tunnel, where an exit may be too.
func (c *compiler) guarded(i int, r *state.Router) []string {
	var out []string
	for _, u := range r.Uplinks {
		if !c.joined(i, u.Device) && r.Egress != nil {
			out = append(out, u.Device)
		}
	}
	return out
}

// ended returns the devices of LANs that may not leave by a site's uplinks, whatever the source:
// a host may have IPv6 of which the file knows nothing. It is those all of whose prefixes are
// meant by the word for their site.
func (c *compiler) ended(i int) []string {
	s := &c.n.Sites[i]
	means := map[netip.Prefix]bool{}
	for _, e := range c.exits {
		means[e.real] = e.block && e.site == s.Name && slices.Contains(e.homes, i) && !slices.Contains(e.via, i)
	}
	var out []string
	for _, l := range s.LANs {
		if len(l.Prefixes) > 0 && !slices.ContainsFunc(l.Prefixes, func(m spec.Mapped) bool { return !means[m.Prefix] }) {
			out = append(out, l.Device)
		}
	}
	slices.Sort(out)
	return out
}

// kept returns which sources may not leave by a site's uplinks, which may, and the router's
// own addresses if they are meant.
func (c *compiler) kept(i int) (blocked, allowed, own []netip.Prefix) {
	for k := range c.exits {
		e := &c.exits[k]
		switch {
		case e.leavesAt(i):
			allowed = append(allowed, e.from(i))
		case e.block:
			blocked = append(blocked, e.from(i))
			if e.own && slices.Contains(e.homes, i) {
				own = append(own, e.src)
			}
		}
	}
	for _, s := range [][]netip.Prefix{blocked, allowed, own} {
		slices.SortFunc(s, state.ComparePrefixes)
	}
	return blocked, allowed, own
}

// onLink returns the subnets of a site's uplinks, as far as they are known.
func (c *compiler) onLink(i int) []netip.Prefix {
	_, out := ownPrefixes(&c.n.Sites[i])
	for _, p := range c.o.Leased {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, state.ComparePrefixes)
	return out
}
