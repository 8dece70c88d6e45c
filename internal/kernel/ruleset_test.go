package kernel

import (
	"context"
	"strings"
	"testing"

	"tombolo/internal/plan"
	"tombolo/internal/state"
)

const learning = `table inet tombolo {
	set seen {
		type ipv4_addr
		flags dynamic, timeout
		timeout 1h
	}
	set fixed {
		type ipv4_addr
		flags interval
		elements = { 10.0.0.0/8, 192.168.0.0/16 }
	}
	map way {
		type ipv4_addr : verdict
		elements = { 10.1.1.1 : accept, 10.1.1.2 : drop }
	}
	counter hits {
	}
	chain input {
		type filter hook input priority filter - 5; policy accept;
		counter name hits
		ip saddr @fixed counter accept comment "a chain seal { is no chain"
		limit rate 10/second accept
		ip saddr vmap @way
	}
	chain learn {
		type filter hook output priority filter; policy accept;
		update @seen { ip daddr }
	}
}
`

func withRuleset(text string) state.Router {
	want := empty()
	want.Rulesets = []state.Ruleset{ruleset(text)}
	return want
}

func TestWhatPacketsChangeIsNoDrift(t *testing.T) {
	namespace(t)
	k, want := open(t), withRuleset(learning)
	apply(t, k, want)
	sh(t, "ping -c 1 -W 1 127.0.0.1; nft add element inet tombolo seen '{ 10.9.9.9 }'")
	if out := sh(t, "nft list table inet tombolo"); !strings.Contains(out, "10.9.9.9 expires") || strings.Contains(out, "packets 0 bytes 0\n") {
		t.Fatalf("the packets left no trace: %s", out)
	}
	wantNothing(t, k, want)
	sh(t, "nft add element inet tombolo fixed '{ 172.16.0.0/12 }'")
	if d := read(t, k, want).Rulesets[0].Digest; d != state.DriftedDigest {
		t.Errorf("an added element reads as digest %q", d)
	}
	apply(t, k, want)
	sh(t, "nft delete element inet tombolo way '{ 10.1.1.2 : drop }'")
	if d := read(t, k, want).Rulesets[0].Digest; d != state.DriftedDigest {
		t.Errorf("a removed element reads as digest %q", d)
	}
}

// The text that Read returns can be loaded again, and then is the same ruleset.
func TestObservedRulesetCanBePutBack(t *testing.T) {
	namespace(t)
	k, want := open(t), withRuleset(learning)
	apply(t, k, want)
	earlier := read(t, k, want)
	if earlier.Rulesets[0].Digest != want.Rulesets[0].Digest || strings.Contains(earlier.Rulesets[0].Text, "\tchain seal") {
		t.Fatalf("read %+v", earlier.Rulesets[0])
	}
	other := withRuleset("table inet tombolo {\n\tchain other {\n\t}\n}\n")
	apply(t, k, other)
	apply(t, k, earlier)
	wantNothing(t, k, want)

	// One that had drifted is put back as it was, and still counts as drifted.
	sh(t, "nft add rule inet tombolo input drop")
	drifted := read(t, k, want)
	apply(t, k, other)
	apply(t, k, drifted)
	if got := read(t, k, want).Rulesets[0]; got.Digest != state.DriftedDigest || got.Text != drifted.Rulesets[0].Text {
		t.Errorf("put back: %+v", got)
	}
}

func TestRefusedRulesetLeavesTheOldOne(t *testing.T) {
	namespace(t)
	k, want := open(t), withRuleset(learning)
	apply(t, k, want)
	before := sh(t, "nft -s list ruleset")
	for _, text := range []string{
		"table inet tombolo {\n\tchain x {\n\t\tjump nowhere\n\t}\n}\n",
		"table inet tombolo {\n\tchain seal {\n\t}\n}\n",
		"table inet tombolo {\n",
	} {
		err := k.Apply(context.Background(), []plan.Op{{Verb: plan.Change, Object: plan.Ruleset{Ruleset: ruleset(text)}, Before: plan.Ruleset{}}})
		if err == nil {
			t.Errorf("loaded %q", text)
		}
		if after := sh(t, "nft -s list ruleset"); after != before {
			t.Errorf("before %s after %s", before, after)
		}
	}
}

func TestMissingNftIsNamedOnlyWhereNeeded(t *testing.T) {
	namespace(t)
	k := open(t)
	t.Setenv("PATH", t.TempDir())
	paths := nftPaths
	nftPaths = nil
	t.Cleanup(func() { nftPaths = paths })
	wantNothing(t, k, empty())
	err := k.Apply(context.Background(), plan.Diff(empty(), withRuleset(learning)).Ops)
	want := "add ruleset inet tombolo: the program nft is missing: install the package nftables"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestFindSeal(t *testing.T) {
	const text = "table inet t {\n\tchain a {\n\t\tjump seal\n\t}\n\n\tchain seal {\n\t\treturn\n\t}\n\n\tchain sealed {\n\t}\n}\n"
	block, found := findSeal(text)
	if want := "\n\tchain seal {\n\t\treturn\n\t}\n"; block != want || !found {
		t.Errorf("got %q, want %q", block, want)
	}
	if _, found := findSeal("table inet t {\n\tchain a { jump seal; }\n}\n"); found {
		t.Error("found a chain in a rule")
	}
	if block, _ := findSeal("table inet t {\n\tchain seal{ return; }\n\tchain b {\n\t}\n}"); block != "\tchain seal{ return; }\n" {
		t.Errorf("got %q", block)
	}
}

func TestProbe(t *testing.T) {
	namespace(t)
	f, err := Probe(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if !f.TUN || !f.IPv6 || !strings.HasPrefix(f.Nft, "1.") {
		t.Errorf("found %+v", f)
	}
	// The kernel's own word: it makes a bridge, and knows no kind of that name.
	if got := strings.Contains(sh(t, "ip link add probe0 type wireguard 2>&1 || true"), "Unknown device type"); got == f.WireGuard {
		t.Errorf("WireGuard: %v, and ip says otherwise", f.WireGuard)
	}
	if m, ok := DeviceMTU("lo"); m != 65536 || !ok {
		t.Errorf("lo has MTU %d, %v", m, ok)
	}
	if _, ok := DeviceMTU("nowhere0"); ok {
		t.Error("nowhere0 exists")
	}
}
