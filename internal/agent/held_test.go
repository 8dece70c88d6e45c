package agent

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/internal/plan"
)

// The file that an agent follows was applied by hand and put back, as nobody confirmed it:
// the agent may not take it by itself, whatever happens around it.
func TestWhatNobodyConfirmedIsNotTakenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeSource{}
		s.write(router("10.0.0.0/8"), "1", nil)
		b := start(t, nil, s)
		defer func() { _ = b.stop() }()
		waits := func(is bool) {
			b.records.mu.Lock()
			b.records.waiting = is
			b.records.mu.Unlock()
		}
		waits(true)
		s.write(router("10.1.0.0/16"), "2", nil)
		b.agent.Reload() // a supervisor that reloads does not confirm
		time.Sleep(time.Second)
		if err := s.Take("2"); err != nil { // as `revert` does
			t.Fatal(err)
		}
		waits(false)
		poke(b.agent.base.record)
		b.agent.ask(false)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		wantHolds(t, b.kernel, router("10.0.0.0/8"))
		if p := strings.Join(b.agent.problems.list(), "\n"); !strings.Contains(p, "/etc/network.yaml is not in force: it was put back") {
			t.Errorf("problems: %q", p)
		}
		b.agent.Reload()
		time.Sleep(time.Second)
		synctest.Wait()
		wantHolds(t, b.kernel, router("10.1.0.0/16"))
		if p := b.agent.problems.list(); len(p) != 0 {
			t.Errorf("it was taken, and there are problems: %q", p)
		}
	})
}

// What the kernel refuses keeps nobody waiting: a supervisor is told that the agent runs,
// people which site this is, and the speaker goes on over what there is.
func TestARefusedStateIsFollowedAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := Wanted{Router: router("10.0.0.0/8")}
		w.Router.Babel = new(babelConfig())
		b := start(t, nil, nil, func(o *Options) { o.Stay = true })
		defer func() { _ = b.stop() }()
		b.kernel.Refuse(func(plan.Op) error { return errors.New("no") })
		b.records.mu.Lock()
		b.records.applied = &w
		b.records.mu.Unlock()
		poke(b.agent.base.record)
		time.Sleep(time.Second)
		synctest.Wait()
		if now, _ := b.agent.base.now(); now.Router.Site != "a" {
			t.Errorf("it says that it is site %q", now.Router.Site)
		}
		if b.agent.routing.host() == nil {
			t.Error("there is no speaker")
		}
		if p := b.agent.problems.list(); len(p) != 1 || p[0] != "no" {
			t.Errorf("problems: %q", p)
		}
	})
}
