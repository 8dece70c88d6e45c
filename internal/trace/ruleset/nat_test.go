package ruleset_test

import (
	"net/netip"
	"testing"

	"tombolo/internal/trace/ruleset"
)

const translations = `
	chain published {
		ip daddr { 10.9.0.0/24 } return
		udp dport 6000-6100 dnat ip to 10.3.0.10
		dnat ip to meta l4proto . th dport map { tcp . 8443 : 192.168.51.10 . 443 }
		dnat ip6 to meta l4proto . th dport map { tcp . 8443 : fd00:3::10 . 443 }
	}
	chain dstnat {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local jump published
		ip daddr { 10.61.0.0/24 } dnat ip prefix to ip daddr map { 10.61.0.0/24 : 192.168.1.0/24, 10.62.0.0/28 : 192.168.2.16/28 }
		ip6 daddr { fd61::/60 } dnat ip6 prefix to ip6 daddr map { fd61::/60 : fd00:1::/60 }
	}
	chain leave {
		type nat hook postrouting priority srcnat - 1; policy accept;
		ct mark & 0xff000000 != 0 accept
		oifname "eth0" ct mark set ct mark & 0xffffff | 0x15000000
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "eth0" ip daddr { 10.2.0.0/24 } return
		ct original ip daddr 10.61.0.0/24 oifname "lan0" ip saddr 192.168.1.0/24 snat ip prefix to ip saddr map { 192.168.1.0/24 : 10.61.0.0/24 }
		oifname "eth0" ip saddr 10.1.0.0/24 masquerade
		ct status dnat ip6 saddr fd00:1::/64 masquerade
	}
`

func TestTranslations(t *testing.T) {
	table := parse(t, translations)
	e := ruleset.Env{Local: func(a netip.Addr) bool {
		return a == netip.MustParseAddr("192.0.2.1") || a == netip.MustParseAddr("2001:db8::1") || a == netip.MustParseAddr("10.9.0.1")
	}}
	masquerade := &ruleset.NAT{Masquerade: true}
	to := func(a string, port uint16) *ruleset.NAT {
		return &ruleset.NAT{Dst: netip.MustParseAddr(a), Port: port}
	}
	for _, x := range []struct {
		hook   ruleset.Hook
		words  string
		want   *ruleset.NAT
		ctMark uint32
	}{
		{ruleset.Prerouting, "tcp 198.51.100.1:9 192.0.2.1:8443", to("192.168.51.10", 443), 0},
		{ruleset.Prerouting, "tcp [2001:db8:9::1]:9 [2001:db8::1]:8443", to("fd00:3::10", 443), 0},
		{ruleset.Prerouting, "udp 198.51.100.1:9 192.0.2.1:6050", to("10.3.0.10", 0), 0},
		{ruleset.Prerouting, "udp 198.51.100.1:9 192.0.2.1:8443", nil, 0},
		{ruleset.Prerouting, "udp [2001:db8:9::1]:9 [2001:db8::1]:6050", nil, 0},
		{ruleset.Prerouting, "tcp 198.51.100.1:9 192.0.2.2:8443", nil, 0},
		{ruleset.Prerouting, "tcp 10.1.0.5:9 10.9.0.1:8443", nil, 0},
		{ruleset.Prerouting, "tcp 198.51.100.1:9 192.0.2.1:8443 established", nil, 0},
		{ruleset.Prerouting, "tcp 198.51.100.1:9 192.0.2.1:8443 invalid", nil, 0},
		{ruleset.Prerouting, "tcp 198.51.100.1:9 192.0.2.1:8443 none", nil, 0},
		{ruleset.Prerouting, "tcp 10.5.0.1:9 10.61.0.77:22", to("192.168.1.77", 0), 0},
		{ruleset.Prerouting, "tcp 10.5.0.1:9 10.62.0.7:22", nil, 0}, // the set before the map does not have it
		{ruleset.Prerouting, "tcp [fd09::1]:9 [fd61:0:0:7:1:2:3:4]:22", to("fd00:1:0:7:1:2:3:4", 0), 0},
		{ruleset.Postrouting, "tcp 10.1.0.5:9 198.51.100.1:80 oif=eth0", masquerade, 0x15000000},
		{ruleset.Postrouting, "tcp 10.1.0.5:9 198.51.100.1:80 oif=eth0 ctmark=0x5000000", masquerade, 0x5000000},
		{ruleset.Postrouting, "tcp 10.1.0.5:9 198.51.100.1:80 oif=lan0", nil, 0},
		{ruleset.Postrouting, "tcp 10.1.0.5:9 10.2.0.1:80 oif=eth0", nil, 0x15000000},
		{ruleset.Postrouting, "tcp 192.168.1.9:9 192.168.1.10:80 oif=lan0 orig=10.61.0.10", &ruleset.NAT{Src: netip.MustParseAddr("10.61.0.9")}, 0},
		{ruleset.Postrouting, "tcp 192.168.1.9:9 192.168.1.10:80 oif=lan0", nil, 0},
		{ruleset.Postrouting, "tcp [fd00:1::9]:9 [fd00:1::10]:80 oif=lan0 dnat", masquerade, 0},
	} {
		p, c := at(t, x.words)
		before := p
		got := table.Run(x.hook, &p, c, e, false)
		if (got.NAT == nil) != (x.want == nil) || got.NAT != nil && *got.NAT != *x.want || got.Verdict != "accept" {
			t.Errorf("%v %s: %+v, %s, want %+v", x.hook, x.words, got.NAT, got.Verdict, x.want)
		}
		if p != before || c != nil && c.Mark != x.ctMark {
			t.Errorf("%v %s: it is %+v, %+v afterwards", x.hook, x.words, p, c)
		}
	}
}

// Chains are called in the order of their priorities; of the same, the one that was made last
// comes first. Those for translation have one place together.
func TestOrderOfBaseChains(t *testing.T) {
	chain := func(name, head string) string {
		return "\tchain " + name + " {\n\t\ttype " + head + "; policy accept;\n\t\taccept\n\t}\n"
	}
	table := parse(t, chain("e", "filter hook prerouting priority filter")+chain("d", "nat hook prerouting priority filter + 7")+chain("c2", "nat hook prerouting priority dstnat - 5")+
		chain("b2", "filter hook prerouting priority -101")+chain("b", "filter hook prerouting priority -101")+chain("a", "filter hook prerouting priority raw"))
	p, c := at(t, u4)
	var got string
	for _, s := range table.Run(ruleset.Prerouting, &p, c, ruleset.Env{}, true).Steps {
		got += s.Chain + " "
	}
	if got != "a b b2 c2 d e " {
		t.Errorf("the order is %s", got)
	}
}

// What is known of hooks before conntrack's is nothing.
func TestChainsBeforeConnectionsAreKnown(t *testing.T) {
	table := parse(t, "\tchain c {\n\t\ttype filter hook prerouting priority raw; policy accept;\n\t\tct state new drop\n\t\tct mark & 0xff == 0 drop\n\t}\n")
	p, c := at(t, u4)
	if got := table.Run(ruleset.Prerouting, &p, c, ruleset.Env{}, false); got.Verdict != "accept" {
		t.Errorf("%+v", got)
	}
}
