package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tombolo/internal/plan"
	"tombolo/internal/state"
)

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
