package cli_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// indented are the commands in what plan says.
var indented = regexp.MustCompile(`(?m)^  (\S.*)$`)

// nftCommands are those that begin with nft, as a file for it.
func nftCommands(t *testing.T, said string) string {
	t.Helper()
	var b strings.Builder
	for _, m := range indented.FindAllStringSubmatch(said, -1) {
		if c, ok := strings.CutPrefix(m[1], "nft "); ok {
			b.WriteString(strings.ReplaceAll(c, "'", "") + "\n")
		}
	}
	return b.String()
}

var iptablesWords = regexp.MustCompile(`^(iptables|ip6tables) -I (\S+) -i (\S+)(?: -o (\S+))?(?: -p (\S+)(?: -d (\S+))? --dport (\S+))?( -m conntrack --ctstate ESTABLISHED,RELATED)? -j ACCEPT$`)

// iptablesAsNft are the commands for iptables, as iptables-nft would carry them out.
func iptablesAsNft(t *testing.T, said string) string {
	t.Helper()
	var b strings.Builder
	for _, c := range indented.FindAllStringSubmatch(said, -1) {
		m := iptablesWords.FindStringSubmatch(c[1])
		if m == nil {
			t.Fatalf("this is no such command: %s", c[1])
		}
		family := map[string]string{"iptables": "ip", "ip6tables": "ip6"}[m[1]]
		fmt.Fprintf(&b, "insert rule %s filter %s iifname %s", family, m[2], asNft(m[3]))
		if m[4] != "" {
			fmt.Fprintf(&b, " oifname %s", asNft(m[4]))
		}
		if m[8] != "" {
			b.WriteString(" ct state established,related")
		}
		if m[6] != "" {
			fmt.Fprintf(&b, " %s daddr %s", family, m[6])
		}
		if m[5] != "" {
			fmt.Fprintf(&b, " %s dport %s", m[5], strings.ReplaceAll(m[7], ":", "-"))
		}
		b.WriteString(" counter accept\n")
	}
	return b.String()
}

// asNft is a device as nft writes it.
func asNft(device string) string { return fmt.Sprintf("%q", strings.ReplaceAll(device, "+", "*")) }

var ufwWords = regexp.MustCompile(`^ufw (route )?allow in on (\S+)(?: out on (\S+))?(?: proto (\S+) to (\S+) port (\S+))?$`)

// ufwAsNft are the commands for ufw, as it would carry them out in both families.
func ufwAsNft(t *testing.T, said string) string {
	t.Helper()
	var b strings.Builder
	for _, c := range indented.FindAllStringSubmatch(said, -1) {
		m := ufwWords.FindStringSubmatch(c[1])
		if m == nil {
			t.Fatalf("this is no such command: %s", c[1])
		}
		for family, chain := range map[string]string{"ip": "ufw-user", "ip6": "ufw6-user"} {
			if m[5] != "" && m[5] != "any" && strings.Contains(m[5], ":") != (family == "ip6") {
				continue
			}
			chain += map[bool]string{false: "-input", true: "-forward"}[m[1] != ""]
			fmt.Fprintf(&b, "add rule %s filter %s iifname %s", family, chain, asNft(m[2]))
			if m[3] != "" {
				fmt.Fprintf(&b, " oifname %s", asNft(m[3]))
			}
			if m[5] != "" && m[5] != "any" {
				fmt.Fprintf(&b, " %s daddr %s", family, m[5])
			}
			if m[4] != "" {
				fmt.Fprintf(&b, " %s dport %s", m[4], strings.ReplaceAll(m[6], ":", "-"))
			}
			b.WriteString(" counter accept\n")
		}
	}
	return b.String()
}

// fw4Default are OpenWrt's zones as it ships them.
const fw4Default = `
  uci set firewall.lan='zone'
  uci set firewall.lan.name='lan'
  uci set firewall.lan.input='ACCEPT'
  uci set firewall.lan.forward='ACCEPT'
  uci add_list firewall.lan.device='br-lan'
  uci set firewall.wan='zone'
  uci set firewall.wan.name='wan'
  uci set firewall.wan.input='REJECT'
  uci set firewall.wan.forward='REJECT'
  uci add_list firewall.wan.device='eth0'
  uci set firewall.f='forwarding'
  uci set firewall.f.src='lan'
  uci set firewall.f.dest='wan'
`

var uciWords = regexp.MustCompile(`^uci (set|add_list) firewall\.([A-Za-z0-9_]+)(?:\.([a-z_]+))?='([^']*)'$`)

// fw4Rules makes of UCI commands what firewall4 makes of them: zones, forwardings and rules.
func fw4Rules(commands string) string {
	options := map[string]map[string][]string{}
	var order []string
	for _, c := range indented.FindAllStringSubmatch(commands, -1) {
		m := uciWords.FindStringSubmatch(c[1])
		switch {
		case m == nil:
		case m[3] == "":
			options[m[2]] = map[string][]string{"": {m[4]}}
			order = append(order, m[2])
		default:
			options[m[2]][m[3]] = append(options[m[2]][m[3]], m[4])
		}
	}
	f := fw4Form{rules: map[string]string{}}
	for _, kind := range []string{"rule", "forwarding", "zone"} {
		for _, name := range order {
			if o := options[name]; o[""][0] == kind {
				f.section(kind, o)
			}
		}
	}
	return f.text()
}

// fw4Form is what firewall4's templates are filled in with.
type fw4Form struct {
	input, forward, chains strings.Builder
	rules                  map[string]string // by chain
}

func (f *fw4Form) section(kind string, options map[string][]string) {
	one := func(name string) string { return strings.Join(options[name], " ") }
	switch kind {
	case "rule":
		match, chain, verdict := "", "input_"+one("src"), "accept"
		if to := one("dest_ip"); to != "" {
			match += map[bool]string{false: "ip", true: "ip6"}[strings.Contains(to, ":")] + " daddr " + to + " "
		}
		match += fmt.Sprintf("%s dport { %s } ", one("proto"), strings.ReplaceAll(one("dest_port"), " ", ", "))
		if to := one("dest"); to != "" {
			chain, verdict = "forward_"+one("src"), "jump accept_to_"+to
		}
		f.rules[chain] += match + "counter " + verdict + "\n"
	case "forwarding":
		f.rules["forward_"+one("src")] += "jump accept_to_" + one("dest") + "\n"
	case "zone":
		zone := one("name")
		verb := func(option string) string { return strings.ToLower(one(option)) }
		if zone == "wan" {
			f.rules["input_wan"] = "icmp type echo-request counter accept\nicmpv6 type echo-request counter accept\n" + f.rules["input_wan"]
			f.rules["forward_wan"] = "icmpv6 type { echo-request, echo-reply } limit rate 1000/second counter accept\n" + f.rules["forward_wan"]
		}
		from, to := map[string]string{}, map[string]string{}
		for _, d := range options["device"] {
			device := asNft(d)
			fmt.Fprintf(&f.input, "iifname %s jump input_%s\n", device, zone)
			fmt.Fprintf(&f.forward, "iifname %s jump forward_%s\n", device, zone)
			for verdict, rule := range map[string]string{"accept": "accept", "reject": "jump handle_reject"} {
				from[verdict] += fmt.Sprintf("iifname %s counter %s\n", device, rule)
				to[verdict] += fmt.Sprintf("oifname %s counter %s\n", device, rule)
			}
		}
		for _, verdict := range []string{"accept", "reject"} {
			fmt.Fprintf(&f.chains, "chain %s_from_%s {\n%s}\nchain %s_to_%s {\n%s}\n", verdict, zone, from[verdict], verdict, zone, to[verdict])
		}
		fmt.Fprintf(&f.chains, "chain input_%s {\n%sjump %s_from_%s\n}\n", zone, f.rules["input_"+zone], verb("input"), zone)
		fmt.Fprintf(&f.chains, "chain forward_%s {\n%sjump %s_to_%s\n}\n", zone, f.rules["forward_"+zone], verb("forward"), zone)
	}
}

func (f *fw4Form) text() string {
	const established = "ct state vmap { established : accept, related : accept }\n"
	return "table inet fw4 {\nchain input {\ntype filter hook input priority filter; policy drop;\niif \"lo\" accept\n" + established +
		"tcp flags & (fin | syn | rst | ack) == syn jump syn_flood\n" + f.input.String() + "jump handle_reject\n}\n" +
		"chain forward {\ntype filter hook forward priority filter; policy drop;\n" + established + f.forward.String() + "jump handle_reject\n}\n" +
		"chain handle_reject {\nmeta l4proto tcp reject with tcp reset\nreject\n}\n" +
		"chain syn_flood {\nlimit rate 25/second burst 50 packets return\ndrop\n}\n" + f.chains.String() + "}\n"
}
