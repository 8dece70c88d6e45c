package lab

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listen opens a UDP socket in a node that notes when packets come in.
func listen(t testing.TB, l *Lab, node string, at netip.AddrPort) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	err := l.Do(t.Context(), node, func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// stream sends n packets at an interval and returns how long each was on its way, as the
// kernel noted its coming in; -1 where it did not come within half a second after the last.
func stream(t testing.TB, from, to *net.UDPConn, n int, interval time.Duration) []time.Duration {
	t.Helper()
	took := make([]time.Duration, n)
	sent := make([]time.Time, n)
	for i := range took {
		took[i] = -1
	}
	dst := to.LocalAddr().(*net.UDPAddr).AddrPort()
	if err := to.SetReadDeadline(time.Now().Add(time.Duration(n)*interval + 500*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	done := make(chan map[int]time.Time)
	go func() {
		came := map[int]time.Time{}
		b, oob := make([]byte, 100), make([]byte, 100)
		for {
			size, extra, _, _, err := to.ReadMsgUDP(b, oob)
			if err != nil { // the deadline
				done <- came
				return
			}
			ms, err := unix.ParseSocketControlMessage(oob[:extra])
			if err != nil || len(ms) != 1 || size != 8 {
				continue // then the packet counts as lost
			}
			sec, nsec := binary.NativeEndian.Uint64(ms[0].Data), binary.NativeEndian.Uint64(ms[0].Data[8:])
			came[int(binary.BigEndian.Uint64(b))] = time.Unix(int64(sec), int64(nsec))
		}
	}()
	next := time.Now()
	for i := range n {
		time.Sleep(time.Until(next))
		next = next.Add(interval)
		sent[i] = time.Now()
		if _, err := from.WriteToUDPAddrPort(binary.BigEndian.AppendUint64(nil, uint64(i)), dst); err != nil {
			t.Fatal(err)
		}
	}
	for i, at := range <-done {
		took[i] = at.Sub(sent[i].Round(0)) // by the wall clock, as the kernel's is
	}
	return took
}

// arrived counts what came.
func arrived(took []time.Duration) int {
	return len(slices.DeleteFunc(slices.Clone(took), func(d time.Duration) bool { return d < 0 }))
}

func oneWayCuts(t *testing.T, l *Lab) {
	op1, op3 := node(t, l, "op1"), node(t, l, "op3")
	a := listen(t, l, "op1", netip.AddrPortFrom(op1.Addr(), 0))
	b := listen(t, l, "op3", netip.AddrPortFrom(op3.Addr(), 0))
	expect := func(what string, there, back int) {
		t.Helper()
		for _, way := range []struct {
			name     string
			from, to *net.UDPConn
			want     int
		}{{"op1 to op3", a, b, there}, {"op3 to op1", b, a, back}} {
			if got := arrived(stream(t, way.from, way.to, 10, time.Millisecond)); got != way.want {
				t.Errorf("%s: %s: %d of 10 packets came, want %d", what, way.name, got, way.want)
			}
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(l.CutOneWay(t.Context(), "op1", "op3"))
	expect("cut from op1 to op3", 0, 10)
	must(l.CutOneWay(t.Context(), "op3", "op1"))
	expect("and back", 0, 0)
	must(l.HealOneWay(t.Context(), "op1", "op3"))
	expect("healed from op1 to op3", 10, 0)
	must(l.Heal(t.Context(), "op1", "op3"))
	expect("healed", 10, 10)
}

func plainPathsChangeOneWay(t *testing.T, l *Lab) {
	op1, inet := node(t, l, "op1"), node(t, l, "inet")
	a := listen(t, l, "op1", netip.AddrPortFrom(op1.Addr(), 0))
	b := listen(t, l, "inet", netip.AddrPortFrom(inet.Addr(), 0))
	quickest := func(from, to *net.UDPConn) time.Duration {
		return slices.Min(stream(t, from, to, 10, time.Millisecond))
	}
	if err := l.ChangePathOneWay(t.Context(), "op1", "inet", "delay=40ms"); err != nil {
		t.Fatal(err)
	}
	if there, back := quickest(a, b), quickest(b, a); there < 40*time.Millisecond || back > 20*time.Millisecond {
		t.Errorf("%v there and %v back, where only there is a delay of 40 ms", there, back)
	}
	paths, err := l.Paths(t.Context(), "op1", "inet")
	if err != nil || len(paths) != 2 || paths[0].From != "op1/eth0" || paths[0].Words() != "delay=40ms" || paths[1].Words() != "plain" {
		t.Errorf("the lab says %+v, %v", paths, err)
	}
	if err := l.ChangePath(t.Context(), "op1", "inet", "rtt=0s"); err != nil {
		t.Fatal(err)
	}
	if there := quickest(a, b); there > 20*time.Millisecond {
		t.Errorf("the old delay is still there: %v", there)
	}
}

// TestEmulatorIsOnTime sends what a probe sends, a packet every 10 ms, through a path of
// 12 ms. What a packet takes beyond that is the emulator's and the machine's fault.
func TestEmulatorIsOnTime(t *testing.T) {
	l := up(t, examples["home"], File{})
	if err := l.ChangePath(context.Background(), "op1", "inet", "rtt=24ms"); err != nil {
		t.Fatal(err)
	}
	a := listen(t, l, "op1", netip.AddrPortFrom(node(t, l, "op1").Addr(), 0))
	b := listen(t, l, "inet", netip.AddrPortFrom(node(t, l, "inet").Addr(), 0))
	took := stream(t, a, b, 200, 10*time.Millisecond)
	slices.Sort(took)
	late := func(part float64) time.Duration { return took[int(part*float64(len(took)-1))] - 12*time.Millisecond }
	t.Logf("late by: median %v, 99 %% under %v, at most %v", late(0.5), late(0.99), late(1))
	// Usually the median is under 0.1 ms.
	if late(0) < 0 || late(0.5) > 5*time.Millisecond {
		t.Errorf("late by %v (first), %v (median), %v (last)", late(0), late(0.5), late(1))
	}
}
