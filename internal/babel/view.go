package babel

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"tombolo/internal/babel/wire"
)

// View is what a speaker knows, for people: sorted, and a copy.
type View struct {
	RouterID   wire.RouterID   `json:"routerId"`
	Seqno      uint16          `json:"seqno"`
	Links      []LinkView      `json:"links"`
	Neighbours []NeighbourView `json:"neighbours"`
	Announced  []Announcement  `json:"announced"` // of our own, also those to which another's are preferred
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
	Own    bool        `json:"own"` // this router's, and used: one that prefers another's does not announce it
	Hop    *Hop        `json:"hop,omitempty"`
	Since  Time        `json:"since"`            // when Hop was chosen
	Device string      `json:"device,omitempty"` // that the host is attached to, of one that roams
	Why    string      `json:"why"`              // it was chosen, with figures
	Routes []RouteView `json:"ways"`             // the selected one first, then by metric
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
	Feasible  bool          `json:"feasible"`
	Selected  bool          `json:"selected"`
	Mobility  uint32        `json:"mobility,omitempty"` // of a host that roams
	Kept      bool          `json:"kept,omitempty"`     // packets go by it, for want of another, though nobody is heard there
	Note      string        `json:"note,omitempty"`     // why it is not used
}

// View returns what the speaker knows.
func (s *Speaker) View() View {
	v := View{RouterID: s.config.RouterID, Seqno: s.seqno, Refused: s.refused, Malformed: s.malformed, Unsigned: s.unsigned}
	for _, l := range s.links {
		v.Links = append(v.Links, LinkView{Name: l.Name, Up: l.up, Active: l.active(), Interval: l.interval()})
		for _, n := range l.neighbours {
			v.Neighbours = append(v.Neighbours, n.view())
		}
	}
	for _, e := range s.order {
		if e.own {
			v.Announced = append(v.Announced, Announcement{e.Key, e.ownMetric})
		}
		if e.own || len(e.routes) > 0 || e.kept != nil || e.holding {
			v.Routes = append(v.Routes, e.view())
		}
	}
	return v
}

func (n *neighbour) view() NeighbourView {
	rtt, _ := n.rtts.smallest(n.link.s.now)
	if n.rtts.count == 0 {
		rtt = 0
	}
	return NeighbourView{
		Link: n.link.Name, Address: n.address, State: n.state, Since: n.since,
		RTT: rtt, LastRTT: n.rtts.last(), Loss: n.loss(),
		RxCost: n.rxcost(), TxCost: n.txcost, Cost: n.cost, Heard: n.heard,
	}
}

func (e *entry) view() EntryView {
	v := EntryView{Key: e.Key, Own: e.here, Device: e.device, Hop: copyHop(e.wantedHop()), Since: e.since}
	for _, r := range e.routes {
		v.Routes = append(v.Routes, RouteView{
			Link: r.neighbour.link.Name, Neighbour: r.neighbour.address, NextHop: r.nextHop,
			RouterID: r.id, Seqno: r.seqno, RefMetric: r.ref, Metric: r.metric(),
			Feasible: e.feasible(r.id, r.seqno, r.ref), Selected: r == e.selected, Mobility: r.claimed().number, Note: e.note(r),
		})
	}
	if k := e.kept; k != nil && e.selected == nil && !e.here {
		v.Routes = append(v.Routes, RouteView{
			Link: k.neighbour.link.Name, Neighbour: k.neighbour.address, NextHop: k.nextHop,
			RouterID: k.id, Seqno: k.seqno, RefMetric: k.ref, Metric: wire.Infinity,
			Feasible: true, Selected: true, Kept: true,
		})
	}
	slices.SortStableFunc(v.Routes, func(a, b RouteView) int {
		if a.Selected != b.Selected {
			if a.Selected {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Metric, b.Metric)
	})
	v.Why = e.why()
	return v
}

// note says why a route is not the one that is used.
func (e *entry) note(r *route) string {
	switch {
	case r == e.selected && r.stale:
		return "until its origin answers with a newer sequence number"
	case r == e.selected:
		return ""
	case e.selected != nil && e.selected.claimed().beats(r.claimed()), e.device != "":
		return "the host has moved since"
	case r.neighbour.cost == wire.Infinity:
		return "the neighbour is " + r.neighbour.state
	case e.only != nil && r.neighbour.link != e.only:
		return "not taken in the first seconds after a restart"
	case !e.usable(r):
		return "not feasible: it may lead back here"
	case e.here:
		return "this router's own goes before it"
	case e.selected == nil:
		return ""
	case r.metric() < e.selected.metric():
		return fmt.Sprintf("better by %s, not for long enough yet", milliseconds(e.selected.metric()-r.metric()))
	}
	return fmt.Sprintf("longer by %s", milliseconds(r.metric()-e.selected.metric()))
}

// why says in words why the hop is what it is.
func (e *entry) why() string {
	switch {
	case e.device != "":
		return "it is here"
	case e.here:
		return e.whyOwn()
	case e.selected == nil && e.kept != nil:
		return "the last way: nobody is heard there, and there is no other"
	case e.selected == nil && e.holding:
		return "just lost: packets are dropped until every neighbour knows"
	case e.selected == nil:
		return "no way"
	case len(e.routes) == 1:
		return fmt.Sprintf("%s, the only way%s", milliseconds(e.selected.metric()), e.beforeOwn())
	}
	r := e.selected
	best := e.best()
	if best != nil && best != r && best.metric() < r.metric() {
		return fmt.Sprintf("%s, kept until %s by %s has lasted", milliseconds(r.metric()), milliseconds(best.metric()), best.neighbour.link.Name)
	}
	return fmt.Sprintf("%s, the shortest of %d%s", milliseconds(r.metric()), len(e.routes), e.beforeOwn())
}
