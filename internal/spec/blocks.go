package spec

import (
	"cmp"
	"net/netip"
	"slices"
)

// block is a prefix that something in the file takes.
type block struct {
	prefix netip.Prefix
	Pos
	lan    Pos    // of the LAN's prefix, where Pos may be that of its `as:`
	site   int    // whose it is; fabric for the network's own
	what   string // "overlay", "LAN"
	device string
	mapped bool // the prefix is what `as:` says
	inside bool // the prefix is what `as:` hides from others
	as     netip.Prefix
}

// fabric is the owner of the overlay and of the clients' pool.
const fabric = -1

// sortedBlocks returns the blocks by address, larger before smaller, earlier in the file before
// later. Prefixes are either apart or one within the other, so in this order a sweep meets
// each prefix while all that hold it lie on a stack.
func sortedBlocks(blocks []block) []*block {
	out := make([]*block, len(blocks))
	for i := range blocks {
		out[i] = &blocks[i]
	}
	slices.SortFunc(out, compareBlocks)
	return out
}

func compareBlocks(x, y *block) int {
	return cmp.Or(x.prefix.Addr().Compare(y.prefix.Addr()), cmp.Compare(x.prefix.Bits(), y.prefix.Bits()), cmp.Compare(x.Line, y.Line), cmp.Compare(x.Column, y.Column))
}

// overlaps calls found for each block that lies in another one, with the smallest such.
func overlaps(blocks []block, found func(inner, outer *block)) {
	var open []*block
	for _, x := range sortedBlocks(blocks) {
		if open = holding(open, x); len(open) > 0 {
			found(x, open[len(open)-1])
		}
		open = append(open, x)
	}
}

// crossings calls found for the blocks of xs and ys that overlap: for each block that lies
// in one of the other list, with the smallest such.
func crossings(xs, ys []block, found func(x, y *block)) {
	a, b := sortedBlocks(xs), sortedBlocks(ys)
	var openA, openB []*block
	for len(a) > 0 || len(b) > 0 {
		if len(b) == 0 || len(a) > 0 && compareBlocks(a[0], b[0]) <= 0 {
			x := a[0]
			a = a[1:]
			openA, openB = append(holding(openA, x), x), holding(openB, x)
			if len(openB) > 0 {
				found(x, openB[len(openB)-1])
			}
			continue
		}
		y := b[0]
		b = b[1:]
		openA, openB = holding(openA, y), append(holding(openB, y), y)
		if len(openA) > 0 {
			found(openA[len(openA)-1], y)
		}
	}
}

// holding takes off the stack what x does not lie in.
func holding(open []*block, x *block) []*block {
	for len(open) > 0 && !open[len(open)-1].prefix.Contains(x.prefix.Addr()) {
		open = open[:len(open)-1]
	}
	return open
}

// table finds the block that an address lies in.
type table struct {
	blocks  map[netip.Prefix]*block
	lengths map[int]bool // of the blocks' prefixes
}

func newTable(blocks []block) table {
	t := table{make(map[netip.Prefix]*block, len(blocks)), map[int]bool{}}
	for i := range blocks {
		t.blocks[blocks[i].prefix] = &blocks[i]
		t.lengths[blocks[i].prefix.Bits()] = true
	}
	return t
}

// find returns the smallest block that holds a prefix, nil if none does.
func (t table) find(p netip.Prefix) *block {
	for bits := p.Bits(); bits >= 0; bits-- {
		if !t.lengths[bits] {
			continue
		}
		if q, err := p.Addr().Prefix(bits); err == nil && t.blocks[q] != nil {
			return t.blocks[q]
		}
	}
	return nil
}

func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
