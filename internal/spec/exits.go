package spec

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// exits takes over whose Internet traffic leaves where.
func (b *builder) exits() {
	sources := map[string]Pos{}
	for _, d := range b.f.exits.v {
		e := Exit{Pos: d.Pos, Otherwise: d.v.otherwise.or("local"), Router: d.v.router.or(false)}
		var from []int // sites
		for _, s := range d.v.from.v {
			name, site, ok := b.exitSource(s)
			if !ok {
				continue
			}
			if earlier, dup := sources[name]; dup {
				b.err(s.Pos, codeExit, "put all sites of `via:` into one exit, in order of preference", "there is already an exit for %s (line %d)", name, earlier.Line)
				continue
			}
			sources[name] = s.Pos
			e.For = append(e.For, name)
			if site >= 0 {
				from = append(from, site)
			}
		}
		for i, v := range d.v.via.v {
			if i == MaxVia {
				b.err(v.Pos, codeTooMany, "the first that works is taken; two or three are enough", "an exit has %d sites in `via:`; the most are %d", len(d.v.via.v), MaxVia)
				break
			}
			b.exitVia(&e, v, from)
		}
		if e.Router && d.v.from.ok && len(from) == 0 && len(e.For) == len(d.v.from.v) {
			b.warn(d.v.router.Pos, codeExit, "add the sites whose routers are meant to `for:`", "`router: true` is about routers of sites, and `for:` names no site")
		}
		b.n.Exits = append(b.n.Exits, e)
	}
	b.exitWays()
	b.staticExits()
}

// MaxVia is how many sites an exit has: each has a metric of its own (10900 for each place in
// `via:`), and a metric has 16 bits (RFC 8966 §4.6.9), of which the way there needs some.
const MaxVia = 6

// exitSource reads an element of `for:`. The site is -1 where it is none.
func (b *builder) exitSource(s at[string]) (name string, site int, ok bool) {
	if i, is := b.index[s.v]; is {
		b.ownDecision(s, i)
		return s.v, i, true
	}
	if s.v == "clients" {
		if !b.f.clients.given {
			b.err(s.Pos, codeUnknownFor, "describe them in `clients:`", "the file has no clients")
		}
		return s.v, -1, b.f.clients.given
	}
	if b.devices[s.v] {
		return s.v, -1, true
	}
	if p, m := parsePrefix(s.v, anyFamily); m == nil {
		return p.String(), -1, b.exitPrefix(s, p)
	}
	hint := "a site, `clients`, a device of `clients:`, or a prefix of a LAN"
	if !b.full() {
		words := append(slices.Sorted(maps.Keys(b.devices)), b.names...)
		if near := nearest(s.v, append(words, "clients")); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
	}
	b.err(s.Pos, codeUnknownFor, hint, "%q is no site, no client and no prefix", clip(s.v))
	return "", -1, false
}

func (b *builder) exitPrefix(s at[string], p netip.Prefix) bool {
	pool := b.clientPool()
	switch {
	case p != p.Masked():
		b.err(s.Pos, codeHostBits, fmt.Sprintf("the prefix is %v", p.Masked()), "prefix %v has bits set behind its length", p)
		return false
	case b.hosts.find(p) != nil:
		b.ownDecision(s, b.hosts.find(p).site)
		return true
	case pool.IsValid() && pool.Overlaps(p) && pool.Bits() <= p.Bits():
		return true
	}
	if m := b.hidden.find(p); m != nil {
		b.err(s.Pos, codeUnknownFor, fmt.Sprintf("write it as a part of %v", m.as), "%v is in a LAN that is mapped: outside its site it is known as a part of %v", p, m.as)
		return false
	}
	if !b.doubt {
		b.err(s.Pos, codeUnknownFor, "an exit is for traffic that comes from a LAN of this file", "%v is in no LAN of the network", p)
	}
	return false
}

// ownDecision reports a source behind a plain router that is linked: what comes out of it has
// gone its own way before anything of ours sees it. One that enters like a device sends what
// its configuration says.
func (b *builder) ownDecision(s at[string], site int) {
	if x := &b.n.Sites[site]; x.Kind == Plain && !b.doubt && !b.n.unjoined(site) {
		b.err(s.Pos, codePlain, "set it up on that router; or take the site out of `links:`, so that it enters like a device at the doors of `clients:`", "site %q is plain: its own router decides where its Internet traffic leaves", x.Name)
	}
}

func (b *builder) exitVia(e *Exit, v at[string], from []int) {
	i, ok := b.site(v)
	if !ok {
		return
	}
	s := &b.n.Sites[i]
	switch {
	case slices.Contains(e.Via, v.v):
		b.err(v.Pos, codeExit, "delete one of them", "site %q stands twice in `via:`", v.v)
		return
	case slices.Contains(from, i):
		b.err(v.Pos, codeExit, "without an exit its traffic leaves there anyway; delete it from `for:` or from `via:`", "site %q would be its own exit", v.v)
		return
	case s.Kind == Plain:
		b.err(v.Pos, codePlain, "take a site that runs tombolo", "site %q is plain and runs nothing of ours, so it cannot be an exit", v.v)
		return
	case len(s.Uplinks) == 0 && !b.f.sites.v[i].v.doubt:
		b.warn(v.Pos, codeExit, "describe the device that leads to the Internet as its `uplink:`", "site %q has no uplink by which traffic could leave", v.v)
	}
	e.Via = append(e.Via, v.v)
}

// staticExits reports sites with static routing whose Internet traffic would go to two
// neighbours: there 0.0.0.0/0 stands in the AllowedIPs of one peer at most, since
// WireGuard's AllowedIPs give each destination to one peer.
func (b *builder) staticExits() {
	if b.reach == nil {
		return
	}
	type hop struct {
		peer int
		Pos
	}
	first := map[int]hop{}
	ways := map[string][]int{} // by exit
	for i, e := range b.n.Exits {
		for _, name := range e.For {
			site, ok := b.sourceSite(name)
			if !ok || b.n.Sites[site].Routing != Static {
				continue
			}
			for _, v := range e.Via {
				if ways[v] == nil {
					if len(ways) == maxExitSites {
						return
					}
					ways[v] = b.reach.towards(b.index[v])
				}
				peer := ways[v][site]
				if peer < 0 {
					continue
				}
				h, is := first[site]
				if !is {
					first[site] = hop{peer, b.f.exits.v[i].Pos}
					continue
				}
				if h.peer != peer {
					b.err(b.f.exits.v[i].v.via.Pos, codeStaticExit, "keep one exit for the site, or give it `routing: babel`",
						"site %q has static routing, so its Internet traffic can go to one neighbour; here it would go to %q and (line %d) to %q", b.n.Sites[site].Name, b.n.Sites[peer].Name, h.Line, b.n.Sites[h.peer].Name)
					return
				}
			}
		}
	}
}

// maxExitSites bounds the time that staticExits takes on a file of thousands of exits.
const maxExitSites = 256

// sourceSite returns the site that a source of an exit belongs to; clients belong to none.
func (b *builder) sourceSite(name string) (int, bool) {
	if i, ok := b.index[name]; ok {
		return i, true
	}
	p, err := netip.ParsePrefix(name)
	if err != nil {
		return 0, false
	}
	in := b.hosts.find(p)
	if in == nil {
		return 0, false
	}
	return in.site, true
}
