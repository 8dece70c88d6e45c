package babel

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"tombolo/internal/babel/wire"
)

// dice makes choices from a fuzzer's bytes; zeros when they are used up.
type dice []byte

func (d *dice) next() byte {
	if len(*d) == 0 {
		return 0
	}
	b := (*d)[0]
	*d = (*d)[1:]
	return b
}

func (d *dice) word() uint16 { return uint16(d.next())<<8 | uint16(d.next()) }

// few is a number of 16 bits that is likely to be one that was there before, or near it.
func (d *dice) few() uint16 {
	switch b := d.next(); b & 3 {
	case 0:
		return wire.Infinity
	case 1:
		return d.word()
	default:
		return uint16(b) >> 2
	}
}

func (d *dice) key() Key {
	keys := []Key{
		key("10.1.0.0/16"), key("10.2.0.0/16"), key("0.0.0.0/0"), key("fd00::/64"), key("10.200.0.0/24"),
		{Dst: pfx("0.0.0.0/0"), Src: pfx("10.1.0.0/16")}, {Dst: pfx("::/0"), Src: pfx("fd00:1::/64")},
	}
	b := d.next()
	if b < 64 {
		return Key{Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 200, b, d.next()}), 32)}
	}
	return keys[int(b)%len(keys)]
}

func (d *dice) id() wire.RouterID {
	return wire.RouterID{3: d.next()%4 + 1, 6: d.next() & 1, 7: 1}
}

// tlv makes any TLV that can come out of a packet.
func (d *dice) tlv() wire.TLV {
	k := d.key()
	switch d.next() % 9 {
	case 0:
		return wire.AckRequest{Opaque: d.word(), Interval: wire.Interval(d.next()) + 1}
	case 1:
		return wire.Ack{Opaque: uint16(d.next())}
	case 2, 3:
		return wire.Hello{Unicast: d.next()&1 == 1, Seqno: d.few(), Interval: wire.Interval(d.few()), Stamped: d.next()&1 == 1, Timestamp: uint32(d.word()) << d.next() % 17}
	case 4:
		i := wire.IHU{RxCost: d.few(), Interval: wire.Interval(max(d.few(), 1))}
		if d.next()&1 == 1 {
			i.Stamped, i.Origin, i.Receive = true, uint32(d.word())<<d.next()%17, uint32(d.word())
		}
		return i
	case 5:
		return wire.RouteRequest{}
	case 6:
		return wire.RouteRequest{Prefix: k.Dst, Source: k.Src}
	case 7:
		return wire.SeqnoRequest{Prefix: k.Dst, Source: k.Src, Seqno: d.few(), HopCount: d.next() | 1, RouterID: d.id()}
	}
	if d.next() < 8 {
		return wire.Update{Metric: wire.Infinity, Interval: 100}
	}
	u := wire.Update{Prefix: k.Dst, Source: k.Src, RouterID: d.id(), Seqno: d.few(), Metric: d.few(), Interval: wire.Interval(max(d.few(), 1))}
	if u.Metric == wire.Infinity {
		u.Silent = d.next()
	} else if d.next()&3 == 0 {
		u.Mobility, u.Before = uint32(d.few()), uint32(d.next()&3)
	}
	return u
}

// hostile feeds a speaker what a fuzzer says, from neighbours on two tunnels and a segment,
// and returns all that it wanted done. What must hold of a speaker is checked on the way.
func hostile(t *testing.T, data []byte) []Output {
	d := dice(data)
	c := Config{RouterID: router(me), Accept: Policy{
		Exact: map[Key][]uint32{
			key("10.1.0.0/16"): {1, 2}, key("10.2.0.0/16"): {2}, key("0.0.0.0/0"): {1, 2, 3}, key("fd00::/64"): {3},
			{Dst: pfx("0.0.0.0/0"), Src: pfx("10.1.0.0/16")}: {1, 2}, {Dst: pfx("::/0"), Src: pfx("fd00:1::/64")}: {3},
			key("10.3.0.0/16"): {me},
		},
		Mobile: map[Key]bool{key("10.1.0.0/16"): true, key("fd00::/64"): true},
		Within: []netip.Prefix{pfx("10.200.0.0/24")},
	}}
	links := []string{"a", "b", "lan"}
	for _, l := range links {
		c.Links = append(c.Links, Link{Name: l, Tunnel: l != "lan", Address: netip.MustParseAddr("fe80::aa"), Cost: 10})
	}
	now := Time(0)
	s := New(now, c, 1)
	var outs []Output
	take := func(o Output) { outs = append(outs, o) }
	if len(data) > 0 && data[0]&1 == 1 {
		take(s.Inherit(now, []RouteChange{{Key: key("10.1.0.0/16"), Hop: &Hop{Link: "a"}}, {Key: key("10.2.0.0/16"), Hop: &Hop{Link: "b"}}}))
	}
	take(s.Announce(now, []Announcement{{Key: key("10.3.0.0/16")}}))
	for _, l := range links {
		take(s.SetLink(now, l, true))
	}
	enc := wire.NewEncoder(4096)
	address := func(n byte) netip.Addr { return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: n}) }
	handle := func(link string, from byte, tlvs ...wire.TLV) {
		enc.Reset()
		for _, t := range tlvs {
			enc.Add(t)
		}
		take(s.Handle(now, Packet{Link: link, From: address(from), To: wire.Group, Port: wire.Port, At: now, Payload: enc.Bytes()}))
	}
	// well is what a neighbour says that is to be used: the round trip is up to 256 ms.
	well := func(link string, from, rtt byte) {
		handle(link, from, wire.Hello{Seqno: uint16(now / time.Second), Interval: 6000, Stamped: true},
			wire.IHU{RxCost: 96, Interval: 6000, Stamped: true, Origin: stamp(now) - uint32(rtt)*1000})
	}
	for i, l := range links {
		well(l, byte(i)+1, 10)
	}
	for len(d) > 0 {
		what := d.next()
		link := links[int(what>>3)%3]
		switch {
		case what < 16:
			take(s.SetLink(now, link, what&1 == 1))
		case what < 24:
			take(s.Traffic(now, link, uint64(d.word())))
		case what < 28:
			take(s.Mute(now, link, d.next()&1 == 1))
		case what < 29:
			take(s.Configure(now, c))
		case what < 30:
			keys := []Key{d.key()}
			switch d.next() & 3 {
			case 0:
				take(s.Resume(now, keys, "wg-clients"))
			case 1:
				take(s.Detach(now, keys))
			default:
				take(s.Attach(now, keys, "wg-clients"))
			}
		case what < 34:
			take(s.Announce(now, []Announcement{{Key: d.key(), Metric: d.few()}}))
		case what < 90:
			// Time passes, and few timers fire in it.
			long := time.Duration(d.next()) * time.Duration(what) * time.Millisecond
			end := now + long
			fired := 0
			for s.Next() <= end {
				now = max(now, s.Next())
				take(s.Tick(now))
				fired++
			}
			if most := 500 + int(long/(2*time.Millisecond)); fired > most {
				t.Fatalf("%d ticks in %v", fired, long)
			}
			now = end
		case what < 110:
			well(link, what&3+1, d.next())
		case what < 112:
			take(s.Retract(now))
		default:
			var tlvs []wire.TLV
			for range what%8 + 1 {
				tlvs = append(tlvs, d.tlv())
			}
			handle(link, what>>6&3+1, tlvs...)
		}
	}
	s.View()
	bounded(t, s)
	return outs
}

// bounded checks how much a speaker remembers.
func bounded(t *testing.T, s *Speaker) {
	t.Helper()
	neighbours := 0
	for _, l := range s.links {
		neighbours += len(l.neighbours)
		if l.Tunnel && len(l.neighbours) > 1 {
			t.Errorf("%d neighbours on a tunnel", len(l.neighbours))
		}
	}
	if len(s.entries) != len(s.order) || len(s.entries) > 8+257+1 {
		t.Errorf("%d entries, %d in order", len(s.entries), len(s.order))
	}
	if len(s.highest) > len(s.config.Accept.Mobile) {
		t.Errorf("claims of %d hosts are remembered", len(s.highest))
	}
	if len(s.asked) > maxAsked {
		t.Errorf("%d requests wait", len(s.asked))
	}
	for _, e := range s.order {
		if len(e.sources) > maxSources || len(e.routes) > neighbours {
			t.Errorf("%s: %d distances, %d routes of %d neighbours", e.Dst, len(e.sources), len(e.routes), neighbours)
		}
		for _, r := range e.routes {
			if l := s.link(r.neighbour.link.Name); l != r.neighbour.link || !l.up {
				t.Errorf("%s: a route by a link that is no more", e.Dst)
			}
		}
		if k := e.kept; k != nil {
			l := s.link(k.neighbour.link.Name)
			if l != k.neighbour.link || !slices.Contains(l.beforeAnd(), k.neighbour) {
				t.Errorf("%s: a route is kept by a neighbour that is no more", e.Dst)
			}
		}
		if e.only != nil && s.link(e.only.Name) != e.only {
			t.Errorf("%s: it may only go by a link that is no more", e.Dst)
		}
		if r := e.selected; r != nil && (r.gone || !e.usable(r) || e.own) {
			t.Errorf("%s: the selected route cannot be used: %+v", e.Dst, r)
		}
	}
}

func FuzzSpeaker(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		seed := make([]byte, r.IntN(2000))
		for i := range seed {
			seed[i] = byte(r.Uint32())
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 2000 {
			return
		}
		if a, b := hostile(t, data), hostile(t, data); !reflect.DeepEqual(a, b) {
			t.Error("the same events gave two different outputs")
		}
	})
}
