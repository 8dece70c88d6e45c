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

	"tombolo/internal/babel"
	"tombolo/internal/kernel"
	"tombolo/internal/state"
)

// exitTables are those of two sources of IPv4, one in the other, and of one of IPv6.
func exitTables() []state.ExitTable {
	return []state.ExitTable{
		{Src: prefix("10.1.0.0/16"), Table: 2110}, {Src: prefix("10.1.0.0/24"), Table: 2111}, {Src: prefix("fd01::/48"), Table: 2112},
	}
}

// lies checks the learned routes with their tables: "2110 0.0.0.0/0 wg-b".
func (b *tableBench) lies(want ...string) {
	b.Helper()
	routes, err := b.kernel.Routes(b.Context(), nil, learned)
	if err != nil {
		b.Fatal(err)
	}
	var got []string
	for _, r := range routes {
		text := fmt.Sprintf("%d %s %s", r.Table, r.Dst, r.Device)
		if r.Src.IsValid() {
			text += " from " + r.Src.String()
		}
		got = append(got, text)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		b.Errorf("there are %q, want %q", got, want)
	}
}

func TestDefaultsOfExitsHaveTheirTables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startTable(t)
		time.Sleep(settleTime + time.Second)
		b.lead(exitTables())
		b.change(from("10.1.0.0/24", by("0.0.0.0/0", "wg-b")), from("fd01::/48", by("::/0", "wg-b")))
		b.lies("2111 0.0.0.0/0 wg-b", "2112 ::/0 wg-b")
		b.ruled()
		routes, _ := b.kernel.Routes(t.Context(), nil, learned)
		for _, r := range routes {
			want := state.Route{Table: r.Table, Dst: r.Dst, Type: state.Unicast, Device: "wg-b", Metric: learnedMetric, Protocol: learned, PrefSrc: b.config.PrefSrc4}
			if r.Dst.Addr().Is6() {
				want.PrefSrc = b.config.PrefSrc6
			}
			if r != want {
				t.Errorf("%+v, want %+v", r, want)
			}
		}
		if n, by := b.routes(); n != 2 || by["wg-b"] != 2 {
			t.Errorf("it counts %d routes, %v", n, by)
		}
		// Prefixes for an exit's source lie where others' do, and so do other sources, each
		// before the exits' around it.
		b.change(from("10.1.0.0/24", by("10.2.0.0/16", "wg-b")), from("10.1.0.0/28", by("0.0.0.0/0", "br-lan")),
			from("fd01::/64", by("::/0", "br-lan")), from("fd01::/48", by("fd07::/64", "wg-b")))
		b.lies("110 ::/0 br-lan from fd01::/64", "110 fd07::/64 wg-b from fd01::/48", "130 10.2.0.0/16 wg-b", "131 0.0.0.0/0 br-lan",
			"2111 0.0.0.0/0 wg-b", "2112 ::/0 wg-b")
		b.ruled("518 10.1.0.0/24 130", "556 10.1.0.0/28 131", "558 fd01::/64 110")
		// One that moves is one replaced route.
		before := len(b.kernel.Commands())
		b.change(from("10.1.0.0/24", by("0.0.0.0/0", "br-lan")))
		if got := b.kernel.Commands()[before:]; len(got) != 1 || !strings.HasPrefix(got[0], "ip route replace default ") && !strings.HasPrefix(got[0], "ip route replace 0.0.0.0/0 ") {
			t.Errorf("it did %q", got)
		}
		// Another program takes one away.
		b.kernel.meddle(func(r *state.Router) {
			r.Routes = slices.DeleteFunc(r.Routes, func(x state.Route) bool { return x.Table == 2112 })
		}, kernel.Change{Routes: []kernel.RouteSource{{Table: 2112, Protocol: learned}}})
		synctest.Wait()
		b.change(from("10.1.0.0/24", gone("10.2.0.0/16")), from("10.1.0.0/28", gone("0.0.0.0/0")), from("fd01::/64", gone("::/0")), from("fd01::/48", gone("fd07::/64")))
		b.lies("2111 0.0.0.0/0 br-lan", "2112 ::/0 wg-b")
		b.ruled()
		b.change(from("10.1.0.0/24", gone("0.0.0.0/0")), from("fd01::/48", gone("::/0")))
		b.lies()
	})
}

// A successor finds what is there, changes nothing that is right, hands it to its speaker, and
// keeps the rest for a while.
func TestTablesOfExitsAreTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startTable(t)
		b.lead(exitTables())
		b.change(from("10.1.0.0/16", by("0.0.0.0/0", "wg-b")), from("10.1.0.0/24", by("0.0.0.0/0", "wg-b")), from("fd01::/48", by("::/0", "wg-b")))
		r, _ := b.kernel.Kernel.Read(t.Context(), state.Router{})
		stray := r.Routes[0]
		stray.Dst = prefix("10.66.0.0/16")
		compiled := state.Route{Table: 2110, Dst: prefix("0.0.0.0/0"), Type: state.Unreachable, Metric: 1<<32 - 1, Protocol: owner().Protocol}
		next := startTableWith(t, func(c *state.Babel) { c.Exits = exitTables() }, append(r.Routes, stray, compiled)...)
		got := map[babel.Key]string{}
		for _, c := range next.inherit(t.Context()) {
			got[c.Key] = c.Hop.Link
		}
		want := map[babel.Key]string{}
		for _, e := range exitTables() {
			want[babel.Key{Dst: netip.PrefixFrom(unspecified(e.Src), 0), Src: e.Src}] = "wg-b"
		}
		if !maps.Equal(got, want) {
			t.Errorf("it inherits %v, want %v", got, want)
		}
		next.change(from("10.1.0.0/16", by("0.0.0.0/0", "wg-b")), from("fd01::/48", by("::/0", "wg-b")), from("fd01::/48", gone("::/0")))
		next.lies("2110 0.0.0.0/0 wg-b", "2110 10.66.0.0/16 wg-b", "2111 0.0.0.0/0 wg-b")
		if n := next.kernel.batches.Load(); n != 1 {
			t.Errorf("it took %d batches", n)
		}
		time.Sleep(settleTime + time.Second)
		next.lies("2110 0.0.0.0/0 wg-b")
		r, _ = next.kernel.Kernel.Read(t.Context(), state.Router{})
		if !slices.Contains(r.Routes, compiled) {
			t.Error("what is compiled was taken away")
		}
	})
}

func unspecified(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// A new file names other exits: what is learned moves, and no table is empty in between that
// leads somewhere before and after.
func TestRoutesMoveWithTheTablesOfExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startTable(t)
		time.Sleep(settleTime + time.Second)
		inner, six := from("10.1.0.0/24", by("0.0.0.0/0", "wg-b")), from("fd01::/48", by("::/0", "wg-b"))
		outer := from("10.1.0.0/16", by("0.0.0.0/0", "br-lan"))
		b.change(inner, outer, six)
		b.lies("110 ::/0 wg-b from fd01::/48", "130 0.0.0.0/0 br-lan", "131 0.0.0.0/0 wg-b")
		b.ruled("558 10.1.0.0/24 131", "560 10.1.0.0/16 130", "560 fd01::/48 110")
		steps := []struct {
			name  string
			exits []state.ExitTable
			lies  []string
			ruled []string
		}{
			{"they become exits", exitTables(), []string{"2110 0.0.0.0/0 br-lan", "2111 0.0.0.0/0 wg-b", "2112 ::/0 wg-b"}, nil},
			{"one comes before them", []state.ExitTable{
				{Src: prefix("10.0.0.0/16"), Table: 2110}, {Src: prefix("10.1.0.0/16"), Table: 2111},
				{Src: prefix("10.1.0.0/24"), Table: 2112}, {Src: prefix("fd01::/48"), Table: 2113},
			}, []string{"2111 0.0.0.0/0 br-lan", "2112 0.0.0.0/0 wg-b", "2113 ::/0 wg-b"}, nil},
			{"one is none any more", exitTables()[1:2], []string{"110 ::/0 wg-b from fd01::/48", "130 0.0.0.0/0 br-lan", "2111 0.0.0.0/0 wg-b"},
				[]string{"560 10.1.0.0/16 130", "560 fd01::/48 110"}},
			{"there are none", nil, []string{"110 ::/0 wg-b from fd01::/48", "130 0.0.0.0/0 br-lan", "131 0.0.0.0/0 wg-b"},
				[]string{"558 10.1.0.0/24 131", "560 10.1.0.0/16 130", "560 fd01::/48 110"}},
		}
		for _, s := range steps {
			before := len(b.kernel.Commands())
			b.lead(s.exits)
			synctest.Wait()
			b.lies(s.lies...)
			b.ruled(s.ruled...)
			removing := false
			for _, c := range b.kernel.Commands()[before:] {
				removes := strings.Contains(c, " del ")
				if removing && !removes {
					t.Errorf("%s: something is added after something was removed: %q", s.name, b.kernel.Commands()[before:])
				}
				removing = removing || removes
			}
			b.lead(s.exits)
			synctest.Wait()
		}
		// What an earlier agent left in a table that was nobody's is seen when it is somebody's.
		stray := old("0.0.0.0/0")
		stray.Table = 2110
		b.kernel.Meddle(func(r *state.Router) { r.Routes = append(r.Routes, stray) })
		b.lead(exitTables())
		synctest.Wait()
		b.lies("2110 0.0.0.0/0 br-lan", "2111 0.0.0.0/0 wg-b", "2112 ::/0 wg-b")
	})
}

// An exit is announced with its rank while an uplink works, and others may announce it too.
func TestAnExitIsAnnouncedWhileAnUplinkWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := office()
		r.Uplinks = r.Uplinks[:1]
		r.Babel = new(babelConfig())
		lan := prefix("10.1.0.0/24")
		r.Babel.Announce = []state.Announcement{{Dst: prefix("0.0.0.0/0"), Src: lan, Metric: 4096, While: state.Works}}
		r.Babel.Accept = []state.Accept{{Dst: prefix("0.0.0.0/0"), Src: lan, Origins: []uint32{7}}}
		b := start(t, &Wanted{Router: r}, nil)
		defer func() { _ = b.stop() }()
		time.Sleep(time.Second)
		h := b.agent.routing.host()
		v, _, _, err := h.view(t.Context())
		want := babel.Announcement{Key: babel.Key{Dst: prefix("0.0.0.0/0"), Src: lan}, Metric: 4096}
		if err != nil || !slices.Equal(v.Announced, []babel.Announcement{want}) {
			t.Errorf("it announces %v, %v", v.Announced, err)
		}
		if got := h.config.Accept.Exact[want.Key]; !slices.Equal(got, []uint32{7}) {
			t.Errorf("it is taken from %v", got)
		}
	})
}

// Other exits in the file are no reason to begin anew.
func TestOtherExitsAreTakenOverWhileItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := machine(nil, newFakeKernel(state.Router{Version: state.Version, Owner: owner()}), nil, newFakeSocket())
		hub := newHub(quietLog())
		r := newRouting(&m, hub, newProblems(hub), time.Now())
		w := Wanted{Router: router("10.0.0.0/8")}
		w.Router.Babel = new(babelConfig())
		r.follow(t.Context(), w)
		first, h := r.table, r.host()
		next := w
		next.Router.Babel = new(babelConfig())
		next.Router.Babel.Exits = exitTables()
		r.follow(t.Context(), next)
		if r.table != first || r.host() != h || !maps.Equal(first.specific.exits, exitsOf(exitTables())) {
			t.Errorf("begun anew: %v, %v; exits %v", r.table != first, r.host() != h, first.specific.exits)
		}
		_ = h.socket.Close()
		r.stop()
	})
}
