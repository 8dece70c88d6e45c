package babel

import (
	"net/netip"
	"time"

	"tombolo/internal/babel/wire"
)

// View is what a speaker knows, for people: sorted, and a copy.
type View struct {
	RouterID   wire.RouterID   `json:"routerId"`
	Seqno      uint16          `json:"seqno"`
	Links      []LinkView      `json:"links"`
	Neighbours []NeighbourView `json:"neighbours"`
	Announced  []Announcement  `json:"announced"` // of our own
	Routes     []EntryView     `json:"routes"`
	Refused    uint64          `json:"refused"`   // updates that the policy does not allow
	Malformed  uint64          `json:"malformed"` // TLVs, and packets not from a Babel router
	Unsigned   uint64          `json:"unsigned"`  // packets with no right MAC
}

// LinkView is a link.
type LinkView struct {
	Name     string        `json:"name"`
	Up       bool          `json:"up"`
	Active   bool          `json:"active"` // it carries traffic
	Interval time.Duration `json:"interval"`
}

// NeighbourView is a neighbour.
type NeighbourView struct {
	Link    string        `json:"link"`
	Address netip.Addr    `json:"address"`
	State   string        `json:"state"` // "up", "suspect", "one-way", "new" or "dead"
	Since   Time          `json:"since"` // of the state
	RTT     time.Duration `json:"rtt"`   // the one that the metric is made from; 0: not known
	LastRTT time.Duration `json:"lastRtt"`
	Loss    float64       `json:"loss"`   // of our hellos' and theirs, the worse: 0 to 1
	RxCost  uint16        `json:"rxcost"` // ours, of hearing it
	TxCost  uint16        `json:"txcost"` // its, of hearing us
	Cost    uint16        `json:"cost"`   // of a route through it, on top of its metric
	Heard   Time          `json:"heard"`  // last
	Origin  string        `json:"origin,omitempty"`
}

// EntryView is a destination, and all ways to it.
type EntryView struct {
	Key
	Own    bool        `json:"own"` // announced by this router
	Hop    *Hop        `json:"hop,omitempty"`
	Since  Time        `json:"since"` // when Hop was chosen
	Why    string      `json:"why"`   // it was chosen, with figures
	Routes []RouteView `json:"ways"`  // the selected one first, then by metric
}

// RouteView is one neighbour's route.
type RouteView struct {
	Link      string        `json:"link"`
	Neighbour netip.Addr    `json:"neighbour"`
	NextHop   netip.Addr    `json:"nextHop"`
	RouterID  wire.RouterID `json:"routerId"`
	Seqno     uint16        `json:"seqno"`
	RefMetric uint16        `json:"refMetric"` // as it was announced
	Metric    uint16        `json:"metric"`    // with the cost of the link; wire.Infinity: retracted
	Smooth    uint16        `json:"smoothed"`  // by which ways are compared
	Feasible  bool          `json:"feasible"`
	Selected  bool          `json:"selected"`
	Note      string        `json:"note,omitempty"` // why it is not used
}
