package agent

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"tombolo/internal/api"
	"tombolo/internal/kernel"
	"tombolo/internal/state"
)

const (
	// evidence is how long after a handshake of a device that was here already it is not
	// believed at once that the device is elsewhere: it may have come back before the other
	// door's word arrived.
	evidence = time.Second
	// patience is how long handshakes that are under way may take, of which one may be that of
	// a device that comes back, before its session is dropped. WireGuard may send something by
	// that meanwhile: it is short.
	patience = 100 * time.Millisecond

	// A device that is asked whether it is here has a keepalive for calmAfter, and after
	// giveUpAfter (WireGuard has then asked twice, REKEY_TIMEOUT being 5 s) it is not here.
	calmAfter   = time.Second
	giveUpAfter = 6 * time.Second

	dropAgain = time.Second // after a refusal

	// So many times within such a time back to where it was, and two devices have one key.
	returnsMost = 3
	returnsTime = 3 * time.Minute
)

// guest is a roaming device as this door knows it.
type guest struct {
	state.Client

	known    bool      // it was read before
	stamp    int64     // its handshake as it was read last; 0: it has had none, or none since its session was dropped
	heard    time.Time // when that was, by our clock
	at       netip.AddrPort
	shook    netip.AddrPort // where it was at that handshake
	sent     uint64
	received uint64
	visit    uint64    // 0: it is not here
	since    time.Time // when it came
	again    time.Time // its last handshake since then
	resumed  bool
	told     bool // a host was told of the visit

	// To be done, if not zero: the session is to be dropped, once no handshake is under way
	// or in any case at that time; the keepalive ended; the guest not waited for any more.
	dropAt, calmAt, giveUpAt time.Time

	waits bool // for handshakes that are under way
	ask   bool // the guest, when its session is dropped

	left      netip.AddrPort // where it was when another door took it over
	elsewhere string         // and that door's site

	before  netip.AddrPort // where it was before at
	returns []time.Time    // of late, to where it was before it was elsewhere
	problem error
}

// note takes a guest's session as it is now.
func (r *roaming) note(g *guest, s kernel.Session, now time.Time) {
	g.received, g.sent = s.Received, s.Sent
	if s.Endpoint.IsValid() && s.Endpoint != g.at {
		if g.visit != 0 && s.Endpoint == g.before {
			r.returned(g, now, fmt.Sprintf("one at %s, the other at %s", s.Endpoint, g.at))
		}
		g.before, g.at = g.at, s.Endpoint
	}
	if s.Handshake != 0 && s.Handshake != g.stamp {
		// WireGuard's time is the wall clock's, which may be set meanwhile.
		old := max(now.Sub(time.Unix(0, s.Handshake)), 0)
		if g.known {
			old = min(old, now.Sub(r.read))
		}
		g.stamp, g.heard, r.event = s.Handshake, now.Add(-old), now
		r.pending -= min(r.pending, 1)
		from := g.shook
		g.shook = g.at
		if g.visit != 0 && from == g.at {
			g.again = g.heard
		} else if g.visit != 0 {
			// It came again, and may have been elsewhere meanwhile: that is another visit.
			r.visits++
			g.visit, g.resumed, g.told, g.again = r.visits, false, false, g.heard
		} else if old < r.hold() {
			r.welcome(g, now)
		}
	}
	g.known = true
}

func (r *roaming) hold() time.Duration { return time.Duration(r.clients.Hold) * time.Second }

// welcome begins a visit.
func (r *roaming) welcome(g *guest, now time.Time) {
	r.visits++
	g.visit, g.since, g.again, g.resumed, g.told = r.visits, g.heard, time.Time{}, r.first, false
	r.away.setHere(g.PublicKey, true)
	if g.left.IsValid() && g.left == g.at && g.giveUpAt.IsZero() {
		r.returned(g, now, fmt.Sprintf("one at %s here, the other at %s", g.at, g.elsewhere))
	}
	g.left, g.dropAt, g.giveUpAt, g.waits, g.ask = netip.AddrPort{}, time.Time{}, time.Time{}, false, false
	if !g.resumed {
		text := g.Name + " is here"
		if g.at.IsValid() {
			text += ", at " + g.at.String()
		}
		r.say(ClientCame, g, text)
	}
}

// leave ends a visit.
func (r *roaming) leave(g *guest) {
	g.visit, g.resumed = 0, false
	r.away.setHere(g.PublicKey, false)
}

func (r *roaming) say(kind string, g *guest, text string) {
	e := api.Event{Kind: kind, Text: text, Device: r.clients.Device, Client: g.Name}
	if kind == ClientMoved {
		e.Peer = g.elsewhere
	}
	r.hub.emit(e)
}

// age ends a visit whose last handshake is too old, and takes problems back.
func (r *roaming) age(g *guest, now time.Time) {
	if g.visit != 0 && now.Sub(g.heard) >= r.hold() {
		r.leave(g)
		r.event = now
		r.say(ClientGone, g, fmt.Sprintf("%s is gone: its last handshake was %s ago", g.Name, now.Sub(g.heard).Round(time.Second)))
	}
	g.returns = slices.DeleteFunc(g.returns, func(at time.Time) bool { return now.Sub(at) >= returnsTime })
	if g.problem != nil && len(g.returns) == 0 {
		g.problem = nil
		r.problems.set("client "+g.Name, nil)
	}
}

// returned takes note that a guest is where it was before it was elsewhere. One device does
// that now and then, and two that have one key do it all the time.
func (r *roaming) returned(g *guest, now time.Time, where string) {
	g.returns = append(g.returns, now)
	if len(g.returns) >= returnsMost && g.problem == nil {
		g.problem = fmt.Errorf("device %q: two devices seem to have its key: %s", g.Name, where)
		r.problems.set("client "+g.Name, g.problem)
	}
}

// lose ends the visits that other doors ended, and sees to it that nothing is sent to those
// devices any more: what comes from here is authentic to them, and so they would take this
// door for theirs.
func (r *roaming) lose(lost map[uint64]displacement, now time.Time) {
	if len(lost) == 0 {
		return
	}
	for _, g := range r.order {
		d, is := lost[g.visit]
		if !is {
			continue
		}
		r.leave(g)
		r.event = now
		g.left, g.elsewhere = g.at, cmp.Or(originOf(r.w, d.by), "another door")
		g.dropAt, g.waits = now, false
		if g.ask = (d.contested || now.Sub(g.again) < evidence) && g.at.IsValid(); g.ask {
			r.say(ClientMoved, g, fmt.Sprintf("%s is said to be at %s, and is asked whether it is here", g.Name, g.elsewhere))
			continue
		}
		r.say(ClientMoved, g, fmt.Sprintf("%s moved to %s", g.Name, g.elsewhere))
		if g.waits = r.pending > 0; g.waits {
			g.dropAt = now.Add(patience)
		}
	}
}

// due returns when there is something to do for a guest; zero: nothing.
func (g *guest) due() (at time.Time) {
	for _, t := range []time.Time{g.dropAt, g.calmAt, g.giveUpAt} {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	return at
}

// tend does what is due for the guests.
func (r *roaming) tend(now time.Time) {
	due := func(at time.Time) bool { return !at.IsZero() && !now.Before(at) }
	for _, g := range r.order {
		if due(g.calmAt) {
			r.calm(g)
		}
		if due(g.giveUpAt) {
			g.giveUpAt, g.dropAt, g.ask, g.waits = time.Time{}, now, false, false
		}
		if due(g.dropAt) || g.waits && r.pending == 0 {
			r.drop(g, now)
		}
	}
}

// drop takes a guest's session away; where it is to be asked, another one is begun.
func (r *roaming) drop(g *guest, now time.Time) {
	asked, at := g.ask, g.at
	peer, wanted := r.peers[g.PublicKey]
	g.dropAt, g.waits = time.Time{}, false
	if !wanted {
		return
	}
	r.away.leave(g.PublicKey)
	var err error
	if asked {
		err = r.door.Rouse(r.clients.Device, peer, at)
	} else {
		err = r.door.Drop(r.clients.Device, peer)
	}
	if err != nil {
		err = fmt.Errorf("device %q: %w", g.Name, err)
	}
	r.problems.set("session "+g.Name, err)
	if err != nil {
		g.dropAt = now.Add(dropAgain)
		r.away.settle(g.PublicKey)
		r.drift() // the peer may be missing
		return
	}
	g.ask, g.stamp, g.calmAt, g.giveUpAt = false, 0, time.Time{}, time.Time{}
	g.at, g.shook, g.before = netip.AddrPort{}, netip.AddrPort{}, netip.AddrPort{}
	if asked {
		g.at, g.calmAt, g.giveUpAt = at, now.Add(calmAfter), now.Add(giveUpAfter)
		r.expect(1, now)
	} else {
		r.away.settle(g.PublicKey)
	}
}

// calm ends a guest's keepalive.
func (r *roaming) calm(g *guest) {
	g.calmAt = time.Time{}
	err := r.door.Calm(r.clients.Device, r.peers[g.PublicKey])
	r.away.settle(g.PublicKey)
	if err != nil {
		r.drift() // the base loop sees it
	}
}

// forget ends all that is known of what is no client any more.
func (r *roaming) forget(g *guest) {
	if g.visit != 0 {
		r.leave(g)
		r.say(ClientGone, g, g.Name+" is no client here any more")
	}
	r.away.settle(g.PublicKey)
	r.problems.set("client "+g.Name, nil)
	r.problems.set("session "+g.Name, nil)
	delete(r.guests, g.PublicKey)
}
