package kernel

import (
	"context"
	"errors"
	"slices"

	"tombolo/internal/state"
)

// Read returns what the router holds, sorted: all that is ours, the settings that want
// names and the kernel has, and what of others is in want's way (see the package's
// documentation). What describes the router's surroundings is copied from want.
func (k *Kernel) Read(ctx context.Context, want state.Router) (state.Router, error) {
	have := state.Router{
		Version: state.Version, Network: want.Network, Site: want.Site, Owner: k.options.Owner,
		Endpoints: want.Endpoints, LANs: want.LANs, Uplinks: want.Uplinks,
	}
	if err := errors.Join(k.here(), ctx.Err()); err != nil {
		return state.Router{}, err
	}
	links, err := k.readLinks()
	if err != nil {
		return state.Router{}, err
	}
	devices := deviceNames(links)
	if have.Interfaces, err = k.readInterfaces(links, want); err != nil {
		return state.Router{}, err
	}
	if have.Routes, err = k.readRoutes(want, devices); err != nil {
		return state.Router{}, err
	}
	if have.Rules, err = k.readRules(); err != nil {
		return state.Router{}, err
	}
	if have.Rulesets, err = k.readRulesets(ctx); err != nil {
		return state.Router{}, err
	}
	if have.Sysctls, err = readSysctls(want.Sysctls); err != nil {
		return state.Router{}, err
	}
	have.Sort()
	// A table that changes while it is dumped may show a route twice. A surplus one would
	// be removed.
	have.Routes = slices.Compact(have.Routes)
	have.Rules = slices.Compact(have.Rules)
	return have, nil
}
