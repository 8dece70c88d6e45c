package lab

import (
	"net/netip"

	"tombolo/internal/lab/internet"
)

// File is what a lab file says: what the Internet between the sites is like. The zero
// File is a lab with one Internet host, paths without impairment, and a port-restricted
// NAT before every site that nobody dials.
type File struct {
	Internet []InternetHost  `json:"internet,omitempty"` // nil: one, "inet"; else in the order of the file
	Sites    map[string]Site `json:"sites,omitempty"`    // and roaming devices, whose uplink is "eth0"

	// Copies are roaming devices that the network has once and the lab more often: the
	// names of the further ones, and whose configuration, and so whose key, they have too.
	Copies map[string]string `json:"copies,omitempty"`

	Paths   []Path  `json:"paths,omitempty"` // in the order of the file
	Default Default `json:"default,omitzero"`
}

// InternetHost is a host that is nobody's site.
type InternetHost struct {
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses,omitempty"` // a family that is missing is assigned
}

// Site is what a lab file says of a site or a roaming device.
type Site struct {
	Uplinks map[string]Uplink `json:"uplinks,omitempty"` // by device

	// Reaches names the sites and hosts that it has a path to; nil: all.
	Reaches []string `json:"reaches,omitempty"`
}

// Uplink is what a lab file says of an uplink.
type Uplink struct {
	NAT       *internet.NATKind `json:"nat,omitempty"`       // nil: as the site's endpoints say
	Public    netip.Addr        `json:"public,omitzero"`     // the NAT's address outside; zero: assigned
	Addresses []netip.Prefix    `json:"addresses,omitempty"` // to be leased; at most one of each family
	Gateway   netip.Addr        `json:"gateway,omitzero"`    // IPv4; zero: the first address of the subnet
	Segment   string            `json:"segment,omitempty"`   // uplinks that name the same one share a wire

	// Routed are prefixes that the provider routes to the uplink, beside its own addresses,
	// and so takes as sources from there; at most one of each family.
	Routed []netip.Prefix `json:"routed,omitempty"`
}

// Path is what happens to packets from one place to another. A place is a site, a site's
// uplink (SITE/DEVICE), a roaming device or an Internet host; a site means all its uplinks.
type Path struct {
	From       string              `json:"from"`
	To         string              `json:"to"`
	Both       bool                `json:"both,omitempty"` // and back
	Impairment internet.Impairment `json:"impairment"`     // of each way
}

// Default is what holds where nothing else is said.
type Default struct {
	Impairment internet.Impairment `json:"impairment,omitzero"` // of each way
	NAT        *internet.NATKind   `json:"nat,omitempty"`       // before a site without endpoints; nil: port-restricted
}
