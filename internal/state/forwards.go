package state

import (
	"cmp"
	"net/netip"
	"slices"
)

// Forward is a pair of devices between which new connections must pass, whoever else filters
// on the router; what answers them passes the other way. A device is a name, or with a * at
// its end all whose names begin so.
type Forward struct {
	In  string `json:"in"`
	Out string `json:"out,omitempty"` // empty: into the router itself
	Why string `json:"why"`

	Only []Flow `json:"only,omitempty"` // none: everything
}

// Flow is a part of what goes from one device to another, as it is after its destination was
// translated.
type Flow struct {
	Protocol string     `json:"protocol"` // tcp or udp
	First    uint16     `json:"first"`    // destination ports, both ends included
	Last     uint16     `json:"last"`
	To       netip.Addr `json:"to,omitzero"` // whither a published port leads; zero: not translated
}

// CompareForwards orders forwards by their devices, then by the rest.
func CompareForwards(a, b Forward) int {
	return cmp.Or(
		cmp.Compare(a.In, b.In),
		cmp.Compare(a.Out, b.Out),
		cmp.Compare(a.Why, b.Why),
		slices.CompareFunc(a.Only, b.Only, CompareFlows),
	)
}

// CompareFlows orders flows by protocol, ports and destination.
func CompareFlows(a, b Flow) int {
	return cmp.Or(
		cmp.Compare(a.Protocol, b.Protocol),
		cmp.Compare(a.First, b.First),
		cmp.Compare(a.Last, b.Last),
		a.To.Compare(b.To),
	)
}

func sortForwards(all []Forward) {
	for i := range all {
		slices.SortFunc(all[i].Only, CompareFlows)
	}
	slices.SortFunc(all, CompareForwards)
}
