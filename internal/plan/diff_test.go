package plan

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tombolo/internal/key"
	"tombolo/internal/state"
)

// names returns the operations in words.
func names(ops []Op) []string {
	var out []string
	for _, op := range ops {
		out = append(out, op.String())
	}
	return out
}

func TestDiffOfTheSampleAndItselfIsEmpty(t *testing.T) {
	if p := Diff(observed(sample()), sample()); !p.Empty() {
		t.Errorf("there is to do:\n%s", p.Text(false))
	}
}

func TestDiffKeepsForeignRoutes(t *testing.T) {
	have := observed(sample())
	theirs := state.Route{Table: 110, Dst: netip.MustParsePrefix("172.16.0.0/12"), Type: state.Unicast, Device: "eth0", Protocol: 42}
	have.Routes = append(have.Routes, theirs)
	p := Diff(have, state.Router{Owner: have.Owner})
	after := Apply(have, p.Ops)
	if !slices.Equal(after.Routes, []state.Route{theirs}) {
		t.Errorf("left are %v, want only %v", after.Routes, theirs)
	}
}

// What Diff leaves alone although it is not the same.
func TestDiffSeesNoDifference(t *testing.T) {
	for name, change := range map[string]func(have, want *state.Router){
		"any port": func(_, want *state.Router) { want.Interfaces[0].WireGuard.ListenPort = 0 },
		"key without a file": func(have, _ *state.Router) {
			have.Interfaces[0].WireGuard.PrivateKey = ""
		},
		"endpoint that is the second choice": func(have, want *state.Router) {
			p := &want.Interfaces[0].WireGuard.Peers[0]
			p.Addresses = []netip.AddrPort{netip.MustParseAddrPort("198.51.100.9:1"), p.Addresses[0]}
		},
		"endpoint that is not resolved": func(_, want *state.Router) { want.Interfaces[0].WireGuard.Peers[0].Addresses = nil },
		"peer without a name, with a handshake": func(have, _ *state.Router) {
			p := &have.Interfaces[0].WireGuard.Peers[0]
			p.Name, p.Endpoints, p.Handshake, p.Received = "", nil, 1, 1
		},
		"metric that IPv6 gives": func(have, _ *state.Router) {
			for i := range have.Routes {
				if have.Routes[i].Dst.Addr().Is6() && have.Routes[i].Metric == 0 {
					have.Routes[i].Metric = 1024
				}
			}
		},
		"device of a route that leads nowhere": func(have, _ *state.Router) {
			for i := range have.Routes {
				if have.Routes[i].Type == state.Unreachable {
					have.Routes[i].Device = "lo"
				}
			}
		},
		"text of a ruleset": func(have, _ *state.Router) { have.Rulesets[0].Text = "table inet tombolo {}" },
		"setting that may only change from another value": func(have, _ *state.Router) {
			have.Sysctls[slices.IndexFunc(have.Sysctls, func(s state.Sysctl) bool { return s.Name == "net/ipv6/conf/eth0/accept_ra" })].Value = "0"
		},
		"setting that the kernel has not": func(_, want *state.Router) {
			want.Sysctls = append(want.Sysctls, state.Sysctl{Name: "net/ipv4/conf/eth9/rp_filter", Value: "1"})
		},
		"what is wanted and is not ours": func(_, want *state.Router) {
			want.Rules = append(want.Rules, state.Rule{Priority: 700, Action: state.Lookup, Table: 254, Protocol: 84})
			want.Routes = append(want.Routes, state.Route{Table: 254, Dst: netip.MustParsePrefix("172.16.0.0/12"), Type: state.Unicast, Device: "eth0", Protocol: 4})
			want.Interfaces = append(want.Interfaces, state.Interface{Name: "wg-x", Kind: state.WireGuardKind, Alias: "tombolo2"})
			want.Rulesets = append(want.Rulesets, state.Ruleset{Family: "inet", Table: "fw4"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			have, want := observed(sample()), sample()
			change(&have, &want)
			if p := Diff(have, want); !p.Empty() {
				t.Errorf("there is to do:\n%s", p.Text(false))
			}
		})
	}
}

func TestDiffSeesADifference(t *testing.T) {
	wg := func(r *state.Router) *state.WireGuard { return r.Interfaces[0].WireGuard }
	peer := func(r *state.Router) *state.Peer { return &wg(r).Peers[0] }
	id := "change peer wg-op1 " + publicKeyOf(1).String()
	for name, c := range map[string]struct {
		change func(have, want *state.Router)
		ops    []string
	}{
		"interface key": {
			func(_, want *state.Router) { wg(want).PublicKey = publicKeyOf(50) },
			[]string{"change interface wg-op1"},
		},
		"interface key that is not known": {
			func(have, want *state.Router) { wg(have).PublicKey, wg(want).PublicKey = key.Public{}, key.Public{} },
			[]string{"change interface wg-op1"},
		},
		"preshared key that no file holds": {
			func(have, _ *state.Router) { peer(have).Preshared = state.UnknownKey }, []string{id},
		},
		"no preshared key any more": {func(_, want *state.Router) { peer(want).Preshared = "" }, []string{id}},
		"endpoint elsewhere": {
			func(have, _ *state.Router) {
				peer(have).Addresses = []netip.AddrPort{netip.MustParseAddrPort("203.0.113.1:1")}
			},
			[]string{id},
		},
		"no endpoint yet": {func(have, _ *state.Router) { peer(have).Addresses = nil }, []string{id}},
		"peer whose key is not known": {
			func(_, want *state.Router) { peer(want).PublicKey = key.Public{} },
			[]string{"remove peer wg-op1 " + publicKeyOf(1).String(), "add peer wg-op1 op1"},
		},
		"drifted ruleset": {
			func(have, _ *state.Router) { have.Rulesets[0].Digest = state.DriftedDigest },
			[]string{"change ruleset inet tombolo"},
		},
		"route that is blocked now": {
			func(_, want *state.Router) { want.Routes[0].Type, want.Routes[0].Device = state.Blackhole, "" },
			[]string{"change route 10.0.32.1/32 table 110"},
		},
		"IPv4 address of the same subnet": {
			func(have, want *state.Router) {
				have.Interfaces[0].Addresses = prefixes("10.9.0.1/24", "10.0.32.2/32", "fd74:6f6d::2/128", "fe80::2/64")
				want.Interfaces[0].Addresses = prefixes("10.9.0.2/24", "10.0.32.2/32", "fd74:6f6d::2/128", "fe80::2/64")
			},
			[]string{"remove address wg-op1 10.9.0.1/24", "add address wg-op1 10.9.0.2/24"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			have, want := observed(sample()), sample()
			c.change(&have, &want)
			if d := cmp.Diff(c.ops, names(Diff(have, want).Ops)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDiffUsesTheBestEndpoint(t *testing.T) {
	have, want := observed(sample()), sample()
	best := netip.MustParseAddrPort("198.51.100.9:1")
	want.Interfaces[0].WireGuard.Peers[0].Addresses = []netip.AddrPort{best, netip.MustParseAddrPort("198.51.100.8:1")}
	ops := Diff(have, want).Ops
	if len(ops) != 1 || !slices.Equal(ops[0].Object.(Peer).Addresses, []netip.AddrPort{best}) {
		t.Errorf("the plan is %v, want one change to %s", ops, best)
	}
}

// When forwarding is switched on, IPv6 default routes from router advertisements are
// dropped on devices whose accept_ra is not 2.
func TestDiffSetsAcceptRAFirst(t *testing.T) {
	ops := names(Diff(bareMachine(), sample()).Ops)
	if ops[0] != "change sysctl net/ipv6/conf/eth0/accept_ra" {
		t.Errorf("the plan begins with %q", ops[0])
	}
}

// What keeps packets from where they are not to go is there before any is forwarded.
func TestDiffForwardsWhenAllIsThere(t *testing.T) {
	ops := names(Diff(bareMachine(), sample()).Ops)
	want := []string{"change sysctl net/ipv4/ip_forward", "change sysctl net/ipv6/conf/all/forwarding"}
	if d := cmp.Diff(want, ops[len(ops)-2:]); d != "" {
		t.Error(d)
	}
}

func TestDiffOfWantedAllowedIPsTwice(t *testing.T) {
	have, want := observed(sample()), sample()
	p := want.Interfaces[0].WireGuard.Peers[0]
	p.PublicKey = publicKeyOf(9)
	want.Interfaces[0].WireGuard.Peers = append(want.Interfaces[0].WireGuard.Peers, p)
	after := Apply(have, Diff(have, want).Ops)
	peers := after.Interfaces[0].WireGuard.Peers
	if len(peers[0].AllowedIPs) != 0 || len(peers[1].AllowedIPs) != 2 {
		t.Errorf("the allowed IPs are %v and %v, want all of them at the last peer", peers[0].AllowedIPs, peers[1].AllowedIPs)
	}
	if p := Diff(after, want); !p.Empty() {
		t.Errorf("it does not come to rest:\n%s", p.Text(false))
	}
}

func TestApplyMovesAllowedIPs(t *testing.T) {
	have := observed(sample())
	thief := Peer{"wg-op1", state.Peer{PublicKey: publicKeyOf(9), AllowedIPs: prefixes("::/0")}}
	after := Apply(have, []Op{{Verb: Add, Object: thief}})
	if got := after.Interfaces[0].WireGuard.Peers[0].AllowedIPs; !slices.Equal(got, prefixes("0.0.0.0/0")) {
		t.Errorf("the first peer has %v left, want 0.0.0.0/0", got)
	}
	if got := have.Interfaces[0].WireGuard.Peers[0].AllowedIPs; len(got) != 2 {
		t.Errorf("Apply changed its argument: %v", got)
	}
}

func TestApplyOfARemovedInterfaceTakesRoutesAlong(t *testing.T) {
	have := observed(sample())
	after := Apply(have, []Op{{Verb: Remove, Before: Interface{have.Interfaces[1]}}})
	for _, r := range after.Routes {
		if r.Device == "wg-op3" {
			t.Errorf("the route to %s is still there", r.Dst)
		}
	}
}

func TestCheckSaysWhatAKernelWouldRefuse(t *testing.T) {
	have := observed(sample())
	clash := sampleLink("op4", 3, "", "192.0.2.1:1")
	for _, c := range []struct {
		op   Op
		is   error
		text string
	}{
		{Op{Verb: Add, Object: Interface{have.Interfaces[0]}}, ErrExists, "add interface wg-op1: it is there already"},
		{Op{Verb: Add, Object: Interface{clash}}, ErrPortInUse, "add interface wg-op4: its UDP port is in use"},
		{
			Op{Verb: Add, Object: Address{"wg-op1", netip.MustParsePrefix("fe80::2/128")}}, ErrExists,
			"add address wg-op1 fe80::2/128: it is there already",
		},
		{Op{Verb: Add, Object: Address{"wg-no", netip.MustParsePrefix("10.0.0.1/32")}}, ErrAbsent, "add address wg-no 10.0.0.1/32: it is not there"},
		{Op{Verb: Add, Object: Route{sampleRoute("10.0.32.1/32", "wg-op3")}}, ErrExists, "add route 10.0.32.1/32 table 110: it is there already"},
		{
			Op{Verb: Remove, Before: Route{sampleRoute("10.0.32.1/32", "wg-op3")}}, ErrDifferent,
			"remove route 10.0.32.1/32 table 110: it is not what the plan takes it for",
		},
		{
			Op{Verb: Remove, Before: Peer{"wg-op1", state.Peer{PublicKey: publicKeyOf(9)}}}, ErrAbsent,
			fmt.Sprintf("remove peer wg-op1 %s: it is not there", publicKeyOf(9)),
		},
		{Op{Verb: Add, Object: Rule{have.Rules[0]}}, ErrExists, "add rule pref 500 fwmark 0x7f000000/0xff000000 lookup main: it is there already"},
	} {
		after, done, err := Check(have, []Op{c.op})
		if !errors.Is(err, c.is) || err.Error() != c.text || done != 0 {
			t.Errorf("%d done, error %q, want %q", done, err, c.text)
		}
		if d := difference(have, after); d != "" {
			t.Errorf("a refused operation changed something:\n%s", d)
		}
	}
}

func manyRoutes(n int) state.Router {
	r := state.Router{Version: state.Version, Owner: state.DefaultOwner()}
	for i := range n {
		dst := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		r.Routes = append(r.Routes, state.Route{
			Table: 110, Dst: dst, Type: state.Unicast, Device: "wg-op1", PrefSrc: netip.MustParseAddr("10.0.32.2"), Protocol: 84,
		})
	}
	return r
}

func BenchmarkDiff10000RoutesEqual(b *testing.B) {
	have, want := manyRoutes(10000), manyRoutes(10000)
	for b.Loop() {
		if p := Diff(have, want); !p.Empty() {
			b.Fatal("there is to do")
		}
	}
}

func BenchmarkDiff10000RoutesNew(b *testing.B) {
	have, want := state.Router{}, manyRoutes(10000)
	for b.Loop() {
		if p := Diff(have, want); len(p.Ops) != 10000 {
			b.Fatal(len(p.Ops))
		}
	}
}

func BenchmarkApply10000Routes(b *testing.B) {
	ops := Diff(state.Router{}, manyRoutes(10000)).Ops
	for b.Loop() {
		Apply(state.Router{}, ops)
	}
}

func TestPlanKnowsWhatIsLeftOfPeersThatRoamed(t *testing.T) {
	have, want := observed(sample()), sample()
	if p := Diff(have, want); !p.Roamed() || !p.Empty() {
		t.Errorf("nothing is to be done: %s", p.Text(false))
	}
	have.Interfaces[0].WireGuard.Peers[0].Addresses = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.99:5")}
	if p := Diff(have, want); !p.Roamed() || p.Empty() {
		t.Errorf("a peer is elsewhere: %s", p.Text(false))
	}
	have.Interfaces[0].WireGuard.Peers[0].Keepalive = 7
	if p := Diff(have, want); p.Roamed() {
		t.Errorf("a peer has another keepalive: %s", p.Text(false))
	}
	have = observed(sample())
	have.Rules = have.Rules[1:]
	if p := Diff(have, want); p.Roamed() {
		t.Errorf("a rule is missing: %s", p.Text(false))
	}
}
