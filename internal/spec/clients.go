package spec

import (
	"net/netip"
	"slices"
	"time"
)

// clients takes over the roaming devices.
func (b *builder) clients() {
	f := b.f.clients
	if !f.given {
		return
	}
	c := &Clients{Pos: f.Pos, Pool: f.v.pool.v, Key: f.v.key.v, Hold: f.v.hold.or(leastHold)}
	if f.v.pool.ok {
		c.Pool6 = netip.PrefixFrom(deviceAddress6(b.n.Overlay6, c.Pool.Addr()), 96+c.Pool.Bits())
	}
	for _, name := range f.v.at.v {
		if _, ok := b.site(name); !ok {
			continue
		}
		if slices.Contains(c.At, name.v) {
			b.err(name.Pos, codeClients, "delete one of them", "site %q stands twice in `at:`", name.v)
			continue
		}
		c.At = append(c.At, name.v)
	}
	b.n.Clients = c
	b.checkDoors(c, f.v)
	b.readDevices(c, f.v)
}

// leastHold is how long a device counts as being at a door that has heard nothing of it
// since: a WireGuard session's life (REJECT_AFTER_TIME in its paper, §6.1). Within that time
// a device that has nothing to say is no other than one that has gone.
const leastHold = 180 * time.Second

// checkDoors reports doors that are none, and clients that have nowhere to enter.
func (b *builder) checkDoors(c *Clients, f clientsDecl) {
	if b.doubt || len(c.At) == 0 || len(c.At) != len(f.at.v) {
		return
	}
	open, plain := false, false
	for i, name := range c.At {
		s := &b.n.Sites[b.index[name]]
		if s.Kind == Plain {
			plain = true
			b.err(f.at.v[i].Pos, codePlain, "let them enter at a site that runs tombolo", "clients enter at %q, which is plain and runs nothing of ours", name)
		}
		open = open || s.Dialable(s.BasePort)
	}
	switch {
	case plain:
	case !open:
		b.warn(f.at.Pos, codeClients, "clients come in on the base port of a site with an `endpoint:`", "no client can enter from outside: no site in `at:` lets in its base port")
	default:
		b.farDoors(c, f)
	}
}

// farDoors warns of doors of which the rest of the network hears nothing: which door a
// device is at, Babel routers tell each other. What has no speaker takes all devices to be
// where the pool is.
func (b *builder) farDoors(c *Clients, f clientsDecl) {
	if b.reach == nil || len(c.At) < 2 {
		return
	}
	home := b.n.Home()
	near := b.babelRegion(home)
	for i, name := range c.At {
		at, s := b.index[name], &b.n.Sites[b.index[name]]
		switch pool := b.n.Sites[home].Name; {
		case at == home || near[at]:
		case s.Routing == Static:
			b.warn(f.at.v[i].Pos, codeFarDoor, "give it `routing: babel`, or take it out of `at:`", "what enters at %q is reached from there alone: a site with static routing tells nobody who is there, and the others look for devices at %q", name, pool)
		default:
			b.warn(f.at.v[i].Pos, codeFarDoor, "link the two, or other sites between them that have `routing: babel`", "what enters at %q is not reached from %q: no Babel routers join the two, and so neither hears who is at the other", name, pool)
		}
	}
}

// babelRegion returns the sites that Babel routers join to one of them, with itself.
func (b *builder) babelRegion(from int) []bool {
	in := make([]bool, len(b.n.Sites))
	in[from] = true
	if b.n.Sites[from].Routing != Babel {
		return in
	}
	away := slices.DeleteFunc(b.all(), func(i int) bool { return i == from || b.n.Sites[i].Routing != Babel })
	for queue := []int{from}; len(queue) > 0; queue = queue[1:] {
		away = slices.DeleteFunc(away, func(i int) bool {
			if !b.reach.linked(queue[0], i) {
				return false
			}
			in[i] = true
			queue = append(queue, i)
			return true
		})
	}
	return in
}

func (b *builder) readDevices(c *Clients, f clientsDecl) {
	if f.pool.ok && (f.pool.v.Bits() > 30 || f.pool.v.Bits() < 8 || specialUse(f.pool.v) != "" || len(f.devices.v) > 1<<(32-f.pool.v.Bits())-2) {
		b.err(f.pool.Pos, codeClients, "take a private prefix, for example a /24, with room to spare", "pool %v has no room for %s", f.pool.v, plural(len(f.devices.v), "a device", "devices"))
		return
	}
	taken := map[netip.Addr]named[deviceDecl]{}
	for _, d := range f.devices.v {
		b.devices[d.name] = true
		if b.checkName(d.Pos, "device", d.name) {
			if i, is := b.index[d.name]; is {
				b.err(d.Pos, codeDuplicateName, "give the device another name", "device %q is called like the site in line %d", d.name, b.n.Sites[i].Pos.Line)
			}
		}
		if !f.pool.ok || !d.v.address.ok {
			continue
		}
		if other, dup := taken[d.v.address.v]; dup {
			b.err(d.v.address.Pos, codeDuplicateAddress, "give each device its own, or leave `address:` out", "address %v is already that of device %q (line %d)", d.v.address.v, clip(other.name), other.Line)
			continue
		}
		if b.inPrefix(d.v.address, f.pool.v, "pool") {
			taken[d.v.address.v] = d
		}
	}
	met := 0 // hashes that were taken
	for _, d := range f.devices.v {
		a := d.v.address.v
		if f.pool.ok && !d.v.address.given {
			hashed := AddressAt(f.pool.v, HashedIndex(d.name, f.pool.v, 0))
			a = hashed
			if other, is := taken[a]; is && d.ok {
				hint := "give it an `address:` of its own"
				if met++; met <= maxSuggested {
					a = nextFree(f.pool.v, a, 0, func(a netip.Addr) bool { _, t := taken[a]; return t })
					hint = "add `address: " + a.String() + "` to device \"" + clip(d.name) + "\""
				}
				b.err(d.Pos, codeHashCollision, hint, "device %q names no address, and the one that its name hashes to, %v, is that of device %q (line %d)", clip(d.name), hashed, clip(other.name), other.Line)
			}
			taken[a] = d
		}
		device := Device{Pos: d.Pos, Name: d.name, Address: a, Key: d.v.key.v, Full: d.v.full.or(false)}
		if a.Is4() {
			device.Address6 = deviceAddress6(b.n.Overlay6, a)
		}
		for _, r := range d.v.dns.v {
			device.DNS = append(device.DNS, r.v)
		}
		for _, g := range d.v.given.v {
			device.Given = append(device.Given, g.v)
		}
		c.Devices = append(c.Devices, device)
	}
}

// deviceAddress6 returns a roaming device's IPv6 address: in the second /64 of the overlay,
// of which the routers have the first, all bits of its IPv4 address.
func deviceAddress6(overlay6 netip.Prefix, a netip.Addr) netip.Addr {
	b, four := overlay6.Masked().Addr().As16(), a.As4()
	b[7] = 1
	copy(b[12:], four[:])
	return netip.AddrFrom16(b)
}

// keyless warns of devices that cannot enter yet, and of plain sites that enter like them.
func (b *builder) keyless() {
	for i := range b.n.Sites {
		if s := &b.n.Sites[i]; b.n.Roams(i) && s.Key.IsZero() {
			b.warn(s.Pos, codeKeylessDevice, "add its `key:`, or a link, for example `["+s.Name+", "+b.n.Clients.At[0]+"]`, to `links:`", "site %q is in no link, and has no `key:` by which it could enter at the doors of `clients:`", s.Name)
		}
	}
	for _, d := range b.f.clients.v.devices.v {
		if !d.v.key.given {
			b.warn(d.Pos, codeKeylessDevice, "`tombolo client add "+d.name+"` makes it one", "device %q has no `key:`, so it cannot enter yet", d.name)
		}
	}
}

func (b *builder) clientPool() netip.Prefix {
	if pool := b.f.clients.v.pool; pool.ok {
		return pool.v
	}
	return netip.Prefix{}
}
