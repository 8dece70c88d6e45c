package agent

import (
	"cmp"
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"tombolo/internal/api"
	"tombolo/internal/babel"
	"tombolo/internal/babel/wire"
	"tombolo/internal/state"
)

// status says how the router is.
func (a *Agent) status(ctx context.Context) (api.Status, error) {
	a.observer.fresh(ctx)
	w, changed := a.base.now()
	seen := a.observer.sight()
	r := w.Router
	s := api.Status{
		Network: r.Network, Site: r.Site, Version: a.o.Version, Started: a.started, Now: time.Now(),
		Source: w.File, Problems: a.problems.list(), LastChange: changed,
		Announced: seen.announc, Waiting: a.o.Records.Waiting(),
		LANs: []api.Device{}, Uplinks: []api.Uplink{}, Clients: []api.Client{},
	}
	if s.Announced == nil {
		s.Announced = []api.Announcement{}
	}
	if a.o.Source != nil {
		s.Follows = a.o.Source.Name()
	}
	for _, t := range seen.tunnels {
		s.WireGuard = "kernel"
		if t.Embedded {
			s.WireGuard = "embedded"
			break
		}
	}
	var v babel.View
	var at babel.Time
	if h := a.routing.host(); h != nil {
		var err error
		if v, _, at, err = h.view(ctx); err != nil {
			return s, err
		}
	}
	s.Refused, s.Malformed, s.Unsigned = v.Refused, v.Malformed, v.Unsigned
	var prefixes map[string]int
	s.Routes, prefixes = a.routing.routes()
	s.Links = linksOf(r, seen, v, s.Now, at, prefixes)
	if r.Clients != nil {
		s.Clients = clientsOf(w, a.roaming.report(ctx), v, s.Now, at)
	}
	for _, l := range r.LANs {
		s.LANs = append(s.LANs, deviceOf(l.Device, seen))
	}
	for _, u := range r.Uplinks {
		s.Uplinks = append(s.Uplinks, a.egress.uplink(deviceOf(u.Device, seen)))
	}
	return s, nil
}

// clientsOf says where the roaming devices are, by name.
func clientsOf(w Wanted, guests []guest, v babel.View, now time.Time, at babel.Time) []api.Client {
	ways := map[netip.Prefix]babel.EntryView{}
	for _, e := range v.Routes {
		if !e.Own && e.Hop != nil && !e.Hop.Unreachable && !e.Src.IsValid() {
			ways[e.Dst] = e
		}
	}
	out := []api.Client{}
	for _, g := range guests {
		x := api.Client{
			Name: g.Name, Addresses: g.Addresses, Here: g.visit != 0,
			Endpoint: g.at, Received: g.received, Sent: g.sent,
		}
		if g.stamp != 0 {
			x.Handshake = time.Unix(0, g.stamp)
		}
		if g.problem != nil {
			x.Problem = g.problem.Error()
		}
		if x.Here {
			x.Site, x.Since = w.Router.Site, g.since
		}
		for _, a := range g.Addresses {
			for _, r := range ways[a].Routes {
				if r.Selected && !x.Here {
					x.Site, x.Since = originOf(w, r.RouterID), now.Add(ways[a].Since-at)
				}
			}
		}
		out = append(out, x)
	}
	return out
}

func deviceOf(name string, s sight) api.Device {
	d, there := s.devices[name]
	out := api.Device{
		Name: name, State: deviceState(d, there),
		Addresses: []netip.Prefix{}, Gateways: append([]netip.Addr{}, d.Gateways...),
	}
	for _, p := range d.Addresses {
		if !p.Addr().IsLinkLocalUnicast() {
			out.Addresses = append(out.Addresses, p)
		}
	}
	return out
}

// linksOf returns the router's links: one for each peer of a tunnel, and one for each
// segment, by name.
func linksOf(r state.Router, s sight, v babel.View, now time.Time, at babel.Time, prefixes map[string]int) []api.Link {
	out := []api.Link{}
	spoken := map[string]state.BabelLink{}
	if r.Babel != nil {
		for _, l := range r.Babel.Links {
			spoken[l.Device] = l
		}
	}
	for _, f := range r.Interfaces {
		if f.WireGuard == nil || r.Clients != nil && f.Name == r.Clients.Device {
			continue
		}
		l, speaks := spoken[f.Name]
		delete(spoken, f.Name)
		t := s.tunnels[f.Name]
		for _, p := range f.WireGuard.Peers {
			x := tunnelLink(f.Name, p, peerOf(t, p.PublicKey), s)
			switch {
			case x.State != "": // it cannot be sent on
			case speaks && (p.Name == l.Peer || l.Peer == ""):
				neighbour(&x, v, now, at)
			default:
				x.State = "static"
			}
			if x.Handshake.IsZero() && (x.State == "no neighbour" || x.State == "static") {
				x.State = "no handshake"
			}
			x.Prefixes = prefixes[f.Name] + compiled(r, f, p)
			out = append(out, x)
		}
	}
	for _, l := range spoken {
		x := api.Link{Device: l.Device, Peer: l.Peer, Cost: wire.Infinity, Prefixes: prefixes[l.Device]}
		if d, there := s.devices[l.Device]; deviceState(d, there) == "up" {
			neighbour(&x, v, now, at)
		} else {
			x.State = deviceState(d, there)
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(x, y api.Link) int {
		return cmp.Or(cmp.Compare(x.Peer, y.Peer), cmp.Compare(x.Device, y.Device))
	})
	return out
}

// tunnelLink returns what WireGuard says of a peer. State is empty where it can be sent to.
func tunnelLink(device string, want, have state.Peer, s sight) api.Link {
	x := api.Link{
		Device: device, Peer: want.Name, WireGuard: true, Cost: wire.Infinity,
		Handshake: unixTime(have.Handshake), Received: have.Received, Sent: have.Sent,
	}
	if len(have.Addresses) > 0 {
		x.Endpoint = have.Addresses[0]
	}
	rate := s.rates[peerID{device, want.PublicKey}]
	x.RxRate, x.TxRate = rate.rx, rate.tx
	d, there := s.devices[device]
	switch {
	case !there:
		x.State = "missing"
	case !d.Up:
		x.State = "down"
	}
	return x
}

// compiled counts the routes that were compiled and go to a peer of an interface: where it
// has several, AllowedIPs say which.
func compiled(r state.Router, f state.Interface, p state.Peer) int {
	n := 0
	for _, t := range r.Routes {
		if t.Device == f.Name && (len(f.WireGuard.Peers) == 1 || slices.Contains(p.AllowedIPs, t.Dst)) {
			n++
		}
	}
	return n
}

// neighbour fills in what the speaker says of a link: of the best of its neighbours, where
// it has several.
func neighbour(x *api.Link, v babel.View, now time.Time, at babel.Time) {
	x.State = "no neighbour"
	for _, l := range v.Links {
		if l.Name == x.Device {
			x.Active = l.Active
		}
	}
	found := false
	for _, n := range v.Neighbours {
		if n.Link != x.Device || found && n.Cost >= x.Cost {
			continue
		}
		found = true
		x.State, x.Since = n.State, now.Add(n.Since-at)
		x.RTT, x.Loss, x.Cost = n.RTT, n.Loss, n.Cost
	}
}

// routes says which ways there are to each prefix.
func (a *Agent) routes(ctx context.Context) (api.Routes, error) {
	w, _ := a.base.now()
	now := time.Now()
	out := api.Routes{Site: w.Router.Site, Now: now, Entries: []api.Entry{}}
	if h := a.routing.host(); h != nil {
		v, w, at, err := h.view(ctx)
		if err != nil {
			return out, err
		}
		for _, e := range v.Routes {
			out.Entries = append(out.Entries, entryOf(w, e, v, now, at))
		}
	}
	for _, t := range w.Router.Routes {
		if t.Table == mainTable || t.Dst.Bits() == 0 || t.Type != state.Unicast {
			continue
		}
		out.Entries = append(out.Entries, api.Entry{
			Dst: t.Dst, Src: t.Src, Why: "compiled from the network file",
			Ways: []api.Way{{Device: t.Device, Peer: peerName(w.Router, t.Device, t.Dst.Addr()), NextHop: t.Gateway, Chosen: true, Feasible: true}},
		})
	}
	for i := range out.Entries {
		if e := &out.Entries[i]; e.Site == "" {
			e.Site = siteOf(w, e.Dst)
		}
	}
	slices.SortStableFunc(out.Entries, func(x, y api.Entry) int {
		return cmp.Or(state.ComparePrefixes(x.Dst, y.Dst), state.ComparePrefixes(x.Src, y.Src))
	})
	return out, nil
}

// mainTable is the kernel's table of ordinary routes (linux/rtnetlink.h, RT_TABLE_MAIN).
const mainTable = 254

func entryOf(w Wanted, e babel.EntryView, v babel.View, now time.Time, at babel.Time) api.Entry {
	out := api.Entry{Dst: e.Dst, Src: e.Src, Own: e.Own, Why: e.Why, Ways: []api.Way{}}
	if e.Own {
		out.Site = w.Router.Site
	}
	if e.Hop != nil {
		out.Since = now.Add(e.Since - at)
		out.Unreachable = e.Hop.Unreachable
	}
	for _, r := range e.Routes {
		way := api.Way{
			Device: r.Link, Peer: peerName(w.Router, r.Link, e.Dst.Addr()), NextHop: r.NextHop, Metric: r.Metric, Cost: wire.Infinity,
			Chosen: r.Selected, Kept: r.Kept, Feasible: r.Feasible, Note: r.Note, Origin: originOf(w, r.RouterID),
		}
		for _, n := range v.Neighbours {
			if n.Link == r.Link && n.Address == r.Neighbour {
				way.Cost = n.Cost
			}
		}
		if out.Site == "" && (r.Selected || len(e.Routes) == 1) {
			out.Site = way.Origin
		}
		out.Ways = append(out.Ways, way)
	}
	return out
}

// originOf names the site that a router-id belongs to, or prints the id of a router that
// belongs to none.
func originOf(w Wanted, id wire.RouterID) string {
	for _, s := range w.Sites {
		if s.Babel == binary.BigEndian.Uint32(id[:4]) {
			return s.Name
		}
	}
	if !id.Valid() {
		return ""
	}
	return idText(id)
}

// siteOf names the site whose overlay address a prefix is; empty where it is none.
func siteOf(w Wanted, p netip.Prefix) string {
	for _, s := range w.Sites {
		if p.IsSingleIP() && (p.Addr() == s.Address || p.Addr() == s.Address6) {
			return s.Name
		}
	}
	return ""
}

// peerName names the site at the other end of a device by which packets to an address go,
// or the device.
func peerName(r state.Router, device string, to netip.Addr) string {
	if r.Babel != nil {
		for _, l := range r.Babel.Links {
			if l.Device == device && l.Peer != "" {
				return l.Peer
			}
		}
	}
	for _, f := range r.Interfaces {
		if f.Name != device || f.WireGuard == nil {
			continue
		}
		for _, p := range f.WireGuard.Peers {
			if len(f.WireGuard.Peers) == 1 || slices.ContainsFunc(p.AllowedIPs, func(n netip.Prefix) bool { return n.Contains(to) }) {
				return p.Name
			}
		}
	}
	return device
}

// idText prints a router-id as other Babel routers do.
func idText(id wire.RouterID) string {
	const digits = "0123456789abcdef"
	b := make([]byte, 0, 23)
	for i, x := range id {
		if i > 0 {
			b = append(b, ':')
		}
		b = append(b, digits[x>>4], digits[x&15])
	}
	return string(b)
}
