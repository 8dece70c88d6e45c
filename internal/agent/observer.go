package agent

import (
	"context"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"tombolo/internal/api"
	"tombolo/internal/babel"
	"tombolo/internal/kernel"
	"tombolo/internal/key"
	"tombolo/internal/state"
)

const (
	lookEvery  = 5 * time.Second       // at handshakes
	lookAtAll  = 6                     // of these times one is at devices too, for what no event told
	lookMost   = 12                    // tunnels each time; where there are more, the next of them
	settleLook = 10 * time.Millisecond // devices change by several events at a time

	// sessionLife is how long a session lasts without a new handshake (REJECT_AFTER_TIME).
	sessionLife = 180 * time.Second
)

// sight is what an observer saw.
type sight struct {
	devices map[string]kernel.Device
	tunnels map[string]kernel.Tunnel
	rates   map[peerID]rate
	announc []api.Announcement
}

// observer looks at the machine, for the speaker's host and for people.
type observer struct {
	machine  *Machine
	problems *problems
	hub      *hub
	wake     chan struct{}
	asks     chan chan struct{}  // look at everything now, and close
	drift    func()              // called when a tunnel has other peers than were applied
	works    func(six bool) bool // whether an uplink does, in a family; it does not wait

	mu     sync.Mutex
	wanted Wanted
	host   *host
	seen   sight

	// The goroutine's.
	eyes    Eyes
	opened  state.Owner
	samples map[peerID][]sample
	mute    map[string]bool // tunnels, by name
	turn    int             // of the tunnels, whose it is to be looked at next
	probes  map[netip.Addr]*probe
	said    map[babel.Key]bool // announced at the last look
	told    facts              // what toldTo was told last
	toldTo  *host
}

func newObserver(m *Machine, p *problems) *observer {
	return &observer{
		machine: m, problems: p, hub: p.hub, wake: make(chan struct{}, 1), asks: make(chan chan struct{}), drift: func() {},
		works:   func(bool) bool { return true },
		samples: map[peerID][]sample{}, probes: map[netip.Addr]*probe{}, said: map[babel.Key]bool{},
	}
}

// follow is told what is applied, and who wants to know.
func (o *observer) follow(w Wanted, h *host) {
	o.mu.Lock()
	o.wanted, o.host = w, h
	o.mu.Unlock()
	o.look()
}

// look has the observer look soon.
func (o *observer) look() { poke(o.wake) }

// freshTime is how long somebody waits for a fresh look, before an older one has to do.
const freshTime = 2 * time.Second

// fresh has the observer look at everything, for a person who asks.
func (o *observer) fresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, freshTime)
	defer cancel()
	done := make(chan struct{})
	select {
	case o.asks <- done:
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// sight returns what was seen last.
func (o *observer) sight() sight {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen
}

func (o *observer) subject() (Wanted, *host) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.wanted, o.host
}

// run looks until ctx ends.
func (o *observer) run(ctx context.Context) {
	var others sync.WaitGroup
	defer others.Wait()
	others.Go(func() { o.meter(ctx) })
	defer func() {
		if o.eyes != nil {
			o.eyes.Close()
		}
		for _, p := range o.probes {
			p.end()
		}
	}()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	tunnels, devices := allTunnels, true // what to look at
	for n := 1; ; {
		var asked chan struct{}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			n++
			tunnels, devices = max(tunnels, someTunnels), devices || n%lookAtAll == 0
		case asked = <-o.asks:
			tunnels, devices = allTunnels, true
		case <-o.wake:
			devices = true
			select {
			case <-time.After(settleLook):
			case <-ctx.Done():
				return
			}
			select {
			case <-o.wake:
			default:
			}
		}
		if w, h := o.subject(); w.Router.Version != 0 {
			err := o.lookAt(ctx, w, h, tunnels, devices)
			o.problems.set("observe", err)
			if devices = err != nil; err == nil {
				tunnels = noTunnels
			}
		}
		if asked != nil {
			close(asked)
		}
	}
}

// At which tunnels to look.
const (
	noTunnels = iota
	someTunnels
	allTunnels
)

// lookAt looks at what w speaks of.
func (o *observer) lookAt(ctx context.Context, w Wanted, h *host, tunnels int, devices bool) error {
	if o.eyes == nil || o.opened != w.Router.Owner {
		if o.eyes != nil {
			o.eyes.Close()
			o.eyes = nil
		}
		eyes, err := o.machine.Eyes(w)
		if err != nil {
			return err
		}
		o.eyes, o.opened = eyes, w.Router.Owner
		tunnels, devices = allTunnels, true
	}
	last := o.sight()
	s := sight{devices: last.devices, tunnels: last.tunnels, rates: last.rates}
	if devices {
		s.devices = map[string]kernel.Device{}
		for _, name := range devicesOf(w.Router) {
			d, there, err := o.eyes.Device(name)
			if err != nil {
				return err
			}
			if there {
				s.devices[name] = d
			}
		}
	}
	if tunnels != noTunnels {
		here, at := o.whose(w.Router, last.tunnels, tunnels == allTunnels)
		seen, err := o.eyes.Tunnels(slices.Collect(maps.Keys(at)))
		if err != nil {
			return err
		}
		s.tunnels = map[string]kernel.Tunnel{}
		for name, t := range last.tunnels {
			if here[name] && !at[name] {
				s.tunnels[name] = t
			}
		}
		s.rates = o.measure(s, seen, time.Now())
		maps.Copy(s.tunnels, seen)
		if otherPeers(w.Router, seen) {
			o.drift()
		}
	}
	o.probe(ctx, w.Router.Babel)
	s.announc = o.announcements(w.Router, s)
	o.mu.Lock()
	o.seen = s
	o.mu.Unlock()
	o.inform(h, s)
	o.tell(s.announc)
	return nil
}

// whose returns a router's interfaces, and at which of them to look now: also at those that
// were not there the last time.
func (o *observer) whose(r state.Router, last map[string]kernel.Tunnel, all bool) (here, at map[string]bool) {
	here, at = map[string]bool{}, map[string]bool{}
	for _, f := range r.Interfaces {
		here[f.Name] = true
	}
	if all || len(here) <= lookMost {
		return here, here
	}
	if r.Babel != nil {
		for _, a := range r.Babel.Announce {
			if a.While == state.Handshake {
				at[a.Device] = true
			}
		}
	}
	for name := range here {
		if _, seen := last[name]; !seen {
			at[name] = true
		}
	}
	for range lookMost {
		o.turn = (o.turn + 1) % len(r.Interfaces)
		at[r.Interfaces[o.turn].Name] = true
	}
	return here, at
}

// inform tells the host what is new to it.
func (o *observer) inform(h *host, s sight) {
	if h == nil {
		return
	}
	f := facts{devices: s.devices, mute: o.mute}
	for _, a := range s.announc {
		if a.Now {
			f.announce = append(f.announce, babel.Announcement{Key: babel.Key{Dst: a.Dst, Src: a.Src}, Metric: a.Metric})
		}
	}
	if h != o.toldTo || !reflect.DeepEqual(f, o.told) {
		o.toldTo, o.told = h, f
		newest(h.facts, f)
	}
}

// otherPeers reports whether a tunnel that is there has not the peers that it should have,
// of which the kernel tells nobody. Where roaming devices enter is not looked at: the roaming
// does that, and knows what it does itself.
func otherPeers(r state.Router, tunnels map[string]kernel.Tunnel) bool {
	for _, f := range r.Interfaces {
		t, there := tunnels[f.Name]
		if f.WireGuard == nil || !there || r.Clients != nil && f.Name == r.Clients.Device {
			continue
		}
		have := map[key.Public]bool{}
		for _, p := range t.Peers {
			have[p.PublicKey] = true
		}
		for _, p := range f.WireGuard.Peers {
			if !have[p.PublicKey] {
				return true
			}
		}
		if len(have) != len(f.WireGuard.Peers) {
			return true
		}
	}
	return false
}

// devicesOf returns the devices that a router has anything to do with.
func devicesOf(r state.Router) []string {
	all := map[string]bool{}
	for _, f := range r.Interfaces {
		all[f.Name] = true
	}
	for _, l := range r.LANs {
		all[l.Device] = true
	}
	for _, u := range r.Uplinks {
		all[u.Device] = true
	}
	if r.Babel != nil {
		for _, l := range r.Babel.Links {
			all[l.Device] = true
		}
		for _, a := range r.Babel.Announce {
			if a.Device != "" {
				all[a.Device] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// tell says what is announced now and was not before, and the other way round.
func (o *observer) tell(as []api.Announcement) {
	said := map[babel.Key]bool{}
	for _, a := range as {
		k := babel.Key{Dst: a.Dst, Src: a.Src}
		was, known := o.said[k]
		said[k] = a.Now
		if known && was != a.Now {
			kind := Withdraw
			if a.Now {
				kind = Announce
			}
			o.hub.emit(api.Event{Kind: kind, Text: a.Why, Device: a.Device, Route: keyText(k)})
		}
	}
	o.said = said
}
