package cli_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// binary is the program as it ships; every script drives it.
var binary string

func TestMain(m *testing.M) {
	// Where there is no Go, as in the virtual machine of `make vm`, the program was built before.
	if binary = os.Getenv("TOMBOLO_BINARY"); binary != "" {
		os.Exit(m.Run())
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "tombolo-cli-")
		if err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		if err := os.Chmod(dir, 0o755); err != nil { // other users run it too
			panic(err)
		}
		binary = filepath.Join(dir, "tombolo")
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-X tombolo/internal/cli.version=v0.0.0-test", "-o", binary, "tombolo/cmd/tombolo")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// Each script has a network namespace of its own, $NS, in which `ns COMMAND` runs a
// command. WireGuard's sockets lie in one folder for all namespaces, so no two scripts
// may use the same site names.
func TestScripts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("these tests make network namespaces: run them as root")
	}
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	var number atomic.Int32
	testscript.Run(t, testscript.Params{
		Dir:             "testdata/script",
		ContinueOnError: true,
		Setup: func(e *testscript.Env) error {
			ns := fmt.Sprintf("tombolo-cli-%d-%d", os.Getpid(), number.Add(1))
			if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
				return fmt.Errorf("make a namespace: %w: %s", err, out)
			}
			e.Defer(func() { end(t, ns) })
			e.Setenv("NS", ns)
			e.Setenv("BINARY", binary)
			e.Setenv("EXAMPLES", examples)
			e.Setenv("RUN", filepath.Join(e.WorkDir, "run"))
			e.Setenv("LAB", fmt.Sprintf("cli%d-%d", os.Getpid(), number.Load()))
			e.Setenv("PATH", filepath.Dir(binary)+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ns":   inNamespace,
			"code": exitsWith,
		},
	})
}

// end removes a namespace, and ends what still runs in it.
func end(t *testing.T, ns string) {
	pids, _ := exec.Command("ip", "netns", "pids", ns).Output()
	for pid := range strings.FieldsSeq(string(pids)) {
		_ = exec.Command("kill", "-9", pid).Run()
	}
	if out, err := exec.Command("ip", "netns", "delete", ns).CombinedOutput(); err != nil {
		t.Errorf("remove namespace: %v: %s", err, out)
	}
}

// inNamespace runs a command in the script's namespace: ns COMMAND [ARG …]
func inNamespace(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec("ip", append([]string{"netns", "exec", ts.Getenv("NS")}, args...)...)
	if (err != nil) != neg {
		ts.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
}

// exitsWith runs a command that must exit with a code: code N COMMAND [ARG …]
func exitsWith(ts *testscript.TestScript, _ bool, args []string) {
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}
