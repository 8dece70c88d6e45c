package agent

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"time"

	"tombolo/internal/api"
	"tombolo/internal/babel"
	"tombolo/internal/babel/udp"
	"tombolo/internal/babel/wire"
	"tombolo/internal/kernel"
)

const (
	// stall is how late the host may be before it takes the packets that wait for a
	// sign that it slept, and not that neighbours did.
	stall = 20 * time.Millisecond
	// grace is how long it then waits for the receiver to hand over what came meanwhile.
	grace = 10 * time.Millisecond
	// receiveAgain is when it is tried again to receive what the kernel would not give.
	receiveAgain = 100 * time.Millisecond
)

// facts are what the observer saw that the speaker must know.
type facts struct {
	devices  map[string]kernel.Device
	announce []babel.Announcement
	mute     map[string]bool
}

// host owns a speaker: one goroutine calls it, and carries out what it says.
type host struct {
	machine  *Machine
	socket   Socket
	table    *table
	hub      *hub
	problems *problems
	start    time.Time // of babel.Time
	seed     uint64
	id       wire.RouterID
	seqno    uint16

	calls   chan func()
	facts   chan facts             // the newest
	traffic chan map[string]uint64 // packets by device, so far
	guests  chan presences         // the newest
	packets chan []udp.Packet
	done    chan struct{} // closed at the end of run

	// The goroutine's.
	speaker *babel.Speaker
	wanted  Wanted
	config  babel.Config
	seen    facts
	links   map[string]hostLink // those that are up
	names   map[int]string      // of them, by index
	mute    map[string]bool

	entrance  string // the device by which the attached keys are reached
	attached  map[babel.Key]attachment
	displaced func(map[uint64]displacement) // tells of visits that another door ended; it does not wait
}

// hostLink is a link that can be sent on.
type hostLink struct {
	index   int
	address netip.Addr
}

func newHost(m *Machine, s Socket, t *table, h *hub, p *problems, start time.Time, w Wanted) (*host, error) {
	var random [14]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("choose a router-id: %w", err)
	}
	out := &host{
		machine: m, socket: s, table: t, hub: h, problems: p, start: start,
		seed: binary.BigEndian.Uint64(random[:8]), seqno: binary.BigEndian.Uint16(random[12:]),
		calls: make(chan func()), facts: make(chan facts, 1), traffic: make(chan map[string]uint64, 1),
		guests: make(chan presences, 1), packets: make(chan []udp.Packet, 16), done: make(chan struct{}),
		wanted: w, links: map[string]hostLink{}, names: map[int]string{}, mute: map[string]bool{},
		attached: map[babel.Key]attachment{}, displaced: func(map[uint64]displacement) {},
	}
	binary.BigEndian.PutUint32(out.id[:4], w.Router.Babel.Site)
	copy(out.id[4:], random[8:12])
	var err error
	if out.config, err = out.newConfig(); err != nil {
		return nil, err
	}
	t.beside(w.Router.Routes)
	out.speaker = babel.New(out.now(), out.config, out.seed)
	return out, nil
}

// inherit hands the speaker what an earlier one learned. It is called before run, if at all.
func (h *host) inherit(hops []babel.RouteChange) { h.carry(h.speaker.Inherit(h.now(), hops)) }

func (h *host) now() babel.Time { return time.Since(h.start) }

// run serves the speaker until ctx ends, and closes the socket.
func (h *host) run(ctx context.Context) {
	defer close(h.done)
	received := make(chan struct{})
	go func() {
		defer close(received)
		h.receive(ctx)
	}()
	defer func() {
		_ = h.socket.Close()
		<-received
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := h.speaker.Next()
		timer.Reset(max(0, next-h.now()))
		select {
		case <-ctx.Done():
			return
		case ps := <-h.packets:
			h.handle(ps)
		case f := <-h.facts:
			h.see(f)
		case c := <-h.traffic:
			for _, l := range h.config.Links {
				if n, ok := c[l.Name]; ok {
					h.carry(h.speaker.Traffic(h.now(), l.Name, n))
				}
			}
		case p := <-h.guests:
			h.attend(p)
		case f := <-h.calls:
			f()
		case <-timer.C:
			h.drain(h.now() - next)
			h.carry(h.speaker.Tick(h.now()))
		}
	}
}

// receive hands packets over until the socket is closed.
func (h *host) receive(ctx context.Context) {
	batch := udp.NewBatch()
	for {
		ps, err := h.socket.Receive(batch)
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			return
		}
		h.problems.set("socket", err)
		if err != nil {
			select {
			case <-time.After(receiveAgain):
			case <-ctx.Done():
			}
			continue
		}
		out := make([]udp.Packet, len(ps))
		for i, p := range ps {
			p.Payload = append([]byte(nil), p.Payload...)
			out[i] = p
		}
		select {
		case h.packets <- out:
		case <-ctx.Done():
			return
		}
	}
}

// drain handles the packets that wait: what slept may have been this process.
func (h *host) drain(late time.Duration) {
	var more <-chan time.Time
	if late > stall {
		more = time.After(grace)
	}
	for {
		select {
		case ps := <-h.packets:
			h.handle(ps)
			continue
		default:
		}
		if more == nil {
			return
		}
		select {
		case ps := <-h.packets:
			h.handle(ps)
		case <-more:
			more = nil
		}
	}
}

func (h *host) handle(ps []udp.Packet) {
	for _, p := range ps {
		if link, ok := h.names[p.Index]; ok {
			h.carry(h.speaker.Handle(h.now(), babel.Packet{
				Link: link, From: p.From, To: p.To, Port: p.Port, At: p.At, Payload: p.Payload,
			}))
		}
	}
}

// carry carries out what the speaker says.
func (h *host) carry(o babel.Output) {
	h.table.put(o.Routes, h.wanted.Router.Babel) // first: what is sent may say that we forward
	for _, d := range o.Send {
		l, ok := h.links[d.Link]
		if !ok {
			continue
		}
		// What is not sent is a packet lost, for which the protocol is made. A link that
		// goes is said by the kernel's events.
		_ = h.socket.Send(l.index, l.address, d.To, d.Payload)
	}
	for _, e := range o.Events {
		h.hub.emit(h.tell(e))
	}
	h.giveUp(o.Displaced)
}

// tell puts an event of the speaker into words.
func (h *host) tell(e babel.Event) api.Event {
	out := api.Event{Kind: string(e.Kind), Text: e.Reason, Device: e.Link, Peer: h.peer(e.Link)}
	if e.Key != nil {
		out.Route = keyText(*e.Key)
	}
	return out
}

func keyText(k babel.Key) string {
	if k.Src.IsValid() {
		return k.Dst.String() + " from " + k.Src.String()
	}
	return k.Dst.String()
}

// peer returns the site at the other end of a link; empty where there is none.
func (h *host) peer(device string) string {
	for _, l := range h.wanted.Router.Babel.Links {
		if l.Device == device {
			return l.Peer
		}
	}
	return ""
}

// see takes the observer's facts: links that come and go, and what is to be announced.
func (h *host) see(f facts) {
	anew := false // only what a segment's device has is part of the configuration
	for _, l := range h.wanted.Router.Babel.Links {
		anew = anew || !l.Tunnel && !reflect.DeepEqual(h.seen.devices[l.Device], f.devices[l.Device])
	}
	h.seen = f
	if anew {
		h.reconfigure()
	}
	h.bringLinks()
	for link, mute := range f.mute {
		if h.mute[link] != mute {
			h.carry(h.speaker.Mute(h.now(), link, mute))
		}
	}
	h.mute = f.mute
	h.carry(h.speaker.Announce(h.now(), f.announce))
}

// bringLinks tells the speaker which links can be sent on.
func (h *host) bringLinks() {
	for _, l := range h.config.Links {
		d, there := h.seen.devices[l.Name]
		usable := there && d.Up && l.Address.IsValid() && hasAddress(d, l.Address) && (l.Tunnel || d.Carrier)
		was, up := h.links[l.Name]
		if up && (!usable || was.index != d.Index || was.address != l.Address) {
			h.down(l.Name)
			up = false
		}
		if usable && !up {
			err := h.socket.Join(d.Index)
			if err != nil {
				err = fmt.Errorf("speak on %s: %w", l.Name, err)
			}
			h.problems.set("join "+l.Name, err)
			if err != nil {
				continue
			}
			h.links[l.Name], h.names[d.Index] = hostLink{d.Index, l.Address}, l.Name
			h.carry(h.speaker.SetLink(h.now(), l.Name, true))
		}
	}
}

// down says that a link cannot be sent on any more.
func (h *host) down(name string) {
	h.carry(h.speaker.SetLink(h.now(), name, false))
	delete(h.names, h.links[name].index)
	delete(h.links, name)
}

func hasAddress(d kernel.Device, a netip.Addr) bool {
	for _, p := range d.Addresses {
		if p.Addr() == a {
			return true
		}
	}
	return false
}

// reconfigure gives the speaker a new configuration, if it is another one.
func (h *host) reconfigure() {
	h.table.beside(h.wanted.Router.Routes)
	c, err := h.newConfig()
	h.problems.set("babel", err)
	if err != nil || reflect.DeepEqual(c, h.config) {
		return
	}
	stays := map[string]bool{}
	for _, l := range c.Links {
		stays[l.Name] = true
	}
	for name := range h.links {
		if !stays[name] {
			h.down(name)
		}
	}
	h.config = c
	h.carry(h.speaker.Configure(h.now(), c))
	// What was learned before may now be another route of the kernel's.
	var again []babel.RouteChange
	for _, e := range h.speaker.View().Routes {
		if e.Hop != nil {
			again = append(again, babel.RouteChange{Key: e.Key, Hop: e.Hop})
		}
	}
	h.table.put(again, h.wanted.Router.Babel)
}

// errEnded says that the speaker runs no more.
var errEnded = errors.New("the speaker has ended")

// do runs f on the host's goroutine, and waits for it.
func (h *host) do(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case h.calls <- func() { f(); close(done) }:
	case <-h.done:
		return errEnded
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// configure tells the host what is applied now.
func (h *host) configure(ctx context.Context, w Wanted) error {
	return h.do(ctx, func() {
		h.wanted = w
		h.reconfigure()
		h.bringLinks()
	})
}

// A goodbye is said so often, and has so long to leave each time. Nobody acknowledges it, and
// who does not hear it would keep its ways through us.
const (
	farewells = 3
	farewell  = 50 * time.Millisecond
)

// retract says goodbye.
func (h *host) retract(ctx context.Context) {
	for range farewells {
		if h.do(ctx, func() { h.carry(h.speaker.Retract(h.now())) }) != nil {
			return
		}
		time.Sleep(farewell) // the packets are in a tunnel's queue
	}
}

// view returns what the speaker knows, and the time of it.
func (h *host) view(ctx context.Context) (v babel.View, w Wanted, at babel.Time, err error) {
	err = h.do(ctx, func() { v, w, at = h.speaker.View(), h.wanted, h.now() })
	return v, w, at, err
}
