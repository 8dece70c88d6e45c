package interop

import (
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"tombolo/internal/babel"
	"tombolo/internal/babel/mac"
)

func TestSourceSpecificRoutes(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		o, d := pair(t, k, nil, nil)
		d.sadr = true
		ours, theirs := key("2001:db8:1::/48 from 2001:db8:aa00::/40"), key("2001:db8:2::/48 from 2001:db8:bb00::/56")
		ourDefault, theirDefault := key("::/0 from 2001:db8:2::/48"), key("::/0 from 2001:db8:1::/48")
		o.own = own(near, ours, ours6, ourDefault)
		d.announce(near, theirs, theirs6, theirDefault)
		o.live()
		d.live()
		eventually(t, "they learn each other's routes with a source", func() string {
			return first(o.uses(theirs, d.link6(), is[uint16](near)), o.uses(theirDefault, d.link6(), is[uint16](near)),
				d.uses(ours, o.link6(), any), d.uses(ourDefault, o.link6(), any),
				o.uses(theirs6, d.link6(), is[uint16](near)), d.uses(ours6, o.link6(), any)) // that have none
		})
		o.announce(own(near, ours6, ourDefault)...)
		eventually(t, "ours retracts one of them", func() string { return d.lacks(ours) })
		if wrong := first(d.uses(ourDefault, o.link6(), any), d.uses(ours6, o.link6(), any)); wrong != "" {
			t.Error(wrong)
		}
		if k.name() == "babeld" {
			return // it does not say that it is gone (mended in 1.12.2)
		}
		d.announce(near, theirs6, theirDefault)
		eventually(t, "the daemon retracts one of them", func() string { return o.lacks(theirs) })
	})
}

// BIRD 2.0 does not know IPv4 routes with an IPv6 next hop.
func TestIPv4ViaIPv6(t *testing.T) {
	t.Parallel()
	o, d := newOurs(t, 1), newDaemon(t, babeld{}, 2)
	join(o.node, d.node, 0, true)
	o.speak(0, func(l *babel.Link) { l.NextHop4 = netip.Addr{} })
	o.captures[0].via6 = true
	d.speak(0, func(l *daemonLink) { l.via6 = true })
	o.own = own(near, ours4, ours6)
	d.announce(near, theirs4, theirs6)
	o.live()
	d.live()
	both := func() string {
		return first(o.uses(theirs4, d.link6(), is[uint16](near)), d.uses(ours4, o.link6(), any),
			o.uses(theirs6, d.link6(), is[uint16](near)), d.uses(ours6, o.link6(), any))
	}
	eventually(t, "they learn each other's IPv4 routes where nobody has an IPv4 address", both)
	o.announce(own(near, ours6)...)
	eventually(t, "ours retracts one", func() string { return d.lacks(ours4) })
	o.announce(own(near, ours4, ours6)...)
	eventually(t, "it comes back", both)
}

// A route with a source that were taken for one without would draw everybody's packets, and
// BIRD has never heard of IPv6 next hops. What they do not know must cost nothing else.
func TestWhatADaemonDoesNotKnowItLeavesOut(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		isBIRD := k.name() == "BIRD"
		o, d := pair(t, k, func(l *babel.Link) {
			if isBIRD {
				l.NextHop4 = netip.Addr{}
			}
		}, nil)
		o.captures[0].via6 = isBIRD
		specific4, specific6 := key("10.1.2.0/24 from 10.9.0.0/16"), key("2001:db8:1:2::/64 from 2001:db8:aa00::/40")
		o.own = own(near, ours4, specific4, ours6)
		if isBIRD { // without a table for them
			o.own = own(near, ours4, specific4, specific6, ours6)
		}
		d.announce(near, theirs4, theirs6)
		o.live()
		d.live()
		with := func() string {
			if !isBIRD {
				if wrong := d.uses(ours4, o.link4(0), any); wrong != "" {
					return wrong
				}
			}
			return first(d.uses(ours6, o.link6(), any), o.uses(theirs4, d.link4(0), any), o.uses(theirs6, d.link6(), any))
		}
		without := func() string {
			if isBIRD {
				if wrong := d.lacks(ours4); wrong != "" {
					return wrong
				}
			}
			return first(d.lacks(babel.Key{Dst: specific4.Dst}), d.lacks(babel.Key{Dst: specific6.Dst}))
		}
		eventually(t, "they learn what they know", with)
		steadily(t, "and nothing else", func() string { return first(without(), with()) })
	})
}

func keyed(algorithm, password string) (func(*babel.Link), func(*daemonLink)) {
	return func(l *babel.Link) {
			l.Keys = mac.Keys{{Algorithm: mac.Algorithm(algorithm), Secret: []byte(password)}}
		}, func(l *daemonLink) {
			l.keyed, l.password = algorithm, password
		}
}

// Of 32 bytes, which both algorithms take.
const right, wrong = "an open secret of thirty-two byte", "another such, of thirty-two bytes"

func TestAuthentication(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		for _, algorithm := range []string{"hmac-sha256", "blake2s128"} {
			t.Run(algorithm, func(t *testing.T) {
				t.Parallel()
				changeOurs, changeTheirs := keyed(algorithm, right[:32])
				o, d := pair(t, k, changeOurs, changeTheirs)
				meet(t, o, d)
				if n := o.view().Unsigned; n > 20 {
					t.Errorf("%d packets of who has the key were refused", n)
				}
				d.kill()
				d.live()
				met(t, o, d) // after a challenge, as at first
				o.kill()
				o.live()
				met(t, o, d)
			})
		}
	})
}

func TestNobodyTakesWhatIsSignedWithAnotherKey(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		for _, algorithm := range []string{"hmac-sha256", "blake2s128", "none"} {
			t.Run(algorithm, func(t *testing.T) {
				t.Parallel()
				changeOurs, _ := keyed("hmac-sha256", right[:32])
				_, changeTheirs := keyed(algorithm, wrong[:32])
				if algorithm != "none" {
					changeOurs, _ = keyed(algorithm, right[:32])
				} else {
					changeTheirs = nil
				}
				o, d := pair(t, k, changeOurs, changeTheirs)
				o.own = own(near, ours4, ours6)
				d.announce(near, theirs4, theirs6)
				o.live()
				d.live()
				eventually(t, "ours hears the daemon", func() string {
					if n := o.view().Unsigned; n < 20 {
						return fmt.Sprintf("it refused %d packets", n)
					}
					return ""
				})
				steadily(t, "nobody believes the other", func() string {
					if n := o.view().Neighbours; len(n) > 0 {
						return fmt.Sprintf("ours has a neighbour: %+v", n)
					}
					return first(o.loses(theirs4), o.loses(theirs6), d.lacks(ours4), d.lacks(ours6))
				})
			})
		}
	})
}

// BIRD 2.0 tells no times.
func TestDelayIsMeasuredByBoth(t *testing.T) {
	t.Parallel()
	o, d := newOurs(t, 1), newDaemon(t, babeld{}, 2)
	const oneWay, rtt = 15 * time.Millisecond, 30 * time.Millisecond
	joinSlowly(o.node, d.node, 0, oneWay)
	o.speak(0, nil)
	d.speak(0, func(l *daemonLink) { l.stamps, l.tunnel = true, true })
	meet(t, o, d)
	plausible := func(got time.Duration) bool { return got > rtt-5*time.Millisecond && got < rtt*4 }
	eventually(t, "both measure the round trip", func() string {
		if n := o.neighbour(d.link6()); !plausible(n.RTT) || !plausible(n.LastRTT) || n.Cost < uint16(rtt/(100*time.Microsecond)) {
			return fmt.Sprintf("ours says %v, lately %v, and that it costs %d", n.RTT, n.LastRTT, n.Cost)
		}
		lines := d.neighbours(d)
		if len(lines) != 1 {
			return fmt.Sprintf("babeld has %q", lines)
		}
		ms, err := strconv.ParseFloat(fields(lines[0], "neighbour")["rtt"], 64)
		if err != nil || !plausible(time.Duration(ms*float64(time.Millisecond))) {
			return fmt.Sprintf("babeld says %q", lines)
		}
		return ""
	})
}
