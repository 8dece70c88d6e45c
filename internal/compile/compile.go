// Package compile turns a network file's meaning into what each router must hold. It is
// pure: the same Network gives the same state.Router, and nothing is looked up.
//
// One value's way through it: a spec.Network becomes a graph of the links that can be
// made, and that into regions (see there, how Babel and static routing live together); each
// router's links become WireGuard interfaces. For a static router the shortest ways through
// the graph become routes and AllowedIPs. A Babel router gets what its speaker is to say
// and to believe, and routes only to the static regions at whose doors it stands. The
// settings become policy rules; and all of it together one nftables table.
package compile

import (
	"fmt"
	"net/netip"

	"tombolo/internal/key"
	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// Options are what a compilation may know beyond the network file.
type Options struct {
	// Keys are public keys of sites and of roaming devices, by name, over those in the file;
	// and that of all doors, by the name spec.AccessKey.
	Keys map[string]key.Public

	// UplinkMTU is the MTU in bytes of devices of the compiled router, over those in the
	// file. Only for Router: All describes many machines.
	UplinkMTU map[string]int

	// Leased are the subnets that the compiled router's leased uplinks have now, masked.
	Leased []netip.Prefix

	// Connected are the subnets of its devices that the file does not describe, masked.
	Connected []netip.Prefix

	// Advertised are devices of the compiled router, described or not, that take router
	// advertisements now and would no longer when the router forwards.
	Advertised []string

	// NoIPv6 says that new interfaces of the compiled router come without IPv6
	// (net.ipv6.conf.default.disable_ipv6). Like the three before it only for Router.
	NoIPv6 bool
}

// Router returns what the router of one site must hold. A peer whose key is in neither
// the file nor the options has a zero key; such a router can be shown and not applied.
// The error says that there is no such site.
func Router(n *spec.Network, site string, o Options) (state.Router, error) {
	i, ok := n.Site(site)
	if !ok {
		return state.Router{}, fmt.Errorf("network %q has no site %q", n.Name, site)
	}
	return newCompiler(n, o).router(i), nil
}

// All returns what each router must hold, in the order of n.Sites.
func All(n *spec.Network, o Options) []state.Router {
	o = Options{Keys: o.Keys}
	c := newCompiler(n, o)
	out := make([]state.Router, len(n.Sites))
	for i := range n.Sites {
		out[i] = c.router(i)
	}
	return out
}

// Owner returns how the file's settings mark what is ours.
func Owner(s spec.Settings) state.Owner {
	o := state.DefaultOwner()
	o.Protocol = s.Protocol
	o.RuleFirst, o.RuleLast = s.Priority, s.Priority+99
	o.RulesetTable = s.NFTable
	return o
}

// compiler is a network with what all its routers share.
type compiler struct {
	n      *spec.Network
	o      Options
	static []bool // of each site: it has one interface for all its links, and no speaker
	mtu    []int  // of each site: the smallest of its uplinks

	graph   *graph // every link that can be made
	roads   *graph // those that carry traffic
	regions *regions
	links   []int           // of each site: how many it has to Babel sites
	claims  map[int][]claim // by Babel region; see claimsOf
	clients clients
	exits   exits
	hops    []ways  // of static sites, when they were asked for
	access  *policy // when it was asked for
}

func newCompiler(n *spec.Network, o Options) *compiler {
	c := &compiler{
		n: n, o: o, static: make([]bool, len(n.Sites)), mtu: make([]int, len(n.Sites)),
		graph: newGraph(n), links: make([]int, len(n.Sites)), claims: map[int][]claim{},
		clients: newClients(n, o),
	}
	for i := range n.Sites {
		c.static[i] = n.Sites[i].Routing == spec.Static || n.Sites[i].Kind == spec.Plain
		c.mtu[i] = uplinkMTU(&n.Sites[i], nil)
	}
	c.exits, c.hops = newExits(n, c.clients), make([]ways, len(n.Sites))
	c.regions = newRegions(n, c.graph, c.static)
	c.roads = c.regions.roads(c.graph)
	c.graph.each(func(a, b int, _ uint64) {
		if !c.static[b] {
			c.links[a]++
		}
		if !c.static[a] {
			c.links[b]++
		}
	})
	return c
}

func (c *compiler) router(i int) state.Router {
	s := &c.n.Sites[i]
	if c.o.UplinkMTU != nil {
		c.mtu[i] = uplinkMTU(s, c.o.UplinkMTU)
	}
	r := state.Router{
		Version: state.Version,
		Network: c.n.Name,
		Site:    s.Name,
		Owner:   Owner(c.n.Settings),
		LANs:    describeLANs(s),
		Uplinks: c.uplinks(i),
		Egress:  c.egress(i),
	}
	for _, e := range s.Endpoints {
		r.Endpoints = append(r.Endpoints, joinHostPort(e.Host, e.Base))
	}
	ways := c.ways(i)
	r.Interfaces = c.interfaces(i, ways)
	c.enter(i, &r)
	r.Routes = c.routes(i, ways)
	r.Babel = c.babel(i, &r)
	tunnels := c.tunnelMarks(i)
	r.Rules = c.rules(i, fabric(r), tunnels, r.Babel != nil)
	if r.Babel != nil {
		r.Routes = append(r.Routes, c.noWays(&r)...)
	}
	r.Rulesets = []state.Ruleset{c.ruleset(i, &r, tunnels)}
	r.Routes = append(r.Routes, c.exitRoutes(i)...)
	r.Routes = append(r.Routes, tunnelRoutes(tunnels, c.n.Settings)...)
	r.Sysctls = c.sysctls(i, &r)
	r.Forwards = c.forwards(i, &r)
	r.Sort()
	return r
}

// reach returns the prefixes by which the rest of the network reaches a site: its overlay
// addresses and its LANs, those that are mapped (`as:`) by what they are mapped to.
func reach(s *spec.Site) []netip.Prefix {
	out := []netip.Prefix{host(s.Address), host(s.Address6)}
	for _, l := range s.LANs {
		for _, m := range l.Prefixes {
			out = append(out, m.Outside())
		}
	}
	return out
}

// outside returns the prefixes by which a site is reached from where no speaker tells of
// them: reach, what it lets in from routers of no site, and the clients' pool at its home.
func (c *compiler) outside(i int) []netip.Prefix {
	s := &c.n.Sites[i]
	out := append(reach(s), foreignPrefixes(s)...)
	if i == c.clients.home {
		out = append(out, c.clients.pool...)
		for _, g := range c.clients.sites {
			out = append(out, reach(&c.n.Sites[g])...)
		}
	}
	return out
}

// fabric returns the prefixes to which the router may have routes in the fabric's table:
// those that are compiled, and those that its speaker may learn.
func fabric(r state.Router) []netip.Prefix {
	var out []netip.Prefix
	for _, route := range r.Routes {
		if route.Type == state.Unicast {
			out = append(out, route.Dst)
		}
	}
	if r.Babel != nil {
		for _, a := range r.Babel.Accept {
			if !a.Src.IsValid() { // an exit's is not there for everybody
				out = append(out, a.Dst)
			}
		}
		for _, l := range r.Babel.Links {
			out = append(out, l.Foreign...)
		}
	}
	return out
}

func describeLANs(s *spec.Site) []state.LAN {
	var out []state.LAN
	for _, l := range s.LANs {
		lan := state.LAN{Device: l.Device}
		for _, m := range l.Prefixes {
			lan.Prefixes = append(lan.Prefixes, m.Prefix)
		}
		out = append(out, lan)
	}
	return out
}

// host returns the prefix that holds only a: /32 or /128.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
