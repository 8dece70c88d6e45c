package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tombolo/internal/spec"
)

// elements are those of maps to verdicts: from addresses, protocols and ports to those that hold
// for some ports, and from addresses to others.
type elements struct{ list []element }

type element struct {
	first, last netip.Addr
	ports       string // protocol and ports, as nft has them; "": whatever they are
	verdict     string
}

// add adds an interval, as a site's router sees it. Those without a verdict are left out.
func (e *elements) add(s *spec.Site, x interval, ports, verdict string) {
	if verdict != "" {
		e.list = append(e.list, element{s.Inside(host(x.first)).Addr(), s.Inside(host(x.last)).Addr(), ports, verdict})
	}
}

// write writes a rule for each family and map, those of ports first. Neighbours with the same
// verdict are one: the kernel takes as long for each.
func (e *elements) write(b *strings.Builder, what string) {
	slices.SortFunc(e.list, func(x, y element) int {
		return cmp.Or(strings.Compare(x.ports, y.ports), x.first.Compare(y.first))
	})
	type key struct {
		family string
		ports  bool
	}
	words := map[key][]string{}
	for i := 0; i < len(e.list); {
		x, k := e.list[i], i+1
		for k < len(e.list) && e.list[k].ports == x.ports && e.list[k].verdict == x.verdict && e.list[k].first == x.last.Next() {
			x.last = e.list[k].last
			k++
		}
		i = k
		text := x.first.String()
		if x.first != x.last {
			text += "-" + x.last.String()
		}
		if x.ports != "" {
			text += " . " + x.ports
		}
		m := key{nftFamily(host(x.first)), x.ports != ""}
		words[m] = append(words[m], text+" : "+x.verdict)
	}
	for _, m := range []key{{"ip", true}, {"ip6", true}, {"ip", false}, {"ip6", false}} {
		ports := ""
		if m.ports {
			ports = " . meta l4proto . th dport"
		}
		if w := words[m]; len(w) > 0 {
			fmt.Fprintf(b, "\t\t%s %s%s vmap { %s }\n", m.family, what, ports, strings.Join(w, ", "))
		}
	}
}
