package tunnel

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

// uapi exchanges one operation on a device's socket.
func uapi(t testing.TB, name, operation string) string {
	t.Helper()
	c, err := net.Dial("unix", uapiPath(name))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(operation)); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(b.String(), "errno=") || !strings.HasSuffix(b.String(), "\n\n") {
		n, err := c.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			break
		}
	}
	return b.String()
}

func (r *router) endpoint(name string) string {
	r.t.Helper()
	_, at, _ := strings.Cut(strings.TrimSpace(r.sh("wg show "+name+" endpoints")), "\t")
	return at
}

func TestPeerRoams(t *testing.T) {
	a, b := newPair(t)
	wa, wb := wgPair(t, a, b)
	if got := b.endpoint(wb); got != "(none)" {
		t.Errorf("before the first packet a is at %s", got)
	}
	a.reaches(b.inner, 3*time.Second)
	if got := b.endpoint(wb); got != "192.0.2.1:51001" {
		t.Errorf("a is at %s", got)
	}

	// In the middle of a session, to another port and another address.
	a.sh("wg set " + wa + " listen-port 51003")
	a.ip("addr add 192.0.2.3/24 dev veth0")
	a.ip("addr del 192.0.2.1/24 dev veth0")
	a.ip("addr add 192.0.2.3/24 dev veth0 nodad")
	a.reaches(b.inner, 3*time.Second)
	if got := b.endpoint(wb); got != "192.0.2.3:51003" {
		t.Errorf("after its move a is at %s", got)
	}

	// A `set` that does not name the endpoint leaves it.
	b.sh("wg set " + wb + " peer " + a.pub() + " persistent-keepalive 25")
	if got := b.endpoint(wb); got != "192.0.2.3:51003" {
		t.Errorf("after a `set` a is at %s", got)
	}

	// The supervisor knows the new place.
	time.Sleep(keepSeldom + 200*time.Millisecond)
	_, worker := b.processes()
	if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := b.add(wb); err != nil { // waits for the next
		t.Fatal(err)
	}
	if got := b.endpoint(wb); got != "192.0.2.3:51003" {
		t.Errorf("after a restart a is at %s", got)
	}
	b.reaches(a.inner, 3*time.Second)

	b.sh("wg set " + wb + " peer " + a.pub() + " remove")
	b.sh("wg set " + wb + " peer " + a.pub() + " allowed-ips 0.0.0.0/0")
	if got := b.endpoint(wb); got != "(none)" {
		t.Errorf("after its removal a is at %s", got)
	}
}

func TestForgedPacketsDoNotMoveAPeer(t *testing.T) {
	a, b := newPair(t)
	_, wb := wgPair(t, a, b)
	a.reaches(b.inner, 3*time.Second)
	a.ip("addr add 192.0.2.9/24 dev veth0")
	a.in(func() {
		c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(192, 0, 2, 9)}, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 51002})
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for kind, size := range map[byte]int{1: 148, 2: 92, 3: 64, 4: 80} {
			p := make([]byte, size)
			p[0] = kind
			for range 10 {
				if _, err := c.Write(p); err != nil {
					t.Error(err)
				}
			}
		}
	})
	if !a.pings(b.inner) {
		t.Error("no answer")
	}
	if got := b.endpoint(wb); got != "192.0.2.1:51001" {
		t.Errorf("a is at %s", got)
	}
}

// A peer that dials one of several addresses hears from that one.
func TestAnswersComeFromTheAddressThatWasDialled(t *testing.T) {
	a, b := newPair(t)
	wa, wb := wgPair(t, a, b)
	b.ip("addr add 198.51.100.2/32 dev lo")
	a.ip("route add 198.51.100.2 via 192.0.2.2")
	a.sh("wg set " + wa + " peer " + b.pub() + " endpoint 198.51.100.2:51002")
	a.reaches(b.inner, 3*time.Second)
	if got := a.endpoint(wa); got != "198.51.100.2:51002" {
		t.Errorf("b answers from %s", got)
	}
	if got := b.endpoint(wb); got != "192.0.2.1:51001" {
		t.Errorf("a answers from %s", got)
	}
}

// With two uplinks, the way back follows the routes as soon as they change, although the
// peer's packets still come in by the other one.
func TestStickySourceEndsWhenRoutesChange(t *testing.T) {
	a, b := newPair(t)
	wa, wb := wgPair(t, a, b)
	// a is reached at an address behind both uplinks, and answers by the first.
	a.ip("addr add 198.51.100.1/32 dev lo")
	a.ip("link add veth1 type veth peer name veth1 netns " + b.ns)
	for i, r := range []*router{a, b} {
		r.ip(fmt.Sprintf("addr add 203.0.113.%d/24 dev veth1", i+1))
		r.ip("link set veth1 up")
		for _, dev := range []string{"all", "veth0", "veth1"} {
			r.exec("sysctl -qw net.ipv4.conf." + dev + ".rp_filter=0")
		}
	}
	b.ip("route add 198.51.100.1 via 192.0.2.1")
	a.sh("wg set " + wa + " peer " + b.pub() + " endpoint 192.0.2.2:51002")
	b.sh("wg set " + wb + " peer " + a.pub() + " endpoint 198.51.100.1:51001")
	b.reaches(a.inner, 3*time.Second)
	if got := b.endpoint(wb); got != "198.51.100.1:51001" {
		t.Errorf("a answers from %s", got)
	}

	b.ip("route replace 198.51.100.1 via 203.0.113.1")
	b.exec("nft add table ip x")
	b.exec("nft add chain ip x out { type filter hook output priority 0 ; }")
	b.exec("nft add rule ip x out oifname veth0 udp dport 51001 drop") // that uplink is dead
	b.reaches(a.inner, 2*time.Second)
	if got := a.endpoint(wa); got != "203.0.113.2:51002" {
		t.Errorf("b is now at %s", got)
	}
}

func TestWhereAPacketWouldLeave(t *testing.T) {
	r := newRouter(t, "", "")
	r.ip("link add veth0 type veth peer name veth1")
	for i := range 2 {
		r.ip(fmt.Sprintf("addr add 192.0.%d.1/24 dev veth%d", i, i))
		r.ip(fmt.Sprintf("addr add 2001:db8:%d::1/64 dev veth%d nodad", i, i))
		r.ip(fmt.Sprintf("link set veth%d up", i))
	}
	r.ip("addr add 198.51.100.1/32 dev lo")
	r.ip("rule add fwmark 7 lookup 77")
	r.ip("route add 192.0.0.0/24 dev veth1 table 77")
	r.in(func() {
		w, err := newWatch()
		if err != nil {
			t.Error(err)
			return
		}
		for _, c := range []struct {
			src, dst string
			mark     uint32
			want     string
		}{
			{"192.0.0.1", "192.0.0.2", 0, "veth0"},
			{"198.51.100.1", "192.0.0.2", 0, "veth0"},
			{"::ffff:198.51.100.1", "::ffff:192.0.0.2", 0, "veth0"},
			{"192.0.0.1", "192.0.0.2", 7, "veth1"},
			{"2001:db8:0::1", "2001:db8:1::2", 0, "veth1"},
			{"192.0.2.200", "192.0.0.2", 0, ""}, // not ours
			{"192.0.0.1", "203.0.113.1", 0, ""}, // no route
		} {
			got, err := w.leaves(netip.MustParseAddr(c.src), netip.MustParseAddr(c.dst), c.mark)
			if want, _ := ifIndex(c.want); got != want || (err == nil) != (c.want != "") {
				t.Errorf("from %s to %s mark %d: interface %d, %v; want %s", c.src, c.dst, c.mark, got, err, c.want)
			}
		}
	})
}
