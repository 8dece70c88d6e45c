package ruleset_test

import (
	"strconv"
	"strings"
	"testing"

	"tombolo/internal/trace/ruleset"
)

// What nft or the kernel would not load is refused, and so is what is not known here.
func TestParseRefuses(t *testing.T) {
	chain := func(rule string) string { return "table inet t {\n\tchain c {\n\t\t" + rule + "\n\t}\n}\n" }
	base := func(head, rule string) string {
		return "table inet t {\n\tchain c {\n\t\ttype " + head + ";\n\t\t" + rule + "\n\t}\n}\n"
	}
	for text, want := range map[string]string{
		"":                                    "line 0: the table does not end",
		"table inet t {\n":                    "line 1: the table does not end",
		"table ip t {\n}\n":                   `line 1: "ip": want "inet"`,
		"flush ruleset\n":                     `line 1: "flush": want "table"`,
		"table inet t {\n}}":                  `line 2: "}": want the end of the line`,
		"table inet t {\n\tmap m {\n\t}\n}\n": `line 2: "map": want a set or a chain`,
		"table inet t {\n\tset s {\n\t}\n}\n": `line 3: "}": the set has no type`,
		"table inet t {\n\tchain c {\n\t}\n\tchain c {\n\t}\n}\n":                            `line 4: "c": there is one chain of this name already`,
		chain("counter accept"):                                                              `line 3: "counter": no expression`,
		chain("accept accept"):                                                               `line 3: "accept": want the end of the line`,
		chain("ip saddr fd00::1 accept"):                                                     `line 3: "fd00::1": want an IPv4 address or prefix`,
		chain("ip saddr 10.0.0.9-10.0.0.1 accept"):                                           `line 3: "10.0.0.9-10.0.0.1": want a range`,
		chain("ip saddr @nobody accept"):                                                     `line 3: "@nobody": want a set that is known`,
		chain("ip saddr { 10.0.0.1, } accept"):                                               `line 3: "}": want an IPv4 address or prefix`,
		chain("ip saddr vmap { 10.0.0.0/24 : accept, 10.0.0.3 : drop }"):                     `line 3: "{": an element lies in another`,
		chain("ip saddr vmap { 10.0.0.0/24 : accept } accept"):                               `line 3: "accept": want the end of the line`,
		chain("ip ttl 3 accept"):                                                             `line 3: "ttl": want one of daddr, protocol, saddr`,
		chain(`iifname "wg*" accept`):                                                        `line 3: "wg*": nft takes such a name for more`,
		chain(`ip daddr . meta l4proto . th dport { 10.0.0.1 . tcp . 1 } accept`):            `line 3: "{": want ` + "`vmap`",
		chain(`ip daddr . meta l4proto vmap { 10.0.0.1 . tcp : accept }`):                    `line 3: "vmap": want "."`,
		chain(`ip daddr . meta l4proto . th dport vmap { 10.0.0.1 . gre . 1 : accept }`):     `line 3: "gre": want a protocol`,
		chain(`ip daddr . meta l4proto . th dport vmap { 10.0.0.1 : accept }`):               `line 3: ":": want "."`,
		chain(`ip daddr . meta l4proto . th dport vmap { ` + crossed + ` }`):                 `line 3: "{": an element lies in another`,
		chain(`iifname . oifname vmap { "a" . "b" : accept, "a" . "b" : drop }`):             `line 3: "{": an element lies in another`,
		chain(`iifname . oifname vmap { "a" : accept }`):                                     `line 3: ":": want "."`,
		chain(`iifname "wg accept`):                                                          `line 3: "\"wg accept": a quote that does not end`,
		chain("iifname lan0 accept"):                                                         `line 3: "lan0": want a device in quotes`,
		chain("tcp dport 70000 accept"):                                                      `line 3: "70000": want a port`,
		chain("ct state untracked accept"):                                                   `line 3: "untracked": want a state`,
		chain("ct mark set meta mark & 0x1 | 0x2"):                                           `line 3: "meta": want "ct"`,
		chain("meta mark set meta mark & 0x1 | 0x2 ip saddr 10.0.0.1"):                       `line 3: "ip": want a verdict`,
		chain("jump nowhere"):                                                                `line 3: "nowhere": no chain that one can go to`,
		chain("jump c"):                                                                      `line 2: "c": the chain leads to itself`,
		chain("jump"):                                                                        `line 3: "end of the line": want a chain`,
		chain("reject with tcp reset"):                                                       `line 3: "tcp": want "icmpx"`,
		chain("dnat ip to 10.0.0.0/24"):                                                      `line 3: "10.0.0.0/24": want an address`,
		chain("snat ip to meta l4proto . th dport map { tcp . 1 : 10.0.0.1 . 2 }"):           `line 3: "map": a map of ports`,
		base("filter hook ingress priority filter", "accept"):                                `line 3: "ingress": no hook of chains of type filter`,
		base("nat hook forward priority filter", "accept"):                                   `line 3: "forward": no hook of chains of type nat`,
		base("filter hook input priority soon", "accept"):                                    `line 3: "soon": want a number`,
		base("filter hook input priority filter", "masquerade"):                              `line 4: "masquerade": no such translation where packets of chain "c" come`,
		base("nat hook prerouting priority dstnat", "masquerade"):                            `line 4: "masquerade": no such translation`,
		base("nat hook postrouting priority srcnat", "dnat ip to 10.0.0.1"):                  `line 4: "dnat ip to 10.0.0.1": no such translation`,
		base("filter hook input priority filter", "type filter hook input priority filter;"): `line 4: "type": no expression`,
		"table inet t {\n\tchain a {\n\t\ttype filter hook input priority filter;\n\t}\n\tchain b {\n\t\tjump a\n\t}\n}\n": `line 6: "a": no chain that one can go to`,
		"table inet t {\n" + nested(16) + "}\n": `line 49: "c16": 17 chains lie in each other`,
	} {
		if _, err := ruleset.Parse(text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	if _, err := ruleset.Parse("table inet t {\n" + nested(15) + "}\n"); err != nil {
		t.Error(err)
	}
}

// crossed are elements of which two are in each other's way, neither with a corner in the other.
const crossed = "10.0.0.1-10.0.0.9 . tcp . 5 : drop, 10.0.0.2-10.0.0.3 . tcp . 6 : drop, 10.0.0.4 . tcp . 1-9 : drop"

// nested writes a base chain that jumps to a chain that jumps to a chain…
func nested(jumps int) string {
	var b strings.Builder
	b.WriteString("\tchain c0 {\n\t}\n")
	for i := range jumps {
		head := ""
		if i == jumps-1 {
			head = "\t\ttype filter hook input priority filter; policy accept;\n"
		}
		b.WriteString("\tchain c" + strconv.Itoa(i+1) + " {\n" + head + "\t\tjump c" + strconv.Itoa(i) + "\n\t}\n")
	}
	return b.String()
}
