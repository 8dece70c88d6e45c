package ruleset_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// generator writes random tables in the grammar that compile writes in.
type generator struct {
	*rand.Rand
	strings.Builder
	chains int
}

// abilities are what may stand in chains that a base chain leads to.
type abilities struct {
	fib, missing, reject bool
	nat                  string // dnat or snat
}

func (g *generator) pick(words ...string) string { return words[g.IntN(len(words))] }
func (g *generator) one(n int) bool              { return g.IntN(n) == 0 }

// list writes an anonymous set of different words, or one of them alone.
func (g *generator) list(words ...string) string {
	if g.one(2) {
		return g.pick(words...)
	}
	var out []string
	for _, w := range words {
		if g.one(2) || len(out) == 0 {
			out = append(out, w)
		}
	}
	return "{ " + strings.Join(out, ", ") + " }"
}

func (g *generator) not() string { return g.pick("", "", "!= ") }

var (
	generatedDevices = []string{`"lan0"`, `"lan1"`, `"wg-a"`, `"wg.b"`, `"gone0"`}
	generated4       = []string{"10.1.0.0/24", "10.2.0.0/23", "10.4.0.0-10.4.0.99", "10.4.0.120", "10.61.1.0/24", "192.168.1.0/25", "192.168.1.128/25", "172.30.0.0/30"}
	generated6       = []string{"fd00:1::/64", "fd00:2::1-fd00:2::40", "fd00:2::41", "fd61:1::/64", "fd00:4::/120", "fd30::/126"}
	generatedPorts   = []string{"53", "80-90", "443", "6000-6100"}
	generatedMarks   = []string{"0x5000000", "0x15000000", "0x21000000"}
)

var generatedPortNumbers = []uint16{53, 79, 80, 85, 90, 91, 443, 6000, 6100, 9}

// tests writes what a rule begins with: of one family and one protocol, since nft refuses others.
func (g *generator) tests(a abilities, family string, n int) string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	protocol := ""
	for range n {
		switch g.IntN(15) {
		case 0:
			add("%s %s%s", g.pick("iifname", "oifname"), g.not(), g.list(generatedDevices...))
		case 1, 2, 3:
			add("%s", g.address(family))
		case 4:
			add("ct state %s", g.pick("established,related", "new", "related", "invalid", "new,invalid", "established"))
		case 5:
			add("ct direction %s", g.pick("original", "reply"))
		case 6:
			add("ct mark & 0xff000000 %s %s", g.pick("==", "!="), g.pick(append(generatedMarks, "0")...))
		case 7:
			add("meta mark & 0xff000000 %s %s", g.pick("==", "!="), g.pick(append(generatedMarks, "0")...))
		case 8:
			add("ct original %s daddr %s", family, map[string]string{"ip": g.pick(generated4[0], generated4[4]), "ip6": g.pick(generated6[0], generated6[3])}[family])
		case 9:
			add("ct status %s", g.pick("dnat", "snat"))
		case 10:
			add("meta nfproto %s", map[string]string{"ip": "ipv4", "ip6": "ipv6"}[family])
		case 11:
			switch {
			case a.missing && g.one(3):
				add("fib saddr . iif oif missing")
			case a.fib:
				add("fib %s type local", g.pick("saddr", "daddr"))
			}
		default:
			var test string
			if test, protocol = g.transport(family, protocol); test != "" {
				add("%s", test)
			}
		}
	}
	return strings.Join(out, " ")
}

func (g *generator) address(family string) string {
	what := g.pick("saddr", "daddr")
	switch {
	case g.one(4):
		return fmt.Sprintf("%s %s @inside%s", family, what, map[string]string{"ip": "4", "ip6": "6"}[family])
	case family == "ip":
		return fmt.Sprintf("ip %s %s%s", what, g.not(), g.list(generated4...))
	}
	return fmt.Sprintf("ip6 %s %s%s", what, g.not(), g.list(generated6...))
}

// transport writes a test of a protocol, where none of another stands before it, and returns it
// with the protocol that stands there then.
func (g *generator) transport(family, protocol string) (test, then string) {
	switch g.IntN(4) {
	case 0:
		if protocol == "" {
			return "meta l4proto " + g.list("icmp", "ipv6-icmp", "tcp"), "some"
		}
	case 1:
		if protocol == "" {
			protocol = g.pick("tcp", "udp")
		}
		if protocol == "tcp" || protocol == "udp" {
			return protocol + " dport " + g.not() + g.list(generatedPorts...), protocol
		}
	case 2:
		if protocol == "" || protocol == "tcp" {
			return "tcp flags " + g.pick("syn / syn,rst", "& (syn | ack) != syn", "& (syn | ack) == syn", "& (syn | ack) == ack", "syn,ack / syn,ack"), "tcp"
		}
	case 3:
		switch {
		case protocol == "" && family == "ip6":
			return "icmpv6 type " + g.list("echo-request", "echo-reply", "nd-router-solicit", "destination-unreachable"), "icmp"
		case protocol == "" && family == "ip":
			return g.pick("ip protocol icmp", "icmp type echo-request", "ip protocol igmp"), "icmp"
		}
	}
	return "", protocol
}

// verdict writes one; jumps lead to chains that came before.
func (g *generator) verdict(a abilities, to []string) string {
	switch n := g.IntN(10); {
	case n < 6 && len(to) > 0:
		return g.pick("jump ", "goto ") + g.pick(to...)
	case n < 8:
		return "accept"
	case n == 8 && g.one(2):
		if a.reject && g.one(2) {
			return "reject with icmpx type admin-prohibited"
		}
		return "drop"
	}
	return "return"
}

// branch writes a map to verdicts.
func (g *generator) branch(a abilities, family string, to []string) string {
	elements := func(words []string) string {
		var out []string
		for _, w := range words {
			if g.one(2) || len(out) == 0 {
				out = append(out, w+" : "+g.verdict(abilities{}, to))
			}
		}
		return " vmap { " + strings.Join(out, ", ") + " }"
	}
	switch g.IntN(8) {
	case 5:
		var pairs []string
		for _, from := range generatedDevices {
			pairs = append(pairs, from+" . "+g.pick(generatedDevices...))
		}
		return "iifname . oifname" + elements(pairs)
	case 6, 7:
		return family + g.pick(" saddr", " daddr") + " . meta l4proto . th dport" + elements(g.boxes(family))
	case 0:
		return g.pick("iifname", "oifname") + elements(generatedDevices)
	case 1:
		return "ct mark & 0xff000000" + elements(append(generatedMarks, "0x0"))
	case 2:
		return "meta l4proto . th dport" + elements([]string{"tcp . 53", "tcp . 80-90", "udp . 53-85", "tcp . 443", "udp . 6000-6100"})
	}
	what := g.pick(" saddr", " daddr")
	if family == "ip" {
		return "ip" + what + elements(generated4)
	}
	return "ip6" + what + elements(generated6)
}

// boxes are elements with addresses and ports of which no two overlap, though the addresses do.
func (g *generator) boxes(family string) []string {
	addresses := map[string][]string{
		"ip":  {"10.1.0.0-10.4.0.99", "10.1.0.0/24", "10.4.0.0-10.61.1.10", "10.4.0.120", "10.61.1.0/24"},
		"ip6": {"fd00:1::-fd00:2::40", "fd00:1::/64", "fd00:2::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fd00:2::41", "fd61:1::/64"},
	}[family]
	var out []string
	for _, ports := range []string{"tcp . 1-79", "tcp . 80", "tcp . 81-442", "udp . 53", "udp . 54-65535", "tcp . 443-65535"} {
		out = append(out, g.pick(addresses...)+" . "+ports)
	}
	return append(out, addresses[3]+" . udp . 0-52")
}

// translation writes a statement for a nat chain with what stands before it.
func (g *generator) translation(a abilities, family string) string {
	if a.nat == "snat" {
		switch {
		case g.one(2):
			return "masquerade"
		case family == "ip":
			return "ip saddr { 10.1.0.0/24 } snat ip prefix to ip saddr map { 10.1.0.0/24 : 10.61.1.0/24, 10.2.0.0/25 : 10.61.2.128/25 }"
		}
		return "snat ip6 prefix to ip6 saddr map { fd00:1::/64 : fd61:1::/64 }"
	}
	switch n := g.IntN(4); {
	case n == 0 && family == "ip":
		return "tcp dport 80-90 dnat ip to 10.1.0.77"
	case n == 0:
		return "tcp dport 80-90 dnat ip6 to fd00:1::77"
	case n < 2 && family == "ip":
		return "dnat ip to meta l4proto . th dport map { tcp . 443 : 10.1.0.10 . 8443, udp . 53 : 10.4.0.53 . 5353 }"
	case n < 2:
		return "dnat ip6 to meta l4proto . th dport map { tcp . 443 : fd00:1::10 . 8443, udp . 53 : fd00:2::53 . 5353 }"
	case family == "ip":
		return "ip daddr { 10.61.1.0/24, 10.4.0.64/26 } dnat ip prefix to ip daddr map { 10.61.1.0/24 : 10.1.0.0/24, 10.4.0.64/26 : 192.168.1.0/26 }"
	}
	return "ip6 daddr { fd61:1::/64 } dnat ip6 prefix to ip6 daddr map { fd61:1::/64 : fd00:1::/64 }"
}

func (g *generator) rule(a abilities, to []string) {
	family := g.pick("ip", "ip", "ip6")
	tests := g.tests(a, family, g.IntN(4))
	switch n := g.IntN(8); {
	case n == 0:
		what := g.pick("ct", "meta")
		verdict := ""
		if g.one(3) {
			verdict = " " + g.verdict(a, to)
		}
		fmt.Fprintf(g, "\t\t%s %s mark set %[2]s mark & 0xffffff | %s%s\n", tests, what, g.pick(generatedMarks...), verdict)
	case n < 4 && a.nat != "":
		// A map of ports or of the same family may stand behind any test but one of a protocol.
		fmt.Fprintf(g, "\t\t%s\n", g.translation(a, family))
	case n < 5:
		fmt.Fprintf(g, "\t\t%s\n", g.branch(a, family, to))
	default:
		fmt.Fprintf(g, "\t\t%s %s\n", tests, g.verdict(a, to))
	}
}

// base writes a base chain and those that it leads to.
func (g *generator) base(name, head string, a abilities) {
	var to []string
	for range g.IntN(5) {
		g.chains++
		chain := fmt.Sprintf("to-%d", g.chains)
		fmt.Fprintf(g, "\tchain %s {\n", chain)
		for range 1 + g.IntN(4) {
			g.rule(a, to)
		}
		g.WriteString("\t}\n")
		to = append(to, chain)
	}
	fmt.Fprintf(g, "\tchain %s {\n\t\t%s\n", name, head)
	for range 1 + g.IntN(6) {
		g.rule(a, to)
	}
	g.WriteString("\t}\n")
}

func randomTable(r *rand.Rand) string {
	g := &generator{Rand: r}
	g.WriteString("table inet tombolo {\n\tset inside4 {\n\t\ttype ipv4_addr; flags interval;\n\t\telements = { 10.1.0.0/24, 10.4.0.0/24, 192.168.1.0/24 }\n\t}\n" +
		"\tset inside6 {\n\t\ttype ipv6_addr; flags interval;\n\t\telements = { fd00:1::/64, fd00:4::/64 }\n\t}\n")
	anywhere := abilities{fib: true, missing: true}
	if g.one(3) {
		g.base("early", "type filter hook prerouting priority raw; policy accept;", anywhere)
	}
	g.base("prerouting", "type filter hook prerouting priority mangle; policy accept;", anywhere)
	g.base("prerouting-late", "type filter hook prerouting priority mangle; policy accept;", anywhere)
	g.base("dstnat", "type nat hook prerouting priority dstnat; policy accept;", abilities{fib: true, nat: "dnat"})
	g.base("dstnat-first", "type nat hook prerouting priority dstnat - 5; policy accept;", abilities{nat: "dnat"})
	inside := abilities{fib: true, missing: true, reject: true}
	g.base("forward", "type filter hook forward priority mangle; policy accept;", inside)
	g.base("access-forward", "type filter hook forward priority filter - 2; policy "+g.pick("accept", "accept", "drop")+";", inside)
	g.base("access-same", "type filter hook forward priority filter - 2; policy accept;", inside)
	g.base("access-input", "type filter hook input priority filter + 2; policy accept;", inside)
	g.base("output", "type route hook output priority mangle; policy accept;", abilities{})
	g.base("dstnat-router", "type nat hook output priority -100; policy accept;", abilities{nat: "dnat"})
	g.base("guard-router", "type filter hook output priority filter - 5; policy accept;", abilities{reject: true})
	g.base("postrouting", "type nat hook postrouting priority srcnat; policy accept;", abilities{nat: "snat"})
	g.base("leave", "type nat hook postrouting priority srcnat - 1; policy accept;", abilities{})
	g.base("post", "type filter hook postrouting priority mangle; policy accept;", abilities{})
	g.WriteString("}\n")
	return g.String()
}
