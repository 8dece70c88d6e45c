package mac

import (
	"bytes"
	"math"
	"net/netip"
	"testing"
	"time"

	"tombolo/internal/babel/wire"
)

// end is a guard with its address, and what it believed: the numbers in acknowledgments.
type end struct {
	*Guard
	addr     netip.Addr
	believed []uint16
}

// datagram is one on its way.
type datagram struct {
	payload  []byte
	from, to netip.Addr
}

func newEnd(addr netip.Addr, seed uint64, keys ...Key) *end {
	return &end{Guard: NewGuard(keys, seed), addr: addr}
}

// say makes a packet that says n.
func (e *end) say(n uint16, to netip.Addr) datagram {
	enc := wire.NewEncoder(1200)
	enc.Add(wire.Ack{Opaque: n})
	return datagram{e.Sign(enc.Bytes(), e.addr, to), e.addr, to}
}

// hear returns what the guard sends for a datagram.
func (e *end) hear(t testing.TB, now time.Duration, d datagram) []datagram {
	t.Helper()
	ok, send := e.Check(now, d.payload, d.from, d.to, wire.Port)
	if ok {
		p, err := wire.Decode(d.payload, d.from)
		if err != nil {
			t.Fatalf("what was checked does not decode: %v", err)
		}
		for _, tlv := range p.TLVs {
			if a, ok := tlv.(wire.Ack); ok {
				e.believed = append(e.believed, a.Opaque)
			}
		}
	}
	var out []datagram
	for _, r := range send {
		out = append(out, datagram{r.Payload, e.addr, r.To})
	}
	return out
}

// deliver carries datagrams between two ends until there are no more.
func deliver(t testing.TB, now time.Duration, a, b *end, queue ...datagram) {
	t.Helper()
	for left := 100 + len(queue); len(queue) > 0; left-- {
		if left == 0 {
			t.Fatal("they never fall silent")
		}
		to := a
		if queue[0].from == a.addr {
			to = b
		}
		queue = append(queue[1:], to.hear(t, now, queue[0])...)
	}
}

func (e *end) expect(t *testing.T, want ...uint16) {
	t.Helper()
	if len(e.believed) != len(want) {
		t.Fatalf("%v believed %v, want %v", e.addr, e.believed, want)
	}
	for i := range want {
		if e.believed[i] != want[i] {
			t.Fatalf("%v believed %v, want %v", e.addr, e.believed, want)
		}
	}
	e.believed = nil
}

// acquainted returns two ends that have answered each other's challenges.
func acquainted(t *testing.T, keys ...Key) (a, b *end) {
	t.Helper()
	a, b = newEnd(alice, 1, keys...), newEnd(bob, 2, keys...)
	b.say(0, wire.Group) // so that it knows its address
	deliver(t, 0, a, b, a.say(0, wire.Group))
	a.expect(t)
	b.expect(t)
	return a, b
}

func TestAStrangerIsChallengedAndThenBelieved(t *testing.T) {
	for name, keys := range map[string]Keys{"HMAC": {sha}, "BLAKE2s": {blake}, "both": {blake, sha}} {
		t.Run(name, func(t *testing.T) {
			a, b := acquainted(t, keys...)
			for i := range uint16(200) {
				deliver(t, 0, a, b, a.say(i, wire.Group), b.say(i+1000, alice))
				a.expect(t, i+1000)
				b.expect(t, i)
			}
		})
	}
}

// The first packet in either direction is lost to the challenge; both are acquainted after
// four packets, without a second challenge.
func TestChallengesTakeFourPackets(t *testing.T) {
	a, b := newEnd(alice, 1, sha), newEnd(bob, 2, sha)
	b.say(0, wire.Group)
	at, d, n := b, a.say(1, wire.Group), 1
	for {
		send := at.hear(t, 0, d)
		if len(send) == 0 {
			break
		}
		if len(send) != 1 || send[0].to == wire.Group {
			t.Fatalf("sends %v", send)
		}
		if d, n = send[0], n+1; at == a {
			at = b
		} else {
			at = a
		}
	}
	if n != 4 || !a.neighbours[bob].known || !b.neighbours[alice].known {
		t.Errorf("%d packets", n)
	}
}

func TestAPacketIsBelievedOnce(t *testing.T) {
	a, b := acquainted(t, sha)
	to := a.say(1, bob)
	group := a.say(2, wire.Group)
	for range 3 {
		for _, d := range []datagram{to, group} {
			if send := b.hear(t, time.Hour>>10, d); send != nil {
				t.Error("a repetition is answered")
			}
		}
	}
	b.expect(t, 1, 2)
}

func TestOldPacketsAreNotBelievedByARestartedReceiver(t *testing.T) {
	a, b := acquainted(t, sha)
	var old []datagram
	for i := range uint16(5) {
		old = append(old, a.say(i, bob))
	}
	deliver(t, 0, a, b, old...)
	b.expect(t, 0, 1, 2, 3, 4)

	b = newEnd(bob, 3, sha)
	b.say(0, wire.Group)
	challenges := 0
	for _, d := range old {
		challenges += len(b.hear(t, 0, d))
	}
	b.expect(t)
	if challenges != 1 {
		t.Errorf("%d challenges", challenges)
	}
	// Not even behind the answer to the challenge of now.
	deliver(t, time.Second, a, b, a.say(7, bob))
	for _, d := range old {
		b.hear(t, time.Second, d)
	}
	b.expect(t)
	deliver(t, time.Second, a, b, a.say(8, bob))
	b.expect(t, 8)
}

func TestARestartedSenderIsBelievedAfterOneChallenge(t *testing.T) {
	a, b := acquainted(t, sha)
	before := a.say(1, bob)
	a = newEnd(alice, 9, sha)
	first := a.say(2, bob)
	challenge := b.hear(t, time.Second, first)
	if len(challenge) != 1 {
		t.Fatalf("sends %v", challenge)
	}
	deliver(t, time.Second, a, b, append(challenge, a.say(3, bob))...)
	b.believed = nil // 3 was signed before the answer, and whether it arrives before it is chance
	deliver(t, time.Second, a, b, a.say(4, bob), a.say(5, wire.Group))
	b.expect(t, 4, 5)
	// Its earlier life does not come back.
	deliver(t, 2*time.Second, a, b, before, first)
	b.expect(t)
	deliver(t, 2*time.Second, a, b, a.say(6, bob))
	b.expect(t, 6)
}

func TestStateIsKeptUntilTheChallengeIsAnswered(t *testing.T) {
	a, b := acquainted(t, sha)
	impostor := newEnd(alice, 9, sha) // somebody repeats what alice said in an earlier life
	b.hear(t, time.Second, impostor.say(1, bob))
	deliver(t, time.Second, a, b, a.say(2, bob))
	b.expect(t, 2)
}

func TestOtherKeysAndOtherAddressesAreRefused(t *testing.T) {
	a, b := acquainted(t, sha)
	for name, d := range map[string]datagram{
		"another key":         newEnd(alice, 1, other).say(1, bob),
		"another algorithm":   newEnd(alice, 1, blake).say(1, bob),
		"another sender":      {a.say(1, bob).payload, addrOf("fe80::c"), bob},
		"another destination": {a.say(1, bob).payload, alice, wire.Group},
	} {
		if send := b.hear(t, 0, d); send != nil || len(b.believed) != 0 || len(b.neighbours) != 1 {
			t.Errorf("%s: %v, %v", name, b.believed, send)
		}
	}
	d := a.say(1, bob)
	if ok, send := b.Check(0, d.payload, d.from, d.to, wire.Port+1); ok || send != nil {
		t.Error("another port is believed")
	}
	// Our own packets do not come back as another's.
	if send := a.hear(t, 0, datagram{a.say(1, wire.Group).payload, bob, wire.Group}); send != nil || len(a.believed) != 0 {
		t.Error("a reflection is believed")
	}
}

func TestNoBitOfAPacketCanBeChanged(t *testing.T) {
	a, b := acquainted(t, sha)
	d := a.say(1, bob)
	for i := range d.payload {
		for bit := range 8 {
			c := d
			c.payload = bytes.Clone(d.payload)
			c.payload[i] ^= 1 << bit
			b.hear(t, 0, c)
		}
	}
	b.expect(t)
	for n := range d.payload {
		b.hear(t, 0, datagram{d.payload[:n], d.from, d.to})
	}
	b.expect(t)
	b.hear(t, 0, d)
	b.expect(t, 1)
}

func TestKeysAreChangedOneRouterAtATime(t *testing.T) {
	// old, old – both, old – both, both – new, both – new, new
	for _, keys := range [][2]Keys{
		{{sha}, {sha}}, {{sha, other}, {sha}}, {{other, sha}, {sha, other}}, {{other}, {sha, other}}, {{other}, {blake, other}},
	} {
		a, b := newEnd(alice, 1, keys[0]...), newEnd(bob, 2, keys[1]...)
		b.say(0, wire.Group)
		deliver(t, 0, a, b, a.say(0, wire.Group))
		deliver(t, 0, a, b, a.say(1, bob), b.say(2, wire.Group))
		a.expect(t, 2)
		b.expect(t, 1)
	}
}

func TestPacketsMayComeInAnotherOrder(t *testing.T) {
	a, b := acquainted(t, sha)
	var group, to []datagram
	for i := range uint16(300) {
		group = append(group, a.say(1000+i, wire.Group))
		to = append(to, a.say(i, bob))
	}
	// All to the group are late, by more than a window.
	deliver(t, 0, a, b, to...)
	if len(b.believed) != 300 {
		t.Fatalf("%d of 300 to one", len(b.believed))
	}
	b.believed = nil
	deliver(t, 0, a, b, group...)
	if len(b.believed) != 300 {
		t.Fatalf("%d of 300 to the group", len(b.believed))
	}
	b.believed = nil

	// Within a window anything goes, once.
	d := []datagram{a.say(1, bob), a.say(2, bob), a.say(3, bob)}
	deliver(t, 0, a, b, d[2], d[0], d[1], d[0], d[2], d[1])
	b.expect(t, 3, 1, 2)
	// Before it nothing does.
	late := a.say(1, bob)
	for range 64 {
		deliver(t, 0, a, b, a.say(2, bob))
	}
	b.believed = nil
	deliver(t, 0, a, b, late)
	b.expect(t)
}

func TestWindowTakesEachCounterOnce(t *testing.T) {
	w := window{highest: 100, seen: ^uint64(0)}
	for _, tt := range []struct {
		counter uint32
		want    bool
	}{
		{100, false}, {99, false}, {37, false}, {0, false}, // before the answer
		{101, true}, {101, false}, {103, true}, {102, true}, {102, false},
		{166, true}, {103, false}, {104, true}, // 63 behind, 62 behind
		{230, true}, {166, false}, {167, true}, // 64 behind, 63 behind
		{1000, true}, {937, true}, {936, false},
		{math.MaxUint32, true}, {math.MaxUint32, false}, {0, false}, {math.MaxUint32 - 63, true},
	} {
		if got := w.take(tt.counter); got != tt.want {
			t.Errorf("%d: %v with %+v", tt.counter, got, w)
		}
	}
}

func TestCounterBeginsAnewUnderANewIndex(t *testing.T) {
	a, b := acquainted(t, sha)
	a.counter = math.MaxUint32 - 2
	index := bytes.Clone(a.index)
	deliver(t, 0, a, b, a.say(1, bob), a.say(2, bob))
	b.expect(t, 1, 2)
	if a.counter != 0 || bytes.Equal(a.index, index) {
		t.Fatalf("counter %d under index %x", a.counter, a.index)
	}
	deliver(t, time.Second, a, b, a.say(3, bob))
	deliver(t, time.Second, a, b, a.say(4, bob))
	b.expect(t, 4)
}

func TestGuardsOfOtherSeedsHaveOtherIndexes(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(100) {
		g := NewGuard(Keys{sha}, seed)
		for _, b := range [][]byte{g.index, g.random(nonceLen), g.random(nonceLen)} {
			if seen[string(b)] {
				t.Fatalf("%x comes twice", b)
			}
			seen[string(b)] = true
		}
	}
}

func TestOverheadIsWhatSignAdds(t *testing.T) {
	for _, keys := range []Keys{{sha}, {blake}, {sha, blake, other}} {
		e := newEnd(alice, 1, keys...)
		if got := len(e.say(1, bob).payload) - 8; got != e.Overhead() {
			t.Errorf("%d, not %d", got, e.Overhead())
		}
	}
}

func TestNewGuardPanicsWithoutUsableKeys(t *testing.T) {
	for name, keys := range map[string]Keys{"none": nil, "empty": {{HMACSHA256, nil}}, "long": {sha, {BLAKE2s, make([]byte, 33)}}} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("does not panic")
				}
			}()
			NewGuard(keys, 1)
		})
	}
}

// FuzzCheck gives a guard what an attacker makes, also one who has a key: with sign the
// packet is signed. Without a key nothing is believed, sent or kept.
func FuzzCheck(f *testing.F) {
	a := newEnd(alice, 1, sha)
	d := a.say(1, bob)
	f.Add(d.payload, false)
	f.Add(d.payload, true)
	f.Add([]byte{42, 2, 0, 6, 18, 4, 1, 2, 3, 4}, true)
	f.Add([]byte{42, 2, 0, 2, 19, 0, 16, 32}, false)
	f.Add(append(bytes.Clone(d.payload), 'B'), false)
	_, trailer, err := wire.Split(d.payload)
	if err != nil {
		f.Fatal(err)
	}
	signed := d.payload[:len(d.payload)-len(trailer)] // whoever repeats that may add to the trailer
	f.Fuzz(func(t *testing.T, payload []byte, sign bool) {
		b := newEnd(bob, 2, sha)
		b.say(0, wire.Group)
		if sign {
			body, _, err := wire.Split(payload)
			if err != nil || len(body) > 1000 {
				return
			}
			a := newEnd(alice, 1, sha)
			payload = a.Sign(payload[:4+len(body)], alice, bob)
		}
		ok, send := b.Check(0, payload, alice, bob, wire.Port)
		if ok {
			t.Fatalf("%x is believed", payload)
		}
		if !sign && (send != nil || len(b.neighbours) != 0) && !bytes.HasPrefix(payload, signed) {
			t.Fatalf("%x makes a guard send %v", payload, send)
		}
		for _, r := range send {
			if r.To != alice || len(r.Payload) > 1232 {
				t.Fatalf("%x makes a guard send %v", payload, r)
			}
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	for name, k := range map[string]Key{"hmac-sha256": sha, "blake2s128": blake} {
		b.Run(name, func(b *testing.B) {
			from, to := newEnd(alice, 1, k), newEnd(bob, 2, k)
			to.say(0, wire.Group)
			deliver(b, 0, from, to, from.say(0, wire.Group))
			b.ReportAllocs()
			for b.Loop() {
				d := from.say(1, bob)
				if ok, _ := to.Check(0, d.payload, d.from, d.to, wire.Port); !ok {
					b.Fatal("refused")
				}
			}
		})
	}
}

// What a stranger with the key sends before its challenge is answered is not believed, and
// nobody is accused for it.
func TestOnlyForgeriesAndRepetitionsCountAsForged(t *testing.T) {
	a, b, liar := newEnd(alice, 1, sha), newEnd(bob, 2, sha), newEnd(bob, 3, Key{HMACSHA256, bytes.Repeat([]byte{7}, 32)})
	b.say(0, wire.Group)
	d := a.say(1, wire.Group)
	b.hear(t, 0, d)
	b.hear(t, 0, a.say(2, wire.Group))
	if n := b.Forged(); n != 0 {
		t.Errorf("%d packets of a stranger count as forged", n)
	}
	a.say(0, wire.Group)
	a.hear(t, 0, liar.say(1, wire.Group))
	if n := a.Forged(); n != 1 {
		t.Errorf("of one packet with another key %d count as forged", n)
	}
}
