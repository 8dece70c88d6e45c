package tunnel

import (
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/tailscale/wireguard-go/conn"
	"golang.org/x/sys/unix"
)

// A packet to an IPv6 address arrives there, whatever was sent before it.
func TestIPv6AddressesAreWhole(t *testing.T) {
	runtime.LockOSThread() // for good: the thread ends with the test, and its namespace with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	const addresses = "ip link set lo up; ip address add fd00:1:2:3:4:5:6:7/128 dev lo nodad; ip address add fd00:1:2:3:4:5:6:8/128 dev lo nodad"
	if out, err := exec.Command("sh", "-ec", addresses).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b := newWhole().(whole)
	if b.addresses == nil {
		t.Fatal("the bind has no pool of addresses any more: look whether it still needs to be made whole")
	}
	if _, _, err := b.Open(0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	at := map[string]net.PacketConn{}
	for _, a := range []string{"127.0.0.1", "fd00:1:2:3:4:5:6:7", "fd00:1:2:3:4:5:6:8"} {
		c, err := net.ListenPacket("udp", net.JoinHostPort(a, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		at[a] = c
	}
	for range 20 {
		for a, c := range at {
			to := c.LocalAddr().(*net.UDPAddr).AddrPort()
			e := &conn.StdNetEndpoint{AddrPort: netip.AddrPortFrom(netip.MustParseAddr(a), to.Port())}
			if err := b.Send([][]byte{[]byte(a)}, e, 0); err != nil {
				t.Fatal(err)
			}
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second)) // it can
			if _, _, err := c.ReadFrom(make([]byte, 100)); err != nil {
				t.Fatalf("nothing came to %s: %v", a, err)
			}
		}
	}
}
