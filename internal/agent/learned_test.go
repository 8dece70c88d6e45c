package agent

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/internal/babel"
	"tombolo/internal/kernel"
	"tombolo/internal/plan"
	"tombolo/internal/state"
)

const (
	learned      = 85
	sourceTables = 32
)

func babelConfig() state.Babel {
	return state.Babel{
		Site: 0x0a002001, Table: 110, Protocol: learned,
		PrefSrc4: netip.MustParseAddr("10.0.32.1"), PrefSrc6: netip.MustParseAddr("fd00::1"),
		Sources: state.Sources{Table: 130, Tables: sourceTables, Prefixes: 519, Defaults: 560},
		Links:   []state.BabelLink{{Device: "wg-b", Peer: "b", Tunnel: true, Cost: 1}, {Device: "br-lan", Cost: 1}},
	}
}

func keyTo(dst string) babel.Key { return babel.Key{Dst: prefix(dst)} }

func by(dst, link string) babel.RouteChange {
	return babel.RouteChange{Key: keyTo(dst), Hop: &babel.Hop{Link: link, NextHop: netip.MustParseAddr("fe80::2")}}
}

func gone(dst string) babel.RouteChange { return babel.RouteChange{Key: keyTo(dst)} }

func dropped(dst string) babel.RouteChange {
	return babel.RouteChange{Key: keyTo(dst), Hop: &babel.Hop{Unreachable: true}}
}

// tableBench is a table on a kernel in memory.
type tableBench struct {
	*testing.T
	*table
	config state.Babel
	kernel *refusing
	mu     sync.Mutex
	said   []error
}

// refusing wraps what a kernel refuses as the real one does.
type refusing struct {
	*fakeKernel
	refuse  atomic.Pointer[func(plan.Op) error]
	batches atomic.Int64
}

func (k *refusing) Apply(ctx context.Context, ops []plan.Op) error {
	if len(ops) > 0 {
		k.batches.Add(1)
	}
	if refuse := k.refuse.Load(); refuse != nil {
		for _, op := range ops {
			if err := (*refuse)(op); err != nil {
				return &kernel.ApplyError{Op: op, Err: err}
			}
		}
	}
	return k.fakeKernel.Apply(ctx, ops)
}

func startTable(t *testing.T, held ...state.Route) *tableBench {
	return startTableWith(t, func(*state.Babel) {}, held...)
}

func startTableWith(t *testing.T, change func(*state.Babel), held ...state.Route) *tableBench {
	b := &tableBench{T: t, config: babelConfig()}
	change(&b.config)
	b.kernel = &refusing{fakeKernel: newFakeKernel(state.Router{
		Version: state.Version, Owner: owner(), Routes: held,
		Interfaces: []state.Interface{{Name: "wg-b", Kind: state.WireGuardKind}},
	})}
	b.table = newTable(b.config, b.kernel, func(err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.said = append(b.said, err)
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	synctest.Wait()
	return b
}

func (b *tableBench) change(cs ...babel.RouteChange) {
	b.put(cs, &b.config)
	synctest.Wait()
}

// holds checks the learned routes: "10.1.0.0/16 wg-b", "10.2.0.0/16 unreachable".
func (b *tableBench) holds(want ...string) {
	b.Helper()
	routes, err := b.kernel.Routes(b.Context(), nil, learned)
	if err != nil {
		b.Fatal(err)
	}
	var got []string
	for _, r := range routes {
		how := r.Device
		if r.Type != state.Unicast {
			how = string(r.Type)
		}
		got = append(got, r.Dst.String()+" "+how)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		b.Errorf("it holds %q, want %q", got, want)
	}
}

func old(dst string) state.Route {
	r, _ := routeOf(new(babelConfig()), by(dst, "wg-b"))
	return r
}

func TestLearnedRoutesAreWhatTheSpeakerSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startTable(t)
		b.change(by("10.1.0.0/16", "wg-b"), by("10.2.0.0/16", "wg-b"), by("fd01::/64", "br-lan"))
		b.holds("10.1.0.0/16 wg-b", "10.2.0.0/16 wg-b", "fd01::/64 br-lan")
		if n := b.kernel.batches.Load(); n != 1 {
			t.Errorf("it took %d batches", n)
		}
		b.change(by("10.1.0.0/16", "br-lan"), dropped("10.2.0.0/16"), gone("fd01::/64"))
		b.holds("10.1.0.0/16 br-lan", "10.2.0.0/16 unreachable")
		want := []string{
			"ip route replace 10.1.0.0/16 ", "ip route replace unreachable 10.2.0.0/16 ", "ip -6 route del fd01::/64 ",
		}
		all := b.kernel.Commands()
		for i, c := range all[len(all)-3:] { // what goes is last
			if !strings.HasPrefix(c, want[i]) {
				t.Errorf("%q, want %q", c, want[i])
			}
		}
	})
}

func TestRoutesOfLinks(t *testing.T) {
	c := babelConfig()
	for what, want := range map[string]state.Route{
		"wg-b 10.1.0.0/16": {Device: "wg-b", PrefSrc: c.PrefSrc4},
		"wg-b fd01::/64":   {Device: "wg-b", PrefSrc: c.PrefSrc6},
		// On a segment there are many: it is said which of them, and that it is there.
		"br-lan 10.1.0.0/16": {Device: "br-lan", PrefSrc: c.PrefSrc4, Gateway: netip.MustParseAddr("fe80::2"), OnLink: true},
	} {
		link, dst, _ := strings.Cut(what, " ")
		want.Table, want.Dst, want.Type, want.Metric, want.Protocol = 110, prefix(dst), state.Unicast, learnedMetric, learned
		if got, ok := routeOf(&c, by(dst, link)); !ok || got != want {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
}

// A successor changes nothing that is right, keeps what it does not know yet, and then no
// longer.
func TestRoutesOfAnEarlierAgentAreKeptForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startTable(t, old("10.1.0.0/16"), old("10.2.0.0/16"), old("10.3.0.0/16"))
		b.holds("10.1.0.0/16 wg-b", "10.2.0.0/16 wg-b", "10.3.0.0/16 wg-b")
		b.change(by("10.1.0.0/16", "wg-b"))
		if n := b.kernel.batches.Load(); n != 0 {
			t.Errorf("something was changed: %q", b.kernel.Commands())
		}
		b.change(by("10.2.0.0/16", "wg-b"), gone("10.2.0.0/16")) // known, and lost
		b.holds("10.1.0.0/16 wg-b", "10.3.0.0/16 wg-b")
		time.Sleep(settleTime - time.Second)
		b.holds("10.1.0.0/16 wg-b", "10.3.0.0/16 wg-b")
		time.Sleep(2 * time.Second)
		b.holds("10.1.0.0/16 wg-b")
	})
}

func TestLearnedRoutesThatOthersChangeComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startTable(t)
		b.change(by("10.1.0.0/16", "wg-b"), by("10.2.0.0/16", "wg-b"))
		time.Sleep(time.Minute)
		for _, c := range []kernel.Change{
			{Routes: []kernel.RouteSource{{Table: 110, Protocol: learned}}}, {All: true},
			{Links: []kernel.LinkState{{Name: "wg-b"}}}, {Addresses: []string{"wg-b"}},
		} {
			b.kernel.meddle(func(r *state.Router) { r.Routes = []state.Route{old("10.7.0.0/16")} }, c)
			synctest.Wait()
			b.holds("10.1.0.0/16 wg-b", "10.2.0.0/16 wg-b")
		}
		// Those of others are nothing to it.
		reads := b.kernel.reads.Load()
		b.kernel.meddle(func(*state.Router) {}, kernel.Change{
			Routes: []kernel.RouteSource{{Table: 110, Protocol: 84}}, Links: []kernel.LinkState{{Name: "docker0"}},
		})
		synctest.Wait()
		if b.kernel.reads.Load() != reads {
			t.Error("it looked for others' sake")
		}
	})
}

// One route that the kernel refuses does not keep the others from it, is tried again, and is
// a problem only when it lasts.
func TestARefusedRouteStandsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startTable(t)
		refuse := func(op plan.Op) error {
			if strings.Contains(op.String(), "10.2.0.0/16") {
				return errors.New("no such device")
			}
			return nil
		}
		b.kernel.refuse.Store(&refuse)
		b.change(by("10.1.0.0/16", "wg-b"), by("10.2.0.0/16", "wg-b"), by("10.3.0.0/16", "wg-b"))
		b.holds("10.1.0.0/16 wg-b", "10.3.0.0/16 wg-b")
		time.Sleep(time.Second / 2)
		b.mu.Lock()
		for _, err := range b.said {
			if err != nil {
				t.Errorf("it is a problem at once: %v", err)
			}
		}
		b.mu.Unlock()
		time.Sleep(time.Minute)
		b.mu.Lock()
		last := b.said[len(b.said)-1]
		n := len(b.said)
		b.mu.Unlock()
		if last == nil || last.Error() != "learned route refused: add route 10.2.0.0/16 table 110 metric 2048: no such device" {
			t.Errorf("after a minute the problem is: %v", last)
		}
		if n > 20 {
			t.Errorf("it was tried %d times in a minute", n)
		}
		b.kernel.refuse.Store(nil)
		time.Sleep(retryLast + time.Second)
		b.holds("10.1.0.0/16 wg-b", "10.2.0.0/16 wg-b", "10.3.0.0/16 wg-b")
	})
}

func TestSweepTakesEveryLearnedRouteAway(t *testing.T) {
	k := newFakeKernel(state.Router{Version: state.Version, Owner: owner(), Routes: []state.Route{
		old("10.1.0.0/16"), {Table: 7, Dst: prefix("10.2.0.0/16"), Type: state.Unreachable, Protocol: learned},
		{Table: 110, Dst: prefix("10.3.0.0/16"), Type: state.Unreachable, Protocol: owner().Protocol},
	}})
	if n, err := sweep(t.Context(), k, learned); err != nil || n != 2 {
		t.Errorf("%d were removed, %v", n, err)
	}
	r, _ := k.Kernel.Read(t.Context(), state.Router{})
	if len(r.Routes) != 1 || r.Routes[0].Protocol != owner().Protocol {
		t.Errorf("what is left: %v", r.Routes)
	}
}
