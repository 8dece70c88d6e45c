package spec

import (
	"net/netip"
	"slices"
)

// readBabel takes over the devices on which a site speaks Babel with routers of no site.
func (b *builder) readBabel(s *Site, decl *siteDecl) {
	if s.Routing != Babel {
		if decl.babel.given {
			b.err(decl.babel.Pos, codeBabel, "delete it, or give the site `routing: babel`", "site %q has static routing, so it speaks Babel with nobody", s.Name)
		}
		return
	}
	for _, d := range decl.babel.v {
		if !b.checkDevice(d.Pos, d.name) || !d.ok {
			continue
		}
		x := BabelSegment{Pos: d.Pos, Device: d.name}
		for _, p := range d.v.accept.v {
			if b.checkAccept(p) && !slices.Contains(x.Accept, p.v) {
				x.Accept = append(x.Accept, p.v)
			}
		}
		if k := d.v.key; k.ok && b.checkName(k.Pos, "key", k.v) {
			x.Key = k.v
		}
		s.Babel = append(s.Babel, x)
	}
}

// checkAccept reports a prefix that nobody may announce.
func (b *builder) checkAccept(p at[netip.Prefix]) bool {
	use := specialUse(p.v)
	switch {
	case p.v.Bits() == 0:
		b.err(p.Pos, codeBabel, "name the prefixes that lie there", "prefix %v is everything, also this network's own", p.v)
	case use != "":
		b.err(p.Pos, codeSpecialPrefix, "name the prefixes that lie there", "prefix %v is %s, and nobody's to announce", p.v, use)
	default:
		return true
	}
	return false
}

// babel reports devices of `babel:` that say nothing, and accepted prefixes that are
// somebody's already.
func (b *builder) babel() {
	met := b.meetings()
	var accepted []block
	static := false
	for i := range b.n.Sites {
		static = static || b.n.Sites[i].Routing != Babel
		for j, x := range b.n.Sites[i].Babel {
			decl := b.babelDecl(i, x)
			if !decl.accept.given && !met[meeting{i, x.Device}] {
				b.err(x.Pos, codeBabel, "for example `accept: 10.9.0.0/16`", "site %q speaks on device %q and accepts nothing there", b.n.Sites[i].Name, x.Device)
			}
			for _, p := range decl.accept.v {
				if slices.Contains(x.Accept, p.v) {
					accepted = append(accepted, block{prefix: p.v, Pos: p.Pos, site: i, what: "accepted prefix", device: b.n.Sites[i].Babel[j].Device})
				}
			}
		}
	}
	if len(accepted) == 0 {
		return
	}
	taken := b.fabricBlocks()
	for i := range b.n.Sites {
		for _, l := range b.n.Sites[i].LANs {
			for _, m := range l.Prefixes {
				taken = append(taken, block{prefix: m.Outside(), Pos: m.Pos, site: i, what: "LAN", device: l.Device})
			}
		}
	}
	crossings(accepted, taken, func(x, y *block) {
		whose := "the " + y.what
		if y.site != fabric {
			whose = "the LAN of site \"" + b.n.Sites[y.site].Name + "\","
		}
		b.err(x.Pos, codeBabel, "accept only what is none of this network's own", "the accepted prefix %v overlaps %s %v%s", x.prefix, whose, y.prefix, inLine(y.Pos))
	})
	if !static {
		return
	}
	overlaps(accepted, func(inner, outer *block) {
		if x, y := b.inFileOrder(inner, outer); x.site != y.site {
			b.err(x.Pos, codeBabel, "accept it at one of the two", "the accepted prefix %v overlaps %v, which site %q accepts%s; sites with static routing reach it by one way only", x.prefix, y.prefix, b.n.Sites[y.site].Name, inLine(y.Pos))
		}
	})
}

// babelDecl returns what the file says of one of a site's segments.
func (b *builder) babelDecl(site int, x BabelSegment) babelDecl {
	for _, d := range b.f.sites.v[site].v.babel.v {
		if d.name == x.Device {
			return d.v
		}
	}
	return babelDecl{}
}

// meeting is a device on which two Babel routers speak without a tunnel.
type meeting struct {
	site   int
	device string
}

// meetings returns the devices of links without a tunnel between Babel routers, and reports
// those whose ends cannot hear each other.
func (b *builder) meetings() map[meeting]bool {
	met := map[meeting]bool{}
	for _, p := range b.n.Links.WithOptions() {
		o := b.n.Links.Options(p[0], p[1])
		if !o.NoTunnel || !b.speak(p[0], p[1]) || o.On[0] == "" || o.On[1] == "" {
			continue
		}
		var keys [2]string
		for end, i := range p {
			s := &b.n.Sites[i]
			met[meeting{i, o.On[end]}] = true
			for _, x := range s.Babel {
				if x.Device == o.On[end] {
					keys[end] = x.Key
				}
			}
			for _, u := range s.Uplinks {
				if u.Device == o.On[end] && u.MTU < leastMTU6 {
					b.err(o.Pos, codeSmallMTU, "give one of the two `routing: static`", "device %q of %q, with an MTU of %d, carries no IPv6 (RFC 8200 §5), by which Babel routers speak", u.Device, s.Name, u.MTU)
				}
			}
		}
		if keys[0] != keys[1] {
			b.err(o.Pos, codeBabel, "say the same `key:` for both devices in `babel:` of the two sites", "sites %q and %q would not hear each other: the one signs with %s, the other with %s",
				b.n.Sites[p[0]].Name, b.n.Sites[p[1]].Name, keyName(keys[0]), keyName(keys[1]))
		}
	}
	return met
}

func keyName(key string) string {
	if key == "" {
		return "no key"
	}
	return "key \"" + key + "\""
}
