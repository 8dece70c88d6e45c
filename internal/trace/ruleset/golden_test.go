package ruleset_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"tombolo/internal/compile"
	"tombolo/internal/spec"
	"tombolo/internal/trace/ruleset"
)

// networks returns network files by name: compile's golden ones, the examples, and what those lack.
func networks(t testing.TB) map[string]string {
	t.Helper()
	out := map[string]string{"access": access, "strange devices": strangeDevices, "beside": beside}
	golden, err := filepath.Glob("../../compile/testdata/*.txtar")
	if err != nil || len(golden) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, path := range golden {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(path)] = string(archive.Files[0].Data)
	}
	examples, err := filepath.Glob("../../../examples/*.yaml")
	if err != nil || len(examples) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, path := range examples {
		if strings.HasSuffix(path, ".lab.yaml") {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(path)] = string(text)
	}
	return out
}

// rulesets returns the tables of all routers of a network, by site.
func rulesets(t testing.TB, network string) map[string]string {
	t.Helper()
	n, diagnostics := spec.Parse("network.yaml", []byte(network))
	if n == nil {
		t.Fatalf("%v\n%s", diagnostics, network)
	}
	out := map[string]string{}
	for _, r := range compile.All(n, compile.Options{}) {
		for _, s := range r.Rulesets {
			out[r.Site] = s.Text
		}
	}
	return out
}

const strangeDevices = `network: a
overlay: 10.9.0.0/24
sites:
  a: {endpoint: 192.0.2.9, lan: {"eth0.2": [10.1.0.0/24, "fd00:1::/64"], "0@x": 10.3.0.0/24, "a;{,(": 10.5.0.0/24, "$b}!": 10.6.0.0/24}, uplink: {"eth0@x": dhcp, "eth0+x": dhcp, "12": dhcp}}
  b: {endpoint: 192.0.2.8, lan: {"br-lan": 10.2.0.0/24}, uplink: {"pppoe-wan!": dhcp}}
links: mesh
exits:
  - {for: b, via: a, otherwise: block, router: true}
  - {for: [10.2.0.64/26, 10.1.0.0/25], via: b}
`

// beside has a policy where sites are joined without a tunnel, by routers that are no sites, and
// by one that speaks with nobody.
const beside = `network: beside
overlay: 10.9.0.0/24
sites:
  a:
    address: 10.9.0.1
    endpoint: 192.0.2.1
    lan: {lan0: [10.1.0.0/24, "fd00:1::/64"], lan1: {prefix: 192.168.1.0/24, as: 10.61.0.0/24}, br-core: 10.60.0.0/24}
    uplink: {eth0: {address: 192.0.2.1/24, gateway: 192.0.2.254}}
    babel: {br-core: {accept: [10.64.0.0/16, "fd00:64::/32"]}}
  b: {address: 10.9.0.2, lan: {lan0: 10.2.0.0/24}, uplink: {eth1: {address: 10.60.0.2/24, gateway: 10.60.0.1}}}
  s: {address: 10.9.0.4, routing: static, endpoint: 192.0.2.4, lan: {lan0: 10.4.0.0/24}}
  p: {address: 10.9.0.5, kind: plain, endpoint: 192.0.2.5, lan: {lan0: [10.5.0.0/24, 10.6.0.0/24, 10.7.0.0/24, 10.8.0.0/24, "fd00:5::/64"]}}
  q: {address: 10.9.0.6, kind: plain, endpoint: 192.0.2.6, lan: {lan0: 10.10.0.0/24}}
links:
  - {between: [a, b], transport: none, on: {a: br-core, b: eth1}}
  - [a, s]
  - [a, p]
  - [s, q]
exits:
  - {for: b, via: a}
nat:
  - {at: a, masquerade: b}
publish:
  - {at: a, port: 80-82/tcp, to: "10.5.0.9:8080"}
  - {at: a, port: 53/udp, to: "[fd00:5::9]:53"}
policy:
  default: deny
  rules:
    - {from: p, to: [a, b, s], allow: [22/tcp, 60000-61000/udp]}
    - {from: "a:lan0", to: "a:lan1", allow: [80/tcp, 443/tcp]}
    - {from: internet, to: p, deny: 81/tcp}
    - {from: internet, to: p, allow: all}
    - {from: q, to: any, deny: all}
    - {from: b, to: [q, 10.1.0.64/26], allow: all}
`

// access has all that is said of who may speak with whom and by which address, in both families.
const access = `network: access
overlay: 10.9.0.0/24
sites:
  north: {address: 10.9.0.1, endpoint: 192.0.2.1, lan: {lan0: [{prefix: 192.168.1.0/24, as: 10.61.1.0/24}, {prefix: "fd00:1::/64", as: "fd61:1::/64"}], lan1: 10.4.0.0/24}, uplink: {eth0: dhcp}}
  south: {address: 10.9.0.2, endpoint: 192.0.2.2, lan: {lan0: {prefix: 192.168.1.0/24, as: 10.61.2.0/24}}, uplink: {eth0: dhcp}}
  door: {address: 10.9.0.3, endpoint: 192.0.2.3, lan: {lan0: [10.3.0.0/24, "fd00:3::/64"]}, uplink: {eth0: dhcp}}
links: mesh
clients:
  pool: 10.31.0.0/24
  at: [north, door]
  devices:
    phone: {address: 10.31.0.10, full: true}
    pi: {address: 10.31.0.11}
nat:
  - {at: north, masquerade: 10.4.0.0/24, out: wg-south}
  - {at: north, masquerade: [door, phone], to: south}
  - {at: door, masquerade: door}
publish:
  - {at: north, port: 8443/tcp, to: "192.168.1.10:443"}
  - {at: north, port: 6000-6100/udp, to: "10.3.0.10:6000"}
  - {at: door, port: 2222/tcp, to: "[fd00:3::10]:22"}
  - {at: door, port: 8080-8082/tcp, to: "10.61.2.7:80"}
policy:
  default: deny
  rules:
    - {from: phone, to: north:lan0, allow: all}
    - {from: [north, south], to: 10.3.0.10, allow: [443/tcp, 53/udp, icmp]}
    - {from: pi, to: internet, deny: [25/tcp]}
    - {from: internet, to: 10.3.0.10, deny: [6050-6060/udp]}
    - {from: door, to: any, deny: icmp}
    - {from: door, to: any, allow: all}
`

// What compile writes is what is known here.
func TestParseKnowsEveryRuleset(t *testing.T) {
	count := 0
	for name, network := range networks(t) {
		for site, text := range rulesets(t, network) {
			count++
			if _, err := ruleset.Parse(text); err != nil {
				t.Errorf("%s, site %s: %v\n%s", name, site, err, text)
			}
		}
	}
	t.Logf("%d tables", count)
}

var table = regexp.MustCompile(`(?s)nft -f - <<'EOF'\n(table .*?)EOF\n`)

// The golden files themselves are read, too: they are what people compare with.
func TestParseKnowsTheGoldenScripts(t *testing.T) {
	golden, err := filepath.Glob("../../compile/testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, path := range golden {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files[1:] {
			for _, m := range table.FindAllSubmatch(f.Data, -1) {
				count++
				if _, err := ruleset.Parse(string(m[1])); err != nil {
					t.Errorf("%s, %s: %v", path, f.Name, err)
				}
			}
		}
	}
	if count < 20 {
		t.Errorf("only %d tables were found", count)
	}
}

// A word that is unknown is an error that names it and its line, wherever it stands.
func TestParseNamesWhatItDoesNotKnow(t *testing.T) {
	for _, text := range rulesets(t, access) {
		lines := strings.SplitAfter(text, "\n")
		for i, line := range lines {
			if strings.TrimSpace(line) == "" {
				continue
			}
			changed := strings.Join(lines[:i], "") + strings.TrimSuffix(line, "\n") + " quota\n" + strings.Join(lines[i+1:], "")
			_, err := ruleset.Parse(changed)
			if err == nil || !strings.Contains(err.Error(), `"quota"`) || !strings.HasPrefix(err.Error(), "line "+strconv.Itoa(i+1)+": ") {
				t.Fatalf("line %d: %v", i+1, err)
			}
		}
	}
}
