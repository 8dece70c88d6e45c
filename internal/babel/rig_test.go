package babel

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"tombolo/internal/babel/wire"
)

// rig is a speaker between neighbours that are only packets: each is on a link of its own
// (or on "lan", the segment), says what a test lets it say, and keeps what it is told.
type rig struct {
	t      *testing.T
	s      *Speaker
	now    Time
	peers  []*peer
	fib    map[Key]Hop
	events []Event
	fired  int // ticks
}

// stamped is a hello's time, and its timestamp.
type stamped struct {
	at    Time
	stamp time.Duration
}

// peer is a neighbour. Its clock is 1 s ahead of the speaker's; a packet takes half of rtt.
type peer struct {
	r       *rig
	link    string
	address netip.Addr
	rtt     time.Duration

	silent bool // sends no hellos, and answers nothing
	deaf   bool // what it is sent is lost
	unheld bool // acknowledges no updates
	next   Time // its next hello
	every  time.Duration
	seqno  uint16

	stamps   []stamped  // the speaker's last hellos: when, and their timestamps
	said     []wire.TLV // that it was sent since the last call of heard
	hellos   int
	payloads [][]byte
}

const me = 0xaa

func router(site byte) wire.RouterID { return wire.RouterID{0, 0, 0, site, 9, 9, 9, 9} }

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func key(s string) Key { return Key{Dst: pfx(s)} }

// newRig starts a speaker with tunnels of these names, after change has had its way with
// the configuration. Nobody is there yet.
func newRig(t *testing.T, change func(*Config), links ...string) *rig {
	t.Helper()
	r := newRigDown(t, change, links...)
	for _, l := range r.s.config.Links {
		r.take(r.s.SetLink(r.now, l.Name, true))
	}
	return r
}

// newRigDown is newRig with all links down.
func newRigDown(t *testing.T, change func(*Config), links ...string) *rig {
	t.Helper()
	c := Config{RouterID: router(me), Seqno: 100}
	for _, l := range links {
		c.Links = append(c.Links, Link{
			Name: l, Tunnel: l != "lan", Address: netip.MustParseAddr("fe80::aa"),
			NextHop4: netip.MustParseAddr("10.0.0.170"), Cost: 10,
		})
	}
	if change != nil {
		change(&c)
	}
	r := &rig{t: t, fib: map[Key]Hop{}, now: time.Second}
	r.s = New(r.now, c, 7)
	return r
}

// peer adds a neighbour that sends hellos from now on; rtt 0 is one that tells no times.
func (r *rig) peer(link string, n byte, rtt time.Duration) *peer {
	p := &peer{r: r, link: link, rtt: rtt, every: 100 * time.Millisecond, seqno: 1000 * uint16(n), next: r.now}
	p.address = netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: n})
	r.peers = append(r.peers, p)
	return p
}

// up adds a neighbour and waits until it is used.
func (r *rig) up(link string, n byte, rtt time.Duration) *peer {
	p := r.peer(link, n, rtt)
	for range 100 {
		r.run(50 * time.Millisecond)
		if r.neighbour(p).Cost < wire.Infinity {
			r.run(100 * time.Millisecond)
			p.heard()
			return p
		}
	}
	r.t.Fatalf("the neighbour %s is not used: %+v", p.address, r.neighbour(p))
	return nil
}

func (r *rig) neighbour(p *peer) NeighbourView {
	for _, n := range r.s.View().Neighbours {
		if n.Link == p.link && n.Address == p.address {
			return n
		}
	}
	return NeighbourView{Cost: wire.Infinity}
}

// run lets time pass.
func (r *rig) run(d time.Duration) {
	end := r.now + d
	for {
		at := r.s.Next()
		var who *peer
		for _, p := range r.peers {
			if !p.silent && p.next < at {
				at, who = p.next, p
			}
		}
		if at > end {
			break
		}
		r.now = max(r.now, at)
		if who != nil {
			who.next += who.every
			who.hello()
			continue
		}
		r.fired++
		r.take(r.s.Tick(r.now))
	}
	r.now = end
}

// hello sends a hello with an IHU.
func (p *peer) hello() {
	p.seqno++
	h := wire.Hello{Seqno: p.seqno, Interval: wire.IntervalOf(p.every)}
	i := wire.IHU{RxCost: fullTunnel, Interval: 300}
	if p.link == "lan" {
		i.RxCost, i.Address = fullSegment, netip.MustParseAddr("fe80::aa")
	}
	if p.rtt > 0 {
		h.Stamped, h.Timestamp = true, stamp(p.r.now-p.rtt/2+time.Second)
		for _, s := range p.stamps {
			if s.at+p.rtt <= p.r.now { // it had come when this was sent
				i.Stamped, i.Origin, i.Receive = true, uint32(s.stamp), stamp(s.at+p.rtt/2+time.Second)
			}
		}
	}
	if p.deaf {
		p.send(h)
		return
	}
	p.send(h, i)
}

// send hands TLVs to the speaker, as one packet that arrives now.
func (p *peer) send(tlvs ...wire.TLV) { p.sendAll(tlvs...) }

// sendAll is send, and returns what follows for hosts that roam.
func (p *peer) sendAll(tlvs ...wire.TLV) []Displacement {
	p.r.t.Helper()
	e := wire.NewEncoder(60000)
	for _, t := range tlvs {
		if !e.Add(t) {
			p.r.t.Fatalf("no room for %#v", t)
		}
	}
	o := p.r.s.Handle(p.r.now, Packet{
		Link: p.link, From: p.address, To: netip.MustParseAddr("fe80::aa"), Port: wire.Port, At: p.r.now, Payload: e.Bytes(),
	})
	p.r.take(o)
	return o.Displaced
}

// announce sends an update.
func (p *peer) announce(k Key, id wire.RouterID, seqno, metric uint16) {
	p.send(wire.Update{Prefix: k.Dst, Source: k.Src, RouterID: id, Seqno: seqno, Metric: metric, Interval: 6000})
}

// take carries out what the speaker wants done; acknowledgments come back at once.
func (r *rig) take(o Output) {
	for _, c := range o.Routes {
		if c.Hop == nil {
			delete(r.fib, c.Key)
		} else {
			r.fib[c.Key] = *c.Hop
		}
	}
	r.events = append(r.events, o.Events...)
	for _, d := range o.Send {
		packet, err := wire.Decode(d.Payload, netip.MustParseAddr("fe80::aa"))
		if err != nil || packet.Malformed > 0 || packet.Unknown > 0 {
			r.t.Fatalf("the speaker sent %x: %v", d.Payload, err)
		}
		for _, p := range r.peers {
			if p.link == d.Link && (d.To == wire.Group || d.To == p.address) && !p.deaf {
				p.payloads = append(p.payloads, d.Payload)
				p.hear(packet.TLVs)
			}
		}
	}
}

func (p *peer) hear(tlvs []wire.TLV) {
	update := slices.ContainsFunc(tlvs, func(t wire.TLV) bool { _, ok := t.(wire.Update); return ok })
	for _, t := range tlvs {
		p.said = append(p.said, t)
		switch t := t.(type) {
		case wire.Hello:
			p.hellos++
			if p.stamps = append(p.stamps, stamped{p.r.now, time.Duration(t.Timestamp)}); len(p.stamps) > 20 {
				p.stamps = p.stamps[1:]
			}
		case wire.AckRequest:
			if !p.silent && (!p.unheld || !update) {
				p.send(wire.Ack{Opaque: t.Opaque})
			}
		}
	}
}

// heard returns what a neighbour was told since it was asked last, of one kind.
func heard[T wire.TLV](p *peer) []T {
	var out []T
	for _, t := range p.heard() {
		if t, ok := t.(T); ok {
			out = append(out, t)
		}
	}
	return out
}

func (p *peer) heard() []wire.TLV {
	said := p.said
	p.said = nil
	return said
}

// via returns by which link packets to a key go: "" for nowhere, "-" for unreachable.
func (r *rig) via(k Key) string {
	h, ok := r.fib[k]
	switch {
	case !ok:
		return ""
	case h.Unreachable:
		return "-"
	}
	return h.Link
}

// want fails the test unless packets to a key go by a link.
func (r *rig) want(k Key, link string) {
	r.t.Helper()
	if got := r.via(k); got != link {
		r.t.Errorf("at %v: %s goes by %q, want %q", r.now, k.Dst, got, link)
	}
}

// told returns the metric that a neighbour was last told of a key since it was asked last;
// 0 if nothing.
func (p *peer) told(k Key) uint16 {
	metric := uint16(0)
	for _, u := range heard[wire.Update](p) {
		if u.Prefix == k.Dst && u.Source == k.Src {
			metric = u.Metric
		}
	}
	return metric
}
