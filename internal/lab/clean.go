package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// How long processes of a lab have to end by themselves, and to be gone.
const (
	politeTime = 300 * time.Millisecond
	killTime   = 5 * time.Second
)

// clean takes away all that there is of the lab in a directory, and in the end the
// directory. The caller holds its lock, and the lab's process is dead or is the caller.
// It can be repeated after an error.
func clean(ctx context.Context, dir string) error {
	r, err := readRecord(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := endProcesses(ctx, dir, r); err != nil {
		return err
	}
	var mistakes []error
	for _, n := range r.visible() {
		mistakes = append(mistakes, removeNetns(n.Namespace))
	}
	if err := errors.Join(mistakes...); err != nil {
		return err
	}
	if err := empty(dir); err != nil {
		return err
	}
	// Between these two somebody else may take the name. Then the directory is theirs.
	if err := ignoreMissing(os.Remove(filepath.Join(dir, lockFile))); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		return ignoreMissing(err)
	}
	return leaveRun(filepath.Dir(dir))
}

// empty removes what is in a directory but the lock, so that others keep out until the
// end.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != lockFile {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// endProcesses ends every process that runs inside the lab.
func endProcesses(ctx context.Context, dir string, r record) error {
	start := time.Now()
	for {
		pids, err := inside(dir, r)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return nil
		}
		signal := unix.SIGTERM
		switch waited := time.Since(start); {
		case waited > killTime:
			return fmt.Errorf("end the processes of lab %q: %v are still there", r.Name, pids)
		case waited > politeTime:
			signal = unix.SIGKILL
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("end process %d of lab %q: %w", pid, r.Name, err)
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// inside lists the processes that run inside a lab: its own, those that see its hosts file
// as /etc/hosts, or are in one of its network namespaces, or, where the lab has a user
// namespace that is not ours, in that. The caller is never among them.
//
// Numbers of namespaces are used again, so none is taken from the record: only what
// exists now is compared.
func inside(dir string, r record) ([]int, error) {
	hosts, err := os.Stat(filepath.Join(dir, hostsFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	spaces := map[string]bool{} // as /proc/PID/ns/* links read
	for _, n := range r.visible() {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(netnsDir, n.Namespace), &st); err == nil && isNetns(&st) {
			spaces[fmt.Sprintf("net:[%d]", st.Ino)] = true
		}
	}
	if user := userNamespace(r.Process.PID); r.Process.alive() && user != userNamespace(os.Getpid()) {
		spaces[user] = true
	}
	delete(spaces, "")
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		net, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
		theirs, err := os.Stat(fmt.Sprintf("/proc/%d/root/etc/hosts", pid))
		if pid == r.Process.PID && r.Process.alive() || spaces[net] || spaces[userNamespace(pid)] || hosts != nil && err == nil && os.SameFile(hosts, theirs) {
			out = append(out, pid)
		}
	}
	slices.Sort(out)
	return out, nil
}

// userNamespace names a process's user namespace; empty if it may not be known.
func userNamespace(pid int) string {
	s, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err != nil {
		return ""
	}
	return s
}

// isNetns reports whether a file below /run/netns is a mounted namespace, and not what
// is left of one.
func isNetns(st *unix.Stat_t) bool {
	var root unix.Stat_t
	return unix.Stat("/proc/self/ns/net", &root) == nil && st.Dev == root.Dev
}

// removeNetns takes a network namespace's name away.
func removeNetns(name string) error {
	path := filepath.Join(netnsDir, name)
	for {
		// More than once, where somebody made /run/netns a mount after us.
		err := unix.Unmount(path, unix.MNT_DETACH)
		if err == nil {
			continue
		}
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EINVAL) { // no mount
			return fmt.Errorf("unmount %s: %w", path, err)
		}
		return ignoreMissing(os.Remove(path))
	}
}
