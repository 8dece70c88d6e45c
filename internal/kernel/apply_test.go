package kernel

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// foreignThings puts things of others in every place where ours go.
func foreignThings(t testing.TB) {
	t.Helper()
	sh(t, `ip link add br0 type bridge; ip link set br0 up; ip link set v1 master br0
		ip link set v0 alias tombolox
		ip address add 192.168.7.1/24 dev br0; ip address add fd77::1/64 dev br0 nodad
		ip route add 10.20.0.0/16 via 10.0.0.9 proto static
		ip route add 10.21.0.0/16 dev v0 table 110 proto static
		ip route add 10.22.0.0/16 dev v0 table 110 proto 42
		ip route add blackhole 10.23.0.0/16 table 777 proto 42
		ip -6 route add fd21::/48 dev v0 table 110 proto static
		ip -6 route add fd22::/48 via fd00::9 metric 7 proto static
		ip rule add pref 499 lookup 110
		ip rule add pref 520 lookup 777
		ip rule add pref 530 fwmark 7 lookup 777 protocol 42
		ip rule add pref 700 lookup 110 protocol 84
		ip -6 rule add pref 521 lookup 777`)
	nftLoad(t, `table inet tombolo2 {
	set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }
	chain c { type filter hook forward priority 0; ip saddr @s accept; counter; }
}
table ip6 filter {
	chain seal { return comment "not ours"; }
}
`)
	// Link-local addresses stop being tentative by themselves.
	eventually(t, "no tentative address", func() bool { return !strings.Contains(sh(t, "ip address"), "tentative") })
}

// snapshot is everything that ip and nft show.
func snapshot(t testing.TB) map[string][]string {
	t.Helper()
	out := map[string][]string{"nft": strings.Split(sh(t, "nft -s list ruleset"), "\n")}
	for _, show := range []string{
		"ip -j -d link", "ip -j -d address",
		"ip -j -d -4 route show table all", "ip -j -d -6 route show table all",
		"ip -j -d -4 rule", "ip -j -d -6 rule",
	} {
		var things []json.RawMessage
		if err := json.Unmarshal([]byte(sh(t, show)), &things); err != nil {
			t.Fatal(err)
		}
		for _, thing := range things {
			var v any
			if err := json.Unmarshal(thing, &v); err != nil {
				t.Fatal(err)
			}
			b, err := json.Marshal(withoutTimers(v)) // in one order
			if err != nil {
				t.Fatal(err)
			}
			out[show] = append(out[show], string(b))
		}
	}
	return out
}

// withoutTimers takes a bridge's clocks away, and what the kernel finds out up to a second
// after an interface was set up (net/core/link_watch.c).
func withoutTimers(v any) any {
	if m, ok := v.(map[string]any); ok {
		maps.DeleteFunc(m, func(k string, _ any) bool { return strings.HasSuffix(k, "_timer") || k == "operstate" })
		for _, inner := range m {
			withoutTimers(inner)
		}
	}
	return v
}

// wantIn checks that everything in before is in after, unchanged and in that order.
func wantIn(t testing.TB, before, after map[string][]string) {
	t.Helper()
	for show, things := range before {
		rest := after[show]
		for _, thing := range things {
			at := slices.Index(rest, thing)
			if at < 0 {
				t.Errorf("%s: no longer there: %s", show, thing)
				continue
			}
			rest = rest[at+1:]
		}
	}
}

func TestWhatIsNotOursIsLeftAlone(t *testing.T) {
	s := newSite(t)
	foreignThings(t)
	// The setting adds anycast routes to the table local: not what this test is about.
	sh(t, "sysctl -q -w net.ipv6.conf.all.forwarding=1")
	before := snapshot(t)
	apply(t, s.k, s.want)
	wantIn(t, before, snapshot(t))

	// A change in everything, and back by a failure.
	changed := s.want
	changed.Routes = slices.Clone(s.want.Routes[1:])
	changed.Routes[0].Gateway = addrOf("fe80::4")
	changed.Rules = s.want.Rules[1:]
	changed.Rulesets = []state.Ruleset{ruleset("table inet tombolo {\n\tchain x {\n\t}\n}\n")}
	ops := append(plan.Diff(read(t, s.k, changed), changed).Ops, impossible)
	err := s.k.Apply(context.Background(), ops)
	if !errors.Is(err, unix.ENODEV) {
		t.Fatalf("got %v, want no such device", err)
	}
	wantIn(t, before, snapshot(t))
	wantNothing(t, s.k, s.want)
	apply(t, s.k, changed)
	wantIn(t, before, snapshot(t))

	// And down.
	down := empty()
	if down.Sysctls, err = s.k.Originals(); err != nil {
		t.Fatal(err)
	}
	apply(t, s.k, down)
	if d := cmp.Diff(before, snapshot(t)); d != "" {
		t.Errorf("before, after: %s", d)
	}
}

// impossible is an operation that the kernel refuses.
var impossible = plan.Op{Verb: plan.Add, Object: plan.Route{Route: state.Route{
	Table: 110, Dst: prefixOf("10.66.0.0/24"), Type: state.Unicast, Device: "nowhere0", Protocol: 84,
}}}

func TestFailureLeavesTheEarlierState(t *testing.T) {
	s := newSite(t)
	foreignThings(t)
	before := snapshot(t)
	p := plan.Diff(read(t, s.k, s.want), s.want)
	err := s.k.Apply(context.Background(), append(slices.Clone(p.Ops), impossible))
	var e *ApplyError
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an ApplyError", err)
	}
	if d := cmp.Diff(before, snapshot(t)); d != "" {
		t.Errorf("before, after: %s", d)
	}
	if e.UndoErr != nil || e.Op.String() != impossible.String() {
		t.Errorf("failed at %s; not undone: %v", e.Op, e.UndoErr)
	}
	var undone, done []string
	for i := range p.Ops {
		done = append(done, p.Ops[len(p.Ops)-1-i].String())
	}
	for _, op := range e.Undone {
		undone = append(undone, op.String())
	}
	if d := cmp.Diff(done, undone); d != "" {
		t.Errorf("done, undone: %s", d)
	}
	text := err.Error()
	if want := "add route 10.66.0.0/24 table 110: device nowhere0: no such device; undone: change sysctl "; !strings.HasPrefix(text, want) {
		t.Errorf("text is %q, want %q…", text, want)
	}
	if !strings.Contains(text, ", and ") || !strings.HasSuffix(text, " more") {
		t.Errorf("text is %q", text)
	}
}

func TestErrorSaysWhatTheKernelSaid(t *testing.T) {
	namespace(t)
	veth(t)
	sh(t, "ip route add 10.21.0.0/16 dev v0 table 110 proto static")
	k := open(t)
	route := func(r state.Route) []plan.Op {
		r.Table, r.Type, r.Protocol = 110, state.Unicast, 84
		return []plan.Op{{Verb: plan.Add, Object: plan.Route{Route: r}}}
	}
	for _, tt := range []struct {
		ops  []plan.Op
		want string
	}{
		{route(state.Route{Dst: prefixOf("10.1.0.0/16"), Gateway: addrOf("172.16.0.1")}),
			"add route 10.1.0.0/16 table 110: Nexthop has invalid gateway (network is unreachable)"},
		{route(state.Route{Dst: prefixOf("10.21.0.0/16"), Device: "v0"}),
			"add route 10.21.0.0/16 table 110: file exists"},
		{[]plan.Op{{Verb: plan.Change, Object: plan.Ruleset{Ruleset: ruleset("table inet tombolo {\n\tchain a {\n\t\tnonsense\n\t}\n}\n")}, Before: plan.Ruleset{}}},
			"change ruleset inet tombolo: nft: 3:11-11: Error: syntax error, unexpected newline: nonsense"},
		{[]plan.Op{{Verb: plan.Add, Object: plan.Ruleset{Ruleset: state.Ruleset{Family: "inet", Table: "filter", Text: "x", Digest: "x"}}}},
			"add ruleset inet filter: the table is not ours"},
		{[]plan.Op{{Verb: plan.Add, Object: plan.Interface{Interface: state.Interface{Name: "v0", Kind: state.WireGuardKind, WireGuard: &state.WireGuard{}}}}},
			"add interface v0: an interface of that name is there already"},
		{[]plan.Op{{Verb: plan.Add, Object: plan.Address{Interface: "v0", Prefix: prefixOf("10.1.1.1/32")}}},
			`add address v0 10.1.1.1/32: the interface is not ours: its alias is ""`},
		{[]plan.Op{{Verb: plan.Remove, Before: plan.Interface{Interface: state.Interface{Name: "v0"}}}},
			`remove interface v0: the interface is not ours: its alias is ""`},
		{[]plan.Op{{Verb: plan.Add, Object: plan.Rule{Rule: state.Rule{Priority: 700, Action: state.Lookup, Table: 5, Protocol: 84}}}},
			"add rule pref 700 lookup 5: the rule is not ours: its protocol is 84"},
		{[]plan.Op{{Verb: plan.Change, Before: plan.Sysctl{Sysctl: state.Sysctl{Name: "net/ipv4/ip_forward", Value: "0"}},
			Object: plan.Sysctl{Sysctl: state.Sysctl{Name: "net/ipv4/ip_forward", Value: "maybe"}}}},
			"change sysctl net/ipv4/ip_forward: write /proc/sys/net/ipv4/ip_forward: invalid argument"},
	} {
		err := k.Apply(context.Background(), tt.ops)
		if err == nil || err.Error() != tt.want {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
}

// In one datagram, the operations behind the refused one are done too, and undone.
func TestFailureInTheMiddleOfManyRoutes(t *testing.T) {
	namespace(t)
	veth(t)
	k, want := open(t), tenThousand()
	sh(t, "ip route add "+want.Routes[5_000].Dst.String()+" dev v0 table 110 proto static")
	before := snapshot(t)
	ops := plan.Diff(empty(), want).Ops
	err := k.Apply(context.Background(), ops)
	var e *ApplyError
	if !errors.As(err, &e) || !errors.Is(err, unix.EEXIST) || e.UndoErr != nil || e.Op.String() != ops[5_000].String() {
		t.Fatalf("got %v", err)
	}
	if len(e.Undone) < 5_000 || len(e.Undone) > 5_000+maxBatch {
		t.Errorf("%d routes were undone", len(e.Undone))
	}
	if d := cmp.Diff(before, snapshot(t)); d != "" {
		t.Errorf("before, after: %s", d)
	}
}

func TestRemovalOfWhatIsGoneIsNoError(t *testing.T) {
	s := newSite(t)
	apply(t, s.k, s.want)
	ops := plan.Diff(read(t, s.k, s.want), empty()).Ops
	// Every second thing goes by another hand.
	sh(t, `ip route del 10.2.0.0/24 table 110; ip rule del pref 500
		nft delete table inet tombolo; ip link del `+devName(0))
	if err := s.k.Apply(context.Background(), ops); err != nil {
		t.Error(err)
	}
	wantNothing(t, s.k, empty())
}

// What cannot be taken back does not keep the rest from it.
func TestUndoGoesOnBehindWhatIsStuck(t *testing.T) {
	namespace(t)
	veth(t)
	k := open(t)
	a := &application{Kernel: k}
	add := func(dst string) plan.Op {
		return plan.Op{Verb: plan.Add, Object: plan.Route{Route: state.Route{Table: 110, Dst: prefixOf(dst), Type: state.Unicast, Device: "v0", Protocol: 84}}}
	}
	remove := func(dst string) plan.Op { return plan.Op{Verb: plan.Remove, Before: add(dst).Object} }
	sh(t, `ip route add 10.1.0.0/16 dev v0 table 110 proto 84
		ip route add 10.2.0.0/16 dev v0 table 110 proto static
		ip route add 10.3.0.0/16 dev v0 table 110 proto 84`)
	undone, err := a.undo(context.Background(), []plan.Op{add("10.1.0.0/16"), remove("10.2.0.0/16"), add("10.3.0.0/16")})
	if want := "add route 10.2.0.0/16 table 110: file exists"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if len(undone) != 2 || undone[0].String() != "add route 10.3.0.0/16 table 110" || undone[1].String() != "add route 10.1.0.0/16 table 110" {
		t.Errorf("undone: %v", undone)
	}
	if got := sh(t, "ip route show table 110"); strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "10.2.0.0/16") {
		t.Errorf("left: %s", got)
	}
}

func TestCalledOffApplyUndoes(t *testing.T) {
	namespace(t)
	k := open(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := k.Apply(ctx, []plan.Op{{Verb: plan.Add, Object: plan.Rule{Rule: state.Rule{Priority: 500, Action: state.Lookup, Table: 5, Protocol: 84}}}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if got := sh(t, "ip rule show pref 500"); got != "" {
		t.Errorf("left %s", got)
	}
}

func TestOriginalsOutliveTheProcessAndGoWhenRestored(t *testing.T) {
	namespace(t)
	veth(t)
	sh(t, "sysctl -q -w net.ipv4.conf.v0.rp_filter=2")
	k := open(t)
	want := empty()
	want.Sysctls = []state.Sysctl{
		{Name: "net/ipv4/conf/v0/rp_filter", Value: "0"},
		{Name: "net/ipv4/conf/v1/rp_filter", Value: "0", Only: "7"},
		{Name: "net/ipv4/ip_forward", Value: "1"},
	}
	apply(t, k, want)
	want.Sysctls[0].Value = "1"
	apply(t, k, want)
	again := open(t, func(o *Options) { o.RunDir = k.options.RunDir })
	got, err := again.Originals()
	if err != nil {
		t.Fatal(err)
	}
	wanted := []state.Sysctl{{Name: "net/ipv4/conf/v0/rp_filter", Value: "2"}, {Name: "net/ipv4/ip_forward", Value: "0"}}
	if d := cmp.Diff(wanted, got); d != "" {
		t.Error(d)
	}
	if i, err := os.Stat(k.options.RunDir); err != nil || i.Mode().Perm() != 0o700 {
		t.Errorf("run folder: %v %v", i.Mode(), err)
	}
	down := empty()
	down.Sysctls = got
	apply(t, again, down)
	if got, err := again.Originals(); err != nil || len(got) > 0 {
		t.Errorf("left %v, %v", got, err)
	}
	if got := sh(t, "sysctl -n net.ipv4.conf.v0.rp_filter net.ipv4.ip_forward"); got != "2\n0\n" {
		t.Errorf("settings are %q", got)
	}
}

func TestPortOfAnotherProgramIsNamed(t *testing.T) {
	s := newSite(t)
	c, err := net.ListenPacket("udp4", ":51821")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	before := snapshot(t)
	err = s.k.Apply(context.Background(), plan.Diff(read(t, s.k, s.want), s.want).Ops)
	want := "add interface " + devName(0) + ": UDP port 51821 is in use by another program: address already in use"
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if d := cmp.Diff(before, snapshot(t)); d != "" {
		t.Errorf("before, after: %s", d)
	}
}
