package spec

import "fmt"

// remarks says what is right and that this version does not build.
func (b *builder) remarks() {
	for _, e := range b.f.exits.v {
		b.unbuilt(e.Pos, "exits", "until it does, each site's Internet traffic leaves by its own uplink")
	}
	for _, p := range b.f.publish.v {
		b.unbuilt(p.Pos, "published ports", "until it does, the port leads nowhere")
	}
	for _, s := range b.f.segments.v {
		b.unbuilt(s.Pos, "segments", "until it does, its sites are joined by routing alone")
	}
	for i := range b.f.sites.v {
		b.unbuiltOfSite(&b.f.sites.v[i].v)
	}
}

func (b *builder) unbuiltOfSite(decl *siteDecl) {
	for _, d := range decl.lan.v {
		for _, m := range d.v {
			if m.v.as.ok {
				b.unbuilt(m.v.as.Pos, "mapped LANs", "until it does, other sites do not reach this one's")
			}
		}
	}
	for n, u := range decl.uplink.v {
		only := fmt.Sprintf("until it does, everything leaves by %q", clip(decl.uplink.v[0].name))
		if n > 0 {
			b.unbuilt(u.Pos, "a second uplink", only)
			continue
		}
		if u.v.weight.given {
			b.unbuilt(u.v.weight.Pos, "weights of uplinks", only)
		}
		if u.v.check.given {
			b.unbuilt(u.v.check.Pos, "checks of uplinks", "until it does, the uplink counts as working")
		}
	}
}
