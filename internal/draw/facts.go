package draw

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"tombolo/internal/spec"
)

// What is said of the things in a network file, in few words. All three formats use it.

// reachable reports whether others can dial the site at all.
func reachable(s *spec.Site) bool { return len(s.Endpoints) > 0 && !s.Inbound.None }

// endpoints returns how the site is reached from outside: host, with the base port where
// it is not the usual one.
func endpoints(n *spec.Network, s *spec.Site) []string {
	var out []string
	for _, e := range s.Endpoints {
		host := e.Host
		if e.Base != 0 && e.Base != n.Settings.Port {
			if a, ok := e.Addr(); ok && a.Is6() {
				host = "[" + host + "]"
			}
			host += ":" + strconv.Itoa(e.Base)
		}
		out = append(out, host)
	}
	return out
}

// inbound returns what the file says of the ports that are let in; empty: all of them.
func inbound(s *spec.Site) string {
	if s.Inbound.None {
		return "inbound: none"
	}
	var out []string
	for _, p := range s.Inbound.Ports {
		out = append(out, ports(p))
	}
	if len(out) == 0 {
		return ""
	}
	return "inbound: " + strings.Join(out, ", ")
}

func ports(p spec.PortRange) string {
	if p.First == p.Last {
		return strconv.Itoa(p.First)
	}
	return fmt.Sprintf("%d–%d", p.First, p.Last)
}

// reach says in one line how a site is reached.
func reach(n *spec.Network, s *spec.Site) string {
	switch {
	case len(s.Endpoints) == 0:
		return "behind NAT"
	case s.Inbound.None:
		return "inbound: none"
	}
	return strings.Join(endpoints(n, s), ", ")
}

// tag says what a site's router is, where it is not the usual.
func tag(n *spec.Network, s *spec.Site) string {
	out := string(s.Kind)
	if s.Routing != n.Routing && s.Routing != "" {
		out += " · " + string(s.Routing)
	}
	return out
}

// uplinkFacts returns what an uplink has: addresses first, then what differs from the
// defaults.
func uplinkFacts(u spec.Uplink) (addresses, extra []string) {
	if u.DHCP {
		addresses = append(addresses, "dhcp")
	}
	for _, a := range u.Addresses {
		addresses = append(addresses, a.String())
	}
	if u.MTU != 0 && u.MTU != 1500 {
		extra = append(extra, "mtu "+strconv.Itoa(u.MTU))
	}
	if u.Weight > 1 {
		extra = append(extra, "weight "+strconv.Itoa(u.Weight))
	}
	for _, c := range u.Check.Targets {
		target := c.String()
		if c.Port() == 0 {
			target = c.Addr().String()
		}
		extra = append(extra, "check "+target)
	}
	if !u.Masquerade {
		extra = append(extra, "no masquerade")
	}
	return addresses, extra
}

// mapped says a LAN's prefix, and as what the others see it.
func mapped(m spec.Mapped) string {
	if m.As.IsValid() {
		return m.Prefix.String() + " seen as " + m.As.String()
	}
	return m.Prefix.String()
}

// linkFacts returns what the file says of a link that matters to a reader of a picture.
func linkFacts(n *spec.Network, a, b int) []string {
	o := n.Links.Options(a, b)
	var out []string
	if o.NoTunnel {
		on := "no tunnel"
		switch {
		case o.On[0] != "" && o.On[0] == o.On[1]:
			on += " (" + o.On[0] + ")"
		case o.On[0] != "" && o.On[1] != "":
			on += " (" + o.On[0] + "–" + o.On[1] + ")"
		}
		out = append(out, on)
	}
	if o.Cost != 0 {
		out = append(out, "cost "+strconv.Itoa(o.Cost))
	}
	if o.MTU != 0 {
		out = append(out, "mtu "+strconv.Itoa(o.MTU))
	}
	if o.Preshared {
		out = append(out, "psk")
	}
	return out
}

// subtitle says what the network is, in one line.
func subtitle(n *spec.Network) string {
	parts := []string{plural(len(n.Sites), "site"), plural(len(allLinks(n)), "link")}
	if n.Overlay.IsValid() {
		parts = append(parts, "overlay "+n.Overlay.String())
	}
	if n.Routing != "" {
		parts = append(parts, string(n.Routing)+" routing")
	}
	return strings.Join(parts, " · ")
}

func plural(n int, what string) string {
	text := thousands(n) + " " + what
	if n != 1 {
		text += "s"
	}
	return text
}

// thousands writes 1770 as 1,770.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// exitLabel says whose traffic leaves at the i-th site of an exit's via.
func exitLabel(e spec.Exit, i int) string { return exitLead(e, i) + " " + strings.Join(e.For, ", ") }

func exitLead(e spec.Exit, i int) string {
	if len(e.Via) < 2 {
		return "exit for"
	}
	return ordinal(i+1) + " exit for"
}

// ordinal writes 1 as 1st.
func ordinal(i int) string {
	suffix := "th"
	if i%100 < 11 || i%100 > 13 {
		switch i % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return strconv.Itoa(i) + suffix
}

// otherwise says what more the file says of an exit: whether it is for the routers
// themselves too, and what happens when it does not work.
func otherwise(e spec.Exit) []string {
	var out []string
	if e.Router {
		out = append(out, "routers too")
	}
	switch e.Otherwise {
	case "":
	case "block":
		out = append(out, "otherwise blocked")
	default:
		out = append(out, "otherwise "+e.Otherwise)
	}
	return out
}

// published says what a published port leads to.
func published(p spec.Publish) string {
	return fmt.Sprintf("%s/%s → %s", ports(p.Port), p.Protocol, p.To)
}

// attachment says how a site takes part in a segment.
func attachment(a spec.Attachment) string {
	var out []string
	if a.Bridge != "" {
		out = append(out, "port of "+a.Bridge)
	}
	if a.DelegateTo != "" {
		out = append(out, "prefix for "+a.DelegateTo)
	}
	return strings.Join(out, ", ")
}

// siteOf returns the site whose LAN holds an address, as the rest of the network sees it.
func siteOf(n *spec.Network, a netip.Addr) (int, bool) {
	for i := range n.Sites {
		for _, l := range n.Sites[i].LANs {
			if slices.ContainsFunc(l.Prefixes, func(m spec.Mapped) bool { return m.Outside().Contains(a) }) {
				return i, true
			}
		}
	}
	return 0, false
}

// details is everything of a site, for tooltips.
func details(n *spec.Network, i int) string {
	s := &n.Sites[i]
	out := []string{s.Name + " (" + tag(n, s) + ")"}
	if s.Address6.IsValid() {
		out = append(out, s.Address.String()+", "+s.Address6.String())
	} else {
		out = append(out, s.Address.String())
	}
	out = append(out, reach(n, s))
	if text := inbound(s); text != "" && !s.Inbound.None {
		out = append(out, text)
	}
	for _, l := range s.LANs {
		for _, m := range l.Prefixes {
			out = append(out, "LAN "+l.Device+" "+mapped(m))
		}
	}
	for _, u := range s.Uplinks {
		addresses, extra := uplinkFacts(u)
		for _, g := range u.Gateways {
			extra = append(extra, "gateway "+g.String())
		}
		out = append(out, "uplink "+u.Device+" "+strings.Join(append(addresses, extra...), ", "))
	}
	return strings.Join(out, "\n")
}

// linkDetails is everything of a link, for tooltips.
func linkDetails(n *spec.Network, a, b int) string {
	out := n.Sites[a].Name + " – " + n.Sites[b].Name
	if facts := linkFacts(n, a, b); len(facts) > 0 {
		out += ": " + strings.Join(facts, ", ")
	}
	switch {
	case n.Links.Options(a, b).NoTunnel:
	case !n.CanLink(a, b):
		out += "\nneither end can be dialled"
	default:
		out += fmt.Sprintf("\nUDP ports %d and %d", n.Port(a, b), n.Port(b, a))
	}
	return out
}
