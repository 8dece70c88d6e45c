package babel

import (
	"fmt"
	"time"

	"tombolo/internal/babel/wire"
)

// When a route that works is left for a better one. Near-equal ways would else be changed
// at every tremble of their delay.
const (
	// settling is how long what is new is free to move: its ways are only being learned.
	settling = 3 * time.Second

	muchFor   = 3 * time.Second  // better by 2 ms and 5 %
	littleFor = 15 * time.Second // better by 0.5 ms and 1 %
)

func muchBetter(best, selected uint16) bool {
	return int(selected)-int(best) >= max(20, int(selected)/20)
}

func littleBetter(best, selected uint16) bool {
	return int(selected)-int(best) >= max(5, int(selected)/100)
}

// best returns the feasible route with the smallest metric, of those by the origin that has
// it, where it roams; of equal ones the first, in the order of links and neighbours.
func (e *entry) best() *route {
	var best *route
	for _, r := range e.routes {
		if e.usable(r) && (best == nil || r.better(best)) {
			best = r
		}
	}
	return best
}

// better reports whether a route goes before another.
func (r *route) better(other *route) bool {
	if c := r.claimed().against(other.claimed()); c != 0 {
		return c > 0
	}
	return r.metric() < other.metric()
}

// shortest returns the smallest metric of the routes that lead where one of them leads, be
// they feasible or not.
func (e *entry) shortest(like *route) uint16 {
	best := like.metric()
	for _, r := range e.routes {
		if r.claimed().against(like.claimed()) == 0 {
			best = min(best, r.metric())
		}
	}
	return best
}

// choose selects a route anew (RFC 8966 §3.6), and tells neighbours and host what follows.
// changed says that what was announced does not hold any more, whatever is chosen.
func (s *Speaker) choose(e *entry, changed bool) {
	was, wasHere := e.selected, e.here
	next, here := e.next(s)
	e.selected, e.here = next, here
	how := lazily
	if next != was || here != wasHere || changed {
		how = urgent
		if was == nil && (e.kept == nil || !e.kept.id.Valid() && next != nil && next.neighbour.link != e.kept.neighbour.link) {
			e.reached = s.now // what an heir goes now was not established before
		}
		e.since = s.now
		e.much, e.little, e.asks = 0, 0, 0
		s.timers.stop(e.wait)
		if next != nil { // there may be a better one that is not feasible
			s.lasted(e, e.shortest(next), next.metric())
		}
		s.touch(e)
	}
	s.keep(e, next != nil)
	if next == nil && !here {
		if e.advertised() {
			how = urgent
			if e.kept == nil {
				s.beginHold(e)
			}
		}
	} else if e.holding {
		e.holding = false
		s.touch(e)
	}
	s.tell(e, was, wasHere)
	s.spread(e, how)
	s.askForBetter(e)
}

// next returns the route to select; none, and true, where our own goes before all of them.
func (e *entry) next(s *Speaker) (*route, bool) {
	current, best := e.selected, e.best()
	if e.ownBefore(best) {
		return nil, true
	}
	if current != nil && (!e.usable(current) || e.ownBefore(current)) {
		current = nil
	}
	if current == nil {
		e.much, e.little = 0, 0
		return best, false
	}
	if best.claimed().beats(current.claimed()) {
		return best, false
	}
	much, little := s.lasted(e, e.shortest(current), current.metric())
	b, c := best.metric(), current.metric()
	if b < c && (s.settling(e) || best.neighbour.settling() || much && muchBetter(b, c) || little && littleBetter(b, c)) {
		return best, false
	}
	return current, false
}

// settling reports whether a destination is so new that its ways are only being learned.
func (s *Speaker) settling(e *entry) bool { return s.now-e.born < settling }

// settling reports the same of a neighbour, who has never failed yet.
func (n *neighbour) settling() bool { return n.ups == 1 && n.link.s.now-n.upSince < settling }

// lasted reports whether there has been a better way for long enough, by much and by little;
// where not, it sees to it that it is asked again in time. A way counts whether or not it is
// feasible now: what others ask for makes it change between the two, and if that began the
// time anew, each would keep the others waiting.
func (s *Speaker) lasted(e *entry, shortest, current uint16) (much, little bool) {
	since := func(t *Time, better bool, long time.Duration) bool {
		switch {
		case !better:
			*t = 0
			return false
		case *t == 0:
			*t = s.now
		}
		if s.now-*t >= long {
			return true
		}
		if e.wait == nil {
			e.wait = newTimer(func(Time) { s.choose(e, false) })
		}
		s.timers.sooner(e.wait, *t+long)
		return false
	}
	much = since(&e.much, muchBetter(shortest, current), muchFor)
	little = since(&e.little, littleBetter(shortest, current), littleFor)
	return much, little
}

// advertised reports whether any link was told that there is a way.
func (e *entry) advertised() bool {
	for i := range e.sent {
		if e.sent[i].known && e.sent[i].metric < wire.Infinity {
			return true
		}
	}
	return false
}

// owed reports whether some link does not know yet that the route is gone.
func (e *entry) owed() bool {
	for i := range e.sent {
		if t := &e.sent[i]; t.known && (t.metric < wire.Infinity || t.silent != 0 || !t.acked) {
			return true
		}
	}
	return false
}

// beginHold drops packets to a destination that was just lost until every neighbour knows
// it (RFC 8966 §3.5.4): they may follow a shorter prefix into a loop otherwise. A default
// route has no shorter one.
func (s *Speaker) beginHold(e *entry) {
	if e.holding || e.Dst.Bits() == 0 {
		return
	}
	e.holding = true
	e.hold = s.now + s.timing.Update*7/2
	s.touch(e)
}

// endHold ends the hold of a destination when nobody needs it any more.
func (s *Speaker) endHold(e *entry) {
	if e.holding && !e.owed() {
		e.holding = false
		s.touch(e)
	}
}

// tell says what changed to people.
func (s *Speaker) tell(e *entry, was *route, wasHere bool) {
	next := e.selected
	if was == next {
		return
	}
	k := e.Key
	switch {
	case next == nil && e.here && e.device != "":
	case e.own && (e.here || wasHere):
		s.tellOwn(e, was)
	case next == nil && e.kept != nil:
		s.event(Event{Kind: RouteKept, Link: e.kept.neighbour.link.Name, Neighbour: e.kept.neighbour.address, Key: &k, RouterID: e.kept.id,
			Reason: "nobody is heard there any more, and there is no other way"})
	case next == nil:
		s.event(Event{Kind: RouteLost, Link: was.neighbour.link.Name, Neighbour: was.neighbour.address, Key: &k, RouterID: was.id,
			Reason: "no way is left"})
	case was == nil:
		s.event(Event{Kind: RouteLearned, Link: next.neighbour.link.Name, Neighbour: next.neighbour.address, Key: &k, RouterID: next.id,
			Reason: milliseconds(next.metric())})
	default:
		reason := fmt.Sprintf("%s by %s, %s by %s", milliseconds(next.metric()), next.neighbour.link.Name, milliseconds(was.metric()), was.neighbour.link.Name)
		if was.metric() == wire.Infinity {
			reason = fmt.Sprintf("%s by %s, none by %s", milliseconds(next.metric()), next.neighbour.link.Name, was.neighbour.link.Name)
		}
		s.event(Event{Kind: RouteMoved, Link: next.neighbour.link.Name, Neighbour: next.neighbour.address, Key: &k, RouterID: next.id, Reason: reason})
	}
}

// milliseconds is a metric in words.
func milliseconds(metric uint16) string {
	if metric == wire.Infinity {
		return "no way"
	}
	return fmt.Sprintf("%.1f ms", float64(metric)*float64(unit)/float64(time.Millisecond))
}
