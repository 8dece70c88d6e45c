package ruleset

import (
	"cmp"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
)

// wide is a value of 128 bits.
type wide struct{ hi, lo uint64 }

func (a wide) compare(b wide) int {
	if c := cmp.Compare(a.hi, b.hi); c != 0 {
		return c
	}
	return cmp.Compare(a.lo, b.lo)
}

func (a wide) less(b wide) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

// next returns the value after a, if there is one.
func (a wide) next() (wide, bool) {
	a.lo++
	if a.lo == 0 {
		a.hi++
	}
	return a, a != wide{}
}

// span is all values from first to last, and what a map has for them.
type span[N any] struct {
	first, last N
	value       uint32
}

var errOverlap = errors.New("lies in another element of the map")

// arrange sorts spans. In a set those that touch become one, as nft makes them; in a map they are
// an error.
func arrange(all []span[wide], isMap bool) ([]span[wide], error) {
	slices.SortFunc(all, func(a, b span[wide]) int { return a.first.compare(b.first) })
	var out []span[wide]
	for _, s := range all {
		n := len(out)
		switch {
		case n == 0 || out[n-1].last.less(s.first):
			out = append(out, s)
		case isMap:
			return nil, errOverlap
		case out[n-1].last.less(s.last):
			out[n-1].last = s.last
		}
	}
	return out, nil
}

// narrowed returns spans of 32 bits.
func narrowed(all []span[wide]) []span[uint32] {
	out := make([]span[uint32], len(all))
	for i, s := range all {
		out[i] = span[uint32]{uint32(s.first.lo), uint32(s.last.lo), s.value}
	}
	return out
}

// findNarrow returns the value of the span that n lies in.
func findNarrow(spans []span[uint32], n uint32) (uint32, bool) {
	low, high := 0, len(spans) // the first that does not end before n lies between
	for low < high {
		middle := int(uint(low+high) >> 1)
		if spans[middle].last < n {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == len(spans) || n < spans[low].first {
		return 0, false
	}
	return spans[low].value, true
}

// findWide is findNarrow for 128 bits.
func findWide(spans []span[wide], n wide) (uint32, bool) {
	low, high := 0, len(spans)
	for low < high {
		middle := int(uint(low+high) >> 1)
		if spans[middle].last.less(n) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == len(spans) || n.less(spans[low].first) {
		return 0, false
	}
	return spans[low].value, true
}

// number4 returns an address as a number. One that is no IPv4 address is 0.
func number4(a netip.Addr) uint32 {
	if !a.Is4() {
		return 0
	}
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func number6(a netip.Addr) wide {
	b := a.As16()
	return wide{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// number returns an address of either family.
func number(a netip.Addr) wide {
	if a.Is4() {
		return wide{lo: uint64(number4(a))}
	}
	return number6(a)
}

// lastOf returns the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for k := range b {
		if keep := p.Bits() - 8*k; keep < 8 {
			b[k] |= byte(0xff) >> max(keep, 0)
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// within returns the address in p that has the last bits of a (nft_nat_setup_netmap).
func within(p netip.Prefix, a netip.Addr) netip.Addr {
	to, from := p.Masked().Addr().AsSlice(), a.AsSlice()
	for k := range to {
		switch keep := p.Bits() - 8*k; {
		case keep <= 0:
			to[k] = from[k]
		case keep < 8:
			to[k] |= from[k] & (byte(0xff) >> keep)
		}
	}
	out, _ := netip.AddrFromSlice(to)
	return out
}
