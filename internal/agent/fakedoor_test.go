package agent

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/internal/api"
	"tombolo/internal/babel/wire"
	"tombolo/internal/kernel"
	"tombolo/internal/key"
	"tombolo/internal/state"
)

// fakeDoor is a WireGuard interface in memory.
type fakeDoor struct {
	mu       sync.Mutex
	sessions map[key.Public]kernel.Session
	reads    []time.Time
	did      []string
	unread   error                         // what Sessions says
	refuse   error                         // what the others say
	roused   func(key.Public)              // the peer is asked for a session
	removed  func(p state.Peer, gone bool) // in the middle of Drop and Rouse, with gone, and at their end
}

func newFakeDoor() *fakeDoor {
	return &fakeDoor{sessions: map[key.Public]kernel.Session{}, removed: func(state.Peer, bool) {}, roused: func(key.Public) {}}
}

func (d *fakeDoor) Sessions(string) ([]kernel.Session, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reads = append(d.reads, time.Now())
	return slices.Collect(maps.Values(d.sessions)), d.unread
}

func (d *fakeDoor) replace(what string, p state.Peer, at netip.AddrPort) error {
	d.mu.Lock()
	d.did = append(d.did, what+" "+p.Name)
	err, removed := d.refuse, d.removed
	d.mu.Unlock()
	if err != nil {
		return err
	}
	removed(p, true)
	d.mu.Lock()
	d.sessions[p.PublicKey] = kernel.Session{Peer: p.PublicKey, Endpoint: at}
	d.mu.Unlock()
	removed(p, false)
	return nil
}

func (d *fakeDoor) Drop(_ string, p state.Peer) error {
	return d.replace("drop", p, netip.AddrPort{})
}

func (d *fakeDoor) Rouse(_ string, p state.Peer, at netip.AddrPort) error {
	if err := d.replace("rouse", p, at); err != nil {
		return err
	}
	d.roused(p.PublicKey)
	return nil
}

func (d *fakeDoor) Calm(_ string, p state.Peer) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.did = append(d.did, "calm "+p.Name)
	return d.refuse
}

func (d *fakeDoor) Close() {}

// done returns what was done since it was asked last.
func (d *fakeDoor) done() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := strings.Join(d.did, ", ")
	d.did = nil
	return out
}

// looks returns how often it was read since then.
func (d *fakeDoor) looks() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.reads)
	d.reads = nil
	return n
}

type fakeInitiations struct {
	seen chan struct{}
	mu   sync.Mutex
	n    uint64
	err  error
}

func newFakeInitiations() *fakeInitiations { return &fakeInitiations{seen: make(chan struct{}, 1)} }

func (i *fakeInitiations) Seen() <-chan struct{} { return i.seen }

func (i *fakeInitiations) Count() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.n
}

func (i *fakeInitiations) Err() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.err
}

func (i *fakeInitiations) Close() {}

func (i *fakeInitiations) come(n uint64) {
	i.mu.Lock()
	i.n += n
	i.mu.Unlock()
	poke(i.seen)
}

const hold = 180 * time.Second

// withClients returns a router at which devices enter: device0, and so on.
func withClients(n int) state.Router {
	r := router("10.0.0.0/8")
	r.Babel = new(babelConfig())
	w := &state.WireGuard{PublicKey: key.Public{1}, ListenPort: 51820}
	r.Clients = &state.Clients{Device: "wg-clients", Port: 51820, Hold: int(hold / time.Second)}
	for i := range n {
		c := state.Client{Name: fmt.Sprintf("device%d", i), PublicKey: publicOf(i), Addresses: addressesOf(i)}
		r.Clients.Devices = append(r.Clients.Devices, c)
		w.Peers = append(w.Peers, state.Peer{Name: c.Name, PublicKey: c.PublicKey, AllowedIPs: c.Addresses})
	}
	r.Interfaces = []state.Interface{{Name: "wg-clients", Kind: state.WireGuardKind, Alias: "tombolo n clients", MTU: 1420, WireGuard: w}}
	return r
}

func publicOf(i int) key.Public { return key.Public{0xc1, byte(i >> 8), byte(i)} }

func addressesOf(i int) []netip.Prefix {
	return []netip.Prefix{
		prefix(fmt.Sprintf("10.40.%d.%d/32", i>>8, i&0xff)), prefix(fmt.Sprintf("fd40::%x/128", i)),
	}
}

// entry is a roaming goroutine at a door of fakes, and what it tells the host.
type entry struct {
	*testing.T
	*roaming
	door   *fakeDoor
	begins *fakeInitiations
	host   *host
	events <-chan api.Event
	drifts int
	end    func()
}

func newEntry(t *testing.T, n int, before ...func(*fakeDoor)) *entry {
	e := &entry{T: t, door: newFakeDoor(), begins: newFakeInitiations(), host: newGuestbook()}
	for i := range n {
		e.door.sessions[publicOf(i)] = kernel.Session{Peer: publicOf(i)}
	}
	for _, f := range before {
		f(e.door)
	}
	m := Machine{
		Door:        func(Wanted) (Door, error) { return e.door, nil },
		Initiations: func(uint16) (Initiations, error) { return e.begins, nil },
	}
	p := newProblems(newHub(quietLog()))
	e.roaming = newRoaming(&m, p)
	e.drift = func() { e.drifts++ }
	var ended sync.WaitGroup
	events, unsubscribe := p.hub.subscribe()
	e.events = events
	ctx, cancel := context.WithCancel(t.Context())
	ended.Go(func() { e.run(ctx) })
	e.end = func() { cancel(); ended.Wait(); unsubscribe() }
	e.follow(wantedOf(withClients(n)), e.host)
	synctest.Wait()
	return e
}

func wantedOf(r state.Router) Wanted {
	return Wanted{Router: r, Sites: []Site{{Name: "b", Babel: 0x0a002002}}}
}

// newGuestbook returns a host that does nothing, whose guests can be looked at.
func newGuestbook() *host { return &host{guests: make(chan presences, 1)} }

// guestsOf returns who is here by what a host was told; resumed ones with a star.
func guestsOf(was presences, h *host) presences {
	select {
	case p := <-h.guests:
		return p
	default:
		return was
	}
}

func (e *entry) here() string {
	e.Helper()
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	for _, g := range e.order {
		if g.visit == 0 {
			continue
		}
		star := ""
		if g.resumed {
			star = "*"
		}
		out = append(out, g.Name+star)
	}
	return strings.Join(out, " ")
}

// wants checks who is here.
func (e *entry) wants(want string) {
	e.Helper()
	if got := e.here(); got != want {
		e.Errorf("after %s, here: %q, want %q", time.Since(epoch), got, want)
	}
}

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // of synctest

// shake completes a handshake of a device, from an endpoint.
func (e *entry) shake(i int, at string) {
	e.door.mu.Lock()
	defer e.door.mu.Unlock()
	s := e.door.sessions[publicOf(i)]
	s.Handshake, s.Endpoint = time.Now().UnixNano(), netip.MustParseAddrPort(at)
	e.door.sessions[publicOf(i)] = s
}

// takes has another door take a device.
func (e *entry) takes(i int, contested bool) {
	e.Helper()
	synctest.Wait()
	e.displaced(map[uint64]displacement{e.guests[publicOf(i)].visit: {by: wire.RouterID{0x0a, 0, 0x20, 2}, contested: contested}})
	synctest.Wait()
}

// said returns the kinds and texts of events since it was asked last.
func (e *entry) said() string {
	synctest.Wait()
	var out []string
	for len(e.events) > 0 {
		x := <-e.events
		out = append(out, x.Kind+": "+x.Text)
	}
	return strings.Join(out, "\n")
}

const at1, at2 = "203.0.113.7:4500", "203.0.113.8:4500"
