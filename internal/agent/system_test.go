package agent

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// soon waits for a value; generously, since the machine may be busy.
func soon(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Errorf("nobody noticed: %s", what)
	}
}

func TestAFileIsWatchedHoweverItChanges(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "network.yaml")
	changed := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- watchFile(ctx, path, changed) }()
	time.Sleep(100 * time.Millisecond)
	write := func(name string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("network.yaml")
	soon(t, changed, "it was made")
	write("network.yaml")
	soon(t, changed, "it was written")
	write("new")
	if err := os.Rename(filepath.Join(dir, "new"), path); err != nil {
		t.Fatal(err)
	}
	soon(t, changed, "another was renamed to it")
	write("other")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	soon(t, changed, "it was removed")
	write("other")
	select {
	case <-changed:
		t.Error("another file's change was taken for its own")
	case <-time.After(3 * fileQuiet):
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := watchFile(t.Context(), "/nowhere/network.yaml", changed); err == nil {
		t.Error("a folder that is not there can be watched")
	}
}

func TestASupervisorIsToldHowTheServiceIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "100000")
	t.Setenv("WATCHDOG_PID", "")
	n := NewNotifier()
	if os.Getenv("NOTIFY_SOCKET") != "" {
		t.Error("a child would speak for the service")
	}
	heard := func() string {
		b := make([]byte, 100)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		k, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:k])
	}
	n.ready()
	if got := heard(); got != "READY=1" {
		t.Errorf("it said %q", got)
	}
	n.Reloading()
	if got := heard(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("it said %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.run(ctx, func(context.Context) error { return nil })
	}()
	if got := heard(); got != "WATCHDOG=1" {
		t.Errorf("it said %q", got)
	}
	cancel()
	<-done
	// An agent whose loops stand still says nothing.
	silent := func() bool {
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, err := c.Read(make([]byte, 100))
		return err != nil
	}
	for !silent() { // what was said before
	}
	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	n.run(ctx, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	if !silent() {
		t.Error("it gave a sign of life")
	}
	var none *Notifier
	none.ready() // nobody listens, and nothing breaks
	if NewNotifier() != nil {
		t.Error("without a supervisor there is a notifier")
	}
}

func TestPingHearsItsOwnReply(t *testing.T) {
	runtime.LockOSThread() // the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace: %v (the tests need root)", err)
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	up, err := unix.NewIfreq(lo.Name)
	if err != nil {
		t.Fatal(err)
	}
	up.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, up); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"127.0.0.1", "::1"} {
		if rtt, err := ping(t.Context(), netip.MustParseAddr(to), 10*time.Second); err != nil || rtt <= 0 {
			t.Errorf("ping %s: %v, %v", to, rtt, err)
		}
	}
	if _, err := ping(t.Context(), netip.MustParseAddr("192.0.2.1"), 100*time.Millisecond); err == nil {
		t.Error("a host to which there is no way answered")
	}
}
