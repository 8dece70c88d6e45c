package tunnel

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
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

func respond(receiver uint32) []byte {
	b := make([]byte, wireguard.MessageResponseSize)
	binary.LittleEndian.PutUint32(b, wireguard.MessageResponseType)
	binary.LittleEndian.PutUint32(b[8:], receiver)
	return b
}

func TestWhichInitiationYields(t *testing.T) {
	there, elsewhere := netip.MustParseAddrPort("192.0.2.2:1"), netip.MustParseAddrPort("192.0.2.2:2")
	mapped := netip.MustParseAddrPort("[::ffff:192.0.2.2]:1")
	start := time.Unix(1000, 0)
	for _, x := range []struct {
		name   string
		from   netip.AddrPort
		before []byte // comes from there, before
		packet []byte
		after  time.Duration
		want   bool
	}{
		{"the smaller index", there, nil, begin(6), 20 * time.Millisecond, true},
		{"through a socket of both families", mapped, nil, begin(6), 0, true},
		{"the larger index", there, nil, begin(8), 20 * time.Millisecond, false},
		{"the same index", there, nil, begin(7), 20 * time.Millisecond, false},
		{"from elsewhere", elsewhere, nil, begin(6), 20 * time.Millisecond, false},
		{"too late to have crossed", there, nil, begin(6), crossTime, false},
		{"no initiation", there, nil, respond(6), 0, false},
		{"ours was answered", there, respond(7), begin(6), 0, false},
		{"another was answered", there, respond(9), begin(6), 0, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			var c crossing
			packet := begin(7)
			if !c.sends(there, packet, start) {
				t.Fatal("ours is not sent")
			}
			clear(packet) // the buffer is device's
			if x.before != nil {
				c.yields(there, x.before, start)
			}
			ours, yields := c.yields(x.from, x.packet, start.Add(x.after))
			if yields != x.want || yields && !bytes.Equal(ours, begin(7)) {
				t.Errorf("it yields: %v, ours is % x", yields, ours)
			}
			if _, again := c.yields(there, begin(5), start); again && x.want {
				t.Error("a second one yields too")
			}
		})
	}
}

// What was made before another's initiation was answered comes too late to be sent.
func TestAForgottenInitiationIsNotSent(t *testing.T) {
	there, elsewhere := netip.MustParseAddrPort("192.0.2.2:1"), netip.MustParseAddrPort("192.0.2.2:2")
	start := time.Unix(1000, 0)
	var c crossing
	for _, x := range []struct {
		name   string
		to     netip.AddrPort
		packet []byte
		after  time.Duration
		want   bool
	}{
		{"the answer", there, respond(3), 0, true},
		{"after it", there, begin(7), time.Millisecond, false},
		{"again", there, begin(7), 2 * time.Millisecond, false},
		{"to elsewhere", elsewhere, begin(7), time.Millisecond, true},
		{"data", there, make([]byte, 200), time.Millisecond, true},
		{"a later one", there, begin(8), crossTime, true},
		{"and once more", there, begin(9), crossTime, true},
	} {
		if got := c.sends(x.to, x.packet, start.Add(x.after)); got != x.want {
			t.Errorf("%s: it is sent: %v", x.name, got)
		}
	}
	c.sends(there, respond(3), start)
	c.forget()
	if !c.sends(there, begin(7), start) {
		t.Error("the peer was forgotten, and its answer was not")
	}
}

// Both ends begin while their packets wait for each other's hardware address, so that they
// cross for certain. Where this machine has a process wait at the wrong moment, one in twenty
// still needs WireGuard's next try, after five seconds: so it has three chances.
func TestCrossingHandshakesEndInASession(t *testing.T) {
	for range 3 {
		if crosses(t) {
			return
		}
	}
	t.Error("three times in a row there was no session within 3 s")
}

// crosses has handshakes cross once, and reports whether they ended in a session.
func crosses(t *testing.T) bool {
	t.Helper()
	a, b := newPair(t)
	wa, wb := ifName("a"), ifName("b")
	for _, s := range []struct {
		r    *router
		name string
	}{{a, wa}, {b, wb}} {
		s.r.up(s.name)
		s.r.keys()
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
	for end := time.Now().Add(3 * time.Second); !a.pings(b.inner); { // WireGuard tries again after five
		if time.Now().After(end) {
			return false
		}
	}
	for r, name := range map[*router]string{a: wa, b: wb} {
		if out := strings.TrimSpace(r.sh("wg show " + name + " latest-handshakes")); strings.HasSuffix(out, "\t0") {
			t.Errorf("%s has no handshake: %q", name, out)
		}
	}
	return true
}

// The first initiation finds nobody, and the other end begins when it comes up. Which
// index is larger is left to chance, so it happens several times.
func TestTheOtherEndBeginsWhenItComesUp(t *testing.T) {
	a, b := newPair(t)
	for range 6 {
		wa, wb := ifName("a"), ifName("b")
		a.up(wa)
		b.up(wb)
		a.keys()
		b.keys()
		a.peerWith(wa, 51001, b, b.addr+":51002")
		if _, err := a.try("ip netns exec " + a.ns + " ping -c 1 -W 0.02 " + b.inner); err == nil {
			t.Fatal("nobody was there, and answered")
		}
		b.peerWith(wb, 51002, a, a.addr+":51001")
		b.reaches(a.inner, 3*time.Second) // WireGuard tries again after five
		for r, name := range map[*router]string{a: wa, b: wb} {
			r.ip("link del " + name)
		}
	}
}

// notFlooded is long enough between two initiations of one peer, which else drops the second:
// no more than 50 in a second are let in, and none whose time, which is rounded to 17 ms, is
// not later (HandshakeInitationRate and tai64n in wireguard-go).
const notFlooded = 50 * time.Millisecond

// A tunnel that has just answered, and then begins anew, does so at once.
func TestATunnelThatBeginsAnewIsHeard(t *testing.T) {
	a, b := newPair(t)
	wa, wb := wgPair(t, a, b)
	b.peerWith(wb, 51002, a, a.addr+":51001")
	for _, c := range []struct {
		what string
		do   func()
	}{
		{"down and up", func() {
			a.ip("link set " + wa + " down")
			a.ip("link set " + wa + " up")
		}},
		{"all set anew", func() {
			if err := os.WriteFile(a.keyFile("conf"), []byte(a.sh("wg showconf "+wa)), 0o600); err != nil {
				t.Fatal(err)
			}
			a.sh("wg setconf " + wa + " " + a.keyFile("conf"))
		}},
	} {
		time.Sleep(notFlooded)
		b.ip("link set " + wb + " down")
		b.ip("link set " + wb + " up")
		b.reaches(a.inner, 3*time.Second) // a has answered now
		t.Log(c.what)
		time.Sleep(notFlooded)
		c.do()
		a.reaches(b.inner, 3*time.Second) // WireGuard tries again after five
	}
}
