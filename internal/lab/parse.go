package lab

import (
	"bytes"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"tombolo/internal/lab/internet"
	"tombolo/internal/state"
)

// maxFile bounds a lab file, in bytes.
const maxFile = 1 << 20

// parser reads one lab file. Every method notes what is wrong and goes on.
type parser struct {
	name     string
	lines    []string
	mistakes Mistakes

	devices map[string][]state.Uplink // by site
	roaming []string                  // names of the network's devices
	known   []string                  // sites, roaming devices and Internet hosts, sorted
	file    File
}

// ParseFile reads a lab file for the network of the routers and roaming devices. The name
// is for messages. What is wrong is all told at once; with any mistake the File has no
// meaning.
func ParseFile(name string, source []byte, routers []state.Router, clients []Client) (File, Mistakes) {
	p := &parser{name: name, lines: strings.Split(string(source), "\n"), devices: map[string][]state.Uplink{}}
	for _, r := range routers {
		p.devices[r.Site] = r.Uplinks
	}
	for _, c := range clients {
		p.roaming = append(p.roaming, c.Name)
	}
	if len(source) > maxFile {
		p.wrong(nil, "", "the file has %d bytes; a lab file may have %d", len(source), maxFile)
		return File{}, p.mistakes
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(source, &doc); err != nil {
		p.syntax(err)
		return File{}, p.mistakes
	}
	if len(bytes.TrimSpace(source)) > 0 && len(doc.Content) > 0 {
		p.document(doc.Content[0])
	}
	if ms := p.sorted(); len(ms) > 0 {
		return File{}, ms
	}
	return p.file, nil
}

// syntax notes what the YAML reader did not understand.
func (p *parser) syntax(err error) {
	var list *yaml.LoadErrors
	var one *yaml.LoadError
	switch {
	case errors.As(err, &list):
		for _, e := range list.Errors {
			p.wrong(&yaml.Node{Line: e.Mark.Line, Column: max(e.Mark.Column, 1)}, "", "%s", e.Message)
		}
	case errors.As(err, &one):
		p.wrong(&yaml.Node{Line: one.Mark.Line, Column: max(one.Mark.Column, 1)}, "", "%s", one.Message)
	default:
		p.wrong(nil, "", "%v", err)
	}
}

// document reads the whole. The Internet's hosts come first: paths name them.
func (p *parser) document(root *yaml.Node) {
	var sites, devices, paths *yaml.Node
	p.mapping(root, "a lab file", fields{
		"internet": p.internet,
		"sites":    func(n *yaml.Node) { sites = n },
		"devices":  func(n *yaml.Node) { devices = n },
		"paths":    func(n *yaml.Node) { paths = n },
		"defaults": p.defaults,
	})
	p.known = append(slices.Collect(maps.Keys(p.devices)), p.roaming...)
	p.known = append(p.known, copies(devices, p.known)...)
	hosts := p.file.Internet
	if hosts == nil {
		hosts = defaultHosts(p.known)
	}
	for _, h := range hosts {
		p.known = append(p.known, h.Name)
	}
	slices.Sort(p.known)
	if sites != nil {
		p.sites(sites)
	}
	if devices != nil {
		p.roamers(devices)
	}
	if paths != nil {
		p.paths(paths)
	}
}

// internet reads the Internet's hosts: a mapping of name to what it is.
func (p *parser) internet(n *yaml.Node) {
	if isNull(n) {
		return // not said
	}
	p.file.Internet = []InternetHost{}
	p.entries(n, "internet", func(key, value *yaml.Node) {
		h := InternetHost{Name: key.Value}
		if !validName(h.Name) {
			p.wrong(key, "", "%q cannot be a host's name: letters, digits and dashes can", h.Name)
		}
		if what := p.called(h.Name); what != "" {
			p.wrong(key, "", "%q is a %s of the network, and so cannot be an Internet host too", h.Name, what)
		}
		p.mapping(value, "an Internet host", fields{
			"address": func(n *yaml.Node) { h.Addresses = p.addresses(n) },
		})
		p.file.Internet = append(p.file.Internet, h)
	})
}

// addresses reads one address, or one of each family.
func (p *parser) addresses(n *yaml.Node) []netip.Addr {
	var out []netip.Addr
	for _, item := range p.list(n) {
		a, err := netip.ParseAddr(p.text(item))
		if err != nil || a.Zone() != "" {
			p.wrong(item, "", "%q is not an address", item.Value)
			continue
		}
		out = append(out, a)
	}
	if len(out) > 2 || len(out) == 2 && out[0].Is4() == out[1].Is4() {
		p.wrong(n, "", "give at most one IPv4 and one IPv6 address")
	}
	return out
}

// called returns what of the network has a name: a site, a device or nothing.
func (p *parser) called(name string) string {
	if _, site := p.devices[name]; site {
		return "site"
	}
	if slices.Contains(p.roaming, name) {
		return "device"
	}
	return ""
}

// say keeps what the file says of a site or a roaming device.
func (p *parser) say(name string, s Site) {
	if p.file.Sites == nil {
		p.file.Sites = map[string]Site{}
	}
	p.file.Sites[name] = s
}

// sites reads what is said of sites.
func (p *parser) sites(n *yaml.Node) {
	p.entries(n, "sites", func(key, value *yaml.Node) {
		devices, ok := p.devices[key.Value]
		if !ok {
			hint := ""
			if p.called(key.Value) == "device" {
				hint = "what is said of a device stands under `devices:`"
			}
			p.wrong(key, hint, "the network has no site %q", key.Value)
			return
		}
		s := Site{Uplinks: map[string]Uplink{}}
		known := fields{"reaches": func(n *yaml.Node) { s.Reaches = p.reaches(n) }}
		for _, u := range devices {
			known[u.Device] = func(n *yaml.Node) { s.Uplinks[u.Device] = p.uplink(n, u) }
		}
		p.mapping(value, "site "+key.Value, known)
		p.say(key.Value, s)
	})
}

func (p *parser) reaches(n *yaml.Node) []string {
	out := []string{}
	for _, item := range p.list(n) {
		name := p.text(item)
		if !slices.Contains(p.known, name) {
			p.wrong(item, p.knownHint(), "%q is no site, device or Internet host", name)
			continue
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// uplink reads what is said of an uplink. A static one's address stands in the network
// file.
func (p *parser) uplink(n *yaml.Node, described state.Uplink) Uplink {
	var u Uplink
	p.mapping(n, "uplink "+described.Device, p.uplinkKeys(&u, described))
	return u
}

// uplinkKeys returns the keys that say something of an uplink. They fill u.
func (p *parser) uplinkKeys(u *Uplink, described state.Uplink) fields {
	leased := func(read func(*yaml.Node)) func(*yaml.Node) {
		return func(n *yaml.Node) {
			if !described.DHCP {
				p.wrong(n, "", "uplink %s is not dhcp: the network file says its address", described.Device)
				return
			}
			read(n)
		}
	}
	return fields{
		"nat":     func(n *yaml.Node) { u.NAT = p.nat(n) },
		"public":  func(n *yaml.Node) { u.Public = p.address4(n) },
		"address": leased(func(n *yaml.Node) { u.Addresses = p.prefixes(n) }),
		"gateway": leased(func(n *yaml.Node) { u.Gateway = p.address4(n) }),
		"segment": func(n *yaml.Node) { u.Segment = p.text(n) },
		"routed":  func(n *yaml.Node) { u.Routed = p.routed(n) },
	}
}

func (p *parser) nat(n *yaml.Node) *internet.NATKind {
	var kind internet.NATKind
	if err := kind.UnmarshalText([]byte(p.text(n))); err != nil {
		p.wrong(n, "", "%v", err)
		return nil
	}
	return &kind
}

func (p *parser) address4(n *yaml.Node) netip.Addr {
	a, err := netip.ParseAddr(p.text(n))
	if err != nil || !a.Is4() {
		p.wrong(n, "", "%q is not an IPv4 address", n.Value)
	}
	return a
}

// prefixes reads addresses with their length, one or one of each family.
func (p *parser) prefixes(n *yaml.Node) []netip.Prefix {
	var out []netip.Prefix
	for _, item := range p.list(n) {
		x, err := netip.ParsePrefix(p.text(item))
		if err != nil {
			p.wrong(item, "", "%q is not an address with its length, as 198.51.100.7/24 is", item.Value)
			continue
		}
		out = append(out, x)
	}
	if len(out) > 2 || len(out) == 2 && out[0].Addr().Is4() == out[1].Addr().Is4() {
		p.wrong(n, "", "give at most one IPv4 and one IPv6 address")
	}
	return out
}

// routed reads prefixes, one or one of each family.
func (p *parser) routed(n *yaml.Node) []netip.Prefix {
	out := p.prefixes(n)
	for _, x := range out {
		if x != x.Masked() {
			p.wrong(n, "", "%s is an address, and not the prefix %s", x, x.Masked())
		}
	}
	return out
}

// defaults reads what holds where nothing else is said.
func (p *parser) defaults(n *yaml.Node) {
	keys := p.impairment(&p.file.Default.Impairment, true)
	keys["nat"] = func(n *yaml.Node) { p.file.Default.NAT = p.nat(n) }
	p.mapping(n, "defaults", keys)
}

// paths reads what paths do.
func (p *parser) paths(n *yaml.Node) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		p.wrong(n, "- {between: [a, b], rtt: 20ms}", "paths is a list")
		return
	}
	for _, item := range n.Content {
		p.path(resolve(item))
	}
}

// path reads one path, or all those between several places.
func (p *parser) path(n *yaml.Node) {
	both := hasKey(n, "between")
	var imp internet.Impairment
	var between []string
	var from, to string
	keys := p.impairment(&imp, both)
	if both {
		keys["between"] = func(n *yaml.Node) { between = p.between(n) }
	} else {
		keys["from"] = func(n *yaml.Node) { from = p.place(n) }
		keys["to"] = func(n *yaml.Node) { to = p.place(n) }
	}
	before := len(p.mistakes)
	p.mapping(n, "a path", keys)
	switch {
	case len(p.mistakes) > before:
	case both:
		for i, a := range between {
			for _, b := range between[i+1:] {
				p.file.Paths = append(p.file.Paths, Path{From: a, To: b, Both: true, Impairment: imp})
			}
		}
	case from == "" || to == "":
		p.wrong(n, "", "a path is between: [a, b], or has from: and to:")
	case from == to:
		p.wrong(n, "", "a path has two ends, not %q twice", from)
	default:
		p.file.Paths = append(p.file.Paths, Path{From: from, To: to, Impairment: imp})
	}
}

func (p *parser) between(n *yaml.Node) []string {
	var out []string
	for _, item := range p.list(n) {
		name := p.place(item)
		if slices.Contains(out, name) {
			p.wrong(item, "", "a path has two ends, not %q twice", name)
		}
		out = append(out, name)
	}
	if len(out) < 2 {
		p.wrong(n, "", "a path is between two places or more")
	}
	return out
}

// place reads the name of a site, an uplink, a roaming device or an Internet host.
func (p *parser) place(n *yaml.Node) string {
	name := p.text(n)
	if slices.Contains(p.known, name) {
		return name
	}
	site, device, _ := strings.Cut(name, "/")
	if uplinks, ok := p.devices[site]; ok {
		if slices.ContainsFunc(uplinks, func(u state.Uplink) bool { return u.Device == device }) {
			return name
		}
		p.wrong(n, "", "site %q has no uplink %q", site, device)
		return name
	}
	p.wrong(n, p.knownHint(), "%q is no site, device or Internet host", name)
	return name
}

func (p *parser) knownHint() string { return "there are " + strings.Join(p.known, ", ") }

// impairment returns the keys that say what a path does. They fill imp, which is of one
// way: of a round trip, time is split evenly between the ways.
func (p *parser) impairment(imp *internet.Impairment, roundTrip bool) fields {
	share, delay := time.Duration(1), "delay"
	if roundTrip {
		share, delay = 2, "rtt"
	}
	return fields{
		delay:     func(n *yaml.Node) { imp.Delay = p.duration(n) / share },
		"jitter":  func(n *yaml.Node) { imp.Jitter = p.duration(n) / share },
		"reorder": func(n *yaml.Node) { imp.Reorder = p.boolean(n) },
		"cut":     func(n *yaml.Node) { imp.Cut = p.boolean(n) },
		"loss":    func(n *yaml.Node) { imp.Loss = parse(p, n, parseLoss) },
		"rate":    func(n *yaml.Node) { imp.Rate = parse(p, n, parseRate) },
	}
}
