package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespaces are one node's, held by open files.
type namespaces struct {
	net, mnt, uts *os.File
}

// close lets go of them; those that nothing else holds are gone then.
func (n *namespaces) close() {
	for _, f := range []*os.File{n.net, n.mnt, n.uts} {
		if f != nil {
			f.Close() // it was only read
		}
	}
}

// enter moves the calling thread into the namespaces. It must be locked, and end.
func (n *namespaces) enter() error {
	// A thread that shares its root and working directory with others cannot change its
	// mount namespace (setns(2)).
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare file system attributes: %w", err)
	}
	for _, ns := range []struct {
		file *os.File
		kind int
		name string
	}{
		{n.net, unix.CLONE_NEWNET, "network"},
		{n.uts, unix.CLONE_NEWUTS, "UTS"},
		{n.mnt, unix.CLONE_NEWNS, "mount"},
	} {
		if ns.file == nil {
			continue
		}
		if err := unix.Setns(int(ns.file.Fd()), ns.kind); err != nil {
			return fmt.Errorf("enter %s namespace: %w", ns.name, err)
		}
	}
	return nil
}

// do calls f on a thread inside the namespaces.
func (n *namespaces) do(f func() error) error {
	return onThread(func() error {
		if err := n.enter(); err != nil {
			return err
		}
		return f()
	})
}

// onThread calls f on a thread of its own, which then ends: whatever namespaces f
// entered, no other goroutine comes to run in them.
func onThread(f func() error) error {
	done, started := make(chan error, 1), make(chan struct{})
	go runOnThread(f, done, started)
	return <-done
}

func runOnThread(f func() error, done chan<- error, started chan<- struct{}) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	if unix.Gettid() == unix.Getpid() {
		// Only the main thread never ends, and /proc/PID shows its namespaces as the
		// process's: whoever takes down the lab would take us for a part of it. While we
		// hold it, another goroutine has another thread.
		next := make(chan struct{})
		go runOnThread(f, done, next)
		<-next
		runtime.UnlockOSThread()
		close(started)
		return
	}
	close(started)
	done <- f()
}

// current opens the calling thread's namespaces.
func current() (*namespaces, error) {
	n := &namespaces{}
	var mistakes []error
	for _, ns := range []struct {
		file **os.File
		name string
	}{{&n.net, "net"}, {&n.mnt, "mnt"}, {&n.uts, "uts"}} {
		f, err := os.Open("/proc/thread-self/ns/" + ns.name)
		*ns.file = f
		mistakes = append(mistakes, err)
	}
	if err := errors.Join(mistakes...); err != nil {
		n.close()
		return nil, fmt.Errorf("open namespaces: %w", err)
	}
	return n, nil
}
