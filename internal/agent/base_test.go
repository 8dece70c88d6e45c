package agent

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/internal/kernel"
	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// listener is a socket to which nobody connects.
type listener struct{ closed chan struct{} }

func (l listener) Accept() (net.Conn, error) { <-l.closed; return nil, net.ErrClosed }
func (l listener) Close() error              { close(l.closed); return nil }
func (l listener) Addr() net.Addr            { return nil }

// bench is an agent on a router of fakes, on a clock that goes only when all sleep.
type bench struct {
	*testing.T
	kernel  *fakeKernel
	learned *fakeKernel
	eyes    *fakeEyes
	socket  *fakeSocket
	records *fakeRecords
	source  *fakeSource
	agent   *Agent
	stop    func() error
}

func start(t *testing.T, applied *Wanted, source *fakeSource, change ...func(*Options)) *bench {
	t.Helper()
	b := &bench{
		T: t, kernel: newFakeKernel(state.Router{Version: state.Version, Owner: owner()}),
		learned: newFakeKernel(state.Router{Version: state.Version, Owner: owner()}),
		eyes:    &fakeEyes{devices: map[string]kernel.Device{}}, socket: newFakeSocket(),
		records: newFakeRecords(applied), source: source,
	}
	o := Options{
		Version: "test", Records: b.records, Machine: machine(b.kernel, b.learned, b.eyes, b.socket),
		Socket: listener{make(chan struct{})}, Log: quietLog(),
	}
	if source != nil {
		o.Source = source
	}
	for _, c := range change {
		c(&o)
	}
	b.agent = New(o)
	b.agent.watchFile = func(ctx context.Context, _ string, _ chan<- struct{}) error {
		<-ctx.Done()
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.agent.Run(ctx) }()
	b.stop = func() error {
		cancel()
		return <-done
	}
	time.Sleep(time.Second)
	synctest.Wait()
	return b
}

func TestDriftIsPutBackWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := Wanted{Router: router("10.0.0.0/8")}
		b := start(t, &w, nil)
		defer func() { _ = b.stop() }()
		wantHolds(t, b.kernel, w.Router)
		for what, c := range map[string]kernel.Change{
			"a rule":       {Rules: true},
			"a route":      {Routes: []kernel.RouteSource{{Table: 110, Protocol: owner().Protocol}}},
			"events lost":  {All: true},
			"the firewall": {Ruleset: true},
		} {
			b.kernel.meddle(func(r *state.Router) { r.Rules, r.Routes = nil, nil }, c)
			time.Sleep(time.Second)
			synctest.Wait()
			t.Log(what)
			wantHolds(t, b.kernel, w.Router)
		}
		// What no event told is found by the slow pass.
		b.kernel.meddle(func(r *state.Router) { r.Rules, r.Routes = nil, nil }, kernel.Change{})
		time.Sleep(slowPass + time.Second)
		synctest.Wait()
		wantHolds(t, b.kernel, w.Router)
	})
}

// Events of others, and those of its own changes, do not keep it busy.
func TestOthersEventsWakeNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := Wanted{Router: router("10.0.0.0/8")}
		b := start(t, &w, nil)
		defer func() { _ = b.stop() }()
		before := b.kernel.reads.Load()
		for range 100 {
			b.kernel.meddle(func(*state.Router) {}, kernel.Change{
				Routes: []kernel.RouteSource{{Table: 254, Protocol: 3}}, Links: []kernel.LinkState{{Name: "docker0"}},
			})
			time.Sleep(10 * time.Millisecond)
		}
		if n := b.kernel.reads.Load() - before; n > 0 {
			t.Errorf("the router was read %d times", n)
		}
	})
}

// Many events are one pass, and events that do not end are a pass a second.
func TestEventsAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := Wanted{Router: router("10.0.0.0/8")}
		b := start(t, &w, nil)
		defer func() { _ = b.stop() }()
		before := b.kernel.reads.Load()
		for range 400 {
			b.kernel.meddle(func(*state.Router) {}, kernel.Change{Rules: true})
			time.Sleep(10 * time.Millisecond)
		}
		if n := b.kernel.reads.Load() - before; n < 3 || n > 6 {
			t.Errorf("the router was read %d times in four seconds", n)
		}
	})
}

func TestAFightIsNotFoughtAtFullSpeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := Wanted{Router: router("10.0.0.0/8")}
		b := start(t, &w, nil)
		defer func() { _ = b.stop() }()
		before := len(b.kernel.Commands())
		for range 600 { // a minute of it
			b.kernel.meddle(func(r *state.Router) { r.Rules = nil }, kernel.Change{Rules: true})
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(b.kernel.Commands()) - before; n < 20 || n > 60 {
			t.Errorf("the rule was put back %d times in a minute", n)
		}
		if p := strings.Join(b.agent.problems.list(), "\n"); !strings.Contains(p, "another program") {
			t.Errorf("problems: %s", p)
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		wantHolds(t, b.kernel, w.Router)
		if p := b.agent.problems.list(); len(p) > 0 {
			t.Errorf("afterwards there are problems: %s", p)
		}
	})
}

func TestWhatTheKernelRefusesIsTriedAgainMoreAndMoreSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := Wanted{Router: router("10.0.0.0/8")}
		b := start(t, &w, nil)
		defer func() { _ = b.stop() }()
		b.kernel.Refuse(func(plan.Op) error { return errors.New("no") })
		tries := b.kernel.reads.Load()
		b.kernel.meddle(func(r *state.Router) { r.Rules = nil }, kernel.Change{Rules: true})
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			b.kernel.meddle(func(*state.Router) {}, kernel.Change{Rules: true})
		}
		if n := b.kernel.reads.Load() - tries; n > 12 {
			t.Errorf("it was tried %d times in a minute", n)
		}
		if p := b.agent.problems.list(); len(p) != 1 || p[0] != "no" {
			t.Errorf("problems: %q", p)
		}
		b.kernel.Refuse(nil)
		time.Sleep(backoffLast + time.Second)
		synctest.Wait()
		wantHolds(t, b.kernel, w.Router)
		if p := b.agent.problems.list(); len(p) != 0 {
			t.Errorf("it went well, and there are problems: %q", p)
		}
	})
}

func TestAFileWithMistakesChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeSource{}
		s.write(router("10.0.0.0/8"), "1", nil)
		b := start(t, nil, s)
		defer func() { _ = b.stop() }()
		wantHolds(t, b.kernel, router("10.0.0.0/8"))
		s.write(state.Router{}, "", errors.New("a comma is missing"))
		poke(b.agent.changed)
		time.Sleep(time.Second)
		synctest.Wait()
		wantHolds(t, b.kernel, router("10.0.0.0/8"))
		if p := b.agent.problems.list(); len(p) != 1 || p[0] != "a comma is missing" {
			t.Errorf("problems: %q", p)
		}
		s.write(router("10.1.0.0/16"), "2", nil)
		poke(b.agent.changed)
		time.Sleep(time.Second)
		synctest.Wait()
		wantHolds(t, b.kernel, router("10.1.0.0/16"))
		if p := b.agent.problems.list(); len(p) != 0 {
			t.Errorf("it is mended, and there are problems: %q", p)
		}
	})
}

// A file that the kernel refuses leaves what was applied before.
func TestARefusedFileLeavesTheLastGoodState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeSource{}
		s.write(router("10.0.0.0/8"), "1", nil)
		b := start(t, nil, s)
		defer func() { _ = b.stop() }()
		b.kernel.Refuse(func(op plan.Op) error {
			if strings.Contains(op.String(), "10.1.0.0/16") {
				return errors.New("not that")
			}
			return nil
		})
		s.write(router("10.1.0.0/16"), "2", nil)
		poke(b.agent.changed)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		wantHolds(t, b.kernel, router("10.0.0.0/8"))
		if p := strings.Join(b.agent.problems.list(), "\n"); !strings.Contains(p, "/etc/network.yaml was not applied: not that") {
			t.Errorf("problems: %s", p)
		}
	})
}

func TestWhatWasAppliedByHandHoldsUntilTheFileChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeSource{taken: "1"}
		s.write(router("10.0.0.0/8"), "1", nil)
		hand := Wanted{Router: router("10.9.0.0/16"), File: "/tmp/other.yaml", Digest: "x"}
		b := start(t, &hand, s)
		time.Sleep(5 * time.Minute)
		wantHolds(t, b.kernel, hand.Router)
		s.write(router("10.1.0.0/16"), "2", nil)
		poke(b.agent.changed)
		time.Sleep(time.Second)
		wantHolds(t, b.kernel, router("10.1.0.0/16"))
		// By hand again; a reload takes the file.
		b.records.mu.Lock()
		b.records.applied = &hand
		b.records.mu.Unlock()
		poke(b.agent.base.record)
		time.Sleep(time.Second)
		wantHolds(t, b.kernel, hand.Router)
		b.agent.Reload()
		time.Sleep(time.Second)
		wantHolds(t, b.kernel, router("10.1.0.0/16"))
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestAChangeThatWaitsForItsConfirmationIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeSource{}
		s.write(router("10.0.0.0/8"), "1", nil)
		b := start(t, nil, s)
		defer func() { _ = b.stop() }()
		b.records.mu.Lock()
		b.records.waiting = true
		b.records.mu.Unlock()
		s.write(router("10.1.0.0/16"), "2", nil)
		b.agent.Reload()
		time.Sleep(time.Minute)
		wantHolds(t, b.kernel, router("10.0.0.0/8"))
		b.kernel.meddle(func(r *state.Router) { r.Rules = nil }, kernel.Change{Rules: true})
		time.Sleep(time.Second)
		wantHolds(t, b.kernel, router("10.0.0.0/8"))
		b.records.mu.Lock()
		b.records.waiting = false
		b.records.mu.Unlock()
		time.Sleep(slowPass + time.Second)
		wantHolds(t, b.kernel, router("10.1.0.0/16"))
	})
}

// An agent that follows no file ends when nothing is applied any more, unless it is a
// service; its end leaves the kernel alone.
func TestAnAgentWithNothingToKeepEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := Wanted{Router: router("10.0.0.0/8")}
		b := start(t, &w, nil)
		b.records.mu.Lock()
		b.records.applied = nil
		b.records.mu.Unlock()
		poke(b.agent.base.record)
		time.Sleep(time.Second)
		select {
		case <-b.agent.ended:
		default:
			t.Error("it goes on")
		}
		if err := b.stop(); err != nil {
			t.Error(err)
		}
		wantHolds(t, b.kernel, w.Router)

		b = start(t, nil, nil, func(o *Options) { o.Stay = true })
		b.records.mu.Lock()
		b.records.applied = &w
		b.records.mu.Unlock()
		poke(b.agent.base.record)
		time.Sleep(time.Second)
		wantHolds(t, b.kernel, w.Router)
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
}
