package kernel

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tombolo/internal/plan"
)

// Someone changes one thing; the plan must see it and mend it, and nothing else.
func TestDriftOfEveryKindIsSeen(t *testing.T) {
	s := newSite(t)
	apply(t, s.k, s.want)
	a, b := devName(0), devName(1)
	peer := s.peer("op2").PublicKey.String()
	for _, tt := range []struct {
		by   string
		want []string // ops
	}{
		{"ip route del 10.2.0.0/24 table 110", []string{"add route 10.2.0.0/24 table 110"}},
		{"ip -6 route replace fd02::/48 dev " + b + " table 110 proto 84", []string{"change route fd02::/48 table 110"}},
		{"ip rule del pref 520", []string{"add rule pref 520 lookup 110 suppress_prefixlength 0"}},
		{"ip rule add pref 540 lookup 7 protocol 84", []string{"remove rule pref 540 lookup 7"}},
		{"ip link set " + a + " mtu 1300", []string{"change interface " + a}},
		{"ip link set " + b + " alias 'tombolo other'", []string{"change interface " + b}},
		// With its last IPv4 address an interface loses its IPv4 routes.
		{"ip address del 10.0.32.1/32 dev " + b, []string{"add address " + b + " 10.0.32.1/32", "add route 10.3.0.0/24 table 110"}},
		{"ip address add 10.77.0.1/32 dev " + b, []string{"remove address " + b + " 10.77.0.1/32"}},
		{"ip address add fe80::7/64 dev " + b, []string{"remove address " + b + " fe80::7/64"}},
		{"ip address del fe80::abcd/64 dev " + b, []string{"add address " + b + " fe80::abcd/64"}},
		{"wg set " + a + " peer " + peer + " persistent-keepalive 7", []string{"change peer " + a + " " + peer}},
		{"wg set " + a + " peer " + peer + " allowed-ips 10.9.0.0/24", []string{"change peer " + a + " " + peer}},
		{"wg genpsk | wg set " + a + " peer " + peer + " preshared-key /dev/stdin", []string{"change peer " + a + " " + peer}},
		{"wg set " + a + " peer " + peer + " remove", []string{"add peer " + a + " " + peer}},
		{"wg set " + a + " peer " + peer + " endpoint 10.0.0.77:1", []string{"change peer " + a + " " + peer}},
		{"wg set " + a + " fwmark 0", []string{"change interface " + a}},
		{"wg set " + a + " listen-port 40404", []string{"change interface " + a}},
		{"wg genkey | wg set " + a + " private-key /dev/stdin", []string{"change interface " + a}},
		{"nft add rule inet tombolo forward counter drop", []string{"change ruleset inet tombolo"}},
		{"nft flush chain inet tombolo input", []string{"change ruleset inet tombolo"}},
		{"nft add chain inet tombolo other", []string{"change ruleset inet tombolo"}},
		{"nft flush chain inet tombolo seal", []string{"change ruleset inet tombolo"}},
		{"nft delete table inet tombolo", []string{"add ruleset inet tombolo"}},
		{"nft 'add table ip6 tombolo; add chain ip6 tombolo x'", []string{"remove ruleset ip6 tombolo"}},
		{"sysctl -q -w net.ipv4.ip_forward=0", []string{"change sysctl net/ipv4/ip_forward"}},
		{"sysctl -q -w net.ipv4.conf." + a + ".rp_filter=1", []string{"change sysctl net/ipv4/conf/" + a + "/rp_filter"}},
	} {
		t.Run(tt.by, func(t *testing.T) {
			s.enter(t) // a subtest has a thread of its own
			sh(t, tt.by)
			p := plan.Diff(read(t, s.k, s.want), s.want)
			var got []string
			for _, op := range p.Ops {
				got = append(got, op.String())
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("wanted, planned: %s", d)
			}
			if err := s.k.Apply(context.Background(), p.Ops); err != nil {
				t.Fatal(err)
			}
			wantNothing(t, s.k, s.want)
		})
	}
}

// Taken down, an interface loses its routes and its IPv6 addresses.
func TestInterfaceTakenDownComesUp(t *testing.T) {
	s := newSite(t)
	apply(t, s.k, s.want)
	sh(t, "ip link set "+devName(0)+" down")
	apply(t, s.k, s.want)
	if out := sh(t, "ip link show "+devName(0)); !strings.Contains(out, ",UP") {
		t.Error(out)
	}
	if d := diffRouters(normal(s.want), normal(read(t, s.k, s.want))); d != "" {
		t.Errorf("wanted, read: %s", d)
	}
}
