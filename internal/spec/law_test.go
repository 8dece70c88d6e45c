package spec_test

import (
	"fmt"
	"math/rand"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tombolo/internal/spec"
)

// site draws the lines of a site; its address is given or hashed.
func site(t *rapid.T, i int) (name, text string) {
	name = fmt.Sprintf("%s%d", rapid.StringMatching("[a-z][a-z-]{0,14}").Draw(t, "name"), i)
	text = fmt.Sprintf("  %s:\n    endpoint: e%d.example.net\n", name, i)
	if rapid.Bool().Draw(t, "given") {
		text += fmt.Sprintf("    address: 10.9.0.%d\n", i+1)
	}
	if rapid.Bool().Draw(t, "static") {
		text += "    routing: static\n"
	}
	if rapid.Bool().Draw(t, "port") {
		text += fmt.Sprintf("    port: %d\n", rapid.IntRange(1, 30000).Draw(t, "base"))
	}
	return name, text
}

// Adding, removing or reordering other sites changes nothing of a site: not its addresses,
// not the ports of its links, not the names of interfaces.
func TestOtherSitesNeverRenumberASite(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var names, texts []string
		for i := range rapid.IntRange(2, 12).Draw(t, "sites") {
			name, text := site(t, i)
			names, texts = append(names, name), append(texts, text)
		}
		// Base ports of the network leave room for a whole /18 of numbers.
		const head = "network: n\noverlay: 10.9.0.0/18\nsettings: {port: 20000}\nsites:\n"
		before, _ := spec.Parse("n.yaml", []byte(head+strings.Join(texts, "")))
		order := rand.New(rand.NewSource(rapid.Int64().Draw(t, "order"))).Perm(len(names))
		keep := order[:rapid.IntRange(1, len(order)).Draw(t, "kept")]
		var rest strings.Builder
		for _, i := range keep {
			rest.WriteString(texts[i])
		}
		after, ds := spec.Parse("n.yaml", []byte(head+rest.String()))
		if before == nil {
			return // two hashes meet: an error, which renumbers nobody
		}
		if after == nil {
			t.Fatalf("with fewer sites: %s", ds)
		}
		for _, i := range keep {
			same(t, before, after, names[i])
			for _, j := range keep {
				if i != j {
					samePort(t, before, after, names[i], names[j])
				}
			}
		}
	})
}

func same(t *rapid.T, before, after *spec.Network, name string) {
	i, _ := before.Site(name)
	j, ok := after.Site(name)
	x, y := before.Sites[i], after.Sites[j]
	if !ok || x.Address != y.Address || x.Address6 != y.Address6 || x.Index != y.Index || x.Hashed != y.Hashed || x.BasePort != y.BasePort {
		t.Fatalf("site %s was %+v and is %+v", name, x, y)
	}
	if !before.Overlay.Contains(x.Address) || !before.Overlay6.Contains(x.Address6) || spec.IndexOf(before.Overlay, x.Address) != x.Index || spec.AddressAt(before.Overlay6, x.Index) != x.Address6 {
		t.Fatalf("addresses of %+v", x)
	}
}

func samePort(t *rapid.T, before, after *spec.Network, a, b string) {
	port := func(n *spec.Network) int {
		i, _ := n.Site(a)
		j, _ := n.Site(b)
		if !n.Links.Has(i, j) || !n.Links.Has(j, i) {
			t.Fatalf("%s and %s are not joined", a, b)
		}
		return n.Port(i, j)
	}
	if p, q := port(before), port(after); p != q || p < 1 || p > 65535 {
		t.Fatalf("the link of %s to %s had port %d and has %d", a, b, p, q)
	}
}

// The names of interfaces fit the kernel, and depend on the peer's name alone.
func TestInterfaceNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?").Draw(t, "name")
		got := spec.InterfaceName(name)
		if len(got) > 15 || !strings.HasPrefix(got, "wg-") || got != spec.InterfaceName(name) {
			t.Fatalf("%s is called %s", name, got)
		}
	})
}

// What CleanName makes of any text is a name, or nothing.
func TestCleanNamesAreNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := spec.CleanName(rapid.String().Draw(t, "text"))
		if name == "" {
			return
		}
		text := spec.Starter(name, netip.MustParsePrefix("fd5e:1f0c:8a34::/48"))
		if n, ds := spec.Parse("n.yaml", []byte(text)); n == nil || n.Name != name {
			t.Fatalf("%q: %s", name, ds)
		}
	})
}

// FuzzParse holds the promises that Parse makes for any bytes: it returns, a network or
// errors and never both, and places that are in the file.
func FuzzParse(f *testing.F) {
	golden(f, func(name, text string) string {
		f.Add([]byte(text))
		_, ds := spec.Parse(name, []byte(text))
		return ds.String()
	})
	f.Add([]byte(spec.Starter("n", netip.MustParsePrefix("fd5e:1f0c:8a34::/48"))))
	f.Fuzz(func(t *testing.T, text []byte) {
		start := time.Now()
		n, ds := spec.Parse("n.yaml", text)
		if took := time.Since(start); took > 10*time.Second {
			t.Fatalf("took %v", took)
		}
		if (n == nil) != ds.HasErrors() || (ds.Err() == nil) != (n != nil) {
			t.Fatalf("network %v, diagnostics\n%s", n, ds)
		}
		last := 1
		for _, end := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} {
			last += strings.Count(string(text), end)
		}
		for i, d := range ds {
			if d.Line < 0 || d.Line > last || d.Line > 0 && (d.Column < 1 || d.Column > len(text)+1) || d.Message == "" || d.Code == "" || d.File != "n.yaml" {
				t.Fatalf("%+v in a file of %d lines", d, last)
			}
			if d.Code != "more" && i > 0 && d.Line < ds[i-1].Line {
				t.Fatalf("line %d after line %d", d.Line, ds[i-1].Line)
			}
		}
		_ = ds.String()
		if n == nil {
			return
		}
		for i := range n.Sites {
			for _, j := range n.Links.Neighbours(i) {
				if p := n.Port(i, j); p < 1 || p > 65535 {
					t.Fatalf("port %d", p)
				}
			}
		}
		n.MissingKeys(-1, text)
	})
}

// Files in which words and lines of other files stand in each other's place reach the
// checks that random bytes do not.
func TestMixedUpFilesAreParsedOrRefused(t *testing.T) {
	var files [][]string
	var words []string
	golden(t, func(name, text string) string {
		files = append(files, strings.SplitAfter(text, "\n"))
		words = append(words, strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \n{}[],", r) })...)
		_, ds := spec.Parse(name, []byte(text))
		return ds.String()
	})
	for _, text := range examples(t) {
		files = append(files, strings.SplitAfter(text, "\n"))
	}
	rapid.Check(t, func(t *rapid.T) {
		lines := append([]string(nil), rapid.SampledFrom(files).Draw(t, "file")...)
		for range rapid.IntRange(1, 6).Draw(t, "changes") {
			i := rapid.IntRange(0, len(lines)-1).Draw(t, "line")
			switch rapid.IntRange(0, 3).Draw(t, "change") {
			case 0:
				lines[i] = rapid.SampledFrom(rapid.SampledFrom(files).Draw(t, "other")).Draw(t, "by")
			case 1:
				lines[i] = ""
			default:
				old := strings.FieldsFunc(lines[i], func(r rune) bool { return strings.ContainsRune(" \n{}[],", r) })
				if len(old) > 0 {
					lines[i] = strings.Replace(lines[i], rapid.SampledFrom(old).Draw(t, "word"), rapid.SampledFrom(words).Draw(t, "by"), 1)
				}
			}
		}
		text := strings.Join(lines, "")
		n, ds := spec.Parse("n.yaml", []byte(text))
		if (n == nil) != ds.HasErrors() {
			t.Fatalf("network %v, diagnostics\n%s\nof\n%s", n, ds, text)
		}
		if n == nil {
			return
		}
		for i := range n.Sites {
			for j := range n.Sites {
				if i != j && n.Links.Has(i, j) && !n.Links.Options(i, j).NoTunnel {
					if p := n.Port(i, j); p < 1 || p > 65535 {
						t.Fatalf("port %d of\n%s", p, text)
					}
				}
			}
		}
	})
}
