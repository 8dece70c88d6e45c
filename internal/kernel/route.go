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

// mainTable is the kernel's own table of ordinary routes.
const mainTable = unix.RT_TABLE_MAIN

// defaultMetric6 is what the kernel gives an IPv6 route that has no metric
// (include/uapi/linux/ipv6_route.h, IP6_RT_PRIO_USER).
const defaultMetric6 = 1024

// routeTypes are the types of route (linux/rtnetlink.h, RTN_*). We make only those that
// package state names; others may have the rest.
var routeTypes = [...]state.RouteType{
	unix.RTN_UNICAST: state.Unicast, unix.RTN_LOCAL: "local", unix.RTN_BROADCAST: "broadcast",
	unix.RTN_ANYCAST: "anycast", unix.RTN_MULTICAST: "multicast", unix.RTN_BLACKHOLE: state.Blackhole,
	unix.RTN_UNREACHABLE: state.Unreachable, unix.RTN_PROHIBIT: state.Prohibit, unix.RTN_THROW: state.Throw,
}

func routeType(t state.RouteType) uint8 {
	for i, name := range routeTypes {
		if name == t && name != "" {
			return uint8(i)
		}
	}
	panic(fmt.Sprintf("kernel: no type of route is called %q", t))
}

// leadsNowhere reports whether routes of the type have no device.
func leadsNowhere(t state.RouteType) bool { return t != state.Unicast }

// Flags of a request that makes or removes something.
const (
	flagsAdd    = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	flagsChange = unix.NLM_F_CREATE | unix.NLM_F_REPLACE
)

// encodeRoute adds an RTM_NEWROUTE or RTM_DELROUTE message. index is that of r.Device.
func encodeRoute(w *writer, kind, flags uint16, r state.Route, index int) {
	six := r.Dst.Addr().Is6()
	h := make([]byte, unix.SizeofRtMsg, 2*unix.SizeofRtMsg)
	h[0], h[1] = family(six), uint8(r.Dst.Bits())
	if r.Src.IsValid() {
		h[2] = uint8(r.Src.Bits())
	}
	if r.Table < 256 {
		h[4] = uint8(r.Table)
	}
	h[5] = r.Protocol
	h[6] = routeScope(kind, r)
	h[7] = routeType(r.Type)
	if r.OnLink {
		native.PutUint32(h[8:], unix.RTNH_F_ONLINK)
	}
	w.begin(kind, flags, h)
	if r.Dst.Bits() > 0 {
		w.addr(unix.RTA_DST, r.Dst.Addr())
	}
	if r.Src.IsValid() {
		w.addr(unix.RTA_SRC, r.Src.Addr())
	}
	encodeGateway(w, r.Gateway, six)
	if index != 0 {
		w.uint32(unix.RTA_OIF, uint32(index))
	}
	if r.PrefSrc.IsValid() {
		w.addr(unix.RTA_PREFSRC, r.PrefSrc)
	}
	if r.Table >= 256 {
		w.uint32(unix.RTA_TABLE, r.Table)
	}
	metric := r.Metric
	if six && metric == 0 {
		// A removal without a metric would take the first route of any.
		metric = defaultMetric6
	}
	if metric != 0 {
		w.uint32(unix.RTA_PRIORITY, metric)
	}
}

// encodeGateway adds RTA_GATEWAY, or RTA_VIA where the gateway is of the other family.
func encodeGateway(w *writer, gateway netip.Addr, six bool) {
	switch {
	case !gateway.IsValid():
	case gateway.Is6() == six:
		w.addr(unix.RTA_GATEWAY, gateway)
	default:
		b := native.AppendUint16(nil, uint16(family(gateway.Is6()))) // struct rtvia
		w.bytes(unix.RTA_VIA, append(b, gateway.AsSlice()...))
	}
}

// routeScope returns what `ip route` gives a route: link for one whose destination is on
// the device itself, and for a removal nowhere, which stands for any (net/ipv4/fib_trie.c,
// fib_table_delete). IPv6 has no scopes.
func routeScope(kind uint16, r state.Route) uint8 {
	switch {
	case r.Dst.Addr().Is6():
		return unix.RT_SCOPE_UNIVERSE
	case kind == unix.RTM_DELROUTE:
		return unix.RT_SCOPE_NOWHERE
	case r.Type == state.Unicast && !r.Gateway.IsValid():
		return unix.RT_SCOPE_LINK
	}
	return unix.RT_SCOPE_UNIVERSE
}

// decodeRoute reads an RTM_NEWROUTE message. It reports false for what is no route of
// IPv4 or IPv6, and for those that the kernel learned for a single destination. devices
// names the devices.
func decodeRoute(b []byte, devices map[int]string) (state.Route, bool) {
	if len(b) < unix.SizeofRtMsg {
		return state.Route{}, false
	}
	six := b[0] == unix.AF_INET6
	flags := native.Uint32(b[8:])
	if !six && b[0] != unix.AF_INET || flags&unix.RTM_F_CLONED != 0 || int(b[7]) >= len(routeTypes) {
		return state.Route{}, false
	}
	r := state.Route{Table: uint32(b[4]), Type: routeTypes[b[7]], Protocol: b[5], OnLink: flags&unix.RTNH_F_ONLINK != 0}
	var dst, src netip.Addr
	attributes(b[unix.SizeofRtMsg:], func(kind uint16, v []byte) {
		switch kind {
		case unix.RTA_DST:
			dst = addr(v)
		case unix.RTA_SRC:
			src = addr(v)
		case unix.RTA_OIF:
			r.Device = devices[int(number(v))]
		case unix.RTA_GATEWAY:
			r.Gateway = addr(v)
		case unix.RTA_VIA:
			r.Gateway = addr(v[min(2, len(v)):])
		case unix.RTA_PREFSRC:
			r.PrefSrc = addr(v)
		case unix.RTA_TABLE:
			r.Table = number(v)
		case unix.RTA_PRIORITY:
			r.Metric = number(v)
		case unix.RTA_MULTIPATH:
			// None of our routes has several: this is so that a route of another can be named.
			if hops := decodeHops(v, devices); len(hops) > 0 {
				r.Device, r.Gateway = hops[0].Device, hops[0].Gateway
			}
		}
	})
	r.Dst = prefix(dst, b[1], six)
	if b[2] > 0 {
		r.Src = prefix(src, b[2], six)
	}
	if leadsNowhere(r.Type) {
		r.Device = "" // IPv6: lo
	}
	return r, r.Dst.IsValid() && r.Type != ""
}

// readRoutes returns our routes in every table, and those of others that want must know
// of (see the package's documentation).
func (k *Kernel) readRoutes(want state.Router, devices map[int]string) ([]state.Route, error) {
	v := newRouteView(k.options.Owner, want)
	var out []state.Route
	for _, six := range []bool{false, true} {
		for _, q := range v.queries(k.route.strict) {
			routes, err := k.dumpRoutes(six, q, devices)
			if err != nil {
				return nil, fmt.Errorf("read routes: %w", err)
			}
			for i := range routes {
				v.normalise(&routes[i])
			}
			out = append(out, routes...)
		}
	}
	return out, nil
}

// Routes returns the routes of a protocol in some tables, sorted, and reads nothing else.
// IPv6 routes with the kernel's own metric have none.
func (k *Kernel) Routes(ctx context.Context, tables []uint32, protocol uint8) ([]state.Route, error) {
	if err := errors.Join(k.here(), ctx.Err()); err != nil {
		return nil, err
	}
	links, err := k.readLinks()
	if err != nil {
		return nil, err
	}
	devices := deviceNames(links)
	var out []state.Route
	for _, table := range tables {
		for _, six := range []bool{false, true} {
			q := routeQuery{table: table, protocol: protocol, keep: func(r state.Route) bool { return r.Table == table }}
			routes, err := k.dumpRoutes(six, q, devices)
			if err != nil {
				return nil, fmt.Errorf("read routes of table %d: %w", table, err)
			}
			out = append(out, routes...)
		}
	}
	for i := range out {
		if out[i].Dst.Addr().Is6() && out[i].Metric == defaultMetric6 {
			out[i].Metric = 0
		}
	}
	slices.SortFunc(out, state.CompareRoutes)
	return slices.Compact(out), nil
}

// dumpRoutes returns the routes of one family that q asks for.
func (k *Kernel) dumpRoutes(six bool, q routeQuery, devices map[int]string) ([]state.Route, error) {
	return dumpRoutesAs(k, six, q, func(b []byte) (state.Route, bool) {
		r, ok := decodeRoute(b, devices)
		return r, ok && r.Dst.Addr().Is6() == six && q.keep(r)
	})
}

// dumpRoutesAs returns what decode makes of the routes of one family that q asks for. A
// kernel that does not filter gives decode those of every table and device.
func dumpRoutesAs[T any](k *Kernel, six bool, q routeQuery, decode func([]byte) (T, bool)) ([]T, error) {
	var w writer
	h := make([]byte, unix.SizeofRtMsg)
	h[0] = family(six)
	if k.route.strict {
		h[5] = q.protocol
		if q.table < 256 {
			h[4] = uint8(q.table)
		}
	}
	w.begin(unix.RTM_GETROUTE, 0, h)
	if k.route.strict && q.table >= 256 {
		w.uint32(unix.RTA_TABLE, q.table)
	}
	if k.route.strict && q.device != 0 {
		w.uint32(unix.RTA_OIF, uint32(q.device))
	}
	routes, err := dump(k.route, &w, func(b []byte) (none T, ok bool) {
		// The protocol stands at the front: most routes of others go no further.
		if len(b) < unix.SizeofRtMsg || q.protocol != 0 && b[5] != q.protocol || slices.Contains(q.not, b[5]) {
			return none, false
		}
		return decode(b)
	})
	switch {
	case errors.Is(err, unix.ENOENT): // no such table, says a strict dump
		return nil, nil
	case six && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)):
		return nil, nil
	}
	return routes, err
}
