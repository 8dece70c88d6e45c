package kernel

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"tombolo/internal/tunnel"
)

// The test binary is also the tunnel process.
const (
	roleSupervise = "kernel-test-supervise" // dir
	roleWork      = "kernel-test-work"
)

func TestMain(m *testing.M) {
	if len(os.Args) < 2 || os.Args[1] != roleSupervise && os.Args[1] != roleWork {
		os.Exit(m.Run())
	}
	o := tunnel.Options{Log: slog.New(slog.DiscardHandler), Grace: time.Second, Worker: []string{"/proc/self/exe", roleWork}}
	run := tunnel.Work
	if os.Args[1] == roleSupervise {
		o.Dir, run = os.Args[2], tunnel.Supervise
	}
	if err := run(context.Background(), o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func TestTunnelProcessCarriesTheInterfaces(t *testing.T) {
	dir := t.TempDir()
	client := tunnel.New(dir, []string{"/proc/self/exe", roleSupervise, dir})
	s := newSite(t, forceEmbedded, func(o *Options) { o.Embedded = client })
	t.Cleanup(func() {
		if err := client.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	apply(t, s.k, s.want)
	if d := diffRouters(normal(s.want), normal(read(t, s.k, s.want))); d != "" {
		t.Errorf("wanted, read: %s", d)
	}
	if out := sh(t, "wg show "+devName(0)); !strings.Contains(out, "listening port: 51821") {
		t.Errorf("wg shows %s", out)
	}
	// One interface goes, the other stays as it is.
	s.want.Interfaces[0].MTU = 1300
	s.want.Interfaces = s.want.Interfaces[:1]
	s.want.Routes = nil
	apply(t, s.k, s.want)
	left, err := client.List(context.Background())
	if err != nil || len(left) != 1 || left[0].Name != devName(0) {
		t.Errorf("the tunnel process has %v, %v", left, err)
	}
	apply(t, s.k, empty())
	if out := sh(t, "ip link show"); strings.Contains(out, "kt") {
		t.Errorf("left %s", out)
	}
}
