package babel

import (
	"net/netip"
	"testing"
	"time"

	"tombolo/internal/babel/wire"
)

func TestOnlyWhatThePolicyAllowsIsTaken(t *testing.T) {
	k, host, def := key("10.1.0.0/16"), key("10.200.0.7/32"), key("0.0.0.0/0")
	exact := func(c *Config) {
		c.Accept = Policy{
			Exact:  map[Key][]uint32{k: {1, 2}, def: {1}, {Dst: def.Dst, Src: k.Dst}: {2}, key("10.170.0.0/16"): {me}},
			Within: []netip.Prefix{pfx("10.200.0.0/24"), pfx("fd00:200::/32")},
		}
	}
	only := func(c *Config) { exact(c); c.Links[0].Only = []uint32{1} }
	nothing := func(c *Config) { exact(c); c.Links[0].Only = []uint32{} }
	foreign := func(c *Config) {
		exact(c)
		c.Links[0].Only = []uint32{me}
		c.Links[0].Foreign = []netip.Prefix{pfx("192.168.0.0/16")}
	}
	tests := []struct {
		name   string
		config func(*Config)
		key    Key
		site   byte
		want   bool
	}{
		{"a site's own", exact, k, 1, true},
		{"that of two", exact, k, 2, true},
		{"another's", exact, k, 3, false},
		{"a part of it", exact, key("10.1.1.0/24"), 1, false},
		{"what contains it", exact, key("10.0.0.0/8"), 1, false},
		{"in no file", exact, key("192.168.1.0/24"), 1, false},
		{"the default route of an exit", exact, def, 1, true},
		{"of another", exact, def, 2, false},
		{"for a source", exact, Key{def.Dst, k.Dst}, 2, true},
		{"for another source", exact, Key{def.Dst, pfx("10.2.0.0/16")}, 2, false},
		{"for no source, of the one for a source", exact, def, 2, false},
		{"ours, of another", exact, key("10.170.0.0/16"), 1, false},
		{"ours, of ourselves", exact, key("10.170.0.0/16"), me, false},
		{"within, of anybody", exact, host, 99, true},
		{"within, itself", exact, key("10.200.0.0/24"), 99, true},
		{"more than within", exact, key("10.200.0.0/23"), 99, false},
		{"within, of IPv6", exact, key("fd00:200:1::/64"), 99, true},
		{"leaf: its own", only, k, 1, true},
		{"leaf: another's through it", only, k, 2, false},
		{"leaf: within, another's through it", only, host, 99, false},
		{"leaf of nobody", nothing, k, 1, false},
		{"foreign: in its prefixes", foreign, key("192.168.7.0/24"), 99, true},
		{"foreign: a site's", foreign, k, 1, false},
		{"foreign: default", foreign, def, 1, false},
		{"no policy", func(*Config) {}, key("192.168.1.0/24"), 99, true},
	}
	for _, x := range tests {
		t.Run(x.name, func(t *testing.T) {
			r := newRig(t, x.config, "a")
			a := r.up("a", 1, rtt)
			for range 3 {
				a.announce(x.key, router(x.site), 1, 0)
			}
			if got := r.via(x.key) == "a"; got != x.want {
				t.Errorf("taken: %v", got)
			}
			told := 0
			for _, e := range r.events {
				if e.Kind == Refused {
					told++
					if *e.Key != x.key || e.RouterID != router(x.site) || e.Neighbour != a.address {
						t.Errorf("%+v", e)
					}
				}
			}
			wantTold, wantCounted := 0, uint64(0)
			if !x.want && x.site != me {
				wantTold, wantCounted = 1, 3
			}
			if counted := r.s.View().Refused; told != wantTold || counted != wantCounted {
				t.Errorf("refusals: told %d times, counted %d", told, counted)
			}
			if !x.want && len(r.s.entries) > 0 {
				t.Error("what is refused is remembered")
			}
		})
	}
}

func TestPolicyThatAllowsLessDropsAtOnce(t *testing.T) {
	k := key("10.1.0.0/16")
	r := newRig(t, func(c *Config) { c.Accept.Exact = map[Key][]uint32{k: {1}} }, "a")
	a := r.up("a", 1, rtt)
	a.announce(k, router(1), 1, 0)
	r.want(k, "a")
	c := r.s.config
	c.Accept.Exact = map[Key][]uint32{k: {2}}
	r.take(r.s.Configure(r.now, c))
	r.want(k, "")
}

// A change that is put back: what was dropped meanwhile is asked for at once.
func TestPolicyThatAllowsAgainAsksAgain(t *testing.T) {
	k := key("10.1.0.0/16")
	r := newRig(t, func(c *Config) { c.Accept.Exact = map[Key][]uint32{k: {1}} }, "a")
	a := r.up("a", 1, rtt)
	a.announce(k, router(1), 1, 0)
	r.want(k, "a")
	before, less := r.s.config, r.s.config
	less.Accept.Exact = map[Key][]uint32{}
	r.take(r.s.Configure(r.now, less))
	r.want(k, "")
	a.heard()
	r.take(r.s.Configure(r.now, before))
	r.run(time.Second)
	if n := len(heard[wire.RouteRequest](a)); n != 1 {
		t.Fatalf("%d requests for what was dropped before, want 1", n)
	}
	a.announce(k, router(1), 1, 0)
	r.want(k, "a")
}

func TestRefusedUpdateEndsTheRouteThatWasTaken(t *testing.T) {
	k := key("10.1.0.0/16")
	r := newRig(t, func(c *Config) { c.Accept.Exact = map[Key][]uint32{k: {1}} }, "a")
	a := r.up("a", 1, rtt)
	a.announce(k, router(1), 1, 0)
	a.announce(k, router(2), 1, 0) // it goes there now, and to whom is not allowed
	r.want(k, "")
}

func TestOriginsOfARouteAreBounded(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Accept = Policy{Exact: map[Key][]uint32{}, Within: []netip.Prefix{pfx("10.200.0.0/24")}}
	}, "a", "b")
	a := r.up("a", 1, rtt)
	r.up("b", 2, rtt)
	k := key("10.200.0.1/32")
	for i := range 500 {
		a.announce(k, wire.RouterID{1, 2, 3, 4, 0, 0, byte(i >> 8), byte(i)}, 1, 0)
		r.run(10 * time.Millisecond) // it is passed on
	}
	if n := len(r.s.entries[k].sources); n == 0 || n > maxSources {
		t.Errorf("%d distances", n)
	}
	if told := len(r.s.told); told > maxTold {
		t.Errorf("%d refusals are remembered", told)
	}
}

func TestRequestsThatWaitAreBounded(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	k := key("10.1.0.0/16")
	b.announce(k, router(9), 10, 50)
	r.run(time.Second)
	b.announce(k, router(9), 10, inf)
	for i := range 2 * maxAsked {
		a.send(wire.SeqnoRequest{Prefix: k.Dst, Seqno: 11, HopCount: 9, RouterID: wire.RouterID{1, 2, 3, 4, 5, 6, byte(i >> 8), byte(i)}})
	}
	if n := len(r.s.asked); n > maxAsked {
		t.Errorf("%d", n)
	}
	r.run(20 * time.Second)
	if n := len(r.s.asked); n > 0 {
		t.Errorf("%d are left", n)
	}
}

// On a segment a neighbour may say again what it heard from us. It is not believed, but it
// is no claim of its own either: it is not told, and not counted. What claims to be nearer
// is.
func TestAnEchoIsNoRefusal(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Links[1].Only = []uint32{me} }, "a", "lan")
	a, b := r.up("a", 1, rtt), r.up("lan", 2, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(1), 7, 100)
	r.run(time.Second)
	told := b.told(k)
	b.announce(k, router(1), 7, told+96)
	if n := r.s.View().Refused; n != 0 {
		t.Errorf("%d refusals of what we said ourselves", n)
	}
	if r.via(k) != "a" {
		t.Error("the way is another now")
	}
	b.announce(k, router(1), 7, told-1)
	if n := r.s.View().Refused; n != 1 {
		t.Errorf("%d refusals of one claim", n)
	}
	if r.via(k) != "a" {
		t.Error("the claim is believed")
	}
}
