package spec

import (
	"cmp"
	"net/netip"
	"slices"
)

// NAT gives what a site's router sends to other sites the router's own address as its source.
// Without one, sources stay what they are.
type NAT struct {
	Pos Pos
	At  string // the site whose router does it
	// Sources are whose packets, as that router sees them: of its own mapped LANs the real
	// prefixes, of everything else the outside ones. Sorted (address, length), none inside
	// another, at least one. Shared with other values: not to be changed.
	Sources []netip.Prefix
	Out     string   // only what leaves by this device; empty: by any
	To      []string // only what goes to these sites, in the order of the file; nil: to all others
}

// Policy says who may open connections to whom, apart from routing.
type Policy struct {
	Deny  bool         // what is decided by no rule, and is between parts of the network, does not pass
	Rules []PolicyRule // in the order of the file: the first that matches decides
}

// PolicyRule decides about new connections; what belongs to a connection passes with it.
type PolicyRule struct {
	Pos      Pos
	From, To Group
	Allow    bool
	Ports    []PolicyPort // sorted (protocol, port), no two overlap; none: everything
}

// Group is who stands on one side of a rule.
type Group struct {
	// Prefixes are outside ones (see Mapped), sorted (address, length), none inside another.
	// Rules with the same words share them: they are not to be changed.
	Prefixes []netip.Prefix
	Internet bool // and everything that is not of this network
}

// PolicyPort is a protocol, or some ports of it.
type PolicyPort struct {
	Protocol string    // tcp, udp or icmp, which is ICMP and ICMPv6
	Ports    PortRange // of the destination, of tcp and udp; zero: all
}

// normalPrefixes sorts prefixes (address, length) and leaves out what lies in another one. It
// changes its argument.
func normalPrefixes(prefixes []netip.Prefix) []netip.Prefix {
	slices.SortFunc(prefixes, func(p, q netip.Prefix) int {
		return cmp.Or(p.Addr().Compare(q.Addr()), cmp.Compare(p.Bits(), q.Bits()))
	})
	out := prefixes[:0]
	for _, p := range prefixes {
		// Prefixes are apart or one within the other, so in this order the last one that
		// was kept is the only one that p can lie in.
		if len(out) == 0 || !out[len(out)-1].Contains(p.Addr()) {
			out = append(out, p)
		}
	}
	return out
}

// normalPorts sorts ports and joins those that overlap or follow each other; nothing is left
// where one of them is everything. It changes its argument.
func normalPorts(ports []PolicyPort) []PolicyPort {
	slices.SortFunc(ports, func(p, q PolicyPort) int {
		return cmp.Or(cmp.Compare(p.Protocol, q.Protocol), cmp.Compare(p.Ports.First, q.Ports.First), cmp.Compare(q.Ports.Last, p.Ports.Last))
	})
	out := ports[:0]
	for _, p := range ports {
		if p == (PolicyPort{}) {
			return nil
		}
		if len(out) > 0 {
			last := &out[len(out)-1]
			switch {
			case last.Protocol != p.Protocol:
			case last.Ports == (PortRange{}):
				continue
			case p.Ports.First <= last.Ports.Last+1:
				last.Ports.Last = max(last.Ports.Last, p.Ports.Last)
				continue
			}
		}
		out = append(out, p)
	}
	return out
}
