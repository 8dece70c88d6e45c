package draw

import (
	"testing"

	"tombolo/internal/spec"
)

// Files of any size are drawn, if not beautifully.
func TestLargeNetworks(t *testing.T) {
	for name, n := range map[string]*spec.Network{
		"mesh": meshOf(500), "star": starOf(300), "chain": chainOf(300), "groups": groupsOf(300), "random": randomOf(200, 1),
	} {
		for i, p := range read(t, SVG(n)).problems() {
			if i < 3 {
				t.Errorf("%s: %s", name, p)
			}
		}
	}
}

func BenchmarkSVG(b *testing.B) {
	for _, name := range []string{"home", "mesh60", "star60", "random60", "busy-random45", "groups60"} {
		n := pictures()[name]
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				SVG(n)
			}
		})
	}
}
