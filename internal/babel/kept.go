package babel

import (
	"time"

	"tombolo/internal/babel/wire"
)

// A neighbour that is not heard any more has lost its link, or only its speaker; then it
// forwards as it did before, and another speaker will follow. We cannot tell. So its routes
// are left at once for whatever other way there is; but where there is none, packets still
// go by the last hop, which is in vain only if the link is dead. We keep the route. Others
// are told by a retraction that says why (wire.Update.Silent), and do the same.
//
// A kept route is not announced, nor selected again, so that what feasibility promises still
// holds: along kept routes, as along selected ones, the feasibility distances of one origin
// fall. Ours cannot, while we announce nothing, and a router without a speaker is as it was.
// One that begins anew has none: what it does meanwhile is in inherit.go. What it learns
// might lead through us, if somebody announces it who was not told yet; when he is told, it
// must not be kept. So only a way that was there for a while (established) is.
//
// A route is kept until
//   - there is a way again, and has been for a while;
//   - its neighbour takes it back, or is heard again and does not announce it in time, nor
//     says that it keeps it too;
//   - the link is down, or mute: nothing at all comes in by it, see Speaker.Mute;
//   - on a segment, its neighbour is forgotten, after a minute.

const (
	// established is how long there must have been a way for the last of it to be kept.
	established = time.Second

	// checkEvery is how often what is kept is looked at.
	checkEvery = time.Second

	// A neighbour that was heard in the last stillThere, and for sayAgain, has had the time to
	// announce what it has.
	stillThere = 2500 * time.Millisecond

	// farthest is from how many hops away a silence is believed. Should routers ever keep a
	// way because of each other's words, in a ring, their count ends it.
	farthest = 64
)

// silence is after what time without a hello a neighbour counts as silent.
func (n *neighbour) silence() time.Duration { return max(stillThere, 2*n.interval+n.interval/2) }

// kept is a route that is kept.
type kept struct {
	*route
	since    Time
	over     Time   // since when there has been another way; 0: there is none
	said     uint8  // how many hops behind its neighbour the silence is, by its word; 0: it is its own
	distance source // our own of its origin, when it was kept
}

// holds reports whether packets may go by a kept route again after they went another way for
// a moment: not if we announced something better of its origin meanwhile, or anything of
// another one, to which others may have a way through us.
func (k *kept) holds(e *entry) bool {
	for _, d := range e.sources {
		if d.id != k.id && d.used > k.since {
			return false
		}
	}
	if !k.id.Valid() { // it is inherited
		return true
	}
	d := e.distance(k.id)
	return d.seqno == k.distance.seqno && d.metric == k.distance.metric || !k.stale && e.feasible(k.id, k.seqno, k.ref)
}

// distance returns the feasibility distance of an origin; the zero value where there is none.
func (e *entry) distance(id wire.RouterID) source {
	for _, d := range e.sources {
		if d.id == id {
			return d
		}
	}
	return source{}
}

// silenced takes a neighbour's route away because of a silence: its own, or, if it said so,
// one that is so many hops behind it.
func (s *Speaker) silenced(e *entry, n *neighbour, said uint8) {
	if said >= farthest || s.config.Otherwise[e.Key] {
		s.retracted(e, n)
		return
	}
	if k := e.kept; k != nil && k.neighbour == n && e.selected == nil {
		if k.said != 0 || said != 0 {
			k.since = s.now
		}
		if far := k.said; said > far && far != 0 {
			defer s.spread(e, urgent) // those behind us count on from there
		}
		k.said = said
	}
	r := e.route(n)
	if r == nil {
		return
	}
	e.drop(r)
	if e.selected != r {
		return
	}
	if s.now-e.reached >= established {
		e.kept = &kept{route: r, since: s.now, said: said, distance: e.distance(r.id)}
		s.timers.sooner(s.checker, s.now+checkEvery)
	}
	s.choose(e, true)
}

// keep looks whether a kept route may still be gone back to, once it is known whether there
// is a way now.
func (s *Speaker) keep(e *entry, way bool) {
	k := e.kept
	switch {
	case k == nil:
	case e.here, k.over != 0 && s.now-k.over >= established, !way && !k.holds(e):
		e.kept = nil
	case !way:
		k.over = 0
	case k.over == 0:
		k.over = s.now
	}
	if e.here {
		e.only = nil
	}
}

// giveUp ends a kept route: where packets still go by it, there is no way any more.
func (s *Speaker) giveUp(e *entry) {
	r := e.kept
	e.kept = nil
	if e.selected != nil || e.here {
		return
	}
	if e.only != nil {
		e.only = nil
		if s.choose(e, false); e.selected != nil || e.here {
			return
		}
	}
	k := e.Key
	s.event(Event{Kind: RouteLost, Link: r.neighbour.link.Name, Neighbour: r.neighbour.address, Key: &k, RouterID: r.id, Reason: "no way is left"})
	s.touch(e)
	if e.owed() {
		s.beginHold(e)
	}
	s.spread(e, urgent)
}

// giveUpOn ends all routes that are kept for a neighbour's sake.
func (s *Speaker) giveUpOn(n *neighbour) {
	for _, e := range s.order {
		if e.kept != nil && e.kept.neighbour == n {
			s.giveUp(e)
		}
	}
}

// check ends what is kept through neighbours that have been heard again for long enough to
// announce it, or to say that they keep it too; also where they do not hear us.
func (s *Speaker) check(now Time) {
	any := false
	for _, e := range s.order {
		k := e.kept
		if k == nil {
			continue
		}
		if k.over != 0 {
			s.keep(e, true)
		}
		any = true
		n := k.neighbour
		if k.said == 0 && n.helloAt != 0 && now-n.helloAt < n.silence() && now-max(n.present, k.since) > sayAgain {
			s.giveUp(e)
		}
	}
	if any {
		s.timers.reset(s.checker, now+checkEvery)
	}
}

// mayKeep reports whether the policy allows a kept route; of one that is inherited nobody
// knows the origin.
func (s *Speaker) mayKeep(k Key, r *kept) bool {
	if !r.id.Valid() {
		return s.mayInherit(r.neighbour.link, k)
	}
	return s.allowed(r.neighbour.link, k, r.id)
}

// askAbout asks a neighbour for a route that is kept because of what it said: it may not have
// told us what became of it, when it did not hear us.
func (s *Speaker) askAbout(e *entry) {
	if n := e.kept.neighbour; e.kept.said != 0 && n.cost < wire.Infinity {
		s.say(n.link, n.address, wire.RouteRequest{Prefix: e.Dst, Source: e.Src})
	}
}
