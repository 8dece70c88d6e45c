package kernel

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func openMeter(t testing.TB) *Meter {
	t.Helper()
	m, err := OpenMeter()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func counters(t testing.TB, m *Meter) map[string]Counter {
	t.Helper()
	c, err := m.Counters()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// quietPair is a veth whose devices send nothing by themselves.
func quietPair(t testing.TB) {
	t.Helper()
	sh(t, `ip link add v0 type veth peer name v1
		for d in v0 v1; do ip link set $d addrgenmode none; ip link set $d up; done
		ip address add 10.0.0.1/24 dev v0; ip neighbour add 10.0.0.2 lladdr 02:00:00:00:00:02 dev v0`)
}

func TestMeterCountsPacketsAndBytesBothWays(t *testing.T) {
	namespace(t)
	quietPair(t)
	m := openMeter(t)
	before := counters(t, m)
	send(t, "10.0.0.2:9", 5, 100)
	const frame = 14 + 20 + 8 + 100
	after := counters(t, m)
	out, in := after["v0"], after["v1"]
	if n := out.TxPackets - before["v0"].TxPackets; n != 5 {
		t.Errorf("of 5 packets v0 sent %d", n)
	}
	if n := out.TxBytes - before["v0"].TxBytes; n != 5*frame {
		t.Errorf("of %d bytes v0 sent %d", 5*frame, n)
	}
	if n := in.RxPackets - before["v1"].RxPackets; n != 5 {
		t.Errorf("of 5 packets v1 received %d", n)
	}
	if n := in.RxBytes - before["v1"].RxBytes; n != 5*frame {
		t.Errorf("of %d bytes v1 received %d", 5*frame, n)
	}
	if out.RxPackets != before["v0"].RxPackets || in.TxPackets != before["v1"].TxPackets {
		t.Errorf("the other way: %+v and %+v", out, in)
	}
}

// send sends packets that nobody answers.
func send(t testing.TB, to string, n, size int) {
	t.Helper()
	host, port, _ := strings.Cut(to, ":")
	var p int
	fmt.Sscan(port, &p)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for range n {
		if err := unix.Sendto(fd, make([]byte, size), 0, &unix.SockaddrInet4{Port: p, Addr: addrOf(host).As4()}); err != nil {
			t.Fatal(err)
		}
	}
}

// An agent's threads may be anywhere; its Meter stays, and sees what becomes of devices.
func TestMeterStaysInItsNamespace(t *testing.T) {
	namespace(t)
	veth(t)
	m := openMeter(t)
	sh(t, "ip link set v1 down; ip link set v1 name renamed")
	for name, want := range map[string]bool{"v0": true, "renamed": true, "lo": true, "v1": false} {
		if _, got := counters(t, m)[name]; got != want {
			t.Errorf("it has %s: %v", name, got)
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if c := counters(t, m); len(c) != 3 {
		t.Errorf("from another namespace it has %v", c)
	}
}

// fiftyDevices makes as many, and more than one page of counters.
func fiftyDevices(t testing.TB) {
	t.Helper()
	var b strings.Builder
	for i := range 25 {
		fmt.Fprintf(&b, "ip link add left%d type veth peer name right%d\n", i, i)
	}
	sh(t, b.String())
}

func TestMeterHasEveryDevice(t *testing.T) {
	namespace(t)
	fiftyDevices(t)
	m := openMeter(t)
	m.buf = m.buf[:100] // it grows
	c := counters(t, m)
	if len(c) != 51 {
		t.Errorf("of 51 devices it has %d", len(c))
	}
}

func TestCountersOfAnUnknownFormAreAnError(t *testing.T) {
	head := "Inter-|   Receive\n face |bytes\n"
	for _, line := range []string{"lo: 1 2 3\n", "lo 1 2 3 4 5 6 7 8 9 10 11\n", "lo: 1 2 x 4 5 6 7 8 9 10\n"} {
		if c, err := decodeCounters([]byte(head + line)); err == nil {
			t.Errorf("%q is read as %v", line, c)
		}
	}
	want := Counter{RxBytes: 1, RxPackets: 2, TxBytes: 18446744073709551615, TxPackets: 10}
	c, err := decodeCounters([]byte(head + "wg-op1:1 2 3 4 5 6 7 8 18446744073709551615 10 11 12 13 14 15 16\n"))
	if err != nil || c["wg-op1"] != want {
		t.Errorf("read %+v, %v", c, err)
	}
}

// BenchmarkCounters50 is one look of an agent at fifty links.
func BenchmarkCounters50(b *testing.B) {
	namespace(b)
	fiftyDevices(b)
	m := openMeter(b)
	for b.Loop() {
		if _, err := m.Counters(); err != nil {
			b.Fatal(err)
		}
	}
}
