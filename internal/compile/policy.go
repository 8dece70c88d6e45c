package compile

import (
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
// However many rules there are, a new flow costs a few lookups: its source leads to a chain, which
// looks for its destination and port, and then for the destination alone. No rule is gone through
// in turn: that is done here, for every pair of classes (see classes).
//
// To a router itself the policy applies as to its LANs, but not for its own LANs, nor for other
// routers: nobody is locked out, and a router behind another is reached from that.
//
// An edge decides of what comes from or goes to its own hosts alone: what passes by on a LAN, to
// a site that is joined by it, is the business of others.
func (c *compiler) policyChains(b *strings.Builder, i int, r *state.Router) {
	if c.n.Policy == nil || c.n.Sites[i].Kind == spec.Plain {
		return
	}
	edges := c.edgeDevices(i, r)
	p := c.policy().at(c, i)
	if len(edges) == 0 && len(r.Interfaces) == 0 {
		return
	}
	for _, to := range c.plainNeighbours(i) {
		if c.static[i] { // one device for all
			p.owns(reach(&c.n.Sites[to]))
			continue
		}
		p.owns(c.behind(to, c.device(i, to), r))
	}
	lans := c.closedLANs(i, r)
	special := c.publishedElsewhere(i, p) + p.betweenLANs(lans)
	p.write(b, lans)
	c.forwarded(b, i, r, special, edges)
	if len(r.Interfaces) == 0 {
		return
	}
	b.WriteString("\tchain access-input {\n\t\ttype filter hook input priority filter - 2; policy accept;\n")
	fmt.Fprintf(b, "\t\tiifname != %s accept\n", anonymous(interfaceNames(r.Interfaces), quoted))
	b.WriteString("\t\tct state established,related accept\n")
	fmt.Fprintf(b, "\t\tip saddr %v accept\n", c.n.Overlay)
	if len(c.clients.pool) > 0 {
		fmt.Fprintf(b, "\t\tip6 saddr %v goto access\n", c.clients.pool[1])
	}
	fmt.Fprintf(b, "\t\tip6 saddr %v accept\n\t\tgoto access\n\t}\n", c.n.Overlay6)
}

// policy is the network's, prepared for all its routers.
type policy struct {
	*spec.Policy
	from, to classes
	outcomes map[string]*outcome // by the rules that are about two classes, and how they are denied
}

func (c *compiler) policy() *policy {
	if c.access == nil {
		all := c.allPrefixes()
		c.access = &policy{Policy: c.n.Policy, outcomes: map[string]*outcome{}}
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
	here  []bool         // of the intervals of destinations: whether they are in own
	about map[fromKey][]said
	uses  map[string]int // of what is said, where ports matter: for how many destinations
	ports chains         // by protocol and port
	pairs chains         // by destination
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
	out := &sitePolicy{
		policy: *p, site: s, about: map[fromKey][]said{}, uses: map[string]int{},
		ports: chains{name: "access-ports", number: map[string]int{}}, pairs: chains{name: "access-from", number: map[string]int{}},
	}
	out.owns(own)
	return out
}

// owns adds to what is here.
func (p *sitePolicy) owns(prefixes []netip.Prefix) {
	p.own = append(p.own, prefixes...)
	p.here = p.inOwn(p.to.intervals)
}

// inOwn reports of intervals which are here.
func (p *sitePolicy) inOwn(intervals []interval) []bool {
	out := make([]bool, len(intervals))
	for k, x := range intervals {
		out[k] = slices.ContainsFunc(p.own, func(o netip.Prefix) bool { return o.Contains(x.first) })
	}
	return out
}

// write writes the chains to which a new flow goes: `access`, and those that it leads to. What
// comes by the LANs from addresses that are nobody's is subject to what is said of the whole LAN.
func (p *sitePolicy) write(b *strings.Builder, lans []spec.LAN) {
	// From outside the network: what the rules say of that alone.
	stranger := fromKey{outsideClass, false}
	p.collect(stranger)
	own := p.inOwn(p.from.intervals)
	for k, x := range p.from.intervals {
		p.collect(fromKey{x.class, own[k]})
	}
	for _, l := range lans {
		p.collect(fromKey{p.from.whole(l), true})
	}
	outside := p.towards(stranger)
	var bySource elements
	verdicts := map[fromKey]string{}
	for k, x := range p.from.intervals {
		key := fromKey{x.class, own[k]}
		verdict, met := verdicts[key]
		if !met {
			verdict = p.fromChain(key)
			verdicts[key] = verdict
		}
		bySource.add(p.site, x, "", verdict)
	}
	var byDevice []string
	for _, l := range lans {
		switch verdict := p.fromChain(fromKey{p.from.whole(l), true}); {
		case verdict != "":
			byDevice = append(byDevice, fmt.Sprintf("%q : %s", l.Device, verdict))
		case p.Deny:
			byDevice = append(byDevice, fmt.Sprintf("%q : %s", l.Device, p.rest(true)))
		}
	}
	b.WriteString("\tchain denied {\n\t\treject with icmpx type admin-prohibited\n\t}\n")
	last := map[bool]string{false: "accept", true: "goto denied"}[p.Deny]
	b.WriteString("\tchain access-rest {\n")
	p.inside(b, "daddr", func(int) string { return last })
	// Of what comes from elsewhere only where it is for here: the rest passes by, to a site
	// that is joined by a LAN.
	b.WriteString("\t}\n\tchain access-here {\n")
	p.inside(b, "daddr", func(k int) string {
		if !p.here[k] {
			return ""
		}
		return last
	})
	b.WriteString("\t}\n")
	b.WriteString(p.ports.text.String())
	b.WriteString(p.pairs.text.String())
	b.WriteString("\tchain access {\n")
	bySource.write(b, "saddr")
	p.inside(b, "saddr", func(k int) string { return p.rest(p.here[k]) })
	if len(byDevice) > 0 {
		fmt.Fprintf(b, "\t\tiifname vmap { %s }\n", strings.Join(byDevice, ", "))
	}
	outside.write(b, "daddr")
	b.WriteString("\t}\n")
}

// inside writes a rule for each family about all of the network's addresses, by intervals of destinations.
func (p *sitePolicy) inside(b *strings.Builder, what string, verdict func(k int) string) {
	var all elements
	for k, x := range p.to.intervals {
		all.add(p.site, x, "", verdict(k))
	}
	all.write(b, what)
}

// rest leads to what is true of all that no rule is about, from here or from elsewhere.
func (p *sitePolicy) rest(own bool) string {
	if own {
		return "goto access-rest"
	}
	return "goto access-here"
}

// fromKey is a class of sources, and whether they are here.
type fromKey struct {
	class int
	own   bool
}

// fromChain returns the verdict that leads to the chain of a class of sources; none where the
// default of the network is all that is said of it. What the rules say of pairs comes first, then
// that, then what they say of all outside.
func (p *sitePolicy) fromChain(key fromKey) string {
	last := ""
	if key.own {
		last = p.verdict(key.class, outsideClass)
	}
	var body strings.Builder
	to := p.towards(key)
	to.write(&body, "daddr")
	switch {
	case last != "":
		fmt.Fprintf(&body, "\t\tjump access-rest\n\t\t%s\n", last)
	case len(to.list) > 0:
		fmt.Fprintf(&body, "\t\t%s\n", p.rest(key.own))
	}
	return p.pairs.chain(body.String())
}

// said is what the rules say of a class of sources and a destination.
type said struct {
	to interval
	*outcome
}

// collect puts together what the rules say of a class of sources by destination; for sources that
// are not here only of destinations that are.
func (p *sitePolicy) collect(key fromKey) {
	if _, met := p.about[key]; met {
		return
	}
	var classes []int
	for _, k := range p.from.rules[key.class] {
		classes = append(classes, p.to.meaning[k]...)
	}
	p.about[key] = nil
	for _, class := range sortedRules(classes) {
		if class == outsideClass {
			continue
		}
		var x *outcome
		for _, k := range p.to.of[class] {
			if !key.own && !p.here[k] {
				continue
			}
			if x == nil {
				x = p.sequence(key.class, class)
			}
			if x.text != "" {
				p.uses[x.text]++
			}
			p.about[key] = append(p.about[key], said{p.to.intervals[k], x})
		}
	}
}

// manyElements is how many elements of maps take about as long to load as a chain with a map of
// its own. For each map the kernel goes through the table's others, for a free name, and through
// all that is new in the transaction (net/netfilter/nf_tables_api.c, nf_tables_set_alloc_name and
// __nft_set_trans_bind): ten thousand took it half a minute, as many elements in three hundred maps
// a tenth of a second.
const manyElements = 32

// towards returns the verdicts, other than the default, for a class of sources. Ports stand in
// the map of the destinations, or in a chain of their own where many share it.
func (p *sitePolicy) towards(key fromKey) *elements {
	deny, out := denial(key.class), &elements{}
	for _, x := range p.about[key] {
		v, text := x.verdicts, x.text
		if len(x.ports) > 0 && p.uses[x.text]*len(x.ports) <= manyElements {
			for _, e := range x.ports {
				out.add(p.site, x.to, e.ports, e.verdict)
			}
			v = v.withoutPorts()
			text = v.text(deny)
		}
		switch {
		case text != "":
			out.add(p.site, x.to, "", p.ports.chain(text))
		case v.other != p.denies(key.class, x.to.class):
			out.add(p.site, x.to, "", word(v.other, deny))
		}
	}
	return out
}

// denies reports whether a flow between two classes is denied where no rule is about it.
func (p *sitePolicy) denies(from, to int) bool {
	return p.Deny && from != outsideClass && to != outsideClass
}

// chains are numbered ones, of which no two have the same text.
type chains struct {
	name   string
	number map[string]int // by text
	text   strings.Builder
}

// chain returns the verdict that leads to the chain with a body; none where that is empty.
func (c *chains) chain(body string) string {
	if body == "" {
		return ""
	}
	n, met := c.number[body]
	if !met {
		n = len(c.number)
		c.number[body] = n
		fmt.Fprintf(&c.text, "\tchain %s-%d {\n%s\t}\n", c.name, n, body)
	}
	return fmt.Sprintf("goto %s-%d", c.name, n)
}

// verdict returns what becomes of a new flow between two classes, as an element of a map has
// it: "" where it is let through.
func (p *sitePolicy) verdict(from, to int) string {
	x, deny := p.sequence(from, to), denial(from)
	switch {
	case x.text != "":
		return p.ports.chain(x.text)
	case x.other:
		return deny
	}
	return ""
}
