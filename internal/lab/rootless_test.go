package lab

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// nobody is a user without privileges.
const nobody = 65534

// asNobody runs the test program as a user without privileges.
type asNobody struct{ program string }

// newNobody prepares the machine for one: a test program to read, a runtime directory,
// and a /dev/net/tun with that mode, all on the test's own /run.
func newNobody(t *testing.T, tunMode uint32) asNobody {
	t.Helper()
	n := asNobody{"/run/lab.test"}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(copyProgram(n.program))
	must(unix.Mknod("/run/tun", unix.S_IFCHR|tunMode, int(unix.Mkdev(10, 200))))
	must(os.Chmod("/run/tun", os.FileMode(tunMode)))
	must(unix.Mount("/run/tun", tunDevice, "", unix.MS_BIND, ""))
	must(os.MkdirAll("/run/user", 0o755))
	must(os.Mkdir("/run/user/nobody", 0o700))
	must(os.Chown("/run/user/nobody", nobody, nobody))
	return n
}

func copyProgram(to string) error {
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// run runs one of the test program's commands.
func (n asNobody) run(args ...string) (string, error) {
	cmd := exec.Command(n.program, args...)
	cmd.Dir = "/usr"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "XDG_RUNTIME_DIR=/run/user/nobody", aloneVariable + "=" + os.Getenv(aloneVariable)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestLabWithoutRoot(t *testing.T) {
	if !alone(t) {
		return
	}
	n := newNobody(t, 0o666)
	before := traces(t)
	do := func(want string, args ...string) {
		t.Helper()
		if out, err := n.run(args...); err != nil || !strings.Contains(out, want) {
			t.Errorf("%q: %v: %s", args, err, out)
		}
	}
	do("", "enter-and-up", "mine")
	do("1 received", "exec", "mine", "op1", "ping", "-c1", "-W2", "203.0.113.3")
	do("1 received", "exec", "mine", "op2", "ping", "-c1", "-W2", "op1.example.net")
	do("/usr", "exec", "mine", "op1", "pwd")
	do("tombolo-mine-op2", "exec", "mine", "core", "sh", "-c", "ip netns list; ls /proc/self/root/run/user/nobody/tombolo-lab/mine; echo tombolo-mine-op2")
	do("", "down", "mine")
	nothingLeft(t, before)

	do("", "enter-and-up", "mine")
	r, err := readRecord("/run/user/nobody/tombolo-lab/mine")
	if err != nil || !r.Rootless {
		t.Fatalf("%+v, %v", r, err)
	}
	kill(t, &Lab{dir: "/run/user/nobody/tombolo-lab/mine"}, unix.SIGKILL)
	do("", "down", "mine")
	nothingLeft(t, before)
}

func TestEnterSaysWhatIsMissing(t *testing.T) {
	if !alone(t) {
		return
	}
	n := newNobody(t, 0o600)
	out, err := n.run("enter-and-up", "mine")
	want := "make a lab without root: /dev/net/tun may not be opened; as root: chmod 666 /dev/net/tun\n" +
		"or make it as root: sudo /run/lab.test enter-and-up mine"
	if err == nil || out != want {
		t.Errorf("%v: %s\nwant %s", err, out, want)
	}
	out, err = n.run("up", "mine")
	want = "a lab takes root (or a user namespace: see Enter)\n/dev/net/tun may not be opened; as root: chmod 666 /dev/net/tun"
	if err == nil || out != want {
		t.Errorf("%v: %s\nwant %s", err, out, want)
	}
}
