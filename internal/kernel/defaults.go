package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"tombolo/internal/state"
)

// Hop is one of the ways of a default route.
type Hop struct {
	Device  string
	Gateway netip.Addr // zero: the device has but one neighbour; IPv6 for an IPv4 route is RTA_VIA
	OnLink  bool       // the gateway is on the device whatever addresses that has; IPv6 link-local ones are anyway
	Weight  int        // share of the flows, 1 to 256; of a single hop it reads as 1, as 0 does
}

// Default is a default route by one or several next hops, for all sources.
type Default struct {
	Table  uint32
	IPv6   bool
	Metric uint32 // of IPv6, 0 and 1024 are the same, and read as 0
	Hops   []Hop  // as read: by device and gateway; none: a route that leads nowhere
}

// Equal reports whether two default routes are the same to the kernel.
func (d Default) Equal(other Default) bool {
	d, other = d.normal(), other.normal()
	return d.Table == other.Table && d.IPv6 == other.IPv6 && d.Metric == other.Metric && slices.Equal(d.Hops, other.Hops)
}

// normal returns the default route as Defaults reads it.
func (d Default) normal() Default {
	if d.IPv6 && d.Metric == defaultMetric6 {
		d.Metric = 0
	}
	d.Hops = slices.Clone(d.Hops)
	for i := range d.Hops {
		h := &d.Hops[i]
		if h.Weight == 0 || len(d.Hops) == 1 {
			h.Weight = 1
		}
		h.OnLink = h.OnLink && h.Gateway.IsValid()
	}
	slices.SortFunc(d.Hops, compareHops)
	return d
}

func compareHops(a, b Hop) int {
	return cmp.Or(cmp.Compare(a.Device, b.Device), a.Gateway.Compare(b.Gateway), cmp.Compare(a.Weight, b.Weight))
}

// String names the route as an error does: "IPv6 default of table 201 metric 7".
func (d Default) String() string {
	s := fmt.Sprintf("default of table %d", d.Table)
	if d.IPv6 {
		s = "IPv6 " + s
	}
	if d.Metric != 0 {
		s += fmt.Sprintf(" metric %d", d.Metric)
	}
	return s
}

// peer6 stands for the neighbour of a point to point device in an IPv6 route by several next
// hops: there the kernel wants a gateway for each ("Device only routes can not be added for
// IPv6 using the multipath API", net/ipv6/route.c). Such a device asks for nobody's hardware
// address, and so it does not matter that nobody has this one.
var peer6 = netip.MustParseAddr("fe80::7032:7070")

// defaultRoute is a default route as the kernel has it.
type defaultRoute struct {
	Default
	protocol uint8
	src      netip.Prefix
}

func compareDefaultRoutes(a, b defaultRoute) int {
	return cmp.Or(
		cmp.Compare(a.Table, b.Table), compareBools(a.IPv6, b.IPv6), cmp.Compare(a.Metric, b.Metric),
		state.ComparePrefixes(a.src, b.src), cmp.Compare(a.protocol, b.protocol), slices.CompareFunc(a.Hops, b.Hops, compareHops),
	)
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// decodeDefault reads an RTM_NEWROUTE message; it reports false for what is no default route.
// One that leads nowhere has no hops. devices names the devices.
func decodeDefault(b []byte, devices map[int]string) (defaultRoute, bool) {
	if len(b) < unix.SizeofRtMsg || b[0] != unix.AF_INET && b[0] != unix.AF_INET6 || b[1] != 0 {
		return defaultRoute{}, false
	}
	flags := native.Uint32(b[8:])
	r := defaultRoute{Default: Default{Table: uint32(b[4]), IPv6: b[0] == unix.AF_INET6}, protocol: b[5]}
	one := Hop{OnLink: flags&unix.RTNH_F_ONLINK != 0, Weight: 1}
	var src netip.Addr
	attributes(b[unix.SizeofRtMsg:], func(kind uint16, v []byte) {
		switch kind {
		case unix.RTA_SRC:
			src = addr(v)
		case unix.RTA_OIF:
			one.Device = devices[int(number(v))]
		case unix.RTA_GATEWAY, unix.RTA_VIA:
			one.Gateway = gatewayOf(kind, v)
		case unix.RTA_TABLE:
			r.Table = number(v)
		case unix.RTA_PRIORITY:
			r.Metric = number(v)
		case unix.RTA_MULTIPATH:
			r.Hops = decodeHops(v, devices)
		}
	})
	if b[2] > 0 {
		r.src = prefix(src, b[2], r.IPv6)
	}
	if b[7] != unix.RTN_UNICAST {
		r.Hops = nil
	} else if len(r.Hops) == 0 {
		r.Hops = []Hop{one}
	}
	return r, flags&unix.RTM_F_CLONED == 0
}

// gatewayOf reads RTA_GATEWAY, or RTA_VIA (struct rtvia: the family, and the address); it is
// zero for what stands for a point to point device's neighbour.
func gatewayOf(kind uint16, v []byte) netip.Addr {
	if kind == unix.RTA_VIA {
		v = v[min(2, len(v)):]
	}
	if a := addr(v); a != peer6 {
		return a
	}
	return netip.Addr{}
}

// decodeHops reads next hops (struct rtnexthop).
func decodeHops(b []byte, devices map[int]string) (out []Hop) {
	for len(b) >= unix.SizeofRtNexthop {
		size := int(native.Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			break
		}
		h := Hop{
			Device: devices[int(int32(native.Uint32(b[4:])))],
			OnLink: b[2]&unix.RTNH_F_ONLINK != 0, Weight: int(b[3]) + 1,
		}
		attributes(b[unix.SizeofRtNexthop:size], func(kind uint16, v []byte) {
			if kind == unix.RTA_GATEWAY || kind == unix.RTA_VIA {
				h.Gateway = gatewayOf(kind, v)
			}
		})
		out = append(out, h)
		b = b[min(align(size), len(b)):]
	}
	return out
}

// Defaults returns the default routes of a protocol in some tables, sorted; none that is for
// some sources only. Where the kernel holds two routes with the same table, family and
// metric, both's hops are there, so that it differs from what was set.
func (k *Kernel) Defaults(ctx context.Context, tables []uint32, protocol uint8) ([]Default, error) {
	if err := errors.Join(k.here(), ctx.Err()); err != nil {
		return nil, err
	}
	links, err := k.readLinks()
	if err != nil {
		return nil, err
	}
	devices := deviceNames(links)
	tables = slices.Compact(slices.Sorted(slices.Values(tables)))
	var out []Default
	for _, table := range tables {
		for _, six := range []bool{false, true} {
			routes, err := k.tableDefaults(table, six, protocol, devices)
			if err != nil {
				return nil, fmt.Errorf("read default routes of table %d: %w", table, err)
			}
			for _, r := range routes {
				d := r.normal()
				if n := len(out); n > 0 && out[n-1].Table == d.Table && out[n-1].IPv6 == d.IPv6 && out[n-1].Metric == d.Metric {
					out[n-1].Hops = append(out[n-1].Hops, d.Hops...)
					continue
				}
				out = append(out, d)
			}
		}
	}
	return out, nil
}

// tableDefaults returns the default routes for all sources of a table and family, by metric;
// protocol 0 is any.
func (k *Kernel) tableDefaults(table uint32, six bool, protocol uint8, devices map[int]string) ([]defaultRoute, error) {
	q := routeQuery{table: table, protocol: protocol}
	routes, err := dumpRoutesAs(k, six, q, func(b []byte) (defaultRoute, bool) {
		r, ok := decodeDefault(b, devices)
		return r, ok && r.Table == table && r.IPv6 == six && !r.src.IsValid()
	})
	slices.SortStableFunc(routes, compareDefaultRoutes)
	return routes, err
}
