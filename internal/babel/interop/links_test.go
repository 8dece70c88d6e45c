package interop

import (
	"fmt"
	"testing"
)

// Nobody says anything to anybody any more.
func TestSilentLinkIsLeftAndTakenAgain(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		o, d := pair(t, k, nil, nil)
		meet(t, o, d)
		d.cut(device(0))
		eventually(t, "both lose the routes of a link that died silently", func() string {
			return first(o.loses(theirs4), o.loses(theirs6), d.lacks(ours4), d.lacks(ours6))
		})
		d.heal()
		met(t, o, d)
	})
}

// Ours is told nothing of it: only the other side sees its device go.
func TestLinkThatGoesDownIsLeftAndTakenAgain(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		o, d := pair(t, k, nil, nil)
		o.captures[0].gaps = true
		meet(t, o, d)
		d.Sh("ip link set v0 down")
		eventually(t, "both lose the routes of a link that went down", func() string {
			return first(o.loses(theirs4), o.loses(theirs6), d.lacks(ours4), d.lacks(ours6))
		})
		// Its IPv6 addresses are gone, its IPv4 one is not.
		d.Sh(fmt.Sprintf("ip address add %s/64 dev v0 nodad; ip link set v0 up", d.link6()))
		met(t, o, d)
	})
}

// The larger metric would not be feasible if it were still the old router's.
func TestDaemonThatRestartsIsAnotherOrigin(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		o, d := pair(t, k, nil, nil)
		meet(t, o, d)
		d.kill()
		d.announce(far, theirs4, theirs6)
		d.live()
		eventually(t, "ours uses the routes of the new life", func() string {
			return first(o.uses(theirs4, d.link4(0), is[uint16](far)), o.uses(theirs6, d.link6(), is[uint16](far)))
		})
		eventually(t, "the daemon has the routes of ours again", func() string {
			return first(d.uses(ours4, o.link4(0), any), d.uses(ours6, o.link6(), any))
		})
	})
}

func TestOursThatRestartsIsAnotherOrigin(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		o, d := pair(t, k, nil, nil)
		meet(t, o, d)
		was := d.routes(d)
		o.kill()
		o.own = own(far, ours4, ours6)
		o.live()
		eventually(t, "the daemon uses the routes of the new life", func() string {
			return first(d.uses(ours4, o.link4(0), is(was[ours4]+far)), d.uses(ours6, o.link6(), is(was[ours6]+far)))
		})
		eventually(t, "ours has the daemon's routes again", func() string {
			return first(o.uses(theirs4, d.link4(0), any), o.uses(theirs6, d.link6(), any))
		})
	})
}
