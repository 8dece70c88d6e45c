package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"tombolo/internal/api"
	"tombolo/internal/babel"
	"tombolo/internal/state"
)

// chaseFirst is how long after a neighbour fell silent its tunnel is tried at another address;
// after that each time twice as long, until it is as often as always.
const chaseFirst = time.Second

// chase has endpoints looked at sooner than every slowPass while nobody is heard at the other end
// of their tunnels: a site of which one provider died has others, and its name may lead elsewhere
// already. Behind a NAT nothing from such an address comes in before we speak to it.
type chase struct {
	mu     sync.Mutex
	silent map[string]bool // tunnels, by device
}

// devices returns the tunnels at whose other end nobody is heard.
func (c *chase) devices() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]bool{}
	for d := range c.silent {
		out[d] = true
	}
	return out
}

// hear takes an event, and reports whether there is one more to chase. dialled says which are.
func (c *chase) hear(e api.Event, dialled func(device string) bool) (more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch e.Kind {
	case string(babel.NeighbourUp):
		delete(c.silent, e.Device)
	case string(babel.NeighbourDown):
		if more = !c.silent[e.Device] && dialled(e.Device); more {
			c.silent[e.Device] = true
		}
	}
	return more
}

// keep forgets the tunnels that are dialled no more, and reports whether any are left.
func (c *chase) keep(dialled func(device string) bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for d := range c.silent {
		if !dialled(d) {
			delete(c.silent, d)
		}
	}
	return len(c.silent) > 0
}

// chase runs until ctx ends.
func (a *Agent) chase(ctx context.Context) {
	events, end := a.hub.subscribe()
	defer end()
	wait := time.Duration(0)
	next := time.NewTimer(0)
	next.Stop()
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			if a.chased.hear(e, a.dialled) {
				a.ask(false) // what was received until now is what more is compared with
				wait = chaseFirst
				next.Reset(wait)
			}
		case <-next.C:
			if a.chased.keep(a.dialled) {
				a.ask(false)
				wait = min(2*wait, slowPass)
				next.Reset(wait)
			}
		}
	}
}

// dialled reports whether a device is a tunnel whose other end has an endpoint.
func (a *Agent) dialled(device string) bool {
	w, _ := a.base.now()
	for _, f := range w.Router.Interfaces {
		if f.Name == device && f.WireGuard != nil {
			return slices.ContainsFunc(f.WireGuard.Peers, func(p state.Peer) bool { return len(p.Endpoints) > 0 })
		}
	}
	return false
}
