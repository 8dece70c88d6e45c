package babel

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"tombolo/internal/babel/wire"
)

// How long what changed waits for more to go with it.
const (
	urgent = 5 * time.Millisecond   // a way that is lost, found or another
	lazily = 300 * time.Millisecond // a metric

	maxTries = 6 // of a packet that nobody acknowledges, each after twice the time; then the time stays

	// What nobody acknowledges, because it goes to many, is said so often.
	repeats     = 3
	repeatAfter = 150 * time.Millisecond

	// steady is how much longer full announcements are apart on tunnels: what is said
	// there is acknowledged, and needs no repetition.
	steady = 5
)

// queue is what a link has to be told.
type queue struct {
	l     *link
	dirty map[*entry]bool // true: also if it was told the same
	flush *timer
	sent  map[uint16]*delivery // that wait for their acknowledgment, by opaque
}

// delivery is a packet of updates that waits for its acknowledgment, or to be repeated.
type delivery struct {
	opaque    uint16
	neighbour *neighbour // nil: it went to all
	entries   []*entry
	asks      bool // it has a request for all routes
	tries     int
	timer     *timer
}

func (q *queue) init(l *link) {
	q.l, q.dirty, q.sent = l, map[*entry]bool{}, map[uint16]*delivery{}
	q.flush = newTimer(func(Time) { q.run() })
}

func (q *queue) clear() {
	q.l.s.timers.stop(q.flush)
	clear(q.dirty)
	for _, d := range q.sent {
		q.l.s.timers.stop(d.timer)
	}
	clear(q.sent)
}

// spread tells all links of an entry, where there is something new to tell.
func (s *Speaker) spread(e *entry, in time.Duration) {
	for _, l := range s.links {
		if l.up && len(l.neighbours) > 0 {
			l.queue.add(e, false, in)
		}
	}
}

func (q *queue) add(e *entry, forced bool, in time.Duration) {
	if in > urgent && !forced && !q.differs(e) {
		return
	}
	q.dirty[e] = q.dirty[e] || forced
	q.l.s.timers.sooner(q.flush, q.l.s.now+in)
}

// differs reports whether the link would be told something new.
func (q *queue) differs(e *entry) bool {
	u, t := q.l.update(e), e.told(q.l)
	switch {
	case !t.known:
		return u.Metric < wire.Infinity
	case u.Metric == wire.Infinity || t.metric == wire.Infinity:
		return u.Metric != t.metric || t.silent != 0 && u.Silent != t.silent
	case uint16(u.Mobility) != t.number:
		return true
	case u.RouterID != t.id || u.Seqno != t.seqno:
		// With an older number a way may not be feasible for those who have heard of the
		// newer one, and they could not turn to us when theirs is lost.
		return true
	}
	d := max(u.Metric, t.metric) - min(u.Metric, t.metric)
	return d > max(3, t.metric/64)
}

// told returns what a link was last told of an entry.
func (e *entry) told(l *link) *sent {
	if l.slot >= len(e.sent) {
		longer := make([]sent, l.s.slots) // and no more: of all that a speaker keeps this is the most
		copy(longer, e.sent)
		e.sent = longer
	}
	return &e.sent[l.slot]
}

// update is what a link is to be told of an entry now.
func (l *link) update(e *entry) wire.Update {
	u := wire.Update{
		Prefix: e.Dst, Source: e.Src, NextHop: l.nextHop(e.Dst), Interval: wire.IntervalOf(l.period()),
		RouterID: e.told(l).id, Seqno: e.told(l).seqno, Metric: wire.Infinity,
	}
	r := e.selected
	switch {
	case e.here:
		u.RouterID, u.Seqno, u.Metric = l.s.config.RouterID, e.ownSeqno, e.ownMetric
		u.Mobility, u.Before = e.claim.number, e.claim.before
	case r == nil:
		if e.kept != nil && e.kept.neighbour.link != l {
			u.Silent = e.kept.said + 1
		}
	case l.Tunnel && r.neighbour.link == l: // split horizon (§3.7.4): it goes by the one who would be told
	default:
		u.RouterID, u.Seqno, u.Metric = r.id, r.seqno, r.metric()
		u.Mobility, u.Before = r.claimed().number, r.claimed().before
	}
	return u
}

// nextHop is the next hop that goes with a prefix; the zero value is the packet's source.
func (l *link) nextHop(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		return l.NextHop4
	}
	return netip.Addr{}
}

// period is the time between two announcements of everything.
func (l *link) period() time.Duration {
	if l.Tunnel {
		return steady * l.s.timing.Update
	}
	return l.s.timing.Update
}

// run sends what is dirty.
func (q *queue) run() {
	entries := slices.SortedFunc(maps.Keys(q.dirty), func(a, b *entry) int { return compareKeys(a.Key, b.Key) })
	entries = slices.DeleteFunc(entries, func(e *entry) bool {
		// What nobody here ever heard of needs no retraction, unless they ask.
		return !q.dirty[e] && !q.differs(e)
	})
	q.dirty = map[*entry]bool{} // the first may have had thousands
	if !q.l.Tunnel {
		if len(entries) > 0 {
			q.send(nil, entries, 1)
		}
		return
	}
	for _, n := range q.l.neighbours {
		if n.cost < wire.Infinity && (len(entries) > 0 || n.wants) {
			q.send(n, entries, 1)
		}
	}
}

// send sends updates to one neighbour, or to all. To one it asks for an acknowledgment with
// each packet, and says again what is not acknowledged.
func (q *queue) send(n *neighbour, entries []*entry, try int) {
	l := q.l
	to := wire.Group
	if n != nil {
		to = n.address
	}
	enc := l.encoder()
	var in []*entry
	d := q.deliver(n, try, enc)
	u := new(wire.Update)
	for _, e := range entries {
		*u = l.update(e)
		if u.Metric < wire.Infinity && !e.here {
			e.lower(l.s.now, u.RouterID, u.Seqno, u.Metric) // before it is sent
		}
		if !enc.Add(u) {
			d.entries = in
			l.emit(to, enc)
			in = nil
			d = q.deliver(n, try, enc)
			enc.Add(u)
		}
		in = append(in, e)
		t := e.told(l)
		*t = sent{id: u.RouterID, seqno: u.Seqno, metric: u.Metric, number: uint16(u.Mobility), silent: u.Silent, known: true, opaque: d.opaque}
	}
	d.entries = in
	l.emit(to, enc)
}

// deliver begins a delivery, and puts its acknowledgment request into the packet.
func (q *queue) deliver(n *neighbour, try int, enc *wire.Encoder) *delivery {
	s := q.l.s
	s.opaque++
	opaque := s.opaque
	d := &delivery{opaque: opaque, neighbour: n, tries: try}
	d.timer = newTimer(func(Time) { q.again(opaque) })
	wait := repeatAfter
	if n != nil {
		wait = (n.roundTrip() + n.late) << (try - 1)
		enc.Add(wire.AckRequest{Opaque: opaque, Interval: wire.IntervalOf(10 * time.Millisecond)})
		if n.wants {
			enc.Add(wire.RouteRequest{})
			n.wants, d.asks = false, true
		}
	}
	if old := q.sent[opaque]; old != nil {
		s.timers.stop(old.timer)
	}
	q.sent[opaque] = d
	s.timers.reset(d.timer, s.now+wait)
	return d
}

// again says once more what was not acknowledged: as it is now.
func (q *queue) again(opaque uint16) {
	d := q.sent[opaque]
	delete(q.sent, opaque)
	s := q.l.s
	if d.neighbour == nil {
		lost := slices.DeleteFunc(d.entries, func(e *entry) bool { return e.told(q.l).metric < wire.Infinity })
		switch {
		case len(lost) == 0:
		case d.tries < repeats:
			q.send(nil, lost, d.tries+1)
		default:
			for _, e := range lost {
				e.told(q.l).acked = true // as far as anybody can know
				s.endHold(e)
			}
		}
		return
	}
	if d.neighbour.cost == wire.Infinity {
		return
	}
	unsaid := slices.DeleteFunc(d.entries, func(e *entry) bool { return q.dirty[e] || e.told(q.l).acked })
	d.neighbour.wants = d.neighbour.wants || d.asks
	if len(unsaid) == 0 && !d.neighbour.wants {
		return
	}
	if d.tries == maxTries {
		d.neighbour.suspectNow() // and where it is well, go on: nobody else says it
	}
	q.send(d.neighbour, unsaid, min(d.tries+1, maxTries))
}

// acknowledged takes a neighbour's acknowledgment in.
func (q *queue) acknowledged(n *neighbour, opaque uint16) {
	d := q.sent[opaque]
	if d == nil || d.neighbour != n {
		return
	}
	delete(q.sent, opaque)
	q.l.s.timers.stop(d.timer)
	for _, e := range d.entries {
		t := e.told(q.l)
		if t.opaque == opaque { // else something newer is on its way
			t.acked = true
			q.l.s.endHold(e)
		}
	}
}

// introduce tells a neighbour, who is usable from now on, everything, and asks it for all
// that it has. It may have told us already, but not know that we dropped it since. What we
// keep is said too, as it may keep ways through us to the same places.
func (q *queue) introduce(n *neighbour) {
	n.wants = true
	if !q.l.Tunnel {
		q.dump(n)
		return
	}
	for _, e := range q.l.s.order {
		q.add(e, e.told(q.l).doubt || q.l.update(e).Silent != 0, urgent)
	}
	q.l.s.timers.sooner(q.flush, q.l.s.now+urgent)
}

// ask asks a neighbour for all its routes, once more.
func (q *queue) ask(n *neighbour) {
	if n.cost < wire.Infinity {
		n.wants = true
		q.send(n, nil, 1)
	}
}

// dump sends one neighbour of a segment all routes there are.
func (q *queue) dump(n *neighbour) {
	entries := slices.DeleteFunc(slices.Clone(q.l.s.order), func(e *entry) bool {
		u := q.l.update(e)
		return u.Metric == wire.Infinity && u.Silent == 0
	})
	for _, e := range entries {
		// It counts as told, of which the others know nothing.
		if len(q.l.neighbours) > 1 && q.differs(e) {
			q.add(e, true, urgent)
		}
	}
	if len(entries) > 0 || n.wants {
		q.send(n, entries, 1)
	}
}

// repeat tells the neighbour of a tunnel, who asked for it, everything that it has
// acknowledged. What it has not is on its way.
func (q *queue) repeat(in time.Duration) {
	for _, e := range q.l.s.order {
		if t := e.told(q.l); t.acked && (t.metric < wire.Infinity || t.silent != 0) {
			q.add(e, true, in)
		}
	}
}

// announceAll says everything again, as it must from time to time (RFC 8966 §3.7.1).
func (l *link) announceAll() {
	l.s.timers.reset(l.full, l.s.now+l.period()-l.s.upTo(l.period()/8))
	for _, e := range l.s.order {
		if l.update(e).Metric < wire.Infinity {
			l.queue.add(e, true, urgent)
		}
	}
}

// clearSent forgets what a link was told. With doubt, somebody there may believe it still.
func (s *Speaker) clearSent(l *link, doubt bool) {
	for _, e := range s.order {
		if l.slot < len(e.sent) {
			t := &e.sent[l.slot]
			believed := t.doubt || t.known && (t.metric < wire.Infinity || t.silent != 0 || !t.acked)
			*t = sent{doubt: doubt && believed}
			s.endHold(e)
		}
	}
}

// forgetSlot does the same for a link that is gone for good.
func (s *Speaker) forgetSlot(l *link) { s.clearSent(l, false) }
