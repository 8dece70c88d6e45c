package tunnel

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	wireguard "github.com/tailscale/wireguard-go/device"
)

func begin(index uint32) []byte {
	b := make([]byte, wireguard.MessageInitiationSize)
	binary.LittleEndian.PutUint32(b, wireguard.MessageInitiationType)
	binary.LittleEndian.PutUint32(b[4:], index)
	return b
}

func TestWhichInitiationYields(t *testing.T) {
	there, elsewhere := netip.MustParseAddrPort("192.0.2.2:1"), netip.MustParseAddrPort("192.0.2.2:2")
	mapped := netip.MustParseAddrPort("[::ffff:192.0.2.2]:1")
	start := time.Unix(1000, 0)
	response := make([]byte, wireguard.MessageResponseSize)
	for _, x := range []struct {
		name   string
		from   netip.AddrPort
		packet []byte
		after  time.Duration
		want   bool
	}{
		{"the smaller index", there, begin(6), 20 * time.Millisecond, true},
		{"through a socket of both families", mapped, begin(6), 0, true},
		{"the larger index", there, begin(8), 20 * time.Millisecond, false},
		{"the same index", there, begin(7), 20 * time.Millisecond, false},
		{"from elsewhere", elsewhere, begin(6), 20 * time.Millisecond, false},
		{"too late to have crossed", there, begin(6), crossTime, false},
		{"no initiation", there, response, 0, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			var c crossing
			c.began(there, begin(7), start)
			c.began(there, response, start)
			if got := c.yields(x.from, x.packet, start.Add(x.after)); got != x.want {
				t.Errorf("it yields: %v", got)
			}
			if c.yields(there, begin(5), start) && x.want {
				t.Error("a second one yields too")
			}
		})
	}
}

// Both ends begin while their packets wait for each other's hardware address, so that they
// cross for certain.
func TestCrossingHandshakesEndInASession(t *testing.T) {
	a, b := newPair(t)
	wa, wb := ifName("a"), ifName("b")
	for _, s := range []struct {
		r    *router
		name string
	}{{a, wa}, {b, wb}} {
		if err := s.r.add(s.name); err != nil {
			t.Fatal(err)
		}
		s.r.keys()
		s.r.ip("addr add " + s.r.inner + "/24 dev " + s.name)
		s.r.ip("link set " + s.name + " up")
		s.r.exec("sysctl -qw net.ipv4.neigh.veth0.retrans_time_ms=50 net.ipv4.neigh.veth0.mcast_solicit=40")
		s.r.exec("nft add table arp f")
		s.r.exec("nft add chain arp f in { type filter hook input priority 0 ; policy drop ; }")
	}
	for _, s := range []struct {
		r, o *router
		name string
		port int
		to   string
	}{{a, b, wa, 51001, b.addr + ":51002"}, {b, a, wb, 51002, a.addr + ":51001"}} {
		s.r.peerWith(s.name, s.port, s.o, s.to)
		if _, err := s.r.try("ip netns exec " + s.r.ns + " ping -c 1 -W 0.02 " + s.o.inner); err == nil {
			t.Fatal("it was answered without hardware addresses")
		}
	}
	for _, r := range []*router{a, b} {
		r.exec("nft delete table arp f")
	}
	a.reaches(b.inner, 3*time.Second) // WireGuard tries again after five
	for r, name := range map[*router]string{a: wa, b: wb} {
		if out := strings.TrimSpace(r.sh("wg show " + name + " latest-handshakes")); strings.HasSuffix(out, "\t0") {
			t.Errorf("%s has no handshake: %q", name, out)
		}
	}
}
