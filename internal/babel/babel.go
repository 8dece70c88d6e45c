// Package babel is a Babel speaker: RFC 8966, with the delay metric (RFC 9616),
// source-specific routes (RFC 9079), IPv4 via IPv6 next hops (RFC 9229) and MAC
// authentication (RFC 8967).
//
// It does no I/O and has no clock. A host tells it what happened (Handle, Tick, Traffic,
// LinkUp, LinkDown, Announce, Configure) and carries out what comes back in an Output; Next
// says when it wants to be called at the latest. So a thousand speakers run in one test on a
// virtual clock, and a trace of events can be replayed.
//
// # One neighbour's way through it
//
//	link ── hello, IHU ──▶ neighbour ── RTT, loss, cost ──▶ metric
//	                        │                                 │
//	                     liveness                             ▼
//	                        │             update ──▶ route ──▶ selection ──▶ FIB
//	                        ▼                          │           │
//	                     dead: its routes go      feasibility   updates, retractions, requests
//
// # Liveness
//
// A tunnel that carries traffic has hellos every Active interval, one that does not every
// Idle one (probing follows use; see Timing), and another link every Segment one. A hello that is overdue makes its sender
// suspect: it is asked at once (an acknowledgment request, RFC 8966 §4.6.3), several times,
// and is dead when nothing at all comes back in the time that a round trip takes. So a dead
// link is left within two hellos and a round trip, while no single lost packet ends one.
//
// Silence alone takes no way away where there is no other: the neighbour may only have lost
// its speaker (see kept.go).
//
// Time is that of the host's clock, from an epoch of its choosing. It never goes back.
package babel

import (
	"net/netip"
	"time"

	"tombolo/internal/babel/mac"
	"tombolo/internal/babel/wire"
)

// Time is a time of the host's monotonic clock, since an epoch that it chooses.
type Time = time.Duration

// Key is what routes are told apart by: a destination and, for source-specific ones (RFC
// 9079), a source prefix; the zero Src is any source. Both are masked and of one family.
type Key struct {
	Dst netip.Prefix `json:"dst"`
	Src netip.Prefix `json:"src,omitzero"`
}

// Config is what a speaker is told to do. Two configurations may be compared by their
// fields.
type Config struct {
	RouterID wire.RouterID
	Seqno    uint16 // the first of its own

	Links  []Link // in any order
	Timing Timing // zero fields: the defaults

	// Accept says which origins may announce what; see Policy.
	Accept Policy

	// Otherwise are the keys to which packets have a way also while none is known here. So
	// none is kept whose neighbour went silent.
	Otherwise map[Key]bool
}

// Link is an interface that the speaker speaks on.
type Link struct {
	Name string // of the device

	// Tunnel says that there is one neighbour on the link at most, to whom all is sent
	// by unicast once it is known, and split horizon is safe. Otherwise it is a segment
	// with any number of neighbours, spoken to by multicast. The one neighbour must be ours:
	// babeld 1.12 forgets whoever sends it no multicast hellos any more, and BIRD 2.0 does
	// not know others.
	Tunnel bool

	// Address is our link-local address on it, from which packets are sent.
	Address netip.Addr

	// NextHop4 is our IPv4 address on it, announced as the next hop of IPv4 routes. The
	// zero value announces them via our IPv6 address instead (RFC 9229).
	NextHop4 netip.Addr

	MTU int // of packets that we send, IP header included; 0 is 1280

	Cost uint16   // added to the metric of what comes in by it, in units of 0.1 ms; at least 1
	Keys mac.Keys // none: packets are neither signed nor looked at for a signature

	// Foreign are prefixes that routers which are no sites of the network may announce on
	// this link, with all longer ones in them, whatever Only and Accept say.
	Foreign []netip.Prefix

	// Only, if not nil, are the sites (upper halves of router-ids) whose routes are taken
	// on this link at all: a leaf's own.
	Only []uint32
}

// Policy says who may originate what. What it does not allow is not taken, counted, and
// told once.
type Policy struct {
	// Exact are the sites (upper halves of router-ids, big endian) that may originate a
	// route. Nil takes everything, which only tests want.
	Exact map[Key][]uint32

	// Mobile are hosts that roam: of several origins the one with the highest mobility
	// number has it. See Speaker.Attach.
	Mobile map[Key]bool

	// Within are prefixes that any router may originate, and any longer one in them: those
	// of routers that are no site of the network, whose router-ids nobody knows.
	Within []netip.Prefix
}

// Announcement is a route that this router originates. While one with a smaller metric is
// known, that is used and announced instead.
type Announcement struct {
	Key
	Metric uint16 // that it starts with; usually 0
}

// Timing are the speaker's intervals. A zero field is its default.
type Timing struct {
	Active  time.Duration // between hellos on a tunnel that carries traffic: 100 ms
	Idle    time.Duration // on one that does not: 2 s; half of it while nobody is there
	Segment time.Duration // on a link that is no tunnel: 1 s
	Linger  time.Duration // how long a tunnel counts as active after its last traffic: 10 s
	Update  time.Duration // between full announcements of all routes: 60 s
}

// Datagram is a packet to send at once, from Address and port 6696 of the link.
type Datagram struct {
	Link    string
	To      netip.Addr // a neighbour's link-local address, or wire.Group
	Payload []byte     // without IP and UDP headers; the host's to keep
}

// Packet is a datagram that came in.
type Packet struct {
	Link    string
	From    netip.Addr // without a zone
	To      netip.Addr // our address, or wire.Group
	Port    uint16     // of the sender
	At      Time       // when the kernel received it; at most the time of Handle
	Payload []byte     // not kept
}

// Hop is what the router does with packets to a Key: hands them to a neighbour, or, while
// a retraction is not yet known to everybody, drops them (RFC 8966 §2.8).
type Hop struct {
	Link        string     `json:"link,omitempty"`
	NextHop     netip.Addr `json:"nextHop,omitzero"` // the neighbour's; of Dst's family, or IPv6
	Unreachable bool       `json:"unreachable,omitempty"`
}

// RouteChange says what the forwarding table must now hold for a Key; nil is nothing.
type RouteChange struct {
	Key
	Hop *Hop
}

// EventKind says what an Event tells.
type EventKind string

// The kinds of event.
const (
	NeighbourUp   EventKind = "neighbour up"
	NeighbourDown EventKind = "neighbour down"
	RouteLearned  EventKind = "route learned" // there was none
	RouteMoved    EventKind = "route moved"
	RouteKept     EventKind = "route kept" // nobody is heard at its end, and there is no other
	RouteLost     EventKind = "route lost"
	Refused       EventKind = "refused" // somebody announced what they may not
)

// Event is something that a person may want to know.
type Event struct {
	Kind      EventKind     `json:"kind"`
	Link      string        `json:"link,omitempty"`
	Neighbour netip.Addr    `json:"neighbour,omitzero"`
	Key       *Key          `json:"route,omitempty"`
	RouterID  wire.RouterID `json:"-"`
	Reason    string        `json:"reason"` // in words, with figures
}

// Displacement says that a host which was attached here is elsewhere.
type Displacement struct {
	Key
	By wire.RouterID

	// Contested says that it may still be here: the other router did not know that we had
	// it. Who then hears from it attaches it anew, and goes above the other.
	Contested bool
}

// Output is what a call wants done. The order between its parts does not matter, but the
// order within each does.
type Output struct {
	Send   []Datagram
	Routes []RouteChange // at most one for each Key

	// Displaced are hosts that were attached here, and that another router has now.
	Displaced []Displacement
	Events    []Event
}
