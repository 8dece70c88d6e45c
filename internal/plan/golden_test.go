package plan

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tombolo/internal/state"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with testdata/NAME.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (go test -update writes it anew):\n%s", path, d)
	}
}

// session returns a plan as it is shown, and the commands that it stands for.
func session(p Plan) string {
	var b strings.Builder
	b.WriteString("$ tombolo plan\n" + p.Text(false))
	for _, op := range p.Ops {
		for _, c := range op.Commands() {
			b.WriteString("# " + c + "\n")
		}
	}
	return b.String()
}

func TestScriptOfASample(t *testing.T) { golden(t, "script.sh", Script(sample())) }

func TestScriptNamesWhatIsNotKnown(t *testing.T) {
	r := sample()
	for i := range r.Interfaces {
		r.Interfaces[i].WireGuard.PublicKey = [32]byte{}
		r.Interfaces[i].WireGuard.Peers[0].PublicKey = [32]byte{}
		r.Interfaces[i].WireGuard.Peers[0].Addresses = nil
	}
	golden(t, "script-unknown.sh", Script(r))
}

func TestSessions(t *testing.T) {
	for _, c := range []struct {
		file   string
		change func(have, want *state.Router)
	}{
		{"new-router.txt", func(have, _ *state.Router) { *have = bareMachine() }},
		{"nothing.txt", func(_, _ *state.Router) {}},
		{"down.txt", func(_, want *state.Router) { *want = state.Router{Owner: want.Owner} }},
		{"changed.txt", changeALot},
		{"port-swap.txt", func(_, want *state.Router) {
			a, b := want.Interfaces[0].WireGuard, want.Interfaces[1].WireGuard
			a.ListenPort, b.ListenPort = b.ListenPort, a.ListenPort
		}},
		{"port-handed-on.txt", func(have, want *state.Router) {
			want.Interfaces = append(want.Interfaces[:1], sampleLink("op4", 3, "op4.example.net:51822", "198.51.100.4:51822"))
			want.Routes = slices.DeleteFunc(want.Routes, func(r state.Route) bool { return r.Device == "wg-op3" })
		}},
		{"new-mark.txt", func(_, want *state.Router) {
			for i := range want.Interfaces {
				want.Interfaces[i].WireGuard.FwMark = 0x6e000000
			}
			for i := range want.Rules {
				if want.Rules[i].Mask != 0 {
					want.Rules[i].Mark = 0x6e000000
				}
			}
		}},
		{"dead-device.txt", func(have, _ *state.Router) {
			have.Interfaces[1].Kind, have.Interfaces[1].WireGuard = "tun", nil
		}},
		{"conflicts.txt", conflicts},
	} {
		t.Run(c.file, func(t *testing.T) {
			have, want := observed(sample()), sample()
			c.change(&have, &want)
			golden(t, c.file, session(Diff(have, want)))
		})
	}
}

func changeALot(have, want *state.Router) {
	have.Interfaces[1].Down = true
	have.Interfaces[1].WireGuard.Peers[0].Preshared = state.UnknownKey
	have.Sysctls[0].Value = "2"
	i := &want.Interfaces[0]
	i.MTU, i.Alias = 1380, "tombolo home $(op1)"
	i.Addresses = prefixes("10.0.32.9/32", "fd74:6f6d::2/64", "fe80::2/64")
	i.WireGuard.Peers[0].Addresses = []netip.AddrPort{netip.MustParseAddrPort("198.51.100.7:51822")}
	i.WireGuard.Peers[0].Keepalive = 0
	i.WireGuard.Peers = append(i.WireGuard.Peers, state.Peer{Name: "op9", PublicKey: publicKeyOf(9), AllowedIPs: prefixes("::/0")})
	i.WireGuard.Peers[0].AllowedIPs = prefixes("0.0.0.0/0")
	want.Routes[1].Device = "wg-op3"
	want.Rules = want.Rules[:len(want.Rules)-1]
	want.Rulesets[0].Text = strings.Replace(want.Rulesets[0].Text, `iifname { "wg-op1", "wg-op3" }`, `iifname "wg-*"`, 1)
	want.Rulesets[0].Digest = state.RulesetDigest(want.Rulesets[0].Text)
}

func conflicts(have, _ *state.Router) {
	have.Interfaces[0].Alias = "\x1b[2Jmine"
	have.Interfaces[1].Alias, have.Interfaces[1].Name = "", "$(reboot)"
	have.Routes = slices.DeleteFunc(have.Routes, func(r state.Route) bool { return r.Device == "wg-op3" })
	have.Routes[0].Protocol, have.Routes[0].Device = 4, "eth0"
}

func TestTextHasColourWhenAsked(t *testing.T) {
	have, want := observed(sample()), sample()
	want.Interfaces[0].MTU = 1380
	got := Diff(have, want).Text(true)
	want1 := "\x1b[1minterface wg-op1\x1b[0m\n  \x1b[33m~ interface: mtu 1420 → 1380\x1b[0m\n\n0 to add, 1 to change, 0 to remove\n"
	if got != want1 {
		t.Errorf("got %q\nwant %q", got, want1)
	}
}

func TestUndoOfASession(t *testing.T) {
	have, want := observed(sample()), sample()
	want.Interfaces, want.Routes = want.Interfaces[:1], want.Routes[:1]
	p := Diff(have, want)
	golden(t, "undo.txt", session(Plan{Ops: Undo(p.Ops)}))
}
