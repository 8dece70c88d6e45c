package interop

import (
	"testing"

	"tombolo/internal/babel"
)

var (
	ours4, ours6     = key("10.1.1.0/24"), key("2001:db8:1::/48")
	theirs4, theirs6 = key("10.2.1.0/24"), key("2001:db8:2::/48")
)

func own(metric uint16, keys ...babel.Key) []babel.Announcement {
	var a []babel.Announcement
	for _, k := range keys {
		a = append(a, babel.Announcement{Key: k, Metric: metric})
	}
	return a
}

// each runs a test with each daemon.
func each(t *testing.T, f func(t *testing.T, k kind)) {
	t.Parallel()
	for _, k := range []kind{babeld{}, bird{}} {
		t.Run(k.name(), func(t *testing.T) { t.Parallel(); f(t, k) })
	}
}

// pair is ours and a daemon on link 0, neither of which runs.
func pair(t *testing.T, k kind, changeOurs func(*babel.Link), changeTheirs func(*daemonLink)) (*ours, *daemon) {
	t.Helper()
	o, d := newOurs(t, 1), newDaemon(t, k, 2)
	join(o.node, d.node, 0, false)
	o.speak(0, changeOurs)
	d.speak(0, changeTheirs)
	return o, d
}

// meet starts both, with a route of each family each, and waits until they have them.
func meet(t *testing.T, o *ours, d *daemon) {
	t.Helper()
	o.own = own(near, ours4, ours6)
	d.announce(near, theirs4, theirs6)
	o.live()
	d.live()
	met(t, o, d)
}

func met(t *testing.T, o *ours, d *daemon) {
	t.Helper()
	eventually(t, "they learn each other's routes", func() string {
		return first(o.uses(theirs4, d.link4(0), is[uint16](near)), o.uses(theirs6, d.link6(), is[uint16](near)),
			d.uses(ours4, o.link4(0), any), d.uses(ours6, o.link6(), any))
	})
}

// first returns the first thing that is wrong.
func first(wrongs ...string) string {
	for _, w := range wrongs {
		if w != "" {
			return w
		}
	}
	return ""
}

func is[T comparable](m T) func(T) bool { return func(n T) bool { return n == m } }
func any[T comparable](T) bool          { return true }

func TestRouteComesChangesAndGoes(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		o, d := pair(t, k, nil, nil)
		meet(t, o, d)

		was := d.routes(d)
		o.announce(own(far, ours4, ours6)...)
		d.announce(far, theirs4, theirs6)
		eventually(t, "both get a larger metric", func() string {
			return first(o.uses(theirs4, d.link4(0), is[uint16](far)), o.uses(theirs6, d.link6(), is[uint16](far)),
				d.uses(ours4, o.link4(0), is(was[ours4]+far)), d.uses(ours6, o.link6(), is(was[ours6]+far)))
		})
		o.announce(own(near, ours4, ours6)...)
		d.announce(near, theirs4, theirs6)
		met(t, o, d)

		o.announce(own(near, ours4)...)
		eventually(t, "ours retracts one of two", func() string {
			return first(d.lacks(ours6), d.uses(ours4, o.link4(0), any))
		})
		o.announce()
		eventually(t, "ours retracts the other", func() string { return d.lacks(ours4) })
		if k.name() == "babeld" {
			return // it does not say that it is gone (mended in 1.12.2)
		}
		d.announce(near, theirs4)
		eventually(t, "the daemon retracts one of two", func() string {
			return first(o.lacks(theirs6), o.uses(theirs4, d.link4(0), any))
		})
		d.announce(near)
		eventually(t, "the daemon retracts the other", func() string { return o.lacks(theirs4) })
	})
}
