package agent

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tombolo/internal/health"
	"tombolo/internal/kernel"
	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// office has two uplinks, the second of which is leased.
func office() state.Router {
	r := router("10.0.0.0/24")
	r.Egress = &state.Egress{Protocol: 86, Table: 200, Outer: 503, Source: 542, Delegated: 565, Mark: 0x7f000000, Mask: 0xff000000}
	r.Uplinks = []state.Uplink{
		{Device: "eth1", Addresses: []netip.Prefix{prefix("192.0.2.2/30")}, Gateways: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Weight: 3, Preference: 1, Table: 201, Mark: 0x01000000, Pin: 0x11000000, Check: &state.Check{}},
		{Device: "eth2", DHCP: true, Weight: 1, Preference: 1, Table: 202, Mark: 0x02000000, Pin: 0x12000000},
	}
	return r
}

func eth1() kernel.Device {
	return kernel.Device{Name: "eth1", Up: true, Carrier: true, Addresses: []netip.Prefix{prefix("192.0.2.2/30"), prefix("fe80::2/64")}, Global: []netip.Prefix{prefix("192.0.2.2/30")}}
}

func eth2() kernel.Device {
	return kernel.Device{
		Name: "eth2", Up: true, Carrier: true,
		Global: []netip.Prefix{prefix("198.51.100.9/24"), prefix("2001:db8:2::9/64")},
		Defaults: []kernel.DeviceDefault{
			{Gateway: netip.MustParseAddr("198.51.100.1"), Metric: 100},
			{Gateway: netip.MustParseAddr("fe80::1"), IPv6: true, Src: prefix("2001:db8:22::/56")},
			{Gateway: netip.MustParseAddr("fe80::1"), IPv6: true},
		},
	}
}

// words says a layout, as ip would.
func (l egressLayout) words() string {
	var b strings.Builder
	for _, k := range sortedDefaults(l.defaults) {
		d := l.defaults[k]
		fmt.Fprintf(&b, "table %d six=%t", d.Table, d.IPv6)
		for _, h := range d.Hops {
			fmt.Fprintf(&b, " via %v dev %s onlink=%t weight %d", h.Gateway, h.Device, h.OnLink, h.Weight)
		}
		b.WriteString("\n")
	}
	for _, k := range slices.SortedFunc(maps.Keys(l.routes), compareKeys) {
		fmt.Fprintln(&b, plan.Route{Route: l.routes[k]}.ID())
	}
	for _, r := range slices.SortedFunc(maps.Keys(l.rules), state.CompareRules) {
		fmt.Fprintln(&b, plan.Rule{Rule: r}.ID())
	}
	return b.String()
}

func TestUplinksAreLaidOut(t *testing.T) {
	both := map[string]kernel.Device{"eth1": eth1(), "eth2": eth2()}
	far := eth1()
	far.Global = []netip.Prefix{prefix("192.0.2.77/32")}
	backup := office()
	backup.Uplinks[1].Preference = 2
	for name, c := range map[string]struct {
		r       state.Router
		devices map[string]kernel.Device
		down    map[string]bool
		want    string
	}{
		"both work": {office(), both, nil, `table 200 six=false via 192.0.2.1 dev eth1 onlink=true weight 3 via 198.51.100.1 dev eth2 onlink=true weight 1
table 200 six=true via fe80::1 dev eth2 onlink=false weight 1
`},
		"one is found not to work": {office(), both, map[string]bool{"eth1": true}, `table 200 six=false via 198.51.100.1 dev eth2 onlink=true weight 1
table 200 six=true via fe80::1 dev eth2 onlink=false weight 1
`},
		"all are found not to work": {office(), both, map[string]bool{"eth1": true, "eth2": true}, `table 200 six=false via 192.0.2.1 dev eth1 onlink=true weight 3 via 198.51.100.1 dev eth2 onlink=true weight 1
table 200 six=true via fe80::1 dev eth2 onlink=false weight 1
`},
		"one is preferred":               {backup, both, nil, "table 200 six=false via 192.0.2.1 dev eth1 onlink=true weight 3\ntable 200 six=true via fe80::1 dev eth2 onlink=false weight 1\n"},
		"the preferred one is gone":      {backup, map[string]kernel.Device{"eth2": eth2()}, nil, "table 200 six=false via 198.51.100.1 dev eth2 onlink=true weight 1\ntable 200 six=true via fe80::1 dev eth2 onlink=false weight 1\n"},
		"a gateway outside every subnet": {office(), map[string]kernel.Device{"eth1": far}, nil, "table 200 six=false via 192.0.2.1 dev eth1 onlink=true weight 3\n"},
		"nothing is there":               {office(), nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := layEgress(&c.r, c.devices, nil, c.down)
			for k := range l.defaults {
				if k.table != 200 {
					delete(l.defaults, k)
				}
			}
			l.routes, l.rules = nil, nil
			if d := cmp.Diff(c.want, l.words()); d != "" {
				t.Error(d)
			}
		})
	}
	r := office()
	specifics := allSpecifics(both)
	specifics["eth2"] = append(specifics["eth2"], state.Route{Table: 254, Dst: prefix("10.0.0.0/8"), Metric: 5, Type: state.Unicast, Device: "eth2", Gateway: netip.MustParseAddr("198.51.100.77"), Protocol: 4},
		state.Route{Table: 254, Dst: prefix("10.0.0.0/8"), Metric: 9, Type: state.Unicast, Device: "eth2", Gateway: netip.MustParseAddr("198.51.100.78"), Protocol: 4})
	l := layEgress(&r, both, specifics, map[string]bool{"eth1": true})
	want := `table 200 six=false via 198.51.100.1 dev eth2 onlink=true weight 1
table 200 six=true via fe80::1 dev eth2 onlink=false weight 1
table 201 six=false via 192.0.2.1 dev eth1 onlink=true weight 1
table 202 six=false via 198.51.100.1 dev eth2 onlink=true weight 1
table 202 six=true via fe80::1 dev eth2 onlink=false weight 1
192.0.2.0/30 table 201
10.0.0.0/8 table 202
198.51.100.0/24 table 202
2001:db8:2::/64 table 202
pref 503 from 198.51.100.9/32 fwmark 0x7f000000/0xff000000 lookup 202
-6 pref 503 from 2001:db8:2::9/128 fwmark 0x7f000000/0xff000000 lookup 202
pref 542 from 192.0.2.2/32 lookup 201
pref 542 from 198.51.100.9/32 lookup 202
-6 pref 542 from 2001:db8:2::9/128 lookup 202
-6 pref 565 from 2001:db8:22::/56 lookup 202
`
	if d := cmp.Diff(want, l.words()); d != "" {
		t.Error(d)
	}
	if r := l.routes[state.RouteKey{Table: 202, Dst: prefix("10.0.0.0/8")}]; r.Gateway.String() != "198.51.100.77" || !r.OnLink {
		t.Errorf("main's route is taken over as %v", r)
	}
	if !l.works[false] || !l.works[true] {
		t.Errorf("it works: %v", l.works)
	}
}

// held is what a router in memory holds, in words.
func (f *fakeWays) held() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return egressLayout{defaults: f.defaults, routes: f.routes, rules: f.rules}.words()
}

func TestUplinksAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeWays()
		f.devices["eth1"], f.devices["eth2"] = eth1(), eth2()
		var m Machine
		f.into(&m)
		h := newHub(quietLog())
		e := newEgress(&m, h, newProblems(h))
		told := 0
		e.changed = func() { told++ }
		events, end := h.subscribe()
		defer end()
		go e.run(t.Context())
		r := office()
		e.follow(Wanted{Router: r})
		synctest.Wait()
		wanted := func(what string, devices map[string]kernel.Device, down map[string]bool) {
			t.Helper()
			synctest.Wait()
			if d := cmp.Diff(layEgress(&r, devices, allSpecifics(devices), down).words(), f.held()); d != "" {
				t.Errorf("%s (-wanted +held):\n%s", what, d)
			}
		}
		wanted("at first", map[string]kernel.Device{"eth1": eth1(), "eth2": eth2()}, nil)
		if told != 1 || !e.leads(false) || !e.leads(true) {
			t.Errorf("told %d times that it leads somewhere: %v", told, e.works)
		}

		f.reports["eth1"](health.Status{})
		wanted("eth1 does not answer", map[string]kernel.Device{"eth1": eth1(), "eth2": eth2()}, map[string]bool{"eth1": true})
		if !slices.Equal(f.forgot, []uint32{0x11000000}) {
			t.Errorf("forgot the flows of %#x, want those that left by eth1", f.forgot)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !slices.Equal(f.answers, []uint8{0x11, 0x11}) {
			t.Errorf("forgot answers to %#x, want twice to those", f.answers)
		}

		moved := eth2()
		moved.Global = []netip.Prefix{prefix("203.0.113.7/24")}
		moved.Defaults = []kernel.DeviceDefault{{Gateway: netip.MustParseAddr("203.0.113.1")}}
		f.set(moved)
		// IPv6 is gone: that must last, as with a renewed lease it does not.
		wanted("while it may come back", map[string]kernel.Device{"eth1": eth1(), "eth2": eth2()}, map[string]bool{"eth1": true})
		time.Sleep(2 * absent)
		wanted("another lease", map[string]kernel.Device{"eth1": eth1(), "eth2": moved}, map[string]bool{"eth1": true})
		if e.leads(true) || told != 2 {
			t.Errorf("IPv6 is gone: told %d times", told)
		}

		f.reports["eth1"](health.Status{Up: true})
		wanted("eth1 answers", map[string]kernel.Device{"eth1": eth1(), "eth2": moved}, nil)
		u := e.uplink(deviceOf("eth1", sight{devices: map[string]kernel.Device{"eth1": eth1()}}))
		if !u.Works || !u.Carries || !u.Checked {
			t.Errorf("eth1 is %+v", u)
		}

		// While none works, flows leave by all of them. They are to follow the first that comes back.
		f.reports["eth1"](health.Status{})
		gone := moved
		gone.Carrier = false
		f.set(gone)
		synctest.Wait()
		f.forgot = nil
		f.set(moved)
		wanted("eth2 comes back alone", map[string]kernel.Device{"eth1": eth1(), "eth2": moved}, map[string]bool{"eth1": true})
		if !slices.Equal(f.forgot, []uint32{0x11000000}) {
			t.Errorf("forgot the flows of %#x, want those that left by eth1", f.forgot)
		}
		f.reports["eth1"](health.Status{Up: true})

		// Somebody flushes a table.
		f.mu.Lock()
		clear(f.defaults)
		clear(f.rules)
		f.mu.Unlock()
		f.meddle(func(*state.Router) {}, kernel.Change{All: true})
		wanted("after a flush", map[string]kernel.Device{"eth1": eth1(), "eth2": moved}, nil)

		if err := e.retire(t.Context()); err != nil {
			t.Fatal(err)
		}
		if held := f.held(); held != "" {
			t.Errorf("left behind:\n%s", held)
		}
		var kinds []string
		for len(events) > 0 {
			kinds = append(kinds, (<-events).Text)
		}
		want := []string{
			"eth1 works", "eth2 works", "eth1 does not work", "eth1 works",
			"eth1 does not work", "eth2 does not work", "eth2 works", "eth1 works",
		}
		if d := cmp.Diff(want, kinds); d != "" {
			t.Error(d)
		}
	})
}

// A hop that the kernel refuses is left out of what all uplinks share, and put there once it
// is taken; where it is the only one there is no such route meanwhile, and no harm.
func TestARefusedUplinkIsLeftOut(t *testing.T) {
	both := map[string]kernel.Device{"eth1": eth1(), "eth2": eth2()}
	first := map[string]kernel.Device{"eth1": eth1()}
	for name, c := range map[string]struct {
		devices map[string]kernel.Device
		refuses string
		want    []kernel.Hop
	}{
		"the first of two": {both, "eth1", []kernel.Hop{{Device: "eth2", Gateway: netip.MustParseAddr("198.51.100.1"), OnLink: true, Weight: 1}}},
		"the second":       {both, "eth2", []kernel.Hop{{Device: "eth1", Gateway: netip.MustParseAddr("192.0.2.1"), OnLink: true, Weight: 3}}},
		"the only one":     {first, "eth1", nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeWays()
				f.devices, f.refuses = c.devices, c.refuses
				var m Machine
				f.into(&m)
				h := newHub(quietLog())
				e := newEgress(&m, h, newProblems(h))
				e.changed = func() {}
				go e.run(t.Context())
				r := office()
				e.follow(Wanted{Router: r})
				synctest.Wait()
				f.mu.Lock()
				shared := f.defaults[defaultKey{r.Egress.Table, false}].Hops
				f.refuses = ""
				f.mu.Unlock()
				if !slices.Equal(shared, c.want) {
					t.Errorf("what all share has the hops %v, want %v", shared, c.want)
				}
				time.Sleep(2 * egressLook)
				synctest.Wait()
				if d := cmp.Diff(layEgress(&r, c.devices, allSpecifics(c.devices), nil).words(), f.held()); d != "" {
					t.Errorf("once it is taken (-wanted +held):\n%s", d)
				}
			})
		})
	}
}
