// Package sim runs many speakers on a virtual clock: nothing is sent, and nothing waits.
// It is for tests and measurements.
//
// A Net is routers joined by wires, each a tunnel with a delay and a loss of its own that
// may be cut in either direction. Every change of a forwarding table is followed from its
// router on: a loop, at any moment, is kept as a fault.
//
// Only while a route's origin changes may there be one: feasibility is a matter of one
// origin (RFC 8966 §2.7), and a router that begins anew has lost its distances. Then a loop
// is a fault if it outlives Grace.
package sim

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"tombolo/internal/babel"
	"tombolo/internal/babel/wire"
)

// Net is a network on a virtual clock.
type Net struct {
	Now    babel.Time
	Nodes  []*Node
	Wires  []*Wire
	Faults []string      // loops that were seen
	Brief  int           // loops that were seen while they may be
	Grace  time.Duration // 0: two seconds

	// Several are what more than one router announces. Feasibility is a matter of one origin,
	// and so a loop of theirs is a fault only once nothing of them changes any more.
	Several map[babel.Key]bool

	Changes int        // of forwarding tables
	Changed babel.Time // when the last one was

	// OnEvent, if set, is called for what speakers tell, and OnChange after every change of
	// a forwarding table.
	OnEvent  func(*Node, babel.Event)
	OnChange func(*Node, babel.Key)

	// OnDisplaced is called for hosts that roam; nil: there are none.
	OnDisplaced func(*Node, babel.Displacement)

	events eventHeap
	order  uint64
	moved  map[babel.Key]babel.Time // when a router began or ceased to announce it
	began  babel.Time               // when a router was last started again
	rand   *rand.Rand
}

// Node is a router.
type Node struct {
	Name    string
	ID      wire.RouterID
	Speaker *babel.Speaker
	FIB     map[babel.Key]babel.Hop
	Own     []babel.Announcement
	Changes int // of the FIB

	net    *Net
	index  int
	config babel.Config
	ends   map[string]*end
	tick   babel.Time // for which an event is there
	life   int        // how often it was started
	dead   bool
	silent bool // it has no speaker, but still forwards

	// inherited are the routes that were there before the speaker, which are kept for settle
	// while it does not know better.
	inherited map[babel.Key]bool
}

// settle is how long a host keeps what an earlier speaker learned, and muteAfter after what
// time without anything received it says that a link is mute. They are those of package agent.
const (
	settle    = 5 * time.Second
	muteAfter = 20 * time.Second
)

// Wire joins two routers.
type Wire struct {
	A, B *Node

	// Delay is that of each direction, from A and from B; Jitter is up to how much more,
	// in order. Loss is a share of the packets of each direction. Cut[0] is from A to B.
	Delay, Jitter [2]time.Duration
	Loss          [2]float64
	Cut           [2]bool

	// Busy says that packets go over it, by which speakers probe it often.
	Busy bool

	// What speakers sent over it, by direction, with IPv6 and UDP headers.
	Bytes, Packets [2]uint64

	net  *Net
	last [2]babel.Time // when the last packet arrives
	ends [2]*end
	seen uint64 // packets of others
}

type end struct {
	wire *Wire
	side int
	link string
	own  uint64

	heard babel.Time // when WireGuard last received anything
	mute  bool
}

// New returns a network without routers.
func New(seed uint64) *Net {
	return &Net{rand: rand.New(rand.NewPCG(seed, 1)), moved: map[babel.Key]babel.Time{}, began: never, Grace: 2 * time.Second}
}

// never is long before any time.
const never = babel.Time(-1 << 62)

// Add adds a router that announces prefixes and takes everything. Its site is its number,
// from 1.
func (n *Net) Add(name string, timing babel.Timing, own ...netip.Prefix) *Node {
	node := &Node{Name: name, net: n, index: len(n.Nodes), ends: map[string]*end{}, dead: true}
	node.config = babel.Config{Timing: timing}
	for _, p := range own {
		node.Own = append(node.Own, babel.Announcement{Key: babel.Key{Dst: p}})
	}
	n.Nodes = append(n.Nodes, node)
	return node
}

// Join adds a wire; delay is one way.
func (n *Net) Join(a, b *Node, delay time.Duration) *Wire {
	w := &Wire{A: a, B: b, Delay: [2]time.Duration{delay, delay}, net: n}
	for side, node := range []*Node{a, b} {
		peer := []*Node{b, a}[side]
		e := &end{wire: w, side: side, link: fmt.Sprintf("wg-%s", peer.Name)}
		w.ends[side] = e
		node.ends[e.link] = e
		node.config.Links = append(node.config.Links, babel.Link{
			Name: e.link, Tunnel: true, Address: address(node), Cost: 10,
			NextHop4: netip.AddrFrom4([4]byte{10, 255, byte(node.index >> 8), byte(node.index)}),
		})
	}
	n.Wires = append(n.Wires, w)
	return w
}

func address(n *Node) netip.Addr {
	a := [16]byte{0xfe, 0x80}
	binary.BigEndian.PutUint32(a[12:], uint32(n.index)+1)
	return netip.AddrFrom16(a)
}

// Start starts a router, with a fresh router-id and all its links up; or the speaker of
// one that is silent.
func (n *Net) Start(node *Node) {
	if !node.silent {
		node.FIB = map[babel.Key]babel.Hop{}
	}
	node.inherited = map[babel.Key]bool{}
	var inherited []babel.RouteChange
	for k, hop := range node.FIB {
		node.inherited[k] = true
		inherited = append(inherited, babel.RouteChange{Key: k, Hop: &hop})
	}
	slices.SortFunc(inherited, func(a, b babel.RouteChange) int { return a.Dst.Addr().Compare(b.Dst.Addr()) })
	binary.BigEndian.PutUint32(node.ID[:], uint32(node.index)+1)
	binary.BigEndian.PutUint32(node.ID[4:], n.rand.Uint32())
	node.config.RouterID = node.ID
	node.config.Seqno = uint16(n.rand.Uint32())
	node.dead, node.silent = false, false
	node.tick = 0
	for _, e := range node.ends {
		e.heard, e.mute = n.Now, false
	}
	if node.life++; node.life > 1 {
		n.began = n.Now
	}
	node.Speaker = babel.New(n.Now, node.config, n.rand.Uint64())
	n.take(node, node.Speaker.Inherit(n.Now, inherited))
	n.take(node, node.Speaker.Announce(n.Now, node.Own))
	for _, l := range node.config.Links {
		n.take(node, node.Speaker.SetLink(n.Now, l.Name, true))
	}
	n.push(&event{at: n.Now + n.upTo(200*time.Millisecond), node: node, life: node.life, kind: meterEvent})
	n.push(&event{at: n.Now + settle, node: node, life: node.life, kind: settleEvent})
}

// Kill ends a router as a crash does: nobody is told, and it forwards nothing.
func (n *Net) Kill(node *Node) {
	node.dead, node.silent = true, false
	node.FIB = map[babel.Key]babel.Hop{}
}

// Silence ends a router's speaker: nobody is told, and it forwards as before.
func (n *Net) Silence(node *Node) {
	node.dead, node.silent = true, true
}

// Announce changes what a router announces.
func (n *Net) Announce(node *Node, own []babel.Announcement) {
	for _, a := range slices.Concat(node.Own, own) {
		if slices.Contains(node.Own, a) != slices.Contains(own, a) {
			n.moved[a.Key] = n.Now
		}
	}
	node.Own = own
	n.take(node, node.Speaker.Announce(n.Now, own))
}

// Run goes on until a time.
func (n *Net) Run(until babel.Time) {
	for len(n.events) > 0 && n.events[0].at <= until {
		e := heap.Pop(&n.events).(*event)
		n.Now = e.at
		n.handle(e)
	}
	n.Now = until
}

func (n *Net) handle(e *event) {
	node := e.node
	if e.kind == loopEvent {
		if _, loop := n.Follow(node, e.key); loop {
			n.loop(node, e.key)
		}
		return
	}
	if node.dead || e.kind != packetEvent && e.life != node.life {
		return
	}
	switch e.kind {
	case tickEvent:
		if e.at == node.tick {
			node.tick = 0
			n.take(node, node.Speaker.Tick(n.Now))
		}
	case packetEvent:
		node.ends[e.packet.Link].own++
		n.take(node, node.Speaker.Handle(n.Now, e.packet))
	case settleEvent:
		for k := range node.inherited {
			delete(node.FIB, k)
			n.changed(node, k)
		}
		node.inherited = nil
	case meterEvent:
		n.push(&event{at: n.Now + 200*time.Millisecond, node: node, life: node.life, kind: meterEvent})
		for _, l := range node.config.Links {
			end := node.ends[l.Name]
			if end.wire.Busy {
				end.wire.seen += 10
			}
			n.take(node, node.Speaker.Traffic(n.Now, l.Name, end.own+end.wire.seen))
			if end.receives() {
				end.heard = n.Now
			}
			if mute := n.Now-end.heard > muteAfter; mute != end.mute {
				end.mute = mute
				n.take(node, node.Speaker.Mute(n.Now, l.Name, mute))
			}
		}
	}
}

// take carries out what a speaker wants done.
func (n *Net) take(node *Node, o babel.Output) {
	for _, d := range o.Send {
		n.send(node, d)
	}
	for _, c := range o.Routes {
		delete(node.inherited, c.Key)
		if c.Hop == nil {
			delete(node.FIB, c.Key)
		} else {
			node.FIB[c.Key] = *c.Hop
		}
		n.changed(node, c.Key)
	}
	for _, e := range o.Events {
		if n.OnEvent != nil {
			n.OnEvent(node, e)
		}
	}
	for _, d := range o.Displaced {
		n.OnDisplaced(node, d)
	}
	if next := max(node.Speaker.Next(), n.Now); node.tick == 0 || next < node.tick {
		node.tick = next
		n.push(&event{at: next, node: node, life: node.life, kind: tickEvent})
	}
}

// changed looks at a forwarding table that has changed.
func (n *Net) changed(node *Node, k babel.Key) {
	node.Changes++
	n.Changes, n.Changed = n.Changes+1, n.Now
	if n.Several[k] {
		n.moved[k] = n.Now
	}
	if _, loop := n.Follow(node, k); loop {
		n.loop(node, k)
	}
	if n.OnChange != nil {
		n.OnChange(node, k)
	}
}

// receives reports whether the end of a wire receives anything: what the other end's speaker
// says, or what its WireGuard answers to ours.
func (e *end) receives() bool {
	other := e.wire.B
	if e.side == 1 {
		other = e.wire.A
	}
	switch {
	case e.wire.Cut[1-e.side] || other.dead && !other.silent:
		return false
	case other.silent:
		return !e.wire.Cut[e.side]
	}
	return true
}

// loop keeps a loop as a fault; where it may be brief, if it is still there after that.
func (n *Net) loop(from *Node, k babel.Key) {
	since := n.began
	if at, ok := n.moved[k]; ok {
		since = max(since, at)
	}
	if n.Now-since < n.Grace {
		n.Brief++
		n.push(&event{at: since + n.Grace, node: from, kind: loopEvent, key: k})
		return
	}
	n.Faults = append(n.Faults, fmt.Sprintf("%v: a loop for %s, seen from %s", n.Now, k.Dst, from.Name))
}

func (n *Net) send(from *Node, d babel.Datagram) {
	e := from.ends[d.Link]
	w := e.wire
	e.own++
	w.Bytes[e.side] += uint64(len(d.Payload)) + 48
	w.Packets[e.side]++
	if w.Cut[e.side] || n.rand.Float64() < w.Loss[e.side] {
		return
	}
	other := w.ends[1-e.side]
	to := w.B
	if e.side == 1 {
		to = w.A
	}
	at := max(n.Now+w.Delay[e.side]+n.upTo(w.Jitter[e.side]), w.last[e.side])
	w.last[e.side] = at
	n.push(&event{at: at, node: to, kind: packetEvent, packet: babel.Packet{
		Link: other.link, From: address(from), To: d.To, Port: wire.Port, At: at, Payload: d.Payload,
	}})
}

// Follow goes the way that packets to a key go from a router, and returns the routers on
// it, itself first, and whether it is a loop. It ends where a router announces the key or
// has no way.
func (n *Net) Follow(from *Node, k babel.Key) (way []*Node, loop bool) {
	for node := from; ; {
		way = append(way, node)
		if len(way) > len(n.Nodes) {
			return way, true
		}
		hop, ok := node.FIB[k]
		e := node.ends[hop.Link]
		if !ok || hop.Unreachable || e == nil { // a host's that roams
			return way, false
		}
		if node = e.wire.A; e.side == 0 {
			node = e.wire.B
		}
	}
}

// Reaches reports whether the way from a router ends at one that announces the key, and
// the delay of the way, one way; where a wire of it is cut it does not.
func (n *Net) Reaches(from *Node, k babel.Key) (delay time.Duration, ok bool) {
	for node, left := from, len(n.Nodes); left > 0 && (!node.dead || node.silent); left-- {
		hop, found := node.FIB[k]
		e := node.ends[hop.Link]
		if !found || e == nil { // it is here; of what several announce another's may be preferred
			return delay, slices.ContainsFunc(node.Own, func(a babel.Announcement) bool { return a.Key == k })
		}
		if hop.Unreachable || e.wire.Cut[e.side] {
			return 0, false
		}
		delay += e.wire.Delay[e.side]
		if node = e.wire.A; e.side == 0 {
			node = e.wire.B
		}
	}
	return 0, false
}

func (n *Net) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(n.rand.Int64N(int64(d)))
}

type eventKind int

const (
	tickEvent eventKind = iota
	packetEvent
	meterEvent
	settleEvent
	loopEvent
)

type event struct {
	at     babel.Time
	order  uint64
	node   *Node
	life   int // of the node, for what is its own
	kind   eventKind
	packet babel.Packet
	key    babel.Key
}

func (n *Net) push(e *event) {
	n.order++
	e.order = n.order
	heap.Push(&n.events, e)
}

type eventHeap []*event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].order < h[j].order
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(*event)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}
