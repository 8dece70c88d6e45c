package babel

import (
	"slices"
	"time"

	"tombolo/internal/babel/wire"
)

const (
	// hops is how far a request for a sequence number may go (RFC 8966 §3.8.2.1).
	hops = 64

	askAgain  = 300 * time.Millisecond // doubles
	askTries  = 4
	askPause  = time.Second // between two requests for the sake of a better way; doubles
	maxAsked  = 4096
	dumpPause = 2 * time.Second
)

// question is what a request for a sequence number is about. Two origins of one route are
// two questions.
type question struct {
	key Key
	id  wire.RouterID
}

// request is one that waits for its answer: ours, or somebody's that we passed on.
type request struct {
	question
	seqno  uint16
	hops   uint8
	askers []*neighbour // who asked; none: we did
	not    *neighbour   // it is not sent back there
	tries  int
	timer  *timer
}

// askForBetter asks for a newer sequence number where that would give a way, or a better
// one, that feasibility forbids now (RFC 8966 §3.8.2.1, §3.8.2.2).
func (s *Speaker) askForBetter(e *entry) {
	var best *route
	for _, r := range e.routes {
		if r.metric() == wire.Infinity || e.feasible(r.id, r.seqno, r.ref) {
			continue
		}
		if best == nil || r.better(best) {
			best = r
		}
	}
	if best == nil {
		return
	}
	if (e.selected != nil || e.here) && !s.worthAsking(e, best) {
		return
	}
	e.asked = s.now
	e.asks++
	for i := range e.sources {
		if d := e.sources[i]; d.id == best.id {
			s.ask(&request{question: question{e.Key, best.id}, seqno: d.seqno + 1, hops: hops})
		}
	}
}

// worthAsking reports whether to ask for the sake of a way that would be better than the
// selected one, or than our own. An answer makes many routers' routes newer, so that it is asked for only
// what would be taken, and ever more seldom where that does not come of it.
func (s *Speaker) worthAsking(e *entry, best *route) bool {
	if e.asks > 0 && s.now-e.asked < askPause<<min(e.asks-1, 5) {
		return false
	}
	switch {
	case e.here:
		return !e.ownBefore(best)
	case best.claimed().beats(e.selected.claimed()):
		return true // the host is no longer where its packets go
	case e.selected.claimed().beats(best.claimed()):
		return false
	case best == e.selected:
		return true // it stays usable only until it is not selected
	}
	lasted := e.much != 0 && s.now-e.much >= muchFor
	return (lasted || s.settling(e)) && muchBetter(best.metric(), e.selected.metric())
}

// ask sends a request, unless one like it waits already.
func (s *Speaker) ask(r *request) {
	if old := s.asked[r.question]; old != nil {
		for _, n := range r.askers {
			if !slices.Contains(old.askers, n) {
				old.askers = append(old.askers, n)
			}
		}
		if !older(old.seqno, r.seqno) {
			return
		}
		s.timers.stop(old.timer)
		r.askers = old.askers
	} else if len(s.asked) >= maxAsked {
		return
	}
	s.asked[r.question] = r
	r.timer = newTimer(func(Time) { s.askOnce(r) })
	s.askOnce(r)
}

// askOnce sends a request, and sets the time of the next try.
func (s *Speaker) askOnce(r *request) {
	e := s.entries[r.key]
	if e == nil || r.tries == askTries {
		delete(s.asked, r.question)
		return
	}
	for _, n := range r.targets(e) {
		s.say(n.link, n.address, wire.SeqnoRequest{Prefix: r.key.Dst, Source: r.key.Src, Seqno: r.seqno, HopCount: r.hops, RouterID: r.id})
	}
	s.timers.reset(r.timer, s.now+askAgain<<r.tries)
	r.tries++
}

// targets are the neighbours to send a request to: where somebody asked us, the next hop of
// one feasible route, or else of any; where we ask ourselves, all that have a route from
// that origin (§3.8.1.2). Never the one who asked.
func (r *request) targets(e *entry) []*neighbour {
	var feasible, rest []*neighbour
	for _, x := range e.routes {
		n := x.neighbour
		if n == r.not || n.cost == wire.Infinity || x.ref == wire.Infinity {
			continue
		}
		switch {
		case x == e.selected:
			feasible = slices.Insert(feasible, 0, n)
		case e.usable(x):
			feasible = append(feasible, n)
		case x.id == r.id || r.not != nil:
			rest = append(rest, n)
		}
	}
	all := slices.Concat(feasible, rest)
	if r.not == nil {
		return slices.DeleteFunc(all, func(n *neighbour) bool { return e.route(n).id != r.id })
	}
	return all[:min(1, len(all))]
}

// answered ends the requests that a route answers, and passes the answer on.
func (s *Speaker) answered(e *entry, r *route) {
	if len(s.asked) == 0 {
		return
	}
	q := question{e.Key, r.id}
	a := s.asked[q]
	if a == nil || older(r.seqno, a.seqno) {
		return
	}
	delete(s.asked, q)
	s.timers.stop(a.timer)
	for _, n := range a.askers {
		if n.alive {
			n.link.queue.add(e, true, urgent)
		}
	}
}

// takeSeqnoRequest answers or passes on a request (RFC 8966 §3.8.1.2).
func (n *neighbour) takeSeqnoRequest(t wire.SeqnoRequest) {
	s := n.link.s
	k := Key{t.Prefix, t.Source}
	e := s.entries[k]
	switch {
	case e == nil:
		return
	case e.here:
		if t.RouterID == s.config.RouterID && older(e.ownSeqno, t.Seqno) {
			s.raise(e)
		}
		n.link.queue.add(e, true, urgent)
		return
	case e.selected != nil && (e.selected.id != t.RouterID || !older(e.selected.seqno, t.Seqno)):
		n.link.queue.add(e, true, urgent)
		return
	}
	if t.HopCount >= 2 {
		s.ask(&request{question: question{k, t.RouterID}, seqno: t.Seqno, hops: t.HopCount - 1, askers: []*neighbour{n}, not: n})
	}
}

// raise raises the sequence number of a route of ours: by one, however large the gap to what
// is asked for (RFC 8966 §3.8.1.2). Each route has its own, for what is newer is told to
// everybody.
func (s *Speaker) raise(e *entry) {
	e.ownSeqno++
	if older(s.seqno, e.ownSeqno) {
		s.seqno = e.ownSeqno
	}
	s.spread(e, lazily)
}

// takeRouteRequest answers a request for a route, or for all (§3.8.1.1).
func (n *neighbour) takeRouteRequest(t wire.RouteRequest) {
	s := n.link.s
	if !t.Prefix.IsValid() {
		n.takeRequestForAll()
		return
	}
	if e := s.entries[Key{t.Prefix, t.Source}]; e != nil {
		n.link.queue.add(e, true, urgent)
		return
	}
	silent := uint8(0)
	if s.now-s.began < sayAgain {
		silent = 1 // we may not have learned it again yet
	}
	s.say(n.link, n.address, wire.Update{
		Prefix: t.Prefix, Source: t.Source, NextHop: n.link.nextHop(t.Prefix), Metric: wire.Infinity, Interval: wire.IntervalOf(s.timing.Update),
		Silent: silent,
	})
}

// takeRequestForAll answers one; where they come fast, several at once.
func (n *neighbour) takeRequestForAll() {
	s := n.link.s
	wait := time.Duration(0)
	if n.dumped != 0 {
		wait = max(n.dumped+dumpPause-s.now, 0)
	}
	switch {
	case n.link.Tunnel:
		n.link.queue.repeat(max(wait, urgent))
	case wait > 0: // what all are told from time to time must do
		return
	default:
		n.link.queue.dump(n)
	}
	if wait == 0 {
		n.dumped = s.now
	}
}
