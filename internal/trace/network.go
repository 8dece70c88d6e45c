package trace

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tombolo/internal/state"
	"tombolo/internal/trace/learned"
	"tombolo/internal/trace/ruleset"
)

// Network is all routers, prepared to be walked. It is not changed by a walk, so that several
// may go on at once.
type Network struct {
	routers map[string]*router
	names   []string               // of routers, in the order of the file
	public  map[netip.Addr]*router // by addresses of uplinks
	routed  []*router              // who has LANs with addresses of the Internet
	hidden  map[netip.Addr]string  // sites, by what their providers' NATs show
	devices map[string]*roamer
	byAddr  map[netip.Addr]*roamer
	owners  map[netip.Addr][]owner     // routers, by their addresses on devices that are there without us
	local   map[netip.Addr]learned.End // link-local ones that were seen
}

// roamer is a roaming device, or a plain site that enters like one.
type roamer struct {
	name      string
	addresses []netip.Addr
	takes     []netip.Prefix // nil: all
	door      *router        // nil: it is nowhere
	device    *netdev        // of the door
}

// router is one of them.
type router struct {
	name  string
	state *state.Router
	table *ruleset.Table // nil: none
	rules [2][]rule      // by family, in their order
	fibs  map[uint32]*[2]fib
	local map[netip.Addr]*netdev // own addresses, and their devices

	broadcasts map[netip.Addr]bool // of the networks that it is in
	devices    map[string]*netdev
	uplinks    []*netdev // in the order of the file; without those of which there is no address to lease
	lans       []lan
	dead       bool // as a whole
	cut        bool // off: it has uplinks, and none works

	next map[netip.Addr]learned.End // who is behind gateways that no file knows
}

type lan struct {
	device *netdev
	prefix netip.Prefix
	own    netip.Addr // the router's address in it
	mapped bool       // to another, by which alone others know it
}

// link is a tunnel's peer.
type link struct {
	peer   *state.Peer
	to     *router // nil: a roaming device
	device *netdev // of the router there
	roamer *roamer
	down   bool
	all    bool // its AllowedIPs are all addresses

	carries bool // the tunnel's own packet has a way
}

// New prepares a network. It fails on a ruleset that is not as internal/compile writes them.
func New(w learned.World) (*Network, error) {
	n := &Network{routers: map[string]*router{}, public: map[netip.Addr]*router{}, hidden: map[netip.Addr]string{}, devices: map[string]*roamer{}, byAddr: map[netip.Addr]*roamer{}, owners: map[netip.Addr][]owner{}, local: w.LinkLocal}
	if w.CutOff == nil {
		w.CutOff = cutOff(&w)
	}
	leases := lease(&w)
	var several []netip.Addr
	held := learned.Routes(w)
	for i := range w.Routers {
		s := &w.Routers[i]
		r, err := newRouter(s, held[s.Site], leases, w.Dead)
		if err != nil {
			return nil, fmt.Errorf("site %s: %w", s.Site, err)
		}
		r.cut = w.CutOff(s.Site)
		n.routers[s.Site], n.names = r, append(n.names, s.Site)
		for _, d := range r.uplinks {
			x, _ := leases(s.Site, d.name)
			for _, a := range x.addresses {
				if n.public[a.Addr()] != nil && private(a.Addr()) {
					several = append(several, a.Addr()) // they are in networks that have nothing to do with each other
				}
				n.public[a.Addr()] = r
			}
		}
	}
	for _, a := range several {
		delete(n.public, a)
	}
	n.hide(w.Public)
	n.enter(w)
	for _, name := range n.names {
		n.join(n.routers[name], w.Down)
	}
	n.prepare()
	return n, nil
}

func newRouter(s *state.Router, held learned.Held, leases func(site, device string) (uplink, bool), dead func(site, device string) bool) (*router, error) {
	r := &router{
		name: s.Site, state: s, fibs: map[uint32]*[2]fib{}, local: map[netip.Addr]*netdev{}, devices: map[string]*netdev{},
		next: held.Next, broadcasts: map[netip.Addr]bool{},
	}
	for _, x := range s.Rulesets {
		t, err := ruleset.Parse(x.Text)
		if err != nil {
			return nil, err
		}
		r.table = t
	}
	r.meet(dead)
	for _, u := range s.Uplinks {
		r.has(u.Device).checked = u.Check != nil && held.LANs == nil // else it was looked at
	}
	for i := range s.Interfaces {
		d := r.has(s.Interfaces[i].Name)
		d.made = &s.Interfaces[i]
		d.mtu = d.made.MTU
		if d.made.Down { // with the device its addresses are nobody's (fib_disable_ip in net/ipv4/fib_frontend.c)
			continue
		}
		for _, a := range d.made.Addresses {
			r.local[a.Addr()] = d
		}
	}
	for i := range s.Routes {
		r.add(&s.Routes[i])
	}
	for i := range held.Routes {
		r.add(&held.Routes[i])
	}
	r.main(leases, held.LANs)
	r.settings()
	rules := append(slices.Clone(s.Rules), held.Rules...)
	for _, six := range []bool{false, true} {
		rules = append(rules, state.Rule{Priority: 32766, IPv6: six, Action: state.Lookup, Table: mainTable})
	}
	slices.SortStableFunc(rules, state.CompareRules)
	for i := range rules {
		x, f := &rules[i], 0
		if x.IPv6 {
			f = 1
		}
		y := newRule(x)
		if t := r.fibs[x.Table]; t != nil {
			y.fib = &t[f]
		}
		r.rules[f] = append(r.rules[f], y)
	}
	return r, nil
}

func (r *router) add(x *state.Route) {
	t := r.fibs[x.Table]
	if t == nil {
		t = &[2]fib{}
		r.fibs[x.Table] = t
	}
	if d := r.has(x.Device); !d.gone() {
		t[family(x.Dst.Addr())].add(route{x, d})
	}
}

// main fills the router's own table with what it has without us: its LANs' and uplinks' networks,
// and default routes by the uplinks. seen is what it was seen to have on its LANs, if it was looked.
func (r *router) main(leases func(site, device string) (uplink, bool), seen map[string][]netip.Prefix) {
	if r.fibs[mainTable] == nil {
		r.fibs[mainTable] = &[2]fib{}
	}
	for _, l := range r.state.LANs {
		d := r.has(l.Device)
		for _, p := range l.Prefixes {
			own := p.Addr()
			if !p.IsSingleIP() {
				own = own.Next()
			}
			i := slices.IndexFunc(seen[l.Device], func(a netip.Prefix) bool { return p.Contains(a.Addr()) })
			if i >= 0 {
				own = seen[l.Device][i].Addr()
			}
			r.lans = append(r.lans, lan{d, p, own, r.maps(p)})
			if i < 0 && seen != nil {
				continue // it has no address there, and so no route to its hosts
			}
			r.local[own] = d
			r.connected(netip.PrefixFrom(own, p.Bits()), l.Device)
		}
	}
	for k, u := range r.state.Uplinks {
		x, ok := leases(r.name, u.Device)
		if !ok {
			continue
		}
		d := r.has(u.Device)
		if d.dead && u.DHCP && u.Check == nil { // no carrier: the client has given its lease up
			four := func(a netip.Addr) bool { return a.Is4() }
			x.addresses = slices.DeleteFunc(slices.Clone(x.addresses), func(a netip.Prefix) bool { return four(a.Addr()) })
			x.gateways = slices.DeleteFunc(slices.Clone(x.gateways), four)
		}
		d.uplink, d.mtu, r.uplinks = &x, u.MTU, append(r.uplinks, d)
		for _, a := range x.addresses {
			r.local[a.Addr()] = d
			r.connected(a, u.Device)
		}
		for _, g := range x.gateways {
			all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			if g.Is6() {
				all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			}
			r.add(&state.Route{Table: mainTable, Dst: all, Metric: uint32(k), Type: state.Unicast, Device: u.Device, Gateway: g})
		}
	}
}

// connected adds what an address on a device brings with it (fib_add_ifaddr in net/ipv4/fib_frontend.c).
func (r *router) connected(a netip.Prefix, device string) {
	x := &state.Route{Table: mainTable, Dst: a.Masked(), Type: state.Unicast, Device: device, Protocol: 2}
	if a.Addr().Is4() {
		x.PrefSrc = a.Addr()
	}
	r.add(x)
	if a.Addr().Is4() && a.Bits() < 31 {
		b, first := a.Masked().Addr().As4(), a.Masked().Addr()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])|^uint32(0)>>a.Bits())
		r.broadcasts[first], r.broadcasts[netip.AddrFrom4(b)] = true, true
	}
}

// settings reads what the kernel's settings say of devices.
func (r *router) settings() {
	for _, x := range r.state.Sysctls {
		device, setting := "", ""
		if rest, ok := strings.CutPrefix(x.Name, "net/ipv4/conf/"); ok {
			device, setting, _ = strings.Cut(rest, "/")
		}
		switch setting {
		case "rp_filter":
			r.has(device).strict = x.Value == "1"
		case "accept_local":
			r.has(device).accepts = x.Value == "1"
		}
	}
}

// meet finds out which devices of a router are dead.
func (r *router) meet(dead func(site, device string) bool) {
	if dead == nil {
		return
	}
	r.dead = dead(r.name, "")
	ask := func(device string) { r.has(device).dead = dead(r.name, device) }
	for i := range r.state.Interfaces {
		ask(r.state.Interfaces[i].Name)
	}
	for i := range r.state.LANs {
		ask(r.state.LANs[i].Device)
	}
	for i := range r.state.Uplinks {
		ask(r.state.Uplinks[i].Device)
	}
}

// prepare finds out once what all walks would.
func (n *Network) prepare() {
	for _, name := range n.names {
		r := n.routers[name]
		for a, device := range r.local {
			if device.outward() {
				n.owners[a] = append(n.owners[a], owner{r, device, r.subnet(device, a)})
			}
		}
	}
	for _, name := range n.names {
		r := n.routers[name]
		if slices.ContainsFunc(r.lans, func(l lan) bool { return r.routed(l.prefix.Addr()) }) {
			n.routed = append(n.routed, r)
		}
	}
	w := &walk{n: n}
	for _, name := range n.names {
		r := n.routers[name]
		for _, d := range r.devices {
			for i := range d.links {
				if l := &d.links[i]; l.to != nil && l.device != nil {
					l.carries = w.outer(r, d, l)
				}
			}
		}
	}
}

// Public returns an address by which a site is reached from outside, as far as it is known.
func (n *Network) Public(site string) (netip.Addr, bool) {
	r := n.routers[site]
	if r == nil {
		return netip.Addr{}, false
	}
	a := endpoint(r)
	for _, d := range r.uplinks {
		u := d.uplink
		if u.public.IsValid() && slices.ContainsFunc(u.addresses, func(p netip.Prefix) bool { return p.Addr() == a }) {
			a = u.public // there is a NAT before it
		}
	}
	return a, a.IsValid()
}
