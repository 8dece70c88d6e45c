package spec

import "slices"

// Which of several exits a packet takes, Babel routers tell each other by its source. Static
// ones know destinations only: they send all Internet traffic one way. So an exit is found
// from the same Babel region as it is in, or at its edge, and one with static routing only
// from static sites next to it.

// exitWays reports exits that routing does not lead to from what they are for.
func (b *builder) exitWays() {
	if b.reach == nil || len(b.n.Exits) == 0 {
		return
	}
	r := b.newExitRegions()
	for i, e := range b.n.Exits {
		sites, roaming := b.exitSites(e)
		for _, v := range b.f.exits.v[i].v.via.v {
			via, known := b.index[v.v]
			if !known || !slices.Contains(e.Via, v.v) {
				continue
			}
			if roaming && b.n.Sites[via].Routing == Static {
				b.staticExitOfClients(v)
				continue
			}
			for _, from := range sites {
				if from != via && !r.leads(from, via) {
					b.farExit(v, via, from)
					break
				}
			}
		}
	}
}

// exitSites returns the sites that an exit is for, or for prefixes of, and whether it is for
// what enters at the doors of `clients:`.
func (b *builder) exitSites(e Exit) (sites []int, roaming bool) {
	for _, name := range e.For {
		site, ok := b.sourceSite(name)
		switch {
		case !ok || b.n.Roams(site):
			roaming = true
		case !slices.Contains(sites, site):
			sites = append(sites, site)
		}
	}
	return sites, roaming
}

func (b *builder) staticExitOfClients(v at[string]) {
	if doors := b.n.Clients.At; len(doors) == 1 && doors[0] == v.v {
		b.err(v.Pos, codeFarExit, "delete the exit", "clients enter at %q, and without an exit they leave there", v.v)
		return
	}
	b.err(v.Pos, codeFarExit, "give it `routing: babel`", "site %q has static routing, so no door of `clients:` hears that devices leave there", v.v)
}

func (b *builder) farExit(v at[string], via, from int) {
	name := b.n.Sites[from].Name
	switch {
	case b.n.Sites[via].Routing == Babel:
		b.err(v.Pos, codeFarExit, "link the two, or other sites between them that have `routing: babel`", "traffic of site %q does not find its way to %q: no Babel routers join the two", name, v.v)
	case b.n.Sites[from].Routing == Babel:
		b.err(v.Pos, codeFarExit, "give it `routing: babel`", "site %q has static routing, so site %q does not hear that its traffic leaves there", v.v, name)
	default:
		b.err(v.Pos, codeFarExit, "give it `routing: babel`, or link the two", "sites %q and %q have static routing, and no links of static sites join them, so the traffic of %q does not find its way there", v.v, name, name)
	}
}

// exitRegions are the parts of a network that are joined by links of sites with one kind of
// routing.
type exitRegions struct {
	b       *builder
	of      []int // of each site: the lowest one of its region
	members map[int][]int
	beside  map[[2]int]bool // by two regions: a link joins them
}

func (b *builder) newExitRegions() *exitRegions {
	r := &exitRegions{b: b, of: make([]int, len(b.n.Sites)), members: map[int][]int{}, beside: map[[2]int]bool{}}
	for left := b.all(); len(left) > 0; {
		root := left[0]
		left = left[1:]
		for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
			at := queue[0]
			r.of[at] = root
			r.members[root] = append(r.members[root], at)
			left = slices.DeleteFunc(left, func(i int) bool {
				joined := b.n.Sites[i].Routing == b.n.Sites[at].Routing && b.reach.linked(at, i)
				if joined {
					queue = append(queue, i)
				}
				return joined
			})
		}
	}
	return r
}

// leads reports whether traffic of a site can find its way to an exit at another.
func (r *exitRegions) leads(from, via int) bool {
	sites := r.b.n.Sites
	if r.of[from] == r.of[via] {
		return true
	}
	return sites[from].Routing == Static && sites[via].Routing == Babel && r.adjoin(r.of[from], r.of[via])
}

func (r *exitRegions) adjoin(x, y int) bool {
	joined, known := r.beside[[2]int{x, y}]
	if !known {
		joined = slices.ContainsFunc(r.members[x], func(i int) bool {
			return slices.ContainsFunc(r.members[y], func(j int) bool { return r.b.reach.linked(i, j) })
		})
		r.beside[[2]int{x, y}] = joined
	}
	return joined
}

// exitsForNothing warns of what stands in `for:` and sends nothing to the Internet that an
// exit could be for: sites without a LAN, and devices that send through the network only what
// is for the network.
func (b *builder) exitsForNothing() {
	full := map[string]bool{} // by device
	if b.n.Clients != nil {
		for _, d := range b.n.Clients.Devices {
			full[d.Name] = d.Full
			full["clients"] = full["clients"] || d.Full
		}
	}
	for _, d := range b.f.exits.v {
		for _, s := range d.v.from.v {
			i, is := b.index[s.v]
			all := s.v == "clients"
			switch {
			case is && len(b.n.Sites[i].LANs) == 0 && !d.v.router.v:
				b.warn(s.Pos, codeExit, "with `router: true` the exit is for the router's own traffic too", "site %q has no LAN, so there is nothing that the exit is for", s.v)
			case all && len(full) > 0 && !full[s.v]:
				b.warn(s.Pos, codeExit, "say `full: true` of those that are to leave there", "no device has `full: true`, so none sends its Internet traffic to the network")
			case !all && b.devices[s.v] && !full[s.v]:
				b.warn(s.Pos, codeExit, "say `full: true` of it", "device %q does not have `full: true`, so it does not send its Internet traffic to the network", s.v)
			}
		}
	}
}

// exitNames notes, once, that names are asked for beside the exit: a host asks its own router,
// and that asks by its own uplink. What hosts are told to ask is not tombolo's to change.
func (b *builder) exitNames() {
	through := map[int]bool{} // sites whose routers' own traffic leaves by an exit
	for _, e := range b.n.Exits {
		for _, name := range e.For {
			if i, is := b.index[name]; is && e.Router {
				through[i] = true
			}
		}
	}
	var names []string
	var first Pos
	for _, e := range b.n.Exits {
		sites, _ := b.exitSites(e)
		for _, i := range sites {
			s := &b.n.Sites[i]
			if through[i] || s.Kind == Plain || len(s.LANs) == 0 || slices.Contains(names, s.Name) {
				continue
			}
			if names = append(names, s.Name); first == (Pos{}) {
				first = e.Pos
			}
			through[i] = true
		}
	}
	if len(names) == 0 {
		return
	}
	b.note(first, codeExitNames, "`router: true` takes them along; or give hosts a resolver that they reach through the exit, by DHCP option 6 and RDNSS",
		"DNS is left as it is: names that hosts at %s ask their own router for leave by that router's uplink, not by the exit", few(names, 8))
}
