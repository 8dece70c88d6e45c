package cli

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tombolo/internal/spec"
	"tombolo/internal/state"
	"tombolo/internal/trace"
)

var update = flag.Bool("update", false, "write the pages of docs/troubles anew")

const troublesDir = "../../docs/troubles"

// TestTroublesAreWhatTheTracerSays holds the pages against traces of the networks that they are of.
func TestTroublesAreWhatTheTracerSays(t *testing.T) {
	index := "# Troubles\n\nWhat goes wrong in networks that are made by hand, and why: each page has such a network, the trace of a\nflow that is lost in it, what mends it, and the trace of the same flow in a network of ours.\nThey are from the notes of one who runs such networks.\n\n"
	for _, x := range troubles {
		t.Run(x.page, func(t *testing.T) { page(t, x.page, x.write(t)) })
		index += fmt.Sprintf("- [%s](%s.md)\n", x.title, x.page)
	}
	page(t, "README", index+"\nThe pages are written by a test (`go test ./internal/cli -run Troubles -update`) from\n[home.yaml](home.yaml) and [relay.yaml](../../examples/relay.yaml), and it fails where one is not what the\ntracer says. How to read a trace: [trace.md](../trace.md).\n")
}

func page(t *testing.T, name, want string) {
	t.Helper()
	path := filepath.Join(troublesDir, name+".md")
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(path); err != nil || string(have) != want {
		t.Errorf("%s is not what the tracer says (%v): go test ./internal/cli -run Troubles -update", path, err)
	}
}

func (x trouble) write(t *testing.T) string {
	path := filepath.Join(troublesDir, x.file)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n, diagnostics := spec.Parse(path, text)
	if n == nil {
		t.Fatal(diagnostics)
	}
	var look *state.Router
	ill, lost := x.follow(t, n, x.size[0], func(routers []state.Router) {
		made := byHand(routers)
		x.ill(made)
		look = made[x.look]
	})
	mended, got := x.follow(t, n, x.size[1], func([]state.Router) {})
	if x.mend != nil {
		if _, v := x.follow(t, n, 0, func(routers []state.Router) { made := byHand(routers); x.ill(made); x.mend(made) }); !v.Delivered {
			t.Errorf("mended by hand it is %+v", v)
		}
	}
	if lost.Delivered || !got.Delivered {
		t.Errorf("in the ill network it is %+v, and in the mended one %+v", lost, got)
	}
	question := strings.Join(x.flow, " ")
	if x.size[0] > 0 {
		question += fmt.Sprintf(" --size %d", x.size[0])
	}
	return fmt.Sprintf(`# %s

%s

## The ill network

Made by hand of the sites in [%s](%s). %s holds, beside the routes of its own devices:

%s
## Its trace

`+"`trace … %s`"+`:

%s
## What mends it

%s

## In a network of ours

%s

`+"`tombolo trace %s %s`"+`:

%s`, x.title, x.happens, filepath.Base(x.file), x.file, x.look, indented(holds(look)), question, indented(ill),
		x.hand, x.ours, filepath.Base(x.file), strings.Replace(question, fmt.Sprint(x.size[0]), fmt.Sprint(x.size[1]), 1), indented(mended))
}

// follow traces the flow in a network whose routers were changed.
func (x trouble) follow(t *testing.T, n *spec.Network, size int, change func([]state.Router)) (string, trace.Verdict) {
	t.Helper()
	w, err := worldOf(n, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	change(w.Routers)
	net, err := trace.New(w)
	if err != nil {
		t.Fatal(err)
	}
	flow, err := flowOf(n, net, x.flow)
	if err != nil && flow.To.IsValid() && x.flow[0] == "outside" {
		flow.From, err = trace.Place{Kind: trace.Internet}, nil // to the router itself, which is not published
	}
	if err != nil {
		t.Fatal(err)
	}
	flow.Size = size
	out := net.Trace(flow)
	var b bytes.Buffer
	if err := (&app{out: &b}).printTrace(flow, out, nil, nil, false); err != nil {
		t.Fatal(err)
	}
	return b.String(), out.Verdict
}

// holds are a router's tables as `ip` prints them.
func holds(r *state.Router) string {
	var b strings.Builder
	for _, x := range r.Rules {
		fmt.Fprintf(&b, "%d: from %s lookup %d\n", x.Priority, x.From.Addr(), x.Table)
	}
	for _, x := range r.Routes {
		fmt.Fprintf(&b, "%s", x.Dst)
		if x.Gateway.IsValid() {
			fmt.Fprintf(&b, " via %s", x.Gateway)
		}
		fmt.Fprintf(&b, " dev %s", x.Device)
		if x.Table != mainTable {
			fmt.Fprintf(&b, " table %d", x.Table)
		}
		fmt.Fprintln(&b)
	}
	for _, f := range r.Interfaces {
		if f.WireGuard == nil {
			continue
		}
		for _, p := range f.WireGuard.Peers {
			var all []string
			for _, a := range p.AllowedIPs {
				all = append(all, a.String())
			}
			fmt.Fprintf(&b, "%s: mtu %d, peer %s, allowed ips %s\n", f.Name, f.MTU, p.Name, strings.Join(all, ", "))
		}
	}
	return b.String() + handNAT
}

func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line != "\n" {
			b.WriteString("    ")
		}
		b.WriteString(strings.ReplaceAll(line, "\t", "    "))
	}
	return b.String()
}
