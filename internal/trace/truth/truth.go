// Package truth holds what real packets did in a network, and says where package trace says
// something else. It captures nothing and sends nothing: tests do that, with the networks that they
// make, and hand over what they saw as a Situation. As that is a value with a JSON form, it can be
// held against another tracer too, such as one that was broken on purpose.
//
//	lab, captures ─▶ Situation ─▶ Difference        (what really happened, and what is said)
//
// Only tests import it.
package truth

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"time"

	"tombolo/internal/state"
	"tombolo/internal/trace"
	"tombolo/internal/trace/learned"
)

// Situation is a network as it was for a while, and the flows that were sent through it meanwhile.
type Situation struct {
	When    string                    `json:"when"` // in words
	File    string                    `json:"file"` // the network file
	Routers []state.Router            `json:"routers"`
	Down    [][2]string               `json:"down,omitempty"` // links that carry nothing
	Dead    [][2]string               `json:"dead,omitempty"` // sites and devices, as of learned.World
	Doors   map[string]string         `json:"doors,omitempty"`
	Takes   map[string][]netip.Prefix `json:"takes,omitempty"`
	Uplinks []Uplink                  `json:"uplinks,omitempty"`
	Nodes   []Node                    `json:"nodes"`

	RTT  time.Duration `json:"rtt"`            // between sites that are joined
	Near [][2]string   `json:"near,omitempty"` // but for those that are on one wire

	Flows []Flow `json:"flows"`
}

// Uplink is what one really has.
type Uplink struct {
	Site      string         `json:"site"`
	Device    string         `json:"device"`
	Addresses []netip.Prefix `json:"addresses"`
	Gateways  []netip.Addr   `json:"gateways"`
	Public    netip.Addr     `json:"public,omitzero"` // outside of its provider's NAT, if it is behind one
}

// Node is who can be an end of a flow.
type Node struct {
	Name      string          `json:"name"`
	Kind      trace.PlaceKind `json:"kind"`
	Site      string          `json:"site,omitempty"` // of a host
	Addresses []netip.Addr    `json:"addresses"`      // its own, as it knows them
}

// Flow is one that was sent, and what was captured of it.
type Flow struct {
	trace.Flow
	There []Event `json:"there,omitempty"`
	Back  []Event `json:"back,omitempty"` // the answer
	Told  []Event `json:"told,omitempty"` // ICMP errors that one of them does not fit
}

// Event is a packet at a node, in the order of the time at which it was there.
type Event struct {
	Node   string     `json:"node"`
	Device string     `json:"device,omitempty"` // of a router
	Out    bool       `json:"out,omitempty"`    // it leaves; of routers only
	Src    netip.Addr `json:"src"`
	Dst    netip.Addr `json:"dst"`
	Port   uint16     `json:"port,omitempty"` // of who is asked
}

// spread is by how much round trips may differ from each other, so that one of two ways that are about
// as long is taken: a speaker stays with one that is worse by less than 5 % (package learned).
var spread = []time.Duration{time.Millisecond, 10 * time.Millisecond, 40 * time.Millisecond}

// World is what the tracer is told; with another number than 0, with other round trips.
func (s *Situation) World(number int) learned.World {
	w := learned.World{Routers: s.Routers, Doors: s.Doors, Takes: s.Takes}
	if w.Doors == nil {
		w.Doors = map[string]string{}
	}
	w.Uplinks = func(site, device string) ([]netip.Prefix, []netip.Addr) {
		for _, u := range s.Uplinks {
			if u.Site == site && u.Device == device {
				return u.Addresses, u.Gateways
			}
		}
		return nil, nil
	}
	w.Public = func(site, device string) netip.Addr {
		for _, u := range s.Uplinks {
			if u.Site == site && u.Device == device {
				return u.Public
			}
		}
		return netip.Addr{}
	}
	w.RTT = func(a, b string) time.Duration {
		rtt := s.RTT
		if has(s.Near, a, b) {
			rtt = 0
		}
		if number > 0 {
			h := fnv.New32a()
			fmt.Fprintf(h, "%s %s %d", a, b, number)
			rtt += time.Duration(h.Sum32()%1000) * spread[number%len(spread)] / 1000
		}
		return rtt
	}
	w.Down = func(a, b string) bool { return has(s.Down, a, b) }
	w.Dead = func(site, device string) bool { return has(s.Dead, site, device) }
	return w
}

func has(all [][2]string, a, b string) bool {
	for _, x := range all {
		if x == [2]string{a, b} || x == [2]string{b, a} {
			return true
		}
	}
	return false
}
