package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// changes returns the operations that turn one list of routes into the other of the same
// keys.
func changes(from, to []state.Route) (ops []plan.Op) {
	for i := range from {
		ops = append(ops, plan.Op{Verb: plan.Change, Before: plan.Route{Route: from[i]}, Object: plan.Route{Route: to[i]}})
	}
	return ops
}

func adds(routes []state.Route) (ops []plan.Op) {
	for _, r := range routes {
		ops = append(ops, plan.Op{Verb: plan.Add, Object: plan.Route{Route: r}})
	}
	return ops
}

// lookup asks which way a packet goes: the device's index, or the error with which it is
// refused.
func lookup(s *socket, to, from netip.Addr) (index int, err error) {
	var w writer
	h := make([]byte, unix.SizeofRtMsg)
	h[0], h[1] = family(to.Is6()), uint8(to.BitLen())
	if from.IsValid() {
		h[2] = uint8(from.BitLen())
	}
	w.begin(unix.RTM_GETROUTE, 0, h)
	w.addr(unix.RTA_DST, to)
	if from.IsValid() {
		w.addr(unix.RTA_SRC, from)
	}
	b, err := s.query(&w)
	if err != nil {
		return 0, err
	}
	kind := b[7]
	attributes(b[unix.SizeofRtMsg:], func(k uint16, v []byte) {
		if k == unix.RTA_OIF {
			index = int(number(v))
		}
	})
	switch kind { // IPv6 answers with the route that refuses
	case unix.RTN_UNREACHABLE:
		return 0, unix.EHOSTUNREACH
	case unix.RTN_PROHIBIT:
		return 0, unix.EACCES
	}
	return index, nil
}

// moves are the ways that a learned route may be changed. Each must never leave a moment
// in which there is none: behind it stands a route that refuses in another way.
func moves() map[string][2]state.Route {
	base4 := state.Route{Table: 110, Dst: prefixOf("10.8.0.0/24"), Type: state.Unicast, Protocol: 84}
	base6 := state.Route{Table: 110, Dst: prefixOf("fd08::/64"), Type: state.Unicast, Protocol: 84}
	with := func(r state.Route, change func(*state.Route)) state.Route { change(&r); return r }
	device := func(name string) func(*state.Route) { return func(r *state.Route) { r.Device = name } }
	via := func(name, gateway string) func(*state.Route) {
		return func(r *state.Route) { r.Device, r.Gateway, r.OnLink = name, addrOf(gateway), true }
	}
	nowhere := func(r *state.Route) { r.Type = state.Unreachable }
	from6 := with(base6, func(r *state.Route) { r.Src = prefixOf("fd09::/64") })
	default6 := with(base6, func(r *state.Route) { r.Dst, r.Src = prefixOf("::/0"), prefixOf("fd09::/64") })
	return map[string][2]state.Route{
		"IPv4 between devices":                     {with(base4, device("v0")), with(base4, device("v1"))},
		"IPv4 between gateways":                    {with(base4, via("v0", "10.0.0.7")), with(base4, via("v1", "10.0.0.8"))},
		"IPv4 between IPv6 gateways":               {with(base4, via("v0", "fe80::7")), with(base4, via("v1", "fe80::8"))},
		"IPv4 from IPv4 to IPv6 gateway":           {with(base4, via("v0", "10.0.0.7")), with(base4, via("v1", "fe80::8"))},
		"IPv4 unreachable and device":              {with(base4, nowhere), with(base4, device("v1"))},
		"IPv4 unreachable and IPv6 gateway":        {with(base4, nowhere), with(base4, via("v1", "fe80::8"))},
		"IPv6 between devices":                     {with(base6, device("v0")), with(base6, device("v1"))},
		"IPv6 between gateways":                    {with(base6, via("v0", "fe80::7")), with(base6, via("v1", "fe80::8"))},
		"IPv6 from device to gateway":              {with(base6, device("v0")), with(base6, via("v1", "fe80::8"))},
		"IPv6 unreachable and device":              {with(base6, nowhere), with(base6, device("v1"))},
		"IPv6 unreachable and gateway":             {with(base6, nowhere), with(base6, via("v1", "fe80::8"))},
		"IPv6 source-specific between devices":     {with(from6, device("v0")), with(from6, device("v1"))},
		"IPv6 source-specific between gateways":    {with(from6, via("v0", "fe80::7")), with(from6, via("v1", "fe80::8"))},
		"IPv6 source-specific unreachable":         {with(from6, nowhere), with(from6, via("v1", "fe80::8"))},
		"IPv6 source-specific default":             {with(default6, device("v0")), with(default6, via("v1", "fe80::8"))},
		"IPv6 source-specific default unreachable": {with(default6, nowhere), with(default6, device("v1"))},
	}
}

func removals(routes []state.Route) (ops []plan.Op) {
	for _, r := range routes {
		ops = append(ops, plan.Op{Verb: plan.Remove, Before: plan.Route{Route: r}})
	}
	return ops
}

// missed returns how many lookups in a loop found no route while it was changed.
func missed(t *testing.T, look, change func() error) (lost int) {
	t.Helper()
	stop := make(chan struct{})
	looked := 0
	var looking sync.WaitGroup
	looking.Go(func() { // the socket is in the namespace, wherever this runs
		for {
			select {
			case <-stop:
				return
			default:
			}
			if look() != nil {
				lost++
			}
			looked++
		}
	})
	for range changed / 2 {
		if err := change(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	looking.Wait()
	if looked < 100 {
		t.Errorf("there were only %d lookups: that proves nothing", looked)
	}
	return lost
}

// changed is how often a route is changed under the lookups.
const changed = 1000

// While a route is changed packets find it: the old or the new one. The kernel itself
// lets a lookup fail that has found the old one and is not yet done when it is released
// (net/ipv4/fib_trie.c skips a fib_dead; net/ipv6/route.c, fib6_info_hold_safe): of lookups
// in a loop at most twenty for a thousand changes, where removing the old one and adding the
// new one costs thousands. A packet in a millisecond hardly ever meets that.
func TestChangedRouteIsNotMissing(t *testing.T) {
	for name, pair := range moves() {
		t.Run(name, func(t *testing.T) {
			namespace(t)
			veth(t)
			sh(t, `ip address add fd09::1/64 dev v0 nodad
				ip rule add pref 100 lookup 110; ip -6 rule add pref 100 lookup 110
				ip route add prohibit default table 110; ip -6 route add prohibit default table 110 metric 9999`)
			k := open(t)
			ctx := context.Background()
			if err := k.Apply(ctx, adds(pair[:1])); err != nil {
				t.Fatal(err)
			}
			s, err := openSocket(unix.NETLINK_ROUTE)
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			to, from := addrOf("10.8.0.9"), netip.Addr{}
			if pair[0].Dst.Addr().Is6() {
				to = addrOf("fd08::9")
			}
			if pair[0].Src.IsValid() {
				from = addrOf("fd09::1")
			}
			devices := map[int]bool{}
			for _, r := range pair {
				if r.Device != "" {
					l, err := k.findLink(r.Device)
					if err != nil {
						t.Fatal(err)
					}
					devices[l.index] = true
				}
			}
			look := func() error {
				index, err := lookup(s, to, from)
				if err == nil && !devices[index] {
					err = fmt.Errorf("it goes by device %d", index)
				}
				if pair[0].Type == state.Unreachable && errors.Is(err, unix.EHOSTUNREACH) {
					return nil
				}
				return err
			}
			there, back := changes(pair[:1], pair[1:]), changes(pair[1:], pair[:1])
			lost := missed(t, look, func() error { return errors.Join(k.Apply(ctx, there), k.Apply(ctx, back)) })
			// The same by other means, on this machine in this minute.
			control := missed(t, look, func() error {
				return errors.Join(k.Apply(ctx, removals(pair[:1])), k.Apply(ctx, adds(pair[1:])),
					k.Apply(ctx, removals(pair[1:])), k.Apply(ctx, adds(pair[:1])))
			})
			if lost > control/20 {
				t.Errorf("while it was changed %d times %d lookups found no route, and %d where it was removed and added", changed, lost, control)
			}
			err = k.Apply(ctx, there)
			index, lookupErr := lookup(s, to, from)
			if err = errors.Join(err, lookupErr, k.Apply(ctx, back)); err != nil || !devices[index] {
				t.Errorf("afterwards it is changed to device %d: %v", index, err)
			}
			// Neither is left behind.
			routes, err := k.Routes(ctx, []uint32{110}, 84)
			if err != nil || !slices.Equal(routes, pair[:1]) {
				t.Errorf("in the end there is %v, %v", routes, err)
			}
		})
	}
}

// thousand returns as many routes of both families, by a device or, without, nowhere.
func thousand(device string) (routes []state.Route) {
	for i := range 1000 {
		dst := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 100, byte(i >> 8), byte(i)}), 32)
		if i%2 == 1 {
			dst = prefixOf(fmt.Sprintf("fd08::%x/128", i))
		}
		r := state.Route{Table: 110, Dst: dst, Type: state.Unicast, Device: device, Protocol: 84}
		if device == "" {
			r.Type = state.Unreachable
		}
		routes = append(routes, r)
	}
	slices.SortFunc(routes, state.CompareRoutes)
	return routes
}

func TestThousandRoutesChangeAtOnce(t *testing.T) {
	namespace(t)
	veth(t)
	k := open(t)
	ctx := context.Background()
	if err := k.Apply(ctx, adds(thousand("v0"))); err != nil {
		t.Fatal(err)
	}
	for _, step := range [][2]string{{"v0", "v1"}, {"v1", ""}, {"", "v0"}} {
		want := thousand(step[1])
		start := time.Now()
		if err := k.Apply(ctx, changes(thousand(step[0]), want)); err != nil {
			t.Fatal(err)
		}
		t.Logf("from %q to %q in %v", step[0], step[1], time.Since(start))
		got, err := k.Routes(ctx, []uint32{110}, 84)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("from %q to %q: %d routes, %v", step[0], step[1], len(got), err)
		}
	}
	if left := sh(t, "ip route show table 110; ip -6 route show table 110"); strings.Count(left, "\n") != 1000 {
		t.Errorf("there are %d routes", strings.Count(left, "\n"))
	}
}

// BenchmarkChange1kRoutes is what a link that dies under a thousand routes costs.
func BenchmarkChange1kRoutes(b *testing.B) {
	namespace(b)
	veth(b)
	k := open(b)
	ctx := context.Background()
	ways := [2][]state.Route{thousand("v0"), thousand("v1")}
	if err := k.Apply(ctx, adds(ways[0])); err != nil {
		b.Fatal(err)
	}
	ops := [2][]plan.Op{changes(ways[0], ways[1]), changes(ways[1], ways[0])}
	for i := 0; b.Loop(); i++ {
		if err := k.Apply(ctx, ops[i%2]); err != nil {
			b.Fatal(err)
		}
	}
}
