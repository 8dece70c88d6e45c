package spec

// remarks says what is right and that this version does not build.
func (b *builder) remarks() {
	for _, s := range b.f.segments.v {
		b.unbuilt(s.Pos, "segments", "until it does, its sites are joined by routing alone")
	}
}
