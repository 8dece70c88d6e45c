package compile

import (
	"net/netip"
	"slices"
	"time"

	"tombolo/internal/key"
	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// clients is what the routers of a network share about roaming devices.
//
// They enter at sites that are called doors here too, and are not those of regions.
//
// A device is reached by host routes, which the speaker of the door that it is at announces;
// never by its pool, which is no connected prefix anywhere, since two doors with one would
// each hold it to be their own. Where host routes do not come, at static routers, the pool
// as a whole leads towards one of the doors, its home, as if it were a LAN there. From a
// static region one way leads to all of the home's region (see regions), and the first
// router there that speaks knows where in it the device is: so the AllowedIPs on that way
// are right for every door in the home's region, and for no other.
type clients struct {
	pool    []netip.Prefix // in both families; none where the file has no clients
	home    int            // site; -1: none
	doors   []int          // sites, ascending; none while nobody has a key to enter with
	access  key.Public
	devices []state.Client // that have a key, in the order of the file; and sites that roam
	sites   []int          // that roam: plain sites in no link: they enter like devices, with all their prefixes
}

func newClients(n *spec.Network, o Options) clients {
	c := clients{home: n.Home()}
	if n.Clients == nil {
		return c
	}
	c.pool = []netip.Prefix{n.Clients.Pool, n.Clients.Pool6}
	c.access = known(o, spec.AccessKey, n.Clients.Key)
	for _, d := range n.Clients.Devices {
		if k := known(o, d.Name, d.Key); !k.IsZero() {
			c.devices = append(c.devices, state.Client{Name: d.Name, PublicKey: k, Addresses: []netip.Prefix{host(d.Address), host(d.Address6)}})
		}
	}
	for i := range n.Sites {
		s := &n.Sites[i]
		if !n.Roams(i) {
			continue
		}
		c.sites = append(c.sites, i)
		if k := known(o, s.Name, s.Key); !k.IsZero() {
			d := state.Client{Name: s.Name, PublicKey: k, Addresses: reach(s)}
			slices.SortFunc(d.Addresses, state.ComparePrefixes)
			c.devices = append(c.devices, d)
		}
	}
	if c.access.IsZero() && len(c.devices) == 0 {
		return c // an interface could not be made without the key, and nobody misses it
	}
	for _, name := range n.Clients.At {
		if i, ok := n.Site(name); ok {
			c.doors = append(c.doors, i)
		}
	}
	slices.Sort(c.doors)
	return c
}

// known returns a public key: what the options say, else the file.
func known(o Options, name string, file key.Public) key.Public {
	if k, ok := o.Keys[name]; ok {
		return k
	}
	return file
}

// enter gives a door its interface for the devices.
func (c *compiler) enter(i int, r *state.Router) {
	if !slices.Contains(c.clients.doors, i) {
		return
	}
	s := &c.n.Sites[i]
	// What comes in is whole: a path that takes less has the tunnel's own packets in fragments.
	mtu := max(c.mtu[i]-overhead6, minMTU6)
	f := c.newInterface(i, spec.ClientsInterface, spec.AccessKey, mtu, s.BasePort)
	f.WireGuard.PrivateKey, f.WireGuard.PublicKey = key.Ref(spec.AccessKey), c.clients.access
	r.Clients = &state.Clients{Device: f.Name, Port: f.WireGuard.ListenPort, Hold: int(c.n.Clients.Hold / time.Second)}
	for _, d := range c.clients.devices {
		// Its own addresses alone: it cannot send as another.
		f.WireGuard.Peers = append(f.WireGuard.Peers, state.Peer{Name: d.Name, PublicKey: d.PublicKey, AllowedIPs: slices.Clone(d.Addresses)})
		d.Addresses = slices.Clone(d.Addresses)
		r.Clients.Devices = append(r.Clients.Devices, d)
	}
	r.Interfaces = append(r.Interfaces, f)
}

// deviceClaims returns what doors may announce of the devices. Which of them has a device
// is not the file's to say.
func (c *compiler) deviceClaims(doors []int) []claim {
	if len(doors) == 0 {
		return nil
	}
	var origins []uint32
	for _, i := range doors {
		origins = append(origins, origin(&c.n.Sites[i]))
	}
	slices.Sort(origins)
	var out []claim
	for _, d := range c.clients.devices {
		for _, p := range d.Addresses {
			out = append(out, claim{state.Accept{Dst: p, Origins: origins, Mobile: true}, several})
		}
	}
	return out
}

// doorsIn returns the doors of a Babel region.
func (c *compiler) doorsIn(region int) []int {
	return slices.DeleteFunc(slices.Clone(c.clients.doors), func(i int) bool { return c.static[i] || c.regions.of[i] != region })
}

// roams reports whether a site enters like a device.
func (c *compiler) roams(i int) bool { return slices.Contains(c.clients.sites, i) }

// beyond returns all that a roaming site reaches through its door.
func (c *compiler) beyond(site int) []netip.Prefix {
	var out []netip.Prefix
	own := reach(&c.n.Sites[site])
	for i := range c.n.Sites {
		if i == site || c.roams(i) {
			continue // other such sites lead by way of the clients' home
		}
		for _, p := range c.outside(i) {
			if !slices.Contains(own, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

// roamingInterface is that of a site that roams: its one peer is whichever door it dials.
func (c *compiler) roamingInterface(i int) state.Interface {
	f := c.newInterface(i, spec.StaticInterface, "", max(c.mtu[i]-overhead6, minMTU6), c.n.Sites[i].BasePort+c.n.Sites[i].Index)
	p := state.Peer{Name: spec.AccessKey, PublicKey: c.clients.access, AllowedIPs: c.beyond(i), Keepalive: int(holdOpen / time.Second)}
	for _, name := range c.n.Clients.At {
		door, ok := c.n.Site(name)
		if !ok || !c.n.Sites[door].Dialable(c.n.Sites[door].BasePort) {
			continue
		}
		for _, e := range c.n.Sites[door].Endpoints {
			p.Endpoints = append(p.Endpoints, joinHostPort(e.Host, e.Base))
		}
	}
	f.WireGuard.Peers = []state.Peer{p}
	return f
}

// roamingRoutes are the ways of a site that roams.
func (c *compiler) roamingRoutes(i int) []state.Route {
	var out []state.Route
	s := &c.n.Sites[i]
	for _, p := range c.beyond(i) {
		r := state.Route{
			Table: c.n.Settings.Table, Dst: p, Type: state.Unicast, Protocol: c.n.Settings.Protocol,
			PrefSrc: s.Address, Device: spec.StaticInterface,
		}
		if p.Addr().Is6() {
			r.PrefSrc = s.Address6
		}
		out = append(out, r)
	}
	return out
}
