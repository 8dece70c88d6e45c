package babel

import (
	"fmt"

	"tombolo/internal/babel/wire"
)

// What we announce ourselves, others may announce too: the exits for one source do, each
// with a metric that says how gladly it is used. So our own is a candidate like any other,
// and goes before all only where its metric is 0:
//
//   - while a learned route has a smaller metric, that is selected, and we are a router on
//     its way like any other: what we announce has its origin and its metric;
//   - else packets end here, and we announce ours. When the learned one is lost that is so in
//     the same moment, since nothing has to be learned for it.
//
// Between the two there is no hysteresis. Metrics of exits are much farther apart than
// delays tremble, and what a person prefers is not left to wait.
//
// No loop can come of it that would not come without: what is learned of another's origin
// is feasible for us as for anybody, our distances of it stay while we announce our own, and
// nothing by our own origin is ever taken (takeUpdate). Our own sequence number need not
// rise when we announce it once more: its metric is smaller than all that others ever made
// of it, and so feasible for every neighbour (§3.5.1); who has it from farther off asks, if
// need be.

// ownBefore reports whether our own announcement goes before a route; nil: before none.
func (e *entry) ownBefore(r *route) bool {
	switch {
	case !e.own:
		return false
	case e.device != "" || e.ownMetric == 0:
		return true
	case r == nil:
		return !e.awaits()
	}
	return e.ownMetric <= r.metric()
}

// awaits reports whether a speaker that follows another still goes the way that it found
// (see Inherit). Our own waits as any other way does: it was not used, and what was on its
// way by another exit would break.
func (e *entry) awaits() bool { return e.only != nil && e.kept != nil && !e.kept.id.Valid() }

// tellOwn says that our own took the place of a route, or the other way round.
func (s *Speaker) tellOwn(e *entry, was *route) {
	k := e.Key
	if r := e.selected; r != nil {
		s.event(Event{Kind: RouteMoved, Link: r.neighbour.link.Name, Neighbour: r.neighbour.address, Key: &k, RouterID: r.id,
			Reason: fmt.Sprintf("%s by %s%s", milliseconds(r.metric()), r.neighbour.link.Name, e.beforeOwn())})
		return
	}
	reason := fmt.Sprintf("this router's own: none by %s", was.neighbour.link.Name)
	if m := was.metric(); !was.gone && m < wire.Infinity {
		reason = fmt.Sprintf("this router's own, preferred to %s by %s", milliseconds(m), was.neighbour.link.Name)
	}
	s.event(Event{Kind: RouteMoved, Key: &k, RouterID: s.config.RouterID, Reason: reason})
}

// whyOwn says in words why packets end here.
func (e *entry) whyOwn() string {
	if best := e.best(); best != nil {
		return fmt.Sprintf("this router's own, preferred to %s by %s", milliseconds(best.metric()), best.neighbour.link.Name)
	}
	return "this router's own"
}

// beforeOwn is what is to be said of a route that is preferred to our own.
func (e *entry) beforeOwn() string {
	if !e.own {
		return ""
	}
	return ", preferred to this router's own"
}
