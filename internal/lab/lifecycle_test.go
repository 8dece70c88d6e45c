package lab

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// upAlone takes a lab up in which a program runs that minds no polite signal.
func upAlone(t *testing.T, name string) *Lab {
	t.Helper()
	l, err := Up(t.Context(), Config{Name: name, Routers: examples["home"], Command: serveCommand, Start: stubborn})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// stubborn starts a program on a router in a session of its own, as an agent is.
func stubborn(ctx context.Context, l *Lab, site string) error {
	cmd := exec.Command("/bin/sh", "-c", "trap '' TERM HUP; while :; do sleep 60; done")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := l.Start(ctx, site, cmd); err != nil {
		return err
	}
	go cmd.Wait() // or it stays as a zombie
	return nil
}

func TestDownLeavesNothing(t *testing.T) {
	if !alone(t) {
		return
	}
	before := traces(t)
	l := upAlone(t, "gone")
	if got := traces(t); !strings.Contains(got, "/run/netns/tombolo-gone-op1") || !strings.Contains(got, "trap") {
		t.Errorf("this test sees nothing: %s", got)
	}
	if err := Down(t.Context(), l.Name()); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, before)
}

func TestDownAfterKillLeavesNothing(t *testing.T) {
	if !alone(t) {
		return
	}
	before := traces(t)
	l := upAlone(t, "killed")
	kill(t, l, unix.SIGKILL)
	labs, err := List()
	if err != nil || len(labs) != 1 || labs[0].Alive || labs[0].Sites != 3 {
		t.Errorf("the killed lab is listed as %+v, %v", labs, err)
	}
	if _, err := Open("killed"); err == nil || err.Error() != `lab "killed": its process died; take it down, and up again` {
		t.Errorf("opening a killed lab: %v", err)
	}
	if err := Down(t.Context(), l.Name()); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, before)
}

// kill ends a lab's process and waits for its end.
func kill(t *testing.T, l *Lab, signal unix.Signal) {
	t.Helper()
	r, err := readRecord(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(r.Process.PID, signal); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		if !r.Process.alive() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("process %d does not end", r.Process.PID)
}

func TestTerminatedLabTakesItselfDown(t *testing.T) {
	if !alone(t) {
		return
	}
	before := traces(t)
	kill(t, upAlone(t, "x"), unix.SIGTERM)
	nothingLeft(t, before)
}

func TestUpCleansAfterADeadLab(t *testing.T) {
	if !alone(t) {
		return
	}
	before := traces(t)
	kill(t, upAlone(t, "again"), unix.SIGKILL)
	var said []string
	c := Config{
		Name: "again", Routers: examples["home"], Command: serveCommand,
		Progress: func(e Event) { said = append(said, e.Text) },
	}
	l, err := Up(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if want := "lab again was left by a process that died: cleaning up"; !slices.Contains(said, want) {
		t.Errorf("it said %q, not %q", said, want)
	}
	if got := running(t); len(got) != 1 {
		t.Errorf("of the dead lab there still runs %q", got)
	}
	_, err = Up(t.Context(), c)
	if want := `lab "again" is up already, or comes up just now; "lab down" takes it away`; err == nil || err.Error() != want {
		t.Errorf("a second lab of that name: %v, want %s", err, want)
	}
	if !answers(t, l, "op1", addr("198.18.0.10")) {
		t.Error("the second attempt hurt the lab that is up")
	}
	if err := Down(t.Context(), "again"); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, before)
}

func TestUpThatFailsLeavesNothing(t *testing.T) {
	if !alone(t) {
		return
	}
	before := traces(t)
	for _, c := range []struct {
		name   string
		config Config
		want   string
	}{
		{
			"a router does not start",
			Config{Start: func(ctx context.Context, l *Lab, site string) error {
				return errors.Join(stubborn(ctx, l, site), errors.New("out of order"))
			}},
			"start op1: out of order",
		},
		{"the process is another program", Config{Command: []string{"/bin/true"}}, "the lab's process ended without a word"},
		{"the process is no program", Config{Command: []string{"/nowhere"}}, "start the lab's process: fork/exec /nowhere: no such file or directory"},
		{"the name is no name", Config{Name: "../x"}, `lab "../x": a name has up to 32 letters, digits and dashes`},
	} {
		c.config.Routers = examples["home"][:1]
		if c.config.Name == "" {
			c.config.Name = "failing"
		}
		if c.config.Command == nil {
			c.config.Command = serveCommand
		}
		if _, err := Up(t.Context(), c.config); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
		nothingLeft(t, before)
	}
}

// TestInterruptedUpLeavesNothing interrupts Up at several moments, and kills it at
// others.
func TestInterruptedUpLeavesNothing(t *testing.T) {
	if !alone(t) {
		return
	}
	before := traces(t)
	for _, when := range []string{"files", "namespaces", "the Internet", "routers and hosts", "uplinks", "starting routers"} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Up(ctx, Config{
			Name: "interrupted", Routers: examples["home"], Command: serveCommand, Start: stubborn,
			Progress: func(e Event) {
				if e.Text == when {
					cancel()
				}
			},
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", when, err)
		}
		nothingLeft(t, before)
	}
	for _, after := range []time.Duration{5, 20, 50, 80, 120, 160} {
		cmd := exec.Command("/proc/self/exe", "up-and-wait", "killed")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(after * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		nothingLeft(t, withoutEarlyDir(t, before))
	}
}

// withoutEarlyDir takes away what Up leaves if it is killed before it has started the
// lab's process, which else takes down all: a directory without a record.
func withoutEarlyDir(t *testing.T, before string) string {
	t.Helper()
	for range 300 {
		if _, err := readRecord(directory("killed")); errors.Is(err, fs.ErrNotExist) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := readRecord(directory("killed")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lab's process does not notice that Up was killed: %v", err)
	}
	if err := Down(t.Context(), "killed"); err != nil && !errors.Is(err, ErrNoLab) {
		t.Fatal(err)
	}
	return before
}

func TestLabsSideBySide(t *testing.T) {
	if !alone(t) {
		return
	}
	before := traces(t)
	a, b := upAlone(t, "a"), upAlone(t, "b")
	if err := a.Cut(t.Context(), "op1", ""); err != nil {
		t.Fatal(err)
	}
	to := addr("198.18.0.10")
	if reaches(t, a, "op1", to) || !answers(t, b, "op1", to) {
		t.Error("cutting a path in one lab did so in the other, or in none")
	}
	kill(t, a, unix.SIGKILL)
	if err := Down(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if !answers(t, b, "op1", to) || len(running(t)) < 4 {
		t.Error("taking one lab down hurt the other")
	}
	if labs, err := List(); err != nil || len(labs) != 1 || labs[0].Name != "b" || labs[0].Network != "home" || !labs[0].Alive {
		t.Errorf("the labs are %+v, %v", labs, err)
	}
	if err := Down(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, before)
}

func TestLabKeepsNoForeignNamespaceAlive(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, command := range []string{"ip netns add foreign", "ip link add here type veth peer name there netns foreign"} {
		words := strings.Fields(command)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
	before := traces(t)
	l := upAlone(t, "x")
	if out, err := exec.Command("ip", "netns", "del", "foreign").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// With the namespace its devices go, and their other ends.
	for range 200 {
		if _, err := os.Stat("/sys/class/net/here"); errors.Is(err, fs.ErrNotExist) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := os.Stat("/sys/class/net/here"); err == nil {
		t.Error("the lab keeps a foreign namespace alive that was deleted")
	}
	if err := Down(t.Context(), l.Name()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(before, "/run/netns") || !strings.Contains(traces(t), "mount {path:/run/netns ") {
		t.Error("the lab took /run/netns away, which it found there")
	}
}
