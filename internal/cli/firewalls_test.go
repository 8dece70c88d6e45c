package cli_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"tombolo/internal/kernel"
	"tombolo/internal/state"
)

// filteredNetwork has a router that others reach each other and the Internet through.
const filteredNetwork = `
network: filtered
overlay: 10.9.0.0/24
sites:
  hub: {address: 10.9.0.1, kind: openwrt, endpoint: hub.example.net, lan: {br-lan: [10.1.0.0/24, "fd00:1::/64"]}, uplink: {eth0: dhcp}}
  b: {address: 10.9.0.2, lan: {br-lan: [10.2.0.0/24, "fd00:2::/64"]}, uplink: {eth0: dhcp}}
  c: {address: 10.9.0.3, lan: {br-lan: [10.3.0.0/24, "fd00:3::/64"]}, uplink: {eth0: dhcp}}
links: {star: hub}
exits:
  - {for: b, via: hub, otherwise: block}
publish:
  - {at: hub, port: 7007/tcp, to: 10.1.0.10:7007}
  - {at: hub, port: 7007/udp, to: 10.1.0.10:7007}
`

// passage is a question whose packets the hub's firewall sees.
type passage struct {
	question
	in, out   string // the hub's devices
	published bool
}

// filtered is that network, with mirrors.
type filtered struct {
	homeLab
	passages []passage
}

func upFiltered(t *testing.T) filtered {
	t.Helper()
	l := filtered{homeLab: open(t, "firewalls", filteredNetwork, "")}
	l.reached()
	addresses := map[string][]netip.Addr{"inet": {l.outside("inet", "eth0", false), l.outside("inet", "eth0", true)}}
	for i, s := range []string{"hub", "b", "c"} {
		n := string(rune('1' + i))
		addresses[s+".host"] = []netip.Addr{netip.MustParseAddr("10." + n + ".0.10"), netip.MustParseAddr("fd00:" + n + "::10")}
	}
	addresses["hub"] = []netip.Addr{netip.MustParseAddr("10.9.0.1")}
	for node, at := range addresses {
		l.mirror(node, at...)
	}
	for _, p := range []struct{ from, to, in, out string }{
		{"b.host", "hub.host", "wg-b", "br-lan"}, {"hub.host", "c.host", "br-lan", "wg-c"}, {"b.host", "c.host", "wg-b", "wg-c"},
		{"b.host", "inet", "wg-b", "eth0"}, {"hub.host", "inet", "br-lan", "eth0"}, {"c", "hub", "wg-c", ""},
	} {
		for _, to := range addresses[p.to] {
			for _, network := range allNetworks {
				l.passages = append(l.passages, passage{question{node: p.from, network: network, to: to}, p.in, p.out, false})
			}
		}
	}
	for _, network := range []string{"tcp", "udp"} {
		for from, in := range map[string]string{"inet": "eth0", "hub.host": "br-lan"} {
			l.passages = append(l.passages, passage{question{node: from, network: network, to: l.outside("hub", "eth0", false)}, in, "br-lan", true})
		}
	}
	return l
}

func (l filtered) questions() (out []question) {
	for _, p := range l.passages {
		out = append(out, p.question)
	}
	return out
}

// plans returns what `tombolo plan` finds in the way at the hub, and what it says to a person.
func (l filtered) plans() (found []kernel.Obstacle, said string) {
	l.Helper()
	args := []string{binary, "plan", filepath.Join(l.lab.Dir(), "network.yaml"), "--site", "hub", "--keys", filepath.Join(l.lab.Dir(), "keys")}
	var plan struct{ Obstacles []kernel.Obstacle }
	if err := json.Unmarshal([]byte(l.in("hub", append(args, "--json")...)), &plan); err != nil {
		l.Fatal(err)
	}
	said, err := l.try("hub", args...)
	if err != nil || !strings.Contains(said, "nothing to do") {
		l.Fatalf("plan says that there is something to do: %v\n%s", err, said)
	}
	return plan.Obstacles, said
}

// stopped reports whether an obstacle is one for a question.
func (p passage) stopped(o kernel.Obstacle) bool {
	means := func(name, device string) bool {
		begin, all := strings.CutSuffix(name, "*")
		return name == device || all && device != "" && strings.HasPrefix(device, begin)
	}
	family := map[bool]string{false: "IPv4", true: "IPv6"}[p.to.Is6()]
	if o.Answers {
		o.In, o.Out = o.Out, o.In
	}
	switch {
	case !means(o.In, p.in), !means(o.Out, p.out):
		return false
	case p.published:
		return slices.ContainsFunc(o.Only, func(f state.Flow) bool { return f.Protocol == p.network && f.First == askedAt })
	case len(o.Only) > 0, o.Family == "ip" && p.to.Is6(), o.Family == "ip6" && p.to.Is4():
		return false
	case len(o.What) == 0:
		return true
	}
	return slices.Contains(o.What, p.network) || slices.Contains(o.What, family) || slices.Contains(o.What, family+" "+p.network)
}

// asPlanned asks everything, and fails unless what is in nobody's way is answered, and nothing
// else is.
func (l filtered) asPlanned(found []kernel.Obstacle) {
	l.Helper()
	var open, shut []question
	for _, p := range l.passages {
		if slices.ContainsFunc(found, p.stopped) {
			shut = append(shut, p.question)
		} else {
			open = append(open, p.question)
		}
	}
	unanswered := l.unanswered(shut, forNone)
	if len(unanswered) != len(shut) {
		l.Errorf("plan says that these are dropped, and of them only these are:\n%v\n%s", shut, strings.Join(unanswered, "\n"))
	}
	if faults := l.unanswered(open, forAnswer); len(faults) > 0 {
		l.Errorf("plan says nothing of these:\n%s", strings.Join(faults, "\n"))
	}
}

// load gives a text to nft on the hub.
func (l filtered) load(text string) {
	l.Helper()
	file := filepath.Join(l.TempDir(), "rules.nft")
	l.do(os.WriteFile(file, []byte(text), 0o600))
	l.in("hub", "nft", "-f", file)
}

// rulesOf returns the rules of a firewall, in the form in which it writes them.
func rulesOf(t *testing.T, name string) string {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("../kernel/testdata/obstacles", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	return string(archive.Files[0].Data)
}

// On a router with a firewall of another program, `plan` says what that one drops, and what to
// type; then it passes, and `plan` says nothing any more.
func TestOthersFirewalls(t *testing.T) {
	t.Parallel() // it mostly waits
	l := upFiltered(t)
	if faults := l.unanswered(l.questions(), forAnswer); len(faults) > 0 {
		t.Fatalf("without a firewall:\n%s", strings.Join(faults, "\n"))
	}
	if found, said := l.plans(); len(found) > 0 || strings.Contains(said, "note:") {
		t.Errorf("nobody is in the way, and plan says:\n%s", said)
	}
	for _, c := range []struct {
		name, tables string
		rules        string
		note         string // of what is said
		mend         func(t *testing.T, said string) string
	}{
		{
			"fw4", "inet fw4", fw4Rules(fw4Default),
			"note: table inet fw4 would drop what goes from br-lan to wg-* (chain forward, in handle_reject: meta l4proto tcp reject with tcp reset)",
			func(_ *testing.T, said string) string { return "delete table inet fw4\n" + fw4Rules(fw4Default+said) },
		},
		{
			"docker", "ip filter", rulesOf(t, "docker"),
			"note: table ip filter would drop what goes from wg-* to wg-* (chain FORWARD, policy drop)", iptablesAsNft,
		},
		{
			"ufw", "ip filter, ip6 filter", rulesOf(t, "ufw"),
			"note: tables ip filter and ip6 filter would drop tcp and udp that goes from wg-* to br-lan (chain FORWARD, policy drop)", ufwAsNft,
		},
		{
			"somebody's own", "inet own", "table inet own { chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; }; }",
			"note: table inet own would drop what goes from wg-* to br-lan (chain forward, policy drop)", nftCommands,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := filtered{homeLab{testLab{t, l.name}, l.lab}, l.passages}
			l.load(c.rules)
			found, said := l.plans()
			if !strings.Contains(said, c.note+"\n") {
				t.Errorf("plan does not say %q:\n%s", c.note, said)
			}
			l.asPlanned(found)
			l.load(c.mend(t, said))
			if left, said := l.plans(); len(left) > 0 {
				t.Errorf("what plan said to type was typed, and it says:\n%s\n%s", said, l.in("hub", "nft", "list", "ruleset"))
			}
			l.asPlanned(nil)
			for table := range strings.SplitSeq(c.tables, ", ") {
				l.in("hub", "nft", "delete", "table", strings.Fields(table)[0], strings.Fields(table)[1])
			}
		})
	}
}
