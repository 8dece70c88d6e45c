package spec

import "testing"

// The tables of sources are none of the kernel's own: 253 to 255.
func TestTablesOfSources(t *testing.T) {
	for table, want := range map[uint32]uint32{110: 130, 201: 221, 202: 256, 235: 256, 236: 256, 251: 271, 1000: 1020} {
		if got := (Settings{Table: table}).SourceTable(); got != want {
			t.Errorf("of table %d they begin with %d, want %d", table, got, want)
		}
	}
}
