package tunnel

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestInterfaceIsUsableWhenAddReturns(t *testing.T) {
	r := newRouter(t, "", "")
	name := ifName("x")
	if err := r.add(name); err != nil {
		t.Fatal(err)
	}
	r.sh("wg set " + name + " listen-port 51011") // no waiting in between
	r.ip("link set " + name + " up")
	if got := r.sh("wg show " + name + " listen-port"); got != "51011\n" {
		t.Errorf("listen-port %q", got)
	}
	if got := r.ip("-o addr show dev " + name); got != "" {
		t.Errorf("it has addresses nobody gave it: %s", got)
	}
	if got := r.exec("cat /proc/sys/net/ipv4/conf/" + name + "/send_redirects"); got != "0\n" {
		t.Errorf("send_redirects %q", got)
	}
	if st, err := os.Stat(uapiPath(name)); err != nil || st.Mode().Perm()&0o077 != 0 {
		t.Errorf("UAPI socket: %v, %v", st, err)
	}
	if st, err := os.Stat(socketPath(r.dir)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("control socket: %v, %v", st, err)
	}
}

func TestUDPPortOpensAndClosesWithTheLink(t *testing.T) {
	r := newRouter(t, "", "")
	name := ifName("x")
	if err := r.add(name); err != nil {
		t.Fatal(err)
	}
	open := func() bool { return strings.Contains(r.exec("ss -Huln"), ":51012 ") }
	r.sh("wg set " + name + " listen-port 51012")
	if open() {
		t.Error("open while the link is down")
	}
	r.ip("link set " + name + " up")
	eventually(t, time.Second, "port open", open)
	r.ip("link set " + name + " down")
	eventually(t, time.Second, "port closed", func() bool { return !open() })
}

func TestPortInUseIsRefusedAndTheFormerStays(t *testing.T) {
	r := newRouter(t, "", "")
	x, y := ifName("x"), ifName("y")
	for i, name := range []string{x, y} {
		if err := r.add(name); err != nil {
			t.Fatal(err)
		}
		r.sh(fmt.Sprintf("wg set %s listen-port %d", name, 51021+i))
		r.ip("link set " + name + " up")
	}
	open := func() bool { return strings.Contains(r.exec("ss -Huln"), ":51022 ") }
	eventually(t, time.Second, "port open", open)
	if out, err := r.try("wg set " + y + " listen-port 51021"); err == nil || !strings.Contains(out, "Address already in use") {
		t.Errorf("wg set said %q, %v", out, err)
	}
	if !open() {
		t.Error("the former port is closed")
	}
	if got := r.sh("wg show " + y + " listen-port"); got != "51022\n" {
		t.Errorf("listen-port %q", got)
	}

	// One that is taken when the link comes up is tried again.
	r.ip("link set " + y + " down")
	eventually(t, 5*time.Second, "port closed", func() bool { return !open() })
	r.sh("wg set " + y + " listen-port 51021")
	r.ip("link set " + y + " up")
	time.Sleep(50 * time.Millisecond)
	r.sh("wg set " + x + " listen-port 51023")
	eventually(t, 5*time.Second, "port free again and taken", func() bool {
		return r.sh("wg show "+y+" listen-port") == "51021\n" && strings.Count(r.exec("ss -Huln"), ":51021 ") == 2
	})
}

func TestAddRefusesAForeignInterface(t *testing.T) {
	r := newRouter(t, "", "")
	veth, tun := ifName("v"), ifName("t")
	r.ip("link add " + veth + " type veth peer name foreign1")
	r.ip("tuntap add dev " + tun + " mode tun")
	for _, name := range []string{veth, tun} {
		err := r.add(name)
		want := "add interface " + name + ": an interface of that name exists and is not ours"
		if !errors.Is(err, ErrForeign) || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
		r.ip("link show " + name)
	}
}

func TestAddRefusesBadArguments(t *testing.T) {
	for _, c := range []struct {
		name string
		mtu  int
		want string
	}{
		{"", 1420, `add interface : interface name is empty`},
		{"sixteen-letters-", 1420, `add interface sixteen-letters-: interface name "sixteen-letters-" is longer than 15 bytes`},
		{"..", 1420, `add interface ..: interface name ".." is not one the kernel takes`},
		{"wg%d", 1420, `add interface wg%d: interface name "wg%d" is not one the kernel takes`},
		{"../wg0", 1420, `add interface ../wg0: interface name "../wg0" is not one the kernel takes`},
		{"wg0", 67, `add interface wg0: MTU 67 is not between 68 and 65535`},
		{"wg0", 65536, `add interface wg0: MTU 65536 is not between 68 and 65535`},
	} {
		if err := testClient("/nonexistent").Add(ctxOf(t), c.name, c.mtu); err == nil || err.Error() != c.want {
			t.Errorf("Add(%q, %d): %v, want %s", c.name, c.mtu, err, c.want)
		}
	}
	dir := "/tmp/" + strings.Repeat("x", 100)
	want := "add interface wg0: path " + dir + "/tunnel.sock is too long for a unix socket (107 bytes at most)"
	if err := testClient(dir).Add(ctxOf(t), "wg0", 1420); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestAddSaysWhyTheProcessDoesNotStart(t *testing.T) {
	err := New("/nonexistent", []string{"/bin/sh", "-c", "echo no such thing >&2; exit 1"}).Add(ctxOf(t), "wg0", 1420)
	if want := "add interface wg0: start tunnel process: no such thing"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestWithoutAProcessThereIsNothing(t *testing.T) {
	c := New("/nonexistent", []string{"/bin/false"})
	if all, err := c.List(ctxOf(t)); len(all) != 0 || err != nil {
		t.Errorf("List: %v, %v", all, err)
	}
	if err := c.Remove(ctxOf(t), "wg0"); err != nil {
		t.Errorf("Remove: %v", err)
	}
	if err := c.Stop(ctxOf(t)); err != nil {
		t.Errorf("Stop: %v", err)
	}
}

func TestConcurrentAddsShareOneSupervisor(t *testing.T) {
	r := newRouter(t, "", "")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if err := r.add(ifName(fmt.Sprint("r", i/2))); err != nil { // each name twice
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := r.interfaces(); len(got) != 4 {
		t.Errorf("interfaces are %+v", got)
	}
	if out := r.sh("pgrep -fc ^[^[:space:]]+.*" + roleSupervise + ".*" + r.dir); strings.TrimSpace(out) != "1" {
		t.Errorf("supervisors: %s", out)
	}
}

func TestLastRemoveEndsTheProcessAfterTheGrace(t *testing.T) {
	r := newRouter(t, "", "")
	x, y := ifName("x"), ifName("y")
	for _, name := range []string{x, y} {
		if err := r.add(name); err != nil {
			t.Fatal(err)
		}
	}
	supervisor, worker := r.processes()
	for _, name := range []string{x, x, y} { // twice is no error
		r.in(func() {
			if err := r.Remove(ctxOf(t), name); err != nil {
				t.Error(err)
			}
		})
		if out, err := r.try("ip -n " + r.ns + " link show " + name); err == nil {
			t.Errorf("%s is still there: %s", name, out)
		}
		if _, err := os.Stat(uapiPath(name)); !os.IsNotExist(err) {
			t.Errorf("UAPI socket of %s: %v", name, err)
		}
	}
	if !alive(supervisor) {
		t.Error("no grace")
	}
	// Within the grace it is used again, after it a new one starts.
	if err := r.add(x); err != nil {
		t.Fatal(err)
	}
	if s, w := r.processes(); s != supervisor || w != worker {
		t.Errorf("processes are %d, %d, were %d, %d", s, w, supervisor, worker)
	}
	r.in(func() {
		if err := r.Remove(ctxOf(t), x); err != nil {
			t.Error(err)
		}
	})
	eventually(t, 10*testGrace, "supervisor ends", func() bool { return !alive(supervisor) && !alive(worker) })
	if err := r.add(x); err != nil {
		t.Fatal(err)
	}
}

func TestSupervisorKilledLeavesNothing(t *testing.T) {
	r := newRouter(t, "", "")
	name := ifName("x")
	if err := r.add(name); err != nil {
		t.Fatal(err)
	}
	supervisor, worker := r.processes()
	if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := r.add(name); err != nil { // at once: it waits for the worker's end
		t.Fatal(err)
	}
	if alive(worker) {
		t.Error("the orphan still runs")
	}
	supervisor, worker = r.processes()
	if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "worker ends", func() bool { return !alive(worker) })
	if out, err := r.try("ip -n " + r.ns + " link show " + name); err == nil {
		t.Errorf("interface is still there: %s", out)
	}
	if _, err := os.Stat(uapiPath(name)); !os.IsNotExist(err) {
		t.Errorf("UAPI socket: %v", err)
	}
}

func TestBothKilledLeavesASocketThatIsTakenOver(t *testing.T) {
	r := newRouter(t, "", "")
	name := ifName("x")
	if err := r.add(name); err != nil {
		t.Fatal(err)
	}
	supervisor, worker := r.processes()
	for _, pid := range []int{worker, supervisor} {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	for _, pid := range []int{worker, supervisor} {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, time.Second, "both end", func() bool { return !alive(supervisor) && !alive(worker) })
	if err := r.add(name); err != nil {
		t.Fatal(err)
	}
	r.sh("wg show " + name)
}

func TestDeletedInterfaceIsDropped(t *testing.T) {
	r := newRouter(t, "", "")
	x, y := ifName("x"), ifName("y")
	for _, name := range []string{x, y} {
		if err := r.add(name); err != nil {
			t.Fatal(err)
		}
		r.ip("link set " + name + " up")
	}
	time.Sleep(1100 * time.Millisecond) // younger devices are dropped a second later
	r.ip("link del " + x)
	eventually(t, time.Second, "socket goes", func() bool {
		_, err := os.Stat(uapiPath(x))
		return os.IsNotExist(err)
	})
	if all := r.interfaces(); len(all) != 1 || all[0].Name != y {
		t.Errorf("interfaces are %+v", all)
	}

	r.ip("link del " + y)
	if err := r.add(y); err != nil { // although nobody may have noticed yet
		t.Fatal(err)
	}
	r.ip("link set " + y + " up")
	r.sh("wg show " + y)
}

func TestDeletedWhileNoWorkerRunsIsDropped(t *testing.T) {
	r := newRouter(t, "", "")
	x, y := ifName("x"), ifName("y")
	for _, name := range []string{x, y} {
		if err := r.add(name); err != nil {
			t.Fatal(err)
		}
	}
	_, worker := r.processes()
	if err := syscall.Kill(worker, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	r.ip("link del " + x)
	if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "one interface", func() bool {
		all := r.interfaces()
		return len(all) == 1 && all[0].Name == y
	})
	r.sh("wg show " + y)
}

func TestAnotherNamespaceIsRefused(t *testing.T) {
	r, o := newRouter(t, "", ""), newRouter(t, "", "")
	name := ifName("x")
	if err := r.add(name); err != nil {
		t.Fatal(err)
	}
	supervisor, _ := r.processes()
	o.Client = r.Client
	err := o.add(ifName("y"))
	want := fmt.Sprintf("add interface %s: the tunnel process of %s (pid %d) serves another network namespace", ifName("y"), r.dir, supervisor)
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	o.Client = testClient(o.dir)
	err = o.add(name)
	if err == nil || !strings.Contains(err.Error(), "another process listens there") {
		t.Errorf("the same name in another namespace: %v", err)
	}
	if out, err := o.try("ip -n " + o.ns + " link show " + name); err == nil {
		t.Errorf("the interface was left behind: %s", out)
	}
}

func TestMTUFollowsTheInterface(t *testing.T) {
	r := newRouter(t, "", "")
	name := ifName("x")
	if err := r.add(name); err != nil {
		t.Fatal(err)
	}
	r.ip("link set " + name + " mtu 1300")
	_, worker := r.processes()
	if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := r.add(name); err != nil { // waits for the new worker, and changes nothing
		t.Fatal(err)
	}
	if all := r.interfaces(); len(all) != 1 || all[0].MTU != 1300 {
		t.Errorf("interfaces are %+v", all)
	}
}
