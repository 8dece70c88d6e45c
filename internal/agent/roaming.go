package agent

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"tombolo/internal/babel"
	"tombolo/internal/kernel"
	"tombolo/internal/key"
	"tombolo/internal/state"
)

// When to look at the handshakes of roaming devices, of which WireGuard tells nobody.
const (
	glance      = 20 * time.Millisecond // while handshakes are under way
	glanceShare = 10                    // but one part in so many of the time, at most, goes into that
	underWay    = 2 * time.Second       // after the last that began; then no more is heard of it

	lookOften  = time.Second     // else
	lookSeldom = 5 * time.Second // when nothing has happened for quietTime, and beginnings are seen
	quietTime  = time.Minute

	// otherPeersAgain is how long other peers than were applied are nobody's trouble, after
	// it was told.
	otherPeersAgain = 5 * time.Second
	// initiationsAgain is when it is tried again to see handshakes begin.
	initiationsAgain = 30 * time.Second
)

// roaming knows which roaming devices are here. It is one goroutine, which handshakes that
// begin wake, and a clock; it tells the speaker's host, which tells it of devices that
// another door has taken over.
type roaming struct {
	machine  *Machine
	hub      *hub
	problems *problems
	away     *away
	drift    func() // called when the interface has other peers than were applied

	wake  chan struct{}
	calls chan func(context.Context)

	mu     sync.Mutex
	wanted Wanted
	host   *host
	fresh  bool                    // these are new
	lost   map[uint64]displacement // visits, since the last turn

	// The goroutine's.
	w       Wanted
	clients state.Clients // of w; without a device: none enters here
	peers   map[key.Public]state.Peer
	guests  map[key.Public]*guest
	order   []*guest // by name
	visits  uint64   // so far

	door   Door
	opened Wanted    // what it was opened for
	looked time.Time // when that was tried last
	read   time.Time // when it was done
	took   time.Duration
	first  bool      // nothing was read yet
	event  time.Time // when a device did anything

	initiations Initiations
	port        uint16
	opening     time.Time // of initiations, when it was tried last
	counted     uint64
	pending     uint64    // handshakes that began and were not seen to complete
	begun       time.Time // the first of them
	until       time.Time // they count

	drifted time.Time
	toldTo  *host
	told    presences
}

func newRoaming(m *Machine, p *problems) *roaming {
	return &roaming{
		machine: m, hub: p.hub, problems: p, away: newAway(), drift: func() {},
		wake: make(chan struct{}, 1), calls: make(chan func(context.Context)),
		guests: map[key.Public]*guest{}, first: true,
	}
}

// follow is told what is applied, and who wants to know.
func (r *roaming) follow(w Wanted, h *host) {
	r.mu.Lock()
	r.wanted, r.host, r.fresh = w, h, true
	r.mu.Unlock()
	poke(r.wake)
}

// displaced is told which visits another door ended. It does not wait.
func (r *roaming) displaced(lost map[uint64]displacement) {
	r.mu.Lock()
	if r.lost == nil {
		r.lost = map[uint64]displacement{}
	}
	maps.Copy(r.lost, lost)
	r.mu.Unlock()
	poke(r.wake)
}

// run serves until ctx ends.
func (r *roaming) run(ctx context.Context) {
	defer r.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var seen <-chan struct{}
		if r.initiations != nil {
			seen = r.initiations.Seen()
		}
		timer.Reset(time.Until(r.due()))
		select {
		case <-ctx.Done():
			return
		case <-seen:
			r.begin(time.Now())
		case <-r.wake:
			r.turn()
		case <-timer.C:
			r.turn()
		case f := <-r.calls:
			f(ctx)
		}
	}
}

// turn looks, and does what is due.
func (r *roaming) turn() {
	r.mu.Lock()
	w, h, fresh, lost := r.wanted, r.host, r.fresh, r.lost
	r.lost, r.fresh = nil, false
	r.mu.Unlock()
	if fresh {
		r.adopt(w)
	}
	now := time.Now()
	if r.clients.Device != "" {
		r.problems.set("clients", r.look(now))
		r.lose(lost, now)
		if r.door != nil {
			r.tend(now)
		}
	}
	r.inform(h)
}

// due returns when there is something to do.
func (r *roaming) due() time.Time {
	if r.clients.Device == "" {
		return time.Now().Add(quietTime)
	}
	every := lookSeldom
	if r.initiations == nil || r.looked.Sub(r.event) < quietTime || r.read != r.looked {
		every = lookOften
	}
	next := r.looked.Add(every)
	if r.pending > 0 {
		at := r.looked.Add(max(glance, glanceShare*r.took))
		if soonest := r.begun.Add(glance); at.Before(soonest) {
			at = soonest // a handshake takes a round trip
		}
		next = earlier(next, at)
	}
	for _, g := range r.order {
		if at := g.due(); r.door != nil && !at.IsZero() {
			next = earlier(next, at)
		}
	}
	return next
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// begin takes note of handshakes that began.
func (r *roaming) begin(now time.Time) {
	if err := r.initiations.Err(); err != nil {
		r.problems.set("initiations", err)
		r.initiations.Close()
		r.initiations, r.opening = nil, now
		return
	}
	n := r.initiations.Count()
	r.expect(n-r.counted, now)
	r.counted = n
}

// expect has it look often for as many handshakes.
func (r *roaming) expect(n uint64, now time.Time) {
	if n > 0 && r.pending == 0 {
		r.begun = now
	}
	r.pending += n
	r.until = now.Add(underWay)
}

// adopt takes over what is applied.
func (r *roaming) adopt(w Wanted) {
	c := w.Router.Clients
	if c == nil {
		c = &state.Clients{}
	}
	if c.Device != r.clients.Device || w.Router.Owner != r.opened.Router.Owner || w.Keys != r.opened.Keys {
		if r.door != nil {
			r.door.Close()
			r.door = nil
		}
	}
	if c.Device != r.clients.Device {
		for _, g := range r.order {
			r.forget(g)
		}
		r.first = true
	}
	r.w, r.clients = w, *c
	r.listen()
	r.peers = map[key.Public]state.Peer{}
	for _, f := range w.Router.Interfaces {
		if f.Name == c.Device && f.WireGuard != nil {
			for _, p := range f.WireGuard.Peers {
				r.peers[p.PublicKey] = p
			}
		}
	}
	stays := map[key.Public]bool{}
	for _, d := range c.Devices {
		if d.PublicKey.IsZero() {
			continue
		}
		stays[d.PublicKey] = true
		if g := r.guests[d.PublicKey]; g != nil {
			g.Client = d
		} else {
			r.guests[d.PublicKey], r.event = &guest{Client: d}, time.Now()
		}
	}
	for k, g := range r.guests {
		if !stays[k] {
			r.forget(g)
		}
	}
	r.order = slices.SortedFunc(maps.Values(r.guests), func(a, b *guest) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return slices.Compare(a.PublicKey[:], b.PublicKey[:])
	})
}

// listen sees to it that handshakes are seen to begin.
func (r *roaming) listen() {
	if r.initiations != nil && r.clients.Port != r.port {
		r.initiations.Close()
		r.initiations = nil
		r.opening = time.Time{}
	}
	if r.initiations != nil {
		return
	}
	if r.clients.Device == "" {
		r.problems.set("initiations", nil)
		r.problems.set("clients", nil)
		return
	}
	now := time.Now()
	if !r.opening.IsZero() && now.Sub(r.opening) < initiationsAgain {
		return
	}
	i, err := r.machine.Initiations(r.clients.Port)
	r.problems.set("initiations", err)
	if r.opening = now; err == nil {
		r.initiations, r.port, r.counted, r.opening = i, r.clients.Port, 0, time.Time{}
	}
}

// look reads the sessions.
func (r *roaming) look(now time.Time) error {
	r.looked = now
	if now.After(r.until) {
		r.pending = 0
	}
	if r.door == nil {
		door, err := r.machine.Door(r.w)
		if err != nil {
			return err
		}
		r.door, r.opened = door, r.w
	}
	sessions, err := r.door.Sessions(r.clients.Device)
	r.took = time.Since(now)
	if err != nil {
		r.pending = 0
		return err
	}
	other := sessions != nil && len(sessions) != len(r.peers)
	for _, s := range sessions {
		if _, wanted := r.peers[s.Peer]; !wanted {
			other = true
		}
		if g := r.guests[s.Peer]; g != nil {
			r.note(g, s, now)
		}
	}
	if other && now.Sub(r.drifted) >= otherPeersAgain {
		r.drifted = now
		r.drift()
	}
	for _, g := range r.order {
		r.age(g, now)
	}
	r.read, r.first = now, false
	return nil
}

// inform tells the host what is new to it.
func (r *roaming) inform(h *host) {
	if h == nil {
		r.toldTo = nil
		return
	}
	p := presences{device: r.clients.Device, keys: map[babel.Key]presence{}}
	for _, g := range r.order {
		if g.visit == 0 {
			continue
		}
		// A speaker that begins anew displaces nobody by what another one knew.
		g.resumed = g.resumed || h != r.toldTo && g.told
		g.told = true
		for _, a := range g.Addresses {
			p.keys[babel.Key{Dst: a}] = presence{g.visit, g.resumed}
		}
	}
	if h != r.toldTo || p.device != r.told.device || !maps.Equal(p.keys, r.told.keys) {
		r.toldTo, r.told = h, p
		newest(h.guests, p)
	}
}

// close closes what is open.
func (r *roaming) close() {
	if r.door != nil {
		r.door.Close()
	}
	if r.initiations != nil {
		r.initiations.Close()
	}
}

// report returns the devices that may enter here and how they are, by name, for a person.
func (r *roaming) report(ctx context.Context) (out []guest) {
	ctx, cancel := context.WithTimeout(ctx, freshTime)
	defer cancel()
	_ = call(ctx, r.calls, func(context.Context) {
		r.turn()
		for _, g := range r.order {
			out = append(out, *g)
		}
	})
	return out
}

var _ Door = (*kernel.Kernel)(nil)
