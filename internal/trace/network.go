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
	device    string         // of the door
}

// router is one of them.
type router struct {
	name  string
	state *state.Router
	table *ruleset.Table // nil: none
	rules [2][]rule      // by family, in their order
	fibs  map[uint32]*[2]fib
	local map[netip.Addr]string // own addresses, and their devices

	broadcasts map[netip.Addr]bool // of the networks that it is in
	uplinks    map[string]*uplink
	lans       []lan
	links      map[string][]link // tunnels, by device
	mtu        map[string]int
	strict     map[string]bool // rp_filter=1
	accepts    map[string]bool // accept_local=1
	dead       func(device string) bool
	cut        bool            // off: it has uplinks, and none works
	checked    map[string]bool // uplinks of which it is not known that they have no carrier, if they are dead

	interfaces map[string]*state.Interface
	next       map[netip.Addr]learned.End // who is behind gateways that no file knows
}

type lan struct {
	device string
	prefix netip.Prefix
	own    netip.Addr // the router's address in it
	mapped bool       // to another, by which alone others know it
}

// link is a tunnel's peer.
type link struct {
	peer   *state.Peer
	to     *router // nil: a roaming device
	device string  // of the router there
	roamer *roamer
	down   bool

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
		for device := range r.uplinks {
			x, _ := leases(s.Site, device)
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
		name: s.Site, state: s, fibs: map[uint32]*[2]fib{}, local: map[netip.Addr]string{}, uplinks: map[string]*uplink{},
		links: map[string][]link{}, mtu: map[string]int{}, strict: map[string]bool{}, accepts: map[string]bool{},
		interfaces: map[string]*state.Interface{}, next: held.Next, checked: map[string]bool{}, broadcasts: map[netip.Addr]bool{},
	}
	for _, u := range s.Uplinks {
		r.checked[u.Device] = u.Check != nil && held.LANs == nil // else it was looked at
	}
	for _, x := range s.Rulesets {
		t, err := ruleset.Parse(x.Text)
		if err != nil {
			return nil, err
		}
		r.table = t
	}
	r.dead = deadOf(s, dead)
	for i, f := range s.Interfaces {
		r.mtu[f.Name], r.interfaces[f.Name] = f.MTU, &s.Interfaces[i]
		if f.Down { // with the device its addresses are nobody's (fib_disable_ip in net/ipv4/fib_frontend.c)
			continue
		}
		for _, a := range f.Addresses {
			r.local[a.Addr()] = f.Name
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
	for _, x := range rules {
		f := 0
		if x.IPv6 {
			f = 1
		}
		y := rule{Rule: x}
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
	t[family(x.Dst.Addr())].add(x)
}

// main fills the router's own table with what it has without us: its LANs' and uplinks' networks,
// and default routes by the uplinks. seen is what it was seen to have on its LANs, if it was looked.
func (r *router) main(leases func(site, device string) (uplink, bool), seen map[string][]netip.Prefix) {
	if r.fibs[mainTable] == nil {
		r.fibs[mainTable] = &[2]fib{}
	}
	for _, l := range r.state.LANs {
		for _, p := range l.Prefixes {
			own := p.Addr()
			if !p.IsSingleIP() {
				own = own.Next()
			}
			i := slices.IndexFunc(seen[l.Device], func(a netip.Prefix) bool { return p.Contains(a.Addr()) })
			if i >= 0 {
				own = seen[l.Device][i].Addr()
			}
			r.lans = append(r.lans, lan{l.Device, p, own, r.maps(p)})
			if i < 0 && seen != nil {
				continue // it has no address there, and so no route to its hosts
			}
			r.local[own] = l.Device
			r.connected(netip.PrefixFrom(own, p.Bits()), l.Device)
		}
	}
	for k, u := range r.state.Uplinks {
		x, ok := leases(r.name, u.Device)
		if !ok {
			continue
		}
		if r.dead(u.Device) && u.DHCP && u.Check == nil { // no carrier: the client has given its lease up
			four := func(a netip.Addr) bool { return a.Is4() }
			x.addresses = slices.DeleteFunc(slices.Clone(x.addresses), func(a netip.Prefix) bool { return four(a.Addr()) })
			x.gateways = slices.DeleteFunc(slices.Clone(x.gateways), four)
		}
		r.uplinks[u.Device] = &x
		r.mtu[u.Device] = u.MTU
		for _, a := range x.addresses {
			r.local[a.Addr()] = u.Device
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
			r.strict[device] = x.Value == "1"
		case "accept_local":
			r.accepts[device] = x.Value == "1"
		}
	}
}

// deadOf returns which devices of a router are dead, asked once.
func deadOf(s *state.Router, dead func(site, device string) bool) func(device string) bool {
	devices := map[string]bool{}
	ask := func(device string) {
		if dead != nil && dead(s.Site, device) {
			devices[device] = true
		}
	}
	ask("")
	for i := range s.Interfaces {
		ask(s.Interfaces[i].Name)
	}
	for i := range s.LANs {
		ask(s.LANs[i].Device)
	}
	for i := range s.Uplinks {
		ask(s.Uplinks[i].Device)
	}
	return func(device string) bool { return len(devices) > 0 && devices[device] }
}

// prepare finds out once what all walks would.
func (n *Network) prepare() {
	for _, name := range n.names {
		r := n.routers[name]
		for a, device := range r.local {
			if r.outward(device) {
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
		for device, links := range r.links {
			for i := range links {
				if l := &links[i]; l.to != nil && l.device != "" {
					l.carries = w.outer(r, device, l)
				}
			}
		}
	}
}

// gone reports whether the routes by a device are gone: it is down, or a tunnel that is said not to work.
// Those by one that has lost its carrier stay (fib_table_lookup in net/ipv4/fib_trie.c).
func (r *router) gone(device string) bool {
	f := r.interfaces[device]
	return f != nil && (f.Down || r.dead(device))
}

// up reports whether a device can carry packets. What a check finds out about an uplink lies farther
// off: its wire works, with whoever else is on that.
func (r *router) up(device string) bool { return !r.dead(device) || r.checked[device] }

// Public returns an address by which a site is reached from outside, as far as it is known.
func (n *Network) Public(site string) (netip.Addr, bool) {
	r := n.routers[site]
	if r == nil {
		return netip.Addr{}, false
	}
	a := endpoint(r)
	for _, u := range r.uplinks {
		if u.public.IsValid() && slices.ContainsFunc(u.addresses, func(p netip.Prefix) bool { return p.Addr() == a }) {
			a = u.public // there is a NAT before it
		}
	}
	return a, a.IsValid()
}
