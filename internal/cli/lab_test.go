package cli_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// networks are files that must carry packets between every LAN host and router.
var networks = []struct{ name, file, lab string }{
	{"a static mesh", `
routing: static
sites:
  a: {endpoint: 198.18.1.2, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: {address: 198.18.1.2/24, gateway: 198.18.1.1}}}
  b: {endpoint: b.example.net, lan: {lan0: 10.2.0.0/24}, uplink: {eth0: dhcp}}
  c: {lan: {lan0: 10.3.0.0/24}, uplink: {eth0: dhcp}}
`, ""},
	{"a static star whose spokes reach each other through the hub", `
routing: static
sites:
  hub: {endpoint: hub.example.net, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: dhcp}}
  s1: {lan: {lan0: 10.2.0.0/24}, uplink: {eth0: dhcp}}
  s2: {lan: {lan0: 10.3.0.0/24}, uplink: {eth0: dhcp}}
  s3: {lan: {lan0: 10.4.0.0/24}, uplink: {eth0: dhcp}}
links: {star: hub}
`, ""},
	{"a static chain", `
routing: static
sites:
  k1: {lan: {lan0: 10.1.0.0/24}, uplink: {eth0: dhcp}}
  k2: {endpoint: k2.example.net, lan: {lan0: 10.2.0.0/24}, uplink: {eth0: dhcp}}
  k3: {endpoint: k3.example.net, lan: {lan0: 10.3.0.0/24}, uplink: {eth0: dhcp}}
  k4: {lan: {lan0: 10.4.0.0/24}, uplink: {eth0: dhcp}}
links: {chain: [k1, k2, k3, k4]}
`, ""},
	{"a mesh of which two ends cannot dial each other", `
sites:
  a: {endpoint: a.example.net, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: dhcp}}
  b: {lan: {lan0: 10.2.0.0/24}, uplink: {eth0: dhcp}}
  c: {lan: {lan0: 10.3.0.0/24}, uplink: {eth0: dhcp}}
`, "sites: {b: {eth0: {nat: symmetric}}, c: {eth0: {nat: full-cone}}}"},
	{"both kinds of routing, and a plain site", `
sites:
  a: {endpoint: a.example.net, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: dhcp}}
  b: {endpoint: b.example.net, routing: static, lan: {lan0: 10.2.0.0/24}, uplink: {eth0: dhcp}}
  c: {kind: plain, lan: {lan0: 10.3.0.0/24}, uplink: {eth0: dhcp}}
links: [[a, b], [a, c]]
`, ""},
	{"options: preshared keys, ports, costs, the smallest MTU", `
sites:
  a: {endpoint: a.example.net, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: dhcp}}
  b: {endpoint: b.example.net, lan: {lan0: 10.2.0.0/24}, uplink: {eth0: dhcp}}
  c: {endpoint: c.example.net, lan: {lan0: 10.3.0.0/24}, uplink: {eth0: dhcp}}
links:
  - {between: [a, b], psk: true, port: 40000, keepalive: 10}
  - {between: [b, c], mtu: 1280}
  - {between: [a, c], cost: 5}
`, ""},
	{"IPv6 LANs", `
sites:
  a: {endpoint: a.example.net, lan: {lan0: [10.1.0.0/24, "fd00:1::/64"]}, uplink: {eth0: dhcp}}
  b: {lan: {lan0: [10.2.0.0/24, "fd00:2::/64"]}, uplink: {eth0: dhcp}}
`, ""},
	{"two sites on one LAN, with no tunnel between them", `
sites:
  a: {lan: {lan0: 10.1.0.0/24}, uplink: {eth0: {address: 10.8.0.2/24, gateway: 10.8.0.1}}}
  b: {lan: {lan0: 10.2.0.0/24}, uplink: {eth0: {address: 10.8.0.3/24, gateway: 10.8.0.1}}}
  c: {endpoint: c.example.net, lan: {lan0: 10.3.0.0/24}, uplink: {eth0: dhcp}}
links:
  - {between: [a, b], transport: none, on: {a: eth0, b: eth0}}
  - [b, c]
`, "sites: {a: {eth0: {nat: none}}, b: {eth0: {nat: none}}}"},
	{"names too long for an interface", `
sites:
  headquarters-of-the-north: {endpoint: hq.example.net, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: dhcp}}
  headquarters-of-the-south: {lan: {lan0: 10.2.0.0/24}, uplink: {eth0: dhcp}}
`, ""},
}

func TestEveryPairIsReached(t *testing.T) {
	t.Parallel() // it mostly waits
	for i, n := range networks {
		t.Run(n.name, func(t *testing.T) {
			l := up(t, fmt.Sprintf("net%d", i), "network: n\noverlay: 10.9.0.0/16\nsettings: {port: 30000}\n"+n.file, n.lab)
			l.reached()
		})
	}
}

func TestEveryPairOfTheExamplesIsReached(t *testing.T) {
	t.Parallel() // it mostly waits
	for _, name := range []string{"home", "dorm", "overlap", "relay", "two-uplinks"} {
		t.Run(name, func(t *testing.T) {
			network, err := os.ReadFile("../../examples/" + name + ".yaml")
			if err != nil {
				t.Fatal(err)
			}
			labFile, err := os.ReadFile("../../examples/" + name + ".lab.yaml")
			if err != nil {
				t.Fatal(err)
			}
			up(t, name, string(network), string(labFile)).reached()
		})
	}
}

// testLab is a lab that is up until the test ends.
type testLab struct {
	*testing.T
	name string
}

// up brings a lab up from the texts of a network file and a lab file.
func up(t *testing.T, name, network, lab string, args ...string) testLab {
	t.Helper()
	l := testLab{t, fmt.Sprintf("c%d-%s", os.Getpid(), name)}
	dir := t.TempDir()
	for file, text := range map[string]string{"n.yaml": network, "n.lab.yaml": lab} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = exec.Command(binary, "lab", "down", l.name).Run() })
	l.must(append([]string{"lab", "up", filepath.Join(dir, "n.yaml"), "--name", l.name}, args...)...)
	return l
}

// must runs tombolo and returns its standard output.
func (l testLab) must(args ...string) string {
	l.Helper()
	c := exec.Command(binary, args...)
	var diagnostics strings.Builder
	c.Stderr = &diagnostics
	out, err := c.Output()
	if err != nil {
		l.Fatalf("tombolo %s: %v\n%s%s", strings.Join(args, " "), err, out, diagnostics.String())
	}
	return string(out)
}

// in runs a command on a node and returns its output.
func (l testLab) in(node string, argv ...string) string {
	l.Helper()
	return l.must(append([]string{"lab", "exec", "--name", l.name, node, "--"}, argv...)...)
}

// reached fails unless every router and LAN host reaches every other.
func (l testLab) reached() {
	l.Helper()
	out := l.must("lab", "ping", "--name", l.name, "--json")
	var m struct {
		Nodes        []string
		Milliseconds map[string]map[string]*float64
	}
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		l.Fatal(err)
	}
	if len(m.Nodes) < 2 {
		l.Fatalf("only %v was asked", m.Nodes)
	}
	for _, from := range m.Nodes {
		for _, to := range m.Nodes {
			if from != to && m.Milliseconds[from][to] == nil {
				l.Errorf("%s does not reach %s", from, to)
			}
		}
	}
}

// The lab file in the documentation is right, for a network that has what it names.
func TestLabFileOfTheDocumentation(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/lab.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\n")
	text, _, found := strings.Cut(rest, "```")
	network, err := os.ReadFile("../../examples/home.yaml")
	if err != nil || !found {
		t.Fatal("no example in the page, or no network for it", err)
	}
	up(t, "page", string(network), strings.ReplaceAll(text, "reaches: [op1, inet]", "reaches: [op1, op3, inet]")).reached()
}
