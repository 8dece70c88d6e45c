package draw

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tombolo/internal/spec"
)

func TestExamplesLookAsBefore(t *testing.T) {
	for _, name := range exampleNames {
		n := example(name)
		golden(t, name+".svg", SVG(n))
		golden(t, name+".dot", Dot(n))
		golden(t, name+".mmd", Mermaid(n))
	}
	golden(t, "mesh12.mmd", Mermaid(busy(meshOf(12))))
	golden(t, "hostile.mmd", Mermaid(hostile()))
	golden(t, "hostile.dot", Dot(hostile()))
}

// golden compares got with a file in testdata, or writes it with -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; write anew with -update):\n%s", file, diff)
	}
}

func TestGraphvizAcceptsDot(t *testing.T) {
	all := pictures()
	for _, name := range []string{
		"home", "dorm", "overlap", "relay", "two-uplinks", "hostile", "none", "one",
		"mesh60", "star60", "chain60", "cycle30", "random60", "groups60", "busy-mesh12", "busy-random30",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command("dot", "-Tsvg")
			cmd.Stdin = bytes.NewReader(Dot(all[name]))
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			svg, err := cmd.Output()
			if err != nil || strings.Contains(stderr.String(), "rror") {
				t.Fatalf("dot: %v\n%s", err, stderr.String())
			}
			for i := range all[name].Sites {
				if want := "<title>" + siteID(i) + "</title>"; !strings.Contains(string(svg), want) {
					t.Errorf("Graphviz did not draw site %s", all[name].Sites[i].Name)
				}
			}
		})
	}
}

// A large mesh must not become more edges than Mermaid accepts (500 by default).
func TestMermaidKeepsMeshesSmall(t *testing.T) {
	for name, n := range map[string]*spec.Network{"mesh60": meshOf(60), "groups60": groupsOf(60), "star60": starOf(60)} {
		edges := strings.Count(string(Mermaid(n)), " --- ") + strings.Count(string(Mermaid(n)), " -.- ")
		if edges < 59 || edges > 100 {
			t.Errorf("%s: %d edges", name, edges)
		}
	}
}

func TestMermaidText(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"op1", "op1"},
		{"op1.example.net:51820", "op1.example.net:51820"},
		{"192.168.36.0/24 → x", "192.168.36.0/24 → x"},
		{`a"b`, "a#34;b"},
		{"a]b|c", "a#93;b#124;c"},
		{"<b>&amp;", "#60;b#62;#38;amp#59;"},
		{"#34;", "#35;34#59;"},
		{"%%{x}", "#37;#37;#123;x#125;"},
		{"`md`", "#96;md#96;"},
		{"style:x", "style#58;x"},
		{"a\nb", "a\uFFFDb"},
		{"路由器", "路由器"},
	} {
		if got := mermaidText(c.in); got != c.want {
			t.Errorf("mermaidText(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestDotQuote(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"op1", `"op1"`},
		{"a\nb", `"a\nb"`},
		{`a"b\N`, `"a\"b\\N"`},
		{"a&lt;b", `"a&amp;lt;b"`},
		{"a\x00\xff", "\"a\uFFFD\uFFFD\""},
	} {
		if got := dotQuote(c.in); got != c.want {
			t.Errorf("dotQuote(%q) = %s, want %s", c.in, got, c.want)
		}
	}
}
