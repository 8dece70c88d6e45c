package spec

import "slices"

// Links says which sites are joined, over their indices. A full mesh of a thousand sites
// is half a million links, so it is a bit for each pair, and options only where the file
// gives some.
//
// A link in Links is one that the file asks for. Whether it can be made is another
// question: see CanLink.
type Links struct {
	n       int
	bits    []uint64 // row-major, n rows of n bits, symmetric
	options map[[2]int]LinkOptions
}

// NewLinks returns no links between n sites.
func NewLinks(n int) Links {
	return Links{n: n, bits: make([]uint64, (n*n+63)/64), options: map[[2]int]LinkOptions{}}
}

// Add joins a and b. It panics when they are the same or out of range.
func (l Links) Add(a, b int) {
	if a == b || a < 0 || b < 0 || a >= l.n || b >= l.n {
		panic("spec: a link joins two sites")
	}
	l.set(a*l.n + b)
	l.set(b*l.n + a)
}

// SetOptions joins a and b and gives the link options, whose pairs are in the order a, b.
func (l Links) SetOptions(a, b int, o LinkOptions) {
	l.Add(a, b)
	if a > b {
		a, b, o = b, a, o.swapped()
	}
	l.options[[2]int{a, b}] = o
}

// Has reports whether a and b are joined.
func (l Links) Has(a, b int) bool {
	i := a*l.n + b
	return l.bits[i>>6]&(1<<(i&63)) != 0
}

// Options returns what the file says of the link between a and b, its pairs in that order.
func (l Links) Options(a, b int) LinkOptions {
	if a > b {
		return l.options[[2]int{b, a}].swapped()
	}
	return l.options[[2]int{a, b}]
}

// Neighbours returns the sites joined to a, ascending.
func (l Links) Neighbours(a int) []int {
	var out []int
	for b := range l.n {
		if l.Has(a, b) {
			out = append(out, b)
		}
	}
	return out
}

// WithOptions returns the pairs (a < b) that have options, sorted.
func (l Links) WithOptions() [][2]int {
	out := make([][2]int, 0, len(l.options))
	for p := range l.options {
		out = append(out, p)
	}
	slices.SortFunc(out, func(x, y [2]int) int { return slices.Compare(x[:], y[:]) })
	return out
}

func (l Links) set(i int) { l.bits[i>>6] |= 1 << (i & 63) }

func (o LinkOptions) swapped() LinkOptions {
	o.Ports[0], o.Ports[1] = o.Ports[1], o.Ports[0]
	o.On[0], o.On[1] = o.On[1], o.On[0]
	return o
}

// Port returns the UDP port on which site a listens for site b: what the link says, else
// a's base port and b's index; for a site with static routing, whose one interface serves
// all its links, its base port and its own index.
func (n *Network) Port(a, b int) int {
	if n.Sites[a].Routing == Static || n.Sites[a].Kind == Plain {
		return n.Sites[a].BasePort + n.Sites[a].Index
	}
	if p := n.Links.Options(a, b).Ports[0]; p != 0 {
		return p
	}
	return n.Sites[a].BasePort + n.Sites[b].Index
}

// CanDial reports whether a can open a tunnel to b: b has an endpoint, and the port is
// let in.
func (n *Network) CanDial(a, b int) bool { return n.Sites[b].Dialable(n.Port(b, a)) }

// CanLink reports whether the link between a and b, if the file asks for it, can be made:
// one end can dial the other, or they share a LAN and need no tunnel.
func (n *Network) CanLink(a, b int) bool {
	return n.Links.Has(a, b) && (n.CanDial(a, b) || n.CanDial(b, a) || n.Links.Options(a, b).NoTunnel)
}
