package agent

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/internal/key"
)

func TestADeviceThatMovedAwayLosesItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEntry(t, 2)
		defer e.end()
		e.shake(0, at1)
		e.shake(1, at1)
		time.Sleep(time.Minute)
		e.said()
		e.takes(0, false)
		e.wants("device1")
		if did := e.door.done(); did != "drop device0" {
			t.Errorf("it did %q", did)
		}
		if got := e.said(); got != "client moved: device0 moved to b" {
			t.Errorf("events: %s", got)
		}
		time.Sleep(time.Minute)
		e.wants("device1")
		e.shake(0, at2)
		e.shake(1, at1)
		time.Sleep(lookSeldom)
		e.wants("device0 device1")
		if did := e.door.done(); did != "" || e.visits != 3 {
			t.Errorf("it did %q, and there were %d visits", did, e.visits)
		}
	})
}

// A door that did not know that the device was here may be wrong: the device is asked, for
// as long as an answer can take.
func TestAContestedDeviceIsAskedWhetherItIsHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEntry(t, 1)
		defer e.end()
		e.shake(0, at1)
		time.Sleep(time.Second)
		e.door.roused = func(key.Public) { time.AfterFunc(100*time.Millisecond, func() { e.shake(0, at1) }) }
		e.takes(0, true)
		e.wants("")
		time.Sleep(100*time.Millisecond + glance)
		e.wants("device0")
		time.Sleep(time.Minute)
		if did := e.door.done(); did != "rouse device0, calm device0" {
			t.Errorf("it did %q", did)
		}
		e.wants("device0")
		e.door.roused = func(key.Public) {}
		e.takes(0, true)
		time.Sleep(calmAfter)
		synctest.Wait()
		if did := e.door.done(); did != "rouse device0, calm device0" {
			t.Errorf("within a second it did %q", did)
		}
		time.Sleep(time.Minute)
		e.wants("")
		if did := e.door.done(); did != "drop device0" {
			t.Errorf("without an answer it did %q", did)
		}
		if len(e.guests[publicOf(0)].returns) != 0 {
			t.Error("that it answered counts as its coming back")
		}
	})
}

// A handshake may be younger than the other door's word, which then is about earlier times.
func TestWhatIsElsewhereAndJustHadAHandshakeHereIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEntry(t, 1)
		defer e.end()
		e.shake(0, at1)
		time.Sleep(time.Minute)
		e.shake(0, at1)
		time.Sleep(evidence / 2)
		e.takes(0, false)
		if did := e.door.done(); did != "rouse device0" {
			t.Errorf("it did %q", did)
		}
		e.shake(0, at1)
		time.Sleep(time.Second)
		e.takes(0, false) // it came with that handshake, after the other door had it
		if did := e.door.done(); did != "calm device0, drop device0" && did != "drop device0" {
			t.Errorf("it did %q", did)
		}
	})
}

// A handshake under way may be that of the device, which comes back: it is not cut off.
func TestADropWaitsForHandshakesUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEntry(t, 2)
		defer e.end()
		e.shake(0, at1)
		e.shake(1, at1)
		time.Sleep(time.Minute)
		e.begins.come(1)
		time.Sleep(50 * time.Millisecond)
		e.takes(0, false)
		e.wants("device1")
		time.Sleep(50 * time.Millisecond)
		e.shake(0, at1)
		time.Sleep(glance)
		e.wants("device0 device1")
		e.begins.come(1)
		time.Sleep(50 * time.Millisecond)
		e.takes(0, false)
		e.shake(1, at1) // it was another's
		time.Sleep(glance)
		synctest.Wait()
		if did := e.door.done(); did != "drop device0" {
			t.Errorf("it did %q", did)
		}
		e.begins.come(1)
		time.Sleep(evidence)
		e.takes(1, false)
		if did := e.door.done(); did != "" {
			t.Errorf("at once it did %q", did)
		}
		time.Sleep(patience)
		synctest.Wait()
		if did := e.door.done(); did != "drop device1" {
			t.Errorf("it did %q", did)
		}
	})
}

func TestTwoDevicesWithOneKeyAreReportedByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEntry(t, 2)
		defer e.end()
		hop := func(i int, at string) {
			e.shake(i, at)
			time.Sleep(20 * time.Second)
			e.takes(i, false)
			time.Sleep(20 * time.Second)
		}
		for range 3 {
			hop(0, at1)
			hop(1, at1)
			hop(1, at2) // a device that has another endpoint each time is one
		}
		if p := e.problems.list(); len(p) != 0 {
			t.Errorf("after two returns there are problems: %q", p)
		}
		want := fmt.Sprintf("device %q: two devices seem to have its key: one at %s here, the other at b", "device0", at1)
		for range 4 {
			hop(0, at1)
		}
		if p := e.problems.list(); len(p) != 1 || p[0] != want {
			t.Errorf("problems: %q, want %q", p, want)
		}
		time.Sleep(returnsTime - 45*time.Second)
		if p := e.problems.list(); len(p) != 1 {
			t.Errorf("before three minutes without are over there are problems: %q", p)
		}
		time.Sleep(20 * time.Second)
		if p := e.problems.list(); len(p) != 0 {
			t.Errorf("after three minutes without there are problems: %q", p)
		}
	})
}

// At one door the two have one session, whose endpoint goes to and fro.
func TestTwoDevicesWithOneKeyAtOneDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEntry(t, 1)
		defer e.end()
		for _, at := range []string{at1, at2, at1, "203.0.113.9:4500", at2, at2} {
			e.shake(0, at)
			time.Sleep(10 * time.Second)
		}
		if p := e.problems.list(); len(p) != 0 {
			t.Errorf("it moved, and came back once: %q", p)
		}
		for _, at := range []string{at1, at2, at1} {
			e.shake(0, at)
			time.Sleep(10 * time.Second)
		}
		want := fmt.Sprintf("device %q: two devices seem to have its key: one at %s, the other at %s", "device0", at1, at2)
		if p := e.problems.list(); len(p) != 1 || p[0] != want {
			t.Errorf("problems: %q, want %q", p, want)
		}
	})
}

func TestADropThatIsRefusedIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEntry(t, 1)
		defer e.end()
		e.shake(0, at1)
		time.Sleep(2 * time.Second)
		e.door.mu.Lock()
		e.door.refuse = errors.New("no")
		e.door.mu.Unlock()
		e.takes(0, false)
		time.Sleep(10 * time.Second)
		e.wants("") // the session that is still there is not a new one
		if did := strings.Count(e.door.done(), "drop device0"); did < 8 || did > 12 {
			t.Errorf("in ten seconds it tried %d times", did)
		}
		if p := e.problems.list(); len(p) != 1 || p[0] != `device "device0": no` || e.drifts == 0 {
			t.Errorf("problems: %q, %d drifts", p, e.drifts)
		}
		e.door.mu.Lock()
		e.door.refuse = nil
		e.door.mu.Unlock()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if did, p := e.door.done(), e.problems.list(); did != "drop device0" || len(p) != 0 {
			t.Errorf("it did %q; problems: %q", did, p)
		}
	})
}
