package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// aloneVariable is set in a test program that has mounts, network devices and a /run of
// its own, and in all that it starts: what is left there, the test left.
const aloneVariable = "TOMBOLO_LAB_TEST_ALONE"

// alone reports whether the test runs alone on its machine. If not, it runs the test
// again where it does.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneVariable) != "" {
		return true
	}
	mark := fmt.Sprintf("%d-%s", os.Getpid(), t.Name())
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), aloneVariable+"="+mark)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("%v\n%s", err, out)
	}
	for pid := range marked(t, mark) { // of a test that failed
		_ = unix.Kill(pid, unix.SIGKILL) // it may have ended just now
	}
	return false
}

// arrangeAlone gives the test program a /run of its own, without the namespaces of
// others, whose mounts would come and go.
func arrangeAlone() error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return err
	}
	mounts, err := mountPoints()
	for _, m := range mounts {
		if err == nil && strings.HasPrefix(m.path, netnsDir) {
			err = ignoreMissing(unix.Unmount(netnsDir, unix.MNT_DETACH)) // with all below it
			break
		}
	}
	return errors.Join(
		err,
		unix.Mount("tmpfs", "/run", "tmpfs", 0, ""),
		unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""), // as systemd has it
	)
}

// traces is all that a lab could leave.
func traces(t *testing.T) string {
	t.Helper()
	var out []string
	mounts, err := mountPoints()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		out = append(out, fmt.Sprintf("mount %+v", m))
	}
	err = filepath.WalkDir("/run", func(path string, _ fs.DirEntry, err error) error {
		out = append(out, "file "+path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	devices, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range devices {
		out = append(out, "device "+d.Name())
	}
	for _, p := range running(t) {
		out = append(out, "process "+p)
	}
	return strings.Join(out, "\n")
}

// marked returns the command lines of the processes that a test running alone started,
// and theirs, by process id.
func marked(t *testing.T, mark string) map[int]string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	out := map[int]string{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if env, _ := os.ReadFile("/proc/" + e.Name() + "/environ"); bytes.Contains(env, []byte(aloneVariable+"="+mark+"\x00")) {
			line, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
			out[pid] = strings.ReplaceAll(string(line), "\x00", " ")
		}
	}
	return out
}

// running returns the command lines of what this test started.
func running(t *testing.T) []string {
	t.Helper()
	return slices.Sorted(maps.Values(marked(t, os.Getenv(aloneVariable))))
}

// nothingLeft compares what there is with what there was, and waits a little for what
// the kernel still tidies up.
func nothingLeft(t *testing.T, before string) {
	t.Helper()
	var d string
	for range 50 {
		if d = cmp.Diff(before, traces(t)); d == "" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("left behind (+) or gone (-):\n%s", d)
}
