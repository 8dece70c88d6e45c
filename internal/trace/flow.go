package trace

import (
	"fmt"
	"net/netip"
)

// Flow is what is asked about: the first packet of a connection, and its answer.
type Flow struct {
	From     Place
	To       netip.Addr
	Protocol Protocol
	Port     uint16 // destination port; 0 with ICMP
	Size     int    // bytes of the IP packet; 0: it fits everywhere
}

// Place is where a packet begins.
type Place struct {
	Kind PlaceKind
	Site string     // of a host or router
	Name string     // of a roaming device
	Addr netip.Addr // its source address; zero: the one that it takes by itself
}

// PlaceKind says what is at a place.
type PlaceKind int

// The kinds of place.
const (
	Host     PlaceKind = iota // in a LAN
	Router                    // a site's router itself
	Device                    // a roaming one, or a plain site that enters like one
	Internet                  // anywhere outside
)

// Protocol is an IP protocol number (IPPROTO_*). ICMP is an echo request, of the family of the
// flow.
type Protocol uint8

// The protocols that have words.
const (
	ICMP   Protocol = 1
	TCP    Protocol = 6
	UDP    Protocol = 17
	ICMPv6 Protocol = 58
)

func (p Protocol) String() string {
	switch p {
	case ICMP, ICMPv6:
		return "icmp"
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	}
	return fmt.Sprintf("protocol %d", uint8(p))
}

// Stage is a part of a router's way, in the order of Linux (Netfilter's packet flow).
type Stage string

// The stages.
const (
	Arrives    Stage = "in"        // by a device
	Source     Stage = "source"    // whether the source can come from there
	Conntrack  Stage = "conntrack" // what connection it belongs to
	Prerouting Stage = "prerouting"
	DNAT       Stage = "dnat"
	Rule       Stage = "rule"
	RouteStage Stage = "route"
	Filter     Stage = "filter" // forward, input or output
	SNAT       Stage = "snat"
	MTU        Stage = "mtu"
	AllowedIPs Stage = "allowed-ips" // of the tunnel's peers
	Outer      Stage = "outer"       // the tunnel's own packet
	Leaves     Stage = "out"
	Delivered  Stage = "delivered"
	Lost       Stage = "lost"
)

// Step is one of them, at one router, or at an end.
type Step struct {
	Router string `json:"router,omitempty"`
	Device string `json:"device,omitempty"` // by which it comes in or leaves
	Stage  Stage  `json:"stage"`
	Text   string `json:"text"`             // what matched, in the words of ip, nft and wg
	Why    string `json:"why,omitempty"`    // and why
	Passed bool   `json:"passed,omitempty"` // it was looked at and did not match
	Packet Packet `json:"packet"`           // as it is after the step
	Depth  int    `json:"depth,omitempty"`  // 1: of a tunnel's own packet
}

// Packet is what routers see of one.
type Packet struct {
	Src      netip.Addr `json:"src"`
	Dst      netip.Addr `json:"dst"`
	Protocol Protocol   `json:"protocol"`
	SrcPort  uint16     `json:"srcPort,omitempty"`
	DstPort  uint16     `json:"dstPort,omitempty"`
	Reply    bool       `json:"reply,omitempty"` // an answer: of TCP with SYN and ACK, of ICMP an echo reply
	Size     int        `json:"size,omitempty"`
	Mark     uint32     `json:"mark,omitempty"`
	TooBig   int        `json:"tooBig,omitempty"` // an ICMP error: what it is about does not fit, this would (RFC 1191 §4, RFC 4443 §3.2)
}

// Trace is a flow's whole way.
type Trace struct {
	There    []Step  `json:"there"`
	Back     []Step  `json:"back,omitempty"`
	Told     []Step  `json:"told,omitempty"` // of a packet that does not fit: the ICMP error's way to its sender
	Verdict  Verdict `json:"verdict"`
	Hops     []Hop   `json:"hops"`
	HopsBack []Hop   `json:"hopsBack,omitempty"`
}

// Hop is a packet as it leaves a router: what a capture there would show.
type Hop struct {
	Router string     `json:"router"`
	Device string     `json:"device"` // by which it leaves
	Src    netip.Addr `json:"src"`
	Dst    netip.Addr `json:"dst"`
	Port   uint16     `json:"port,omitempty"` // destination port
}

// Verdict says how it ended.
type Verdict struct {
	Delivered bool   `json:"delivered"`        // there and back
	Back      bool   `json:"back,omitempty"`   // it was lost on its way back
	Router    string `json:"router,omitempty"` // where it was lost
	Stage     Stage  `json:"stage,omitempty"`
	Reason    string `json:"reason,omitempty"`
	Hint      string `json:"hint,omitempty"` // what in the network file would mend it
	At        string `json:"at,omitempty"`   // who answers: a host, router or device
}
