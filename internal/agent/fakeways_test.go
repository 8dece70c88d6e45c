package agent

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"tombolo/internal/health"
	"tombolo/internal/kernel"
	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// fakeWays is what follows the uplinks of a router in memory.
type fakeWays struct {
	*fakeKernel // for its watchers

	mu       sync.Mutex
	devices  map[string]kernel.Device
	defaults map[defaultKey]kernel.Default
	routes   map[state.RouteKey]state.Route
	rules    map[state.Rule]bool
	forgot   []uint32
	towards  []netip.Prefix
	answers  []uint8 // to forgotten flows, by the first byte of their mark
	reports  map[string]func(health.Status)
	refuses  string // the device whose hops are refused
}

func newFakeWays() *fakeWays {
	return &fakeWays{
		fakeKernel: newFakeKernel(state.Router{}), devices: map[string]kernel.Device{}, defaults: map[defaultKey]kernel.Default{},
		routes: map[state.RouteKey]state.Route{}, rules: map[state.Rule]bool{}, reports: map[string]func(health.Status){},
	}
}

// into makes the fakes those of a machine.
func (f *fakeWays) into(m *Machine) {
	m.Ways = func(state.Owner, uint8) (Ways, error) { return f, nil }
	m.Check = func(ctx context.Context, _ state.Check, device string, _ uint32, report func(health.Status)) {
		f.mu.Lock()
		f.reports[device] = report
		f.mu.Unlock()
		<-ctx.Done()
	}
	m.ForgetFlows = func(_ context.Context, mark, _ uint32, _ ...netip.Prefix) ([]kernel.Tuple, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.forgot = append(f.forgot, mark)
		return []kernel.Tuple{{Protocol: uint8(mark >> 24)}}, nil
	}
	m.ForgetTowards = func(_ context.Context, to ...netip.Prefix) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.towards = append(f.towards, to...)
		return nil
	}
	m.ForgetAnswers = func(_ context.Context, to []kernel.Tuple) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, t := range to {
			f.answers = append(f.answers, t.Protocol)
		}
		return nil
	}
}

// set changes a device, and says so.
func (f *fakeWays) set(d kernel.Device) {
	f.mu.Lock()
	f.devices[d.Name] = d
	f.mu.Unlock()
	f.meddle(func(*state.Router) {}, kernel.Change{Addresses: []string{d.Name}})
}

func (f *fakeWays) Device(name string) (kernel.Device, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, there := f.devices[name]
	return d, there, nil
}

func (f *fakeWays) Specifics(_ context.Context, name string, _ int) ([]state.Route, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return specificsOf(f.devices[name]), nil
}

// specificsOf are the routes to a device's own subnets.
func specificsOf(d kernel.Device) []state.Route {
	var out []state.Route
	for _, p := range d.Global {
		if !p.IsSingleIP() {
			out = append(out, state.Route{Table: 254, Dst: p.Masked(), Type: state.Unicast, Device: d.Name})
		}
	}
	return out
}

func allSpecifics(devices map[string]kernel.Device) map[string][]state.Route {
	out := map[string][]state.Route{}
	for name, d := range devices {
		out[name] = specificsOf(d)
	}
	return out
}

func (f *fakeWays) Defaults(_ context.Context, tables []uint32, _ uint8) ([]kernel.Default, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []kernel.Default
	for k, d := range f.defaults {
		if slices.Contains(tables, k.table) {
			out = append(out, d)
		}
	}
	return out, nil
}

func (f *fakeWays) SetDefault(_ context.Context, _ uint8, d kernel.Default) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range d.Hops {
		if h.Device == f.refuses {
			return unix.ENETDOWN
		}
	}
	k := defaultKey{d.Table, d.IPv6}
	if f.defaults[k] = d; len(d.Hops) == 0 {
		delete(f.defaults, k)
	}
	return nil
}

func (f *fakeWays) Routes(context.Context, []uint32, uint8) ([]state.Route, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []state.Route
	for _, r := range f.routes {
		out = append(out, r)
	}
	return out, nil
}

func (f *fakeWays) Rules(context.Context) ([]state.Rule, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []state.Rule
	for r := range f.rules {
		out = append(out, r)
	}
	return out, nil
}

func (f *fakeWays) Apply(_ context.Context, ops []plan.Op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, op := range ops {
		switch o := op.Object.(type) {
		case plan.Route:
			f.routes[o.Key()] = o.Route
		case plan.Rule:
			f.rules[o.Rule] = true
		}
		if op.Verb == plan.Remove {
			switch o := op.Before.(type) {
			case plan.Route:
				delete(f.routes, o.Key())
			case plan.Rule:
				delete(f.rules, o.Rule)
			}
		}
	}
	return nil
}
