package compile_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"tombolo/internal/compile"
	"tombolo/internal/key"
	"tombolo/internal/plan"
	"tombolo/internal/spec"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Each file of testdata is a network file and, for some of its sites, the commands that
// make what the site's router must hold: a golden test that reads like a shell session.
func TestRouterIsWhatTheGoldenFileSays(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			n := parse(t, string(archive.Files[0].Data))
			for i := range archive.Files[1:] {
				f := &archive.Files[i+1]
				r, err := compile.Router(n, f.Name, compile.Options{})
				if err != nil {
					t.Fatal(err)
				}
				got := plan.Script(r)
				if *update {
					f.Data = []byte(got)
				} else if d := cmp.Diff(string(f.Data), got); d != "" {
					t.Errorf("%s (-golden +got):\n%s", f.Name, d)
				}
			}
			if *update {
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// The examples are in every other test of the house; here only that each site compiles,
// and that two compilations give the same bytes.
func TestExamplesCompileTheSameTwice(t *testing.T) {
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, ".lab.yaml") {
			continue
		}
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		n := parse(t, string(source))
		first, second := compile.All(n, compile.Options{}), compile.All(n, compile.Options{})
		for i := range first {
			if d := cmp.Diff(string(first[i].Encode()), string(second[i].Encode())); d != "" {
				t.Errorf("%s, site %s:\n%s", path, first[i].Site, d)
			}
		}
	}
}

func TestRouterTakesKeysFromTheOptions(t *testing.T) {
	n := parse(t, "network: n\noverlay: 10.9.0.0/24\nsites:\n  a: {endpoint: 192.0.2.1}\n  b:\n")
	k := key.Public{1, 2, 3}
	r, err := compile.Router(n, "a", compile.Options{Keys: map[string]key.Public{"b": k}})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Interfaces[0].WireGuard.Peers[0].PublicKey; got != k {
		t.Errorf("peer's key is %q, want %q", got, k)
	}
}

func TestRouterFollowsTheMachinesUplinkMTU(t *testing.T) {
	n := parse(t, "network: n\noverlay: 10.9.0.0/24\nsites:\n  a: {endpoint: 192.0.2.1, uplink: {ppp0: dhcp}}\n  b:\n")
	r, err := compile.Router(n, "a", compile.Options{UplinkMTU: map[string]int{"ppp0": 1492}})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Interfaces[0].MTU; got != 1492-60 {
		t.Errorf("MTU is %d, want 1432: 1492 less 60 over an IPv4 address", got)
	}
}

func parse(t testing.TB, source string) *spec.Network {
	t.Helper()
	n, ds := spec.Parse("network.yaml", []byte(source))
	if n == nil {
		t.Fatalf("%v\n%s", ds, source)
	}
	return n
}
