package compile

import (
	"fmt"
	"slices"
	"strings"

	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// forwarded writes what is asked of packets that go on; special is what else is said before the policy.
func (c *compiler) forwarded(b *strings.Builder, i int, r *state.Router, special string, edges []string) {
	b.WriteString("\tchain access-forward {\n\t\ttype filter hook forward priority filter - 2; policy accept;\n")
	b.WriteString("\t\tct state established,related accept\n")
	if len(edges) > 0 {
		// Within a LAN packets come here too: to a port that is published, to the address by which
		// the others know a host, and where the kernel shows bridged ones to nftables.
		for _, l := range c.n.Sites[i].LANs {
			for _, m := range l.Prefixes {
				f := nftFamily(m.Prefix)
				fmt.Fprintf(b, "\t\tiifname %q oifname %q %s saddr %v %s daddr %v accept\n", l.Device, l.Device, f, m.Prefix, f, m.Prefix)
			}
		}
		if r.Clients != nil {
			// A device comes from another door in the middle of its connections, whose next packet
			// may be an answer; none begins with such a one.
			for _, way := range []string{"iifname", "oifname"} {
				fmt.Fprintf(b, "\t\t%s %q tcp flags & (syn | ack) == ack accept\n", way, r.Clients.Device)
			}
		}
		b.WriteString(special)
		b.WriteString(c.betweenRouters("ip"))
		b.WriteString(c.betweenRouters("ip6"))
		set := anonymous(edges, quoted)
		fmt.Fprintf(b, "\t\tiifname %s goto access\n\t\toifname %s goto access\n", set, set)
	}
	b.WriteString("\t}\n")
}

// betweenLANs says what the policy does of LANs of one router about all of them, for the IPv6 that
// their hosts have from a provider: the file does not know its addresses.
func (p *sitePolicy) betweenLANs(lans []spec.LAN) string {
	var elements []string
	for _, from := range lans {
		for _, to := range lans {
			v := p.verdict(p.from.whole(from), p.to.whole(to))
			if from.Device == to.Device {
				v = "accept"
			}
			if v != "" {
				elements = append(elements, fmt.Sprintf("%q . %q : %s", from.Device, to.Device, v))
			}
		}
	}
	if len(elements) == 0 {
		return ""
	}
	return fmt.Sprintf("\t\tip6 daddr != @inside6 iifname . oifname vmap { %s }\n", strings.Join(elements, ", "))
}

// publishedElsewhere says of hosts here whose ports other sites publish that who comes by those
// is a stranger, also if they are hidden behind the address of the site's router (see hairpins).
func (c *compiler) publishedElsewhere(i int, p *sitePolicy) string {
	var b strings.Builder
	for _, x := range c.n.Publish {
		at, ok := c.n.Site(x.At)
		k := slices.IndexFunc(p.to.intervals, func(v interval) bool {
			return !x.To.Addr().Less(v.first) && !v.last.Less(x.To.Addr())
		})
		if !ok || at == i || k < 0 || !p.here[k] {
			continue
		}
		router, verdict := c.n.Sites[at].Address, p.verdict(outsideClass, p.to.intervals[k].class)
		if x.To.Addr().Is6() {
			router = c.n.Sites[at].Address6
		}
		if verdict == "" {
			verdict = "accept"
		}
		f, first := nftFamily(host(router)), int(x.To.Port())
		fmt.Fprintf(&b, "\t\t%s saddr %v %s daddr %v %s dport %d-%d %s\n", f, router, f, p.site.Inside(host(x.To.Addr())).Addr(), x.Protocol, first, first+x.Port.Last-x.Port.First, verdict)
	}
	return b.String()
}

// betweenRouters lets their own addresses reach each other. The devices' IPv6 addresses lie among
// them.
func (c *compiler) betweenRouters(family string) string {
	if family == "ip" {
		return fmt.Sprintf("\t\tip saddr %v ip daddr %v accept\n", c.n.Overlay, c.n.Overlay)
	}
	pool := ""
	if len(c.clients.pool) > 0 {
		pool = fmt.Sprintf("ip6 saddr != %[1]v ip6 daddr != %[1]v ", c.clients.pool[1])
	}
	return fmt.Sprintf("\t\t%sip6 saddr %v ip6 daddr %v accept\n", pool, c.n.Overlay6, c.n.Overlay6)
}

// edgeDevices are those with hosts behind them: LANs, a door's for roaming devices, those of
// routers that are no sites, and links to plain sites, which ask nothing themselves.
func (c *compiler) edgeDevices(i int, r *state.Router) []string {
	var out []string
	for _, l := range c.n.Sites[i].LANs {
		out = append(out, l.Device)
	}
	if r.Clients != nil {
		out = append(out, r.Clients.Device)
	}
	for _, x := range c.n.Sites[i].Babel {
		out = append(out, x.Device)
	}
	for _, to := range c.plainNeighbours(i) {
		out = append(out, c.device(i, to))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// plainNeighbours are the plain sites to which a site has links that carry traffic.
func (c *compiler) plainNeighbours(i int) []int {
	var out []int
	for _, e := range c.roads.edges[i] {
		if c.n.Sites[e.to].Kind == spec.Plain {
			out = append(out, e.to)
		}
	}
	return out
}

// device is that by which a site's packets go to a neighbour.
func (c *compiler) device(i, to int) string {
	o := c.n.Links.Options(i, to)
	switch {
	case o.NoTunnel:
		return o.On[0]
	case c.static[i]:
		return spec.StaticInterface
	}
	return spec.InterfaceName(c.n.Sites[to].Name)
}

// closedLANs are those by which nothing of the Internet comes: what has an address there that is
// not the network's is a host of the site all the same, with IPv6 of which the file knows nothing.
func (c *compiler) closedLANs(i int, r *state.Router) []spec.LAN {
	if len(c.n.Sites[i].Uplinks) == 0 {
		return nil // the Internet may be behind a LAN
	}
	closed := c.strictLANs(i, r)
	return slices.DeleteFunc(slices.Clone(c.n.Sites[i].LANs), func(l spec.LAN) bool { return !slices.Contains(closed, l.Device) })
}
