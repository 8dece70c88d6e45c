package lab

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

// answerOnce listens, calls f, and returns where a datagram came from.
func answerOnce(network, address string, f func() error) (netip.AddrPort, error) {
	conn, err := net.ListenPacket(network, address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer conn.Close()
	if err := f(); err != nil {
		return netip.AddrPort{}, err
	}
	return receive(conn)
}

func receive(conn net.PacketConn) (netip.AddrPort, error) {
	if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return netip.AddrPort{}, err
	}
	_, from, err := conn.ReadFrom(make([]byte, 100))
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.MustParseAddrPort(from.String()), nil
}

// socket opens a UDP socket inside a node.
func socket(t testing.TB, l *Lab, node string) net.PacketConn {
	t.Helper()
	var conn net.PacketConn
	err := l.Do(t.Context(), node, func() (err error) {
		conn, err = net.ListenPacket("udp4", ":0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// natProbe is how a NAT behaves (RFC 4787 §4.1, §5).
type natProbe struct {
	samePort    bool // one outside port for all destinations
	otherPort   bool // lets in from another port of a host that was sent to
	otherSender bool // lets in from a host that was not sent to
}

func probeNAT(t *testing.T, l *Lab, site string) natProbe {
	t.Helper()
	inside := socket(t, l, site)
	x, x2, y, y2 := socket(t, l, "x"), socket(t, l, "x"), socket(t, l, "y"), socket(t, l, "y")
	at := func(conn net.PacketConn, node string) net.Addr {
		a := netip.AddrPortFrom(node4(t, l, node), netip.MustParseAddrPort(conn.LocalAddr().String()).Port())
		return net.UDPAddrFromAddrPort(a)
	}
	send := func(from net.PacketConn, to net.Addr) {
		t.Helper()
		if _, err := from.WriteTo([]byte("probe"), to); err != nil {
			t.Fatal(err)
		}
	}
	arrives := func(from net.PacketConn, to net.Addr) bool {
		t.Helper()
		send(from, to)
		if err := inside.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, _, err := inside.ReadFrom(make([]byte, 100))
		return err == nil
	}
	send(inside, at(x, "x"))
	first, err := receive(x)
	if err != nil {
		t.Fatal(err)
	}
	outside := net.UDPAddrFromAddrPort(first)
	if !arrives(x, outside) {
		t.Errorf("%s: the answer does not come in", site)
	}
	got := natProbe{otherPort: arrives(x2, outside), otherSender: arrives(y2, outside)}
	send(inside, at(y, "y"))
	second, err := receive(y)
	if err != nil {
		t.Fatal(err)
	}
	got.samePort = first == second
	return got
}

func node4(t testing.TB, l *Lab, name string) netip.Addr {
	t.Helper()
	return node(t, l, name).Addr()
}
