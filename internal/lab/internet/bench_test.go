package internet

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkHandle is one packet of 1,400 bytes in and out of the engine, with
// a thousand on their way.
func BenchmarkHandle(b *testing.B) {
	for _, c := range []struct {
		name string
		nat  NAT
		imp  Impairment
	}{
		{"plain", NAT{}, Impairment{Delay: 10 * time.Millisecond}},
		{"rate", NAT{}, Impairment{Delay: 10 * time.Millisecond, Jitter: time.Millisecond, Loss: 0.01, Rate: 1e10}},
		{"full-cone", NAT{Kind: FullCone}, Impairment{Delay: 10 * time.Millisecond}},
		{"symmetric", NAT{Kind: Symmetric}, Impairment{Delay: 10 * time.Millisecond}},
	} {
		b.Run(c.name, func(b *testing.B) {
			bench := newBench(b, home(c.nat), Place{Name: "peer", Prefixes: prefixes("203.0.113.0/24")})
			bench.path("*", "*", c.imp)
			original := udp("10.0.0.2:4000", "203.0.113.1:53", string(make([]byte, 1372)))
			var free [][]byte
			b.SetBytes(int64(len(original)))
			b.ReportAllocs()
			for b.Loop() {
				var packet []byte
				if n := len(free); n > 0 {
					packet, free = free[n-1], free[:n-1]
				} else {
					packet = make([]byte, len(original))
				}
				copy(packet, original[:28]) // the headers, as a NAT changes them
				bench.sleep(10 * time.Microsecond)
				if !bench.Handle(bench.now, packet) {
					free = append(free, packet)
				}
				free = append(free, bench.Due(bench.now)...)
			}
		})
	}
}

// BenchmarkPlaces is Handle among many places and pairs, as in a large lab.
func BenchmarkPlaces(b *testing.B) {
	const n = 300
	var places []Place
	var packets [][]byte
	for i := range n {
		net := fmt.Sprintf("10.%d.%d.", i/250, i%250)
		places = append(places, Place{Name: fmt.Sprint("site", i), Prefixes: prefixes(net + "0/24")})
		packets = append(packets, udp(net+"2:1000", fmt.Sprintf("10.0.%d.2:1000", (i*7)%250), ""))
	}
	bench := newBench(b, places...)
	bench.path("*", "*", Impairment{Delay: time.Millisecond})
	i := 0
	for b.Loop() {
		bench.sleep(10 * time.Microsecond)
		bench.Handle(bench.now, packets[i%n])
		bench.Due(bench.now)
		i++
	}
}
