package draw

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"tombolo/internal/spec"
)

// sketch is a network as boxes and lines without places, for programs that lay out by
// themselves.
type sketch struct {
	title string
	large bool // LANs and uplinks are in the sites' labels
	nodes []sketchNode
	edges []sketchEdge
}

type sketchNode struct {
	id    string
	kind  nodeKind
	lines []string
}

type nodeKind int

const (
	siteNode nodeKind = iota
	meshNode
	lanNode
	internetNode
	clientsNode
)

type sketchEdge struct {
	a, b  string
	kind  edgeKind
	label string
}

type edgeKind int

const (
	tunnelEdge edgeKind = iota
	deadEdge            // neither end can be dialled
	directEdge          // on one LAN, without a tunnel
	memberEdge          // of a full mesh
	uplinkEdge
	lanEdge
	doorEdge
	exitEdge    // from a to b
	publishEdge // from a to b
	segmentEdge
)

func newSketch(n *spec.Network) *sketch {
	st := analyse(n)
	s := &sketch{title: n.Name, large: st.shape != rowShape}
	for i := range n.Sites {
		s.nodes = append(s.nodes, sketchNode{siteID(i), siteNode, s.siteLines(n, i)})
	}
	if !s.large {
		s.surroundings(n)
	}
	s.clients(n)
	for k, m := range st.meshes {
		id := "mesh" + strconv.Itoa(k+1)
		lines := []string{"full mesh", plural(len(m.members), "site") + ", " + plural(m.links, "link")}
		if m.dead > singles {
			lines = append(lines, thousands(m.dead)+" of them cannot be made:", "neither end can be dialled")
		}
		s.nodes = append(s.nodes, sketchNode{id, meshNode, lines})
		for _, i := range m.members {
			s.edges = append(s.edges, sketchEdge{id, siteID(i), memberEdge, ""})
		}
	}
	for _, e := range st.single {
		s.link(n, e)
	}
	s.traffic(n)
	return s
}

func siteID(i int) string { return "s" + strconv.Itoa(i+1) }

// siteLines is a site's label.
func (s *sketch) siteLines(n *spec.Network, i int) []string {
	site := &n.Sites[i]
	out := []string{site.Name, site.Address.String()}
	if site.Kind != spec.Linux {
		out = append(out, string(site.Kind))
	}
	out = append(out, reach(n, site))
	if text := inbound(site); text != "" && !site.Inbound.None {
		out = append(out, text)
	}
	if s.large {
		for _, l := range site.LANs {
			for _, m := range l.Prefixes {
				out = append(out, l.Device+" "+mapped(m))
			}
		}
		for _, u := range site.Uplinks {
			out = append(out, uplinkText(u))
		}
		for _, p := range n.Publish {
			if p.At == site.Name {
				out = append(out, published(p))
			}
		}
	}
	for _, g := range n.Segments {
		for _, a := range g.Attach {
			if a.Site == site.Name {
				out = append(out, strings.TrimSuffix(g.Name+": "+attachment(a), ": "))
			}
		}
	}
	return out
}

func uplinkText(u spec.Uplink) string {
	addresses, extra := uplinkFacts(u)
	return u.Device + " " + strings.Join(append(addresses, extra...), ", ")
}

// surroundings adds the Internet, the uplinks and the LANs.
func (s *sketch) surroundings(n *spec.Network) {
	s.nodes = append(s.nodes, sketchNode{"internet", internetNode, []string{"Internet"}})
	for i := range n.Sites {
		for _, u := range n.Sites[i].Uplinks {
			s.edges = append(s.edges, sketchEdge{"internet", siteID(i), uplinkEdge, uplinkText(u)})
		}
		for k, l := range n.Sites[i].LANs {
			id := siteID(i) + "lan" + strconv.Itoa(k+1)
			var lines []string
			for _, m := range l.Prefixes {
				lines = append(lines, mapped(m))
			}
			s.nodes = append(s.nodes, sketchNode{id, lanNode, lines})
			s.edges = append(s.edges, sketchEdge{siteID(i), id, lanEdge, l.Device})
		}
	}
}

func (s *sketch) clients(n *spec.Network) {
	if n.Clients == nil {
		return
	}
	lines := []string{"clients " + n.Clients.Pool.String()}
	for i, d := range n.Clients.Devices {
		if i == clientsShown {
			lines = append(lines, "and "+thousands(len(n.Clients.Devices)-i)+" more")
			break
		}
		text := d.Name + " " + d.Address.String()
		if d.Full {
			text += " (all traffic)"
		}
		lines = append(lines, text)
	}
	s.nodes = append(s.nodes, sketchNode{"clients", clientsNode, lines})
	for _, at := range n.Clients.At {
		if i, ok := n.Site(at); ok {
			s.edges = append(s.edges, sketchEdge{"clients", siteID(i), doorEdge, ""})
		}
	}
}

func (s *sketch) link(n *spec.Network, e [2]int) {
	k := tunnelEdge
	switch {
	case !n.CanLink(e[0], e[1]):
		k = deadEdge
	case n.Links.Options(e[0], e[1]).NoTunnel:
		k = directEdge
	}
	label := strings.Join(linkFacts(n, e[0], e[1]), ", ")
	s.edges = append(s.edges, sketchEdge{siteID(e[0]), siteID(e[1]), k, label})
}

// traffic adds exits, published ports and segments, each as lines between its ends.
func (s *sketch) traffic(n *spec.Network) {
	for _, t := range allTraffic(n) {
		at := siteID(t.at)
		switch t.kind {
		case exitKind:
			s.exit(n, t, at)
		case publishKind:
			if len(t.lans) > 0 && t.lans[0] != t.at {
				s.edges = append(s.edges, sketchEdge{at, siteID(t.lans[0]), publishEdge, published(n.Publish[t.index])})
			} else if !s.large {
				s.edges = append(s.edges, sketchEdge{"internet", at, publishEdge, published(n.Publish[t.index])})
			}
		case segmentKind:
			g := n.Segments[t.index]
			for _, a := range g.Attach[1:] {
				if i, ok := n.Site(a.Site); ok && i != t.at {
					s.edges = append(s.edges, sketchEdge{at, siteID(i), segmentEdge, g.Name + " (" + g.Kind + ")"})
				}
			}
		}
	}
}

func (s *sketch) exit(n *spec.Network, t traffic, at string) {
	e := n.Exits[t.index]
	var from []string
	for _, who := range e.For {
		i, ok := n.Site(who)
		if p, err := netip.ParsePrefix(who); !ok && err == nil {
			i, ok = siteOf(n, p.Addr())
		}
		switch {
		case ok && i != t.at:
			from = append(from, siteID(i))
		case !ok && n.Clients != nil:
			from = append(from, "clients")
		}
	}
	slices.Sort(from)
	for _, id := range slices.Compact(from) {
		s.edges = append(s.edges, sketchEdge{id, at, exitEdge, strings.TrimSuffix(exitLead(e, t.choice), " for")})
	}
	if !s.large {
		s.edges = append(s.edges, sketchEdge{at, "internet", exitEdge, exitLabel(e, t.choice)})
	}
}
