package compile_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tombolo/internal/compile"
	"tombolo/internal/state"
)

const nestedNetwork = `
network: n
overlay: 10.9.0.0/24
sites:
  a: {address: 10.9.0.1, lan: {lan0: 10.1.0.0/24, lan1: 10.11.0.0/24}, uplink: {eth0: dhcp, eth1: dhcp}}
  x: {address: 10.9.0.2, endpoint: x.example.net, uplink: {eth0: dhcp}}
  y: {address: 10.9.0.3, endpoint: y.example.net, uplink: {eth0: dhcp, eth1: dhcp}}
links: mesh
exits:
  - {for: a, via: x, otherwise: block}
  - {for: 10.1.0.64/26, via: y}
`

// ruled returns the rules of IPv4 between two priorities, as text, with the tables' names.
func ruled(r state.Router, first, last uint32) []string {
	names := map[uint32]string{254: "main", 200: "shared"}
	for _, e := range r.Babel.Exits {
		names[e.Table] = "exits of " + e.Src.String()
	}
	var out []string
	for _, x := range r.Rules {
		if x.IPv6 || x.Priority < first || x.Priority > last {
			continue
		}
		var words []string
		if x.From.IsValid() {
			words = append(words, "from "+x.From.String())
		}
		if x.IIF != "" {
			words = append(words, "iif "+x.IIF)
		}
		if x.Action == state.Lookup {
			words = append(words, "→ "+names[x.Table])
		} else {
			words = append(words, string(x.Action))
		}
		out = append(out, fmt.Sprint(x.Priority, " ", strings.Join(words, " ")))
	}
	return out
}

// A source inside another that leaves elsewhere leaves by its own exit's uplinks: there the
// lookup does not go on to the table of the source around it. Of a LAN that may not leave here,
// what has another source ends too.
func TestSourcesOfExitsInEachOther(t *testing.T) {
	n := parse(t, nestedNetwork)
	for _, c := range []struct {
		site string
		want []string
	}{
		{"a", []string{
			"557 from 10.1.0.64/26 → exits of 10.1.0.64/26", "558 from 10.1.0.64/26 → shared", // if y cannot be reached
			"559 from 10.1.0.0/24 → exits of 10.1.0.0/24", "559 from 10.11.0.0/24 → exits of 10.11.0.0/24",
			"564 iif lan0 unreachable", "564 iif lan1 unreachable",
		}},
		{"x", []string{
			"557 from 10.1.0.64/26 → exits of 10.1.0.64/26",
			"559 from 10.1.0.0/24 → exits of 10.1.0.0/24", "559 from 10.11.0.0/24 → exits of 10.11.0.0/24",
		}},
		{"y", []string{
			"557 from 10.1.0.64/26 → exits of 10.1.0.64/26", "558 from 10.1.0.64/26 → shared",
			"559 from 10.1.0.0/24 → exits of 10.1.0.0/24", "559 from 10.11.0.0/24 → exits of 10.11.0.0/24",
		}},
	} {
		r, err := compile.Router(n, c.site, compile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := ruled(r, 545, 564)
		slices.Sort(got)
		slices.Sort(c.want)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s has\n%s\nwant\n%s", c.site, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
		// Wherever they pass it is known which flows go on to an exit.
		if r.Egress.Exit != 0x41000000 || !strings.Contains(r.Rulesets[0].Text, "0x41000000") {
			t.Errorf("%s does not mark what goes on to an exit", c.site)
		}
	}
}

// A LAN ends by its device only where all of it is meant.
func TestLANsThatMayNotLeaveEnd(t *testing.T) {
	for _, c := range []struct{ exits, want string }{
		{"{for: a, via: x, otherwise: block}", "lan0 lan1"},
		{"{for: a, via: x}", ""},
		{"{for: 10.1.0.0/24, via: x, otherwise: block}", ""},
		{"{for: a, via: x, otherwise: block}, {for: 10.1.0.0/24, via: y}", "lan1"},
		{"{for: a, via: x, otherwise: block}, {for: 10.1.0.0/25, via: y}", "lan0 lan1"},
	} {
		before, _, _ := strings.Cut(nestedNetwork, "exits:")
		r, err := compile.Router(parse(t, before+"exits: ["+c.exits+"]\n"), "a", compile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var devices []string
		for _, x := range r.Rules {
			if x.IIF != "" && !x.IPv6 {
				devices = append(devices, x.IIF)
			}
		}
		if got := strings.Join(devices, " "); got != c.want {
			t.Errorf("with %s the devices %q end, want %q", c.exits, got, c.want)
		}
	}
}

// A site whose uplink is in its exit's LAN hides its hosts there, or not: the exit hides both.
func TestExitHidesWhoIsInItsLAN(t *testing.T) {
	n := parse(t, `
network: n
overlay: 10.9.0.0/24
sites:
  office: {address: 10.9.0.1, lan: {eth1: 192.168.5.0/24}, uplink: {eth0: dhcp}}
  cabin: {address: 10.9.0.2, lan: {lan0: 10.2.0.0/24}, uplink: {eth0: {address: 192.168.5.2/24, gateway: 192.168.5.254}}}
links: [{between: [cabin, office], transport: none, on: {cabin: eth0, office: eth1}}]
exits: [{for: cabin, via: office}]
`)
	r, err := compile.Router(n, "office", compile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Babel.Links) != 1 || r.Babel.Links[0].Device != "eth1" || r.Babel.Links[0].Tunnel {
		t.Errorf("office speaks at %+v", r.Babel.Links)
	}
	if rule := `oifname "eth0" ip saddr { 10.2.0.0/24, 192.168.5.0/24 } masquerade`; !strings.Contains(r.Rulesets[0].Text, rule) {
		t.Errorf("there is no %q in\n%s", rule, r.Rulesets[0].Text)
	}
}
