//go:build vm

package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// All peers are in one interface here, where a change of one could disturb the others.
func TestChangeOfOnePeerLosesNoPacketOfTheOthers(t *testing.T) {
	n := newNetwork(t, "pea", "peb", "pec")
	base := named("routing: static\n"+three, n.sites...)
	n.write(base)
	n.applyAll()
	n.reached()
	public := func() string {
		return strings.TrimSpace(n.in("pec", "wg", "show", "wg_s2s", "public-key"))
	}
	peer := func() string {
		out := ""
		for line := range strings.Lines(n.in("pea", "wg", "show", "wg_s2s", "dump")) {
			if f := strings.Fields(line); f[0] == public() {
				out = strings.Join(append(f[:4], f[7]), " ")
			}
		}
		return out
	}
	text := base
	for _, change := range []struct {
		what string
		make func()
	}{
		{"endpoint", func() {
			n.sh("pec", "ip address add 198.51.100.33/24 dev eth0")
			text = strings.Replace(text, "endpoint: 198.51.100.3,", "endpoint: 198.51.100.33,", 1)
		}},
		{"preshared key", func() {
			text += "links: [{between: [pea, pec], psk: true}, [pea, peb], [peb, pec]]\n"
			n.tombolo("pea", "key", "psk", "pea", "pec")
		}},
		{"allowed IPs", func() {
			n.sh("pec", "ip link add lan1 type dummy; ip address add 10.33.0.1/24 dev lan1; ip link set lan1 up")
			text = strings.Replace(text, "10.3.0.0/24}", "10.3.0.0/24, lan1: 10.33.0.0/24}", 1)
		}},
		{"key", func() {
			if err := os.Remove(filepath.Join(n.dir, "keys", "pec.key")); err != nil {
				t.Fatal(err)
			}
			n.tombolo("pec", "key", "make", "pec")
		}},
	} {
		text = n.expand(text)
		change.make()
		before, other := peer(), n.received("pea", "wg_s2s", "peb")
		n.write(text)
		p := n.probe("pea.host", n.host(1))
		plan := n.tombolo("pea", "apply", file)
		p.lostNothing()
		if after := n.received("pea", "wg_s2s", "peb"); after <= other {
			t.Errorf("%s: the other peer was made anew: %d bytes received from it, and then %d", change.what, other, after)
		}
		n.tombolo("pec", "apply", file)
		n.tombolo("peb", "apply", file)
		after := peer()
		if after == before || after == "" {
			t.Errorf("%s: the peer was %q and is %q after\n%s", change.what, before, after, plan)
		}
		n.answers("pea.host", n.host(2))
	}
	n.answers("pea.host", "10.33.0.1")
}

// The same where each peer has an interface of its own.
func TestChangeOfOneLinkLosesNoPacketOfTheOthers(t *testing.T) {
	n := newNetwork(t, "lka", "lkb", "lkc")
	links := "links:\n  - [SITE1, SITE2]\n  - {between: [SITE1, SITE3]}\n"
	n.write(named(three+links, n.sites...))
	n.applyAll()
	n.reached()
	n.tombolo("lka", "key", "psk", "lka", "lkc")
	n.sh("lkc", "ip address add 198.51.100.33/24 dev eth0")
	text := strings.Replace(n.expand(named(three+links, n.sites...)), "endpoint: 198.51.100.3,", "endpoint: 198.51.100.33,", 1)
	text = strings.Replace(text, "[lka, lkc]}", "[lka, lkc], psk: true, keepalive: 5, mtu: 1300}", 1)
	n.write(text)
	before := n.received("lka", "wg-lkb", "lkb")
	p := n.probe("lka.host", n.host(1))
	n.tombolo("lka", "apply", file)
	p.lostNothing()
	if after := n.received("lka", "wg-lkb", "lkb"); after <= before {
		t.Errorf("the other link was made anew: %d bytes received by it, and then %d", before, after)
	}
	n.tombolo("lkc", "apply", file)
	n.answers("lka.host", n.host(2))
	if out := n.in("lka", "wg", "show", "wg-lkc"); !strings.Contains(out, "198.51.100.33:") || !strings.Contains(out, "preshared key") {
		t.Errorf("the link was not changed: %s", out)
	}
}

// An apply that the kernel refuses half way leaves every packet and all else as it was.
func TestRefusedChangeIsPutBack(t *testing.T) {
	n := newNetwork(t, "rfa", "rfb", "rfc")
	base := n.expand(named(three+"links:\n  - {between: [SITE1, SITE2]}\n  - [SITE2, SITE3]\n", n.sites...))
	n.write(base)
	n.applyAll()
	n.reached()
	look := func() string {
		return n.sh("rfa", "wg showconf wg-rfb; ip address show wg-rfb; ip rule; ip route show table 110; nft -s list ruleset")
	}
	before := look()
	p := n.probe("rfa.host", n.host(1))
	// The port of the new link belongs to another program.
	n.sh("rfa", "perl -e 'use Socket; socket(S, PF_INET, SOCK_DGRAM, 17); bind(S, sockaddr_in(51823, INADDR_ANY)) or die; sleep 60' >/dev/null 2>&1 & sleep 1")
	n.write(strings.Replace(base, "[rfa, rfb]}", "[rfa, rfb], mtu: 1300, keepalive: 7}\n  - [rfa, rfc]", 1))
	out := n.fails("rfa", "apply", file)
	p.lostNothing()
	if !strings.Contains(out, "port 51823 is in use by another program") {
		t.Errorf("the refusal does not say what is in the way: %s", out)
	}
	if after := look(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	n.write(base)
	n.holds("rfa")
}

// A change that cuts a router's way is put back by itself; a confirmed one stays.
func TestUnconfirmedChangeGoesBack(t *testing.T) {
	n := newNetwork(t, "cfa", "cfb")
	base := n.expand(named(pair, n.sites...))
	n.write(base)
	n.applyAll()
	n.reached()
	n.write(strings.Replace(base, "lan: {lan0: 10.2.0.0/24}, ", "", 1))
	n.tombolo("cfa", "apply", file, "--confirm", "20s")
	n.sh("cfa.host", "for i in {1..8}; do ping -q -c1 -W1 "+n.host(1)+" >/dev/null || exit 0; sleep 1; done; echo the way is still there; exit 1")
	n.answers("cfa.host", n.host(1))
	n.write(base)
	n.holds("cfa")
	n.write(base + "links: [{between: [cfa, cfb], mtu: 1300}]\n")
	n.tombolo("cfa", "apply", file, "--confirm", "2s")
	n.tombolo("cfa", "confirm")
	n.sh("cfa", "sleep 4")
	n.holds("cfa")
	n.reached()
}
