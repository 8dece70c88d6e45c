package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"tombolo/internal/state"
)

// Device is a device of the router, whoever made it.
type Device struct {
	Name    string
	Index   int
	MTU     int  // in bytes
	Up      bool // administratively
	Carrier bool // packets can be sent: up and plugged in

	// Addresses are those that can be used, with the length of their subnet, sorted:
	// link-local ones too, but none that is tentative or found to be a duplicate.
	Addresses []netip.Prefix

	// Global are the Addresses that mean something beyond the device's own network, temporary
	// and deprecated ones too; no link-local ones of either family.
	Global []netip.Prefix

	// Gateways are those of the default routes in main that go by the device and are not
	// ours, in order of preference: IPv4's before IPv6's, then by metric.
	Gateways []netip.Addr

	// Defaults are the default routes in main by the device, alone or among others, that are
	// neither ours nor learned nor follow the uplinks: IPv4's before IPv6's, then by metric.
	Defaults []DeviceDefault
}

// DeviceDefault is a way by which a device leads everywhere.
type DeviceDefault struct {
	Gateway netip.Addr   // zero: the device has but one neighbour; IPv6 for an IPv4 route with RTA_VIA
	Src     netip.Prefix // IPv6: the sources that may go there; zero: all
	IPv6    bool
	Metric  uint32 // as the kernel has it: 1024 for an IPv6 route that was given none
}

// Device returns a device; found is false where there is none of that name. It costs four
// small dumps, that of its routes in main in proportion to their number.
func (k *Kernel) Device(name string) (d Device, found bool, err error) {
	if err := k.here(); err != nil {
		return Device{}, false, err
	}
	l, err := k.findLink(name)
	if errors.Is(err, errNoDevice) {
		return Device{}, false, nil
	}
	if err != nil {
		return Device{}, false, fmt.Errorf("read device %s: %w", name, err)
	}
	d = Device{Name: l.name, Index: l.index, MTU: l.mtu, Up: l.up, Carrier: l.carrier}
	if d.Addresses, d.Global, err = k.deviceAddresses(l.index); err != nil {
		return Device{}, false, fmt.Errorf("read addresses of %s: %w", name, err)
	}
	if d.Gateways, d.Defaults, err = k.deviceDefaults(l); err != nil {
		return Device{}, false, fmt.Errorf("read routes of %s: %w", name, err)
	}
	return d, true, nil
}

func (k *Kernel) deviceAddresses(index int) (all, global []netip.Prefix, err error) {
	var w writer
	h := make([]byte, sizeofIfAddrmsg)
	if k.route.strict {
		native.PutUint32(h[4:], uint32(index))
	}
	w.begin(unix.RTM_GETADDR, 0, h)
	addresses, err := dump(k.route, &w, func(b []byte) (address, bool) {
		a, ok := decodeAddress(b)
		return a, ok && a.index == index && !a.unusable
	})
	if errors.Is(err, errNoDevice) {
		return nil, nil, nil // it went in between
	}
	slices.SortFunc(addresses, func(a, b address) int { return state.ComparePrefixes(a.prefix, b.prefix) })
	for _, a := range addresses {
		all = append(all, a.prefix)
		if !a.narrow {
			global = append(global, a.prefix)
		}
	}
	return slices.Compact(all), slices.Compact(global), err
}

func (k *Kernel) deviceDefaults(l link) (gateways []netip.Addr, defaults []DeviceDefault, err error) {
	o := k.options.Owner
	devices := map[int]string{l.index: l.name}
	for _, six := range []bool{false, true} {
		q := routeQuery{table: mainTable, not: []byte{o.Protocol}, device: l.index}
		routes, err := dumpRoutesAs(k, six, q, func(b []byte) (defaultRoute, bool) {
			r, ok := decodeDefault(b, devices)
			return r, ok && r.Table == mainTable && r.IPv6 == six
		})
		if err != nil {
			return nil, nil, err
		}
		slices.SortStableFunc(routes, compareDefaultRoutes)
		for _, r := range routes {
			follows := r.protocol == o.Learned() || r.protocol == o.Following()
			for i, h := range r.Hops {
				if h.Device != l.name {
					continue
				}
				if i == 0 && h.Gateway.IsValid() && !r.src.IsValid() && !slices.Contains(gateways, h.Gateway) {
					gateways = append(gateways, h.Gateway)
				}
				d := DeviceDefault{Gateway: h.Gateway, Src: r.src, IPv6: six, Metric: r.Metric}
				if !follows && !slices.Contains(defaults, d) {
					defaults = append(defaults, d)
				}
			}
		}
	}
	return gateways, defaults, nil
}

// Specifics returns main's unicast routes by a device that are no default routes, its own
// subnets among them: what is neither ours, nor learned, nor follows the uplinks, nor is for
// some sources only. With more than most of them, only those without a gateway.
func (k *Kernel) Specifics(ctx context.Context, device string, most int) ([]state.Route, error) {
	if err := errors.Join(k.here(), ctx.Err()); err != nil {
		return nil, err
	}
	l, err := k.findLink(device)
	if errors.Is(err, errNoDevice) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read device %s: %w", device, err)
	}
	o := k.options.Owner
	var out []state.Route
	for _, six := range []bool{false, true} {
		q := routeQuery{table: mainTable, not: []byte{o.Protocol, o.Learned(), o.Following()}, device: l.index, keep: func(r state.Route) bool {
			return r.Table == mainTable && r.Type == state.Unicast && r.Dst.Bits() > 0 && !r.Src.IsValid() && r.Device == device &&
				!r.Dst.Addr().IsLinkLocalUnicast() && !r.Dst.Addr().IsMulticast()
		}}
		routes, err := k.dumpRoutes(six, q, map[int]string{l.index: device})
		if err != nil {
			return nil, fmt.Errorf("read routes of %s: %w", device, err)
		}
		out = append(out, routes...)
	}
	if len(out) > most {
		out = slices.DeleteFunc(out, func(r state.Route) bool { return r.Gateway.IsValid() })
	}
	slices.SortFunc(out, state.CompareRoutes)
	return out, nil
}
