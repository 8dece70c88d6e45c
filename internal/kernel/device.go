package kernel

import (
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

	// Gateways are those of the default routes in main that go by the device and are not
	// ours, in order of preference: IPv4's before IPv6's, then by metric.
	Gateways []netip.Addr
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
	if d.Addresses, err = k.deviceAddresses(l.index); err != nil {
		return Device{}, false, fmt.Errorf("read addresses of %s: %w", name, err)
	}
	if d.Gateways, err = k.deviceGateways(l); err != nil {
		return Device{}, false, fmt.Errorf("read routes of %s: %w", name, err)
	}
	return d, true, nil
}

func (k *Kernel) deviceAddresses(index int) ([]netip.Prefix, error) {
	var w writer
	h := make([]byte, sizeofIfAddrmsg)
	if k.route.strict {
		native.PutUint32(h[4:], uint32(index))
	}
	w.begin(unix.RTM_GETADDR, 0, h)
	addresses, err := dump(k.route, &w, func(b []byte) (netip.Prefix, bool) {
		a, ok := decodeAddress(b)
		return a.prefix, ok && a.index == index && !a.unusable
	})
	if errors.Is(err, errNoDevice) {
		return nil, nil // it went in between
	}
	slices.SortFunc(addresses, state.ComparePrefixes)
	return slices.Compact(addresses), err
}

func (k *Kernel) deviceGateways(l link) ([]netip.Addr, error) {
	var out []netip.Addr
	devices := map[int]string{l.index: l.name}
	for _, six := range []bool{false, true} {
		q := routeQuery{table: mainTable, not: k.options.Owner.Protocol, device: l.index, keep: func(r state.Route) bool {
			return r.Table == mainTable && r.Dst.Bits() == 0 && !r.Src.IsValid() && r.Device == l.name && r.Gateway.IsValid()
		}}
		routes, err := k.dumpRoutes(six, q, devices)
		if err != nil {
			return nil, err
		}
		slices.SortStableFunc(routes, state.CompareRoutes)
		for _, r := range routes {
			if !slices.Contains(out, r.Gateway) {
				out = append(out, r.Gateway)
			}
		}
	}
	return out, nil
}
