package spec_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tombolo/internal/spec"
)

func TestExamples(t *testing.T) {
	files, _ := filepath.Glob("../../examples/*.yaml")
	for _, f := range files {
		if strings.HasSuffix(f, ".lab.yaml") {
			continue
		}
		text, _ := os.ReadFile(f)
		n, ds := spec.Parse(filepath.Base(f), text)
		fmt.Println(ds.String())
		if n == nil {
			t.Error(f)
		}
	}
}

func large(n int) []byte {
	var b strings.Builder
	b.WriteString("network: big\noverlay: 10.0.0.0/16\n\nsites:\n")
	for i := range n {
		fmt.Fprintf(&b, "  site%04d:\n    address: 10.0.%d.%d\n    endpoint: site%04d.example.net\n    key: %s\n    lan: {br-lan: 10.%d.%d.0/24}\n    uplink: {eth0: dhcp}\n", i, i/250, i%250+1, i, key(i), i/250+10, i%250)
	}
	b.WriteString("links: mesh\n")
	return []byte(b.String())
}

func key(i int) string {
	return fmt.Sprintf("%04dA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", i)[:44]
}

func BenchmarkParse1000(b *testing.B) {
	text := large(1000)
	b.ReportAllocs()
	for b.Loop() {
		if n, ds := spec.Parse("big.yaml", text); n == nil {
			b.Fatal(ds)
		}
	}
}
