package agent

import (
	"net/netip"
	"slices"

	"tombolo/internal/kernel"
	"tombolo/internal/state"
)

// exitWay is how an uplink stands in one family.
type exitWay struct {
	hop       kernel.Hop
	addresses []netip.Prefix // global ones, with their subnets
	sources   []netip.Prefix // of defaults for some sources only (IPv6): what was delegated to it
	there     bool           // it has an address and a way on
	works     bool           // and what checks it says so too
}

// egressLayout is what the kernel must hold because of the uplinks, all of Egress.Protocol.
type egressLayout struct {
	defaults map[defaultKey]kernel.Default // by table and family
	routes   map[state.RouteKey]state.Route
	rules    map[state.Rule]bool
	works    map[bool]bool // by family (IPv6): some uplink does
}

type defaultKey struct {
	table uint32
	six   bool
}

// layEgress says what follows from the uplinks as they are now. down are those that the
// checks found not to work, by device; specifics are main's other routes by a device.
//
// Each uplink has its own subnets, main's other routes by it and its default route in its table, whether or not it works:
// who came in by it has no other way back. What leaves anew goes by those that work; if none
// does, the checks may be wrong, and it goes by all.
func layEgress(r *state.Router, devices map[string]kernel.Device, specifics map[string][]state.Route, down map[string]bool) egressLayout {
	out := egressLayout{
		defaults: map[defaultKey]kernel.Default{}, routes: map[state.RouteKey]state.Route{}, rules: map[state.Rule]bool{}, works: map[bool]bool{},
	}
	if r.Egress == nil {
		return out
	}
	for _, six := range []bool{false, true} {
		ways := make([]exitWay, len(r.Uplinks))
		for i, u := range r.Uplinks {
			d, seen := devices[u.Device]
			ways[i] = wayOut(u, d, seen, six)
			ways[i].works = ways[i].there && !down[u.Device]
			out.works[six] = out.works[six] || ways[i].works
			out.uplink(r.Egress, u, ways[i], specifics[u.Device], six)
		}
		if t := r.Egress.Table; t != 0 {
			if hops := sharers(r.Uplinks, ways); len(hops) > 0 {
				out.defaults[defaultKey{t, six}] = kernel.Default{Table: t, IPv6: six, Hops: hops}
			}
		}
	}
	return out
}

// wayOut returns how an uplink's device stands in one family.
func wayOut(u state.Uplink, d kernel.Device, seen, six bool) exitWay {
	w := exitWay{hop: kernel.Hop{Device: u.Device, Weight: 1}}
	if !seen || !d.Up || !d.Carrier {
		return w
	}
	for _, a := range d.Global {
		if a.Addr().Is6() == six {
			w.addresses = append(w.addresses, a)
		}
	}
	leads := false
	for _, g := range u.Gateways {
		if g.Is6() == six {
			w.hop.Gateway, leads = g, true
		}
	}
	for _, x := range d.Defaults {
		switch {
		case x.IPv6 != six:
		case x.Src.IsValid() && x.Src.Bits() > 0:
			w.sources = append(w.sources, x.Src)
			fallthrough
		case !leads:
			if !leads {
				w.hop.Gateway, leads = x.Gateway, true
			}
		}
	}
	// The kernel would look for it by all rules, ours too.
	w.hop.OnLink = onLink(w.hop.Gateway)
	// With a delegated prefix alone it is a way for that.
	w.there = leads && (len(w.addresses) > 0 || len(w.sources) > 0)
	return w
}

// onLink reports whether the kernel is to be told that a gateway is on its device; of IPv6's
// link-local ones it knows.
func onLink(gateway netip.Addr) bool {
	return gateway.Is4() || gateway.IsValid() && !gateway.IsLinkLocalUnicast()
}

// uplink lays what is one uplink's own.
func (l *egressLayout) uplink(e *state.Egress, u state.Uplink, w exitWay, specifics []state.Route, six bool) {
	if u.Table == 0 || !w.there {
		return
	}
	l.defaults[defaultKey{u.Table, six}] = kernel.Default{Table: u.Table, IPv6: six, Hops: []kernel.Hop{w.hop}}
	rule := state.Rule{IPv6: six, Action: state.Lookup, Table: u.Table, Protocol: e.Protocol}
	for _, r := range specifics {
		if r.Dst.Addr().Is6() != six {
			continue
		}
		r = state.Route{
			Table: u.Table, Dst: r.Dst, Type: state.Unicast, Device: u.Device, Gateway: r.Gateway,
			OnLink: onLink(r.Gateway), Protocol: e.Protocol,
		}
		if _, better := l.routes[r.Key()]; !better { // by rising metric
			l.routes[r.Key()] = r
		}
	}
	for _, a := range w.addresses {
		from := rule
		from.Priority, from.From = e.Source, netip.PrefixFrom(a.Addr(), a.Addr().BitLen())
		l.rules[from] = true
		if e.Outer != 0 && w.works {
			from.Priority, from.Mark, from.Mask = e.Outer, e.Mark, e.Mask
			l.rules[from] = true
		}
	}
	for _, p := range w.sources {
		from := rule
		from.Priority, from.From = e.Delegated, p
		l.rules[from] = true
	}
}

// sharers returns the next hops of new flows: of the uplinks that work, those with the lowest
// preference.
func sharers(uplinks []state.Uplink, ways []exitWay) []kernel.Hop {
	working := slices.ContainsFunc(ways, func(w exitWay) bool { return w.works })
	lowest := 0
	var hops []kernel.Hop
	for i, u := range uplinks {
		if !ways[i].there || len(ways[i].addresses) == 0 || working && !ways[i].works {
			continue
		}
		if lowest == 0 || u.Preference < lowest {
			lowest, hops = u.Preference, nil
		}
		if u.Preference == lowest {
			hop := ways[i].hop
			hop.Weight = max(1, u.Weight)
			hops = append(hops, hop)
		}
	}
	return hops
}
