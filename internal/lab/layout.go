package lab

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"tombolo/internal/lab/internet"
	"tombolo/internal/state"
)

// layout is what a lab consists of, down to every name and address. It is computed from
// the routers and the lab file before anything is made.
type layout struct {
	lab      string
	core     string   // the node's name
	routers  []router // sites, then roaming devices
	hosts    []host   // in the Internet
	segments []segment
}

// router is a site, or a roaming device: a machine with uplinks.
type router struct {
	site    string // or the device's name
	uplinks []uplink
	lans    []lan
	names   []string // DNS names of its endpoints, in their order

	roams *roams // nil: a site
}

// uplink is a router's device that leads into core.
type uplink struct {
	site, device string
	port         string // the device at the other end, in core
	segment      int    // index of layout.segments
	mac          net.HardwareAddr
	mtu          int // bytes
	metric       int // of its default routes

	dhcp     bool
	address4 netip.Prefix // leased where dhcp; zero: none
	gateway4 netip.Addr   // zero: none
	static6  []netip.Prefix
	gateway6 netip.Addr
	ra       bool         // takes IPv6 from advertisements…
	address6 netip.Prefix // …and forms this address

	nat internet.NAT
	six netip.Prefix // the /48 for what is advertised and delegated

	// alias, if valid, is the address that the rest of the Internet, the NAT included,
	// knows address4 by: something on the way translates one to one, both ways.
	alias netip.Addr
	spare netip.Addr // for an alias

	routed []netip.Prefix // what the provider routes to the uplink, beside its addresses
}

// place is the uplink's name in the emulated Internet.
func (u *uplink) place() string { return u.site + "/" + u.device }

// addresses are the uplink's, IPv4 first.
func (u *uplink) addresses() []netip.Prefix {
	var out []netip.Prefix
	if u.address4.IsValid() {
		out = append(out, u.address4)
	}
	if u.address6.IsValid() {
		out = append(out, u.address6)
	}
	return sortPrefixes(append(out, u.static6...))
}

// public are the addresses under which the outside sees the uplink, IPv4 first.
func (u *uplink) public() []netip.Addr {
	var out []netip.Addr
	for _, p := range u.addresses() {
		a := p.Addr()
		switch {
		case !a.Is4():
		case u.nat.Kind != internet.None:
			a = u.nat.Public
		case u.alias.IsValid():
			a = u.alias
		}
		out = append(out, a)
	}
	return out
}

// lan is a router's device with a host behind it.
type lan struct {
	device string
	router []netip.Prefix // the router's addresses
	node   string         // the host's
	host   []netip.Prefix // the host's addresses
}

// host is a node in the Internet.
type host struct {
	name      string
	port      string
	addresses []netip.Addr
}

// segment is a wire between core and one uplink or several.
type segment struct {
	key       string // what its uplinks have in common
	device    string // in core: a bridge, or the only uplink's port
	bridge    bool
	mtu       int
	addresses []netip.Prefix // core's
	advertise netip.Prefix   // the /64 that router advertisements hold; zero: none are sent
	hidden    bool           // its IPv4 addresses are also another segment's
}

// newLayout computes what a lab consists of. All that is wrong is told at once.
func newLayout(name string, routers []state.Router, clients []Client, file File) (*layout, error) {
	b := &builder{layout: &layout{lab: name}, file: file, sites: map[string]bool{}}
	for _, r := range routers {
		b.call("routers", r.Site)
	}
	devices := withCopies(clients, file.Copies)
	for _, d := range devices {
		b.call("nodes", d.Name)
	}
	b.core = freeName(coreName, b.isSite)
	b.internetHosts()
	b.numbers = newNumbers(countUplinks(routers)+len(devices), b.taken(routers, clients))
	for _, r := range routers {
		b.router(r)
	}
	for _, d := range devices {
		b.device(d)
	}
	b.joinSegments()
	b.checkAddresses()
	return b.layout, errors.Join(b.mistakes...)
}

func countUplinks(routers []state.Router) int {
	n := 0
	for _, r := range routers {
		n += len(r.Uplinks)
	}
	return n
}

// builder fills a layout.
type builder struct {
	*layout
	file     File
	sites    map[string]bool // names of routers and roaming devices
	numbers  *numbers
	mistakes []error
}

func (b *builder) wrong(format string, args ...any) {
	b.mistakes = append(b.mistakes, fmt.Errorf(format, args...))
}

func (b *builder) isSite(name string) bool { return b.sites[name] }

// call takes a name, which no other node of the network may have.
func (b *builder) call(what, name string) {
	if b.sites[name] {
		b.wrong("two %s are called %q", what, name)
	}
	b.sites[name] = true
}

// taken returns the prefixes from which nothing may be assigned.
func (b *builder) taken(routers []state.Router, clients []Client) []netip.Prefix {
	var out []netip.Prefix
	for _, c := range clients {
		out = append(out, c.Addresses...)
	}
	for _, s := range b.file.Sites {
		for _, u := range s.Uplinks {
			out = append(append(out, u.Addresses...), u.Routed...)
			if u.Public.IsValid() {
				out = append(out, hostPrefix(u.Public))
			}
		}
	}
	for _, r := range routers {
		for _, l := range r.LANs {
			out = append(out, l.Prefixes...)
		}
		for _, u := range r.Uplinks {
			out = append(out, u.Addresses...)
		}
		for _, i := range r.Interfaces {
			out = append(out, i.Addresses...)
		}
		v4, v6 := literals(r)
		for _, a := range append(v4, v6...) {
			out = append(out, subnetOf(a))
		}
	}
	for _, h := range b.hosts {
		for _, a := range h.addresses {
			out = append(out, hostPrefix(a))
		}
	}
	for i, p := range out {
		out[i] = p.Masked()
	}
	return out
}

// internetHosts assigns the hosts' addresses.
func (b *builder) internetHosts() {
	hosts := b.file.Internet
	if hosts == nil {
		hosts = []InternetHost{{Name: freeName(inetName, b.isSite)}}
	}
	if len(hosts) > 200 {
		b.wrong("%d Internet hosts: a lab may have 200", len(hosts))
		return
	}
	for i, h := range hosts {
		out := host{name: h.Name, port: portName(h.Name, "eth0"), addresses: slices.Clone(h.Addresses)}
		for _, family := range []netip.Prefix{hosts4, hosts6} {
			if !slices.ContainsFunc(out.addresses, func(a netip.Addr) bool { return a.Is4() == family.Addr().Is4() }) {
				at := 10 + i
				if family.Addr().Is6() {
					at = 0x10 + i
				}
				a, _ := addressAt(family, at)
				out.addresses = append(out.addresses, a)
			}
		}
		slices.SortFunc(out.addresses, netip.Addr.Compare)
		if b.isSite(h.Name) || h.Name == b.core {
			b.wrong("Internet host %q has the name of another node", h.Name)
		}
		b.hosts = append(b.hosts, out)
	}
}

// router lays out a site.
func (b *builder) router(r state.Router) {
	out := router{site: r.Site, names: endpointNames(r)}
	for i, l := range r.LANs {
		node := r.Site + ".host"
		if i > 0 {
			node += "-" + l.Device
		}
		here := lan{device: l.Device, node: node}
		for _, p := range l.Prefixes {
			here.router = append(here.router, netip.PrefixFrom(firstAddress(p), p.Bits()))
			if a := hostAddress(p); a.IsValid() {
				here.host = append(here.host, netip.PrefixFrom(a, p.Bits()))
			}
		}
		sortPrefixes(here.router)
		sortPrefixes(here.host)
		out.lans = append(out.lans, here)
	}
	out.uplinks = b.uplinks(r)
	b.routers = append(b.routers, out)
}

// checkAddresses refuses an address that two have.
func (b *builder) checkAddresses() {
	owner := map[netip.Addr]string{}
	claim := func(a netip.Addr, who string) {
		if other, taken := owner[a]; taken && other != who {
			b.wrong("%s and %s both have the address %s", other, who, a)
		}
		owner[a] = who
	}
	for _, h := range b.hosts {
		for _, a := range h.addresses {
			claim(a, "Internet host "+h.name)
		}
	}
	for _, s := range b.segments {
		for _, p := range s.addresses {
			if !p.Addr().IsLinkLocalUnicast() && (!s.hidden || p.Addr().Is6()) {
				claim(p.Addr(), "the gateway at "+s.device)
			}
		}
	}
	for _, r := range b.routers {
		for _, u := range r.uplinks {
			for _, p := range u.addresses() {
				if p == u.address4 && u.alias.IsValid() {
					p = hostPrefix(u.alias)
				}
				claim(p.Addr(), "uplink "+u.place())
			}
			// Places may share a NAT, and so its public address.
			if u.nat.Kind != internet.None {
				claim(u.nat.Public, "NAT "+u.nat.Public.String())
			}
		}
	}
}

// nodes returns the lab's nodes: core, routers and the hosts behind them, roaming devices,
// the Internet's hosts.
func (l *layout) nodes() []Node {
	out := []Node{{Name: l.core, Kind: Core}}
	for _, r := range l.routers {
		n := Node{Name: r.site, Kind: RouterNode, Site: r.site}
		if r.roams != nil {
			n.Kind, n.Site = DeviceNode, ""
			n.Devices = []Device{{Name: tunnelDevice, Addresses: r.roams.addresses}}
		}
		for _, u := range r.uplinks {
			d := Device{Name: u.device, Uplink: true, Addresses: u.addresses(), Public: u.nat.Public}
			n.Devices = append(n.Devices, d)
		}
		for _, lan := range r.lans {
			n.Devices = append(n.Devices, Device{Name: lan.device, Addresses: lan.router})
		}
		out = append(out, n)
		for _, lan := range r.lans {
			d := Device{Name: hostDevice, Addresses: lan.host}
			out = append(out, Node{Name: lan.node, Kind: LANHost, Site: r.site, Devices: []Device{d}})
		}
	}
	for _, h := range l.hosts {
		d := Device{Name: hostDevice}
		for _, a := range h.addresses {
			d.Addresses = append(d.Addresses, hostPrefix(a))
		}
		out = append(out, Node{Name: h.name, Kind: InternetNode, Devices: []Device{d}})
	}
	for i := range out {
		out[i].Namespace = namespaceName(l.lab, out[i].Name)
	}
	return out
}

// hostDevice is the device of a host.
const hostDevice = "eth0"

// hostPrefix returns the prefix of one address.
func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// subnetOf returns the subnet that an address is taken to be in where nothing says more.
func subnetOf(a netip.Addr) netip.Prefix {
	bits := 24
	if a.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// uplink returns a site's uplink, or nil.
func (l *layout) uplink(site, device string) *uplink {
	for i := range l.routers {
		if l.routers[i].site != site {
			continue
		}
		for j := range l.routers[i].uplinks {
			if u := &l.routers[i].uplinks[j]; cmp.Or(device, u.device) == u.device {
				return u
			}
		}
	}
	return nil
}

// alone says for each segment whether one uplink has it for itself.
func (l *layout) alone() []bool {
	n := make([]int, len(l.segments))
	for _, r := range l.routers {
		for _, u := range r.uplinks {
			n[u.segment]++
		}
	}
	out := make([]bool, len(n))
	for i := range n {
		out[i] = n[i] == 1
	}
	return out
}
