package spec

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Words for parts of the network, and for the rest of the world.
const (
	anyWord      = "any"
	internetWord = "internet"
	clientsWord  = "clients"
)

// parties finds who is meant by the words of `nat:` and `policy:`. What was found is kept, so
// that the same words are looked for once, in however many rules they stand.
type parties struct {
	*builder

	held   map[string]*party // by a word, or words that are sorted and joined by spaces
	device map[string]int    // indices of clients' devices, by name
	all    *party            // the whole network
	whole  table             // its prefixes
	open   bool              // prefixes may be missing, since something could not be read
	size   int               // prefixes held so far, but for those of single words
	known  []string          // names for suggestions; made when first needed
}

// party is what words came to. The same words come to the same one.
type party struct{ Group }

// maxParties bounds the memory that lists of words take, each of which may name much.
const maxParties = 1 << 20

func (b *builder) newParties() *parties {
	p := &parties{builder: b, held: map[string]*party{}, device: map[string]int{}, open: b.doubt || b.f.clients.doubt || !b.overlayOK}
	var prefixes []netip.Prefix
	if b.overlayOK {
		prefixes = append(prefixes, b.n.Overlay, b.n.Overlay6)
	}
	for i := range b.n.Sites {
		s := &b.n.Sites[i]
		prefixes = append(prefixes, p.behind(s, "")...)
		for _, x := range s.Babel {
			prefixes = append(prefixes, x.Accept...)
		}
		p.open = p.open || b.f.sites.v[i].v.doubt
	}
	if c := b.n.Clients; c != nil {
		if b.f.clients.v.pool.ok {
			prefixes = append(prefixes, c.Pool, c.Pool6)
		}
		for i := range c.Devices {
			p.device[c.Devices[i].Name] = i
		}
	}
	p.all = &party{Group{Prefixes: normalPrefixes(prefixes)}}
	blocks := make([]block, len(p.all.Prefixes))
	for i, q := range p.all.Prefixes {
		blocks[i].prefix = q
	}
	p.whole = newTable(blocks)
	return p
}

// behind returns the prefixes of a site's LANs as others see them, or those of one device.
func (p *parties) behind(s *Site, device string) []netip.Prefix {
	var out []netip.Prefix
	for _, l := range s.LANs {
		for _, m := range l.Prefixes {
			if device == "" || l.Device == device {
				out = append(out, m.Outside())
			}
		}
	}
	return out
}

// group returns who is meant by words, at a site that may call its own mapped LANs as it sees
// them, or everywhere (-1). It is nil where one of the words could not be made out.
func (p *parties) group(words []at[string], site int) *party {
	if len(words) == 1 {
		return p.one(words[0], site)
	}
	var members []*party
	var names []string
	for _, w := range words {
		if m := p.one(w, site); m != nil {
			members, names = append(members, m), append(names, w.v)
		}
	}
	if len(members) < len(words) || len(words) == 0 {
		return nil
	}
	slices.Sort(names)
	key := p.key(strings.Join(slices.Compact(names), " "), site)
	if p.held[key] == nil {
		p.held[key] = p.union(words[0].Pos, members)
	}
	return p.held[key]
}

// key is where words are held: what a site with mapped LANs means by them, others may not.
func (p *parties) key(words string, site int) string {
	if _, own := p.mapped[site]; own {
		return fmt.Sprintf("%d\x00%s", site, words)
	}
	return words
}

func (p *parties) union(at Pos, members []*party) *party {
	out := &party{}
	for _, m := range members {
		out.Internet = out.Internet || m.Internet
	}
	if slices.Contains(members, p.all) { // which has all that the others name
		out.Prefixes = p.all.Prefixes
		return out
	}
	for _, m := range members {
		if !p.room(at, len(m.Prefixes)) {
			return out
		}
		out.Prefixes = append(out.Prefixes, m.Prefixes...)
	}
	out.Prefixes = normalPrefixes(out.Prefixes)
	return out
}

// room reports whether so many more prefixes may be held.
func (p *parties) room(at Pos, more int) bool {
	before := p.size
	p.size += more
	if p.size > maxParties && before <= maxParties {
		p.err(at, codeTooMany, "name sites or `any` in place of long lists", "the lists up to here name more than %d prefixes", maxParties)
	}
	return p.size <= maxParties
}

// one returns who is meant by one word.
func (p *parties) one(w at[string], site int) *party {
	key := p.key(w.v, site)
	if held := p.held[key]; held != nil {
		return held
	}
	found := p.find(w, site)
	if found != nil {
		p.held[key] = found
	}
	return found
}

func (p *parties) find(w at[string], site int) *party {
	if w.v == anyWord || w.v == internetWord {
		return p.everybody(w)
	}
	if i, is := p.index[w.v]; is {
		s := &p.n.Sites[i]
		out := p.behind(s, "")
		if p.addressed[i] {
			out = append(out, hostPrefix(s.Address), hostPrefix(s.Address6))
		}
		return &party{Group{Prefixes: normalPrefixes(out)}}
	}
	if w.v == clientsWord {
		if !p.f.clients.given {
			p.err(w.Pos, codeUnknownWho, "describe them in `clients:`", "the file has no clients")
			return nil
		}
		if !p.f.clients.v.pool.ok {
			return &party{}
		}
		return &party{Group{Prefixes: normalPrefixes([]netip.Prefix{p.n.Clients.Pool, p.n.Clients.Pool6})}}
	}
	if i, is := p.device[w.v]; is {
		d := &p.n.Clients.Devices[i]
		if !d.Address.IsValid() || !d.Address6.IsValid() {
			return &party{}
		}
		return &party{Group{Prefixes: normalPrefixes([]netip.Prefix{hostPrefix(d.Address), hostPrefix(d.Address6)})}}
	}
	if q, is, ok := p.prefix(w); is {
		if !ok {
			return nil
		}
		return p.part(w, q, site)
	}
	if name, device, both := strings.Cut(w.v, ":"); both {
		return p.lan(w, name, device)
	}
	p.unknown(w)
	return nil
}

// everybody returns who is meant by the words that are no names.
func (p *parties) everybody(w at[string]) *party {
	what, line := "", 0
	if i, is := p.index[w.v]; is {
		what, line = "site", p.n.Sites[i].Pos.Line
	} else if i, is := p.device[w.v]; is {
		what, line = "device", p.n.Clients.Devices[i].Pos.Line
	}
	switch {
	case what != "":
		p.err(w.Pos, codeUnknownWho, "give the "+what+" another name, or write its prefixes here", "%q is a word for more than the %s of that name (line %d)", w.v, what, line)
		return nil
	case w.v == anyWord:
		return p.all
	}
	return &party{Group{Internet: true}}
}

// prefix reads a word that may be a prefix or an address: whether it is one, and a right one.
func (p *parties) prefix(w at[string]) (q netip.Prefix, is, ok bool) {
	q, m := parsePrefix(w.v, anyFamily)
	if m != nil && m.code == codeNoLength {
		a, _ := netip.ParseAddr(w.v)
		q, m = hostPrefix(a), anyFamily.mismatch(a, w.v, "address")
	}
	switch {
	case m != nil && m.message == "":
		return q, false, false
	case m != nil:
		p.err(w.Pos, codeBadValue, m.hint, "%s", m.message)
		return q, true, false
	case q != q.Masked():
		p.err(w.Pos, codeHostBits, fmt.Sprintf("the prefix is %v, the host %v", q.Masked(), q.Addr()), "prefix %v has bits set behind its length", q)
		return q, true, false
	}
	return q, true, true
}

// part returns a part of the network by its prefix.
func (p *parties) part(w at[string], q netip.Prefix, site int) *party {
	if p.whole.find(q) != nil {
		return &party{Group{Prefixes: []netip.Prefix{q}}}
	}
	if out, mapped := p.outward(site, q); mapped {
		return &party{Group{Prefixes: []netip.Prefix{out}}}
	}
	m := p.hidden.find(q)
	switch {
	case m != nil:
		hint := fmt.Sprintf("write its mapped prefix, %v for that of site %q", m.as, p.n.Sites[m.site].Name)
		if q != m.prefix {
			hint = fmt.Sprintf("write it as it is mapped, %v for that of site %q", shown(moved(q, m.prefix, m.as)), p.n.Sites[m.site].Name)
		}
		p.err(w.Pos, codeUnknownWho, hint, "%v is in a LAN that is mapped: outside its site it is known as a part of %v", shown(q), m.as)
	case p.open:
		return &party{}
	case slices.ContainsFunc(p.firstOf(p.all.Prefixes), q.Overlaps):
		p.err(w.Pos, codeUnknownWho, "name the sites or the prefixes that are meant; `any` is all of the network, `internet` everything else", "%v is more than a prefix of the network", q)
	default:
		p.err(w.Pos, codeUnknownWho, "the prefixes are those of LANs, the overlays, the clients' pool and what `accept:` names; `internet` is everything else", "%v is in no prefix of the network", shown(q))
	}
	return nil
}

// firstOf returns what is looked through to find good words, which are not needed any more
// once nothing more is said.
func (p *parties) firstOf(prefixes []netip.Prefix) []netip.Prefix {
	if p.full() {
		return nil
	}
	return prefixes[:min(len(prefixes), 4096)]
}

// shown returns a prefix as it is written: one of a single address without its length.
func shown(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// lan returns one LAN of a site.
func (p *parties) lan(w at[string], name, device string) *party {
	i, known := p.site(at[string]{Pos: w.Pos, v: name})
	if !known {
		return nil
	}
	s := &p.n.Sites[i]
	if out := p.behind(s, device); device != "" && len(out) > 0 {
		return &party{Group{Prefixes: normalPrefixes(out)}}
	}
	decl := &p.f.sites.v[i].v
	if decl.doubt || slices.ContainsFunc(decl.lan.v, func(l named[[]at[lanDecl]]) bool { return l.name == device }) {
		return &party{} // its prefixes are what is wrong
	}
	var devices []string
	for _, l := range s.LANs {
		devices = append(devices, l.Device)
	}
	hint := "its LANs are on " + few(devices, 8)
	switch near := nearest(device, devices[:min(len(devices), 256)]); {
	case len(devices) == 0:
		hint = "it has no LAN; the router alone is `" + name + "`"
	case slices.ContainsFunc(s.Uplinks, func(u Uplink) bool { return u.Device == device }):
		hint = "it is an uplink; what lies behind it is `internet`"
	case near != "":
		hint = fmt.Sprintf("did you mean \"%s:%s\"?", name, near)
	}
	p.err(w.Pos, codeUnknownWho, hint, "site %q has no LAN device %q", name, clip(device))
	return nil
}

// unknown reports a word that means nobody.
func (p *parties) unknown(w at[string]) {
	hint := "a site, SITE:DEVICE, `clients`, a device of `clients:`, a prefix of the network, `any` or `internet`"
	if !p.full() {
		if p.known == nil {
			p.known = append(slices.Sorted(maps.Keys(p.device)), p.names...)
			p.known = append(p.known, clientsWord, anyWord, internetWord)
		}
		word := strings.ToLower(w.v)
		if near := nearest(word, p.known); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		if slices.Contains([]string{"all", "everyone", "everybody", "everything", "world", "wan", "*", "default"}, word) {
			hint = "`any` is all of the network, `internet` everything else"
		}
	}
	p.err(w.Pos, codeUnknownWho, hint, "%q is no site, no client and no prefix", clip(w.v))
}
