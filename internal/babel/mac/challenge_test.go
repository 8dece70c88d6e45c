package mac

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"tombolo/internal/babel/wire"
)

func TestLostChallengesAndAnswersAreRepeated(t *testing.T) {
	for lost := range 4 {
		a, b := newEnd(alice, 1, sha), newEnd(bob, 2, sha)
		b.say(0, wire.Group)
		now, n := time.Duration(0), 0
		for ; now < 2*time.Second; now += 100 * time.Millisecond {
			queue := []datagram{a.say(1, wire.Group), b.say(2, wire.Group)}
			for len(queue) > 0 {
				d := queue[0]
				queue = queue[1:]
				to := a
				if d.from == alice {
					to = b
				}
				if d.to != wire.Group {
					if n++; n == lost+1 {
						continue
					}
				}
				queue = append(queue, to.hear(t, now, d)...)
			}
		}
		if len(a.believed) < 10 || len(b.believed) < 10 || n > 12 {
			t.Errorf("without packet %d: %d and %d believed, %d challenges and answers", lost, len(a.believed), len(b.believed), n)
		}
	}
}

// An answer that takes longer than the pause between challenges is still to one of them.
func TestChallengesWorkOverALongWay(t *testing.T) {
	const way = 2 * time.Second
	a, b := newEnd(alice, 1, sha), newEnd(bob, 2, sha)
	b.say(0, wire.Group)
	type late struct {
		at time.Duration
		datagram
	}
	var air []late
	for now := time.Duration(0); now < 20*time.Second; now += 50 * time.Millisecond {
		for len(air) > 0 && air[0].at <= now {
			to := a
			if air[0].from == alice {
				to = b
			}
			send := to.hear(t, now, air[0].datagram)
			air = air[1:]
			for _, d := range send {
				air = append(air, late{now + way, d})
			}
		}
		air = append(air, late{now + way, a.say(1, wire.Group)}, late{now + way, b.say(2, wire.Group)})
	}
	if len(a.believed) < 100 || len(b.believed) < 100 {
		t.Errorf("%d and %d believed", len(a.believed), len(b.believed))
	}
}

func TestChallengesAndAnswersAreRare(t *testing.T) {
	a, b := newEnd(alice, 1, sha), newEnd(bob, 2, sha)
	b.say(0, wire.Group)
	sent := 0
	for now := time.Duration(0); now < 3*time.Second; now += time.Millisecond {
		sent += len(b.hear(t, now, a.say(1, wire.Group)))
	}
	if sent != 10 {
		t.Errorf("%d challenges in three seconds", sent)
	}
	enc := wire.NewEncoder(1200)
	enc.Add(wire.ChallengeRequest{Nonce: []byte("nonce")})
	a, b = acquainted(t, sha)
	sent = 0
	for now := time.Second; now < 4*time.Second; now += time.Millisecond {
		sent += len(b.hear(t, now, datagram{a.Sign(enc.Bytes(), alice, bob), alice, bob}))
	}
	if sent != 10 {
		t.Errorf("%d answers in three seconds", sent)
	}
	if send := b.hear(t, time.Hour, datagram{a.Sign(enc.Bytes(), alice, wire.Group), alice, wire.Group}); contains(t, send, wire.TypeChallengeReply) {
		t.Error("a challenge to the group is answered")
	}
}

// contains reports whether one of the datagrams has a TLV of a kind.
func contains(t *testing.T, ds []datagram, want byte) bool {
	t.Helper()
	for _, d := range ds {
		body, _, err := wire.Split(d.payload)
		if err != nil {
			t.Fatal(err)
		}
		for kind := range wire.Values(body) {
			if kind == want {
				return true
			}
		}
	}
	return false
}

func TestAnAnswerComesTooLate(t *testing.T) {
	a, b := newEnd(alice, 1, sha), newEnd(bob, 2, sha)
	b.say(0, wire.Group)
	challenge := b.hear(t, 0, a.say(1, wire.Group))
	answer := a.hear(t, 0, challenge[0])
	b.hear(t, challengeLife, answer[0])
	if n := b.neighbours[alice]; n.known {
		t.Error("believed")
	}
}

func TestAnAnswerCountsOnce(t *testing.T) {
	a, b := newEnd(alice, 1, sha), newEnd(bob, 2, sha)
	b.say(0, wire.Group)
	challenge := b.hear(t, 0, a.say(1, wire.Group))
	answer := a.hear(t, 0, challenge[0])
	b.hear(t, time.Second, answer[0])
	deliver(t, time.Second, a, b, a.say(2, bob))
	b.expect(t, 2)
	before := *b.neighbours[alice]
	if send := b.hear(t, time.Second, answer[0]); send != nil || b.neighbours[alice].unicast != before.unicast {
		t.Error("a repeated answer takes the counter back")
	}
}

func TestSilentNeighboursAreForgottenAndChallengedAgain(t *testing.T) {
	a, b := acquainted(t, sha)
	deliver(t, time.Second, a, b, a.say(1, bob))
	old := a.say(2, bob)
	deliver(t, neighbourLife, a, b, a.say(3, bob)) // just in time
	b.expect(t, 1, 3)
	if send := b.hear(t, 2*neighbourLife, old); len(b.believed) != 0 || !contains(t, send, wire.TypeChallengeRequest) {
		t.Errorf("believed %v, sends %v", b.believed, send)
	}
}

func TestStrangersAreBoundedAndDoNotDriveOutNeighbours(t *testing.T) {
	a, b := acquainted(t, sha)
	insider := newEnd(alice, 5, sha)
	stranger := func(i int) netip.Addr {
		ip := [16]byte{0xfe, 0x80, 8: 1}
		binary.BigEndian.PutUint32(ip[12:], uint32(i))
		return netip.AddrFrom16(ip)
	}
	now := time.Duration(0)
	for i := range 4 * maxNeighbours {
		insider.addr = stranger(i)
		b.hear(t, now, insider.say(1, bob))
		now += time.Millisecond
		if len(b.neighbours) > maxNeighbours {
			t.Fatalf("%d neighbours", len(b.neighbours))
		}
	}
	deliver(t, now, a, b, a.say(1, bob))
	b.expect(t, 1)
	if b.neighbours[stranger(4*maxNeighbours-1)] == nil || b.neighbours[stranger(0)] != nil {
		t.Error("not the oldest stranger was forgotten")
	}
	// Where all are neighbours that answered, there is no room for strangers, until one is
	// silent for long.
	for _, n := range b.neighbours {
		n.known, n.heard = true, now
	}
	insider.addr = stranger(1 << 20)
	if send := b.hear(t, now, insider.say(1, bob)); send != nil || len(b.neighbours) != maxNeighbours {
		t.Error("a stranger drove out a neighbour")
	}
	if send := b.hear(t, now+neighbourLife, insider.say(1, bob)); len(send) != 1 || len(b.neighbours) != 1 {
		t.Errorf("%d neighbours after all were silent", len(b.neighbours))
	}
}
