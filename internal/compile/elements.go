package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tombolo/internal/spec"
)

// elements are those of a map from addresses to verdicts.
type elements struct{ list []element }

type element struct {
	first, last netip.Addr
	verdict     string
}

// add adds an interval, as a site's router sees it. Those without a verdict are left out.
func (e *elements) add(s *spec.Site, x interval, verdict string) {
	if verdict != "" {
		e.list = append(e.list, element{s.Inside(host(x.first)).Addr(), s.Inside(host(x.last)).Addr(), verdict})
	}
}

// write writes a rule for each family. Neighbours with the same verdict are one: the kernel
// takes as long for each.
func (e *elements) write(b *strings.Builder, what string) {
	slices.SortFunc(e.list, func(x, y element) int { return x.first.Compare(y.first) })
	words := map[string][]string{}
	for i := 0; i < len(e.list); {
		x, k := e.list[i], i+1
		for k < len(e.list) && e.list[k].verdict == x.verdict && e.list[k].first == x.last.Next() {
			x.last = e.list[k].last
			k++
		}
		i = k
		text := x.first.String()
		if x.first != x.last {
			text += "-" + x.last.String()
		}
		f := nftFamily(host(x.first))
		words[f] = append(words[f], text+" : "+x.verdict)
	}
	for _, f := range []string{"ip", "ip6"} {
		if w := words[f]; len(w) > 0 {
			fmt.Fprintf(b, "\t\t%s %s vmap { %s }\n", f, what, strings.Join(w, ", "))
		}
	}
}
