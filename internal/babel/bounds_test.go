package babel

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"tombolo/internal/babel/wire"
)

func TestAddressesThatComeAndGoLeaveNothing(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Accept.Exact = map[Key][]uint32{key("10.1.0.0/16"): {1}} }, "a")
	for i := range 1000 {
		p := &peer{r: r, link: "a", address: netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 14: byte(i >> 8), 15: byte(i)})}
		p.announce(key("10.1.0.0/16"), router(1), 1, 5)
	}
	if n := len(r.s.entries[key("10.1.0.0/16")].routes); n > 1 {
		t.Errorf("%d routes of %d neighbours", n, len(r.s.View().Neighbours))
	}
}

func TestForeignRouteStaysWhenThereAreTooMany(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Links[0].Foreign = []netip.Prefix{pfx("10.0.0.0/8")} }, "a")
	a := r.up("a", 1, rtt)
	first := key("10.0.0.0/32")
	for i := range maxWithin + 100 {
		a.announce(key(fmt.Sprintf("10.0.%d.%d/32", i>>8, i&255)), router(1), 1, 5)
	}
	if n := len(r.s.entries); n > maxWithin {
		t.Errorf("%d entries", n)
	}
	a.announce(first, router(1), 1, 6)
	r.want(first, "a")
}

func TestUpdateThatIsNeverAcknowledgedIsSaidUntilItIs(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	k := key("10.1.0.0/16")
	a.unheld = true
	b.announce(k, router(2), 1, 0)
	r.run(30 * time.Second)
	a.heard()
	b.announce(k, router(2), 1, wire.Infinity)
	r.run(30 * time.Second)
	a.heard()
	a.unheld = false
	r.run(10 * time.Second)
	if m := a.told(k); m != wire.Infinity {
		t.Errorf("when it acknowledged again it had been told %d, want a retraction", m)
	}
	r.want(k, "")
}

func TestPolicyThatAllowsMoreAsksAgain(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Accept.Exact = map[Key][]uint32{} }, "a")
	a := r.up("a", 1, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(1), 1, 0)
	r.want(k, "")
	a.heard()
	c := r.s.config
	c.Accept.Exact = map[Key][]uint32{k: {1}}
	r.take(r.s.Configure(r.now, c))
	r.run(time.Second)
	if n := len(heard[wire.RouteRequest](a)); n != 1 {
		t.Errorf("%d requests for what was refused before, want 1", n)
	}
	r.take(r.s.Configure(r.now, c))
	r.run(time.Second)
	if n := len(heard[wire.RouteRequest](a)); n != 0 {
		t.Errorf("%d requests when nothing was refused", n)
	}
}

func TestConfigureChangesTheSizeOfPackets(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Links[0].MTU = 1500 }, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	c := r.s.config
	c.Links = append([]Link{}, c.Links...)
	c.Links[0].MTU = 1280
	r.take(r.s.Configure(r.now, c))
	a.payloads = nil
	for i := range 300 {
		b.announce(key(fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255)), router(2), 1, uint16(i))
	}
	r.run(time.Second)
	longest := 0
	for _, p := range a.payloads {
		longest = max(longest, len(p))
	}
	if longest > 1280-48 || longest < 1000 {
		t.Errorf("the longest packet has %d bytes", longest)
	}
}

func TestStarvedRouteIsAskedForUntilSomebodyAnswers(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, 3*rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(9), 1, 10)
	r.run(time.Second)
	b.announce(k, router(9), 1, 5000)
	r.want(k, "a")
	a.announce(k, router(9), 1, wire.Infinity)
	r.want(k, "-")
	r.run(20 * time.Second)
	b.heard()
	r.run(20 * time.Second)
	requests := heard[wire.SeqnoRequest](b)
	if len(requests) == 0 {
		t.Fatal("after 20 s nobody asks any more")
	}
	if q := requests[0]; q.RouterID != router(9) || q.Seqno != 2 || q.HopCount != 64 || q.Prefix != k.Dst {
		t.Errorf("asked: %+v", q)
	}
	b.announce(k, router(9), 2, 5000)
	r.want(k, "b")
}

// Links that come and go with the configuration take the places of those that went.
func TestPlacesOfLinksAreUsedAgain(t *testing.T) {
	config := func(i int) Config {
		return Config{Links: []Link{{Name: "a", Tunnel: true}, {Name: fmt.Sprintf("b%d", i), Tunnel: true}}}
	}
	s := New(0, config(0), 1)
	for i := range 100 {
		s.Configure(Time(i), config(i))
		at := map[int]bool{}
		for _, l := range s.links {
			at[l.slot] = true
		}
		if len(at) != 2 || s.slots != 2 {
			t.Fatalf("after %d changes: links have the places %v of %d", i, at, s.slots)
		}
	}
}
