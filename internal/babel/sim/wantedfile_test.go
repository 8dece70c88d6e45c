package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// randomFile writes a network of sites of either routing, with exits and doors; some links have
// no tunnel, others cost more than usual.
func randomFile(r *rand.Rand) string {
	f := file{Rand: r, count: 2 + r.IntN(9)}
	for i := range f.count {
		f.speaks = append(f.speaks, !f.one(5))
		uplink := fmt.Sprintf("eth9: {address: 172.16.%d.2/24, gateway: 172.16.%d.1}", i, i)
		if f.one(3) {
			uplink = "eth9: dhcp"
		}
		f.uplinks = append(f.uplinks, uplink)
	}
	links := f.links() // they add uplinks
	text := "network: n\noverlay: 10.99.0.0/16\nclients: {pool: 10.98.0.0/16, at: " + f.some(-1) + ", devices: {phone: , laptop: , pi: }}\nsites:\n"
	for i := range f.count {
		text += fmt.Sprintf("  s%d:\n    address: 10.99.1.%d\n    endpoint: s%d.example.net\n    lan: {lan0: [10.%d.0.0/24, \"fd00:%d::/64\"]}\n    uplink: {%s}\n", i, i+1, i, i+1, i+1, f.uplinks[i])
		if !f.speaks[i] {
			text += "    routing: static\n"
		}
	}
	text += "links:\n" + links + "exits:\n  - {for: clients, via: " + f.some(-1) + "}\n"
	for i := range f.count {
		if via := f.some(i); f.speaks[i] && f.one(2) && via != "[]" {
			text += fmt.Sprintf("  - {for: s%d, via: %s, otherwise: %s}\n", i, via, []string{"local", "block"}[r.IntN(2)])
		}
	}
	return text
}

// file is what a random file is made of.
type file struct {
	*rand.Rand
	count   int
	speaks  []bool   // sites with Babel
	uplinks []string // of the sites
}

func (f *file) one(n int) bool { return f.IntN(n) == 0 }

// links joins all sites.
func (f *file) links() string {
	linked := map[[2]int]bool{}
	for i := 1; i < f.count; i++ {
		for range 1 + f.IntN(3) {
			linked[[2]int{f.IntN(i), i}] = true
		}
	}
	var out strings.Builder
	for i := range f.count {
		for j := range i {
			switch {
			case !linked[[2]int{j, i}]:
			case f.speaks[i] && f.speaks[j] && f.one(5):
				for end, at := range []int{j, i} {
					f.uplinks[at] += fmt.Sprintf(", x%dy%d: {address: 172.%d.%d.%d/24, gateway: 172.%d.%d.254}", j, i, 20+j, i, end+1, 20+j, i)
				}
				fmt.Fprintf(&out, "  - {between: [s%d, s%d], transport: none, on: {s%d: x%dy%d, s%d: x%dy%d}, cost: %d}\n", j, i, j, j, i, i, j, i, 1+f.IntN(4))
			case f.one(2):
				fmt.Fprintf(&out, "  - {between: [s%d, s%d], cost: %d}\n", j, i, 1+f.IntN(20))
			default:
				fmt.Fprintf(&out, "  - [s%d, s%d]\n", j, i)
			}
		}
	}
	return out.String()
}

// some returns up to three sites with Babel, but one.
func (f *file) some(not int) string {
	var out []string
	most := 1 + f.IntN(3)
	for _, i := range f.Perm(f.count) {
		if f.speaks[i] && i != not && len(out) < most {
			out = append(out, fmt.Sprintf("s%d", i))
		}
	}
	return "[" + strings.Join(out, ", ") + "]"
}
