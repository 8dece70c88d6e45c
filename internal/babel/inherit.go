package babel

import (
	"slices"
	"time"
)

// faithful is how long a speaker that follows another goes only the ways that it found. In
// this time everybody learns that it has begun anew, also by a tunnel that is idle.
const faithful = 4 * time.Second

// confirmed is how long it does so where that way was announced to it again: then there is a
// feasibility distance.
const confirmed = 1500 * time.Millisecond

// Inherit says which hops the host still has of a speaker that was there before, for links
// of the configuration that are tunnels; others are left out. It is called at most once, before
// any link is up.
//
// They are kept (see kept.go), as if their neighbours had gone silent, until those are heard
// and have had the time to announce them again. For the first seconds a destination of
// theirs goes no other way: the others may not have heard yet that the feasibility distances,
// which had them choose a way through us, are gone.
func (s *Speaker) Inherit(now Time, hops []RouteChange) Output {
	return s.do(now, func() {
		for _, c := range hops {
			if c.Hop == nil || c.Hop.Unreachable {
				continue
			}
			l := s.link(c.Hop.Link)
			if l == nil || !l.Tunnel || !s.mayInherit(l, c.Key) {
				continue
			}
			if l.before == nil {
				l.before = l.newNeighbour(c.Hop.NextHop)
			}
			e := s.entry(c.Key)
			r := &route{neighbour: l.before, nextHop: c.Hop.NextHop}
			e.kept, e.reached = &kept{route: r, since: s.now}, s.now-established
			if !s.config.Accept.Mobile[c.Key] { // one that roams may have gone elsewhere
				e.only = l
			}
			s.timers.sooner(s.checker, s.now+checkEvery)
			s.touch(e)
		}
		s.timers.reset(newTimer(func(Time) { s.endFaith(false) }), s.now+confirmed)
		s.timers.reset(newTimer(func(Time) { s.endFaith(true) }), s.now+faithful)
		s.timers.reset(newTimer(func(Time) { s.giveUpUnsent() }), s.now+sayAgain)
	})
}

// mayInherit reports whether anybody may announce a route on a link.
func (s *Speaker) mayInherit(l *link, k Key) bool {
	a := s.config.Accept
	if a.Exact == nil {
		return true
	}
	ok := func(site uint32) bool { return l.Only == nil || slices.Contains(l.Only, site) }
	return slices.ContainsFunc(a.Exact[k], ok) || l.Only == nil && within(a.Within, k.Dst)
}

// endFaith has destinations go the way that is best: all, or those that have one.
func (s *Speaker) endFaith(all bool) {
	for _, e := range s.order {
		if e.only != nil && (all || e.selected != nil) {
			e.only = nil
			s.choose(e, false)
		}
	}
}

// giveUpUnsent ends what goes by links that did not come up.
func (s *Speaker) giveUpUnsent() {
	for _, l := range s.links {
		if !l.up && l.before != nil {
			s.giveUpOn(l.before)
		}
	}
}

// disinherit ends what was inherited by a link.
func (l *link) disinherit() {
	for _, e := range l.s.order {
		if e.only == l {
			e.only = nil
			l.s.choose(e, false)
		}
	}
	if l.before != nil {
		l.s.giveUpOn(l.before)
		l.before = nil
	}
}

// takeOver has a neighbour that is heard for the first time answer for what was there
// before it.
func (n *neighbour) takeOver() {
	l := n.link
	if l.before == nil {
		return
	}
	for _, e := range l.s.order {
		if e.kept != nil && e.kept.neighbour == l.before {
			e.kept.neighbour = n
		}
	}
	l.before = nil
}

// beforeAnd returns the neighbours of a link, and who is kept of an earlier life.
func (l *link) beforeAnd() []*neighbour {
	if l.before == nil {
		return l.neighbours
	}
	return append(slices.Clone(l.neighbours), l.before)
}
