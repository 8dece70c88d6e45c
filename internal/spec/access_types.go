package spec

import "net/netip"

// NAT hides sources where they leave a site, other than by its uplinks.
type NAT struct {
	Pos     Pos
	At      string
	Sources []netip.Prefix // as its router sees them: its own LANs by their real prefixes
	Out     string         // a device; empty: whichever it is
	To      []string       // sites; none, and no Out: all others
}

// Policy says who may open connections to whom in the network.
type Policy struct {
	Deny  bool // what no rule is about
	Rules []PolicyRule
}

type PolicyRule struct {
	Pos      Pos
	From, To Group
	Allow    bool
	Ports    []PolicyPort
}

type Group struct {
	Prefixes []netip.Prefix
	Internet bool
}

type PolicyPort struct {
	Protocol string
	Ports    PortRange
}
