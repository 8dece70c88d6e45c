package cli

import (
	"context"
	"slices"
	"time"

	"tombolo/internal/agent"
	"tombolo/internal/babel/mac"
	"tombolo/internal/babel/udp"
	"tombolo/internal/endpoint"
	"tombolo/internal/health"
	"tombolo/internal/kernel"
	"tombolo/internal/key"
	"tombolo/internal/state"
)

// agentMachine is this machine, as an agent sees it.
func (a *app) agentMachine() agent.Machine {
	return agent.Machine{
		Kernel: func(w agent.Wanted) (agent.Kernel, error) {
			k, err := a.open(w.Router, w.Keys)
			if err != nil {
				return nil, err
			}
			return agentKernel{k}, nil
		},
		Table: func(o state.Owner, protocol uint8) (agent.RouteTable, error) {
			o.Protocol = protocol
			k, err := a.open(state.Router{Owner: o}, key.Store{})
			if err != nil {
				return nil, err
			}
			return agentTable{agentKernel{k}, o}, nil
		},
		Ways: func(o state.Owner, protocol uint8) (agent.Ways, error) {
			o.Protocol = protocol
			k, err := a.open(state.Router{Owner: o}, key.Store{})
			if err != nil {
				return nil, err
			}
			return agentTable{agentKernel{k}, o}, nil
		},
		Check:       health.Run,
		ForgetFlows: kernel.ForgetFlows, ForgetAnswers: kernel.ForgetAnswers, ForgetTowards: kernel.ForgetTowards,
		Meter: func() (agent.Meter, error) { return kernel.OpenMeter() },
		Eyes: func(w agent.Wanted) (agent.Eyes, error) {
			k, err := a.open(w.Router, w.Keys)
			if err != nil {
				return nil, err
			}
			return k, nil
		},
		Socket: func(start time.Time) (agent.Socket, error) { return udp.Open(start) },
		Door: func(w agent.Wanted) (agent.Door, error) {
			k, err := a.open(w.Router, w.Keys)
			if err != nil {
				return nil, err
			}
			return k, nil
		},
		Initiations: func(port uint16) (agent.Initiations, error) {
			i, err := kernel.WatchInitiations(port)
			if err != nil {
				return nil, err
			}
			return i, nil
		},
		MAC: func(s key.Store, name string) (mac.Key, error) {
			k, err := s.MAC(key.Ref(name))
			secret := k.Reveal()
			return mac.Key{Algorithm: mac.HMACSHA256, Secret: secret[:]}, err
		},
		Resolve: func(ctx context.Context, r state.Router) (state.Router, []error) {
			return endpoint.Resolve(ctx, r, endpoint.System, endpoint.Routed)
		},
	}
}

// agentKernel is a Kernel whose Watcher is an agent's.
type agentKernel struct{ *kernel.Kernel }

// Watch implements agent.Kernel and agent.RouteTable.
func (k agentKernel) Watch() (agent.Watcher, error) { return k.Kernel.Watch(nil) }

// agentTable is a Kernel whose Routes are of all tables, where none is named.
type agentTable struct {
	agentKernel
	owner state.Owner
}

// Routes implements agent.RouteTable.
func (t agentTable) Routes(ctx context.Context, tables []uint32, protocol uint8) ([]state.Route, error) {
	if len(tables) > 0 {
		return t.Kernel.Routes(ctx, tables, protocol)
	}
	have, err := t.Read(ctx, state.Router{Version: state.Version, Owner: t.owner})
	return slices.DeleteFunc(have.Routes, func(r state.Route) bool { return r.Protocol != protocol }), err
}
