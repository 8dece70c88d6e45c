package kernel

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"golang.org/x/sys/unix"

	"tombolo/internal/state"
)

// Strangers are what other programs have on this machine that may meet what is ours.
type Strangers struct {
	Rules []StrangeRule // all of them, in their order

	// Routes are those that take everything or half of it (lengths 0 and 1), in any table,
	// and of the others in our tables one of each table, family and protocol. IPv6 routes
	// with the kernel's own metric have none.
	Routes []state.Route
}

// StrangeRule is a rule of another program, which may say more than ours do.
type StrangeRule struct {
	state.Rule
	Not    bool // it is for packets that do not match
	Narrow bool // it matches by what state.Rule has no word for: users, ports, type of service
}

// ReadStrangers reads what is none of ours: of no protocol of ours. ours says which tables are
// ours. It reads the namespace of the calling thread, through a socket of its own.
func ReadStrangers(protocols []uint8, ours func(table uint32) bool) (Strangers, error) {
	s, err := openSocket(unix.NETLINK_ROUTE)
	if err != nil {
		return Strangers{}, err
	}
	defer s.close()
	var out Strangers
	for _, six := range []bool{false, true} {
		rules, err := strangeRules(s, six, protocols)
		if err != nil {
			return Strangers{}, fmt.Errorf("read rules: %w", err)
		}
		routes, err := strangeRoutes(s, six, protocols, ours)
		if err != nil {
			return Strangers{}, fmt.Errorf("read routes: %w", err)
		}
		out.Rules = append(out.Rules, rules...)
		out.Routes = append(out.Routes, routes...)
	}
	slices.SortStableFunc(out.Rules, func(x, y StrangeRule) int { return state.CompareRules(x.Rule, y.Rule) })
	slices.SortFunc(out.Routes, state.CompareRoutes)
	return out, nil
}

func strangeRules(s *socket, six bool, protocols []uint8) ([]StrangeRule, error) {
	var w writer
	h := make([]byte, sizeofRule)
	h[0] = family(six)
	w.begin(unix.RTM_GETRULE, 0, h)
	rules, err := dump(s, &w, func(b []byte) (StrangeRule, bool) {
		r, ok := decodeRule(b)
		if !ok || r.IPv6 != six || slices.Contains(protocols, r.Protocol) {
			return StrangeRule{}, false
		}
		x := StrangeRule{Rule: r, Not: native.Uint32(b[8:])&unix.FIB_RULE_INVERT != 0, Narrow: b[3] != 0}
		attributes(b[sizeofRule:], func(kind uint16, _ []byte) {
			switch kind {
			case unix.FRA_UID_RANGE, unix.FRA_IP_PROTO, unix.FRA_SPORT_RANGE, unix.FRA_DPORT_RANGE, unix.FRA_TUN_ID:
				x.Narrow = true
			}
		})
		return x, true
	})
	if six && noIPv6(err) {
		return nil, nil
	}
	return rules, err
}

func strangeRoutes(s *socket, six bool, protocols []uint8, ours func(uint32) bool) ([]state.Route, error) {
	type source struct {
		table    uint32
		protocol uint8
	}
	names := namesOfThisNamespace()
	var w writer
	h := make([]byte, unix.SizeofRtMsg)
	h[0] = family(six)
	w.begin(unix.RTM_GETROUTE, 0, h)
	routes, err := dump(s, &w, func(b []byte) (state.Route, bool) {
		// Of a million routes most are in main, and go no further than this.
		if len(b) < unix.SizeofRtMsg || slices.Contains(protocols, b[5]) || b[1] > 1 && (b[4] == unix.RT_TABLE_MAIN || b[4] == unix.RT_TABLE_LOCAL) {
			return state.Route{}, false
		}
		r, ok := decodeRoute(b, names)
		if six && r.Metric == defaultMetric6 {
			r.Metric = 0
		}
		return r, ok && r.Dst.Addr().Is6() == six && (r.Dst.Bits() <= 1 || ours(r.Table))
	})
	if six && noIPv6(err) {
		return nil, nil
	}
	met := map[source]bool{}
	return slices.DeleteFunc(routes, func(r state.Route) bool {
		x := source{r.Table, r.Protocol}
		again := met[x]
		met[x] = true
		return again && r.Dst.Bits() > 1
	}), err
}

// namesOfThisNamespace are the devices' names as package net reads them, without a Kernel.
func namesOfThisNamespace() map[int]string {
	devices, _ := net.Interfaces() // without a name a route is still one
	names := make(map[int]string, len(devices))
	for _, d := range devices {
		names[d.Index] = d.Name
	}
	return names
}

// noIPv6 reports whether the kernel has no IPv6.
func noIPv6(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)
}
