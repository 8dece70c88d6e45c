package kernel

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"tombolo/internal/plan"
	"tombolo/internal/state"
)

var equalAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
var equalPrefixes = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

// everyRoute is a route of every kind that we make, with the words of ip for it.
var everyRoute = []struct {
	ip string // ip route add …
	r  state.Route
}{
	{"10.2.0.0/24 dev v0 table 110", state.Route{Table: 110, Dst: prefixOf("10.2.0.0/24"), Type: state.Unicast, Device: "v0"}},
	{"10.3.0.0/24 via 10.0.0.2 table 110", state.Route{Table: 110, Dst: prefixOf("10.3.0.0/24"), Type: state.Unicast, Device: "v0", Gateway: addrOf("10.0.0.2")}},
	{"10.4.0.0/24 via 10.9.9.9 dev v0 onlink src 10.0.0.1 metric 50 table 300", state.Route{Table: 300, Dst: prefixOf("10.4.0.0/24"), Type: state.Unicast, Device: "v0", Gateway: addrOf("10.9.9.9"), OnLink: true, PrefSrc: addrOf("10.0.0.1"), Metric: 50}},
	{"0.0.0.0/0 via inet6 fe80::2 dev v0 table 100000", state.Route{Table: 100000, Dst: prefixOf("0.0.0.0/0"), Type: state.Unicast, Device: "v0", Gateway: addrOf("fe80::2")}},
	{"unreachable default metric 4294967295 table 120", state.Route{Table: 120, Dst: prefixOf("0.0.0.0/0"), Type: state.Unreachable, Metric: 4294967295}},
	{"blackhole 10.5.0.0/16 table 120", state.Route{Table: 120, Dst: prefixOf("10.5.0.0/16"), Type: state.Blackhole}},
	{"prohibit 10.6.0.1/32 table 120", state.Route{Table: 120, Dst: prefixOf("10.6.0.1/32"), Type: state.Prohibit}},
	{"10.7.0.0/24 dev v0 table main", state.Route{Table: 254, Dst: prefixOf("10.7.0.0/24"), Type: state.Unicast, Device: "v0"}},
	{"fd01::/48 dev v0 table 110", state.Route{Table: 110, Dst: prefixOf("fd01::/48"), Type: state.Unicast, Device: "v0"}},
	{"fd02::/48 via fe80::2 dev v0 src fd00::1 metric 20 table 300", state.Route{Table: 300, Dst: prefixOf("fd02::/48"), Type: state.Unicast, Device: "v0", Gateway: addrOf("fe80::2"), PrefSrc: addrOf("fd00::1"), Metric: 20}},
	{"default from fd07::/48 via fe80::2 dev v0 table 110", state.Route{Table: 110, Dst: prefixOf("::/0"), Src: prefixOf("fd07::/48"), Type: state.Unicast, Device: "v0", Gateway: addrOf("fe80::2")}},
	{"default via fe80::3 dev v0 table 110", state.Route{Table: 110, Dst: prefixOf("::/0"), Type: state.Unicast, Device: "v0", Gateway: addrOf("fe80::3")}},
	{"unreachable default metric 4294967295 table 120", state.Route{Table: 120, Dst: prefixOf("::/0"), Type: state.Unreachable, Metric: 4294967295}},
	{"blackhole fd05::/48 table 120", state.Route{Table: 120, Dst: prefixOf("fd05::/48"), Type: state.Blackhole}},
	{"prohibit fd06::1/128 table 120", state.Route{Table: 120, Dst: prefixOf("fd06::1/128"), Type: state.Prohibit}},
	{"fd08::/48 via fd99::9 dev v0 onlink table 110", state.Route{Table: 110, Dst: prefixOf("fd08::/48"), Type: state.Unicast, Device: "v0", Gateway: addrOf("fd99::9"), OnLink: true}},
}

func ipFamily(six bool) string {
	if six {
		return "ip -6"
	}
	return "ip"
}

// veth gives the namespace two devices, v0 with addresses.
func veth(t testing.TB) {
	t.Helper()
	sh(t, `ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up
		ip address add 10.0.0.1/24 dev v0; ip address add fd00::1/64 dev v0 nodad`)
}

func everyRouteOfOurs() state.Router {
	want := empty()
	for _, e := range everyRoute {
		e.r.Protocol = want.Owner.Protocol
		want.Routes = append(want.Routes, e.r)
	}
	want.Sort()
	return want
}

// What ip prints of our routes must be what it prints of its own.
func TestRoutesAreWhatIpMakes(t *testing.T) {
	namespace(t)
	veth(t)
	show := "ip -d route show table all proto 84; ip -d -6 route show table all proto 84"
	for _, e := range everyRoute {
		sh(t, fmt.Sprintf("%s route add %s proto 84", ipFamily(e.r.Dst.Addr().Is6()), e.ip))
	}
	byIP := sh(t, show)
	k := open(t)
	want := everyRouteOfOurs()
	wantNothing(t, k, want) // ours read what ip makes
	sh(t, "ip route flush table all proto 84; ip -6 route flush table all proto 84")
	sh(t, "ip -6 route del unreachable default table 120 proto 84 metric 4294967295") // flush forgets it
	if left := sh(t, show); left != "" {
		t.Fatalf("ip left %s", left)
	}
	apply(t, k, want)
	if d := cmp.Diff(byIP, sh(t, show)); d != "" {
		t.Errorf("ip made, we made: %s", d)
	}
	have := read(t, k, want)
	if d := cmp.Diff(want.Routes, have.Routes, equalAddrs, equalPrefixes); d != "" {
		t.Errorf("wanted, read: %s", d)
	}
	apply(t, k, empty())
	if left := sh(t, show); left != "" {
		t.Errorf("left: %s", left)
	}
}

func TestRouteChangesInPlace(t *testing.T) {
	namespace(t)
	veth(t)
	k := open(t)
	apply(t, k, everyRouteOfOurs())
	// Each route, in the place of itself, by each other way of its family.
	changed := everyRouteOfOurs()
	for i := range changed.Routes {
		r := &changed.Routes[i]
		switch six := r.Dst.Addr().Is6(); {
		case r.Type != state.Unicast:
			r.Type, r.Device = state.Unicast, "v0"
		case !r.Gateway.IsValid() && six:
			r.Gateway = addrOf("fe80::77")
		case !r.Gateway.IsValid():
			r.Gateway = addrOf("10.0.0.77")
		default:
			r.Type, r.Device, r.Gateway, r.PrefSrc, r.OnLink = state.Unreachable, "", netip.Addr{}, netip.Addr{}, false
		}
	}
	apply(t, k, changed)
	if d := cmp.Diff(changed.Routes, read(t, k, changed).Routes, equalAddrs, equalPrefixes); d != "" {
		t.Errorf("wanted, read: %s", d)
	}
	apply(t, k, everyRouteOfOurs())
}

func TestForeignRoutesAreReadWhereTheyMatter(t *testing.T) {
	namespace(t)
	veth(t)
	sh(t, `ip route add 10.8.0.0/24 dev v0 table 110 proto static
		ip route add 10.8.1.0/24 dev v0 table 111 proto static
		ip route add 10.7.0.0/24 dev v0 proto static
		ip route add 10.7.1.0/24 dev v0 proto static
		ip -6 route add fd08::/48 dev v0 table 110 proto static
		ip route add 10.8.0.0/16 table 110 proto bird nexthop via 10.0.0.5 nexthop via 10.0.0.6
		ip route add throw 10.80.0.0/16 table 110 proto static
		ip route add 10.1.0.0/24 dev v0 table 999 proto 84`)
	k := open(t)
	want := empty()
	want.Routes = []state.Route{
		{Table: 110, Dst: prefixOf("10.9.0.0/24"), Type: state.Unicast, Device: "v0", Protocol: 84},
		{Table: 254, Dst: prefixOf("10.7.0.0/24"), Type: state.Unicast, Device: "v0", Protocol: 84},
	}
	var got []string
	for _, r := range read(t, k, want).Routes {
		got = append(got, fmt.Sprintf("%d %s %s %s %d", r.Table, r.Dst, r.Type, r.Device, r.Protocol))
	}
	wanted := []string{
		"110 10.8.0.0/16 unicast v0 12",
		"110 10.8.0.0/24 unicast v0 4",
		"110 10.80.0.0/16 throw  4",
		"110 fd08::/48 unicast v0 4",
		"254 10.7.0.0/24 unicast v0 4",
		"999 10.1.0.0/24 unicast v0 84",
	}
	if d := cmp.Diff(wanted, got); d != "" {
		t.Error(d)
	}
	// The same from a kernel that does not filter.
	notStrict(t, k)
	got = nil
	for _, r := range read(t, k, want).Routes {
		got = append(got, fmt.Sprintf("%d %s %s %s %d", r.Table, r.Dst, r.Type, r.Device, r.Protocol))
	}
	if d := cmp.Diff(wanted, got); d != "" {
		t.Error(d)
	}
}

// notStrict makes a Kernel one whose kernel does not filter.
func notStrict(t testing.TB, k *Kernel) {
	t.Helper()
	k.route.strict = false
	if err := unix.SetsockoptInt(k.route.fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 0); err != nil {
		t.Fatal(err)
	}
}

func TestMetric1024OfIPv6(t *testing.T) {
	namespace(t)
	veth(t)
	sh(t, "ip -6 route add fd01::/48 dev v0 table 110 proto 84; ip -6 route add fd02::/48 dev v0 table 110 proto 84")
	k := open(t)
	want := empty()
	want.Routes = []state.Route{
		{Table: 110, Dst: prefixOf("fd01::/48"), Type: state.Unicast, Device: "v0", Protocol: 84},
		{Table: 110, Dst: prefixOf("fd02::/48"), Type: state.Unicast, Device: "v0", Protocol: 84, Metric: 1024},
	}
	if d := cmp.Diff(want.Routes, read(t, k, want).Routes, equalAddrs, equalPrefixes); d != "" {
		t.Error(d)
	}
}

// everyRule is a rule of every kind, with the words of ip for it.
var everyRule = []struct {
	ip string // ip rule add …
	r  state.Rule
}{
	{"pref 500 fwmark 0x7f000000/0xff000000 lookup main", state.Rule{Priority: 500, Mark: 0x7f000000, Mask: 0xff000000, Action: state.Lookup, Table: 254}},
	{"pref 501 fwmark 0x7f000000/0xff000000 unreachable", state.Rule{Priority: 501, Mark: 0x7f000000, Mask: 0xff000000, Action: state.RuleUnreachable}},
	{"pref 502 fwmark 0/0xff000000 blackhole", state.Rule{Priority: 502, Mask: 0xff000000, Action: state.RuleBlackhole}},
	{"pref 503 iif lo prohibit", state.Rule{Priority: 503, IIF: "lo", Action: state.RuleProhibit}},
	{"pref 520 lookup 110 suppress_prefixlength 0", state.Rule{Priority: 520, Action: state.Lookup, Table: 110, Suppress: 1}},
	{"pref 521 lookup 1000 suppress_prefixlength 16", state.Rule{Priority: 521, Action: state.Lookup, Table: 1000, Suppress: 17}},
	{"pref 551 oif v0 lookup 201", state.Rule{Priority: 551, OIF: "v0", Action: state.Lookup, Table: 201}},
	{"pref 562 iif lo ipproto udp dport 53 lookup main", state.Rule{Priority: 562, IIF: "lo", IPProto: 17, DPort: 53, Action: state.Lookup, Table: 254}},
	{"pref 562 iif lo ipproto udp dport 123 lookup main", state.Rule{Priority: 562, IIF: "lo", IPProto: 17, DPort: 123, Action: state.Lookup, Table: 254}},
	{"pref 563 ipproto 47 lookup 200", state.Rule{Priority: 563, IPProto: 47, Action: state.Lookup, Table: 200}},
	{"pref 570 fwmark 0/0xff000000 lookup 200", state.Rule{Priority: 570, Mask: 0xff000000, Action: state.Lookup, Table: 200}},
	{"pref 552 iif absent0 lookup 201", state.Rule{Priority: 552, IIF: "absent0", Action: state.Lookup, Table: 201}},
}

// perFamily are rules with addresses.
var perFamily = []struct {
	ip string
	r  state.Rule
}{
	{"pref 510 to 10.1.0.0/16 lookup main suppress_prefixlength 0", state.Rule{Priority: 510, To: prefixOf("10.1.0.0/16"), Action: state.Lookup, Table: 254, Suppress: 1}},
	{"pref 560 from 10.2.0.0/24 to 10.3.0.0/24 lookup 120", state.Rule{Priority: 560, From: prefixOf("10.2.0.0/24"), To: prefixOf("10.3.0.0/24"), Action: state.Lookup, Table: 120}},
	{"pref 510 to fd01::/48 lookup main", state.Rule{Priority: 510, IPv6: true, To: prefixOf("fd01::/48"), Action: state.Lookup, Table: 254}},
	{"pref 560 from fd02::1 lookup 300", state.Rule{Priority: 560, IPv6: true, From: prefixOf("fd02::1/128"), Action: state.Lookup, Table: 300}},
}

func everyRuleOfOurs() (want state.Router, commands []string) {
	want = empty()
	for _, six := range []bool{false, true} {
		for _, e := range everyRule {
			e.r.IPv6, e.r.Protocol = six, 84
			want.Rules = append(want.Rules, e.r)
			commands = append(commands, ipFamily(six)+" rule add "+e.ip+" protocol 84")
		}
	}
	for _, e := range perFamily {
		e.r.Protocol = 84
		want.Rules = append(want.Rules, e.r)
		commands = append(commands, ipFamily(e.r.IPv6)+" rule add "+e.ip+" protocol 84")
	}
	want.Sort()
	return want, commands
}

func TestRulesAreWhatIpMakes(t *testing.T) {
	namespace(t)
	veth(t)
	show := "ip -d rule show; ip -d -6 rule show"
	before := sh(t, show)
	want, commands := everyRuleOfOurs()
	sh(t, strings.Join(commands, "\n"))
	byIP := sh(t, show)
	k := open(t)
	if d := cmp.Diff(want.Rules, read(t, k, want).Rules, equalAddrs, equalPrefixes); d != "" {
		t.Errorf("wanted, read: %s", d)
	}
	apply(t, k, empty())
	if d := cmp.Diff(before, sh(t, show)); d != "" {
		t.Errorf("before, after the removal: %s", d)
	}
	apply(t, k, want)
	if d := cmp.Diff(byIP, sh(t, show)); d != "" {
		t.Errorf("ip made, we made: %s", d)
	}
}

// What says more than we have words for is none of ours, also with our number: else it
// would be taken for one that is wanted, or be removed.
func TestRulesBeyondOurWordsAreNotOurs(t *testing.T) {
	namespace(t)
	k := open(t)
	for _, six := range []bool{false, true} {
		for i, more := range []string{
			"ipproto udp dport 53-54", "ipproto udp sport 53", "ipproto udp sport 53 dport 53", "uidrange 0-7", "not from all fwmark 1/1", "tos 8",
		} {
			sh(t, fmt.Sprintf("%s rule add pref %d %s lookup main protocol 84", ipFamily(six), 530+i, more))
		}
	}
	show := "ip -d rule show; ip -d -6 rule show"
	before := sh(t, show)
	want := empty()
	for i := range 6 {
		for _, six := range []bool{false, true} {
			want.Rules = append(want.Rules, state.Rule{Priority: 540 + uint32(i), IPv6: six, IPProto: 17, DPort: 53, Action: state.Lookup, Table: 254, Protocol: 84})
		}
	}
	want.Sort()
	apply(t, k, want)
	if n := strings.Count(sh(t, show), "ipproto udp dport 53 "); n != 12 {
		t.Errorf("of ours there are %d:\n%s", n, sh(t, show))
	}
	apply(t, k, empty())
	if d := cmp.Diff(before, sh(t, show)); d != "" {
		t.Errorf("before, after: %s", d)
	}
}

// A kernel that does not know ports would make a rule for all of them.
func TestRulesByPortAreNotForOldKernels(t *testing.T) {
	namespace(t)
	k := open(t)
	notStrict(t, k)
	r := plan.Rule{Rule: state.Rule{Priority: 562, IPProto: 17, DPort: 53, Action: state.Lookup, Table: 254, Protocol: 84}}
	err := k.Apply(context.Background(), []plan.Op{{Verb: plan.Add, Object: r}})
	if err == nil || !strings.Contains(err.Error(), "the kernel has no rules by protocol and port") {
		t.Errorf("it says %v", err)
	}
	if out := sh(t, "ip rule show pref 562"); out != "" {
		t.Error(out)
	}
}

// What follows the uplinks, and what is learned, is in no plan's way.
func TestWhatFollowsIsSpared(t *testing.T) {
	namespace(t)
	veth(t)
	sh(t, `for p in 85 86; do
			ip route add default dev v0 table 110 metric $p proto $p; ip route add 10.9.0.0/24 dev v0 table 110 metric $p proto $p
			ip rule add pref 550 lookup 1$p protocol $p; ip -6 rule add pref 550 lookup 1$p protocol $p
		done`)
	show := "ip route show table 110; ip rule show; ip -6 rule show"
	before := sh(t, show)
	want := empty()
	want.Rules = []state.Rule{{Priority: 520, Action: state.Lookup, Table: 110, Protocol: 84}}
	for _, metric := range []uint32{85, 86} {
		want.Routes = append(want.Routes, state.Route{Table: 110, Dst: prefixOf("0.0.0.0/0"), Metric: metric, Type: state.Unreachable, Protocol: 84})
	}
	for _, strict := range []bool{true, false} {
		k := open(t)
		if !strict {
			notStrict(t, k)
		}
		have := read(t, k, want)
		if p := plan.Diff(have, want); len(p.Conflicts) > 0 || len(have.Routes) > 0 {
			t.Errorf("strict %v: read %v, planned %s", strict, have.Routes, planText(p))
		}
		apply(t, k, empty())
		if d := cmp.Diff(before, sh(t, show)); d != "" {
			t.Errorf("before, after: %s", d)
		}
	}
}

func TestForeignTwinOfARuleStays(t *testing.T) {
	namespace(t)
	k := open(t)
	sh(t, "ip rule add pref 520 lookup 110 protocol 84; ip rule add pref 521 lookup 110 protocol 99")
	foreign := sh(t, "ip -d rule show pref 521")
	sh(t, "ip rule add pref 521 lookup 110 protocol 84")
	apply(t, k, empty())
	if got := sh(t, "ip -d rule show pref 521"); got != foreign {
		t.Errorf("left %q, want %q", got, foreign)
	}
	if got := sh(t, "ip rule show pref 520"); got != "" {
		t.Errorf("left %q", got)
	}
}
