package babel

import (
	"net/netip"
	"testing"
	"time"

	"tombolo/internal/babel/wire"
)

// busy says that a link carries traffic, at this moment.
func (r *rig) busy(link string, packets *uint64) {
	*packets += 1000
	r.take(r.s.Traffic(r.now, link, *packets))
}

func TestRoundTripIsMeasured(t *testing.T) {
	const wrap = Time(1<<32) * time.Microsecond // of timestamps (RFC 9616 §3.1)
	for name, start := range map[string]Time{
		"from the start":              time.Second,
		"while our clock wraps":       wrap - 400*time.Millisecond,
		"while the peer's wraps":      wrap - time.Second - 400*time.Millisecond,
		"with a clock that is far on": 7*wrap + time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.now = start
			c := r.s.config
			c.Links = []Link{{Name: "a", Tunnel: true, Address: netip.MustParseAddr("fe80::aa"), Cost: 10}}
			r.take(r.s.Configure(r.now, c))
			r.take(r.s.SetLink(r.now, "a", true))
			a := r.up("a", 1, 47*time.Millisecond)
			for range 20 {
				n := r.neighbour(a)
				if n.RTT != 47*time.Millisecond || n.LastRTT != n.RTT || n.Cost != 480 {
					t.Fatalf("at %v: %v, lately %v, cost %d; want 47 ms and 480", r.now, n.RTT, n.LastRTT, n.Cost)
				}
				r.run(50 * time.Millisecond)
			}
		})
	}
}

func TestTimesThatCannotBeAreNotBelieved(t *testing.T) {
	r := newRig(t, nil, "a")
	a := r.up("a", 1, rtt)
	for _, i := range []wire.IHU{
		{Origin: stamp(r.now + time.Second), Receive: 5_000_000},        // an answer to what we will send
		{Origin: stamp(r.now - 90*time.Second), Receive: 5_000_000},     // one that took a minute and a half
		{Origin: stamp(r.now - 5*time.Millisecond), Receive: 4_000_000}, // it kept it for a second
		{Origin: stamp(r.now - 5*time.Millisecond), Receive: 5_001_000}, // it answered before it had it
	} {
		i.RxCost, i.Interval, i.Stamped = fullTunnel, 300, true
		a.seqno++
		a.send(wire.Hello{Seqno: a.seqno, Interval: 10, Stamped: true, Timestamp: 5_000_000}, i)
		if n := r.neighbour(a); n.LastRTT != rtt {
			t.Errorf("%+v: now the round trip is %v", i, n.LastRTT)
		}
	}
	// A timestamp in a packet without a hello says nothing (RFC 9616 §3.2).
	a.send(wire.IHU{RxCost: fullTunnel, Interval: 300, Stamped: true, Origin: stamp(r.now - 2*time.Millisecond), Receive: 5_000_000})
	if n := r.neighbour(a); n.LastRTT != rtt {
		t.Errorf("without a hello: now the round trip is %v", n.LastRTT)
	}
}

func TestNumbersOfHellosWrapAndCountLosses(t *testing.T) {
	r := newRig(t, nil, "a")
	a := r.peer("a", 1, rtt)
	a.seqno = 65520
	r.run(3 * time.Second)
	if n := r.neighbour(a); n.State != "up" || n.Loss != 0 {
		t.Errorf("over the wrap: %+v", n)
	}
	for range 5 {
		a.seqno += 2 // two are missing
		r.run(time.Second)
	}
	if n := r.neighbour(a); n.State != "up" || n.Loss < 0.05 || n.Loss > 0.2 || n.Cost < 300 {
		t.Errorf("with 10 of 90 lost: %+v", n)
	}
}

func TestNeighbourIsNotUsedBeforeItsRoundTripIsKnown(t *testing.T) {
	k := key("10.1.0.0/16")
	for _, rtt := range []time.Duration{0, 10 * time.Millisecond} {
		r := newRig(t, nil, "a", "b")
		b := r.up("b", 2, rtt+time.Millisecond)
		a := r.peer("a", 1, rtt)
		a.hello()
		a.announce(k, router(1), 1, 0)
		r.want(k, "")
		b.heard()
		r.run(time.Second)
		if rtt == 0 {
			r.run(3 * time.Second)
		}
		r.want(k, "a")
		wanted := uint16(10 + 100)
		if rtt == 0 {
			wanted = 10 + fullTunnel // it tells no times: as its rxcost has it
		}
		if n := r.neighbour(a); n.Cost != wanted {
			t.Errorf("rtt %v: the cost is %d, want %d", rtt, n.Cost, wanted)
		}
	}
	r := newRig(t, nil, "a")
	a := r.peer("a", 1, 0)
	r.run(2900 * time.Millisecond)
	if n := r.neighbour(a); n.Cost != wire.Infinity {
		t.Errorf("one that tells no times is used before three seconds: %+v", n)
	}
}

func TestHellosOfAllKindsAreSignsOfLife(t *testing.T) {
	for name, h := range map[string]wire.Hello{
		"multicast":   {Interval: 10},
		"unicast":     {Unicast: true, Interval: 10},
		"unscheduled": {Unicast: true},
	} {
		r := newRig(t, nil, "a")
		a := r.peer("a", 1, 0)
		a.silent = true
		for i := range 100 {
			h.Seqno = uint16(i)
			a.send(h, wire.IHU{RxCost: fullTunnel, Interval: 300})
			r.run(100 * time.Millisecond)
		}
		if n := r.neighbour(a); n.State != "up" || n.Loss != 0 {
			t.Errorf("%s: %+v", name, n)
		}
	}
}

func TestOneLostHelloEndsNoNeighbour(t *testing.T) {
	r := newRig(t, nil, "a")
	a := r.up("a", 1, rtt)
	a.announce(key("10.1.0.0/16"), router(1), 1, 0)
	var packets uint64
	r.busy("a", &packets)
	for range 50 {
		a.seqno++
		a.next += a.every // it is lost
		r.run(time.Second)
		r.busy("a", &packets)
		r.want(key("10.1.0.0/16"), "a")
	}
}

func TestSilentNeighbourIsDeadInTime(t *testing.T) {
	k := key("10.1.0.0/16")
	for _, rtt := range []time.Duration{time.Millisecond, 20 * time.Millisecond, 150 * time.Millisecond} {
		r := newRig(t, nil, "a", "b")
		a, b := r.up("a", 1, rtt), r.up("b", 2, 3*rtt)
		a.announce(k, router(9), 1, 0)
		b.announce(k, router(9), 1, 0)
		var packets uint64
		r.busy("a", &packets)
		r.run(300 * time.Millisecond)
		r.busy("a", &packets)
		r.want(k, "a")
		a.silent = true
		from := r.now
		for r.via(k) == "a" && r.now-from < 5*time.Second {
			r.run(time.Millisecond)
		}
		// A hello, what it may be late by, three probes and a round trip and a quarter.
		limit := 100*time.Millisecond + slack + 2*probeGap + probeSlack + rtt*5/4 + 2*time.Millisecond
		if took := r.now - from; took > limit || took < 100*time.Millisecond {
			t.Errorf("with %v it took %v, want at most %v", rtt, took, limit)
		}
		r.want(k, "b")
		if ihus := heard[wire.IHU](a); len(ihus) == 0 || ihus[len(ihus)-1].RxCost != wire.Infinity {
			t.Errorf("it was not told that it is not heard: %+v", ihus)
		}
	}
}

func TestStalledHostKillsNobody(t *testing.T) {
	r := newRig(t, nil, "a")
	a := r.up("a", 1, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(1), 1, 0)
	for _, long := range []time.Duration{200 * time.Millisecond, time.Second, 5 * time.Second} {
		// For that long nothing of what we do is done. Then the clock comes first, and after
		// it what has been waiting.
		r.now += long
		r.take(r.s.Tick(r.now))
		a.next = r.now + 5*time.Millisecond
		r.run(2 * time.Second)
		r.want(k, "a")
	}
	for _, e := range r.events {
		if e.Kind == NeighbourDown {
			t.Error(e.Reason)
		}
	}
}

func TestNeighbourThatDoesNotHearUsIsNotUsed(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, 3*rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(9), 1, 0)
	b.announce(k, router(9), 1, 0)
	r.want(k, "a")
	a.send(wire.IHU{RxCost: wire.Infinity, Interval: 300})
	r.want(k, "b") // at once
	a.deaf = true
	r.run(5 * time.Second)
	if n := r.neighbour(a); n.State != "one-way" || n.Cost != wire.Infinity {
		t.Errorf("%+v", n)
	}
	r.want(k, "b")

	never := newRig(t, nil, "a")
	n := never.peer("a", 1, rtt)
	n.deaf = true
	never.run(20 * time.Second)
	if v := never.neighbour(n); v.State != "one-way" || v.Cost != wire.Infinity {
		t.Errorf("one that never heard us: %+v", v)
	}
}

func TestPacketsThatAreNotANeighboursAreDroppedAndCounted(t *testing.T) {
	r := newRig(t, nil, "a")
	good := Packet{Link: "a", From: netip.MustParseAddr("fe80::1"), To: wire.Group, Port: wire.Port, At: r.now,
		Payload: []byte{42, 2, 0, 8, 4, 6, 0, 0, 0, 1, 0, 100}}
	for name, change := range map[string]func(p *Packet){
		"another port":          func(p *Packet) { p.Port = 1234 },
		"a global address":      func(p *Packet) { p.From = netip.MustParseAddr("2001:db8::1") },
		"an IPv4 address":       func(p *Packet) { p.From = netip.MustParseAddr("10.0.0.1") },
		"our own":               func(p *Packet) { p.From = netip.MustParseAddr("fe80::aa") },
		"another magic":         func(p *Packet) { p.Payload = []byte{43, 2, 0, 0} },
		"longer than it is":     func(p *Packet) { p.Payload = []byte{42, 2, 0, 9, 1} },
		"a hello that is short": func(p *Packet) { p.Payload = []byte{42, 2, 0, 4, 4, 2, 0, 0} },
	} {
		before := r.s.View().Malformed
		p := good
		change(&p)
		r.take(r.s.Handle(r.now, p))
		if now := r.s.View().Malformed; now != before+1 {
			t.Errorf("%s: counted %d times", name, now-before)
		}
	}
	for _, n := range r.s.View().Neighbours {
		if n.State != "new" {
			t.Errorf("a neighbour: %+v", n)
		}
	}
	r.take(r.s.Handle(r.now, good))
	if v := r.s.View(); len(v.Neighbours) != 1 || v.Neighbours[0].State != "one-way" {
		t.Errorf("the good one: %+v", v.Neighbours)
	}
}

func TestConfigureKeepsNeighboursAndRoutes(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a := r.up("a", 1, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(1), 1, 0)
	c := r.s.config
	c.Seqno = 5
	c.RouterID = router(7)
	c.Links = []Link{c.Links[0], {Name: "c", Tunnel: true, Address: netip.MustParseAddr("fe80::aa")}}
	c.Links[0].Cost = 500
	r.take(r.s.Configure(r.now, c))
	r.want(k, "a")
	if n := r.neighbour(a); n.State != "up" || n.Cost != 600 {
		t.Errorf("the neighbour, after its link's cost became 500: %+v", n)
	}
	v := r.s.View()
	if v.RouterID != router(me) || v.Seqno != 100 || len(v.Links) != 2 || v.Links[1].Name != "c" || v.Links[1].Up {
		t.Errorf("%+v", v)
	}
	c.Links = c.Links[1:]
	r.take(r.s.Configure(r.now, c))
	r.want(k, "")
}
