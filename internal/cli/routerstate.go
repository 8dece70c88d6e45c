package cli

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"tombolo/internal/kernel"
	"tombolo/internal/state"
)

// heldState is what a router holds now: the document of `tombolo state`. There is no key in it.
type heldState struct {
	// State is what kernel.Read sees, with what is never observed (names of peers, Babel, Clients)
	// as it was applied. A ruleset's text is that which was loaded.
	State state.Router `json:"state"`

	// Drifted are the tables that are not what was applied: they have no text.
	Drifted []string `json:"drifted,omitempty"`

	Now     int64                  `json:"now"` // in Unix seconds, as peers' handshakes
	Learned besideState            `json:"learned"`
	Uplinks map[string]deviceState `json:"uplinks"` // by device
	LANs    map[string]deviceState `json:"lans"`
}

// besideState is what the agent keeps beside what is compiled: learned, or following the uplinks.
type besideState struct {
	Routes []state.Route `json:"routes"`
	Rules  []state.Rule  `json:"rules"`
}

// deviceState is a device that the router has without us. One that is not there has nothing.
type deviceState struct {
	Carrier   bool           `json:"carrier"`
	Addresses []netip.Prefix `json:"addresses"` // not masked; no link-local ones
	Gateways  []netip.Addr   `json:"gateways,omitempty"`
	LinkLocal netip.Addr     `json:"linkLocal,omitzero"` // by which others on a wire know it
}

func (a *app) stateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "state",
		Short: "Print what this router holds now, as JSON",
		Long: `Print what this router holds now, as JSON: interfaces, routes, rules, ruleset and settings as the
kernel has them, what the agent has learned, and the addresses of uplinks and LANs. No key is in
it. "tombolo trace --live" asks all routers for it.`,
		Example: "  tombolo state\n  ssh op1 tombolo state",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := asRoot(); err != nil {
				return err
			}
			s, err := a.held(c.Context())
			if err != nil {
				return err
			}
			return a.writeJSON(s)
		},
	}
}

// held reads what this router holds.
func (a *app) held(ctx context.Context) (heldState, error) {
	want, store, err := a.wanted()
	if errors.Is(err, os.ErrNotExist) {
		return heldState{}, hinted{errors.New("nothing is applied here"), "tombolo apply FILE"}
	}
	if err != nil {
		return heldState{}, err
	}
	k, err := a.open(want, store)
	if err != nil {
		return heldState{}, err
	}
	defer k.Close()
	have, err := k.Read(ctx, want)
	if err != nil {
		return heldState{}, err
	}
	s := heldState{State: have, Now: time.Now().Unix(), Uplinks: map[string]deviceState{}, LANs: map[string]deviceState{}}
	s.complete(&want)
	if s.Learned.Routes, s.Learned.Rules, err = k.Beside(ctx); err != nil {
		return heldState{}, err
	}
	for _, u := range want.Uplinks {
		if s.Uplinks[u.Device], err = deviceNow(k, u.Device); err != nil {
			return heldState{}, err
		}
	}
	for _, l := range want.LANs {
		if s.LANs[l.Device], err = deviceNow(k, l.Device); err != nil {
			return heldState{}, err
		}
	}
	return s, nil
}

// complete adds what cannot be observed, from what was applied.
func (h *heldState) complete(want *state.Router) {
	r := &h.State
	r.Babel, r.Egress, r.Clients, r.Forwards = want.Babel, want.Egress, want.Clients, want.Forwards
	r.Interfaces = slices.DeleteFunc(r.Interfaces, func(f state.Interface) bool { return !r.Owner.OwnsInterface(f) })
	r.Rules = slices.DeleteFunc(r.Rules, func(x state.Rule) bool { // they stand in Learned
		return x.Protocol == r.Owner.Learned() || x.Protocol == r.Owner.Following()
	})
	for i := range r.Interfaces {
		f := &r.Interfaces[i]
		k := slices.IndexFunc(want.Interfaces, func(w state.Interface) bool { return w.Name == f.Name })
		if k < 0 || f.WireGuard == nil || want.Interfaces[k].WireGuard == nil {
			continue
		}
		for j := range f.WireGuard.Peers {
			for _, w := range want.Interfaces[k].WireGuard.Peers {
				if p := &f.WireGuard.Peers[j]; w.PublicKey == p.PublicKey {
					p.Name = w.Name
				}
			}
		}
	}
	for i := range r.Rulesets {
		x := &r.Rulesets[i]
		k := slices.IndexFunc(want.Rulesets, func(w state.Ruleset) bool {
			return w.Family == x.Family && w.Table == x.Table && w.Digest == x.Digest
		})
		if k >= 0 {
			x.Text = want.Rulesets[k].Text
			continue
		}
		x.Text = ""
		h.Drifted = append(h.Drifted, x.Family+" "+x.Table)
	}
}

func deviceNow(k *kernel.Kernel, name string) (deviceState, error) {
	d, _, err := k.Device(name)
	s := deviceState{Carrier: d.Carrier, Addresses: d.Global, Gateways: d.Gateways}
	for _, a := range d.Addresses {
		if a.Addr().Is6() && a.Addr().IsLinkLocalUnicast() {
			s.LinkLocal = a.Addr()
		}
	}
	return s, err
}
