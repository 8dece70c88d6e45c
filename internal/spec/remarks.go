package spec

// remarks says what is right and that this version does not build.
func (b *builder) remarks() {
	for _, p := range b.f.publish.v {
		b.unbuilt(p.Pos, "published ports", "until it does, the port leads nowhere")
	}
	for _, s := range b.f.segments.v {
		b.unbuilt(s.Pos, "segments", "until it does, its sites are joined by routing alone")
	}
	for i := range b.f.sites.v {
		for _, d := range b.f.sites.v[i].v.lan.v {
			for _, m := range d.v {
				if m.v.as.ok {
					b.unbuilt(m.v.as.Pos, "mapped LANs", "until it does, other sites do not reach this one's")
				}
			}
		}
	}
}
