package interop

import (
	"fmt"
	"testing"

	"tombolo/internal/babel"
)

var (
	farKeys4, farKeys6 = key("10.3.1.0/24"), key("2001:db8:3::/48")
	allOurs            = own(near, ours4, ours6)
	allFar             = own(near, farKeys4, farKeys6)
)

// In the middle the daemon has a route to each of ours, and asks for ours for its
// neighbours: they hold smaller feasibility distances than it can offer when its way
// becomes longer.
func TestDaemonInTheMiddle(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		a, m, b := newOurs(t, 1), newDaemon(t, k, 2), newOurs(t, 3)
		join(a.node, m.node, 0, false)
		join(m.node, b.node, 1, false)
		a.speak(0, nil)
		b.speak(1, nil)
		m.speak(0, nil)
		m.speak(1, nil)
		a.own, b.own = allOurs, allFar
		a.live()
		b.live()
		m.live()
		learned := func() string {
			return first(a.uses(farKeys4, m.link4(0), atLeast[uint16](96)), a.uses(farKeys6, m.link6(), atLeast[uint16](96)),
				b.uses(ours4, m.link4(1), atLeast[uint16](96)), b.uses(ours6, m.link6(), atLeast[uint16](96)))
		}
		eventually(t, "the outer ones learn each other's routes", learned)

		a.announce(allOurs[:1]...)
		eventually(t, "the daemon passes on what ours retracts", func() string {
			return first(b.lacks(ours6), b.uses(ours4, m.link4(1), any))
		})
		a.announce(allOurs...)
		eventually(t, "it comes back", learned)

		was, _ := b.route(ours4)
		// A daemon's cost is what its neighbour says that it costs to hear it. This one is more
		// than the distance that b has announced to it.
		a.hearsWorse(400)
		eventually(t, "the daemon's way becomes longer, and ours gives it a newer number", func() string {
			now, _ := b.route(ours4)
			if now.Seqno == was.Seqno {
				return fmt.Sprintf("b still has the number %d: %+v", was.Seqno, now)
			}
			return first(b.uses(ours4, m.link4(1), atLeast(was.Metric)), b.uses(ours6, m.link6(), atLeast(was.Metric)))
		})
		a.hearsWorse(0)

		a.cut(device(0))
		eventually(t, "what is behind a dead link is lost", func() string {
			return first(b.lacks(ours4), b.lacks(ours6), a.loses(farKeys4), a.loses(farKeys6))
		})
		a.heal()
		eventually(t, "it comes back with the link", learned)
	})
}

func atLeast[T int | uint16](m T) func(T) bool { return func(n T) bool { return n >= m } }

// The daemons at the ends ask for newer numbers of each other's routes, through ours.
func TestOursInTheMiddle(t *testing.T) {
	t.Parallel()
	a, o, b := newDaemon(t, babeld{}, 2), newOurs(t, 1), newDaemon(t, bird{}, 3)
	join(a.node, o.node, 0, false)
	join(o.node, b.node, 1, false)
	// Neither way back, which is not feasible, is ever shorter than ours: or it would ask for
	// a newer number itself. BIRD has no split horizon.
	o.speak(0, nil)
	o.speak(1, func(l *babel.Link) { l.Cost = 700 })
	a.speak(0, func(l *daemonLink) { l.tunnel = true })
	b.speak(1, nil)
	a.announce(near, theirs4, theirs6)
	b.announce(near, farKeys4, farKeys6)
	o.own = allOurs
	o.live()
	a.live()
	b.live()
	learned := func(metricOfA, metricOfB int) func() string {
		return func() string {
			return first(a.uses(farKeys4, o.link4(0), atLeast(metricOfB)), a.uses(farKeys6, o.link6(), atLeast(metricOfB)),
				b.uses(theirs4, o.link4(1), atLeast(metricOfA)), b.uses(theirs6, o.link6(), atLeast(metricOfA)),
				a.uses(ours4, o.link4(0), any), b.uses(ours6, o.link6(), any))
		}
	}
	eventually(t, "the daemons learn each other's routes", learned(2*96, 700+2*96))

	ofA, _ := o.route(theirs4)
	o.cost(0, 500)
	eventually(t, "the routes of the first come back when our link to it is longer", learned(500+2*96, 700+2*96))
	if now, _ := o.route(theirs4); now.Seqno == ofA.Seqno {
		t.Errorf("nobody asked it for a newer number than %d", now.Seqno)
	}
	o.cost(1, 5000)
	eventually(t, "and those of the second", learned(500+2*96, 5000+2*96))

	b.announce(near, farKeys4)
	eventually(t, "what one retracts the other loses", func() string {
		return first(a.lacks(farKeys6), a.uses(farKeys4, o.link4(0), any))
	})

	a.kill()
	eventually(t, "what belongs to one that is dead the other loses", func() string {
		return first(b.lacks(theirs4), b.lacks(theirs6))
	})
	a.live()
	b.announce(near, farKeys4, farKeys6)
	eventually(t, "it comes back", learned(500+2*96, 5000+2*96))
}

// Each hears all the others, and goes to what is theirs directly.
func TestSegmentOfThree(t *testing.T) {
	t.Parallel()
	o, x, y := newOurs(t, 1), newDaemon(t, babeld{}, 2), newDaemon(t, bird{}, 3)
	segment(t, o.node, x.node, y.node)
	o.speak(0, nil)
	x.speak(0, nil)
	y.speak(0, nil)
	o.own = allOurs
	x.announce(near, theirs4, theirs6)
	y.announce(near, farKeys4, farKeys6)
	o.live()
	x.live()
	y.live()
	direct := func() string {
		return first(
			o.uses(theirs4, x.link4(0), is[uint16](near)), o.uses(theirs6, x.link6(), is[uint16](near)),
			o.uses(farKeys4, y.link4(0), is[uint16](near)), o.uses(farKeys6, y.link6(), is[uint16](near)),
			x.uses(ours4, o.link4(0), is(96)), x.uses(ours6, o.link6(), is(96)),
			x.uses(farKeys4, y.link4(0), is(96)), x.uses(farKeys6, y.link6(), is(96)),
			y.uses(ours4, o.link4(0), is(96)), y.uses(ours6, o.link6(), is(96)),
			y.uses(theirs4, x.link4(0), is(96)), y.uses(theirs6, x.link6(), is(96)))
	}
	eventually(t, "all know all", direct)
	o.announce(own(near, ours4)...)
	eventually(t, "both daemons lose what is retracted", func() string { return first(x.lacks(ours6), y.lacks(ours6)) })
	o.announce(allOurs...)
	y.announce(near, farKeys6)
	eventually(t, "both of the others lose what BIRD retracts", func() string { return first(o.lacks(farKeys4), x.lacks(farKeys4)) })
	y.announce(near, farKeys4, farKeys6)
	eventually(t, "all know all again", direct)
	y.kill()
	eventually(t, "both of the others lose what is dead", func() string {
		return first(o.loses(farKeys4), o.loses(farKeys6), x.lacks(farKeys4), x.lacks(farKeys6))
	})
	y.live()
	eventually(t, "and learn it again", direct)
}
