// Package learned says which routes and rules the agents of a network's routers hold once
// nothing changes any more, beside those that are compiled: what their speakers learn of each
// other (package babel), where that is laid, and what follows the uplinks (package agent). It
// runs no speaker: it is a shortest-path search over the values of package state, and so
// packets can be followed over a network that is only wanted.
//
// # What is decided here that a real network leaves open
//
//   - Of ways with equal metrics a router takes the first one by device, and of a segment's by
//     the neighbour's name. A speaker that starts takes the same one, but stays with another
//     that it knew earlier: also with one that is worse by less than 0.5 ms or 1 %; by less than
//     2 ms or 5 % where the better one is not feasible. Metrics of exits begin at 1.09 s for
//     the second one, so that there this is more.
//   - Tables for the sources of IPv4 (state.Sources) go by prefix; a real agent gives them out
//     as sources come.
//   - Which routers share a segment: those whose subnets on their devices meet, and those that
//     name each other as Peer.
//   - On a segment the next hop's address may be one that no file knows. Of a LAN it is then the
//     subnet's first one, and of IPv6 a link-local one that is made of the site's number.
//     Held.Next says whose each is. A router of no site has none.
//   - An uplink that is leased, and whose lease nobody knows, is there in both families: its
//     defaults have no gateway, and there are no rules for its addresses.
package learned

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"tombolo/internal/state"
)

// World is a network: what its routers are to hold, and what is so of the world around them.
type World struct {
	Routers []state.Router // of all sites

	// Down reports that the link between two sites carries nothing, in either direction; it is
	// enough that it is true in one order of the two. Nil: all carry.
	Down func(a, b string) bool

	// Dead reports that a device of a site has no carrier; or, of an uplink with a check, that
	// the check finds out that it does not work. Without a check nobody notices more than a
	// carrier that is lost. Device "" is the whole router. Nil: all work.
	Dead func(site, device string) bool

	// CutOff reports that nothing passes by any uplink of a site, and so by none of its tunnels. Nil: none
	// is; that a check finds nobody outside does not say so.
	CutOff func(site string) bool

	// Doors says at which site a roaming device is, by name. One that is not in it is nowhere.
	Doors map[string]string

	// Takes is what a roaming device sends into its tunnel, and takes out of it, by name: the
	// AllowedIPs of its configuration. Of one that is not in it, everything.
	Takes map[string][]netip.Prefix

	// Uplinks says what an uplink has beside what the state says of it, as a lease gives it. An
	// uplink with addresses and without any gateway needs none. Nil: nothing.
	Uplinks func(site, device string) (addresses []netip.Prefix, gateways []netip.Addr)

	// Public says as which address an uplink's private one is seen outside: there must be a NAT of its
	// provider. Invalid: it is not known. Nil: none is.
	Public func(site, device string) netip.Addr

	// Foreign says what routers of no site announce on a segment of a site. Nil: nothing.
	Foreign func(site, device string) []netip.Prefix

	// Observed is what agents were seen to hold, by site. Such a site's state is what its router was
	// seen to hold, and its uplinks have what Uplinks says and nothing else. Nil: nobody was asked.
	Observed map[string]Held

	// LinkLocal says whose link-local addresses are that were seen, on what is no tunnel.
	LinkLocal map[netip.Addr]End

	// RTT is the round trip between neighbours. Nil: 0, and a link costs what the file says.
	RTT func(a, b string) time.Duration
}

// Held is what a router's agent holds, beside what is compiled. Both lists are in the order of
// state.Router.Sort. A default route by several uplinks is as many routes that differ in
// nothing but the next hop; their weights are those of state.Router.Uplinks.
type Held struct {
	Routes []state.Route
	Rules  []state.Rule

	// Next says whose the gateways of learned routes are.
	Next map[netip.Addr]End

	// LANs is what the router itself has on its LANs' devices. It is only observed; what is
	// computed has the first address of each LAN.
	LANs map[string][]netip.Prefix
}

// End is a router's device.
type End struct{ Site, Device string }

// Routes returns what the agents hold, by site. A router that is dead holds nothing.
func Routes(w World) map[string]Held {
	routers := make([]*state.Router, len(w.Routers)) // they are large: none is moved
	for i := range routers {
		routers[i] = &w.Routers[i]
	}
	slices.SortFunc(routers, func(a, b *state.Router) int { return strings.Compare(a.Site, b.Site) })
	out := make(map[string]Held, len(routers))
	var nodes []*node
	for _, r := range routers {
		if w.dead(r.Site, "") {
			continue
		}
		n := w.newNode(r)
		n.index = len(nodes)
		nodes = append(nodes, n)
	}
	w.join(nodes)
	choose(nodes, w.announced(nodes))
	for _, n := range nodes {
		n.lay(&w)
		slices.SortFunc(n.held.Routes, state.CompareRoutes)
		slices.SortFunc(n.held.Rules, state.CompareRules)
		out[n.router.Site] = n.held
		if seen, ok := w.Observed[n.router.Site]; ok {
			seen.Next = n.held.Next // as far as anybody can know
			out[n.router.Site] = seen
		}
	}
	return out
}

// node is a router whose agent runs.
type node struct {
	index  int
	router *state.Router
	links  []*link // by device
	works  [2]bool // whether an uplink works, in IPv4 and IPv6
	held   Held

	heard   []edge // by which others hear it
	learned []way  // by key
}

func (w *World) newNode(r *state.Router) *node {
	n := &node{router: r}
	w.follow(n)
	if r.Babel == nil {
		return n
	}
	for i := range r.Babel.Links {
		l := &link{BabelLink: &r.Babel.Links[i], node: n}
		l.speaks = w.carrier(r, l.Device) && (!l.Tunnel || hasLinkLocal(r, l.Device))
		n.links = append(n.links, l)
	}
	slices.SortFunc(n.links, func(a, b *link) int { return strings.Compare(a.Device, b.Device) })
	return n
}

func (w *World) dead(site, device string) bool { return w.Dead != nil && w.Dead(site, device) }

func (w *World) down(a, b string) bool { return w.Down != nil && (w.Down(a, b) || w.Down(b, a)) }

func (w *World) cutOff(site string) bool { return w.CutOff != nil && w.CutOff(site) }

// carrier reports whether a device of a router has carrier. What a check finds out about an
// uplink lies farther off.
func (w *World) carrier(r *state.Router, device string) bool {
	if !w.dead(r.Site, device) {
		return true
	}
	return slices.ContainsFunc(r.Uplinks, func(u state.Uplink) bool { return u.Device == device && u.Check != nil })
}
