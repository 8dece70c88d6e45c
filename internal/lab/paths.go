package lab

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"tombolo/internal/lab/internet"
)

// place is where packets come from and go to: an uplink or a host in the Internet.
type place struct {
	name    string // SITE/DEVICE, or the host's name
	site    string // or a roaming device; empty for a host
	device  string // in core: where its packets come in
	segment int    // -1 for a host
	where   internet.Place
	own     netip.Addr // what the uplink itself has, where it has an alias
	alias   netip.Addr
}

// inside reports whether a NAT stands before the place.
func (p *place) inside() bool { return p.where.NAT.Kind != internet.None }

// places returns the places of a layout: uplinks in its order, then hosts.
func (l *layout) places() []place {
	alone := l.alone()
	var out []place
	for _, r := range l.routers {
		for _, u := range r.uplinks {
			p := place{name: u.place(), site: r.site, device: l.segments[u.segment].device, segment: u.segment}
			p.where = internet.Place{Name: p.name, NAT: u.nat, Prefixes: u.prefixes(alone[u.segment])}
			if u.alias.IsValid() {
				p.own, p.alias = u.address4.Addr(), u.alias
			}
			out = append(out, p)
		}
	}
	for _, h := range l.hosts {
		p := place{name: h.name, device: h.port, segment: -1, where: internet.Place{Name: h.name}}
		for _, a := range h.addresses {
			p.where.Prefixes = append(p.where.Prefixes, hostPrefix(a))
		}
		out = append(out, p)
	}
	return out
}

// prefixes returns what lies at an uplink: its addresses, and where no other shares its
// wire, all of the IPv6 prefix that it may form addresses in or be delegated, and what
// is behind its NAT; and what the provider routes to it.
func (u *uplink) prefixes(alone bool) []netip.Prefix {
	var out []netip.Prefix
	add := func(p netip.Prefix) {
		if !slices.Contains(out, p.Masked()) {
			out = append(out, p.Masked())
		}
	}
	for _, p := range u.addresses() {
		switch {
		case p == u.address4 && u.alias.IsValid():
			add(hostPrefix(u.alias))
		case !alone, p.Addr().Is4() && u.nat.Kind == internet.None:
			add(hostPrefix(p.Addr()))
		case p == u.address6:
			add(u.six)
		default:
			add(p)
		}
	}
	for _, p := range u.routed {
		add(p)
	}
	return sortPrefixes(out)
}

// pair is an ordered pair of indices of places.
type pair struct{ from, to int }

// paths says what every path does. Its owner is one goroutine.
type paths struct {
	places  []place
	named   map[string][]int             // what a name stands for, as indices of places
	normal  internet.Impairment          // where nothing else is said
	said    map[pair]internet.Impairment // what is said of a pair
	severed map[pair]bool                // what Cut cut, over what is said
	mute    map[int]bool                 // uplinks whose provider hears nothing any more
}

// newPaths puts together what the file says. What names an uplink is stronger than what
// names a site, and what comes later is stronger than what comes before.
func newPaths(l *layout, file File) (*paths, error) {
	p := &paths{
		places:  l.places(),
		named:   map[string][]int{},
		normal:  file.Default.Impairment,
		said:    map[pair]internet.Impairment{},
		severed: map[pair]bool{},
		mute:    map[int]bool{},
	}
	for i := range p.places {
		for _, name := range []string{p.places[i].name, p.places[i].site} {
			if name != "" {
				p.named[name] = append(p.named[name], i)
			}
		}
	}
	var mistakes []error
	rules := slices.Clone(file.Paths)
	slices.SortStableFunc(rules, func(a, b Path) int { return cmp.Compare(a.weight(), b.weight()) })
	for _, r := range rules {
		mistakes = append(mistakes, p.set(r))
	}
	for _, site := range slices.Sorted(maps.Keys(file.Sites)) {
		if reaches := file.Sites[site].Reaches; reaches != nil {
			p.confine(site, reaches)
		}
	}
	return p, errors.Join(mistakes...)
}

// weight is how many of the ends are uplinks.
func (p Path) weight() int { return strings.Count(p.From, "/") + strings.Count(p.To, "/") }

// set takes over what is said of a path.
func (p *paths) set(r Path) error {
	pairs, err := p.pairs(r.From, r.To, r.Both)
	if err != nil {
		return fmt.Errorf("path from %s to %s: %w", r.From, r.To, err)
	}
	for _, at := range pairs {
		if p.places[at.from].segment >= 0 && p.places[at.from].segment == p.places[at.to].segment {
			return fmt.Errorf("path from %s to %s: both are on one wire, where there is no path to change", r.From, r.To)
		}
	}
	for _, at := range pairs {
		p.said[at] = r.Impairment
	}
	return nil
}

// confine cuts all paths of a site but those to what it reaches.
func (p *paths) confine(site string, reaches []string) {
	for i := range p.places {
		if p.places[i].site != site {
			continue
		}
		for j := range p.places {
			other := &p.places[j]
			if j == i || slices.Contains(reaches, cmp.Or(other.site, other.name)) || other.site == site {
				continue
			}
			for _, at := range []pair{{i, j}, {j, i}} {
				imp := p.impairment(at)
				imp.Cut = true
				p.said[at] = imp
			}
		}
	}
}

// pairs returns the ordered pairs between what two names stand for; with an empty second
// name, between the first and everything else.
func (p *paths) pairs(from, to string, both bool) ([]pair, error) {
	a, b := p.named[from], slices.Clone(p.named[to])
	switch {
	case len(a) == 0:
		return nil, p.unknown(from)
	case to == "":
		for i := range p.places {
			if !slices.Contains(a, i) {
				b = append(b, i)
			}
		}
	case len(b) == 0:
		return nil, p.unknown(to)
	}
	var out []pair
	for _, i := range a {
		for _, j := range b {
			if i == j {
				return nil, errors.New("a path has two ends")
			}
			out = append(out, pair{i, j})
			if both {
				out = append(out, pair{j, i})
			}
		}
	}
	return out, nil
}

func (p *paths) unknown(name string) error {
	var names []string
	for i := range p.places {
		names = append(names, cmp.Or(p.places[i].site, p.places[i].name))
	}
	slices.Sort(names)
	return fmt.Errorf("there is no site, device or Internet host %q; there are %s", name, strings.Join(slices.Compact(names), ", "))
}

// between returns the paths from one name to another, and back if both is set, or with an
// empty second name all those of the first. On one wire there is no path: such pairs are
// passed over, or refused where there is no other.
func (p *paths) between(from, to string, both bool) ([]pair, error) {
	pairs, err := p.pairs(from, to, both)
	if err != nil {
		return nil, err
	}
	pairs = slices.DeleteFunc(pairs, func(at pair) bool {
		a, b := &p.places[at.from], &p.places[at.to]
		return a.segment >= 0 && a.segment == b.segment
	})
	if len(pairs) == 0 {
		return nil, fmt.Errorf("%s and %s are on one wire, which cannot be cut or changed", from, to)
	}
	return pairs, nil
}

// cut cuts or heals the paths from one name to another, and back if both is set.
func (p *paths) cut(from, to string, both, cut bool) error {
	paths, err := p.between(from, to, both)
	if err != nil {
		return err
	}
	for _, at := range paths {
		if cut {
			p.severed[at] = true
		} else {
			delete(p.severed, at)
		}
	}
	p.silence(from, to, paths, cut)
	return nil
}

// impairment is what holds for a pair.
func (p *paths) impairment(at pair) internet.Impairment {
	imp, ok := p.said[at]
	if !ok {
		imp = p.normal
	}
	if p.severed[at] {
		imp.Cut = true
	}
	return imp
}

// impaired returns what differs from normal, by pair.
func (p *paths) impaired() map[pair]internet.Impairment {
	out := maps.Clone(p.said)
	for at := range p.severed {
		out[at] = p.impairment(at)
	}
	for at := range out {
		if out[at] = p.impairment(at); out[at] == p.normal {
			delete(out, at)
		}
	}
	return out
}

// apply brings an engine from what it was given the last time to what holds now, and
// returns what it was given.
func (p *paths) apply(e *internet.Engine, last map[pair]internet.Impairment) (map[pair]internet.Impairment, error) {
	now := p.impaired()
	mistakes := []error{e.SetPath("*", "*", p.normal)}
	for at := range last {
		if _, still := now[at]; !still {
			e.ClearPath(p.places[at.from].name, p.places[at.to].name)
		}
	}
	for at, imp := range now {
		if old, ok := last[at]; !ok || old != imp {
			mistakes = append(mistakes, e.SetPath(p.places[at.from].name, p.places[at.to].name, imp))
		}
	}
	return now, errors.Join(mistakes...)
}

// muted returns the places from which nothing is heard, by name.
func (p *paths) muted() map[string]bool {
	out := map[string]bool{}
	for i := range p.mute {
		out[p.places[i].name] = true
	}
	return out
}

// silence notes that a place was cut from everything, its provider's own addresses
// included; and what heals any of its paths takes that back.
func (p *paths) silence(from, to string, paths []pair, cut bool) {
	for _, at := range paths {
		for _, i := range []int{at.from, at.to} {
			switch {
			case !cut:
				delete(p.mute, i)
			case to == "" && p.places[i].segment >= 0 && slices.Contains(p.named[from], i):
				p.mute[i] = true
			}
		}
	}
}
