package spec

import (
	"fmt"
	"slices"
	"strings"
)

// words is the shape of names and prefixes; who they are is found where they are used.
func words(what string) shape[[]at[string]] { return oneOrMore(text(what), what+", or a list") }

var natRecord = record[natDecl]{
	noun:    "source translation",
	title:   "Source translation",
	context: "nat:\n  - …",
	doc:     "Between sites every packet keeps its true source, unless it is told otherwise here: then the router of one site puts its own address in the place of the sources, as an uplink does for what goes to the Internet. Without `out:` and `to:` it does so with all that goes from them to other parts of the network. Who receives it sees the router's address, and so does a `policy:` at that end.",
	fields: []field[natDecl]{
		{entry{key: "at", concept: "nat", required: true, also: []string{"site", "on", "router"}, example: "op1",
			doc: "The site whose router translates: packets that do not pass it keep their sources."},
			into(siteName, func(n *natDecl) *at[string] { return &n.at })},
		{entry{key: "masquerade", concept: "nat", required: true, also: []string{"masq", "snat", "from", "for", "source", "sources", "src", "nat"}, example: "op1",
			doc: "Whose packets: sites (their LANs and their routers' own addresses), `SITE:DEVICE` for one LAN, `clients` or single devices, prefixes or addresses of this network, or `any` for all of it; one or a list. A LAN of the site itself that is mapped (`as:`) may be written as it is on the device."},
			into(words("a site, a device, `clients`, a prefix or `any`"), func(n *natDecl) *at[[]at[string]] { return &n.masquerade })},
		{entry{key: "out", concept: "nat", also: []string{"device", "dev", "interface", "oif", "link", "via"}, example: "wg-op2",
			doc: "Only what leaves the router by this device: one of the site's `lan:` or `uplink:`, which may be one that another program made (a hand-made `wg1` is described as a `lan:`), or one of its tunnels, for example `wg-op2`. Instead of `to:`."},
			into(text("a device"), func(n *natDecl) *at[string] { return &n.out })},
		{entry{key: "to", concept: "nat", also: []string{"towards", "dest", "destination", "dst", "sites"}, example: "[op2, op3]",
			doc: "Only what goes to these sites, by whichever way: one or a list. Instead of `out:`."},
			into(oneOrMore(siteName, "one site or a list of them"), func(n *natDecl) *at[[]at[string]] { return &n.to })},
	},
}

var policyRecord = record[policyDecl]{
	noun:    "the policy",
	title:   "Policy",
	context: "policy:\n  …",
	doc:     "Who may open connections to whom; what answers one that was let through passes with it. It is enforced at the edges: by the router of the LAN, or at the door, where a connection begins, and by that where it ends (for a plain site by the routers that it has links to), so that none of the routers between has to be trusted or asked. The routers' own addresses reach each other whatever it says, so that nobody is locked out of one; traffic within one LAN passes no router. What comes from the Internet by a published port, or goes there by an exit or an uplink, is decided by rules with `internet` alone, not by `default:`.",
	fields: []field[policyDecl]{
		{entry{key: "default", concept: "policy", also: []string{"otherwise", "else", "fallback"}, example: "deny",
			doc: "What is true of connections between sites, LANs and clients that no rule is about: `allow` (the default) or `deny`."},
			into(oneOf("allow", "deny"), func(p *policyDecl) *at[string] { return &p.otherwise })},
		{entry{key: "rules", concept: "policy", also: []string{"rule", "acl", "acls", "access", "filter"}, example: "[{from: op2, to: op1, allow: 443/tcp}]",
			doc: "The rules; the first that matches a connection decides, and those after it are not asked."},
			into(list(ruleRecord.shape(), "a list of rules", 0), func(p *policyDecl) *at[[]at[ruleDecl]] { return &p.rules })},
	},
}

const (
	who      = "a site, SITE:DEVICE, a device, `clients`, a prefix, `any` or `internet`"
	services = "`all`, or protocols and ports such as 443/tcp"
)

var ruleRecord = record[ruleDecl]{
	noun:    "rule",
	title:   "Rules",
	context: "policy:\n  default: deny\n  rules:\n    - …",
	doc:     "A rule has `from:`, `to:`, and one of `allow:` and `deny:`. Both sides are spoken of as the network sees them: a LAN that is mapped (`as:`) by its mapped prefix.",
	fields: []field[ruleDecl]{
		{entry{key: "from", concept: "policy", required: true, with: []string{"allow"}, also: []string{"src", "source", "for", "saddr"}, example: "[op2, op3]",
			doc: "Who opens the connection: sites (their LANs and their routers' own addresses), `SITE:DEVICE` for one LAN, `clients` for all devices or one by its name, prefixes or single addresses of this network, `any` for all of it, `internet` for everything else; one or a list."},
			into(words(who), func(r *ruleDecl) *at[[]at[string]] { return &r.from })},
		{entry{key: "to", concept: "policy", required: true, with: []string{"allow"}, also: []string{"dst", "dest", "destination", "daddr", "target"}, example: "op1:br-lan",
			doc: "To whom, in the same words. `from: internet` is about published ports, which are known here by the address and the port of the host that they lead to; `to: internet` about exits and uplinks."},
			into(words(who), func(r *ruleDecl) *at[[]at[string]] { return &r.to })},
		{entry{key: "allow", concept: "policy", also: []string{"accept", "permit", "pass"}, example: "[443/tcp, udp/53, icmp]",
			doc: "What passes: `all`, a protocol (`tcp`, `udp`, `icmp`, which is also ICMPv6), or a port or range of ports of one, in either order: `443/tcp` and `tcp/443`; one or a list."},
			into(oneOrMore(service, services+", or a list"), func(r *ruleDecl) *at[[]at[PolicyPort]] { return &r.allow })},
		{entry{key: "deny", concept: "policy", also: []string{"drop", "reject", "block", "refuse"}, example: "all",
			doc: "What does not pass, in the same words."},
			into(oneOrMore(service, services+", or a list"), func(r *ruleDecl) *at[[]at[PolicyPort]] { return &r.deny })},
	},
}

const portPattern = "[0-9]+(-[0-9]+)?"

// service reads what a rule is about.
var service = scalar(services, schema{"type": "string", "pattern": "^(all|tcp|udp|icmp|" + portPattern + "/(tcp|udp)|(tcp|udp)/" + portPattern + ")$"}, func(text string) (PolicyPort, *mistake) {
	switch text {
	case "all":
		return PolicyPort{}, nil
	case "tcp", "udp", "icmp":
		return PolicyPort{Protocol: text}, nil
	}
	ports, protocol, both := cutService(text)
	switch {
	case !both:
		return PolicyPort{}, noService(text)
	case strings.HasPrefix(protocol, "icmp"):
		return PolicyPort{}, &mistake{message: fmt.Sprintf("icmp has no ports, and %q names some", clip(text)), hint: "write `icmp`"}
	}
	r, m := parsePortRange(ports)
	switch known := protocol == "tcp" || protocol == "udp"; {
	case m == nil && !known:
		return PolicyPort{}, &mistake{message: fmt.Sprintf("a port is one of tcp or udp, not of %q", clip(protocol)), hint: fmt.Sprintf("write %s/tcp or %s/udp", ports, ports)}
	case m != nil && known && strings.Contains(ports, ","):
		m.hint = "make a list of them, for example `[80/tcp, 443/tcp]`"
	}
	return PolicyPort{protocol, r}, m
})

// cutService parts ports and their protocol, which stand in either order.
func cutService(text string) (ports, protocol string, both bool) {
	ports, protocol, both = strings.Cut(text, "/")
	if slices.Contains([]string{"tcp", "udp", "icmp"}, ports) || beginsWithDigit(protocol) && !beginsWithDigit(ports) {
		ports, protocol = protocol, ports
	}
	return ports, protocol, both
}

func beginsWithDigit(text string) bool { return text != "" && text[0] >= '0' && text[0] <= '9' }

// noService says what is wrong with a text that is no protocol.
func noService(text string) *mistake {
	if _, m := parsePortRange(text); m == nil {
		return &mistake{message: fmt.Sprintf("port %s has no protocol", clip(text)), hint: fmt.Sprintf("write %s/tcp or %s/udp", text, text)}
	}
	hint := "`tcp`, `udp` or `icmp`; `all` is everything, of other protocols too"
	word := strings.ToLower(text)
	if meant := wellKnown[word]; meant != "" {
		hint = "write " + meant
	} else if near := nearest(word, []string{"all", "tcp", "udp", "icmp"}); near != "" {
		hint = fmt.Sprintf("did you mean `%s`?", near)
	}
	return &mistake{message: fmt.Sprintf("%q is no protocol that a rule knows", clip(text)), hint: hint}
}

// wellKnown is what people write, and how it is written here.
var wellKnown = map[string]string{
	"any": "`all`", "everything": "`all`", "true": "`all`", "yes": "`all`", "ping": "`icmp`", "icmpv6": "`icmp`, which is both", "icmp6": "`icmp`, which is both",
	"ssh": "22/tcp", "http": "80/tcp", "https": "443/tcp", "dns": "`[53/udp, 53/tcp]`",
}
