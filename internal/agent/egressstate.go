package agent

import (
	"context"
	"reflect"
	"time"

	"tombolo/internal/health"
	"tombolo/internal/kernel"
	"tombolo/internal/state"
)

// absent is how long an uplink may be without address or gateway before that counts: a DHCP
// client takes them away and puts them back when it renews a lease.
const absent = 500 * time.Millisecond

// absence is an uplink's device as it was before it lost what it had.
type absence struct {
	device    kernel.Device
	specifics []state.Route
	since     time.Time // zero: it has all
}

// patience returns an uplink's device as it is, or for a moment as it was.
func (e *egress) patience(u state.Uplink, d kernel.Device, specifics []state.Route) (kernel.Device, []state.Route) {
	before := e.seen[u.Device]
	lost := false
	for _, six := range []bool{false, true} {
		lost = lost || wayOut(u, before.device, true, six).there && !wayOut(u, d, true, six).there
	}
	if !lost || !d.Up || !d.Carrier {
		e.seen[u.Device] = absence{d, specifics, time.Time{}}
		delete(e.missing, u.Device)
		return d, specifics
	}
	if before.since.IsZero() {
		before.since = time.Now()
		e.seen[u.Device], e.missing[u.Device] = before, true
	}
	if time.Since(before.since) >= absent {
		e.seen[u.Device] = absence{d, specifics, time.Time{}}
		delete(e.missing, u.Device)
		return d, specifics
	}
	return before.device, before.specifics
}

// forgetDevice forgets a device that is gone: it comes back as another.
func (e *egress) forgetDevice(name string) {
	delete(e.seen, name)
	delete(e.missing, name)
}

// checking is a check that runs.
type checking struct {
	of     state.Uplink
	cancel context.CancelFunc
	done   chan struct{}
}

// check starts and ends checks, so that there are those of r; none where it is nil.
func (e *egress) check(ctx context.Context, r *state.Router) {
	wanted := map[string]state.Uplink{}
	if r != nil && r.Egress != nil {
		for _, u := range r.Uplinks {
			if u.Check != nil {
				wanted[u.Device] = u
			}
		}
	}
	for device, c := range e.checks {
		if u, still := wanted[device]; still && u.Mark == c.of.Mark && reflect.DeepEqual(u.Check, c.of.Check) {
			continue
		}
		c.cancel()
		<-c.done
		delete(e.checks, device)
		e.mu.Lock()
		delete(e.health, device)
		e.mu.Unlock()
	}
	for device, u := range wanted {
		if e.checks[device] != nil {
			continue
		}
		c := &checking{of: u, done: make(chan struct{})}
		var life context.Context
		life, c.cancel = context.WithCancel(ctx)
		e.checks[device] = c
		go func() {
			defer close(c.done)
			e.machine.Check(life, *u.Check, device, u.Mark, func(s health.Status) { e.heard(device, s) })
		}()
	}
}

// heard takes what a check says.
func (e *egress) heard(device string, s health.Status) {
	e.mu.Lock()
	was, known := e.health[device]
	e.health[device] = s
	e.mu.Unlock()
	if !known || was.Up != s.Up {
		poke(e.wake)
	}
}
