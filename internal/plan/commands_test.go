package plan

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tombolo/internal/state"
)

// TestWgCommands gives every form of wg set to wg itself.
func TestWgCommands(t *testing.T) {
	id := publicKeyOf(1).String()
	peer := func(p state.Peer) Peer {
		p.PublicKey = publicKeyOf(1)
		return Peer{"wg-op1", p}
	}
	device := func(w state.WireGuard) Interface {
		return Interface{state.Interface{Name: "wg-op1", Kind: state.WireGuardKind, MTU: 1420, WireGuard: &w}}
	}
	s := newShell(t)
	for _, c := range []struct {
		op   Op
		want string
	}{
		{Op{Verb: Remove, Before: peer(state.Peer{})}, "wg set wg-op1 peer " + id + " remove"},
		{Op{Verb: Add, Object: peer(state.Peer{})}, "wg set wg-op1 peer " + id},
		{
			Op{Verb: Change, Before: peer(state.Peer{Preshared: "op1+op2", AllowedIPs: prefixes("::/0"), Keepalive: 25}), Object: peer(state.Peer{})},
			"wg set wg-op1 peer " + id + ` preshared-key /dev/null allowed-ips "" persistent-keepalive 0`,
		},
		{
			Op{Verb: Change, Before: peer(state.Peer{}), Object: peer(state.Peer{Addresses: []netip.AddrPort{netip.MustParseAddrPort("[fe80::1%lo]:1")}})},
			"wg set wg-op1 peer " + id + ` endpoint "[fe80::1%lo]:1"`,
		},
		{
			Op{Verb: Change, Before: device(state.WireGuard{PublicKey: publicKeyOf(1), FwMark: 1, ListenPort: 1}), Object: device(state.WireGuard{PublicKey: publicKeyOf(2), PrivateKey: "op2"})},
			"wg set wg-op1 listen-port 0 fwmark off private-key keys/op2.key",
		},
	} {
		if d := cmp.Diff([]string{c.want}, c.op.Commands()); d != "" {
			t.Error(d)
		}
		s.do(c.want + "\n")
	}
}

func TestCommandsOfSettings(t *testing.T) {
	setting := func(name, value, only string) Sysctl {
		return Sysctl{state.Sysctl{Name: name, Value: value, Only: only}}
	}
	for _, c := range []struct {
		before, after Sysctl
		want          []string
	}{
		{setting("net/ipv4/ip_forward", "0", ""), setting("net/ipv4/ip_forward", "1", ""), []string{"sysctl -w net.ipv4.ip_forward=1"}},
		{
			setting("net/ipv4/conf/eth0.10/rp_filter", "1", ""), setting("net/ipv4/conf/eth0.10/rp_filter", "0", ""),
			[]string{"sysctl -w net/ipv4/conf/eth0.10/rp_filter=0"},
		},
		{setting("net/ipv4/tcp_rmem", "", ""), setting("net/ipv4/tcp_rmem", "4096 87380 6291456", ""), []string{`sysctl -w "net.ipv4.tcp_rmem=4096 87380 6291456"`}},
		{
			setting("net/ipv6/conf/eth0/accept_ra", "1", ""), setting("net/ipv6/conf/eth0/accept_ra", "2", "1"),
			[]string{"sysctl -w net.ipv6.conf.eth0.accept_ra=2"},
		},
		{setting("net/ipv4/conf/wg-op1/rp_filter", "0", ""), setting("net/ipv4/conf/wg-op1/rp_filter", "", ""), nil},
	} {
		if d := cmp.Diff(c.want, Op{Verb: Change, Object: c.after, Before: c.before}.Commands()); d != "" {
			t.Error(d)
		}
	}
}

func TestQuoteGivesTheShellOneWord(t *testing.T) {
	for _, word := range []string{
		"wg-op1", "", "tombolo home op1", "$(reboot)", "`reboot`", `a"b`, "it's", `back\slash`, "a;b&c|d", "*", "~", "#x", "tab\there", "$HOME", "'\"", "!x", "{a,b}", "line\nbreak",
	} {
		out, err := exec.Command("bash", "-c", "printf '%s.' "+quote(word)).Output()
		if err != nil || string(out) != word+"." {
			t.Errorf("%q is quoted as %s, which is %q to the shell, error %v", word, quote(word), out, err)
		}
	}
}

func TestTextDoesNotTalkToTheTerminal(t *testing.T) {
	p := Plan{Ops: []Op{{Verb: Remove, Before: Route{state.Route{Dst: netip.MustParsePrefix("10.0.0.0/8"), Device: "a\x1b[2J", Type: state.Unicast}}}}}
	if text := p.Text(false); strings.Contains(text, "\x1b") {
		t.Errorf("an escape character got through: %q", text)
	}
}

func TestDiffLinesFallsBackOnHugeTexts(t *testing.T) {
	many := func(prefix string) string {
		var b strings.Builder
		for range 3000 {
			b.WriteString(prefix + "\n")
		}
		return b.String()
	}
	p := Plan{Ops: []Op{{Verb: Change, Object: Ruleset{state.Ruleset{Family: "inet", Table: "tombolo", Text: many("a")}}, Before: Ruleset{state.Ruleset{Family: "inet", Table: "tombolo", Text: many("b")}}}}}
	want := "ruleset inet tombolo\n  ~ the whole table\n\n0 to add, 1 to change, 0 to remove\n"
	if got := p.Text(false); got != want {
		t.Errorf("got %s", got)
	}
}

func TestUnmarshalOpErrors(t *testing.T) {
	for text, want := range map[string]string{
		`{"verb": "mend", "kind": "route"}`:                    `read operation: there is no verb "mend"`,
		`{"verb": "add", "kind": "road", "object": {}}`:        `read operation: there is no kind of object "road"`,
		`{"verb": "add", "kind": "route", "object": {"x": 1}}`: `read route: json: unknown field "x"`,
		`{"verb": "add", "kind": "route", "before": {}}`:       `read operation: add wants an object and no before`,
		`{"verb": "remove", "kind": "route", "object": {}}`:    `read operation: remove wants a before and no object`,
		`{"verb": "change", "kind": "route", "object": {}}`:    `read operation: change wants an object and a before`,
	} {
		var o Op
		if err := o.UnmarshalJSON([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", text, err, want)
		}
	}
}
