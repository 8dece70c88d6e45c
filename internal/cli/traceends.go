package cli

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"tombolo/internal/spec"
	"tombolo/internal/trace"
)

// flowOf reads the words of a flow.
func flowOf(n *spec.Network, t *trace.Network, words []string) (f trace.Flow, err error) {
	f.Protocol = trace.ICMP
	if f.From, err = placeOf(n, t, words[0]); err != nil {
		return f, err
	}
	site, port, isPort := strings.Cut(words[1], ":")
	_, isSite := n.Site(site)
	switch {
	case len(words) > 2:
		if f.Protocol, f.Port, err = protocolOf(words[2]); err == nil {
			f.To, err = targetOf(n, t, words[1], f.From)
		}
	case isPort && isSite && strings.Contains(port, "/"):
		if f.Protocol, f.Port, err = protocolOf(port); err == nil {
			f.To, err = publishedAt(n, t, site, span{f.Protocol, int(f.Port), int(f.Port)})
		}
	default:
		f.To, err = targetOf(n, t, words[1], f.From)
	}
	if a := f.From.Addr; err == nil && a.IsValid() && a.Is6() != f.To.Is6() {
		err = hinted{fmt.Errorf("%s is %s, and %s is asked at %s, which is not", words[0], ip(a), words[1], f.To), "both ends of a flow have addresses of one family"}
	}
	return f, err
}

func ip(a netip.Addr) string {
	if a.Is6() {
		return "IPv6"
	}
	return "IPv4"
}

// protocols are those that files and flows name.
var protocols = map[string]trace.Protocol{"icmp": trace.ICMP, "tcp": trace.TCP, "udp": trace.UDP}

func protocolOf(word string) (trace.Protocol, uint16, error) {
	bad := hinted{fmt.Errorf("%q is no protocol", word), "icmp, tcp/22, udp/53"}
	name, port, ok := strings.Cut(word, "/")
	if _, err := strconv.Atoi(name); err == nil {
		name, port = port, name
	}
	switch name {
	case "icmp":
		if !ok {
			return trace.ICMP, 0, nil
		}
	case "tcp", "udp":
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return 0, 0, bad
		}
		return protocols[name], uint16(n), nil
	}
	return 0, 0, bad
}

// checkSize refuses packets that there cannot be.
func checkSize(size int, f trace.Flow) error {
	least := 20 + 8 // IPv4, and udp or an echo request
	if f.To.Is6() {
		least += 20
	}
	if f.Protocol == trace.TCP {
		least += 12
	}
	if size != 0 && (size < least || size > 65535) {
		return hinted{fmt.Errorf("--size %d: there is no such packet of %s over %s", size, f.Protocol, ip(f.To)), fmt.Sprintf("from %d, its headers, to 65535 bytes", least)}
	}
	return nil
}

// placeOf reads where a flow comes from.
func placeOf(n *spec.Network, t *trace.Network, word string) (trace.Place, error) {
	if word == "outside" {
		return trace.Place{Kind: trace.Internet}, nil
	}
	if _, ok := n.Site(word); ok {
		return trace.Place{Kind: trace.Router, Site: word}, nil
	}
	if _, ok := deviceOf(n, func(d *spec.Device) bool { return d.Name == word }); ok {
		return trace.Place{Kind: trace.Device, Name: word}, nil
	}
	site, a, err := addressOf(n, word)
	if err != nil {
		return trace.Place{}, err
	}
	if s, m, ok := lanOf(n, site, a); ok {
		if !m.Prefix.Contains(a) {
			a = s.Inside(netip.PrefixFrom(a, a.BitLen())).Addr()
		}
		if owns(t, s, a) {
			return trace.Place{Kind: trace.Router, Site: s.Name, Addr: a}, nil
		}
		return trace.Place{Kind: trace.Host, Site: s.Name, Addr: a}, nil
	}
	if d, ok := deviceOf(n, func(d *spec.Device) bool { return d.Address == a || d.Address6 == a }); ok && site == "" {
		return trace.Place{Kind: trace.Device, Name: d.Name, Addr: a}, nil
	}
	var owners []string
	for i := range n.Sites {
		if s := &n.Sites[i]; (site == "" || site == s.Name) && owns(t, s, a) {
			owners = append(owners, s.Name)
		}
	}
	switch {
	case len(owners) == 1:
		return trace.Place{Kind: trace.Router, Site: owners[0], Addr: a}, nil
	case len(owners) > 1:
		return trace.Place{}, hinted{fmt.Errorf("%s is an address of several: %s", a, strings.Join(owners, ", ")), "SITE:ADDRESS says whose"}
	case site == "" && !a.IsPrivate():
		return trace.Place{Kind: trace.Internet, Addr: a}, nil
	}
	return trace.Place{}, nobodyHas(n, site, a)
}

// targetOf reads where a flow goes to: the address that who begins it writes.
func targetOf(n *spec.Network, t *trace.Network, word string, from trace.Place) (a netip.Addr, err error) {
	six := from.Addr.Is6()
	if word == "outside" {
		if from.Kind == trace.Internet {
			return a, hinted{fmt.Errorf("both ends are outside"), "name one that is in the network"}
		}
		return somebody(six), nil
	}
	if i, ok := n.Site(word); ok {
		if from.Kind == trace.Internet {
			return publicOf(t, word)
		}
		return has(word, six, n.Sites[i].Address, n.Sites[i].Address6)
	}
	if d, ok := deviceOf(n, func(d *spec.Device) bool { return d.Name == word }); ok {
		return has(word, six, d.Address, d.Address6)
	}
	site, a, err := addressOf(n, word)
	if err != nil || site == "" {
		return a, err
	}
	if _, m, ok := lanOf(n, site, a); ok {
		if m.Prefix.Contains(a) && from.Site != site {
			a = m.Seen(a) // nobody outside knows it by another
		}
		return a, nil
	}
	if i, _ := n.Site(site); owns(t, &n.Sites[i], a) {
		return a, nil
	}
	return a, nobodyHas(n, site, a)
}

// has is the address of a family that somebody has.
func has(name string, six bool, four, other netip.Addr) (netip.Addr, error) {
	a := familyOf(six, four, other)
	if !a.IsValid() {
		return a, fmt.Errorf("%s has no address of the family of who asks", name)
	}
	return a, nil
}

func publicOf(t *trace.Network, site string) (netip.Addr, error) {
	a, ok := t.Public(site)
	if !ok {
		return a, fmt.Errorf("site %q has no uplink that is reached from outside", site)
	}
	return a, nil
}

// publishedAt is where a port is that a site publishes.
func publishedAt(n *spec.Network, t *trace.Network, site string, port span) (netip.Addr, error) {
	open := []string{}
	for _, x := range n.Publish {
		s := span{protocols[x.Protocol], x.Port.First, x.Port.Last}
		if x.At != site {
			continue
		}
		if s.has(port) {
			return publicOf(t, site)
		}
		open = append(open, s.ports()+"/"+x.Protocol)
	}
	if len(open) == 0 {
		open = append(open, "nothing")
	}
	return netip.Addr{}, hinted{
		fmt.Errorf("site %q does not publish %s/%s", site, port.ports(), port.protocol),
		fmt.Sprintf("it publishes %s; a port of its router is `%s %s/%s`", strings.Join(open, ", "), site, port.protocol, port.ports()),
	}
}

func deviceOf(n *spec.Network, is func(*spec.Device) bool) (*spec.Device, bool) {
	if n.Clients != nil {
		for i := range n.Clients.Devices {
			if d := &n.Clients.Devices[i]; is(d) {
				return d, true
			}
		}
	}
	return nil, false
}

// addressOf reads SITE:ADDRESS, or an address alone.
func addressOf(n *spec.Network, word string) (site string, a netip.Addr, err error) {
	site, address, ok := strings.Cut(word, ":")
	if _, isSite := n.Site(site); !ok || !isSite {
		site, address = "", word
	}
	if a, err = netip.ParseAddr(address); err != nil {
		return site, a, unknownPlace(n, word)
	}
	a = a.Unmap().WithZone("")
	var special string
	switch {
	case a.IsUnspecified():
		special = "no address of anybody"
	case a.IsLoopback():
		special = "the loopback address of every host"
	case a.IsMulticast():
		special = "a multicast address"
	case a.IsLinkLocalUnicast():
		special = "a link-local address, which no router forwards"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		special = "the broadcast address"
	default:
		return site, a, nil
	}
	return site, a, hinted{fmt.Errorf("%s is %s: no flow is from or to it", a, special), "name the address of one host"}
}

// lanOf is the LAN that an address is in: of a site by its own addresses there or those that others
// see, of any site by the latter.
func lanOf(n *spec.Network, site string, a netip.Addr) (*spec.Site, spec.Mapped, bool) {
	for _, own := range []bool{true, false} {
		for i := range n.Sites {
			s := &n.Sites[i]
			if site != "" && site != s.Name {
				continue
			}
			for _, l := range s.LANs {
				for _, m := range l.Prefixes {
					p := m.Outside()
					if own && site != "" {
						p = m.Prefix
					}
					if p.Contains(a) {
						return s, m, true
					}
				}
			}
		}
	}
	return nil, spec.Mapped{}, false
}

// owns reports whether an address is a router's own: what it sends there does not leave it.
func owns(t *trace.Network, s *spec.Site, a netip.Addr) bool {
	itself := func(a netip.Addr) bool {
		x := t.Trace(trace.Flow{From: trace.Place{Kind: trace.Router, Site: s.Name}, To: a, Protocol: trace.ICMP})
		return x.Verdict.Delivered && len(x.Hops) == 0
	}
	if itself(s.Address) {
		return itself(a)
	}
	own := []netip.Addr{s.Address, s.Address6} // it is down, and only the file can say
	for _, l := range s.LANs {
		for _, m := range l.Prefixes {
			first := m.Prefix.Masked().Addr()
			if !m.Prefix.IsSingleIP() {
				first = first.Next()
			}
			own = append(own, first)
		}
	}
	for _, u := range s.Uplinks {
		for _, p := range u.Addresses {
			own = append(own, p.Addr())
		}
	}
	return slices.Contains(own, a)
}

func nobodyHas(n *spec.Network, site string, a netip.Addr) error {
	i, ok := n.Site(site)
	if !ok {
		return hinted{fmt.Errorf("nobody has %s", a), "hosts are in the LANs of the file"}
	}
	hint := "it has none"
	var lans []string
	for _, l := range n.Sites[i].LANs {
		for _, m := range l.Prefixes {
			lans = append(lans, m.Prefix.String())
		}
	}
	if len(lans) > 0 {
		hint = "those are " + strings.Join(lans, ", ")
	}
	return hinted{fmt.Errorf("%s is in no LAN of site %q", a, site), hint + "; an address without a site is whoever has it"}
}

func unknownPlace(n *spec.Network, word string) error {
	names := []string{"outside"}
	for i := range n.Sites {
		names = append(names, n.Sites[i].Name)
	}
	if n.Clients != nil {
		for _, d := range n.Clients.Devices {
			names = append(names, d.Name)
		}
	}
	return hinted{fmt.Errorf("nobody knows %q", word), "SITE:ADDRESS, an address, or one of " + strings.Join(names, ", ")}
}
