package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"tombolo/internal/compile"
	"tombolo/internal/spec"
)

// mesh writes the network file of a full mesh of sites, each with an endpoint, an uplink
// in a subnet of its own and a LAN.
func mesh(sites int, routing string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "network: big\noverlay: 10.200.0.0/16\nrouting: %s\nlinks: mesh\nsites:\n", routing)
	for i := range sites {
		hi, lo := (i+1)>>8, (i+1)&255
		fmt.Fprintf(&b, "  site%d:\n    address: 10.200.%d.%d\n    endpoint: 198.%d.%d.2\n    lan: {br-lan: 10.%d.%d.0/24}\n    uplink: {eth0: dhcp}\n",
			i, hi, lo, 18+hi, lo, i>>8, i&255)
	}
	return b.String()
}

func parse(sites int) (*spec.Network, error) {
	n, ds := spec.Parse("big.yaml", []byte(mesh(sites, "babel")))
	if n == nil {
		return nil, ds.Err()
	}
	return n, nil
}

func benchCompile(_ context.Context, o options) ([]result, error) {
	n, err := parse(300)
	if err != nil {
		return nil, err
	}
	var heap uint64
	all, err := medianOf(o.runs, func() error {
		runtime.GC()
		routers := compile.All(n, compile.Options{})
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		heap = max(heap, m.Sys)
		runtime.KeepAlive(routers)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if n, err = parse(1000); err != nil {
		return nil, err
	}
	one, err := medianOf(o.runs, func() error {
		_, err := compile.Router(n, "site500", compile.Options{})
		return err
	})
	return []result{
		atMost("compile a 300-site mesh, every router", all, 2*time.Second),
		{"memory for that, from the system", fmt.Sprintf("%d MB", heap>>20), "under 1 GB", heap < 1<<30},
		atMost("compile one router of a 1,000-site mesh", one, 100*time.Millisecond),
	}, err
}

func benchCheck(ctx context.Context, o options) ([]result, error) {
	dir, err := os.MkdirTemp("", "tombolo-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(file, []byte(mesh(1000, "babel")), 0o600); err != nil {
		return nil, err
	}
	t, err := medianOf(o.runs, func() error {
		out, err := exec.CommandContext(ctx, o.tombolo, "check", file).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	return []result{atMost("check a 1,000-site file, the whole process", t, 300*time.Millisecond)}, err
}

// benchSize builds the router binaries and weighs them.
func benchSize(ctx context.Context, _ options) ([]result, error) {
	dir, err := os.MkdirTemp("", "tombolo-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var out []result
	for _, arch := range []string{"mipsle", "arm"} {
		path := filepath.Join(dir, arch)
		c := exec.CommandContext(ctx, "go", "build", "-tags", "router", "-trimpath", "-ldflags", "-s -w", "-o", path, "./cmd/tombolo")
		c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOMIPS=softfloat")
		if text, err := c.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build for %s: %w: %s", arch, err, text)
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		mb := float64(info.Size()) / 1e6
		out = append(out, result{"binary for " + arch + ", -s -w", fmt.Sprintf("%.1f MB", mb), "under 13 MB", mb < 13})
	}
	return out, nil
}
