package spec_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"tombolo/internal/spec"
)

// golden calls run for each network file of testdata and compares what it returns with
// the part of the same name that ends in .out.
func golden(t testing.TB, run func(name, text string) string) {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		wanted := map[string]string{}
		for _, f := range archive.Files {
			wanted[f.Name] = string(f.Data)
		}
		var files []txtar.File
		for _, f := range archive.Files {
			name, is := strings.CutSuffix(f.Name, ".yaml")
			if !is {
				continue
			}
			got := run(f.Name, string(f.Data))
			files = append(files, f, txtar.File{Name: name + ".out", Data: []byte(got)})
			if d := cmp.Diff(wanted[name+".out"], got); d != "" && !*update {
				t.Errorf("%s, %s (-golden +got):\n%s", filepath.Base(path), f.Name, d)
			}
		}
		if archive.Files = files; *update {
			if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Every mistake is reported, all at once, in the words of the golden files.
func TestMistakesAreExplained(t *testing.T) {
	golden(t, func(name, text string) string {
		n, ds := spec.Parse(name, []byte(text))
		if (n == nil) != ds.HasErrors() {
			t.Errorf("%s: network %v, and these diagnostics:\n%s", name, n, ds)
		}
		return ds.String()
	})
}
