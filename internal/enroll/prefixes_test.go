package enroll

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// few draws prefixes of two small worlds, one of each family.
func few(t *rapid.T) []netip.Prefix {
	var out []netip.Prefix
	for range rapid.IntRange(0, 8).Draw(t, "prefixes") {
		last, short := byte(rapid.IntRange(0, 31).Draw(t, "last")), rapid.IntRange(0, 5).Draw(t, "short")
		a := netip.AddrFrom4([4]byte{10, 0, 0, last})
		if rapid.Bool().Draw(t, "six") {
			a = netip.AddrFrom16([16]byte{0: 0xfd, 15: last})
		}
		out = append(out, netip.PrefixFrom(a, a.BitLen()-short).Masked())
	}
	return out
}

func covers(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Prefixes are the fewest that cover what they cover when no two overlap and no two are the
// halves of one.
func fewest(t *rapid.T, prefixes []netip.Prefix) {
	if !slices.IsSortedFunc(prefixes, netip.Prefix.Compare) {
		t.Fatalf("not sorted: %v", prefixes)
	}
	for i, p := range prefixes {
		for _, q := range prefixes[i+1:] {
			if p.Overlaps(q) || p.Bits() == q.Bits() && netip.PrefixFrom(q.Addr(), p.Bits()-1).Masked() == netip.PrefixFrom(p.Addr(), p.Bits()-1).Masked() {
				t.Fatalf("%v and %v of %v are one", p, q, prefixes)
			}
		}
	}
}

func TestAggregatedPrefixesCoverTheSameAndAreTheFewest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := few(t)
		got := aggregate(all)
		out := netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(0, 33).Draw(t, "out"))})
		rest := without(got, out)
		fewest(t, got)
		fewest(t, rest)
		for last := range byte(34) {
			for _, a := range []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, last}), netip.AddrFrom16([16]byte{0: 0xfd, 15: last})} {
				if covers(got, a) != covers(all, a) {
					t.Fatalf("%v: %v is not %v", a, got, all)
				}
				if covers(rest, a) != (covers(all, a) && a != out) {
					t.Fatalf("%v: %v without %v is not %v", a, all, out, rest)
				}
			}
		}
	})
}
