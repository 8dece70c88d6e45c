package agent

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/internal/kernel"
	"tombolo/internal/key"
)

func TestADeviceIsHereFromItsHandshakeUntilThatIsTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEntry(t, 3)
		defer e.end()
		e.wants("")
		time.Sleep(10 * time.Second)
		e.begins.come(1)
		time.Sleep(50 * time.Millisecond)
		e.shake(1, at1)
		time.Sleep(glance)
		e.wants("device1")
		p := guestsOf(presences{}, e.host)
		if p.device != "wg-clients" || len(p.keys) != 2 || p.keys[keyTo("10.40.0.1/32")] == (presence{}) || p.keys[keyTo("10.40.0.1/32")] != p.keys[keyTo("fd40::1/128")] {
			t.Errorf("the host is told %+v", p)
		}
		if got := e.said(); got != "client came: device1 is here, at "+at1 {
			t.Errorf("events: %s", got)
		}
		time.Sleep(hold - time.Second)
		e.wants("device1")
		time.Sleep(lookSeldom + time.Second)
		e.wants("")
		if p := guestsOf(presences{}, e.host); p.device != "wg-clients" || len(p.keys) != 0 {
			t.Errorf("the host is told %+v", p)
		}
		if got := e.said(); !strings.HasPrefix(got, "client gone: device1 is gone: its last handshake was 3m") {
			t.Errorf("events: %s", got)
		}
		e.shake(1, at1)
		time.Sleep(lookSeldom)
		e.wants("device1")
	})
}

// What was received may be a copy of what somebody else heard.
func TestBytesAndBeginningsCountForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEntry(t, 1)
		defer e.end()
		e.shake(0, at1)
		time.Sleep(time.Second)
		e.wants("device0")
		for range 200 {
			e.door.mu.Lock()
			s := e.door.sessions[publicOf(0)]
			s.Received += 148
			e.door.sessions[publicOf(0)] = s
			e.door.mu.Unlock()
			e.begins.come(1)
			time.Sleep(time.Second)
		}
		e.wants("")
	})
}

// A rekey is nothing new to anybody, and keeps the device here.
func TestARekeyKeepsADeviceHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEntry(t, 1)
		defer e.end()
		for range 10 {
			e.shake(0, at1)
			time.Sleep(2 * time.Minute)
			e.wants("device0")
		}
		if e.visits != 1 {
			t.Errorf("it came %d times", e.visits)
		}
	})
}

func TestItLooksOftenOnlyWhileHandshakesAreUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEntry(t, 200)
		defer e.end()
		during := func(what string, d time.Duration, least, most int) {
			t.Helper()
			e.door.looks()
			time.Sleep(d)
			synctest.Wait()
			if n := e.door.looks(); n < least || n > most {
				t.Errorf("%s it looked %d times in %s, want %d to %d", what, n, d, least, most)
			}
		}
		time.Sleep(2 * quietTime)
		during("when nothing happens", 10*time.Minute, 119, 121)
		e.begins.come(1)
		during("after a packet that leads to nothing", underWay+glance, 95, 101)
		during("when that is long ago", 10*time.Minute, 119, 121)
		e.begins.come(2)
		during("while two handshakes are under way", 100*time.Millisecond, 4, 5)
		e.shake(7, at1)
		during("when one of them is completed", 100*time.Millisecond, 4, 5)
		e.shake(8, at1)
		during("when both are", time.Second, 1, 3)
		e.wants("device7 device8")
		during("in the next minute", quietTime-5*time.Second, 50, 56)
		during("after it", time.Minute, 11, 17)
	})
}

// Without a socket that sees handshakes begin they are seen a second later.
func TestWithoutBeginningsItLooksEverySecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEntry(t, 1)
		defer e.end()
		e.machine.Initiations = func(uint16) (Initiations, error) { return nil, errors.New("no packet sockets here") }
		e.begins.mu.Lock()
		e.begins.err = errors.New("the socket broke")
		e.begins.mu.Unlock()
		poke(e.begins.seen)
		time.Sleep(2 * quietTime)
		if p := e.problems.list(); len(p) != 1 || p[0] != "the socket broke" {
			t.Errorf("problems: %q", p)
		}
		e.follow(wantedOf(withClients(1)), e.host)
		time.Sleep(quietTime)
		if p := e.problems.list(); len(p) != 1 || p[0] != "no packet sockets here" {
			t.Errorf("problems: %q", p)
		}
		e.door.looks()
		e.shake(0, at1)
		time.Sleep(time.Second)
		e.wants("device0")
		time.Sleep(2 * quietTime)
		if n := e.door.looks(); n < 119 || n > 123 {
			t.Errorf("in two minutes it looked %d times", n)
		}
		e.machine.Initiations = func(uint16) (Initiations, error) { return newFakeInitiations(), nil }
		e.follow(wantedOf(withClients(1)), e.host)
		synctest.Wait()
		if p := e.problems.list(); len(p) != 0 {
			t.Errorf("it works again, and there are problems: %q", p)
		}
	})
}

// Who was here before the agent was takes nothing from another door.
func TestWhoWasHereAtTheStartIsResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEntry(t, 4, func(d *fakeDoor) {
			for i, age := range []time.Duration{0, 10 * time.Second, hold - time.Second, hold} {
				if i > 0 {
					d.sessions[publicOf(i)] = kernel.Session{Peer: publicOf(i), Handshake: time.Now().Add(-age).UnixNano()}
				}
			}
		})
		defer e.end()
		e.wants("device1* device2*")
		time.Sleep(2 * time.Second)
		e.wants("device1*")
		e.shake(0, at1)
		time.Sleep(time.Second)
		e.wants("device0 device1*")
		if got := e.said(); strings.Count(got, "client came") != 1 || !strings.Contains(got, "device0 is here") {
			t.Errorf("events: %s", got)
		}
	})
}

// A speaker that begins anew is told of all, as of those who were here before it; one who
// came while there was none is new to everybody.
func TestANewSpeakerIsToldWhoIsHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEntry(t, 2)
		defer e.end()
		e.shake(0, at1)
		time.Sleep(time.Second)
		e.wants("device0")
		e.follow(wantedOf(withClients(2)), nil)
		synctest.Wait()
		e.shake(1, at1)
		time.Sleep(time.Second)
		e.host = newGuestbook()
		e.follow(wantedOf(withClients(2)), e.host)
		e.wants("device0* device1")
		p := guestsOf(presences{}, e.host)
		if len(p.keys) != 4 || !p.keys[keyTo("10.40.0.0/32")].resumed || p.keys[keyTo("10.40.0.1/32")].resumed {
			t.Errorf("the host is told %+v", p)
		}
	})
}

// A device that is removed from the file, or gets another key, is gone with the peer.
func TestARemovedOrRekeyedDeviceIsGoneAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEntry(t, 3)
		defer e.end()
		for i := range 3 {
			e.shake(i, at1)
		}
		time.Sleep(time.Second)
		r := withClients(3)
		r.Clients.Devices = slices.Delete(r.Clients.Devices, 0, 1)
		r.Clients.Devices[0].PublicKey = key.Public{9}
		r.Interfaces[0].WireGuard.Peers = slices.Delete(r.Interfaces[0].WireGuard.Peers, 0, 1)
		r.Interfaces[0].WireGuard.Peers[0].PublicKey = key.Public{9}
		e.said()
		e.follow(wantedOf(r), e.host)
		e.wants("device2")
		if p := guestsOf(presences{}, e.host); len(p.keys) != 2 || p.keys[keyTo("10.40.0.2/32")] == (presence{}) {
			t.Errorf("the host is told %+v", p)
		}
		if got := e.said(); strings.Count(got, "is no client here any more") != 2 {
			t.Errorf("events: %s", got)
		}
		if e.drifts == 0 {
			t.Error("the interface has peers that are none any more, and nobody is told")
		}
		r.Clients = nil
		e.follow(wantedOf(r), e.host)
		e.wants("")
		if p := guestsOf(presences{}, e.host); len(p.keys) != 0 {
			t.Errorf("no device may enter here, and the host is told %+v", p)
		}
		e.door.looks()
		time.Sleep(time.Hour)
		if n := e.door.looks(); n != 0 {
			t.Errorf("no device may enter here, and it looked %d times", n)
		}
	})
}

// What cannot be read has not changed; what an interface forgets is not forgotten.
func TestAReadThatIsRefusedSendsNobodyAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEntry(t, 2)
		defer e.end()
		e.shake(0, at1)
		time.Sleep(2 * quietTime)
		e.door.mu.Lock()
		e.door.unread = errors.New("no")
		e.door.mu.Unlock()
		time.Sleep(hold)
		e.wants("device0")
		if p := e.problems.list(); len(p) != 1 || p[0] != "no" {
			t.Errorf("problems: %q", p)
		}
		e.door.looks()
		for range 100 {
			e.begins.come(1)
			time.Sleep(100 * time.Millisecond)
		}
		if n := e.door.looks(); n > 100 {
			t.Errorf("in ten seconds it was refused %d times", n)
		}
		e.door.mu.Lock()
		e.door.unread = nil
		e.door.mu.Unlock()
		e.shake(0, at1)
		time.Sleep(lookOften)
		e.wants("device0")
		if p := e.problems.list(); len(p) != 0 {
			t.Errorf("it can be read, and there are problems: %q", p)
		}
		e.door.mu.Lock()
		e.door.sessions[publicOf(0)] = kernel.Session{Peer: publicOf(0)} // the process that had it began anew
		e.door.mu.Unlock()
		time.Sleep(hold / 2)
		e.wants("device0")
		time.Sleep(hold / 2)
		e.wants("")
	})
}

// Handshakes have the wall clock's time, which may be set: 1970, or next year.
func TestAClockThatIsSetMovesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEntry(t, 3)
		defer e.end()
		time.Sleep(10 * time.Second)
		set := func(i int, at time.Time) {
			e.door.mu.Lock()
			defer e.door.mu.Unlock()
			e.door.sessions[publicOf(i)] = kernel.Session{Peer: publicOf(i), Handshake: at.UnixNano()}
		}
		set(0, time.Unix(100, 0))
		set(1, time.Now().AddDate(1, 0, 0))
		time.Sleep(lookOften)
		e.wants("device0 device1")
		set(1, time.Now().AddDate(0, -1, 0))
		time.Sleep(hold - lookSeldom)
		e.wants("device0 device1")
		time.Sleep(2 * lookSeldom)
		e.wants("")
	})
}
