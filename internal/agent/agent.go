package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"tombolo/internal/api"
	"tombolo/internal/kernel"
	"tombolo/internal/state"
)

// Options are what an agent is given.
type Options struct {
	Version string
	Source  Source // nil: it keeps what `apply` applied, and follows no file
	Records Records
	Machine Machine
	Socket  net.Listener // it is closed at the end
	Log     *slog.Logger
	// Stay has an agent without a file stay when nothing is applied.
	Stay bool
	// Notify tells a supervisor how the agent is (sd_notify(3)); nil: there is none.
	Notify *Notifier
}

// Agent is a running agent.
type Agent struct {
	o        Options
	started  time.Time
	hub      *hub
	problems *problems
	base     *base
	routing  *routing
	observer *observer
	roaming  *roaming
	egress   *egress
	chased   chase

	changed   chan struct{}                                                         // the file may have changed
	reloads   chan bool                                                             // to the loader; true: take the file whatever is applied
	watchFile func(ctx context.Context, path string, changed chan<- struct{}) error // but in tests

	halt    context.CancelFunc // ends the base loop
	begun   chan struct{}      // closed when it is known what is applied
	ended   chan struct{}      // it has
	retired chan struct{}      // made when somebody has the agent retire; closed when that is done
	once    sync.Mutex         // for retired
}

// New returns an agent that does nothing before Run.
func New(o Options) *Agent {
	h := newHub(o.Log)
	a := &Agent{o: o, started: time.Now(), hub: h, problems: newProblems(h), reloads: make(chan bool, 1), changed: make(chan struct{}, 1), halt: func() {}, begun: make(chan struct{}), ended: make(chan struct{})}
	a.watchFile = watchFile
	a.routing = newRouting(&o.Machine, h, a.problems, a.started)
	a.observer = newObserver(&o.Machine, a.problems)
	a.roaming = newRoaming(&o.Machine, a.problems)
	a.routing.displaced = a.roaming.displaced
	a.egress = newEgress(&a.o.Machine, h, a.problems)
	a.egress.changed, a.observer.works = a.observer.look, a.egress.leads
	a.routing.turned = a.egress.turned
	a.base = &base{
		o: &a.o, hub: h, away: a.roaming.away, problems: a.problems, first: true,
		record: make(chan struct{}, 1), calls: make(chan func(context.Context)),
	}
	a.chased.silent = map[string]bool{}
	a.base.follow, a.base.heard, a.base.silent = a.follow, a.heard, a.chased.devices
	a.observer.drift = func() { poke(a.base.record) }
	a.roaming.drift = a.observer.drift
	return a
}

// Run serves until ctx ends, which leaves everything as it is, or until there is nothing
// to keep any more.
func (a *Agent) Run(ctx context.Context) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	var base context.Context
	base, a.halt = context.WithCancel(ctx)
	defer a.halt()
	loads := make(chan load)
	a.base.loads = loads
	var wg sync.WaitGroup
	wg.Go(func() { a.load(ctx, loads) })
	wg.Go(func() { a.observer.run(ctx) })
	wg.Go(func() { a.roaming.run(ctx) })
	wg.Go(func() { a.egress.run(ctx) })
	wg.Go(func() { a.chase(ctx) })
	if a.o.Source != nil {
		wg.Go(func() { a.problems.set("inotify", a.watchFile(ctx, a.o.Source.Name(), a.changed)) })
	}
	wg.Go(func() { _ = api.Serve(ctx, a.o.Socket, a) })
	if a.o.Notify != nil {
		wg.Go(func() { a.o.Notify.run(ctx, a.alive) })
	}
	a.hub.emit(api.Event{Kind: Started, Text: "agent " + a.o.Version})
	err := a.base.run(base)
	close(a.ended)
	a.once.Lock()
	retired := a.retired
	a.once.Unlock()
	if retired != nil {
		<-retired
	}
	end()
	wg.Wait()
	a.routing.stop()
	return err
}

// retire ends the base loop, says goodbye to the neighbours and takes the learned routes
// away, and those that follow the uplinks. When said returns the agent ends.
func (a *Agent) retire(ctx context.Context, said func() error) error {
	a.once.Lock()
	if a.retired != nil {
		a.once.Unlock()
		return errors.New("the agent is ending already")
	}
	retired := make(chan struct{})
	defer close(retired)
	a.retired = retired
	a.once.Unlock()
	a.halt() // it may wait for the lock, which who asks this holds
	<-a.ended
	if err := a.routing.retire(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if err := a.egress.retire(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	return said()
}

// Reload takes the file, also if it did not change and another was applied since.
func (a *Agent) Reload() { a.ask(true) }

func (a *Agent) ask(force bool) {
	select {
	case a.reloads <- force:
	default: // one is on its way
		if force {
			select {
			case <-a.reloads:
			default:
			}
			select {
			case a.reloads <- force:
			default:
			}
		}
	}
}

// follow is told what is applied, by the base loop, after each pass.
func (a *Agent) follow(ctx context.Context, w Wanted) {
	a.egress.follow(w)
	a.routing.follow(ctx, w)
	a.observer.follow(w, a.routing.host())
	a.roaming.follow(w, a.routing.host())
	if a.base.first {
		a.base.first = false
		close(a.begun)
		a.o.Notify.ready()
	}
}

// alive returns when the loops turn.
func (a *Agent) alive(ctx context.Context) error {
	for _, calls := range []chan<- func(context.Context){a.base.calls, a.roaming.calls} {
		if err := call(ctx, calls, func(context.Context) {}); err != nil {
			return err
		}
	}
	if h := a.routing.host(); h != nil {
		return h.do(ctx, func() {})
	}
	return nil
}

// call runs f on the goroutine that serves calls, and waits for it.
func call(ctx context.Context, calls chan<- func(context.Context), f func(context.Context)) error {
	done := make(chan struct{})
	select {
	case calls <- func(ctx context.Context) { f(ctx); close(done) }:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// load reads the file and resolves endpoints, now and then and when it is asked to.
func (a *Agent) load(ctx context.Context, out chan<- load) {
	tick := time.NewTicker(slowPass)
	defer tick.Stop()
	force := false
	for {
		l := load{forced: force, file: a.o.Source != nil}
		applied, err := a.o.Records.Applied()
		if l.file {
			l.wanted, l.err = a.o.Source.Load(ctx)
		}
		switch {
		case l.file && l.err == nil && err == nil && sameRouter(l.wanted.Router, applied.Router):
			l.resolved = l.wanted.Router // its names were just looked up
		case err == nil:
			var unresolved []error
			l.resolved, unresolved = a.o.Machine.Resolve(ctx, applied.Router)
			a.problems.set("resolve", errors.Join(unresolved...))
		}
		select {
		case out <- l:
		case <-ctx.Done():
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			force = false
		case <-a.changed:
			force = false
		case force = <-a.reloads:
		}
	}
}

// heard tells what changed on the router to those whom it concerns, and reports whether
// it concerns what was applied.
func (a *Agent) heard(c kernel.Change) bool {
	w, _ := a.base.now()
	r := w.Router
	drift := c.All || c.Rules || c.Ruleset
	for _, s := range c.Routes {
		drift = drift || s.Protocol == r.Owner.Protocol
	}
	if c.All || len(c.Links) > 0 || len(c.Addresses) > 0 {
		a.observer.look()
	}
	var devices []string
	for _, l := range c.Links {
		devices = append(devices, l.Name)
	}
	for _, d := range append(devices, c.Addresses...) {
		if ours(r, d) {
			drift = true
		} else if a.o.Source != nil && describes(r, d) {
			a.ask(false) // the file may now mean something else: another lease, another MTU
		}
	}
	return drift
}

// ours reports whether a device is one that the router is to hold.
func ours(r state.Router, device string) bool {
	return slices.ContainsFunc(r.Interfaces, func(f state.Interface) bool { return f.Name == device })
}

// describes reports whether a device is a LAN's or an uplink's.
func describes(r state.Router, device string) bool {
	return slices.ContainsFunc(r.LANs, func(l state.LAN) bool { return l.Device == device }) ||
		slices.ContainsFunc(r.Uplinks, func(u state.Uplink) bool { return u.Device == device })
}

func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// newest puts v into a channel that holds one, in place of what nobody took.
func newest[T any](c chan T, v T) {
	for {
		select {
		case c <- v:
			return
		default:
		}
		select {
		case <-c:
		default:
		}
	}
}
