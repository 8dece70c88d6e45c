package babel

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"tombolo/internal/babel/wire"
)

const (
	sweepEvery = 10 * time.Second

	// sourceLife is how long a feasibility distance is kept after its last use (RFC 8966
	// §3.2.5, Appendix B).
	sourceLife = 3 * time.Minute

	// Bounds on what others can make us remember: distances of one route, routes within
	// Policy.Within and Link.Foreign, refusals that are told.
	maxSources = 32
	maxWithin  = 10000
	maxTold    = 1000
)

// entry is a destination: what neighbours announce for it, and what we do with it.
type entry struct {
	Key
	own       bool // we announce it, unless something better is known; see own.go
	here      bool // and nothing is: packets to it end here
	ownMetric uint16
	ownSeqno  uint16
	device    string // that the host is attached to; empty: it is none
	claim     claim  // then

	routes   []*route // by link and neighbour
	selected *route
	born     Time // when it had a first route
	since    Time // of the selection
	reached  Time // since when there has been a way, be it kept

	sources []source
	sent    []sent // by link.slot

	// Since when the best route has been better than the selected one, by much and by
	// anything; 0: it is not.
	much, little Time
	wait         *timer // for either to have lasted

	// kept is the route whose neighbour went silent: packets go by it while none is selected.
	kept *kept
	only *link // that it may be selected by; nil: any

	holding bool // packets are dropped until everybody knows that the route is gone
	hold    Time // and no longer than this

	hop     *Hop // that the host was told
	touched bool
	asked   Time // the last request for a better sequence number
	asks    int  // how many there were since the selection
}

// route is what one neighbour announces.
type route struct {
	neighbour *neighbour
	id        wire.RouterID
	nextHop   netip.Addr
	expires   Time
	claim     *claim // nil: it is no host that roams. There are many routes, and few of these
	seqno     uint16
	ref       uint16 // the neighbour's metric

	// stale says that the neighbour has announced a larger metric which is not feasible.
	// The route was selected, so that it stays usable until it is not: its neighbour's own
	// feasibility distance has not grown (RFC 8966 §3.5.3).
	stale bool

	gone bool // it is in no entry any more
}

// source is a feasibility distance (RFC 8966 §3.2.5): the best that we ever announced of an
// origin.
type source struct {
	id     wire.RouterID
	seqno  uint16
	metric uint16
	used   Time
}

// sent is what a link was last told.
type sent struct {
	id     wire.RouterID
	seqno  uint16
	metric uint16
	number uint16 // of mobility, its lower half
	silent uint8  // of a retraction
	known  bool   // it was told something
	acked  bool   // and has said so
	opaque uint16 // of the packet that told it

	// doubt says that it was told something before, when it was dropped, and may never have
	// learned of that.
	doubt bool
}

// older reports whether a sequence number is less than another, modulo 2^16 (§3.2.1).
func older(a, b uint16) bool { return int16(a-b) < 0 }

// metric is that of a route through its neighbour.
func (r *route) metric() uint16 {
	c := r.neighbour.cost
	if c == wire.Infinity || r.ref == wire.Infinity {
		return wire.Infinity
	}
	return uint16(min(uint32(c)+uint32(r.ref), wire.Infinity-1))
}

// feasible is the condition under which no loop can come to be (RFC 8966 §3.5.1).
func (e *entry) feasible(id wire.RouterID, seqno, metric uint16) bool {
	if metric == wire.Infinity {
		return true
	}
	for i := range e.sources {
		if d := &e.sources[i]; d.id == id {
			return older(d.seqno, seqno) || d.seqno == seqno && metric < d.metric
		}
	}
	return true
}

// usable reports whether packets may go by a route of e.
func (e *entry) usable(r *route) bool {
	if r.gone || r.metric() == wire.Infinity || e.only != nil && r.neighbour.link != e.only {
		return false
	}
	return e.feasible(r.id, r.seqno, r.ref) || r.stale && r == e.selected
}

// lower keeps what is about to be announced as the feasibility distance (§3.7.3). It is
// called before the update is sent, whatever the update is for.
func (e *entry) lower(now Time, id wire.RouterID, seqno, metric uint16) {
	for i := range e.sources {
		d := &e.sources[i]
		if d.id != id {
			continue
		}
		d.used = now
		if older(d.seqno, seqno) {
			d.seqno, d.metric = seqno, metric
		} else if d.seqno == seqno {
			d.metric = min(d.metric, metric)
		}
		return
	}
	e.sources = append(e.sources, source{id, seqno, metric, now})
}

// mayOriginate reports whether there is room for one more origin of a route.
func (e *entry) mayOriginate(id wire.RouterID) bool {
	return len(e.sources) < maxSources || slices.ContainsFunc(e.sources, func(d source) bool { return d.id == id })
}

func (e *entry) route(n *neighbour) *route {
	for _, r := range e.routes {
		if r.neighbour == n {
			return r
		}
	}
	return nil
}

func (e *entry) drop(r *route) {
	r.gone = true
	e.routes = slices.DeleteFunc(e.routes, func(x *route) bool { return x == r })
}

// entry returns that of a key, a new one where there is none.
func (s *Speaker) entry(k Key) *entry {
	if e := s.entries[k]; e != nil {
		return e
	}
	e := &entry{Key: k}
	s.entries[k] = e
	i, _ := slices.BinarySearchFunc(s.order, k, func(e *entry, k Key) int { return compareKeys(e.Key, k) })
	s.order = slices.Insert(s.order, i, e)
	return e
}

func compareKeys(a, b Key) int {
	if a.Dst != b.Dst {
		return comparePrefixes(a.Dst, b.Dst)
	}
	if a.Src == b.Src {
		return 0
	}
	return comparePrefixes(a.Src, b.Src)
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// touch has the entry's hop looked at when the call ends.
func (s *Speaker) touch(e *entry) {
	if !e.touched {
		e.touched = true
		s.touched = append(s.touched, e)
	}
}

func (e *entry) wantedHop() *Hop {
	switch {
	case e.device != "":
		return &Hop{Link: e.device}
	case e.selected != nil:
		return &Hop{Link: e.selected.neighbour.link.Name, NextHop: e.selected.nextHop}
	case e.here:
		return nil // it is the router's own: the kernel knows the way
	case e.kept != nil:
		return &Hop{Link: e.kept.neighbour.link.Name, NextHop: e.kept.nextHop}
	case e.holding:
		return &Hop{Unreachable: true}
	}
	return nil
}

// takeUpdate takes an update in (RFC 8966 §3.5.3).
func (n *neighbour) takeUpdate(u wire.Update) {
	s := n.link.s
	if !u.Prefix.IsValid() {
		if u.Metric == wire.Infinity {
			n.retractedAll()
		}
		return
	}
	k := Key{u.Prefix, u.Source}
	if u.Metric < wire.Infinity && siteOf(u.RouterID) == siteOf(s.config.RouterID) {
		// It goes by us, or by what we were before we began anew: for us it has no way.
		u.Metric = wire.Infinity
	}
	e := s.entries[k]
	if u.Metric < wire.Infinity && !s.allowed(n.link, k, u.RouterID) {
		// On a segment many say again what they heard from us (BIRD does): no claim of theirs.
		if e == nil || e.feasible(u.RouterID, u.Seqno, u.Metric) {
			s.refuse(n, k, u.RouterID)
		}
		u.Metric = wire.Infinity
	}
	if u.Metric == wire.Infinity {
		if e != nil {
			n.warns(e)
		}
		switch {
		case e == nil:
		case u.Silent != 0:
			s.silenced(e, n, u.Silent)
		default:
			s.retracted(e, n)
		}
		return
	}
	if e == nil {
		e = s.entry(k)
	}
	if !e.mayOriginate(u.RouterID) {
		s.refuse(n, k, u.RouterID)
		return
	}
	s.announced(e, n, u)
}

// retracted takes a neighbour's route away.
func (s *Speaker) retracted(e *entry, n *neighbour) {
	if e.kept != nil && e.kept.neighbour == n {
		s.giveUp(e)
	}
	r := e.route(n)
	if r == nil {
		return
	}
	e.drop(r)
	if e.selected == r {
		if e.only == n.link {
			e.only = nil
		}
		s.choose(e, true)
	}
}

// announced takes a neighbour's route in, or a change of it.
func (s *Speaker) announced(e *entry, n *neighbour, u wire.Update) {
	r := e.route(n)
	if r == nil {
		r = &route{neighbour: n, id: u.RouterID}
		if len(e.routes) == 0 {
			e.born = s.now
		}
		e.routes = append(e.routes, r)
		slices.SortFunc(e.routes, func(a, b *route) int {
			return cmp.Or(cmp.Compare(a.neighbour.link.Name, b.neighbour.link.Name), a.neighbour.address.Compare(b.neighbour.address))
		})
	}
	moved := false
	if s.config.Accept.Mobile[e.Key] {
		c := claimOf(u)
		s.remember(e.Key, c)
		moved = r == e.selected && c != r.claimed()
		r.claim = &c
	}
	if k := e.kept; k != nil && k.neighbour == n {
		k.said, k.since = 0, s.now // it has a way again, if not by the one that was
	}
	r.expires = s.now + u.Interval.Duration()*7/2
	r.nextHop = u.NextHop
	feasible := e.feasible(u.RouterID, u.Seqno, u.Metric)
	lost := false
	switch {
	case r == e.selected && !feasible && r.id == u.RouterID:
		r.stale, r.ref = true, u.Metric
	default:
		lost = r == e.selected && (!feasible || r.id != u.RouterID)
		r.id, r.seqno, r.ref, r.stale = u.RouterID, u.Seqno, u.Metric, false
	}
	s.touch(e) // the next hop may be another
	if e.device != "" && r.claimed().beats(e.claim) {
		s.displaced(e, r, e.claim)
		s.detach(e)
	} else {
		s.choose(e, lost)
	}
	if moved {
		s.spread(e, urgent)
	}
	s.answered(e, r)
}

// lose takes all routes of a neighbour away.
func (s *Speaker) lose(n *neighbour) {
	for _, e := range s.order {
		s.retracted(e, n)
	}
}

// reroute chooses anew where a neighbour's cost is part of the choice.
func (s *Speaker) reroute(n *neighbour) {
	for _, e := range s.order {
		if e.route(n) != nil {
			s.choose(e, false)
		}
	}
}

// allowed reports whether the policy lets an origin announce a route on a link.
func (s *Speaker) allowed(l *link, k Key, id wire.RouterID) bool {
	site := siteOf(id)
	bounded := s.entries[k] != nil || len(s.entries) < maxWithin
	if within(l.Foreign, k.Dst) {
		return bounded
	}
	if l.Only != nil && !slices.Contains(l.Only, site) {
		return false
	}
	if s.config.Accept.Exact == nil || slices.Contains(s.config.Accept.Exact[k], site) {
		return true
	}
	return bounded && within(s.config.Accept.Within, k.Dst)
}

// siteOf is the upper half of a router-id.
func siteOf(id wire.RouterID) uint32 { return binary.BigEndian.Uint32(id[:]) }

func within(outer []netip.Prefix, p netip.Prefix) bool {
	return slices.ContainsFunc(outer, func(o netip.Prefix) bool { return o.Bits() <= p.Bits() && o.Contains(p.Addr()) })
}

// refusal is something that is told once.
type refusal struct {
	neighbour netip.Addr
	key       Key
}

func (s *Speaker) refuse(n *neighbour, k Key, id wire.RouterID) {
	s.refused++
	n.denied = true
	f := refusal{n.address, k}
	if s.told[f] || len(s.told) >= maxTold {
		return
	}
	s.told[f] = true
	s.event(Event{Kind: Refused, Link: n.link.Name, Neighbour: n.address, Key: &k, RouterID: id,
		Reason: "the network file does not let " + id.String() + " announce it here"})
}

// sweep does what need not be done at an exact time: routes that nobody has announced for
// long, distances that nobody needs, entries that are empty.
func (s *Speaker) sweep(now Time) {
	s.timers.reset(s.sweeper, now+sweepEvery)
	for _, e := range s.order {
		for _, r := range slices.Clone(e.routes) {
			switch {
			case r.expires <= now:
				s.retracted(e, r.neighbour)
			case r == e.selected && r.expires <= now+2*sweepEvery:
				s.say(r.neighbour.link, r.neighbour.address, wire.RouteRequest{Prefix: e.Dst, Source: e.Src})
			}
		}
		if e.kept != nil {
			s.askAbout(e)
		}
		e.sources = slices.DeleteFunc(e.sources, func(d source) bool {
			inUse := e.selected != nil && e.selected.id == d.id || e.kept != nil && e.kept.id == d.id
			return !inUse && now-d.used > sourceLife
		})
		s.askForBetter(e) // the last request may have been for nothing
		if e.holding && now >= e.hold {
			e.holding = false
			s.touch(e)
		}
	}
	s.order = slices.DeleteFunc(s.order, func(e *entry) bool {
		gone := !e.own && !e.holding && e.kept == nil && !e.touched && len(e.routes) == 0 && len(e.sources) == 0 && !e.owed()
		if gone {
			s.timers.stop(e.wait)
			delete(s.entries, e.Key)
		}
		return gone
	})
	for _, l := range s.links {
		for _, n := range slices.Clone(l.neighbours) {
			if !l.Tunnel && !n.alive && now-n.since > time.Minute {
				l.forget(n, "")
			}
		}
	}
}
