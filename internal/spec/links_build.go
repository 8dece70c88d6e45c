package spec

import (
	"fmt"
	"net/netip"
	"slices"
)

// askedLink is a link that the file names by its two sites.
type askedLink struct {
	a, b int
	Pos
}

// links joins the sites as the file says.
func (b *builder) links() {
	b.n.Links = NewLinks(len(b.n.Sites))
	b.pairs, b.tuned, b.hubs = map[[2]int]Pos{}, map[[2]int]Pos{}, map[int]Pos{}
	before := b.wrong
	if !b.f.links.given {
		b.mesh(b.all())
	}
	for _, l := range b.f.links.v {
		if b.joined > maxPairs {
			b.err(l.Pos, codeLarge, "", "`links:` names more than %d pairs of sites", maxPairs)
			break
		}
		switch l.form {
		case meshForm:
			b.meshAll(l)
		case starForm:
			b.star(l)
		case chainForm:
			b.chain(l)
		case groupForm:
			b.group(l)
		case betweenForm:
			b.between(l)
		}
	}
	b.doubt = b.doubt || b.wrong > before
}

func (b *builder) all() []int {
	all := make([]int, len(b.n.Sites))
	for i := range all {
		all[i] = i
	}
	return all
}

// mesh joins every two of the sites.
func (b *builder) mesh(sites []int) {
	for i, x := range sites {
		for _, y := range sites[i+1:] {
			b.n.Links.Add(x, y)
		}
	}
	b.joined += len(sites) * len(sites) / 2
}

func (b *builder) meshAll(l linkDecl) {
	if b.meshed {
		b.warn(l.Pos, codeTwice, "delete one of them", "`mesh` stands twice in `links:`")
		return
	}
	b.meshed = true
	b.mesh(b.all())
}

func (b *builder) star(l linkDecl) {
	hub, ok := b.site(l.star)
	if !ok {
		return
	}
	if earlier, dup := b.hubs[hub]; dup {
		b.warn(l.Pos, codeTwice, "delete one of them", "the star of %q is already in line %d", l.star.v, earlier.Line)
		return
	}
	b.hubs[hub] = l.Pos
	for i := range b.n.Sites {
		if i != hub {
			b.n.Links.Add(hub, i)
		}
	}
	b.joined += len(b.n.Sites)
	b.asked = append(b.asked, askedLink{hub, everySite, l.star.Pos})
}

// everySite stands for the other end of a star's links.
const everySite = -1

func (b *builder) chain(l linkDecl) {
	sites := b.members(l, "chain")
	for i := range len(sites) - 1 {
		if sites[i] >= 0 && sites[i+1] >= 0 {
			b.ask(sites[i], sites[i+1], l.sites[i+1].Pos)
		}
	}
}

func (b *builder) group(l linkDecl) {
	sites := b.members(l, "group")
	known := slices.DeleteFunc(slices.Clone(sites), func(i int) bool { return i < 0 })
	if len(l.sites) != 2 {
		b.mesh(known)
		return
	}
	if len(known) == 2 {
		b.pair(l, known)
	}
}

// pair joins two sites that the file names as a pair, which it should do once.
func (b *builder) pair(l linkDecl, sites []int) {
	p := ordered(sites[0], sites[1])
	if earlier, dup := b.pairs[p]; dup {
		b.warn(l.Pos, codeTwice, "delete one of them, or correct the name that is wrong", "the pair of %q and %q is already in line %d", l.sites[0].v, l.sites[1].v, earlier.Line)
		return
	}
	b.pairs[p] = l.Pos
	b.ask(sites[0], sites[1], l.Pos)
}

func (b *builder) ask(x, y int, p Pos) {
	b.n.Links.Add(x, y)
	b.asked = append(b.asked, askedLink{x, y, p})
	b.joined++
}

// members returns the sites of a list, -1 for one that there is not or that stands in the
// list a second time.
func (b *builder) members(l linkDecl, noun string) []int {
	seen := make(map[int]int, len(l.sites))
	out := make([]int, len(l.sites))
	for i, name := range l.sites {
		site, ok := b.site(name)
		if !ok {
			out[i] = -1
			continue
		}
		first, dup := seen[site]
		switch {
		case dup && len(l.sites) == 2:
			b.err(name.Pos, codeSelfLink, "a link joins two sites", "this joins site %q to itself", name.v)
		case dup && noun == "chain" && i == len(l.sites)-1 && first == 0:
			b.err(name.Pos, codeTwice, fmt.Sprintf("to close a ring, end the chain before this and add the pair `[%s, %s]` to `links:`", l.sites[i-1].v, name.v), "site %q stands twice in this chain", name.v)
		case dup:
			b.err(name.Pos, codeTwice, "delete one of them, or correct the name that is wrong", "site %q stands twice in this %s", name.v, noun)
		default:
			seen[site], out[i] = i, site
			continue
		}
		out[i] = -1
	}
	return out
}

func ordered(a, b int) [2]int { return [2]int{min(a, b), max(a, b)} }

// between joins a pair, and gives its link options.
func (b *builder) between(l linkDecl) {
	sites := b.members(l, "link")
	if len(sites) != 2 || sites[0] < 0 || sites[1] < 0 {
		return
	}
	x, y, o := sites[0], sites[1], &l.options
	if !o.given() {
		b.pair(l, sites)
		return
	}
	if earlier, dup := b.tuned[ordered(x, y)]; dup {
		b.err(l.Pos, codeTwice, "put all its options into one of them", "the link between %q and %q already has options, in line %d", l.sites[0].v, l.sites[1].v, earlier.Line)
		return
	}
	b.tuned[ordered(x, y)] = l.Pos
	b.asked = append(b.asked, askedLink{x, y, l.Pos})
	opts := LinkOptions{Pos: l.Pos, MTU: o.mtu.or(0), Keepalive: o.keepalive.or(0), Preshared: o.psk.or(false), Cost: o.cost.or(0)}
	b.checkMTU(x, y, o.mtu)
	b.checkCost(x, y, o.cost)
	b.linkPorts(&opts, x, y, o.port)
	b.noTunnel(&opts, x, y, &l)
	b.n.Links.SetOptions(x, y, opts)
}

// checkMTU warns of an MTU with which a link between x and y loses packets.
func (b *builder) checkMTU(x, y int, mtu at[int]) {
	if !mtu.ok {
		return
	}
	switch {
	case mtu.v >= leastMTU6:
	case b.speak(x, y):
		b.err(mtu.Pos, codeSmallMTU, fmt.Sprintf("say `mtu: %d`, or give one of the two `routing: static`", leastMTU6), "a link with an MTU below %d carries no IPv6 (RFC 8200 §5), by which the Babel routers %q and %q speak", leastMTU6, b.n.Sites[x].Name, b.n.Sites[y].Name)
		return
	default:
		b.warn(mtu.Pos, codeSmallMTU, "", "a link with an MTU below %d carries no IPv6 (RFC 8200 §5)", leastMTU6)
	}
	for _, i := range []int{x, y} {
		for _, u := range b.n.Sites[i].Uplinks {
			if mtu.v > u.MTU-tunnelOverhead {
				b.warn(mtu.Pos, codeLargeMTU, "leave `mtu:` out, or say the `mtu:` of the uplink if it is larger",
					"a link with an MTU of %d does not fit through uplink %q of site %q, with %d: a tunnel takes %d bytes over IPv4, 80 over IPv6", mtu.v, u.Device, b.n.Sites[i].Name, u.MTU, tunnelOverhead)
				return
			}
		}
	}
}

// speak reports whether two sites are routers that tell each other their routes.
func (b *builder) speak(x, y int) bool {
	return b.n.Sites[x].Routing == Babel && b.n.Sites[y].Routing == Babel
}

// mostCost is the highest cost of a link of two Babel routers, in milliseconds. A metric
// has 16 bits for tenths of them and ends at 6.5 s, after which there is no way: six of
// the dearest links in a row are still one.
const mostCost = 1000

// checkCost reports a cost that would make a link of x and y useless.
func (b *builder) checkCost(x, y int, cost at[int]) {
	if cost.ok && cost.v > mostCost && b.speak(x, y) {
		b.err(cost.Pos, codeRange, "a link with a cost of 100 is as good as one that is 100 ms longer", "the cost of a link of two Babel routers is in milliseconds and goes to %d; this is %d", mostCost, cost.v)
	}
}

// tunnelOverhead is what a tunnel takes of a packet at the least: an IPv4 and a UDP
// header, and WireGuard's 32 bytes.
const tunnelOverhead = 20 + 8 + 32

// leastMTU6 is the smallest MTU that carries IPv6.
const leastMTU6 = 1280

func (o *betweenDecl) given() bool {
	return o.mtu.given || o.keepalive.given || o.psk.given || o.cost.given || o.port.given || o.transport.given || o.on.given
}

// linkPorts sets the ports of a link between x and y.
func (b *builder) linkPorts(opts *LinkOptions, x, y int, decl at[portsDecl]) {
	if !decl.ok {
		return
	}
	set := func(end, site int, port int, p Pos) {
		if s := &b.n.Sites[site]; s.Routing == Static {
			b.err(p, codeStaticPort, "set `port:` of the site", "site %q has static routing, so all its links share one interface and one port", s.Name)
			return
		}
		opts.Ports[end] = port
	}
	if decl.v.both != 0 {
		set(0, x, decl.v.both, decl.Pos)
		set(1, y, decl.v.both, decl.Pos)
	}
	for _, e := range decl.v.each {
		if !e.ok {
			continue
		}
		if end, ok := b.endOf(e.Pos, e.name, x, y); ok {
			set(end, []int{x, y}[end], e.v, e.at.Pos)
		}
	}
}

// endOf returns which end of a link a name names.
func (b *builder) endOf(p Pos, name string, x, y int) (int, bool) {
	switch name {
	case b.n.Sites[x].Name:
		return 0, true
	case b.n.Sites[y].Name:
		return 1, true
	}
	b.err(p, codeUnknownSite, fmt.Sprintf("the two are %s and %s", b.n.Sites[x].Name, b.n.Sites[y].Name), "site %q is no end of this link", clip(name))
	return 0, false
}

// noTunnel reads `transport: none`: two sites on one LAN, whose packets need no tunnel.
func (b *builder) noTunnel(opts *LinkOptions, x, y int, l *linkDecl) {
	o := &l.options
	nx, ny := b.n.Sites[x].Name, b.n.Sites[y].Name
	if !o.transport.ok {
		if o.on.given && !o.transport.given {
			b.err(o.on.Pos, codeNoTunnel, "add `transport: none`, or delete `on:`", "`on:` says where two sites meet without a tunnel, and this link has one")
		}
		return
	}
	opts.NoTunnel = true
	for _, tunnel := range []struct {
		key   string
		given bool
		Pos
	}{
		{"mtu", o.mtu.given, o.mtu.Pos}, {"keepalive", o.keepalive.given, o.keepalive.Pos},
		{"psk", o.psk.given, o.psk.Pos}, {"port", o.port.given, o.port.Pos},
	} {
		if tunnel.given {
			b.err(tunnel.Pos, codeNoTunnel, "delete it, or `transport: none`", "`%s:` is of a tunnel, and this link has none", tunnel.key)
		}
	}
	if !o.on.given {
		b.err(o.transport.Pos, codeNoTunnel, fmt.Sprintf("add the device of each: `on: {%s: eth0, %s: eth0}`", nx, ny), "`transport: none` does not say on which devices the two meet")
		return
	}
	if !o.on.ok {
		return
	}
	met := 0
	for _, d := range o.on.v {
		end, ok := b.endOf(d.Pos, d.name, x, y)
		if ok && d.ok && b.meetingDevice([]int{x, y}[end], d, b.speak(x, y)) {
			opts.On[end] = d.v
			met++
		}
	}
	switch {
	case len(o.on.v) < 2:
		b.err(o.on.Pos, codeNoTunnel, fmt.Sprintf("`on: {%s: eth0, %s: eth0}`", nx, ny), "`on:` takes the device of each of the two")
	case met == 2 && !b.oneSubnet(x, y, opts.On):
		b.err(o.on.Pos, codeNoTunnel, "without a common LAN the two need a tunnel: delete `transport:` and `on:`", "device %q of %q and device %q of %q have no subnet in common", opts.On[0], nx, opts.On[1], ny)
	}
}

// meetingDevice checks that a site's device is one whose address others can send to. Where both
// ends speak, they tell each other.
func (b *builder) meetingDevice(site int, d named[string], speak bool) bool {
	s := &b.n.Sites[site]
	for _, u := range s.Uplinks {
		if u.Device != d.v {
			continue
		}
		if u.DHCP {
			b.err(d.at.Pos, codeNoTunnel, "describe it as `{address: …, gateway: …}`", "the address of uplink %q of %q is leased, so the other end could not know where to send", d.v, s.Name)
			return false
		}
		return len(u.Addresses) > 0
	}
	for _, l := range s.LANs {
		if l.Device == d.v {
			if speak {
				return true
			}
			b.err(d.at.Pos, codeNoTunnel, "describe the device the two meet on as an uplink of both", "device %q of %q is a LAN, of which the file does not say the router's own address", d.v, s.Name)
			return false
		}
	}
	if !b.f.sites.v[site].v.doubt {
		b.err(d.at.Pos, codeNoTunnel, fmt.Sprintf("describe it as an uplink: `uplink: {%s: {address: …, gateway: …}}`", clip(d.v)), "site %q has no device %q", s.Name, clip(d.v))
	}
	return false
}

// oneSubnet reports whether x and y have a subnet in common on the named devices.
func (b *builder) oneSubnet(x, y int, on [2]string) bool {
	subnets := func(site int, device string) []netip.Prefix {
		for _, u := range b.n.Sites[site].Uplinks {
			if u.Device == device {
				return u.Addresses
			}
		}
		var out []netip.Prefix
		for _, l := range b.n.Sites[site].LANs {
			for _, m := range l.Prefixes {
				if l.Device == device {
					out = append(out, m.Prefix)
				}
			}
		}
		return out
	}
	for _, p := range subnets(x, on[0]) {
		for _, q := range subnets(y, on[1]) {
			if p.Masked() == q.Masked() {
				return true
			}
		}
	}
	return false
}
