package trace

import (
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
)

// Group is one row and one column of a Matrix: all who stand at a place, of whom one is asked.
type Group struct {
	Name   string
	Place  Place      // with the address of the one who is asked; of Kind Host without a Site it begins nothing
	Seen   netip.Addr // by which those of other sites call it; zero: nobody can
	Public netip.Addr // by which it is called from outside, if not by Seen
	Mute   bool       // nobody calls it
	Anyone bool       // whoever answers there is right: a published port
}

// Matrix says who reaches whom.
type Matrix struct {
	Groups   []Group
	Verdicts [][]Verdict // from, to; of a group to itself, and where nothing is asked, zero
	Ways     [][]string  // of what is delivered: the routers and devices that it leaves by, there and back
}

// Some reports whether a flow is delivered by some of the ways that it may take and not by all: the
// verdict is that of one that is lost.
func (m *Matrix) Some(from, to int) bool {
	return !m.Verdicts[from][to].Delivered && m.Ways[from][to] != ""
}

// Asked reports whether there is a verdict.
func (m *Matrix) Asked(from, to int) bool {
	return m.Verdicts[from][to].Delivered || m.Verdicts[from][to].Reason != ""
}

// Target is the address by which one group calls another, and whether there is one.
func Target(from, to *Group) (netip.Addr, bool) {
	switch {
	case to.Mute, from.Place.Kind == Host && from.Place.Site == "":
		return netip.Addr{}, false
	case from.Place.Kind == Internet && to.Public.IsValid():
		return to.Public, true
	case to.Place.Kind == Host && to.Place.Site != "" && to.Place.Site == from.Place.Site:
		return to.Place.Addr, true // a mapped LAN is called by its own addresses at home
	}
	return to.Seen, to.Seen.IsValid()
}

// Reach asks for a flow between any two groups; the flow's ends are theirs. It uses all
// processors.
func (n *Network) Reach(groups []Group, f Flow) Matrix {
	m := Matrix{Groups: groups, Verdicts: make([][]Verdict, len(groups)), Ways: make([][]string, len(groups))}
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(groups)) {
		all.Go(func() {
			w := &walk{n: n}
			for i := int(next.Add(1)) - 1; i < len(groups); i = int(next.Add(1)) - 1 {
				m.Verdicts[i], m.Ways[i] = w.reach(groups, i, f)
			}
		})
	}
	all.Wait()
	return m
}

// reach is one row.
func (w *walk) reach(groups []Group, from int, f Flow) ([]Verdict, []string) {
	verdicts, ways := make([]Verdict, len(groups)), make([]string, len(groups))
	for to := range groups {
		a, ok := Target(&groups[from], &groups[to])
		if from == to || !ok {
			continue
		}
		f.From, f.To = groups[from].Place, a
		verdicts[to], ways[to] = w.cell(f, &groups[to])
	}
	return verdicts, ways
}

func (p Place) same(q Place) bool { return p.Kind == q.Kind && p.Site == q.Site && p.Name == q.Name }

// appendWay writes which routers a packet leaves, and by what.
func appendWay(b []byte, hops []Hop) []byte {
	if len(b) > 0 {
		b = append(b, "; back "...)
	}
	for i, h := range hops {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(append(append(b, h.Router...), ' '), h.Device...)
	}
	return b
}
