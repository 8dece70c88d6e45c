package cli

import (
	"fmt"
	"net/netip"
	"slices"

	"tombolo/internal/spec"
	"tombolo/internal/trace"
)

// probe is what is asked of every pair: a protocol, a port, and a family.
type probe struct {
	Protocol trace.Protocol
	Port     uint16
	Six      bool

	part   part   // whom it is about
	stands []span // of a comparison: what is decided as it is
}

func (p probe) String() string {
	out := p.Protocol.String()
	if p.Port != 0 {
		out = fmt.Sprintf("%s/%d", out, p.Port)
	}
	if p.Six {
		out += ", IPv6"
	}
	return out
}

func (p probe) flow() trace.Flow { return trace.Flow{Protocol: p.Protocol, Port: p.Port} }

// groupsOf are who can be asked about in a file, by the words that `trace` and `policy:` have for
// them: SITE:DEVICE for a LAN, a roaming device, outside, SITE for a router, and what is published
// under the probe's port.
func groupsOf(n *spec.Network, t *trace.Network, p probe, routers bool) []trace.Group {
	var out []trace.Group
	alone := map[string]bool{} // without a LAN: the router is all that there is
	fits := func(a netip.Addr) bool { return a.IsValid() && a.Is6() == p.Six }
	for i := range n.Sites {
		s := &n.Sites[i]
		alone[s.Name] = len(s.LANs) == 0
		out = append(out, lanGroups(s, fits)...)
	}
	if n.Clients != nil {
		for _, d := range n.Clients.Devices {
			if a := familyOf(p.Six, d.Address, d.Address6); a.IsValid() {
				out = append(out, trace.Group{Name: d.Name, Place: trace.Place{Kind: trace.Device, Name: d.Name, Addr: a}, Seen: a})
			}
		}
	}
	for i := range n.Sites {
		s := &n.Sites[i]
		if a := familyOf(p.Six, s.Address, s.Address6); (routers || alone[s.Name]) && a.IsValid() {
			public, _ := t.Public(s.Name)
			if !fits(public) {
				public = netip.Addr{}
			}
			out = append(out, trace.Group{Name: s.Name, Place: trace.Place{Kind: trace.Router, Site: s.Name}, Seen: a, Public: public})
		}
	}
	out = append(out, trace.Group{Name: "outside", Place: trace.Place{Kind: trace.Internet}, Seen: somebody(p.Six)})
	for i := range out {
		out[i].Mute = p.part == published
	}
	if p.part == others {
		return out
	}
	ports := fmt.Sprint(p.Port)
	if len(p.stands) > 0 {
		ports = "*" // which they are is said where those that change alike are known
	}
	for _, x := range n.Publish {
		if a, ok := t.Public(x.At); ok && fits(a) && x.Protocol == p.Protocol.String() && x.Port.First <= int(p.Port) && int(p.Port) <= x.Port.Last {
			out = append(out, trace.Group{Name: fmt.Sprintf("%s:%s/%s", x.At, ports, x.Protocol), Seen: a, Anyone: true})
		}
	}
	return out
}

func familyOf(six bool, four, other netip.Addr) netip.Addr {
	if six {
		return other
	}
	return four
}

// somebody is anybody outside (RFC 5737, RFC 3849).
func somebody(six bool) netip.Addr {
	if six {
		return netip.MustParseAddr("2001:db8:ffff::7")
	}
	return netip.MustParseAddr("198.51.100.7")
}

// lanGroups are a site's LANs. One with several prefixes of the family is several groups.
func lanGroups(s *spec.Site, fits func(netip.Addr) bool) []trace.Group {
	var out []trace.Group
	for _, l := range s.LANs {
		var mine []trace.Group
		for _, m := range l.Prefixes {
			if !fits(m.Prefix.Addr()) || m.Prefix.IsSingleIP() {
				continue
			}
			a := hostIn(m.Prefix)
			g := trace.Group{Name: s.Name + ":" + l.Device, Place: trace.Place{Kind: trace.Host, Site: s.Name, Addr: a}, Seen: m.Seen(a)}
			mine = append(mine, g)
		}
		for i := range mine {
			if len(mine) > 1 {
				mine[i].Name += "/" + mine[i].Place.Addr.String()
			}
		}
		out = append(out, mine...)
	}
	return out
}

// hostIn is the tenth host of a prefix, or the last one of a small one.
func hostIn(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr()
	for range 10 {
		if b := a.Next(); p.Contains(b) && p.Contains(b.Next()) {
			a = b
		}
	}
	return a
}

// speaks6 reports whether anybody but the routers has an address of IPv6.
func speaks6(n *spec.Network) bool {
	if n.Clients != nil && slices.ContainsFunc(n.Clients.Devices, func(d spec.Device) bool { return d.Address6.IsValid() }) {
		return true
	}
	return slices.ContainsFunc(n.Sites, func(s spec.Site) bool {
		return slices.ContainsFunc(s.LANs, func(l spec.LAN) bool {
			return slices.ContainsFunc(l.Prefixes, func(m spec.Mapped) bool { return m.Prefix.Addr().Is6() })
		})
	})
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
