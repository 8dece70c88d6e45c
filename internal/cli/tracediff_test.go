package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// manySites is a file of sites around five that are joined to each other, with a policy; what
// changes takes a link and a rule out.
func manySites(sites int, changes bool) string {
	var b strings.Builder
	b.WriteString("network: many\noverlay: 10.255.0.0/20\nsites:\n")
	for i := range sites {
		fmt.Fprintf(&b, "  s%d: {address: 10.255.%d.%d, endpoint: 198.18.%d.%d, lan: {lan0: 10.%d.%d.0/24}, uplink: {eth0: dhcp}}\n",
			i, i/250, i%250+1, i/250, i%250+1, 1+i/250, i%250)
	}
	var links []string
	for i := range sites {
		for k := range min(i, 5) {
			if gone := changes && k == 3 && i == 18; !gone && (i < 5 || k == i%5 || k == (i+1)%5) {
				links = append(links, fmt.Sprintf("[s%d, s%d]", k, i))
			}
		}
	}
	fmt.Fprintf(&b, "links: [%s]\npublish:\n  - {at: s0, port: 8443/tcp, to: 10.1.1.10:443}\npolicy:\n  default: deny\n  rules:\n", strings.Join(links, ", "))
	for i := 0; i+3 < sites; i += 3 {
		if !changes || i != 30 {
			fmt.Fprintf(&b, "    - {from: [s%d, s%d], to: s%d, deny: [22/tcp, icmp]}\n", i, i+1, i+2)
		}
	}
	b.WriteString("    - {from: any, to: any, allow: [22/tcp, 443/tcp, icmp]}\n    - {from: any, to: internet, allow: all}\n")
	return b.String()
}

// BenchmarkDiff is two files of 200 sites.
func BenchmarkDiff(b *testing.B) {
	paths := []string{filepath.Join(b.TempDir(), "old.yaml"), filepath.Join(b.TempDir(), "new.yaml")}
	for i, path := range paths {
		if err := os.WriteFile(path, []byte(manySites(200, i == 1)), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		c := (&app{out: io.Discard, err: io.Discard}).diffCommand()
		if err := c.RunE(c, paths); err != exitCode(exitChanges) { //nolint:errorlint // it is none that is wrapped
			b.Fatal(err)
		}
	}
}
