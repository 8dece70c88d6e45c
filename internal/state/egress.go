package state

import "net/netip"

// Uplink describes a device that leads to the Internet.
type Uplink struct {
	Device    string         `json:"device"`
	DHCP      bool           `json:"dhcp,omitempty"`      // another program leases its address
	Addresses []netip.Prefix `json:"addresses,omitempty"` // not masked: address and length; none with DHCP
	Gateways  []netip.Addr   `json:"gateways,omitempty"`  // at most one of each family
	MTU       int            `json:"mtu"`                 // bytes, IP header included

	Masquerade bool `json:"masquerade,omitempty"`

	// Weight is the uplink's share of new flows among those of the same Preference: all of
	// them go by those that work and have the lowest one. Both are at least 1.
	Weight     int `json:"weight,omitempty"`
	Preference int `json:"preference,omitempty"`

	Check *Check `json:"check,omitempty"` // nil: it works while it has carrier, address and gateway

	// Table has the uplink's own default routes. Mark, in a packet, leads there before all
	// else: replies to what came in by the uplink have it, and what looks whether it works.
	// Pin leads there where no exit does: what left by it once has that, so that no flow
	// changes its uplink while both work. Each is also the mark of such connections.
	Table uint32 `json:"table,omitempty"`
	Mark  uint32 `json:"mark,omitempty"`
	Pin   uint32 `json:"pin,omitempty"` // 0: nothing is remembered of what leaves
}

// Check says how it is found out whether an uplink works: it does while one of the targets
// answers through it.
type Check struct {
	Targets  []netip.AddrPort `json:"targets"`  // port 0: by ICMP echo; else by TCP, where a refusal is an answer
	Interval int              `json:"interval"` // between rounds, in milliseconds
	Down     int              `json:"down"`     // rounds in a row that nobody answers, and it is down
	Up       int              `json:"up"`       // rounds in a row with an answer, and it is up again
}

// Egress says where the agent keeps what follows the uplinks: their addresses, gateways, and
// whether they work. It has a protocol number of its own, so that no plan touches that.
type Egress struct {
	Protocol uint8 `json:"protocol"` // never Owner.Protocol, nor Babel.Protocol

	// Table has a default route by all uplinks that carry new flows; 0: there is one uplink
	// only, and main is as good.
	Table uint32 `json:"table,omitempty"`

	// Outer and Source are the priorities of the rules that lead what is sent from an address
	// of an uplink to its Table: the tunnels' own packets (Mark), while it works, and all else.
	// Delegated is that of those for prefixes which were delegated to an uplink: after exits.
	Outer     uint32 `json:"outer,omitempty"` // 0 with one uplink
	Source    uint32 `json:"source"`
	Delegated uint32 `json:"delegated"`
	Mark      uint32 `json:"mark"`
	Mask      uint32 `json:"mask"`

	// Exit is the mark of connections that went on towards an exit; 0: there are no exits.
	Exit uint32 `json:"exit,omitempty"`
}
