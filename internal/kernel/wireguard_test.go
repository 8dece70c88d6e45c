package kernel

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"tombolo/internal/key"
	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// devName returns an interface name that no other test and no other process has:
// /var/run/wireguard knows no namespaces.
func devName(n int) string { return fmt.Sprintf("kt%d-%d", os.Getpid()%10_000_000, n) }

// site is a router with two WireGuard interfaces, whose keys lie in a store.
type site struct {
	k        *Kernel
	embedded *fakeEmbedded
	store    key.Store
	want     state.Router
}

func publicOf(t testing.TB, s key.Store, ref key.Ref) key.Public {
	t.Helper()
	p, _, err := s.Make(ref, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return p.Public()
}

// newSite uses the kernel's WireGuard where there is one, as a router does.
func newSite(t testing.TB, change ...func(*Options)) *site {
	t.Helper()
	namespace(t)
	veth(t)
	s := &site{embedded: newFakeEmbedded(t), store: key.Store{Dir: t.TempDir()}}
	ours := func(o *Options) { o.Embedded, o.Store = s.embedded, s.store }
	s.k = open(t, append([]func(*Options){ours}, change...)...)
	own := publicOf(t, s.store, "op1")
	if _, _, err := s.store.MakePreshared("op1+op2", rand.Reader); err != nil {
		t.Fatal(err)
	}
	s.want = empty()
	a, b := devName(0), devName(1)
	for i, name := range []string{a, b} {
		s.want.Interfaces = append(s.want.Interfaces, state.Interface{
			Name: name, Kind: state.WireGuardKind, Alias: "tombolo home " + name, MTU: 1420 - 20*i,
			Addresses: []netip.Prefix{
				prefixOf("10.0.32.1/32"), prefixOf("fd00:32::1/128"), prefixOf("fe80::abcd/64"),
			},
			WireGuard: &state.WireGuard{
				PrivateKey: "op1", PublicKey: own, ListenPort: uint16(51821 + i), FwMark: 0x7f000000,
				Peers: []state.Peer{{
					Name: "op2", PublicKey: publicOf(t, s.store, key.Ref(fmt.Sprint("op2", i))), Preshared: "op1+op2",
					Endpoints: []string{"op2.example.net:51821"}, Keepalive: 25,
					Addresses:  []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:51821"), netip.MustParseAddrPort("[fd00::2]:51821")},
					AllowedIPs: []netip.Prefix{prefixOf("0.0.0.0/0"), prefixOf("::/0")},
				}, {
					Name: "op3", PublicKey: publicOf(t, s.store, key.Ref(fmt.Sprint("op3", i))),
					AllowedIPs: []netip.Prefix{prefixOf("10.3.0.0/24")},
				}},
			},
		})
	}
	s.want.Routes = []state.Route{
		{Table: 110, Dst: prefixOf("10.2.0.0/24"), Type: state.Unicast, Device: a, PrefSrc: addrOf("10.0.32.1"), Protocol: 84},
		{Table: 110, Dst: prefixOf("fd02::/48"), Type: state.Unicast, Device: a, PrefSrc: addrOf("fd00:32::1"), Protocol: 84},
		{Table: 110, Dst: prefixOf("fd03::/48"), Type: state.Unicast, Device: b, Gateway: addrOf("fe80::9"), Protocol: 84},
		{Table: 110, Dst: prefixOf("10.3.0.0/24"), Type: state.Unicast, Device: b, Gateway: addrOf("fe80::9"), Protocol: 84},
	}
	s.want.Rules = []state.Rule{
		{Priority: 500, Mark: 0x7f000000, Mask: 0xff000000, Action: state.Lookup, Table: 254, Protocol: 84},
		{Priority: 520, Action: state.Lookup, Table: 110, Suppress: 1, Protocol: 84},
		{Priority: 520, IPv6: true, Action: state.Lookup, Table: 110, Suppress: 1, Protocol: 84},
	}
	s.want.Rulesets = []state.Ruleset{ruleset(fmt.Sprintf(`table inet tombolo {
	chain input {
		type filter hook input priority filter - 5; policy accept;
		udp dport { 51821, 51822 } accept comment "tunnels"
	}
	chain forward {
		type filter hook forward priority filter - 5; policy accept;
		iifname { "%[1]s", "%[2]s" } accept
		counter
	}
	chain mss {
		type filter hook forward priority mangle; policy accept;
		oifname { "%[1]s", "%[2]s" } tcp flags syn / syn,rst tcp option maxseg size set rt mtu
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "v0" ip saddr { 10.1.0.0/24, 192.168.0.0/16 } masquerade
	}
}
`, a, b))}
	s.want.Sysctls = []state.Sysctl{
		{Name: "net/ipv4/conf/" + a + "/rp_filter", Value: "0"},
		{Name: "net/ipv4/conf/v0/rp_filter", Value: "1"},
		{Name: "net/ipv4/ip_forward", Value: "1"},
		{Name: "net/ipv6/conf/all/forwarding", Value: "1"},
		{Name: "net/ipv6/conf/none0/accept_ra", Value: "2"},
	}
	s.want.Sort()
	return s
}

// peer returns a peer of the first interface.
func (s *site) peer(name string) *state.Peer {
	peers := s.want.Interfaces[0].WireGuard.Peers
	return &peers[slices.IndexFunc(peers, func(p state.Peer) bool { return p.Name == name })]
}

// enter moves a subtest's thread into the site's namespace.
func (s *site) enter(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Setns(int(s.embedded.ns.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

func ruleset(text string) state.Ruleset {
	return state.Ruleset{Family: "inet", Table: "tombolo", Text: text, Digest: state.RulesetDigest(text)}
}

// normal returns a router as Read returns it where it is what was wanted: without what
// only the network file knows.
func normal(r state.Router) state.Router {
	r, err := state.Decode(r.Encode()) // a deep copy
	if err != nil {
		panic(err)
	}
	for i := range r.Interfaces {
		for j := range r.Interfaces[i].WireGuard.Peers {
			p := &r.Interfaces[i].WireGuard.Peers[j]
			p.Name, p.Endpoints, p.Handshake, p.Sent, p.Received = "", nil, 0, 0, 0
			p.Addresses = p.Addresses[:min(1, len(p.Addresses))]
			if len(p.Addresses) == 0 {
				p.Addresses = nil
			}
		}
	}
	for i := range r.Rulesets {
		r.Rulesets[i].Text = ""
	}
	r.Sysctls = slices.DeleteFunc(r.Sysctls, func(s state.Sysctl) bool { return strings.Contains(s.Name, "none0") })
	r.Sort()
	return r
}

func diffRouters(a, b state.Router) string {
	return cmp.Diff(strings.Split(string(a.Encode()), "\n"), strings.Split(string(b.Encode()), "\n"))
}

func TestAppliedReadsAsWanted(t *testing.T) {
	s := newSite(t)
	apply(t, s.k, s.want)
	if d := diffRouters(normal(s.want), normal(read(t, s.k, s.want))); d != "" {
		t.Errorf("wanted, read: %s", d)
	}
	f, err := Probe(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if want := map[bool]int{true: 0, false: 2}[f.WireGuard]; s.embedded.adds != want {
		t.Errorf("the kernel has WireGuard: %v; %d devices were made in user space", f.WireGuard, s.embedded.adds)
	}
	apply(t, s.k, empty())
	for _, show := range []string{"ip -d rule show", "ip route show table all proto 84", "ip -6 route show table all proto 84", "nft list ruleset"} {
		if out := sh(t, show); strings.Contains(out, "proto 84") || strings.Contains(out, "tombolo") || strings.Contains(out, "kt") {
			t.Errorf("%s: left %s", show, out)
		}
	}
	if out := sh(t, "ip link show"); strings.Contains(out, devName(0)) {
		t.Errorf("left %s", out)
	}
}

// The stranger's view: what wg and ip say of the interface.
func TestWgAndIpSeeWhatWasWanted(t *testing.T) {
	s := newSite(t)
	apply(t, s.k, s.want)
	name := devName(0)
	w := s.want.Interfaces[0].WireGuard
	private, err := s.store.Private("op1")
	if err != nil {
		t.Fatal(err)
	}
	psk, err := s.store.Preshared("op1+op2")
	if err != nil {
		t.Fatal(err)
	}
	fields := func(line string) []string { return strings.Fields(line) }
	lines := strings.Split(strings.TrimSpace(sh(t, "wg show "+name+" dump")), "\n")
	slices.Sort(lines[1:])
	want := [][]string{
		{private.RevealText(), w.PublicKey.String(), "51821", "0x7f000000"},
		{w.Peers[0].PublicKey.String(), psk.RevealText(), "10.0.0.2:51821", "0.0.0.0/0,::/0", "0", "0", "0", "25"},
		{w.Peers[1].PublicKey.String(), "(none)", "(none)", "10.3.0.0/24", "0", "0", "0", "off"},
	}
	if w.Peers[1].Name == "op2" {
		want[1][0], want[2][0] = want[2][0], want[1][0]
	}
	slices.SortFunc(want[1:], func(a, b []string) int { return strings.Compare(a[0], b[0]) })
	for i, line := range lines {
		got := fields(line)
		if i > 0 { // handshake and counters move
			copy(got[4:7], []string{"0", "0", "0"})
		}
		if !slices.Equal(got, want[i]) {
			t.Errorf("wg shows, line %d:\n%v, want\n%v", i, got, want[i])
		}
	}
	link := sh(t, "ip -d link show "+name)
	for _, word := range []string{"alias tombolo home " + name, "mtu 1420", "addrgenmode none", ",UP"} {
		if !strings.Contains(link, word) {
			t.Errorf("ip link shows no %q: %s", word, link)
		}
	}
	addresses := sh(t, "ip -o address show "+name)
	if n := strings.Count(addresses, "\n"); n != 3 {
		t.Errorf("%d addresses, want 3: %s", n, addresses)
	}
}

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

func TestChangingOnePeerLeavesTheOthersAlone(t *testing.T) {
	s := newSite(t)
	apply(t, s.k, s.want)
	name := devName(0)
	before := strings.Split(sh(t, "wg show "+name+" dump"), "\n")
	changed := s.peer("op3")
	changed.Keepalive, changed.Preshared = 11, "op1+op2"
	changed.AllowedIPs = []netip.Prefix{prefixOf("10.3.0.0/24"), prefixOf("10.33.0.0/24")}
	apply(t, s.k, s.want)
	for _, line := range strings.Split(sh(t, "wg show "+name+" dump"), "\n") {
		if !slices.Contains(before, line) && !strings.HasPrefix(line, changed.PublicKey.String()) {
			f := strings.Fields(line)
			if !slices.ContainsFunc(before, func(b string) bool { return strings.HasPrefix(b, strings.Join(f[:4], "\t")) }) {
				t.Errorf("changed too: %s", line)
			}
		}
	}
}

// A key that no file holds is given back by an undo, and shown to nobody.
func TestUndoGivesBackKeysThatNoFileHolds(t *testing.T) {
	s := newSite(t)
	apply(t, s.k, s.want)
	name, peer := devName(0), s.peer("op2").PublicKey.String()
	sh(t, "wg genpsk | wg set "+name+" peer "+peer+" preshared-key /dev/stdin; wg genkey | wg set "+name+" private-key /dev/stdin")
	before := sh(t, "wg show "+name+" private-key; wg show "+name+" preshared-keys | sort")
	have := read(t, s.k, s.want)
	i := have.Interfaces[0]
	if got := i.WireGuard.PrivateKey; got != "" {
		t.Errorf("the private key is called %q", got)
	}
	var unknown int
	for _, p := range i.WireGuard.Peers {
		if p.Preshared == state.UnknownKey {
			unknown++
		}
	}
	if unknown != 1 {
		t.Errorf("%d unknown preshared keys, want 1", unknown)
	}
	for _, want := range []state.Router{s.want, empty()} { // change them; and remove the interface
		ops := append(plan.Diff(have, want).Ops, impossible)
		err := s.k.Apply(context.Background(), ops)
		var e *ApplyError
		if !errors.As(err, &e) || e.UndoErr != nil {
			t.Fatalf("got %v", err)
		}
		if after := sh(t, "wg show "+name+" private-key; wg show "+name+" preshared-keys | sort"); after != before {
			t.Errorf("the keys are not what they were")
		}
		for _, secret := range strings.Fields(before) {
			if secret != peer && strings.Contains(err.Error(), secret) {
				t.Errorf("the error has a key in it")
			}
		}
	}
}

func TestWrongPrivateKeyIsRefused(t *testing.T) {
	s := newSite(t)
	own := s.want.Interfaces[0].WireGuard.PublicKey
	other := publicOf(t, s.store, "op9")
	s.want.Interfaces[0].WireGuard.PublicKey = other
	err := s.k.Apply(context.Background(), plan.Diff(read(t, s.k, s.want), s.want).Ops)
	want := fmt.Sprintf("add interface %s: private key op1 belongs to public key %s, and not to %s", devName(0), own, other)
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if out := sh(t, "ip link show"); strings.Contains(out, devName(0)) {
		t.Errorf("left %s", out)
	}
}

func forceEmbedded(o *Options) { o.ForceEmbedded = true }

func TestDeadEmbeddedDeviceIsMadeAnew(t *testing.T) {
	s := newSite(t, forceEmbedded)
	apply(t, s.k, s.want)
	s.embedded.close(devName(0))
	eventually(t, "the interface is gone", func() bool { return !strings.Contains(sh(t, "ip link"), devName(0)) })
	apply(t, s.k, s.want)
	if d := diffRouters(normal(s.want), normal(read(t, s.k, s.want))); d != "" {
		t.Errorf("wanted, read: %s", d)
	}
}

// brokenEmbedded says that it made a device, and did not.
type brokenEmbedded struct{ removed []string }

func (*brokenEmbedded) Add(context.Context, string, int) error { return nil }
func (b *brokenEmbedded) Remove(_ context.Context, name string) error {
	b.removed = append(b.removed, name)
	return nil
}

func TestInterfaceThatCannotBeMade(t *testing.T) {
	s := newSite(t, forceEmbedded)
	broken := &brokenEmbedded{}
	for _, tt := range []struct {
		embedded Embedded
		want     string
	}{
		{nil, "this kernel has no WireGuard, and no embedded one was given"},
		{broken, "embedded WireGuard made no interface: no such device"},
	} {
		s.k.options.Embedded = tt.embedded
		err := s.k.Apply(context.Background(), plan.Diff(read(t, s.k, s.want), s.want).Ops)
		want := "add interface " + devName(0) + ": " + tt.want
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	if !slices.Equal(broken.removed, []string{devName(0)}) {
		t.Errorf("removed: %v", broken.removed)
	}
}

// Two interfaces that swap their ports, and a peer's allowed IP that moves to another, as
// plan orders them.
func TestPortsAndAllowedIPsThatMove(t *testing.T) {
	s := newSite(t)
	apply(t, s.k, s.want)
	a, b := s.want.Interfaces[0].WireGuard, s.want.Interfaces[1].WireGuard
	a.ListenPort, b.ListenPort = b.ListenPort, a.ListenPort
	x, y := s.peer("op2"), s.peer("op3")
	x.AllowedIPs, y.AllowedIPs = y.AllowedIPs, x.AllowedIPs
	apply(t, s.k, s.want)
	if d := diffRouters(normal(s.want), normal(read(t, s.k, s.want))); d != "" {
		t.Errorf("wanted, read: %s", d)
	}
}

func TestForeignInterfaceInTheWayIsRead(t *testing.T) {
	s := newSite(t)
	sh(t, "ip link add "+devName(0)+" type bridge")
	p := plan.Diff(read(t, s.k, s.want), s.want)
	if len(p.Conflicts) != 1 || p.Conflicts[0].Object.ID() != devName(0) {
		t.Errorf("conflicts: %v", p.Conflicts)
	}
	sh(t, "ip link set "+devName(0)+" alias 'tombolo home'")
	apply(t, s.k, s.want) // now it is ours, of another kind: replaced
}
