package ruleset_test

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"tombolo/internal/trace/ruleset"
)

// at makes a packet and its connection of words: the protocol, two addresses with ports, and what
// else there is to say.
func at(t testing.TB, words string) (ruleset.Packet, *ruleset.Conn) {
	t.Helper()
	p, c := ruleset.Packet{}, &ruleset.Conn{State: "new"}
	for i, w := range strings.Fields(words) {
		name, value, _ := strings.Cut(w, "=")
		number, _ := strconv.ParseUint(value, 0, 32)
		switch {
		case i == 0:
			p.Protocol = map[string]uint8{"icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "gre": 47, "icmp6": 58}[w]
		case i < 3:
			a, err := netip.ParseAddrPort(w)
			if err != nil {
				t.Fatal(err)
			}
			if i == 1 {
				p.Src, p.SPort = a.Addr(), a.Port()
			} else {
				p.Dst, p.DPort = a.Addr(), a.Port()
			}
		case name == "iif":
			p.IIF.Name = value
		case name == "oif":
			p.OIF.Name = value
		case name == "mark":
			p.Mark = uint32(number)
		case name == "ctmark":
			c.Mark = uint32(number)
		case name == "type":
			p.ICMPType = uint8(number)
		case name == "orig":
			c.OrigDst = netip.MustParseAddr(value)
		case w == "syn":
			p.SYN = true
		case w == "ack":
			p.ACK = true
		case w == "reply":
			c.Reply = true
		case w == "dnat":
			c.DNAT = true
		case w == "snat":
			c.SNAT = true
		case w == "none":
			c = nil
		default:
			c.State = w
		}
	}
	return p, c
}

const (
	u4 = "udp 10.1.0.5:1000 10.2.0.7:53 "
	t4 = "tcp 10.1.0.5:1000 10.2.0.7:443 "
	u6 = "udp [fd00:1::5]:1000 [fd00:2::7]:53 "
	t6 = "tcp [fd00:1::5]:1000 [fd00:2::7]:443 "
	i4 = "icmp 10.1.0.5:0 10.2.0.7:0 "
	i6 = "icmp6 [fd00:1::5]:0 [fd00:2::7]:0 "
)

var testEnv = ruleset.Env{
	Local:     func(a netip.Addr) bool { return a == netip.MustParseAddr("10.2.0.7") },
	RouteBack: func(p ruleset.Packet) bool { return p.IIF.Name == "lan0" },
}

// expressions are the forms of tests, with packets that they hold for, and some that they do not
// hold for.
var expressions = []struct {
	tests   string
	yes, no []string
}{
	{"ip saddr 10.1.0.0/24", []string{u4}, []string{u6, "udp 10.1.1.0:1 10.2.0.7:1", "udp 10.0.255.255:1 10.2.0.7:1"}},
	{"ip saddr != 10.1.0.0/24", []string{"udp 10.1.1.0:1 10.2.0.7:1"}, []string{u4, u6}},
	{"ip daddr { 10.3.0.0/24, 10.2.0.7/32, 10.4.0.1 }", []string{u4, "udp 10.1.0.5:1 10.4.0.1:1", "udp 10.1.0.5:1 10.3.0.255:1"}, []string{u6, "udp 10.1.0.5:1 10.2.0.8:1", "udp 10.1.0.5:1 10.4.0.2:1"}},
	{"ip daddr { 10.2.0.0/24, 10.2.0.0/25, 10.2.1.0-10.2.1.9 }", []string{u4, "udp 10.1.0.5:1 10.2.0.200:1", "udp 10.1.0.5:1 10.2.1.9:1"}, []string{"udp 10.1.0.5:1 10.2.1.10:1"}},
	{"ip6 saddr fd00:1::/64", []string{u6}, []string{u4, "udp [fd00:1:0:1::]:1 [fd00:2::7]:1"}},
	{"ip6 daddr != { fd00:2::/64, fd00:3::1-fd00:3::9 }", []string{"udp [fd00:1::5]:1 [fd00:3::a]:1"}, []string{u4, u6, "udp [fd00:1::5]:1 [fd00:3::9]:1"}},
	{"ip saddr @some4", []string{u4}, []string{u6, "udp 10.2.0.7:1 10.2.0.7:1"}},
	{"ip6 daddr @some6", []string{"udp [fd00:1::5]:1 [fe80::1]:1"}, []string{u4, u6}},
	{"ip daddr @none4", nil, []string{u4, u6}},
	{"ip saddr @some4 ip saddr != { 10.1.0.128/25, 10.1.0.5 }", []string{"udp 10.1.0.6:1 10.2.0.7:1"}, []string{u4, "udp 10.1.0.129:1 10.2.0.7:1"}},
	{"ip protocol igmp", []string{"igmp 10.1.0.5:0 224.0.0.22:0"}, []string{u4, u6, "igmp [fd00:1::5]:0 [ff02::1]:0"}},
	{"iifname \"lan0\"", []string{u4 + "iif=lan0"}, []string{u4, u4 + "iif=lan", u4 + "iif=lan00"}},
	{"iifname != { \"lan0\", \"lan1\" }", []string{u4 + "iif=eth0", u4}, []string{u4 + "iif=lan1"}},
	{"oifname { \"wg-a\", \"0@x\" }", []string{u4 + "oif=0@x"}, []string{u4, u4 + "oif=eth0"}},
	{"oifname != \"eth0\"", []string{u4 + "oif=lan0"}, []string{u4 + "oif=eth0"}},
	{"meta mark & 0xff000000 != 0", []string{u4 + "mark=0x5000001"}, []string{u4, u4 + "mark=0xffffff"}},
	{"meta mark & 0xff000000 == 0x5000000", []string{u4 + "mark=0x5000001"}, []string{u4, u4 + "mark=0x15000000"}},
	{"ct mark & 0xff000000 == 0x5000000", []string{u4 + "ctmark=0x5000001"}, []string{u4, u4 + "ctmark=0x15000000", u4 + "none"}},
	{"ct mark & 0xff000000 != 0x5000000", []string{u4, u4 + "ctmark=0x15000000"}, []string{u4 + "ctmark=0x5000001", u4 + "none", u4 + "invalid"}},
	{`oifname { "x\*", "a\b", "a*b", "{;" }`, []string{u4 + "oif=x*", u4 + `oif=a\b`, u4 + "oif=a*b", u4 + "oif={;"}, []string{u4 + "oif=x", u4 + "oif=xy", u4 + `oif=x\*`, u4 + "oif=ab"}},
	{"tcp flags & (syn | ack) == ack", []string{t4 + "ack"}, []string{t4, t4 + "syn", t4 + "syn ack", u4}},
	{`iifname . oifname vmap { "a" . "b" : drop, "b" . "a" : return, "a" . "a" : drop }`, []string{u4 + "iif=a oif=b", u6 + "iif=a oif=a"}, []string{u4 + "iif=b oif=a", u4 + "iif=b oif=b", u4 + "iif=a", u4}},
	{"ip daddr . meta l4proto . th dport vmap { 10.2.0.1-10.2.0.9 . tcp . 1-442 : drop, 10.2.0.7 . tcp . 443 : drop, 10.2.0.7 . udp . 1-65535 : drop, 10.2.0.9-255.255.255.255 . udp . 9 : drop, 10.2.0.0 . udp . 0-65535 : drop }",
		[]string{t4, u4, "tcp 10.1.0.5:1 10.2.0.1:1", "tcp 10.1.0.5:1 10.2.0.9:442", "udp 10.1.0.5:1 10.2.0.7:9", "udp 10.1.0.5:1 255.255.255.255:9", "udp 10.1.0.5:1 10.2.0.0:0"},
		[]string{i4, u6, t6, "tcp 10.1.0.5:1 10.2.0.6:443", "tcp 10.1.0.5:1 10.2.0.10:1", "udp 10.1.0.5:1 10.2.0.8:9", "udp 10.1.0.5:1 10.2.0.7:0", "tcp 10.1.0.5:1 10.1.255.255:9", "tcp 10.1.0.5:1 10.2.0.0:9"}},
	{"ip6 saddr . meta l4proto . th dport vmap { fd00:1::-fd00:1::ffff:ffff:ffff:ffff . tcp . 443 : drop, fd00:1::5 . udp . 53 : drop }",
		[]string{t6, u6}, []string{t4, u4, i6, "udp [fd00:1::6]:1 [fd00:2::7]:53", "tcp [fd00:1:0:1::]:1 [fd00:2::7]:443"}},
	{"ct state established,related", []string{u4 + "established", i4 + "related"}, []string{u4, u4 + "invalid", u4 + "none"}},
	{"ct state related", []string{i4 + "related reply"}, []string{u4 + "established"}},
	{"ct state invalid", []string{u4 + "invalid", u4 + "none"}, []string{u4}},
	{"ct direction reply", []string{u4 + "established reply"}, []string{u4, u4 + "none"}},
	{"ct direction original", []string{u4, u4 + "established"}, []string{u4 + "established reply", u4 + "none"}},
	{"ct status dnat", []string{u4 + "dnat"}, []string{u4, u4 + "snat", u4 + "none"}},
	{"ct original ip daddr 10.61.0.0/24", []string{u4 + "orig=10.61.0.7"}, []string{u4, u4 + "orig=fd00::1", u4 + "orig=10.61.1.0", u4 + "invalid orig=10.61.0.7"}},
	{"ct original ip6 daddr fd61::/64", []string{u6 + "orig=fd61::7"}, []string{u6, u6 + "orig=10.61.0.7"}},
	{"meta nfproto ipv4", []string{u4}, []string{u6}},
	{"meta nfproto ipv6", []string{u6}, []string{u4}},
	{"meta l4proto { icmp, ipv6-icmp }", []string{i4, i6}, []string{u4, t6}},
	{"tcp dport 443", []string{t4, t6}, []string{u4, "udp 10.1.0.5:1 10.2.0.7:443"}},
	{"udp dport { 53, 67, 123, 547 }", []string{u4, u6}, []string{t4, "udp 10.1.0.5:1 10.2.0.7:54", "tcp 10.1.0.5:1 10.2.0.7:53"}},
	{"udp dport 50-53", []string{u4}, []string{"udp 10.1.0.5:1 10.2.0.7:49"}},
	{"tcp flags syn / syn,rst", []string{t4 + "syn", t4 + "syn ack"}, []string{t4, t4 + "ack", u4}},
	{"tcp flags & (syn | ack) != syn", []string{t4, t4 + "ack", t4 + "syn ack"}, []string{t4 + "syn", u4}},
	{"icmpv6 type { nd-router-solicit, mld2-listener-report }", []string{i6 + "type=133", i6 + "type=143"}, []string{i6 + "type=128", i4 + "type=133", u6}},
	{"fib daddr type local", []string{u4}, []string{u6}},
	{"meta nfproto ipv4 fib saddr type local", []string{"udp 10.2.0.7:1 10.1.0.1:1"}, []string{u4}},
	{"fib saddr . iif oif missing", []string{u4 + "iif=eth0"}, []string{u4 + "iif=lan0"}},
	{"oifname \"wg-a\" tcp option maxseg size set rt mtu", []string{t4 + "oif=wg-a"}, []string{t4, u4 + "oif=wg-a"}},
	{"iifname \"wg-a\" meta nfproto ipv6 tcp option maxseg size set 1360", []string{t6 + "iif=wg-a"}, []string{t4 + "iif=wg-a"}},
}

func TestEachExpression(t *testing.T) {
	for _, x := range expressions {
		rule := x.tests + " drop"
		if strings.Contains(rule, " vmap ") { // that has its verdicts itself
			rule = x.tests
		}
		table := parse(t, "\tset some4 {\n\t\ttype ipv4_addr; flags interval;\n\t\telements = { 10.1.0.0/24, 192.168.0.0/16 }\n\t}\n"+
			"\tset some6 {\n\t\ttype ipv6_addr; flags interval;\n\t\telements = { fe80::/10 }\n\t}\n"+
			"\tset none4 {\n\t\ttype ipv4_addr; flags interval;\n\t}\n"+
			"\tchain c {\n\t\ttype filter hook forward priority filter; policy accept;\n\t\t"+rule+"\n\t}\n")
		check := func(packets []string, want string) {
			for _, words := range packets {
				p, c := at(t, words)
				if got := table.Run(ruleset.Forward, &p, c, testEnv, false); got.Verdict != want {
					t.Errorf("%s: %s has the verdict %s, want %s", x.tests, words, got.Verdict, want)
				}
			}
		}
		check(x.yes, "drop")
		check(x.no, "accept")
	}
}

func parse(t testing.TB, body string) *ruleset.Table {
	t.Helper()
	table, err := ruleset.Parse("table inet t {\n" + strings.TrimPrefix(body, "\n") + "}\n")
	if err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	return table
}

const ways = `
	chain deep {
		udp dport 1 return
		udp dport 2 accept
		udp dport 3 drop
	}
	chain jumped {
		udp dport 10 goto deep
		udp dport 1-9 jump deep
		meta mark set meta mark & 0xffffff | 0x5000000
	}
	chain gone {
		udp dport { 1, 2, 3 } jump deep
		meta mark set meta mark & 0xffffff | 0x6000000
	}
	chain first {
		type filter hook forward priority mangle; policy accept;
		iifname vmap { "jump" : jump jumped, "goto" : goto gone, "accept" : accept, "drop" : drop, "return" : return }
		ct mark set ct mark & 0xffffff | 0x7000000
		meta l4proto . th dport vmap { udp . 53 : goto gone, tcp . 80-90 : drop }
	}
	chain second {
		type filter hook forward priority filter - 2; policy drop;
		ip saddr vmap { 10.1.0.0-10.1.0.255 : accept, 10.3.0.1 : jump jumped }
		ip saddr 10.3.0.0/24 reject with icmpx type admin-prohibited
	}
`

// A goto does not come back, a jump does; an accept ends one base chain, a drop all of them.
func TestWaysThroughChains(t *testing.T) {
	table := parse(t, ways)
	for _, x := range []struct {
		words, verdict, why string
		mark, ctMark        uint32
	}{
		{"udp 10.1.0.5:9 10.2.0.7:1 iif=jump mark=0x1000001", "accept", "second ip saddr vmap", 0x5000001, 0x7000000},
		{"udp 10.1.0.5:9 10.2.0.7:2 iif=jump", "accept", "second ip saddr vmap", 0, 0},
		{"udp 10.1.0.5:9 10.2.0.7:3 iif=jump", "drop", "deep udp dport 3 drop", 0, 0},
		{"udp 10.1.0.5:9 10.2.0.7:10 iif=jump", "accept", "second ip saddr vmap", 0, 0x7000000}, // goto within a jump comes back behind the jump
		{"udp 10.1.0.5:9 10.2.0.7:1 iif=goto", "accept", "second ip saddr vmap", 0x6000000, 0},
		{"udp 10.1.0.5:9 10.2.0.7:53 iif=return", "accept", "second ip saddr vmap", 0, 0},
		{"udp 10.1.0.5:9 10.2.0.7:53 iif=accept", "accept", "second ip saddr vmap", 0, 0},
		{"udp 10.1.0.5:9 10.2.0.7:53 iif=drop", "drop", "first iifname vmap", 0, 0},
		{"udp 10.1.0.5:9 10.2.0.7:53 iif=else", "accept", "second ip saddr vmap", 0x6000000, 0x7000000},
		{"tcp 10.1.0.5:9 10.2.0.7:85", "drop", "first meta l4proto . th dport vmap", 0, 0x7000000},
		{"udp 10.3.0.5:9 10.2.0.7:54", "reject", "second ip saddr 10.3.0.0/24 reject", 0, 0x7000000},
		{"udp 10.3.0.1:9 10.2.0.7:2", "accept", "deep udp dport 2 accept", 0, 0x7000000},
		{"udp 10.4.0.5:9 10.2.0.7:54", "drop", "second policy drop", 0, 0x7000000},
		{"udp [fd00::1]:9 [fd00::2]:54", "drop", "second policy drop", 0, 0x7000000},
		{"udp 10.1.0.5:9 10.2.0.7:54 invalid", "accept", "second ip saddr vmap", 0, 0},
	} {
		p, c := at(t, x.words)
		got := table.Run(ruleset.Forward, &p, c, ruleset.Env{}, true)
		why := got.Why.Chain + " " + got.Why.Rule
		if got.Verdict != x.verdict || !strings.HasPrefix(why, x.why) || p.Mark != x.mark || c.Mark != x.ctMark {
			t.Errorf("%s: %s by %q, marks %#x %#x, want %s by %q, %#x %#x", x.words, got.Verdict, why, p.Mark, c.Mark, x.verdict, x.why, x.mark, x.ctMark)
		}
		if last := got.Steps[len(got.Steps)-1]; last != got.Why {
			t.Errorf("%s: the last step is %+v, not %+v", x.words, last, got.Why)
		}
		p, c = at(t, x.words)
		if again := table.Run(ruleset.Forward, &p, c, ruleset.Env{}, false); again.Steps != nil || again.Verdict != got.Verdict || got.Verdict != "accept" && again.Why != got.Why {
			t.Errorf("%s: without steps it is %+v", x.words, again)
		}
	}
}

func TestStepsAreTheRulesThatWereLookedAt(t *testing.T) {
	p, c := at(t, "udp 10.1.0.5:9 10.2.0.7:1 iif=jump")
	var got []string
	for _, s := range parse(t, ways).Run(ruleset.Forward, &p, c, ruleset.Env{}, true).Steps {
		got = append(got, fmt.Sprintf("%d %s %s %v", s.Line, s.Chain, strings.Fields(s.Rule)[0], s.Matched))
	}
	want := "18 first iifname true, 8 jumped udp false, 9 jumped udp true, 3 deep udp true, 10 jumped meta true, " +
		"19 first ct true, 20 first meta false, 16 first policy true, 24 second ip true"
	if strings.Join(got, ", ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
	}
}
