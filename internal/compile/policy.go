package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// policyChains say who may open connections to whom. They are asked at the edges alone, where a
// packet comes from a host or goes to one: both directions of a flow pass there, which routers on
// the way may not see. What answers is let through; so one rule is all that a known flow costs.
//
// However many rules there are, a new flow costs three lookups: its source leads to a chain, that
// its destination to a verdict, or to a chain for its port. No rule is gone through in turn:
// that is done here, for every pair of classes (see classes).
//
// To a router itself the policy applies as to its LANs, but not for its own LANs, nor for other
// routers: nobody is locked out, and a router behind another is reached from that.
func (c *compiler) policyChains(b *strings.Builder, i int, r *state.Router) {
	if c.n.Policy == nil || c.n.Sites[i].Kind == spec.Plain {
		return
	}
	edges := c.edgeDevices(i, r)
	p := c.policy().at(c, i)
	if len(edges) == 0 && len(r.Interfaces) == 0 {
		return
	}
	p.write(b)
	b.WriteString("\tchain policy-forward {\n\t\ttype filter hook forward priority filter - 2; policy accept;\n")
	b.WriteString("\t\tct state established,related accept\n")
	if len(edges) > 0 {
		set := anonymous(edges, quoted)
		fmt.Fprintf(b, "\t\tiifname %s goto policy\n\t\toifname %s goto policy\n", set, set)
	}
	b.WriteString("\t}\n")
	if len(r.Interfaces) == 0 {
		return
	}
	b.WriteString("\tchain policy-input {\n\t\ttype filter hook input priority filter - 2; policy accept;\n")
	fmt.Fprintf(b, "\t\tiifname != %s accept\n", anonymous(interfaceNames(r.Interfaces), quoted))
	b.WriteString("\t\tct state established,related accept\n")
	fmt.Fprintf(b, "\t\tip saddr %v accept\n", c.n.Overlay)
	if len(c.clients.pool) > 0 {
		fmt.Fprintf(b, "\t\tip6 saddr %v goto policy\n", c.clients.pool[1])
	}
	fmt.Fprintf(b, "\t\tip6 saddr %v accept\n\t\tgoto policy\n\t}\n", c.n.Overlay6)
}

// edgeDevices are those with hosts behind them: LANs, and a door's for roaming devices.
func (c *compiler) edgeDevices(i int, r *state.Router) []string {
	var out []string
	for _, l := range c.n.Sites[i].LANs {
		out = append(out, l.Device)
	}
	if r.Clients != nil {
		out = append(out, r.Clients.Device)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// policy is the network's, prepared for all its routers.
type policy struct {
	*spec.Policy
	from, to classes
}

func (c *compiler) policy() *policy {
	if c.access == nil {
		all := c.allPrefixes()
		c.access = &policy{Policy: c.n.Policy}
		groups := func(of func(spec.PolicyRule) spec.Group) []spec.Group {
			out := make([]spec.Group, len(c.n.Policy.Rules))
			for k, x := range c.n.Policy.Rules {
				out[k] = of(x)
			}
			return out
		}
		c.access.from = newClasses(all, groups(func(x spec.PolicyRule) spec.Group { return x.From }))
		c.access.to = newClasses(all, groups(func(x spec.PolicyRule) spec.Group { return x.To }))
	}
	return c.access
}

// allPrefixes are those of the network, as it sees them.
func (c *compiler) allPrefixes() []netip.Prefix {
	out := append([]netip.Prefix{c.n.Overlay, c.n.Overlay6}, c.clients.pool...)
	for i := range c.n.Sites {
		out = append(out, reach(&c.n.Sites[i])...)
		out = append(out, foreignPrefixes(&c.n.Sites[i])...)
	}
	return out
}

// sitePolicy is what the router of one site asks.
type sitePolicy struct {
	policy
	site  *spec.Site
	own   []netip.Prefix // whose hosts are behind its edges, and its own addresses
	ports map[string]int // port chains by their text
	texts []string       // of them
}

// at returns what a site asks.
func (p *policy) at(c *compiler, i int) *sitePolicy {
	s := &c.n.Sites[i]
	own := append(reach(s), foreignPrefixes(s)...)
	if slices.Contains(c.clients.doors, i) {
		own = append(own, c.clients.pool...)
		for _, g := range c.clients.sites {
			own = append(own, reach(&c.n.Sites[g])...)
		}
	}
	return &sitePolicy{policy: *p, site: s, own: own, ports: map[string]int{}}
}

func (p *sitePolicy) has(x interval) bool {
	return slices.ContainsFunc(p.own, func(o netip.Prefix) bool { return o.Contains(x.first) })
}

// write writes the chains to which a new flow goes: `policy`, and those that it leads to.
func (p *sitePolicy) write(b *strings.Builder) {
	var chains, pairs strings.Builder
	bySource := map[string][]string{} // elements of the map of sources, by family
	made := map[string]string{}       // verdicts by what they are made from
	// From outside the network: what the rules say of that alone.
	outside := p.elements(outsideClass, false, false)
	for _, x := range p.from.intervals {
		key := fmt.Sprintf("%d %v", x.class, p.has(x))
		verdict, met := made[key]
		if !met {
			verdict = p.fromChain(&pairs, x.class, p.has(x), len(made))
			if verdict == "" && len(outside) > 0 {
				verdict = "accept"
			}
			made[key] = verdict
		}
		if verdict != "" {
			f, text := p.element(x)
			bySource[f] = append(bySource[f], text+" : "+verdict)
		}
	}
	for k, text := range p.texts {
		fmt.Fprintf(&chains, "\tchain policy-ports-%d {\n%s\t}\n", k, text)
	}
	b.WriteString("\tchain denied {\n\t\treject with icmpx type admin-prohibited\n\t}\n")
	b.WriteString(chains.String())
	b.WriteString(pairs.String())
	b.WriteString("\tchain policy {\n")
	writeMaps(b, "saddr", bySource)
	writeMaps(b, "daddr", outside)
	b.WriteString("\t}\n")
}

// fromChain writes the chain of a class of sources and returns the verdict that leads to it; none
// where all is let through.
func (p *sitePolicy) fromChain(b *strings.Builder, class int, own bool, number int) string {
	last := ""
	if own {
		last = p.verdict(class, outsideClass)
	}
	to := p.elements(class, own, last != "")
	if len(to) == 0 && last == "" {
		return ""
	}
	fmt.Fprintf(b, "\tchain policy-from-%d {\n", number)
	writeMaps(b, "daddr", to)
	if last != "" {
		fmt.Fprintf(b, "\t\t%s\n", last)
	}
	b.WriteString("\t}\n")
	return fmt.Sprintf("goto policy-from-%d", number)
}

// elements returns the verdicts for a class of sources by destination, and family; for sources
// that are not here only those of what is. All says that what is let through has one too.
func (p *sitePolicy) elements(class int, own, all bool) map[string][]string {
	out := map[string][]string{}
	verdicts := map[int]string{}
	for _, x := range p.to.intervals {
		if !own && !p.has(x) {
			continue
		}
		v, met := verdicts[x.class]
		if !met {
			if v = p.verdict(class, x.class); v == "" && all {
				v = "accept"
			}
			verdicts[x.class] = v
		}
		if v != "" {
			f, text := p.element(x)
			out[f] = append(out[f], text+" : "+v)
		}
	}
	return out
}

// element returns an interval as the site's router sees it, and its family's word.
func (p *sitePolicy) element(x interval) (family, text string) {
	first := p.site.Inside(host(x.first)).Addr()
	last := p.site.Inside(host(x.last)).Addr()
	family = nftFamily(host(first))
	if first == last {
		return family, first.String()
	}
	return family, first.String() + "-" + last.String()
}

func writeMaps(b *strings.Builder, what string, elements map[string][]string) {
	for _, f := range []string{"ip", "ip6"} {
		if e := elements[f]; len(e) > 0 {
			fmt.Fprintf(b, "\t\t%s %s vmap { %s }\n", f, what, strings.Join(e, ", "))
		}
	}
}

// verdict returns what becomes of a new flow between two classes, as an element of a map has
// it: "" where it is let through.
func (p *sitePolicy) verdict(from, to int) string {
	inside := from != outsideClass && to != outsideClass
	deny := "goto denied"
	if from == outsideClass {
		deny = "drop" // strangers are not told
	}
	x := p.sequence(from, to, p.Deny && inside)
	if !x.mixed() {
		if x.other {
			return deny
		}
		return ""
	}
	text := x.text(deny)
	k, met := p.ports[text]
	if !met {
		k = len(p.texts)
		p.ports[text], p.texts = k, append(p.texts, text)
	}
	return fmt.Sprintf("goto policy-ports-%d", k)
}

// sequence puts together what the rules say of two classes.
func (p *sitePolicy) sequence(from, to int, deny bool) verdicts {
	var out verdicts
	rules := intersection(p.from.rules[from], p.to.rules[to])
	out.other, out.icmp = deny, deny
	out.tcp, out.udp = whole(deny), whole(deny)
	for _, k := range slices.Backward(rules) { // an earlier one overrides a later
		x := p.Rules[k]
		denies := !x.Allow
		if len(x.Ports) == 0 {
			out.other, out.icmp, out.tcp, out.udp = denies, denies, whole(denies), whole(denies)
		}
		for _, port := range x.Ports {
			r := port.Ports
			if r == (spec.PortRange{}) {
				r = spec.PortRange{First: 0, Last: 65535}
			}
			switch port.Protocol {
			case "icmp":
				out.icmp = denies
			case "tcp":
				out.tcp = out.tcp.with(r, denies)
			case "udp":
				out.udp = out.udp.with(r, denies)
			}
		}
	}
	return out
}

// intersection returns what stands in two ascending lists.
func intersection(a, b []int) []int {
	var out []int
	for len(a) > 0 && len(b) > 0 {
		switch c := cmp.Compare(a[0], b[0]); {
		case c == 0:
			out = append(out, a[0])
			a, b = a[1:], b[1:]
		case c < 0:
			a = a[1:]
		default:
			b = b[1:]
		}
	}
	return out
}
