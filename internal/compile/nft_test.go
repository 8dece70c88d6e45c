package compile_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"tombolo/internal/compile"
)

// What is compiled is what nft takes: nothing of it is known before a router loads it.
func TestNftTakesEveryRuleset(t *testing.T) {
	networks := map[string]string{
		"strange devices": `network: a
overlay: 10.9.0.0/24
sites:
  a: {endpoint: 192.0.2.9, lan: {"eth0.2": [10.1.0.0/24, "fd00:1::/64"], "0@x": 10.3.0.0/24}, uplink: {"eth0@x": dhcp, "eth0+x": dhcp, "12": dhcp}}
  b: {endpoint: 192.0.2.8, lan: {"br-lan": 10.2.0.0/24}, uplink: {"pppoe-wan!": dhcp}}
links: mesh
exits:
  - {for: b, via: a, otherwise: block, router: true}
  - {for: [10.2.0.64/26, 10.1.0.0/25], via: b}
`,
		"no uplinks": `network: a
overlay: 10.9.0.0/24
sites:
  a: {endpoint: 192.0.2.9, lan: {l: 10.1.0.0/24}}
  b: {lan: {l: 10.2.0.0/24}}
links: mesh
exits:
  - {for: b, via: a, otherwise: block, router: true}
`,
	}
	var many strings.Builder
	many.WriteString("network: a\noverlay: 10.9.0.0/24\nlinks: mesh\nsites:\n")
	for i := range 40 {
		fmt.Fprintf(&many, "  s%d: {address: 10.9.0.%d, endpoint: 192.0.2.%d, lan: {l: 10.%d.0.0/24}", i, i+1, i+1, i+10)
		if i == 0 {
			many.WriteString(", uplink: {")
			for u := range 16 {
				fmt.Fprintf(&many, "w%d: dhcp, ", u)
			}
			many.WriteString("}")
		}
		many.WriteString("}\n")
	}
	many.WriteString("exits:\n  - {for: [s1, s2], via: [s0, s3], otherwise: block}\n")
	networks["many of all"] = many.String()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		networks[path] = string(archive.Files[0].Data)
	}
	for name, text := range networks {
		t.Run(name, func(t *testing.T) {
			for _, r := range compile.All(parse(t, text), compile.Options{}) {
				file := filepath.Join(t.TempDir(), "rules")
				if err := os.WriteFile(file, []byte(r.Rulesets[0].Text), 0o600); err != nil {
					t.Fatal(err)
				}
				if out, err := exec.Command("nft", "-c", "-f", file).CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s\n%s", r.Site, err, out, r.Rulesets[0].Text)
				}
			}
		})
	}
}
