package interop

import (
	"fmt"
	"net/netip"
	"testing"

	"tombolo/internal/babel"
)

// many returns a thousand keys of a router, half of each family.
func many(router byte) []babel.Key {
	var keys []babel.Key
	for i := range 500 {
		keys = append(keys,
			babel.Key{Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, router, byte(i / 256), byte(i)}), 32)},
			key(fmt.Sprintf("2001:db8:%d:%x::/64", router, i)))
	}
	return keys
}

func TestThousandRoutesEachWay(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		o, d := pair(t, k, nil, nil)
		ours, theirs := many(1), many(2)
		o.own = own(near, ours...)
		d.announce(near, theirs...)
		o.live()
		d.live()
		eventually(t, "both have a thousand", func() string {
			return first(o.usesAll(theirs), d.usesAll(ours))
		})
		o.announce(own(near, ours[:500]...)...)
		eventually(t, "half of ours are retracted", func() string {
			return first(d.lacksAll(ours[500:]), d.usesAll(ours[:500]))
		})
		o.announce(own(near, ours...)...)
		eventually(t, "they come back", func() string { return d.usesAll(ours) })
		if k.name() == "babeld" {
			return // it does not say that they are gone (mended in 1.12.2)
		}
		d.announce(near, theirs[:500]...)
		eventually(t, "half of the daemon's are retracted", func() string {
			for _, k := range theirs[500:] {
				if wrong := o.lacks(k); wrong != "" {
					return wrong
				}
			}
			return o.usesAll(theirs[:500])
		})
	})
}
