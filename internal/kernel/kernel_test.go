package kernel

import (
	"bytes"
	"context"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tombolo/internal/key"
	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// namespace moves the test into a network namespace of its own. The thread never comes
// back: it ends with the test's goroutine.
func namespace(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace: %v (the tests need root)", err)
	}
	// Without duplicate address detection nothing changes by itself later.
	sh(t, "ip link set lo up; sysctl -q -w net.ipv6.conf.default.accept_dad=0")
}

// sh runs a command line and returns what it prints.
func sh(t testing.TB, line string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// nftLoad gives text to nft.
func nftLoad(t testing.TB, text string) {
	t.Helper()
	c := exec.Command("nft", "-f", "-")
	c.Stdin = strings.NewReader(text)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
}

// open opens a Kernel with folders of its own.
func open(t testing.TB, change ...func(*Options)) *Kernel {
	t.Helper()
	o := Options{Owner: state.DefaultOwner(), RunDir: t.TempDir() + "/run", Store: key.Store{Dir: t.TempDir()}}
	for _, c := range change {
		c(&o)
	}
	k, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

func read(t testing.TB, k *Kernel, want state.Router) state.Router {
	t.Helper()
	have, err := k.Read(context.Background(), want)
	if err != nil {
		t.Fatal(err)
	}
	return have
}

// apply makes the router what want says, and checks that nothing is left to do.
func apply(t testing.TB, k *Kernel, want state.Router) {
	t.Helper()
	p := plan.Diff(read(t, k, want), want)
	if len(p.Conflicts) > 0 {
		t.Fatalf("conflicts: %v", p.Conflicts)
	}
	if err := k.Apply(context.Background(), p.Ops); err != nil {
		t.Fatal(err)
	}
	wantNothing(t, k, want)
}

func wantNothing(t testing.TB, k *Kernel, want state.Router) {
	t.Helper()
	if p := plan.Diff(read(t, k, want), want); !p.Empty() {
		t.Errorf("there is still something to do:\n%s", planText(p))
	}
}

func planText(p plan.Plan) string {
	var b bytes.Buffer
	for _, op := range p.Ops {
		b.WriteString(op.String() + "\n")
	}
	for _, c := range p.Conflicts {
		b.WriteString(c.Reason + "\n")
	}
	return b.String()
}

func prefixOf(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addrOf(s string) netip.Addr     { return netip.MustParseAddr(s) }

func empty() state.Router { return state.Router{Version: state.Version, Owner: state.DefaultOwner()} }

func TestCallFromAnotherNamespacePanics(t *testing.T) {
	namespace(t)
	k := open(t)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("Read did not panic in another namespace")
		}
	}()
	_, _ = k.Read(context.Background(), empty())
}
