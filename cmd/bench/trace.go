package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"tombolo/internal/compile"
	"tombolo/internal/spec"
	"tombolo/internal/trace"
	"tombolo/internal/trace/learned"
)

// traceFile is a network of sites around five that are joined to each other, each other site to
// two of them, with a policy. What changes takes a link and a rule out.
func traceFile(sites int, changes bool) string {
	var b strings.Builder
	b.WriteString("network: traced\noverlay: 10.255.0.0/20\nsites:\n")
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

// traced is such a network, and its LANs.
func traced(sites int) (*trace.Network, []trace.Group, error) {
	n, ds := spec.Parse("traced.yaml", []byte(traceFile(sites, false)))
	if n == nil {
		return nil, nil, ds.Err()
	}
	var lans []trace.Group
	for i := range sites {
		a, name := netip.AddrFrom4([4]byte{10, byte(1 + i/250), byte(i % 250), 10}), fmt.Sprintf("s%d", i)
		lans = append(lans, trace.Group{Name: name, Place: trace.Place{Kind: trace.Host, Site: name, Addr: a}, Seen: a})
	}
	out, err := trace.New(learned.World{Routers: compile.All(n, compile.Options{})})
	return out, lans, err
}

// benchTrace measures the tracer: single flows and all pairs on one core, and the comparison of two
// files as the whole process.
func benchTrace(ctx context.Context, o options) ([]result, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	n, lans, err := traced(50)
	if err != nil {
		return nil, err
	}
	const flows = 100_000
	single, err := medianOf(o.runs, func() error {
		for i := range flows {
			from, to := lans[i%50], lans[i/50%50]
			n.Verdict(trace.Flow{From: from.Place, To: to.Seen, Protocol: trace.TCP, Port: 443})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if n, lans, err = traced(200); err != nil {
		return nil, err
	}
	pairs, err := medianOf(o.runs, func() error {
		n.Reach(lans, trace.Flow{Protocol: trace.TCP, Port: 22})
		return nil
	})
	if err != nil {
		return nil, err
	}
	diff, err := timeDiff(ctx, o)
	rate := flows / single.Seconds()
	return []result{
		{"flows traced over 50 sites with a policy, on one core", fmt.Sprintf("%.0f /s", rate), "100000 /s", rate >= 100_000},
		atMost("who reaches whom among 200 sites with a policy, on one core", pairs, 2*time.Second),
		atMost("tombolo diff of two such files, the whole process", diff, 4*time.Second),
	}, err
}

func timeDiff(ctx context.Context, o options) (time.Duration, error) {
	dir, err := os.MkdirTemp("", "tombolo-bench-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	paths := []string{filepath.Join(dir, "old.yaml"), filepath.Join(dir, "new.yaml")}
	for i, path := range paths {
		if err := os.WriteFile(path, []byte(traceFile(200, i == 1)), 0o600); err != nil {
			return 0, err
		}
	}
	return medianOf(o.runs, func() error {
		out, err := exec.CommandContext(ctx, o.tombolo, "diff", paths[0], paths[1]).CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 2 { // there are differences
			return nil
		}
		return fmt.Errorf("diff: %w: %s", err, out)
	})
}
