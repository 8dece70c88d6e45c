package compile_test

import (
	"strings"
	"testing"

	"tombolo/internal/compile"
)

// rulesOf returns what nft gets at a site.
func rulesOf(t *testing.T, network, site string) string {
	t.Helper()
	r, err := compile.Router(parse(t, network), site, compile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r.Rulesets[0].Text
}

// chainOf returns the lines of a chain.
func chainOf(t *testing.T, rules, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(rules, "\tchain "+name+" {\n")
	if !ok {
		t.Fatalf("no chain %s in\n%s", name, rules)
	}
	chain, _, _ := strings.Cut(rest, "\t}\n")
	return chain
}

// What passes by on a LAN, to a site that is joined by it, is not the LAN's router's business.
func TestDefaultIsForOwnHostsAlone(t *testing.T) {
	rules := rulesOf(t, `network: a
overlay: 10.60.0.0/24
sites:
  a: {address: 10.60.0.1, endpoint: 192.0.2.9, lan: {lan0: 192.168.36.0/24}, uplink: {eth0: dhcp}}
  b: {address: 10.60.0.2, lan: {lan1: 192.168.1.0/24}, uplink: {lan0: {address: 192.168.36.9/24, gateway: 192.168.36.1}}}
  c: {address: 10.60.0.3, endpoint: 192.0.2.8, lan: {br-lan: 192.168.3.0/24}, uplink: {eth0: dhcp}}
links: [[a, c], {between: [a, b], transport: none, on: {a: lan0, b: lan0}}]
policy: {default: deny, rules: [{from: c, to: b, allow: all}]}
`, "a")
	if from := chainOf(t, rules, "access"); !strings.Contains(from, "192.168.3.0-192.168.3.255 : goto access-here") {
		t.Errorf("what comes from c:\n%s", from)
	}
	if here := chainOf(t, rules, "access-here"); strings.Contains(here, "192.168.1.0") || !strings.Contains(here, "192.168.36.0-192.168.36.255 : goto denied") {
		t.Errorf("what is denied of it:\n%s", here)
	}
}

// Routers that are no sites know a mapped LAN as the sites do, and what is nested in what they
// accept is in no set twice.
func TestForeignRoutersSeeMappedSources(t *testing.T) {
	rules := rulesOf(t, `network: a
overlay: 10.60.0.0/24
sites:
  north: {endpoint: 192.0.2.9, lan: {br-lan: {prefix: 192.168.1.0/24, as: 10.61.1.0/24}}, babel: {br-core: {accept: 10.9.0.0/16}}}
  south: {endpoint: 192.0.2.8, babel: {br-core: {accept: 10.9.5.0/24}}}
policy: {default: deny}
`, "north")
	post := chainOf(t, rules, "postrouting")
	if !strings.Contains(post, `oifname "br-core" ip daddr { 10.9.0.0/16, `) || strings.Contains(post, "10.9.5.0") {
		t.Errorf("sources towards br-core:\n%s", post)
	}
	if forward := chainOf(t, rules, "access-forward"); !strings.Contains(forward, `iifname { "br-core", "br-lan" } goto access`) {
		t.Errorf("edges:\n%s", forward)
	}
}

// Who comes to a published port keeps their address where the way there takes it.
func TestPublishedPortsHideWhoWouldNotBeTaken(t *testing.T) {
	const network = `network: a
overlay: 10.60.0.0/24
sites:
  north: {endpoint: 192.0.2.9, lan: {br-lan: 192.168.1.0/24}, uplink: {eth0: dhcp}}
  south: {endpoint: 192.0.2.8, lan: {br-lan: 192.168.2.0/24}, uplink: {eth0: dhcp}}
  still: {routing: static, endpoint: 192.0.2.7, lan: {br-lan: 192.168.3.0/24}, uplink: {eth0: dhcp}}
links: [[north, south], [south, still]]
clients:
  pool: 10.31.0.0/24
  at: [north]
  devices: {phone: {address: 10.31.0.10}, laptop: {address: 10.31.0.11, full: true}}
publish:
  - {at: north, port: 1/tcp, to: 192.168.2.10:1}
  - {at: north, port: 3/tcp, to: 192.168.3.10:3}
  - {at: north, port: 10/tcp, to: 10.31.0.10:10}
  - {at: north, port: 11/tcp, to: 10.31.0.11:11}
  - {at: still, port: 1/tcp, to: 192.168.2.10:1}
`
	if post := chainOf(t, rulesOf(t, network, "north"), "postrouting"); !strings.Contains(post, "\t\tct status dnat ip daddr { 10.31.0.10/32, 192.168.3.10/32 } masquerade\n") {
		t.Errorf("at north:\n%s", post)
	}
	if post := chainOf(t, rulesOf(t, network, "still"), "postrouting"); strings.Contains(post, "dnat ip daddr") {
		t.Errorf("at still, whose neighbour remembers the way:\n%s", post)
	}
}

// Hosts have IPv6 of which the file knows nothing: there the policy is what it says of their LANs.
func TestPolicyOfAddressesThatAreNobodys(t *testing.T) {
	rules := rulesOf(t, `network: a
overlay: 10.60.0.0/24
sites:
  a: {endpoint: 192.0.2.9, lan: {kids: 192.168.36.0/24, work: [192.168.37.0/24, "fd00:37::/64"]}, uplink: {eth0: dhcp}}
  c: {endpoint: 192.0.2.8, lan: {br-lan: 192.168.3.0/24}, uplink: {eth0: dhcp}}
policy:
  rules:
    - {from: 192.168.36.9, to: internet, allow: all}
    - {from: "a:kids", to: [internet, "a:work"], deny: all}
`, "a")
	access := chainOf(t, rules, "access")
	_, of, ok := strings.Cut(access, `iifname vmap { "kids" : goto `)
	of, _, closed := strings.Cut(of, " }")
	if !ok || !closed || !strings.HasSuffix(chainOf(t, rules, of), "\t\tjump access-rest\n\t\tgoto denied\n") {
		t.Errorf("from kids:\n%s", access)
	}
	if forward := chainOf(t, rules, "access-forward"); !strings.Contains(forward, `ip6 daddr != @inside6 iifname . oifname vmap { "kids" . "kids" : accept, "kids" . "work" : goto denied, "work" . "work" : accept }`) {
		t.Errorf("between LANs:\n%s", forward)
	}
}
