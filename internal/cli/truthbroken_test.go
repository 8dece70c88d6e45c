package cli_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// brokenTracers are rules of Linux that a tracer could have wrong: of a file of internal/trace, what
// stands there once, and what is put in its place.
var brokenTracers = []struct{ rule, file, old, broken string }{
	{"a rule passes over default routes (suppress_prefixlength)", "route.go", "found.Dst.Bits() < x.Suppress", "found.Dst.Bits() > 128"},
	{"a rule is about packets with a mark", "route.go", "r.mask != 0 && p.Mark&r.mask != r.mark", "false"},
	{"the lower metric goes first", "route.go", "cmp.Compare(a.Metric, b.Metric)", "cmp.Compare(b.Metric, a.Metric)"},
	{"a connection keeps its mark", "walk.go", "p.Mark, e.mark = x.Mark, c.Mark", "p.Mark = x.Mark"},
	{"masquerading takes the address of the device", "nat.go", "src = r.addressOn(out, w.next)", "src = p.Src"},
	{"what was translated is turned round in the answer", "nat.go", "to = e.original.reversed()", "to = p.tuple()"},
	{"a peer takes the sources among its AllowedIPs alone", "tunnel.go", "x == nil || x.to != r", "x != nil && x.to == nil"},
	{"providers drop sources that are not the line's", "internet.go", "return a.Addr() == p.Src })", "return true })"},
	{"what is larger than the MTU does not fit", "toobig.go", "p.Size <= mtu", "p.Size <= mtu+40"},
	{"routers do not learn over a link that carries nothing", "learned/links.go", "return !w.down(l.node.router.Site, at.node.router.Site)", "return true"},
	{"ICMP errors go to who sent what they are about", "toobig.go", "Dst: about.src", "Dst: about.dst"},
}

// caught holds tracers with one rule broken against what real packets did, which is in a folder. The whole
// one is right about all, and each of the broken ones is not.
func caught(t *testing.T, folder string) {
	t.Helper()
	if out, code := replay(t, folder, ""); code != 0 {
		t.Fatalf("the tracer as it is: %s", out)
	}
	for _, b := range brokenTracers {
		t.Run(b.rule, func(t *testing.T) {
			t.Parallel()
			path, err := filepath.Abs("../trace/" + b.file)
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(path)
			if err != nil || strings.Count(string(text), b.old) != 1 {
				t.Fatalf("%q stands %d times in %s: %v", b.old, strings.Count(string(text), b.old), b.file, err)
			}
			instead := filepath.Join(t.TempDir(), filepath.Base(b.file))
			if err := os.WriteFile(instead, []byte(strings.Replace(string(text), b.old, b.broken, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			overlay := filepath.Join(t.TempDir(), "overlay.json")
			names, err := json.Marshal(map[string]map[string]string{"Replace": {path: instead}})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(overlay, names, 0o600); err != nil {
				t.Fatal(err)
			}
			out, code := replay(t, folder, overlay)
			if code != 1 || !strings.Contains(out, "captured:") {
				t.Errorf("the truth test does not notice (exit code %d): %s", code, out)
			}
		})
	}
}

// replay runs internal/trace/truth/replay, perhaps with files replaced.
func replay(t *testing.T, folder, overlay string) (out string, code int) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "replay")
	build := exec.Command("go", "build", "-overlay", overlay, "-o", program, "tombolo/internal/trace/truth/replay")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
	text, err := exec.Command(program, folder).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(text), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text), 0
}
