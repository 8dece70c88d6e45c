package babel

import (
	"cmp"

	"tombolo/internal/babel/wire"
)

// A host that roams is attached to one router at a time, and each of them hears only of its
// coming, never of its going. So who hears it come claims it with a number above all that it
// knows (as EVPN does, RFC 7432 §15), and of several claims the highest holds: everybody
// sends packets there, and who held a lower one lets go. docs/adr/0002-mobility.md has the
// rule, and why exactly one is left.

// claim is what an origin says of having a host. That of what does not roam is zero.
type claim struct {
	number uint32 // 0: none, which is below all others; modulo 2^32
	site   uint32 // of the origin
	before uint32 // the site that had it until then, as far as that one knew; 0: nobody
}

// claimOf returns what an update claims.
func claimOf(u wire.Update) claim { return claim{u.Mobility, siteOf(u.RouterID), u.Before} }

// claimed returns a route's claim.
func (r *route) claimed() claim {
	if r.claim == nil {
		return claim{}
	}
	return *r.claim
}

// against compares two claims: 1 where c holds, -1 where d does, 0 where they are one.
// Of equal numbers that of the higher site holds.
func (c claim) against(d claim) int {
	const half = 1 << 31
	switch ahead := c.number - d.number; {
	case ahead == 0 || ahead == half:
		return cmp.Or(cmp.Compare(c.site, d.site), cmp.Compare(c.number, d.number))
	case c.number == 0:
		return -1
	case d.number == 0 || ahead < half:
		return 1
	}
	return -1
}

func (c claim) beats(d claim) bool { return c.against(d) > 0 }

// remember keeps the highest claim of a host.
func (s *Speaker) remember(k Key, c claim) {
	if c.beats(s.highest[k]) {
		s.highest[k] = c
	}
}

// Attach says that a host which roams has just come to a device of ours, and claims it: it is
// announced until Detach, or until somebody else's claim is higher (Output.Displaced). One that
// is attached and comes again, from another address, may have been elsewhere meanwhile; that
// its keys are renewed is no coming.
func (s *Speaker) Attach(now Time, keys []Key, device string) Output {
	return s.do(now, func() {
		for _, k := range keys {
			was := s.highest[k]
			c := claim{was.number + 1, siteOf(s.config.RouterID), was.site}
			if c.number == 0 {
				c.number = 1
			}
			s.attach(k, device, c)
		}
	})
}

// Resume says that a host which roams was there when the speaker began. It is announced as
// by Attach, below any claim: somebody may have heard from it since, or not, and what was
// claimed before is not known any more.
func (s *Speaker) Resume(now Time, keys []Key, device string) Output {
	return s.do(now, func() {
		for _, k := range keys {
			s.attach(k, device, claim{site: siteOf(s.config.RouterID)})
		}
	})
}

func (s *Speaker) attach(k Key, device string, c claim) {
	if !s.config.Accept.Mobile[k] {
		return
	}
	e := s.entry(k)
	if best := e.best(); best != nil && best.claimed().beats(c) {
		s.remember(k, best.claimed())
		s.displaced(e, best, c)
		return
	}
	s.remember(k, c)
	// Newer than whatever we announced of it before, so that it is feasible for everybody.
	if e.ownSeqno == 0 {
		e.ownSeqno = s.seqno
	}
	e.ownSeqno++
	if older(s.seqno, e.ownSeqno) {
		s.seqno = e.ownSeqno
	}
	e.own, e.device, e.claim, e.ownMetric = true, device, c, 0
	s.choose(e, true)
	s.spread(e, urgent)
}

// Detach says that hosts which roam have gone, nobody knows where to.
func (s *Speaker) Detach(now Time, keys []Key) Output {
	return s.do(now, func() {
		for _, k := range keys {
			if e := s.entries[k]; e != nil {
				s.detach(e)
			}
		}
	})
}

func (s *Speaker) detach(e *entry) {
	if e.device != "" {
		e.own, e.device, e.claim = false, "", claim{}
		s.choose(e, true)
	}
}

// displaced says that another router has a host which we claim by c.
func (s *Speaker) displaced(e *entry, r *route, c claim) {
	other := r.claimed()
	contested := other.before != c.site || other.number != c.number+1 || c.number == 0
	s.out.Displaced = append(s.out.Displaced, Displacement{e.Key, r.id, contested})
}

// release lets go of hosts that the policy does not know any more.
func (s *Speaker) release() {
	for _, e := range s.order {
		if s.config.Accept.Mobile[e.Key] {
			continue
		}
		s.detach(e)
		for _, r := range e.routes {
			r.claim = nil
		}
	}
	for k := range s.highest {
		if !s.config.Accept.Mobile[k] {
			delete(s.highest, k)
		}
	}
}
