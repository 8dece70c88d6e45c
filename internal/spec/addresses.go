package spec

import (
	"crypto/sha256"
	"net/netip"
)

// overlay checks the prefix of the routers' addresses.
func (b *builder) overlay() {
	o := b.f.overlay
	if !o.ok {
		return
	}
	b.n.Overlay = o.v
	room := 1<<min(32-o.v.Bits(), 30) - 2
	switch use := specialUse(o.v); {
	case use != "":
		b.err(o.Pos, codeOverlay, "take a private prefix, for example 10.0.32.0/24", "overlay %v is %s", o.v, use)
	case o.v.Bits() < 8:
		b.err(o.Pos, codeOverlay, "a /24 has room for 254 routers, a /16 for more than a file can hold", "overlay %v is larger than a /8", o.v)
	case o.v.Bits() > 30:
		b.err(o.Pos, codeOverlay, "a /24 has room for 254 routers", "overlay %v has no room for two routers", o.v)
	case len(b.f.sites.v) > room:
		b.err(o.Pos, codeOverlay, "take a larger one, with room to spare", "overlay %v has room for %d routers, and there are %d sites", o.v, room, len(b.f.sites.v))
	default:
		b.overlayOK = true
		if !private(o.v) {
			b.warn(o.Pos, codeOverlay, "take a private prefix, for example 10.0.32.0/24", "overlay %v is not private: its addresses are somebody's on the Internet", o.v)
		}
	}
}

// overlay6 checks the IPv6 prefix of the routers, or derives one.
func (b *builder) overlay6() {
	b.n.Overlay6 = deriveOverlay6(b.n.Name, b.n.Overlay)
	o := b.f.overlay6
	if !o.ok {
		return
	}
	global := privatePrefixes[len(privatePrefixes)-1]
	switch {
	case !global.Contains(o.v.Addr()):
		b.err(o.Pos, codeOverlay, "for example "+b.n.Overlay6.String(), "overlay6 %v is not a unique local prefix, which begins with fd", o.v)
	case o.v.Bits() != 48:
		b.err(o.Pos, codeOverlay, "for example "+b.n.Overlay6.String(), "overlay6 is a /48, and %v is a /%d", o.v, o.v.Bits())
	case o.v.Addr().As16()[0] == 0xfc:
		b.warn(o.Pos, codeOverlay, "for example "+b.n.Overlay6.String(), "overlay6 %v lies in fc00::/8, which nobody may hand out yet (RFC 4193 §3.2)", o.v)
		fallthrough
	default:
		b.n.Overlay6 = o.v
	}
}

// deriveOverlay6 makes a unique local prefix of a network that names none. RFC 4193 §3.2.2
// asks for a global ID that is as good as random; this one is, but for the same name and
// overlay, which only the same network has.
func deriveOverlay6(network string, overlay netip.Prefix) netip.Prefix {
	sum := sha256.Sum256([]byte("tombolo overlay6 " + network + " " + overlay.String()))
	a := [16]byte{0xfd}
	copy(a[1:6], sum[:])
	return netip.PrefixFrom(netip.AddrFrom16(a), 48)
}

// addresses gives every site its addresses: first those that the file names, then hashes
// of names, which give way to them.
func (b *builder) addresses() {
	if !b.overlayOK {
		return
	}
	taken := make(map[netip.Addr]int, len(b.n.Sites))
	for i := range b.n.Sites {
		a := b.f.sites.v[i].v.address
		if !a.ok {
			continue
		}
		if other, dup := taken[a.v]; dup {
			b.err(a.Pos, codeDuplicateAddress, "give each router its own, or leave `address:` out", "address %v is already that of site %q (line %d)", a.v, b.n.Sites[other].Name, b.n.Sites[other].Pos.Line)
			continue
		}
		if b.inPrefix(a, b.n.Overlay, "overlay") {
			taken[a.v] = i
			b.number(i, a.v)
		}
	}
	limit := 65535 - b.n.Settings.Port
	suggested := map[netip.Addr]bool{}
	for i := range b.n.Sites {
		s, decl := &b.n.Sites[i], &b.f.sites.v[i].v
		if decl.address.given {
			continue
		}
		a := AddressAt(b.n.Overlay, HashedIndex(s.Name, b.n.Overlay, limit))
		other, met := taken[a]
		if !met {
			taken[a] = i
			s.Hashed = true
			b.number(i, a)
			continue
		}
		if decl.doubt {
			continue // the address may be what could not be read
		}
		hint := "give it an `address:` of its own"
		if len(suggested) < maxSuggested {
			free := nextFree(b.n.Overlay, a, limit, func(a netip.Addr) bool { _, t := taken[a]; return t || suggested[a] })
			suggested[free] = true
			hint = "add `address: " + free.String() + "` to site \"" + clip(s.Name) + "\""
		}
		b.err(s.Pos, codeHashCollision, hint,
			"site %q names no address, and the one that its name hashes to, %v, is that of site %q (line %d)", clip(s.Name), a, clip(b.n.Sites[other].Name), b.n.Sites[other].Pos.Line)
	}
}

func (b *builder) number(i int, a netip.Addr) {
	s := &b.n.Sites[i]
	s.Address, s.Index = a, IndexOf(b.n.Overlay, a)
	s.Address6 = AddressAt(b.n.Overlay6, s.Index)
	b.addressed[i] = true
}

// inPrefix checks that an address is a host's in a prefix of ours.
func (b *builder) inPrefix(a at[netip.Addr], p netip.Prefix, noun string) bool {
	first, last := ends(p)
	switch {
	case !p.Contains(a.v):
		b.err(a.Pos, codeOutside, "take one from "+first.Next().String()+" to "+last.Prev().String()+", or leave `address:` out", "address %v is outside the %s %v", a.v, noun, p)
	case a.v == first:
		b.err(a.Pos, codeOutside, "the first address to give is "+first.Next().String(), "address %v is the %s itself", a.v, noun)
	case a.v == last:
		b.err(a.Pos, codeOutside, "the last address to give is "+last.Prev().String(), "address %v is the last of the %s, its broadcast address", a.v, noun)
	default:
		return true
	}
	return false
}

// maxSuggested is how many free addresses are looked for: more would not be read.
const maxSuggested = 200

// nextFree returns the first address after a that is not taken, from the beginning again
// after the one with the number limit (0: the prefix's last).
func nextFree(p netip.Prefix, a netip.Addr, limit int, taken func(netip.Addr) bool) netip.Addr {
	first, last := ends(p)
	for range 1 << 16 {
		a = a.Next()
		if a == last || limit > 0 && IndexOf(p, a) > limit {
			a = first.Next()
		}
		if !taken(a) {
			break
		}
	}
	return a
}
