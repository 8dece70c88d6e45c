package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// The test binary is also the supervisor, the worker, and a program that calls Add.
const (
	roleSupervise = "tunnel-test-supervise" // dir
	roleWork      = "tunnel-test-work"
	roleAdd       = "tunnel-test-add" // dir, name...; prints "added" and then sleeps
)

// testGrace is short, so that tests see the end.
const testGrace = 500 * time.Millisecond

func TestMain(m *testing.M) {
	// A race detector's process sleeps a second before it exits; ours are to end at once.
	os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0")
	if len(os.Args) < 2 {
		os.Exit(m.Run())
	}
	level := slog.LevelInfo
	if os.Getenv("TUNNEL_TEST_DEBUG") != "" {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	ctx := context.Background()
	var err error
	switch os.Args[1] {
	case roleSupervise:
		err = Supervise(ctx, Options{
			Dir: os.Args[2], Worker: []string{"/proc/self/exe", roleWork},
			Grace: testGrace, Log: log,
		})
	case roleWork:
		err = Work(ctx, Options{Log: log})
	case roleAdd:
		for _, name := range os.Args[3:] {
			err = errors.Join(err, testClient(os.Args[2]).Add(ctx, name, 1420))
		}
		if err == nil {
			fmt.Println("added")
			time.Sleep(time.Hour)
		}
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func testClient(dir string) *Client {
	return New(dir, []string{"/proc/self/exe", roleSupervise, dir})
}

// router is a namespace with a tunnel process.
type router struct {
	t     testing.TB
	ns    string
	addr  string // in the underlay
	inner string // in the tunnel
	dir   string
	*Client
}

var worlds atomic.Int32

// newRouter makes a namespace and stops its tunnel process at the end of the test.
func newRouter(t testing.TB, addr, inner string) *router {
	t.Helper()
	r := &router{t: t, ns: fmt.Sprintf("tun%d-%d", os.Getpid(), worlds.Add(1)), addr: addr, inner: inner}
	r.dir = filepath.Join("/tmp", r.ns)
	r.Client = testClient(r.dir)
	r.sh("ip netns add " + r.ns)
	t.Cleanup(func() {
		if err := r.Stop(ctxOf(t)); err != nil {
			t.Error(err)
		}
		log, _ := os.ReadFile(logPath(r.dir))
		if bytes.Contains(log, []byte("DATA RACE")) || bytes.Contains(log, []byte("panic")) {
			t.Error("supervisor or worker failed")
		}
		if t.Failed() {
			t.Logf("log of %s:\n%s", r.ns, log)
		}
		r.sh("ip netns del " + r.ns)
		os.RemoveAll(r.dir)
	})
	r.ip("link set lo up")
	return r
}

// newPair makes two routers with a veth between them.
func newPair(t testing.TB) (a, b *router) {
	t.Helper()
	a, b = newRouter(t, "192.0.2.1", "10.9.0.1"), newRouter(t, "192.0.2.2", "10.9.0.2")
	a.ip("link add veth0 type veth peer name veth0 netns " + b.ns)
	for _, r := range []*router{a, b} {
		r.ip("addr add " + r.addr + "/24 dev veth0")
		r.ip("link set veth0 up")
	}
	return a, b
}

// ctxOf is a context that also works in cleanups.
func ctxOf(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// in runs f on a thread in the router's namespace. The thread is not used again.
func (r *router) in(f func()) {
	var done sync.WaitGroup
	done.Go(func() {
		runtime.LockOSThread()
		h, err := netns.GetFromName(r.ns)
		if err == nil {
			err = netns.Set(h)
			h.Close()
		}
		if err != nil {
			r.t.Errorf("enter namespace %s: %v", r.ns, err)
			return
		}
		f()
	})
	done.Wait()
}

// add calls Add in the router's namespace.
func (r *router) add(name string) (err error) {
	r.in(func() { err = r.Add(ctxOf(r.t), name, 1420) })
	return err
}

// up adds an interface with the router's inner address.
func (r *router) up(name string) {
	r.t.Helper()
	if err := r.add(name); err != nil {
		r.t.Fatal(err)
	}
	r.ip("addr add " + r.inner + "/24 dev " + name)
	r.ip("link set " + name + " up")
}

// sh runs a command line without quotes, and returns its output.
func (r *router) sh(line string) string {
	r.t.Helper()
	out, err := r.try(line)
	if err != nil {
		r.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return out
}

func (r *router) try(line string) (string, error) {
	words := strings.Fields(line)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	return string(out), err
}

func (r *router) ip(args string) string {
	r.t.Helper()
	return r.sh("ip -n " + r.ns + " " + args)
}

// exec runs a command line in the namespace.
func (r *router) exec(line string) string {
	r.t.Helper()
	return r.sh("ip netns exec " + r.ns + " " + line)
}

// pings reports whether one echo of up to 0.3 s comes back.
func (r *router) pings(addr string) bool {
	_, err := r.try("ip netns exec " + r.ns + " ping -c 1 -W 0.3 -i 0.2 " + addr)
	return err == nil
}

// reaches waits up to limit for an answer, and fails without.
func (r *router) reaches(addr string, limit time.Duration) {
	r.t.Helper()
	for end := time.Now().Add(limit); !r.pings(addr); {
		if time.Now().After(end) {
			r.t.Fatalf("no answer from %s within %v", addr, limit)
		}
	}
}

// interfaces returns what List says.
func (r *router) interfaces() []Interface {
	r.t.Helper()
	all, err := r.List(ctxOf(r.t))
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// processes returns the pids of the supervisor and of the worker; 0 for none.
func (r *router) processes() (supervisor, worker int) {
	r.t.Helper()
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, d := range dirs {
		var pid int
		if _, err := fmt.Sscan(d.Name(), &pid); err != nil {
			continue
		}
		args, _ := os.ReadFile(filepath.Join("/proc", d.Name(), "cmdline"))
		if strings.HasSuffix(string(args), "\x00"+roleSupervise+"\x00"+r.dir+"\x00") {
			supervisor = pid
		}
	}
	if supervisor == 0 {
		return 0, 0
	}
	kids, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", supervisor, supervisor))
	_, _ = fmt.Sscan(string(kids), &worker)
	if worker == 0 { // started by another thread
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", supervisor))
		for _, f := range tasks {
			kids, _ := os.ReadFile(f)
			_, _ = fmt.Sscan(string(kids), &worker)
		}
	}
	return supervisor, worker
}

// eventually polls until ok, or fails after limit.
func eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// alive reports whether a process runs; a zombie does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return pid > 0 && err == nil && !strings.Contains(string(stat), ") Z ")
}

// ifName returns an interface name that no other test process uses: UAPI sockets are
// shared by all namespaces.
func ifName(suffix string) string { return fmt.Sprintf("t%d%s", os.Getpid()%1e7, suffix) }
