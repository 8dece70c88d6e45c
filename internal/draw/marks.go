package draw

import (
	"slices"

	"tombolo/internal/spec"
)

// mark is a role of a site in one word, for pictures where there is no room for more.
type mark struct{ word, colour string }

// marks returns what a site does beside linking its LANs.
func marks(n *spec.Network, i int) []mark {
	name := n.Sites[i].Name
	var out []mark
	if n.Clients != nil && slices.Contains(n.Clients.At, name) {
		out = append(out, mark{"door", green})
	}
	if slices.ContainsFunc(n.Exits, func(e spec.Exit) bool { return slices.Contains(e.Via, name) }) {
		out = append(out, mark{"exit", orange})
	}
	for _, e := range n.Exits {
		if slices.Contains(e.For, name) && len(e.Via) > 0 {
			out = append(out, mark{"→ " + shorten(e.Via[0], 12), orange})
		}
	}
	if slices.ContainsFunc(n.Publish, func(p spec.Publish) bool { return p.At == name }) {
		out = append(out, mark{"published", orange})
	}
	for _, s := range n.Segments {
		if slices.ContainsFunc(s.Attach, func(a spec.Attachment) bool { return a.Site == name }) {
			out = append(out, mark{shorten(s.Name, 12), violet})
		}
	}
	return out
}
