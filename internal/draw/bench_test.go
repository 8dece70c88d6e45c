package draw

import "testing"

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
