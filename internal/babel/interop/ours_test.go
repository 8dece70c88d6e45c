package interop

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"tombolo/internal/babel"
	"tombolo/internal/babel/udp"
	"tombolo/internal/babel/wire"
)

// ours is a router that runs the speaker.
type ours struct {
	*node
	config   babel.Config
	captures []*capture
	own      []babel.Announcement

	*host
	lives int // of hosts so far
}

// host is one life of a speaker: a goroutine that owns it, and one that receives.
type host struct {
	start   time.Time
	speaker *babel.Speaker
	socket  *udp.Socket
	indexes map[string]int
	calls   chan func(now babel.Time) babel.Output
	quit    chan struct{}
	joined  sync.WaitGroup

	// The goroutine's; others read them in a call.
	fib    map[babel.Key]babel.Hop
	sent   map[string][][]byte // payloads, by link
	events []string

	rxcost uint16 // that IHUs say, in place of what the speaker has measured; 0: as it is
}

// newOurs makes a router whose links are joined and described later.
func newOurs(t *testing.T, number int) *ours {
	t.Helper()
	o := &ours{node: newNode(t, number)}
	o.config.Timing = babel.Timing{Segment: 200 * time.Millisecond}
	return o
}

// speak describes the link with a number. change, if not nil, has its way with it.
func (o *ours) speak(link int, change func(*babel.Link)) {
	o.T.Helper()
	l := babel.Link{Name: device(link), Address: o.link6(), NextHop4: o.link4(link), MTU: 1500, Cost: 1}
	if change != nil {
		change(&l)
	}
	o.config.Links = append(o.config.Links, l)
	o.capture(l.Name)
}

// live starts the speaker, with a router-id that it never had.
func (o *ours) live() {
	o.T.Helper()
	if o.lives++; o.lives == 1 {
		o.T.Cleanup(o.end) // before what speak began ends
	}
	c := o.config
	c.RouterID = wire.RouterID{0xaa, 0, 0, byte(o.number), 7: byte(o.lives)}
	c.Seqno = uint16(rand.Uint32())
	h := &host{
		start: time.Now().Add(-time.Hour), indexes: map[string]int{}, sent: map[string][][]byte{},
		calls: make(chan func(babel.Time) babel.Output), quit: make(chan struct{}), fib: map[babel.Key]babel.Hop{},
	}
	// A program that some other test starts holds our last socket, until it is executed.
	eventually(o.T, "open the socket", func() (wrong string) {
		o.In(func() {
			var err error
			if h.socket, err = udp.Open(h.start); err != nil {
				wrong = err.Error()
			}
		})
		return wrong
	})
	h.speaker = babel.New(h.now(), c, rand.Uint64())
	for _, l := range c.Links {
		h.indexes[l.Name] = o.index(l.Name)
		if err := h.socket.Join(h.indexes[l.Name]); err != nil {
			o.T.Fatal(err)
		}
	}
	o.host = h
	h.joined.Go(func() { h.run(o.addresses()) })
	h.joined.Go(func() { h.receive(o.T) })
	for _, l := range c.Links {
		h.call(func(now babel.Time) babel.Output { return h.speaker.SetLink(now, l.Name, true) })
	}
	o.announce(o.own...)
}

// end looks at what the router has sent, when the test is over.
func (o *ours) end() {
	if o.T.Failed() && o.host != nil {
		o.tell()
	}
	o.kill()
	o.checkCaptures()
}

// kill ends the speaker without a word.
func (o *ours) kill() {
	if o.host == nil {
		return
	}
	close(o.quit)
	o.socket.Close()
	o.joined.Wait()
	for _, c := range o.captures {
		c.sent = append(c.sent, o.sent[c.device]...)
	}
	o.host = nil
}

func (o *ours) addresses() map[string]netip.Addr {
	a := map[string]netip.Addr{}
	for _, l := range o.config.Links {
		a[l.Name] = l.Address
	}
	return a
}

func (h *host) now() babel.Time { return time.Since(h.start) }

// run owns the speaker.
func (h *host) run(from map[string]netip.Addr) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var out babel.Output
		select {
		case <-h.quit:
			return
		case f := <-h.calls:
			out = f(h.now())
		case <-timer.C:
			out = h.speaker.Tick(h.now())
		}
		for _, d := range out.Send {
			if h.rxcost > 0 {
				d.Payload = withRxCost(d.Payload, h.rxcost)
			}
			// A device that is down refuses: as lost as anything on a dead link.
			if h.socket.Send(h.indexes[d.Link], from[d.Link], d.To, d.Payload) == nil {
				h.sent[d.Link] = append(h.sent[d.Link], d.Payload)
			}
		}
		for _, r := range out.Routes {
			if r.Hop == nil {
				delete(h.fib, r.Key)
			} else {
				h.fib[r.Key] = *r.Hop
			}
		}
		for _, e := range out.Events {
			h.events = append(h.events, fmt.Sprintf("%.3f %s %s %s %v: %s", h.now().Seconds()-3600, e.Kind, e.Link, e.Neighbour, e.Key, e.Reason))
		}
		timer.Reset(max(h.speaker.Next()-h.now(), 0))
	}
}

// withRxCost returns a packet with other costs in its IHUs.
func withRxCost(payload []byte, cost uint16) []byte {
	packet, err := wire.Decode(payload, netip.MustParseAddr("fe80::1"))
	if err != nil {
		panic(err) // it is the speaker's own
	}
	e := wire.NewEncoder(2000)
	for _, t := range packet.TLVs {
		if ihu, ok := t.(wire.IHU); ok {
			ihu.RxCost = cost
			t = ihu
		}
		e.Add(t)
	}
	return bytes.Clone(e.Bytes())
}

// hearsWorse makes the router say another cost of hearing its neighbours.
func (o *ours) hearsWorse(cost uint16) {
	o.call(func(babel.Time) babel.Output { o.rxcost = cost; return babel.Output{} })
}

// receive hands over what comes in.
func (h *host) receive(t testing.TB) {
	names := map[int]string{}
	for name, index := range h.indexes {
		names[index] = name
	}
	b := udp.NewBatch()
	for {
		packets, err := h.socket.Receive(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		for _, p := range packets {
			if !h.call(func(now babel.Time) babel.Output {
				return h.speaker.Handle(now, babel.Packet{Link: names[p.Index], From: p.From, To: p.To, Port: p.Port, At: p.At, Payload: p.Payload})
			}) {
				return
			}
		}
	}
}

// call runs f where the speaker is; false if it has ended.
func (h *host) call(f func(now babel.Time) babel.Output) bool {
	done := make(chan struct{})
	select {
	case h.calls <- func(now babel.Time) babel.Output { defer close(done); return f(now) }:
		<-done
		return true
	case <-h.quit:
		return false
	}
}

// announce replaces what the router originates.
func (o *ours) announce(own ...babel.Announcement) {
	o.own = slices.Clone(own)
	o.call(func(now babel.Time) babel.Output { return o.speaker.Announce(now, own) })
}

// cost changes that of a link.
func (o *ours) cost(link int, cost uint16) {
	links := slices.Clone(o.config.Links)
	for i := range links {
		if links[i].Name == device(link) {
			links[i].Cost = cost
		}
	}
	o.config.Links = links
	c := o.config
	o.call(func(now babel.Time) babel.Output { return o.speaker.Configure(now, c) })
}

func (o *ours) view() (v babel.View) {
	o.call(func(babel.Time) babel.Output { v = o.speaker.View(); return babel.Output{} })
	return v
}

// route returns the route that is used for a key, and what the host was told to do with it.
func (o *ours) route(k babel.Key) (r babel.RouteView, hop babel.Hop) {
	o.call(func(babel.Time) babel.Output { hop = o.fib[k]; return babel.Output{} })
	for _, e := range o.view().Routes {
		if e.Key == k && len(e.Routes) > 0 && e.Routes[0].Selected {
			return e.Routes[0], hop
		}
	}
	return babel.RouteView{}, hop
}

// usesAll finds what is wrong if the router does not use routes to all of the keys.
func (o *ours) usesAll(keys []babel.Key) string {
	o.T.Helper()
	used, reachable := 0, map[babel.Key]bool{}
	o.call(func(babel.Time) babel.Output {
		for k, hop := range o.fib {
			reachable[k] = !hop.Unreachable
		}
		return babel.Output{}
	})
	for _, k := range keys {
		if reachable[k] {
			used++
		}
	}
	if used < len(keys) {
		return fmt.Sprintf("ours has %d of %d routes", used, len(keys))
	}
	return ""
}

// uses finds what is wrong if the router does not use a route by a next hop whose announced
// metric satisfies f.
func (o *ours) uses(k babel.Key, next netip.Addr, f func(metric uint16) bool) string {
	r, hop := o.route(k)
	if !r.Selected || hop.NextHop != next || hop.Unreachable || r.Note != "" || !f(r.RefMetric) {
		return fmt.Sprintf("ours has for %v: %+v, and uses %+v; want it by %s", k, r, hop, next)
	}
	return ""
}

// lacks finds what is wrong if the router has a route to a key.
func (o *ours) lacks(k babel.Key) string {
	if r, hop := o.route(k); r.Selected || hop.NextHop.IsValid() {
		return fmt.Sprintf("ours still has for %v: %+v, and uses %+v", k, r, hop)
	}
	return ""
}

// loses is lacks where the neighbour is silent: packets may still go where they went.
func (o *ours) loses(k babel.Key) string {
	if r, _ := o.route(k); r.Kept {
		return ""
	}
	return o.lacks(k)
}

// neighbour returns one; the zero value if there is none.
func (o *ours) neighbour(address netip.Addr) babel.NeighbourView {
	for _, n := range o.view().Neighbours {
		if n.Address == address {
			return n
		}
	}
	return babel.NeighbourView{}
}

// tell writes what the router knows into the test's log.
func (o *ours) tell() {
	v := o.view()
	routes := v.Routes
	v.Routes = nil
	o.T.Logf("router %d: %+v", o.number, v)
	for _, r := range routes[:min(len(routes), 10)] {
		o.T.Logf("    %+v", r)
	}
	for _, e := range o.events[max(0, len(o.events)-40):] {
		o.T.Logf("    %s", e)
	}
}
