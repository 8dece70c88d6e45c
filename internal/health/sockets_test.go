package health

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tombolo/internal/babel/space"
	"tombolo/internal/state"
)

// wan is a namespace with an uplink, wan0, and the Internet behind it.
type wan struct {
	*space.Space
	internet *space.Space
}

func newWAN(t *testing.T) *wan {
	w := &wan{space.New(t), space.New(t)}
	w.internet.Sh("ip address add 203.0.113.1/32 dev lo; ip address add 2001:db8::1/128 dev lo nodad")
	w.plug()
	return w
}

// plug puts the device there, as a modem does that begins anew.
func (w *wan) plug() {
	w.sh(fmt.Sprintf(`ip link add wan0 type veth peer name isp0 netns /proc/%d/task/%d/ns/net
		ip link set wan0 up; ip address add 192.0.2.2/24 dev wan0; ip address add fd00::2/64 dev wan0 nodad
		ip rule show | grep -q 505: || for f in -4 -6; do ip $f rule add pref 505 fwmark 0x01000000/0xff000000 lookup 201; done`,
		os.Getpid(), w.internet.Thread))
	w.internet.Sh("ip link set isp0 up; ip address add 192.0.2.1/24 dev isp0; ip address add fd00::1/64 dev isp0 nodad")
	w.sh("ip route add default via 192.0.2.1 dev wan0 table 201; ip -6 route add default via fd00::1 dev wan0 table 201")
}

// sh runs commands in the namespace, beside what its thread does.
func (w *wan) sh(line string) string {
	w.T.Helper()
	ns := fmt.Sprintf("--net=/proc/%d/task/%d/ns/net", os.Getpid(), w.Thread)
	out, err := exec.Command("nsenter", ns, "sh", "-ec", line).CombinedOutput()
	if err != nil {
		w.T.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// checking is a Run, and what it told last.
type checking struct {
	t      *testing.T
	mu     sync.Mutex
	last   Status
	told   int
	cancel func()
}

func (w *wan) check(t *testing.T, device string, targets ...string) *checking {
	c := state.Check{Interval: 50, Down: 3, Up: 3}
	for _, s := range targets {
		c.Targets = append(c.Targets, netip.MustParseAddrPort(s))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	out := &checking{t: t, cancel: func() { cancel(); <-done }}
	go func() {
		defer close(done)
		w.In(func() {
			Run(ctx, c, device, 0x01000000, func(s Status) {
				out.mu.Lock()
				defer out.mu.Unlock()
				out.last, out.told = s, out.told+1
			})
		})
	}()
	t.Cleanup(out.cancel)
	return out
}

func (c *checking) status() (Status, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last, c.told
}

// until waits until it tells what ok wants.
func (c *checking) until(what string, ok func(Status) bool) Status {
	c.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * ms) {
		s, told := c.status()
		if told > 0 && ok(s) {
			return s
		}
		if time.Now().After(end) {
			c.t.Fatalf("after 10 s not %s: %+v", what, s)
		}
	}
}

func up(s Status) bool   { return s.Up && s.Err == "" && s.RTT > 0 }
func down(s Status) bool { return !s.Up }

// Each kind of target answers, is silent, and answers again. Only packets with the mark have a
// way there.
func TestTargetsOfEveryKind(t *testing.T) {
	for _, target := range []string{"203.0.113.1:0", "[2001:db8::1]:0", "203.0.113.1:443", "[2001:db8::1]:443", "203.0.113.1:80", "[2001:db8::1]:80"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			w := newWAN(t)
			if strings.HasSuffix(target, ":80") { // 443 refuses
				w.listen(target)
			}
			c := w.check(t, "wan0", "203.0.113.77:0", target)
			c.until("up", up)
			for _, silence := range []string{"ip address del 203.0.113.1/32 dev lo; ip address del 2001:db8::1/128 dev lo", "nft add table inet t; nft 'add chain inet t c { type filter hook input priority 0; policy drop; }'"} {
				w.internet.Sh(silence)
				s := c.until("down", down)
				if s.Err == "" || time.Since(s.Since) > 5*time.Second {
					t.Errorf("%s: told %+v", silence, s)
				}
				w.internet.Sh("ip address replace 203.0.113.1/32 dev lo; ip address replace 2001:db8::1/128 dev lo nodad; nft flush ruleset")
				c.until("up again", up)
			}
			w.sh("ip route replace default via 192.0.2.9 dev wan0 table 201; ip -6 route replace default via fd00::9 dev wan0 table 201")
			c.until("down by a gateway that is none", down)
		})
	}
}

// listen accepts connections in the Internet.
func (w *wan) listen(address string) {
	w.T.Helper()
	var fd int
	var err error
	w.internet.In(func() {
		family, local := sockaddr(netip.MustParseAddrPort(address))
		if fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
			err = errors.Join(unix.Bind(fd, local), unix.Listen(fd, 4096))
		}
	})
	if err != nil {
		w.T.Fatalf("listen on %s: %v", address, err)
	}
	w.T.Cleanup(func() { _ = unix.Close(fd) })
}

// The device goes away and comes back, twice, as another of its name.
func TestDeviceThatGoesAndComes(t *testing.T) {
	w := newWAN(t)
	w.sh("ip link del wan0")
	before := runtime.NumGoroutine()
	c := w.check(t, "wan0", "203.0.113.1:0", "[2001:db8::1]:0", "203.0.113.1:443")
	c.until("down while there is no device", down)
	for range 2 {
		w.plug()
		c.until("up with the device", up)
		w.sh("ip link del wan0")
		s := c.until("down without it", down)
		for _, why := range []string{"device wan0", "no such device", "network is unreachable"} {
			if strings.Contains(s.Err, why) {
				s.Err = ""
			}
		}
		if s.Err != "" {
			t.Errorf("it says %q", s.Err)
		}
	}
	// Down, and up again, it is the same device.
	w.plug()
	c.until("up with the device", up)
	w.sh("ip link set wan0 down")
	c.until("down while it is", down)
	w.sh("ip link set wan0 up; ip address replace fd00::2/64 dev wan0 nodad; ip route add default via 192.0.2.1 dev wan0 table 201")
	c.until("up with it", up)
	c.cancel()
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(5 * ms) {
		if time.Now().After(end) {
			t.Fatalf("it leaves %d goroutines", runtime.NumGoroutine()-before)
		}
	}
}

// A reply to somebody else's request, or one that is made up, is no answer.
func TestRepliesOfOthersAreNoAnswers(t *testing.T) {
	cookie := [8]byte{1, 2, 3, 4, 5, 6, 7, 8}
	for _, six := range []bool{false, true} {
		good := echoRequest(six, 7, 9, cookie)
		good[0] = map[bool]byte{false: reply4, true: reply6}[six]
		header := map[bool]int{false: 20, true: 0}[six]
		with := func(change func(b []byte)) []byte {
			b := append(make([]byte, header), good...)
			if header > 0 {
				b[0] = 0x45
			}
			change(b)
			return b
		}
		if round, ok := echoReply(six, with(func([]byte) {}), 7, cookie); !ok || round != 9 {
			t.Errorf("a good one is %d, %v", round, ok)
		}
		for name, b := range map[string][]byte{
			"a request": with(func(b []byte) { b[header] = map[bool]byte{false: echo4, true: echo6}[six] }),
			"an error":  with(func(b []byte) { b[header] = 3 }),
			"another's": with(func(b []byte) { b[header+5]++ }),
			"a guess":   with(func(b []byte) { b[header+15]++ }),
			"short":     with(func([]byte) {})[:header+15],
			"nothing":   nil,
		} {
			if _, ok := echoReply(six, b, 7, cookie); ok {
				t.Errorf("IPv6 %v: %s is an answer", six, name)
			}
		}
	}
}

// What a check costs: agents run on small routers. The bound is for a test under the race
// detector on a busy machine.
func TestCheckIsCheap(t *testing.T) {
	w := newWAN(t)
	var m0, m1 runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m0)
	c := w.check(t, "wan0", "203.0.113.1:0", "[2001:db8::1]:0", "203.0.113.1:443")
	c.until("up", up)
	begin := processorTime(t)
	time.Sleep(2 * time.Second)
	took := (processorTime(t) - begin) / (2 * time.Second / (50 * ms))
	runtime.GC()
	runtime.ReadMemStats(&m1)
	memory := int64(m1.HeapAlloc+m1.StackInuse) - int64(m0.HeapAlloc+m0.StackInuse)
	t.Logf("a round of three targets takes %s, a check %d kB", took, memory/1024)
	if took > 5*ms || memory > 300<<10 {
		t.Errorf("a round of three targets takes %s, a check %d kB", took, memory/1024)
	}
}

func processorTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
