package spec

import (
	"fmt"
	"net/netip"
)

// readLANs takes over what a site says of its LANs.
func (b *builder) readLANs(s *Site, decl *siteDecl) {
	for _, d := range decl.lan.v {
		if !b.checkDevice(d.Pos, d.name) {
			continue
		}
		lan := LAN{Pos: d.Pos, Device: d.name}
		for _, m := range d.v {
			if !m.v.prefix.ok || !b.checkLAN(m.v.prefix) {
				continue
			}
			mapped := Mapped{Pos: m.v.prefix.Pos, Prefix: m.v.prefix.v}
			if m.v.as.ok && b.checkMapping(m.v.prefix.v, m.v.as) {
				mapped.As = m.v.as.v
				b.mappings[mapped.Pos] = m.v.as.Pos
				if s.Kind == Plain {
					b.warn(m.v.as.Pos, codePlain, "set it up there, one to one and both ways", "site %q is plain and runs nothing of ours: its own router must translate %v to %v", s.Name, mapped.Prefix, mapped.As)
				}
			}
			if m.v.probe.ok && b.checkProbe(s, m.v.prefix.v, m.v.probe) {
				mapped.Probe = m.v.probe.v
			}
			lan.Prefixes = append(lan.Prefixes, mapped)
		}
		if len(lan.Prefixes) > 0 {
			s.LANs = append(s.LANs, lan)
		}
	}
}

// checkLAN reports a prefix that no LAN has.
func (b *builder) checkLAN(p at[netip.Prefix]) bool {
	use := specialUse(p.v)
	switch {
	case use != "":
		b.err(p.Pos, codeSpecialPrefix, "write the prefix of the hosts on this device", "prefix %v is %s, not a LAN's", p.v, use)
	case p.v.Bits() == 0:
		b.err(p.Pos, codeSpecialPrefix, "a device that leads to the Internet is an `uplink:`", "prefix %v is everything, not a LAN's", p.v)
	case p.v.IsSingleIP():
		b.warn(p.Pos, codeSpecialPrefix, "write the prefix of the whole LAN", "prefix %v is one address, with no room for a host beside the router", p.v)
		return true
	default:
		return true
	}
	return false
}

// checkProbe reports a probe that no host behind the device can be.
func (b *builder) checkProbe(s *Site, p netip.Prefix, probe at[netip.Addr]) bool {
	first, last := ends(p)
	switch {
	case !p.Contains(probe.v):
		b.err(probe.Pos, codeProbe, fmt.Sprintf("it is a host of %v", p), "probe %v is outside the prefix %v", probe.v, p)
	case probe.v == first && !p.IsSingleIP():
		b.err(probe.Pos, codeProbe, fmt.Sprintf("it is a host of %v", p), "probe %v is the address of the prefix itself", probe.v)
	case probe.v == last && p.Addr().Is4() && p.Bits() < 31:
		b.err(probe.Pos, codeProbe, fmt.Sprintf("it is a host of %v", p), "probe %v is the last address of %v, which all hosts answer to", probe.v, p)
	case s.Routing != Babel:
		b.warn(probe.Pos, codeProbe, "delete it, or give the site `routing: babel`", "site %q has static routing, so it announces nothing and asks no probe", s.Name)
		return true
	default:
		return true
	}
	return false
}

// checkMapping reports an `as:` that cannot stand for a prefix host for host.
func (b *builder) checkMapping(p netip.Prefix, as at[netip.Prefix]) bool {
	use := specialUse(as.v)
	switch {
	case p.Addr().Is4() != as.v.Addr().Is4():
		b.err(as.Pos, codeMapping, "", "%v cannot stand for %v: one is IPv4, the other IPv6", as.v, p)
	case p.Bits() != as.v.Bits():
		hint := ""
		if q, err := as.v.Addr().Prefix(p.Bits()); err == nil {
			hint = fmt.Sprintf("for example %v", q)
		}
		b.err(as.Pos, codeMapping, hint, "%v cannot stand for %v: host for host, the two are of one length", as.v, p)
	case use != "":
		b.err(as.Pos, codeSpecialPrefix, "take a private prefix that nobody else has", "prefix %v is %s", as.v, use)
	default:
		return true
	}
	return false
}

// lans reports LANs that overlap: each other, as the rest of the network sees them; within
// one site, as its own router does; and the prefixes of the network itself.
func (b *builder) lans() {
	outside, inside := b.fabricBlocks(), []block(nil)
	for i := range b.n.Sites {
		var own []block
		mapped := false
		for _, l := range b.n.Sites[i].LANs {
			for _, m := range l.Prefixes {
				x := block{prefix: m.Prefix, Pos: m.Pos, lan: m.Pos, site: i, what: "LAN", device: l.Device, inside: m.As.IsValid()}
				own = append(own, x)
				if x.inside {
					mapped = true
					inside = append(inside, x)
					x.prefix, x.Pos, x.mapped, x.inside = m.As, b.mappings[m.Pos], true, false
				}
				outside = append(outside, x)
			}
		}
		if mapped {
			// The prefixes before mapping are of this router alone, but there they are.
			overlaps(own, func(inner, outer *block) {
				if inner.inside || outer.inside { // else it is found outside too
					b.overlap(b.inFileOrder(inner, outer))
				}
			})
		}
	}
	overlaps(outside, func(inner, outer *block) { b.overlap(b.inFileOrder(inner, outer)) })
	crossings(inside, outside, func(in, out *block) { b.hides(in, out) })
}

// fabricBlocks returns the prefixes of the network itself.
func (b *builder) fabricBlocks() []block {
	var out []block
	if b.overlayOK {
		out = append(out, block{prefix: b.n.Overlay, Pos: b.f.overlay.Pos, site: fabric, what: "overlay"})
		out = append(out, block{prefix: b.n.Overlay6, Pos: b.f.overlay6.Pos, site: fabric, what: "overlay6"})
	}
	if pool := b.f.clients.v.pool; pool.ok {
		out = append(out, block{prefix: pool.v, Pos: pool.Pos, site: fabric, what: "pool of the clients"})
	}
	return out
}

// inFileOrder returns the earlier of two blocks last; what is the network's own comes
// before everything.
func (b *builder) inFileOrder(x, y *block) (later, earlier *block) {
	if x.site == fabric && y.site != fabric || (x.site == fabric) == (y.site == fabric) && (x.Line < y.Line || x.Line == y.Line && x.Column < y.Column) {
		return y, x
	}
	return x, y
}

// overlap reports that the later of two blocks overlaps the earlier.
func (b *builder) overlap(x, y *block) {
	name := fmt.Sprintf("prefix %v", x.prefix)
	if x.mapped {
		name = fmt.Sprintf("mapped prefix %v", x.prefix)
	}
	switch {
	case x.site == fabric:
		b.err(x.Pos, codeOverlapFabric, "take one that is apart", "%s %v overlaps the %s %v%s", x.what, x.prefix, y.what, y.prefix, inLine(y.Pos))
	case y.site == fabric:
		b.err(x.Pos, codeOverlapFabric, fmt.Sprintf("give the LAN or the %s another prefix", y.what), "%s overlaps the %s %v%s", name, y.what, y.prefix, inLine(y.Pos))
	case x.site == y.site && x.device == y.device:
		b.err(x.Pos, codeOverlap, "one of them is enough", "%s overlaps %v, also of device %q%s", name, y.prefix, y.device, inLine(y.Pos))
	case x.site == y.site:
		b.err(x.Pos, codeOverlap, "two devices of one router need prefixes that are apart", "%s overlaps %v of device %q%s", name, y.prefix, y.device, inLine(y.Pos))
	case x.mapped:
		b.err(x.Pos, codeOverlap, "take another prefix for `as:`, which nobody has", "%s overlaps the LAN of site %q%s", name, b.n.Sites[y.site].Name, inLine(y.Pos))
	default:
		b.err(x.Pos, codeOverlap, "give each site its own prefix, or map this one with `as:`", "%s overlaps the LAN of site %q%s", name, b.n.Sites[y.site].Name, inLine(y.Pos))
	}
}

func inLine(p Pos) string {
	if p.Line == 0 {
		return ""
	}
	return fmt.Sprintf(" (line %d)", p.Line)
}

// hides reports that a mapped LAN, as its own site sees it, hides something from the
// hosts there.
func (b *builder) hides(in, out *block) {
	site := b.n.Sites[in.site].Name
	switch {
	case out.site == in.site && out.lan == in.lan:
		b.err(out.Pos, codeMapping, "take a prefix for `as:` that nobody has", "prefix %v is mapped to %v, which overlaps it", in.prefix, out.prefix)
	case out.site == fabric:
		b.err(in.Pos, codeOverlapFabric, fmt.Sprintf("`as:` changes what others see, not what %q has: give the %s another prefix", site, out.what), "prefix %v overlaps the %s %v%s", in.prefix, out.what, out.prefix, inLine(out.Pos))
	case out.site == in.site:
		if out.mapped {
			b.err(out.Pos, codeOverlap, "take another prefix for `as:`, which nobody has", "mapped prefix %v overlaps %v, which site %q has too%s", out.prefix, in.prefix, site, inLine(in.Pos))
		}
	case out.mapped:
		b.err(out.Pos, codeOverlap, "take another prefix for `as:`, which nobody has", "mapped prefix %v overlaps the LAN that site %q has%s, so %q could not reach it", out.prefix, site, inLine(in.Pos), site)
	default:
		b.err(out.Pos, codeOverlap, "map this one with `as:` too", "prefix %v overlaps the LAN that site %q has%s; that one is mapped, but from there this one could not be reached", out.prefix, site, inLine(in.Pos))
	}
}
