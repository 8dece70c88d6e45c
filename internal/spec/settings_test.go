package spec

import (
	"math/bits"
	"math/rand/v2"
	"testing"
)

// The tables of sources are none of the kernel's own: 253 to 255.
func TestTablesOfSources(t *testing.T) {
	for table, want := range map[uint32]uint32{110: 130, 201: 221, 202: 256, 235: 256, 236: 256, 251: 271, 1000: 1020} {
		if got := (Settings{Table: table}).SourceTable(); got != want {
			t.Errorf("of table %d they begin with %d, want %d", table, got, want)
		}
	}
}

// Whatever the fabric's table is, no two tables are one, none is the kernel's, and the
// numbers do not begin anew.
func TestTablesAreApart(t *testing.T) {
	look := func(table uint32) {
		last := uint32(0)
		for _, r := range (Settings{Table: table}).Tables() {
			if r.First <= last || r.Last < r.First {
				t.Errorf("of table %d: %v after %d", table, r, last)
			}
			if r.First <= localTable && r.Last >= defaultTable {
				t.Errorf("of table %d: %v has the kernel's", table, r)
			}
			last = r.Last
		}
	}
	for table := uint32(1); table < 6000; table++ {
		if table+1 < defaultTable || table > localTable {
			look(table)
		}
	}
	random := rand.New(rand.NewPCG(6, 6))
	for range 10_000 {
		look(localTable + 1 + random.Uint32N(mostTable-localTable))
	}
	look(mostTable)
	if room := ^uint32(0) - (Settings{Table: mostTable}).ExitTable(); room < maxValues {
		t.Errorf("there is room for %d sources after the largest table, and a file can hold %d", room, maxValues)
	}
}

// Wherever the mask lies, all that is marked has a number in it, and none is that of tunnels' own
// packets.
func TestMarksHaveNumbers(t *testing.T) {
	for width := leastBits; width <= 32; width++ {
		for shift := 0; shift+width <= 32; shift++ {
			mask := uint32(1<<width-1) << shift
			s := Settings{Mask: mask, Mark: mask}
			seen := map[uint32]bool{0: true, s.Mark: true}
			for n := FirstUplink; n <= TowardsExit; n++ {
				m := s.Number(n)
				if seen[m] || m&^mask != 0 || bits.OnesCount32(m) != bits.OnesCount32(uint32(n)) {
					t.Fatalf("mask %#x gives number %d the mark %#x", mask, n, m)
				}
				seen[m] = true
			}
		}
	}
}
