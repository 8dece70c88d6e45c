package internet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// world is three namespaces: hosts a and b, and core between them, which
// routes everything that passes through the TUN of a Runner.
//
//	a 10.0.1.2 ── core ── 10.0.2.2 b     and fd00:0:0:1::2, fd00:0:0:2::2
type world struct {
	core, a, b string
	*Runner
	stop func()
}

const (
	hostA4, hostA6 = "10.0.1.2", "fd00:0:0:1::2"
	hostB4, hostB6 = "10.0.2.2", "fd00:0:0:2::2"
	publicA        = "198.51.100.7"
)

// places of a and b, a behind a NAT.
func placesAB(nat NAT) []Place {
	return []Place{
		{Name: "a", NAT: nat, Prefixes: []netip.Prefix{
			netip.MustParsePrefix("10.0.1.0/24"), netip.MustParsePrefix("fd00:0:0:1::/64")}},
		{Name: "b", Prefixes: []netip.Prefix{
			netip.MustParsePrefix("10.0.2.0/24"), netip.MustParsePrefix("fd00:0:0:2::/64")}},
	}
}

var worlds int

func newWorld(t testing.TB) *world {
	t.Helper()
	worlds++
	name := func(s string) string { return fmt.Sprintf("inet%d-%d-%s", os.Getpid(), worlds, s) }
	w := &world{core: name("core"), a: name("a"), b: name("b")}
	t.Cleanup(func() {
		if w.stop != nil {
			w.stop()
		}
		for _, ns := range []string{w.core, w.a, w.b} {
			_ = exec.Command("ip", "netns", "del", ns).Run()
		}
	})
	for _, ns := range []string{w.core, w.a, w.b} {
		run(t, "ip netns add "+ns)
		run(t, "ip -n "+ns+" link set lo up")
		run(t, "ip netns exec "+ns+" sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0"+
			" net.ipv4.conf.default.accept_local=1 net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"+
			" net.ipv6.conf.default.accept_dad=0")
	}
	for i, ns := range []string{w.a, w.b} {
		end := fmt.Sprintf("to%d", i+1)
		run(t, "ip -n "+w.core+" link add "+end+" type veth peer name eth0 netns "+ns)
		run(t, fmt.Sprintf("ip -n %s addr add 10.0.%d.1/24 dev %s", w.core, i+1, end))
		run(t, fmt.Sprintf("ip -n %s addr add fd00:0:0:%d::1/64 dev %s nodad", w.core, i+1, end))
		run(t, fmt.Sprintf("ip -n %s addr add 10.0.%d.2/24 dev eth0", ns, i+1))
		run(t, fmt.Sprintf("ip -n %s addr add fd00:0:0:%d::2/64 dev eth0 nodad", ns, i+1))
		run(t, "ip -n "+w.core+" link set "+end+" up")
		run(t, "ip -n "+ns+" link set eth0 up")
		run(t, fmt.Sprintf("ip -n %s route add default via 10.0.%d.1", ns, i+1))
		run(t, fmt.Sprintf("ip -n %s route add default via fd00:0:0:%d::1", ns, i+1))
		for _, family := range []string{"-4", "-6"} {
			run(t, "ip "+family+" -n "+w.core+" rule add iif "+end+" lookup 100")
		}
	}
	dev := inNamespace(t, w.core, func() (*Device, error) { return OpenTUN("emu0") })
	run(t, "ip -n "+w.core+" addr add 192.0.2.1/32 dev emu0")
	run(t, "ip -n "+w.core+" link set emu0 up")
	run(t, "ip -n "+w.core+" route add default dev emu0 table 100")
	run(t, "ip -6 -n "+w.core+" route add default dev emu0 table 100")
	run(t, "ip -n "+w.core+" route add "+publicA+"/32 dev emu0")

	w.Runner = NewRunner(New(1), dev)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	}
	return w
}

func run(t testing.TB, command string) string {
	t.Helper()
	words := strings.Fields(command)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// inNamespace calls f on a thread in the named namespace, and lets the thread
// end there.
func inNamespace[T any](t testing.TB, ns string, f func() (T, error)) T {
	t.Helper()
	type result struct {
		value T
		err   error
	}
	c := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		var r result
		fd, err := unix.Open(filepath.Join("/run/netns", ns), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if r.err = err; err == nil {
			r.value, r.err = f()
		}
		c <- r
	}()
	r := <-c
	if r.err != nil {
		t.Fatalf("in namespace %s: %v", ns, r.err)
	}
	return r.value
}

// ping returns the least round-trip time, or false if nothing came back.
func ping(t testing.TB, ns, address string, count int, args ...string) (time.Duration, bool) {
	t.Helper()
	args = append([]string{"netns", "exec", ns, "ping", "-n", "-c", strconv.Itoa(count), "-i", "0.02", "-W", "0.5"}, append(args, address)...)
	out, err := exec.Command("ip", args...).CombinedOutput()
	if m := regexp.MustCompile(`= ([0-9.]+)/([0-9.]+)/([0-9.]+)/`).FindSubmatch(out); m != nil {
		least, _ := strconv.ParseFloat(string(m[1]), 64)
		t.Logf("ping %s: min/avg/max %s/%s/%s ms", address, m[1], m[2], m[3])
		return time.Duration(least * float64(time.Millisecond)), true
	}
	if exit := new(exec.ExitError); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Fatalf("ping %s: %v\n%s", address, err, out)
	}
	return 0, false
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRealDelayCutAndHeal(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	must(t, w.SetPlaces(ctx, placesAB(NAT{})))
	if _, ok := ping(t, w.a, hostB4, 3); !ok {
		t.Fatal("no answer over an unimpaired path")
	}
	must(t, w.SetPath(ctx, "a", "b", Impairment{Delay: 30 * time.Millisecond}))
	must(t, w.SetPath(ctx, "b", "a", Impairment{Delay: 10 * time.Millisecond}))
	for _, address := range []string{hostB4, hostB6} {
		rtt, ok := ping(t, w.a, address, 10)
		// It needs 0.2 ms more than 40; a busy machine may need more.
		if !ok || rtt < 40*time.Millisecond || rtt > 60*time.Millisecond {
			t.Errorf("ping %s takes %s, want 40 ms", address, rtt)
		}
	}
	must(t, w.Cut(ctx, "b", "a"))
	if _, ok := ping(t, w.a, hostB4, 2); ok {
		t.Error("an answer over a cut path")
	}
	must(t, w.Heal(ctx, "b", "a"))
	if rtt, ok := ping(t, w.a, hostB4, 3); !ok || rtt < 40*time.Millisecond {
		t.Errorf("after heal, ping takes %s (%t), want 40 ms", rtt, ok)
	}
	c, err := w.Counters(ctx)
	must(t, err)
	for _, pair := range c.Pairs {
		if pair.From == "b" && pair.To == "a" && pair.Cut == 2 {
			return
		}
	}
	t.Errorf("no pair b→a with 2 packets cut: %+v", c)
}

// listen opens a UDP socket in a namespace.
func listen(t testing.TB, ns, address string) *net.UDPConn {
	t.Helper()
	c := inNamespace(t, ns, func() (*net.UDPConn, error) {
		return net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
	})
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t testing.TB, from *net.UDPConn, to netip.AddrPort, text string) {
	t.Helper()
	_, err := from.WriteToUDPAddrPort([]byte(text), to)
	must(t, err)
}

// receive returns the next datagram and its source, or "" after patience.
func receive(t testing.TB, c *net.UDPConn, patience time.Duration) (string, netip.AddrPort) {
	t.Helper()
	must(t, c.SetReadDeadline(time.Now().Add(patience)))
	var buf [1500]byte
	n, from, err := c.ReadFromUDPAddrPort(buf[:])
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "", from
	}
	must(t, err)
	return string(buf[:n]), from
}

func TestRealNAT(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	must(t, w.SetPlaces(ctx, placesAB(NAT{Kind: Symmetric, Public: netip.MustParseAddr(publicA)})))
	must(t, w.SetPath(ctx, "*", "*", Impairment{Delay: time.Millisecond}))

	a := listen(t, w.a, hostA4+":4000")
	b1, b2 := listen(t, w.b, hostB4+":7001"), listen(t, w.b, hostB4+":7002")
	send(t, a, netip.MustParseAddrPort(hostB4+":7001"), "one")
	text, seen1 := receive(t, b1, 5*time.Second)
	if text != "one" || seen1.Addr().String() != publicA {
		t.Fatalf("b hears %q from %s, want it from %s", text, seen1, publicA)
	}
	send(t, a, netip.MustParseAddrPort(hostB4+":7002"), "two")
	if _, seen2 := receive(t, b2, 5*time.Second); seen2 == seen1 {
		t.Errorf("a symmetric NAT shows %s to two destinations", seen1)
	}
	send(t, b1, seen1, "answer")
	if text, from := receive(t, a, 5*time.Second); text != "answer" || from.String() != hostB4+":7001" {
		t.Errorf("a hears %q from %s", text, from)
	}
	send(t, b2, seen1, "intruder")
	if text, from := receive(t, a, 300*time.Millisecond); text != "" {
		t.Errorf("a hears %q from %s through a symmetric NAT", text, from)
	}
	if _, ok := ping(t, w.a, hostB4, 2); !ok {
		t.Error("ping through the NAT has no answer")
	}
	if _, ok := ping(t, w.b, hostA4, 1); ok {
		t.Error("an address behind the NAT answers a ping from outside")
	}
	if _, ok := ping(t, w.a, hostB6, 2); !ok {
		t.Error("IPv6 ping out has no answer")
	}
	if _, ok := ping(t, w.b, hostA6, 1); ok {
		t.Error("an IPv6 address behind the filter answers a ping from outside")
	}
	out, _ := exec.Command("ip", "netns", "exec", w.a, "ping", "-n", "-c", "1", "-W", "1", "-t", "2", hostB4).CombinedOutput()
	if !strings.Contains(string(out), "From 192.0.2.1") {
		t.Errorf("no time exceeded from the core's address behind the NAT:\n%s", out)
	}
}

// TestRealICMPErrorReachesSocket has a kernel match the translated error with
// the socket that it is about.
func TestRealICMPErrorReachesSocket(t *testing.T) {
	w := newWorld(t)
	must(t, w.SetPlaces(t.Context(), placesAB(NAT{Kind: PortRestricted, Public: netip.MustParseAddr(publicA), Ports: PortRandom})))
	conn := inNamespace(t, w.a, func() (*net.UDPConn, error) {
		return net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(hostB4+":9")))
	})
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	_, err := conn.Write([]byte("anyone?"))
	must(t, err)
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("read from a closed port behind a NAT: %v, want %v", err, syscall.ECONNREFUSED)
	}
}

// TestRealTCPThroughNAT moves data both ways, so that checksums, offloads and
// fragments of a stream are all as the kernels want them.
func TestRealTCPThroughNAT(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	must(t, w.SetPlaces(ctx, placesAB(NAT{Kind: FullCone, Public: netip.MustParseAddr(publicA)})))
	must(t, w.SetPath(ctx, "*", "*", Impairment{Delay: 2 * time.Millisecond, Loss: 0.001}))
	listener := inNamespace(t, w.b, func() (net.Listener, error) { return net.Listen("tcp", hostB4+":80") })
	defer listener.Close()
	go func() {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, c)
	}()
	conn := inNamespace(t, w.a, func() (*net.TCPConn, error) {
		return net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(hostB4+":80")))
	})
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	const size = 4 << 20
	go func() {
		block := make([]byte, 1<<16)
		for i := range block {
			block[i] = byte(i * 7)
		}
		for range size / len(block) {
			if _, err := conn.Write(block); err != nil {
				return
			}
		}
		_ = conn.CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	must(t, err)
	if len(got) != size {
		t.Fatalf("%d bytes came back, want %d", len(got), size)
	}
	for i, b := range got {
		if b != byte(i%(1<<16)*7) {
			t.Fatalf("byte %d is %d", i, b)
		}
	}
}

func TestRunnerEndsWithContext(t *testing.T) {
	w := newWorld(t)
	w.stop()
	w.stop = nil
	if err := w.SetPath(t.Context(), "a", "b", Impairment{}); !errors.Is(err, ErrStopped) {
		t.Errorf("SetPath after the end: %v, want %v", err, ErrStopped)
	}
}

func TestRunnerEndsWithDevice(t *testing.T) {
	w := newWorld(t)
	w.stop()
	w.stop = nil
	dev := inNamespace(t, w.a, func() (*Device, error) { return OpenTUN("emu1") })
	r := NewRunner(New(1), dev)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(context.Background()) }()
	must(t, r.Do(t.Context(), func(*Engine) {}))
	must(t, dev.Close())
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Run on a closed device: %v, want %v", err, os.ErrClosed)
	}
}

func TestOpenTUNRefusesATakenName(t *testing.T) {
	w := newWorld(t)
	err := inNamespace(t, w.core, func() (error, error) { _, err := OpenTUN("emu0"); return err, nil })
	if !errors.Is(err, unix.EBUSY) || !strings.HasPrefix(err.Error(), "open TUN device emu0: ") {
		t.Errorf("second OpenTUN: %v, want busy", err)
	}
}

// BenchmarkRunner is what iperf3 measures between two hosts through the TUN.
func BenchmarkRunner(b *testing.B) {
	for _, c := range []struct {
		name string
		nat  NAT
		imp  Impairment
		args string
	}{
		{"tcp", NAT{}, Impairment{}, ""},
		{"tcp-10ms", NAT{}, Impairment{Delay: 10 * time.Millisecond}, ""},
		{"tcp-10ms-nat", NAT{Kind: Symmetric, Public: netip.MustParseAddr(publicA)}, Impairment{Delay: 10 * time.Millisecond}, ""},
		{"tcp-10ms-100Mbit", NAT{}, Impairment{Delay: 10 * time.Millisecond, Rate: 100e6}, ""},
		{"udp-10ms", NAT{}, Impairment{Delay: 10 * time.Millisecond}, "-u -b 1G -l 1400"},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := newWorld(b)
			ctx := b.Context()
			must(b, w.SetPlaces(ctx, placesAB(c.nat)))
			must(b, w.SetPath(ctx, "*", "*", c.imp))
			for _, ns := range []string{w.a, w.b} {
				for _, kind := range []string{"rmem", "wmem"} {
					must(b, exec.Command("ip", "netns", "exec", ns, "sysctl", "-qw",
						"net.ipv4.tcp_"+kind+"=4096 1048576 67108864").Run())
				}
			}
			var bits float64
			used := cpuTime(b)
			for range b.N {
				bits += iperf3(b, w, c.args)
			}
			s, err := w.Stats(ctx)
			must(b, err)
			counters, err := w.Counters(ctx)
			must(b, err)
			var packets uint64
			for _, pair := range counters.Pairs {
				packets += pair.Received
			}
			b.ReportMetric(bits/1e6/float64(b.N), "Mbit/s")
			b.ReportMetric(float64(cpuTime(b)-used)/float64(packets), "cpu-ns/packet")
			b.ReportMetric(float64(s.LateMean.Microseconds()), "late-µs")
			b.ReportMetric(float64(s.LateMax.Microseconds()), "late-max-µs")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// cpuTime is what this process has used.
func cpuTime(b testing.TB) time.Duration {
	var u unix.Rusage
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// iperf3 returns the bits per second that arrive in three seconds.
func iperf3(b testing.TB, w *world, args string) float64 {
	server := exec.Command("ip", "netns", "exec", w.b, "iperf3", "-s", "-1", "-B", hostB4)
	must(b, server.Start())
	defer server.Wait()
	defer server.Process.Kill()
	client := append(strings.Fields("netns exec "+w.a+" iperf3 -J -t 3 -O 1 -c "+hostB4), strings.Fields(args)...)
	for attempt := 0; ; attempt++ {
		// The exit code says nothing with -J.
		out, _ := exec.Command("ip", client...).Output()
		var result struct {
			Error string
			End   struct {
				Received struct {
					Bits float64 `json:"bits_per_second"`
				} `json:"sum_received"`
			}
		}
		must(b, json.Unmarshal(out, &result))
		switch {
		case result.Error == "":
			return result.End.Received.Bits
		case attempt == 50: // the server listens by now
			b.Fatalf("iperf3: %s", result.Error)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
