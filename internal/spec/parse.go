package spec

import (
	"net/netip"
	"strings"

	"tombolo/internal/key"

	yaml "go.yaml.in/yaml/v4"
)

// Parse reads a network file. The Network is nil if one of the diagnostics is an Error.
// The name of the file is for messages only; nothing is opened.
func Parse(file string, text []byte) (*Network, Diagnostics) {
	r := &report{src: &source{file: file, text: string(text)}}
	n := parse(r)
	if r.wrong > 0 {
		n = nil
	}
	return n, r.sorted()
}

func parse(r *report) *Network {
	root := readYAML(r)
	if root == nil {
		return nil
	}
	if root.Kind != yaml.MappingNode {
		r.err(posOf(root), codeWrongType, "it begins with `network:`, `overlay:` and `sites:`; `tombolo init` writes one to begin with", "a network file is a mapping, not %s", kindOf(root))
		return nil
	}
	d := &decoder{report: r, grammar: grammar}
	var f fileDecl
	fileRecord.read(d, root, &f)
	if len(f.sites.v) > maxSites {
		r.err(f.sites.v[maxSites].Pos, codeLarge, "", "a network has at most %d sites, and this has %d", maxSites, len(f.sites.v))
		return nil
	}
	b := &builder{report: r, f: &f, doubt: d.doubt, n: &Network{File: r.src.file}, mappings: map[Pos]Pos{}, devices: map[string]bool{}, index: make(map[string]int, len(f.sites.v))}
	b.build()
	return b.n
}

// grammar is the language as the documentation, the schema and suggestions see it.
var grammar = fileRecord.section()

// builder makes a Network out of what the file declares, and looks for the mistakes that
// only the whole shows.
//
// What could not be read is left out of the checks that it would mislead: one mistake is
// reported once.
type builder struct {
	*report

	f     *fileDecl
	n     *Network
	index map[string]int // sites by name
	names []string       // of the sites, for suggestions

	doubt     bool   // which sites reach which is open
	addressed []bool // sites whose address is known
	overlayOK bool

	mappings map[Pos]Pos // where `as:` stands, by where the prefix does

	pairs  map[[2]int]Pos // links that the file names one by one
	tuned  map[[2]int]Pos // links with options
	hubs   map[int]Pos    // of stars
	asked  []askedLink    // links that the file names, in its order
	joined int            // pairs that links have named so far
	meshed bool

	hosts, hidden table            // of LANs: as others see them, and behind mappings
	mapped        map[int]mappings // the same by site, where there are mappings
	devices       map[string]bool  // names of clients

	reach *graph // of links that can be made; nil while in doubt
}

func (b *builder) build() {
	b.header()
	b.settings()
	b.sites()
	b.addresses()
	b.links()
	b.identities()
	b.reachability()
	b.interfaces()
	b.ports()
	b.lans()
	b.uplinks()
	b.babel()
	b.findHosts()
	b.endpoints()
	b.clients()
	b.exits()
	b.publish()
	b.access()
	b.segments()
	if b.wrong == 0 {
		b.keyless()
		b.uncheckedUplinks()
		b.exitsForNothing()
		b.exitNames()
		b.remarks()
	}
}

// site returns the index of the site that a place in the file names, or reports that
// there is none.
func (b *builder) site(name at[string]) (int, bool) {
	if i, ok := b.index[name.v]; ok {
		return i, true
	}
	hint := "the sites are " + few(b.names, 8)
	if b.full() {
		hint = ""
	} else if near := nearest(name.v, b.names); near != "" {
		hint = "did you mean \"" + near + "\"?"
	}
	b.err(name.Pos, codeUnknownSite, hint, "there is no site %q", clip(name.v))
	return 0, false
}

// siteOf returns the site that a value names, -1 where there is none, which is reported unless
// the value could not be read.
func (b *builder) siteOf(name at[string]) (int, bool) {
	if !name.ok {
		return -1, false
	}
	if i, ok := b.site(name); ok {
		return i, true
	}
	return -1, false
}

// few lists names for a message, no more than most.
func few(names []string, most int) string {
	rest := ""
	if len(names) > most {
		names, rest = names[:most], ", …"
	}
	return strings.Join(names, ", ") + rest
}

// header reads what stands at the top of the file.
func (b *builder) header() {
	b.n.Name = b.f.network.or("")
	b.n.Routing = b.f.routing.or(Babel)
	b.overlay()
	b.overlay6()
}

// sites reads what each site says of itself alone.
func (b *builder) sites() {
	decls := b.f.sites.v
	if b.f.sites.ok && len(decls) == 0 {
		b.err(b.f.sites.Pos, codeTooFew, "for example `sites: {op1: op1.example.net}`", "there are no sites")
	}
	b.n.Sites = make([]Site, len(decls))
	b.addressed = make([]bool, len(decls))
	for i := range decls {
		decl, s := &decls[i], &b.n.Sites[i]
		if !b.checkName(decl.Pos, "site", decl.name) {
			decl.v.doubt = true
		}
		b.index[decl.name] = i
		b.names = append(b.names, decl.name)
		*s = Site{Pos: decl.Pos, Name: decl.name, Kind: decl.v.kind.or(Linux), Key: decl.v.key.or(key.Public{})}
		s.Routing = decl.v.routing.or(b.n.Routing)
		if s.Kind == Plain {
			if decl.v.routing.ok && decl.v.routing.v == Babel {
				b.err(decl.v.routing.Pos, codePlain, "delete `routing:`; a plain site is `static`", "site %q is plain, so it cannot run babel", s.Name)
			}
			s.Routing = Static
		}
		s.BasePort = decl.v.port.or(b.n.Settings.Port)
		s.Inbound = decl.v.inbound.or(Inbound{})
		for _, e := range decl.v.endpoint.v {
			if e.ok {
				base := e.v.base
				if base == 0 {
					base = s.BasePort
				}
				s.Endpoints = append(s.Endpoints, Endpoint{e.Pos, e.v.host, base})
			}
		}
		if len(s.Endpoints) > maxEndpoints {
			b.err(decl.v.endpoint.Pos, codeTooMany, "they are tried one after the other", "site %q has %d endpoints; the most are %d", s.Name, len(s.Endpoints), maxEndpoints)
			s.Endpoints = s.Endpoints[:maxEndpoints]
		}
		b.checkInbound(s, &decl.v)
		b.readLANs(s, &decl.v)
		b.readUplinks(s, &decl.v)
		b.readBabel(s, &decl.v)
	}
}

func (b *builder) checkInbound(s *Site, decl *siteDecl) {
	if !decl.inbound.ok || decl.doubt {
		return
	}
	switch {
	case len(s.Endpoints) == 0 && !s.Inbound.None:
		b.warn(decl.inbound.Pos, codeInbound, "add the `endpoint:` by which others reach these ports", "site %q says which ports are let in, and has no `endpoint:`, so nobody dials it", s.Name)
	case len(s.Endpoints) > 0 && s.Inbound.None:
		b.warn(decl.inbound.Pos, codeInbound, "delete one of the two", "site %q has an `endpoint:`, which nobody dials because nothing is let in", s.Name)
	}
}

// specialUse returns what a prefix is kept for that no network of ours can be, or nothing
// (RFC 6890, the special-purpose address registries).
func specialUse(p netip.Prefix) string {
	for _, s := range specialPrefixes {
		if s.prefix.Overlaps(p) && s.prefix.Bits() <= p.Bits() {
			return s.use
		}
	}
	return ""
}

var specialPrefixes = []struct {
	prefix netip.Prefix
	use    string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "for hosts that have no address yet"},
	{netip.MustParsePrefix("127.0.0.0/8"), "for loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("224.0.0.0/4"), "for multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
	{netip.MustParsePrefix("::/8"), "for loopback and IPv4 addresses written as IPv6"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("ff00::/8"), "for multicast"},
}

// private reports whether no part of the Internet has the prefix: RFC 1918, the shared
// space of RFC 6598, and unique local IPv6 (RFC 4193).
func private(p netip.Prefix) bool {
	for _, q := range privatePrefixes {
		if q.Overlaps(p) && q.Bits() <= p.Bits() {
			return true
		}
	}
	return false
}

var privatePrefixes = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fc00::/7"),
}
