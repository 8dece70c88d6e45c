// Package space gives tests a network namespace of their own. Nothing else imports it.
package space

import (
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Space is a network namespace, and a thread in it. It ends with its test.
type Space struct {
	T      testing.TB
	Thread int // its id, by which `ip link set netns` finds the namespace
	do     chan<- func()
}

// New makes a namespace, whose loopback is up, on a thread of its own, which never returns
// to the pool.
func New(t testing.TB) *Space {
	t.Helper()
	do, ready, ended := make(chan func()), make(chan error), make(chan struct{})
	s := &Space{T: t, do: do}
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		s.Thread = unix.Gettid()
		ready <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range do {
			f()
		}
	}()
	t.Cleanup(func() { close(do); <-ended })
	if err := <-ready; err != nil {
		t.Fatalf("make a network namespace: %v (the tests need root)", err)
	}
	s.Sh("ip link set lo up")
	return s
}

// In runs f in the namespace.
func (s *Space) In(f func()) {
	done := make(chan struct{})
	s.do <- func() { defer close(done); f() }
	<-done
}

// Sh runs shell commands in the namespace and returns what they wrote.
func (s *Space) Sh(line string) string {
	s.T.Helper()
	var out []byte
	var err error
	s.In(func() { out, err = exec.Command("sh", "-ec", line).CombinedOutput() })
	if err != nil {
		s.T.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// Tun makes a TUN or TAP device (kind is IFF_TUN or IFF_TAP) and returns its other side, of
// bare packets or frames.
func (s *Space) Tun(name string, kind uint16) *os.File {
	s.T.Helper()
	var file *os.File
	var err error
	s.In(func() {
		var fd int
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
			return
		}
		var request *unix.Ifreq
		if request, err = unix.NewIfreq(name); err != nil {
			return
		}
		request.SetUint16(kind | unix.IFF_NO_PI)
		if err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err == nil {
			file = os.NewFile(uintptr(fd), name) // not before: the poller would see an error
		}
	})
	if err != nil {
		s.T.Fatalf("make %s: %v", name, err)
	}
	s.T.Cleanup(func() { _ = file.Close() })
	return file
}
