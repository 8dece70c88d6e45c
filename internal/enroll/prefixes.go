package enroll

import (
	"net/netip"
	"slices"
)

// aggregate returns what prefixes cover, in as few as it takes, sorted.
func aggregate(prefixes []netip.Prefix) []netip.Prefix {
	sorted := slices.Clone(prefixes)
	slices.SortFunc(sorted, netip.Prefix.Compare)
	var out []netip.Prefix
	for _, p := range sorted {
		last := len(out) - 1
		if last >= 0 && out[last].Overlaps(p) {
			continue // it lies within: the wider of two comes first
		}
		out = append(out, p)
		for n := len(out); n > 1 && parent(out[n-1]) == parent(out[n-2]) && out[n-1].Bits() == out[n-2].Bits(); n = len(out) {
			out = append(out[:n-2], parent(out[n-1]))
		}
	}
	return out
}

// parent returns the prefix that is one bit shorter; /0 has none and is its own.
func parent(p netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(p.Addr(), max(p.Bits()-1, 0)).Masked()
}

// without returns what prefixes cover but for one address.
func without(prefixes []netip.Prefix, a netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range prefixes {
		if !p.Contains(a) {
			out = append(out, p)
			continue
		}
		for bits := p.Bits() + 1; bits <= a.BitLen(); bits++ { // of both halves the one without it
			b := a.AsSlice()
			b[(bits-1)/8] ^= 0x80 >> ((bits - 1) % 8)
			other, _ := netip.AddrFromSlice(b)
			out = append(out, netip.PrefixFrom(other, bits).Masked())
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}
