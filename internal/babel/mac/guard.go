package mac

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math"
	"net/netip"
	"slices"
	"time"

	"tombolo/internal/babel/wire"
)

const (
	indexLen = 8  // bytes; RFC 8967 §6.2 has at most 32
	nonceLen = 16 // bytes; at least 80 bits that nobody guesses

	// The least time between challenges to a neighbour, and between answers to one, so
	// that a repeated packet is no amplifier (RFC 8967 §4.3.1.1).
	pause = 300 * time.Millisecond

	challengeLife = 30 * time.Second // of a challenge without an answer (RFC 8967 §4.3.1.1)
	neighbourLife = 5 * time.Minute  // of what is known of a neighbour without packets from it (RFC 8967 §4.4)

	// maxNeighbours holds against a holder of a key who makes up addresses.
	maxNeighbours = 256
)

// Guard is the authentication of one link: it signs what goes out and checks what comes in.
// It serves one goroutine.
type Guard struct {
	macs  []hash.Hash // one for each key
	nonce hash.Hash   // makes what nobody can guess
	made  uint64      // by it

	// self is our address, as it was last seen; not valid before the first packet out.
	self netip.Addr

	index   []byte
	counter uint32 // of the next packet

	neighbours map[netip.Addr]*neighbour
	forged     uint64
}

// Reply is a packet to be sent at once: a challenge, or the answer to one, or both.
type Reply struct {
	To      netip.Addr // a neighbour
	Payload []byte     // signed; the caller's to keep
}

// neighbour is what is known of one. It is made only for the sender of a packet that holds
// a key's MAC.
type neighbour struct {
	index               []byte
	known               bool // that index was confirmed by an answer
	unicast, group      window
	heard               time.Duration // when a packet was last accepted; of a stranger, when it came
	nonce               []byte        // of the challenge that waits for its answer; nil: none
	nonceMade           time.Duration
	challenged, replied time.Duration // not before these may the next be sent
}

// NewGuard returns a guard without neighbours. The seed makes its index and its challenges:
// it must be random, and another for each guard and each start. It panics without keys and
// for keys that are not valid: Validate them where they are read.
func NewGuard(keys Keys, seed uint64) *Guard {
	if len(keys) == 0 {
		panic("mac: no keys")
	}
	g := &Guard{neighbours: map[netip.Addr]*neighbour{}}
	for _, k := range keys {
		g.macs = append(g.macs, k.newHash())
	}
	// The key is in it, so that not even the seed is enough to foresee a challenge.
	g.nonce = hmac.New(sha256.New, binary.BigEndian.AppendUint64(slices.Clone(keys[0].Secret), seed))
	g.index = g.random(indexLen)
	return g
}

// random returns bytes that were never returned before.
func (g *Guard) random(n int) []byte {
	g.nonce.Reset()
	g.nonce.Write(binary.BigEndian.AppendUint64(nil, g.made))
	g.made++
	return g.nonce.Sum(nil)[:n]
}

// Overhead returns how many bytes Sign adds.
func (g *Guard) Overhead() int {
	n := 2 + 4 + indexLen
	for _, h := range g.macs {
		n += 2 + h.Size()
	}
	return n
}

// Sign returns a packet with a counter at the end of its body and a trailer of MACs, one
// for each key. packet is what a wire.Encoder made, with room for Overhead; from is our
// address and to the neighbour's or wire.Group. Each packet is signed once, just before it
// is sent: what is signed later must not be sent earlier.
func (g *Guard) Sign(packet []byte, from, to netip.Addr) []byte {
	from, to = from.WithZone(""), to.WithZone("")
	g.self = from
	b := make([]byte, 0, len(packet)+g.Overhead())
	b = append(b, packet...)
	b = append(b, wire.TypePacketCounter, 4+indexLen)
	b = binary.BigEndian.AppendUint32(b, g.counter)
	b = append(b, g.index...)
	binary.BigEndian.PutUint16(b[2:], binary.BigEndian.Uint16(b[2:])+2+4+indexLen)
	if g.counter++; g.counter == math.MaxUint32 {
		// Under an index no counter comes twice (RFC 8967 §3.1). Neighbours challenge the
		// new one.
		g.index, g.counter = g.random(indexLen), 0
	}
	body := b
	for _, h := range g.macs {
		b = append(b, wire.TypeMAC, byte(h.Size()))
		b = sum(b, h, body, from, wire.Port, to)
	}
	return b
}

// Check reports whether a packet is to be believed, and returns what must be sent for it,
// whether it is or not. from and port are the sender's, to is our address or a group. now
// never goes back.
//
// A neighbour's first packets are not believed, but challenged. Its answer is.
func (g *Guard) Check(now time.Duration, payload []byte, from, to netip.Addr, port uint16) (ok bool, send []Reply) {
	from, to = from.WithZone(""), to.WithZone("")
	body, trailer, err := wire.Split(payload)
	if err != nil || !g.signed(payload[:len(payload)-len(trailer)], trailer, from, to, port) {
		g.forged++
		return false, nil
	}
	if !to.IsMulticast() {
		g.self = to
	}
	said := read(body, to.IsMulticast())
	if said.index == nil {
		g.forged++
		return false, nil // RFC 8967 §4.3
	}
	n := g.neighbour(now, from)
	if n == nil {
		return false, nil
	}
	challenge := false
	switch {
	case n.answered(now, said.replies):
		n.confirm(said.index, said.counter)
		ok = true
	case n.known && bytes.Equal(n.index, said.index):
		if !n.window(to).take(said.counter) {
			g.forged++
			return false, nil // a repetition, which is worth no answer either
		}
		ok = true
	default:
		challenge = true
	}
	if ok {
		n.heard = now
	}
	return ok, g.reply(now, n, from, said.request, challenge)
}

// Forged returns how many packets were no holder of a key's, or a repetition of one. Those
// of a neighbour that is not known yet are none of them, although they are not believed.
func (g *Guard) Forged() uint64 { return g.forged }

// signed reports whether one of the MACs in a trailer is that of one of the keys.
func (g *Guard) signed(packet, trailer []byte, from, to netip.Addr, port uint16) bool {
	var room [sha256.Size]byte
	for _, h := range g.macs {
		want := []byte(nil)
		for kind, got := range wire.Values(trailer) {
			if kind != wire.TypeMAC || len(got) != h.Size() {
				continue
			}
			if want == nil {
				want = sum(room[:0], h, packet, from, port, to)
			}
			if hmac.Equal(want, got) {
				return true
			}
		}
	}
	return false
}

// message is what a packet says of authentication.
type message struct {
	counter uint32
	index   []byte // nil: it has no counter
	request []byte // a challenge's nonce; nil: none
	replies [][]byte
}

// read looks for the first counter and the first challenge, and for all answers (RFC 8967
// §4.3). Challenges to a group are not answered. What is too long is not there.
func read(body []byte, group bool) message {
	var m message
	for kind, v := range wire.Values(body) {
		switch kind {
		case wire.TypePacketCounter:
			if m.index == nil && len(v) >= 4 && len(v) <= 4+wire.MaxIndex {
				m.counter, m.index = binary.BigEndian.Uint32(v), v[4:]
			}
		case wire.TypeChallengeRequest:
			if m.request == nil && !group && len(v) <= wire.MaxNonce {
				m.request = v
			}
		case wire.TypeChallengeReply:
			if len(v) == nonceLen {
				m.replies = append(m.replies, v)
			}
		}
	}
	return m
}

// reply makes the packet that answers a neighbour's challenge and challenges it, of which
// either may be for another time.
func (g *Guard) reply(now time.Duration, n *neighbour, to netip.Addr, request []byte, challenge bool) []Reply {
	if !g.self.IsValid() { // nothing was sent yet: there is no hurry
		return nil
	}
	e := wire.NewEncoder(1280 - 48 - g.Overhead())
	if request != nil && now >= n.replied {
		n.replied = now + pause
		e.Add(wire.ChallengeReply{Nonce: request})
	}
	if challenge && now >= n.challenged {
		n.challenged = now + pause
		// The same challenge is sent until it is answered: a new one each time would never
		// be, where an answer takes longer than the pause.
		if n.nonce == nil || now-n.nonceMade >= challengeLife {
			n.nonce, n.nonceMade = g.random(nonceLen), now
		}
		e.Add(wire.ChallengeRequest{Nonce: n.nonce})
	}
	if e.Empty() {
		return nil
	}
	return []Reply{{To: to, Payload: g.Sign(e.Bytes(), g.self, to)}}
}
