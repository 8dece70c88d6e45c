package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// netnsMarker, beside the labs' directories, says that a lab made /run/netns a mount, so
// the last lab takes that away.
const netnsMarker = ".netns"

// guard takes the lock under which labs change what they share: the directory of all
// labs. The error is fs.ErrNotExist when there is none.
func guard(base string) (*os.File, error) {
	for {
		f, err := os.OpenFile(base, os.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", base, err)
		}
		if isStill(base, f) {
			return f, nil
		}
		f.Close() // the last lab removed it while we waited
	}
}

// enterRun makes /run/netns what `ip netns add` makes it: a shared mount. Otherwise its
// next call would mount the directory over itself, our namespaces with it.
func enterRun(base string) error {
	g, err := guard(base)
	if err != nil {
		return err
	}
	defer g.Close()
	marker := filepath.Join(base, netnsMarker)
	if err := os.Mkdir(netnsDir, 0o755); err == nil {
		if err := os.WriteFile(marker, []byte("made\n"), 0o600); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	err = mount("", netnsDir, "", unix.MS_SHARED|unix.MS_REC, "")
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	if err := appendTo(marker, "mounted\n"); err != nil {
		return err
	}
	if err := mount(netnsDir, netnsDir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return mount("", netnsDir, "", unix.MS_SHARED|unix.MS_REC, "")
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// leaveRun takes away what labs share, if this was the last one.
func leaveRun(base string) error {
	g, err := guard(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer g.Close()
	entries, err := os.ReadDir(base)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			return nil // another lab
		}
	}
	marker := filepath.Join(base, netnsMarker)
	if made, err := os.ReadFile(marker); err == nil {
		if err := undoNetnsDir(string(made)); err != nil {
			return err
		}
		if err := os.Remove(marker); err != nil {
			return err
		}
	}
	// Somebody may have put something there, or begun a lab; then it stays.
	if err := os.Remove(base); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		return ignoreMissing(err)
	}
	return nil
}

// undoNetnsDir takes back what enterRun did, unless others have namespaces there.
func undoNetnsDir(made string) error {
	rest, err := os.ReadDir(netnsDir)
	if err != nil || len(rest) > 0 {
		return ignoreMissing(err)
	}
	if strings.Contains(made, "mounted\n") {
		if err := unix.Unmount(netnsDir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", netnsDir, err)
		}
	}
	if strings.Contains(made, "made\n") {
		return ignoreMissing(os.Remove(netnsDir))
	}
	return nil
}

// nameNetns gives a network namespace its name for `ip netns`.
func nameNetns(ns *os.File, name string) error {
	path := filepath.Join(netnsDir, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return mount(fmt.Sprintf("/proc/self/fd/%d", ns.Fd()), path, "", unix.MS_BIND, "")
}
