package tunnel

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// wgPair makes a tunnel between a and b with wg(8), interfaces wa and wb, ports 51001 and
// 51002. a dials.
func wgPair(t testing.TB, a, b *router) (wa, wb string) {
	t.Helper()
	wa, wb = ifName("a"), ifName("b")
	for _, s := range []struct {
		r    *router
		name string
	}{{a, wa}, {b, wb}} {
		if err := s.r.add(s.name); err != nil {
			t.Fatal(err)
		}
		s.r.keys()
	}
	a.peerWith(wa, 51001, b, b.addr+":51002")
	b.peerWith(wb, 51002, a, "")
	for _, s := range []struct {
		r    *router
		name string
	}{{a, wa}, {b, wb}} {
		s.r.ip("addr add " + s.r.inner + "/24 dev " + s.name)
		s.r.ip("link set " + s.name + " up")
		s.r.ip("route add 10.77.0.0/16 dev " + s.name)
	}
	// A handshake that meets a closed port is tried again only after five seconds.
	eventually(t, time.Second, "both ports open", func() bool {
		return strings.Contains(a.exec("ss -Huln"), ":51001 ") && strings.Contains(b.exec("ss -Huln"), ":51002 ")
	})
	return wa, wb
}

func (r *router) keyFile(name string) string { return filepath.Join(r.dir, name) }

// keys makes a key pair, with umask so that wg does not warn.
func (r *router) keys() {
	r.t.Helper()
	for _, line := range []string{
		"umask 077; wg genkey > %[1]s/key",
		"wg pubkey < %[1]s/key > %[1]s/pub",
	} {
		if out, err := exec.Command("sh", "-c", fmt.Sprintf(line, r.dir)).CombinedOutput(); err != nil {
			r.t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
}

func (r *router) pub() string {
	b, err := os.ReadFile(r.keyFile("pub"))
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// testPSK is the file of a preshared key for all tests of this process.
func testPSK(t testing.TB) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "psk")
	if err := os.WriteFile(f, []byte("FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

func (r *router) peerWith(name string, port int, o *router, endpoint string) {
	r.t.Helper()
	line := fmt.Sprintf("wg set %s private-key %s listen-port %d fwmark 0x7f000000 peer %s preshared-key %s allowed-ips 0.0.0.0/0,::/0",
		name, r.keyFile("key"), port, o.pub(), testPSK(r.t))
	if endpoint != "" {
		line += " endpoint " + endpoint
	}
	r.sh(line)
}

func TestPacketsFlow(t *testing.T) {
	a, b := newPair(t)
	wa, wb := wgPair(t, a, b)
	a.reaches(b.inner, 3*time.Second)
	for _, name := range []string{wa, wb} {
		if out := a.sh("wg show " + name + " latest-handshakes"); strings.HasSuffix(strings.TrimSpace(out), "\t0") {
			t.Errorf("%s has no handshake: %q", name, out)
		}
	}
	if out := a.exec("ip -d link show " + wa); !strings.Contains(out, "vnet_hdr on") {
		t.Errorf("no offloads: %s", out)
	}
}

func TestPacketsFlowAgainAfterTheWorkerWasKilled(t *testing.T) {
	a, b := newPair(t)
	wa, wb := wgPair(t, a, b)
	a.reaches(b.inner, 3*time.Second)
	confA, confB := a.sh("wg showconf "+wa), b.sh("wg showconf "+wb)
	routes := b.ip("route show dev " + wb)
	for range 2 { // the second end within a minute is not for nothing
		time.Sleep(100 * time.Millisecond) // the report of a handshake takes 5 ms
		_, worker := b.processes()
		if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		a.reaches(b.inner, 5*time.Second)
	}
	if got := b.sh("wg showconf " + wb); got != confB {
		t.Errorf("the configuration came back as\n%s\nwant\n%s", got, confB)
	}
	if got := a.sh("wg showconf " + wa); got != confA {
		t.Errorf("the other end's configuration is now\n%s\nwant\n%s", got, confA)
	}
	if got := b.ip("route show dev " + wb); got != routes {
		t.Errorf("routes are now\n%s\nwant\n%s", got, routes)
	}
	if all := b.interfaces(); len(all) != 1 || all[0].Name != wb || all[0].Restarts != 2 || all[0].MTU != 1420 {
		t.Errorf("interfaces are %+v", all)
	}
}

func TestStopRemovesAll(t *testing.T) {
	r := newRouter(t, "", "")
	names := []string{ifName("x"), ifName("y")}
	for _, name := range names {
		if err := r.add(name); err != nil {
			t.Fatal(err)
		}
		r.ip("link set " + name + " up")
	}
	supervisor, worker := r.processes()
	if err := r.Stop(ctxOf(t)); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if out, err := r.try("ip -n " + r.ns + " link show " + name); err == nil {
			t.Errorf("interface is still there: %s", out)
		}
		if _, err := os.Stat(uapiPath(name)); !os.IsNotExist(err) {
			t.Errorf("UAPI socket: %v", err)
		}
	}
	eventually(t, time.Second, "both processes end", func() bool { return !alive(supervisor) && !alive(worker) })
	if all := r.interfaces(); len(all) != 0 {
		t.Errorf("interfaces are %+v", all)
	}
}

func TestTunnelOutlivesWhoAddedIt(t *testing.T) {
	a, b := newPair(t)
	wa := ifName("a")
	adder := exec.Command("ip", "netns", "exec", a.ns, "/proc/self/exe", roleAdd, a.dir, wa)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	adder.Args[4] = exe
	adder.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := adder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := adder.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 6)
	if _, err := out.Read(said); string(said) != "added\n" {
		t.Fatalf("adder said %q, %v", said, err)
	}
	wgPair(t, a, b) // Add once more does no harm
	a.reaches(b.inner, 3*time.Second)

	supervisor, worker := a.processes()
	if err := syscall.Kill(-adder.Process.Pid, syscall.SIGHUP); err != nil { // as when its terminal closes
		t.Fatal(err)
	}
	if err := syscall.Kill(-adder.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = adder.Wait()
	if err := syscall.Kill(supervisor, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if !a.pings(b.inner) {
			t.Error("a packet was lost")
		}
	}
	if s, w := a.processes(); s != supervisor || w != worker {
		t.Errorf("processes are %d, %d, were %d, %d", s, w, supervisor, worker)
	}
	if sid, err := getsid(supervisor); err != nil || sid != supervisor {
		t.Errorf("session of supervisor %d is %d, %v", supervisor, sid, err)
	}
}

func getsid(pid int) (int, error) {
	sid, _, errno := syscall.Syscall(syscall.SYS_GETSID, uintptr(pid), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(sid), nil
}
