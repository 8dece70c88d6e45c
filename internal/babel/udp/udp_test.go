package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tombolo/internal/babel/wire"
)

// talk checks that two routers hear each other by group and by unicast over a device.
func talk(t *testing.T, a, b *router, device string, start time.Time) {
	t.Helper()
	for _, tt := range []struct {
		from, to *router
		target   netip.Addr
	}{{a, b, wire.Group}, {b, a, wire.Group}, {a, b, b.own}, {b, a, a.own}} {
		before := time.Since(start)
		payload := fmt.Sprintf("from %s to %s", tt.from.own, tt.target)
		tt.from.send(device, tt.target, payload)
		got := tt.to.one()
		after := time.Since(start)
		if string(got.Payload) != payload || got.From != tt.from.own || got.To != tt.target ||
			got.Port != 6696 || got.HopLimit != 1 || got.Index != tt.to.index[device] {
			t.Errorf("sent %q, received %q: %+v", payload, got.Payload, got)
		}
		// The clocks are read one after the other: a microsecond's grace.
		if got.At < before-time.Microsecond || got.At > after {
			t.Errorf("%q, sent at %v and read at %v, came at %v", payload, before, after, got.At)
		}
	}
}

func TestGroupAndUnicastOverVeth(t *testing.T) {
	t.Parallel()
	start := time.Now()
	a, b := pair(t, start)
	talk(t, a, b, "v0", start)
}

// A WireGuard interface has no MULTICAST flag, no neighbour discovery and no link-local
// address of its own.
func TestGroupAndUnicastWhereTheDeviceHasNoMulticast(t *testing.T) {
	start := time.Now()
	a, b := newRouter(t, "fe80::a"), newRouter(t, "fe80::b")
	ends := []*os.File{a.Tun("wg0", unix.IFF_TUN), b.Tun("wg0", unix.IFF_TUN)}
	for i, r := range []*router{a, b} {
		r.Sh("ip link set wg0 multicast off")
		r.device("wg0")
		go func() {
			packet := make([]byte, 2000)
			for {
				n, err := ends[i].Read(packet)
				if err != nil {
					return
				}
				_, _ = ends[1-i].Write(packet[:n])
			}
		}()
		r.open(start)
	}
	a.greet(b, "wg0")
	b.greet(a, "wg0")
	if flags := a.flags("wg0"); flags&net.FlagMulticast != 0 || flags&net.FlagUp == 0 {
		t.Fatalf("the device's flags are %v", flags)
	}
	talk(t, a, b, "wg0", start)
}

// An agent that is busy reads late; what it then reads did not come late.
func TestTimeIsOfArrivalAndNotOfReading(t *testing.T) {
	t.Parallel()
	start := time.Now()
	a, b := pair(t, start)
	for range 3 {
		before := time.Since(start)
		a.send("v0", b.own, "x")
		sent := time.Since(start)
		time.Sleep(300 * time.Millisecond)
		got := b.one()
		if got.At < before-time.Microsecond || got.At > sent+150*time.Millisecond {
			t.Errorf("sent between %v and %v, came at %v", before, sent, got.At)
		}
	}
}

// RTT as RFC 9616 has it, of two clocks: what each side waits does not count.
func TestRoundTripWithoutTheWaiting(t *testing.T) {
	t.Parallel()
	start := time.Now()
	a, b := pair(t, start)
	var rtt []time.Duration
	for range 20 {
		t1 := time.Since(start)
		a.send("v0", wire.Group, "hello")
		time.Sleep(2 * time.Millisecond) // b is busy
		t2 := b.one().At
		t3 := time.Since(start)
		b.send("v0", a.own, "ihu")
		time.Sleep(2 * time.Millisecond) // and a
		t4 := a.one().At
		rtt = append(rtt, t4-t1-(t3-t2))
	}
	slices.Sort(rtt)
	t.Logf("round trip over a veth: %v, median %v, %v", rtt[0], rtt[10], rtt[19])
	if rtt[0] < -2*time.Microsecond || rtt[0] > 2*time.Millisecond {
		t.Errorf("the best round trip takes %v", rtt[0])
	}
}

func TestOnlyBabelsAddressesArePassedOn(t *testing.T) {
	t.Parallel()
	a, b := pair(t, time.Now())
	a.Sh("ip address add fd00::a/64 dev v0 nodad; ip neighbour replace fd00::b lladdr 02:00:00:00:00:0b dev v0")
	// The kernel takes packets to a new address a moment after it has it.
	b.Sh("ip address add fd00::b/64 dev v0 nodad; until ip -6 route get fd00::b | grep -q ^local; do sleep 0.01; done")
	last := func() { a.send("v0", b.own, "last") }
	global := func(from, to string) {
		t.Helper()
		if err := a.socket.Send(a.index["v0"], netip.MustParseAddr(from), netip.MustParseAddr(to), []byte("no")); err != nil {
			t.Fatal(err)
		}
	}
	b.quiet(func() {
		global("fd00::a", "ff02::1:6")
		global("fd00::a", "fd00::b")
		global("fd00::a", "fe80::b")
		last()
	})
	if d := b.socket.Drops(); d != (Drops{Source: 3}) {
		t.Errorf("of three packets with a global source it says %+v", d)
	}
	b.quiet(func() { global("fe80::a", "fd00::b"); last() })
	if d := b.socket.Drops(); d != (Drops{Source: 3, Target: 1}) {
		t.Errorf("of one more to a global address it says %+v", d)
	}
	b.quiet(func() {
		var err error
		a.In(func() {
			var c *net.UDPConn
			c, err = net.DialUDP("udp6", nil, &net.UDPAddr{IP: net.ParseIP("fe80::b"), Port: 6696, Zone: "v0"})
			if err == nil {
				_, err = c.Write([]byte("no"))
				c.Close()
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		last()
	})
	if d := b.socket.Drops(); d != (Drops{Source: 4, Target: 1}) {
		t.Errorf("of one more from another port it says %+v", d)
	}
}

// Whoever else joins the group, or another one, on some interface: we hear what we joined.
func TestOnlyWhatWasJoinedIsHeard(t *testing.T) {
	t.Parallel()
	a, b := pair(t, time.Now())
	index := b.index["v0"]
	var other *net.UDPConn
	var err error
	b.In(func() {
		other, err = net.ListenMulticastUDP("udp6", &net.Interface{Index: index, Name: "v0"},
			&net.UDPAddr{IP: net.ParseIP("ff02::1:6"), Port: 6697})
	})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	last := func() { a.send("v0", b.own, "last") }
	b.quiet(func() { a.send("v0", netip.MustParseAddr("ff02::1"), "all nodes"); last() })
	for range 2 { // twice is no error
		if err := b.socket.Leave(index); err != nil {
			t.Fatal(err)
		}
	}
	b.quiet(func() { a.send("v0", wire.Group, "group"); last() })
	for range 2 {
		if err := b.socket.Join(index); err != nil {
			t.Fatal(err)
		}
	}
	a.send("v0", wire.Group, "group")
	if p := b.one(); string(p.Payload) != "group" {
		t.Errorf("came: %q", p.Payload)
	}
	if err := b.socket.Join(4711); !errors.Is(err, unix.ENODEV) {
		t.Errorf("an interface that is not there: %v", err)
	}
	if err := b.socket.Leave(4711); err != nil {
		t.Errorf("an interface that is gone: %v", err)
	}
}

func TestSpeakerDoesNotHearItself(t *testing.T) {
	t.Parallel()
	a, b := pair(t, time.Now())
	a.quiet(func() { a.send("v0", wire.Group, "own"); b.send("v0", a.own, "last") })
}

func TestSendSaysWhatItCouldNotDo(t *testing.T) {
	t.Parallel()
	a, b := pair(t, time.Now())
	a.Sh("ip link set v0 down")
	err := a.socket.Send(a.index["v0"], a.own, b.own, []byte("x"))
	if err == nil || !strings.Contains(err.Error(), "from fe80::a to fe80::b on interface") {
		t.Errorf("on an interface that is down: %v", err)
	}
	a.Sh("ip link del v0")
	if err := a.socket.Send(a.index["v0"], a.own, wire.Group, []byte("x")); !errors.Is(err, unix.ENODEV) {
		t.Errorf("on an interface that is gone: %v", err)
	}
	a.socket.Close()
	if err := a.socket.Send(1, a.own, b.own, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("on a closed socket: %v", err)
	}
}

func TestCloseWakesReceive(t *testing.T) {
	r := newRouter(t, "fe80::a")
	r.open(time.Now())
	result := make(chan error)
	go func() {
		_, err := r.socket.Receive(r.batch)
		result <- err
	}()
	time.Sleep(50 * time.Millisecond)
	if err := r.socket.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-result:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("Receive says %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Receive still waits")
	}
	if _, err := r.socket.Receive(r.batch); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a new Receive says %v", err)
	}
}

// The words lead to the one that has the port.
func TestSecondRouterIsToldOfTheFirst(t *testing.T) {
	r := newRouter(t, "fe80::a")
	r.open(time.Now())
	var err error
	r.In(func() { _, err = Open(time.Now()) })
	if err == nil || !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), "another Babel router runs here") {
		t.Fatalf("the second says %v", err)
	}
	_, command, _ := strings.Cut(err.Error(), "(")
	command, _, _ = strings.Cut(command, " names it)")
	var out []byte
	r.In(func() { out, err = exec.Command("sh", "-c", command).CombinedOutput() })
	if err != nil || !strings.Contains(string(out), fmt.Sprintf("pid=%d,", os.Getpid())) {
		t.Errorf("%s: %v\n%s", command, err, out)
	}
}

// burst is what comes at once where fifty neighbours announce a thousand routes each.
const burst = 50 * 15

func TestBurstIsNotLost(t *testing.T) {
	t.Parallel()
	a, b := pair(t, time.Now())
	payload := strings.Repeat("x", 1400)
	for i := range burst {
		a.send("v0", b.own, fmt.Sprintf("%04d%s", i, payload))
	}
	got := 0
	for got < burst {
		packets := b.receive(10 * time.Second)
		if len(packets) == 0 {
			t.Fatalf("%d of %d packets came; %+v", got, burst, b.socket.Drops())
		}
		for _, p := range packets {
			if want := fmt.Sprintf("%04d", got); string(p.Payload[:4]) != want || len(p.Payload) != 1404 {
				t.Fatalf("packet %d is %q with %d bytes", got, p.Payload[:4], len(p.Payload))
			}
			got++
		}
	}
	if d := b.socket.Drops(); d != (Drops{}) {
		t.Errorf("dropped: %+v", d)
	}
}

func TestOverflowIsCounted(t *testing.T) {
	t.Parallel()
	a, b := pair(t, time.Now())
	err := b.socket.control(func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 20_000)
	})
	if err != nil {
		t.Fatal(err)
	}
	sent, got := uint64(200), uint64(0)
	for range sent {
		a.send("v0", b.own, strings.Repeat("x", 1400))
	}
	for range 2 { // what is told is told with the next packet
		for packets := b.receive(time.Second); len(packets) > 0; packets = b.receive(200 * time.Millisecond) {
			got += uint64(len(packets))
		}
		a.send("v0", b.own, "x")
		sent++
	}
	got += uint64(len(b.receive(10 * time.Second)))
	if d := b.socket.Drops(); d.Overflow == 0 || d.Overflow != sent-got {
		t.Errorf("of %d packets %d came, and %+v", sent, got, d)
	}
}

// A neighbour on a segment with a large MTU may use all of it, and fragment too.
func TestLongestPacketComesWhole(t *testing.T) {
	t.Parallel()
	a, b := pair(t, time.Now())
	long := strings.Repeat("abcdefg", MaxPacket/7)
	a.send("v0", b.own, long)
	if p := b.one(); string(p.Payload) != long {
		t.Errorf("%d of %d bytes came", len(p.Payload), len(long))
	}
}

func TestReceiveAllocatesNothing(t *testing.T) {
	a, b := pair(t, time.Now())
	const runs = 20
	if err := b.socket.file.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for range batchSize * (runs + 1) { // AllocsPerRun runs it once more
		a.send("v0", b.own, "x")
	}
	if n := testing.AllocsPerRun(runs, func() {
		if got, err := b.socket.Receive(b.batch); err != nil || len(got) != batchSize {
			t.Errorf("%d packets came: %v", len(got), err)
		}
	}); n != 0 {
		t.Errorf("each call allocates %v times", n)
	}
}

// BenchmarkReceive is the cost of one packet that waits.
func BenchmarkReceive(b *testing.B) {
	x, y := pair(b, time.Now())
	left := 0
	for b.Loop() {
		if left == 0 {
			b.StopTimer()
			for range burst {
				x.send("v0", y.own, "x")
			}
			left = burst
			b.StartTimer()
		}
		got, err := y.socket.Receive(y.batch)
		if err != nil {
			b.Fatal(err)
		}
		left -= len(got)
		b.ReportMetric(float64(len(got)), "packets/op")
	}
}
