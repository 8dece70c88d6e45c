package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"tombolo/internal/state"
)

// labs counts the labs of this test program, whose names its process id begins.
var labs struct {
	sync.Mutex
	n int
}

func labName() string {
	labs.Lock()
	defer labs.Unlock()
	labs.n++
	return fmt.Sprintf("t%d-%d", os.Getpid(), labs.n)
}

// up takes a lab up, and down when the test is over.
func up(t testing.TB, routers []state.Router, f File) *Lab {
	t.Helper()
	name := labName()
	l, err := Up(t.Context(), Config{Name: name, Routers: routers, File: f, Command: serveCommand})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// t.Context has ended.
		if err := Down(context.Background(), name); err != nil && !errors.Is(err, ErrNoLab) {
			t.Error(err)
		}
	})
	return l
}

// in runs a command inside a node and returns what it printed.
func in(t testing.TB, l *Lab, node, command string) string {
	t.Helper()
	out, err := inErr(t, l, node, command)
	if err != nil {
		t.Fatalf("%s: %s: %v\n%s", node, command, err, out)
	}
	return out
}

func inErr(t testing.TB, l *Lab, node, command string) (string, error) {
	t.Helper()
	words := strings.Fields(command)
	cmd := exec.Command(words[0], words[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := l.Run(t.Context(), node, cmd)
	return strings.TrimSpace(out.String()), err
}

// node returns a node that must be there.
func node(t testing.TB, l *Lab, name string) Node {
	t.Helper()
	n, err := l.Node(name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// fastest returns the shortest of a few round trips, which must all succeed.
func fastest(t testing.TB, l *Lab, from string, to netip.Addr) time.Duration {
	t.Helper()
	best := time.Hour
	for range 3 {
		rtt, err := l.Ping(t.Context(), from, Echo{To: to})
		if err != nil {
			t.Fatal(err)
		}
		best = min(best, rtt)
	}
	return best
}

// answers is reaches where an answer is expected: this machine may be busy.
func answers(t testing.TB, l *Lab, from string, to netip.Addr) bool {
	t.Helper()
	for range 10 {
		if reaches(t, l, from, to) {
			return true
		}
	}
	return false
}

// reaches reports whether a ping is answered soon.
func reaches(t testing.TB, l *Lab, from string, to netip.Addr) bool {
	t.Helper()
	_, err := l.Ping(t.Context(), from, Echo{To: to, Timeout: 300 * time.Millisecond})
	if err != nil && !errors.Is(err, ErrNoReply) {
		t.Fatal(err)
	}
	return err == nil
}

// TestHome looks at one lab from many sides.
func TestHome(t *testing.T) {
	l := up(t, examples["home"], exampleFile(t, "home"))
	t.Run("PathsTakeTheirTime", func(t *testing.T) { pathsTakeTheirTime(t, l) })
	t.Run("UnimpairedPathsArePlain", func(t *testing.T) { unimpairedPathsArePlain(t, l) })
	t.Run("NATHidesTheSite", func(t *testing.T) { natHidesTheSite(t, l) })
	t.Run("NodesAreMachines", func(t *testing.T) { nodesAreMachines(t, l) })
	t.Run("LANsAreWired", func(t *testing.T) { lansAreWired(t, l) })
	t.Run("NamesResolve", func(t *testing.T) { namesResolve(t, l) })
	t.Run("CutAndHeal", func(t *testing.T) { cutAndHeal(t, l) })
	t.Run("OneWayCuts", func(t *testing.T) { oneWayCuts(t, l) })
	t.Run("PlainPathsChangeOneWay", func(t *testing.T) { plainPathsChangeOneWay(t, l) })
	t.Run("PathsChange", func(t *testing.T) { pathsChange(t, l) })
	t.Run("AddressesAreLeased", func(t *testing.T) { addressesAreLeased(t, l) })
	t.Run("CommandsRunInside", func(t *testing.T) { commandsRunInside(t, l) })
	t.Run("ErrorsSayWhat", func(t *testing.T) { errorsSayWhat(t, l) })
}

func pathsTakeTheirTime(t *testing.T, l *Lab) {
	for _, c := range []struct {
		from, to string
		rtt      time.Duration
	}{
		{"op1", "op3", 27 * time.Millisecond},
		{"op3", "op1", 27 * time.Millisecond},
		{"op2", "op3", 52 * time.Millisecond},
		{"op2", "op1", 20 * time.Millisecond},
	} {
		n := node(t, l, c.to)
		for _, to := range []netip.Addr{n.Addr(), n.Addr6()} {
			if rtt := fastest(t, l, c.from, to); rtt < c.rtt || rtt > 2*c.rtt {
				t.Errorf("%s to %s (%s): %v, want %v", c.from, c.to, to, rtt, c.rtt)
			}
		}
	}
}

func unimpairedPathsArePlain(t *testing.T, l *Lab) {
	before, err := l.Counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	inet := node(t, l, "inet")
	for _, to := range []netip.Addr{inet.Addr(), inet.Addr6()} {
		if rtt := fastest(t, l, "op1", to); rtt > 10*time.Millisecond {
			t.Errorf("op1 to %s: %v", to, rtt)
		}
	}
	after, err := l.Counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range after.Pairs {
		if c.From == "op1/eth0" && c.To == "inet" {
			t.Errorf("the emulator saw %d packets from op1 to inet (%d pairs before)", c.Received, len(before.Pairs))
		}
	}
}

func natHidesTheSite(t *testing.T, l *Lab) {
	op2, inet := node(t, l, "op2"), node(t, l, "inet")
	public := op2.Devices[0].Public
	if reaches(t, l, "inet", op2.Addr()) || reaches(t, l, "inet", public) || reaches(t, l, "inet", op2.Addr6()) {
		t.Error("op2 is reached behind its NAT, by nobody's leave")
	}
	// What goes out has the public address, and is answered.
	var from netip.AddrPort
	err := l.Do(t.Context(), "inet", func() (err error) {
		from, err = answerOnce("udp4", ":7777", func() error {
			return l.Run(t.Context(), "op2", exec.Command("/bin/bash", "-c", "echo hello >/dev/udp/"+inet.Addr().String()+"/7777"))
		})
		return err
	})
	if err != nil || from.Addr() != public {
		t.Errorf("inet sees %v, want %v (%v)", from, public, err)
	}
}

func nodesAreMachines(t *testing.T, l *Lab) {
	if got := in(t, l, "op1", "hostname"); got != "op1" {
		t.Errorf("op1's hostname is %q", got)
	}
	if got := in(t, l, "op2", "ls /sys/class/net"); got != "br-lan\neth0\nlan-host\nlo" {
		t.Errorf("op2 sees the devices %q", got)
	}
	in(t, l, "op1", "touch /run/tombolo/x /run/wireguard/wg-op1.sock /var/run/wireguard/y /run/shared")
	if out := in(t, l, "op2", "find /run/tombolo /run/wireguard -type f"); out != "" {
		t.Errorf("op2 sees op1's files: %s", out)
	}
	if out := in(t, l, "op1", "find /run/wireguard -type f"); len(strings.Fields(out)) != 2 {
		t.Errorf("op1 sees %s", out)
	}
	if _, err := os.Stat("/run/shared"); err == nil {
		t.Error("what a node writes to /run is in the machine's /run")
	}
	// As an outsider sees it.
	n := node(t, l, "op3")
	out, err := exec.Command("ip", "netns", "exec", n.Namespace, "ip", "-br", "-4", "address", "show", "eth0").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "203.0.113.3/24") {
		t.Errorf("ip netns exec %s: %s %v", n.Namespace, out, err)
	}
	if got := in(t, l, "op1", "cat /proc/sys/net/ipv4/ip_forward"); got != "0" {
		t.Errorf("op1 forwards before anybody made a router of it: %q", got)
	}
}

func lansAreWired(t *testing.T, l *Lab) {
	for _, to := range []string{"192.168.36.1"} {
		if !answers(t, l, "op2.host", addr(to)) {
			t.Errorf("op2.host does not reach its router at %s", to)
		}
	}
	if got := in(t, l, "op2.host", "ip route show default"); !strings.HasPrefix(got, "default via 192.168.36.1 dev eth0") {
		t.Errorf("op2.host's default route: %q", got)
	}
	if n := node(t, l, "op2/br-lan"); n.Name != "op2.host" {
		t.Errorf("op2/br-lan is %q", n.Name)
	}
}

func namesResolve(t *testing.T, l *Lab) {
	for _, from := range []string{"op2", "op2.host", "inet"} {
		if got := in(t, l, from, "getent ahostsv4 op1.example.net"); !strings.HasPrefix(got, "198.18.1.2 ") {
			t.Errorf("%s: op1.example.net is %q", from, got)
		}
		if got := in(t, l, from, "getent ahostsv6 op1.example.net"); !strings.HasPrefix(got, "2001:db8:1:0:") {
			t.Errorf("%s: op1.example.net is %q", from, got)
		}
	}
	start := time.Now()
	if out, err := inErr(t, l, "op1", "getent hosts nowhere.example.net"); err == nil || time.Since(start) > 5*time.Second {
		t.Errorf("a name that is not there: %q after %v", out, time.Since(start))
	}
}

func cutAndHeal(t *testing.T, l *Lab) {
	op1, op3, inet := node(t, l, "op1"), node(t, l, "op3"), node(t, l, "inet")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(l.Cut(t.Context(), "op1", "inet"))
	for _, to := range []netip.Addr{inet.Addr(), inet.Addr6()} {
		if reaches(t, l, "op1", to) {
			t.Errorf("op1 reaches %s, from which it is cut", to)
		}
	}
	if !answers(t, l, "op1", op3.Addr()) {
		t.Error("op1 does not reach op3, from which it is not cut")
	}
	must(l.Cut(t.Context(), "op3", ""))
	if reaches(t, l, "op1", op3.Addr()) || reaches(t, l, "op2", op3.Addr6()) {
		t.Error("op3 is reached, which is cut off")
	}
	must(l.Heal(t.Context(), "inet", "op1"))
	if !answers(t, l, "op1", inet.Addr()) || reaches(t, l, "inet", op3.Addr()) {
		t.Error("healing one path healed no path, or another one")
	}
	must(l.Heal(t.Context(), "op3", ""))
	if rtt := fastest(t, l, "op3", op1.Addr()); rtt < 27*time.Millisecond {
		t.Errorf("a healed path takes %v", rtt)
	}
}

func pathsChange(t *testing.T, l *Lab) {
	inet := node(t, l, "inet")
	change := func(d time.Duration) {
		t.Helper()
		if err := l.SetPath(t.Context(), delayed("op1", "inet", d, true)); err != nil {
			t.Fatal(err)
		}
	}
	change(40 * time.Millisecond)
	for _, to := range []netip.Addr{inet.Addr(), inet.Addr6()} {
		if rtt := fastest(t, l, "op1", to); rtt < 80*time.Millisecond {
			t.Errorf("to %s: %v", to, rtt)
		}
	}
	change(0)
	if rtt := fastest(t, l, "op1", inet.Addr()); rtt > 10*time.Millisecond {
		t.Errorf("the old delay is still there: %v", rtt)
	}
}

func addressesAreLeased(t *testing.T, l *Lab) {
	if got := in(t, l, "op1", "ip route show default"); got != "default via 198.18.1.1 dev eth0 proto dhcp src 198.18.1.2 onlink" {
		t.Errorf("op1's default route: %q", got)
	}
	inet := node(t, l, "inet")
	for _, c := range []struct {
		to          netip.Prefix
		want, route string
	}{
		{netip.Prefix{}, "198.18.1.3/24", "via 198.18.1.1 "},
		{prefix("192.0.2.99/24"), "192.0.2.99/24", "via 192.0.2.1 "},
	} {
		got, err := l.Relet(t.Context(), "op1", "", c.to)
		if err != nil || got.String() != c.want {
			t.Fatalf("relet: %v %v, want %s", got, err, c.want)
		}
		if out := in(t, l, "op1", "ip -4 -br address show eth0"); !strings.HasSuffix(out, " "+c.want) {
			t.Errorf("op1 has %q, want %s alone", out, c.want)
		}
		if out := in(t, l, "op1", "ip route show default"); !strings.Contains(out, c.route) {
			t.Errorf("op1's default route: %q", out)
		}
		if out := in(t, l, "op2.host", "getent ahostsv4 op1.example.net"); !strings.HasPrefix(out, got.Addr().String()+" ") {
			t.Errorf("the name leads to %q", out)
		}
		if !answers(t, l, "inet", got.Addr()) || !answers(t, l, "op1", inet.Addr()) {
			t.Error("the new address does not work")
		}
		if rtt := fastest(t, l, "op3", got.Addr()); rtt < 27*time.Millisecond {
			t.Errorf("the path to the new address takes %v", rtt)
		}
	}
}

func commandsRunInside(t *testing.T, l *Lab) {
	if got := in(t, l, "op3", "pwd"); got != cwd(t) {
		t.Errorf("a command runs in %q", got)
	}
	cmd := exec.Command("sh", "-c", "exit 7")
	var exit *exec.ExitError
	if err := l.Run(t.Context(), "op1", cmd); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("exit 7 gives %v", err)
	}
	// Many at the same time, none outside.
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got := in(t, l, "op3.host", "hostname"); got != "op3.host" {
				t.Errorf("a command runs in %q", got)
			}
		})
	}
	wg.Wait()
}

func cwd(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func errorsSayWhat(t *testing.T, l *Lab) {
	ctx := t.Context()
	_, pingErr := l.Ping(ctx, "mars", Echo{To: addr("192.0.2.1")})
	_, reletErr := l.Relet(ctx, "op3", "eth0", netip.Prefix{})
	_, heldErr := l.Relet(ctx, "op1", "eth0", prefix("203.0.113.3/24"))
	_, openErr := Open("no-such-lab")
	for _, c := range []struct {
		err  error
		want string
	}{
		{l.Cut(ctx, "mars", ""), `lab %q: cut: there is no site, device or Internet host "mars"; there are inet, op1, op2, op3`},
		{l.Run(ctx, "mars", exec.Command("true")), `lab %q has no node "mars"`},
		{pingErr, `lab %q has no node "mars"`},
		{reletErr, `lab %q: relet: there is no uplink op3/eth0 with DHCP`},
		{heldErr, `lab %q: relet: lease 203.0.113.3/24 to op1/eth0: op3/eth0 has it`},
	} {
		if want := fmt.Sprintf(c.want, l.Name()); c.err == nil || c.err.Error() != want {
			t.Errorf("got %v, want %s", c.err, want)
		}
	}
	if !errors.Is(openErr, ErrNoLab) || !errors.Is(Down(ctx, "no-such-lab"), ErrNoLab) {
		t.Errorf("a lab that is not there: %v", openErr)
	}
}
