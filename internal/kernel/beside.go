package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"tombolo/internal/state"
)

// Beside returns what an agent keeps beside what is compiled: the routes and rules that are learned
// and that follow the uplinks, of all tables, sorted. A route by several next hops is as many
// routes that differ in nothing but the next hop.
func (k *Kernel) Beside(ctx context.Context) (routes []state.Route, rules []state.Rule, err error) {
	if err := errors.Join(k.here(), ctx.Err()); err != nil {
		return nil, nil, err
	}
	links, err := k.readLinks()
	if err != nil {
		return nil, nil, err
	}
	devices := deviceNames(links)
	for _, protocol := range []uint8{k.options.Owner.Learned(), k.options.Owner.Following()} {
		for _, six := range []bool{false, true} {
			all, err := dumpRoutesAs(k, six, routeQuery{protocol: protocol}, func(b []byte) ([]state.Route, bool) {
				r := decodeHopRoutes(b, devices)
				return r, len(r) > 0 && r[0].Dst.Addr().Is6() == six
			})
			if err != nil {
				return nil, nil, fmt.Errorf("read routes of protocol %d: %w", protocol, err)
			}
			routes = append(routes, slices.Concat(all...)...)
		}
	}
	if rules, err = k.readRules(); err != nil {
		return nil, nil, err
	}
	rules = slices.DeleteFunc(rules, func(r state.Rule) bool {
		return r.Protocol != k.options.Owner.Learned() && r.Protocol != k.options.Owner.Following()
	})
	slices.SortFunc(routes, state.CompareRoutes)
	slices.SortFunc(rules, state.CompareRules)
	return slices.Compact(routes), slices.Compact(rules), nil
}

// decodeHopRoutes reads an RTM_NEWROUTE message as decodeRoute does, as one route for each of its
// next hops; an IPv6 route with the kernel's own metric has none.
func decodeHopRoutes(b []byte, devices map[int]string) []state.Route {
	r, ok := decodeRoute(b, devices)
	if !ok {
		return nil
	}
	if r.Dst.Addr().Is6() && r.Metric == defaultMetric6 {
		r.Metric = 0
	}
	var out []state.Route
	attributes(b[unix.SizeofRtMsg:], func(kind uint16, v []byte) {
		if kind != unix.RTA_MULTIPATH {
			return
		}
		for _, h := range decodeHops(v, devices) {
			r.Device, r.Gateway, r.OnLink = h.Device, h.Gateway, h.OnLink
			out = append(out, r)
		}
	})
	if len(out) == 0 {
		out = append(out, r)
	}
	return out
}
