package spec

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// maxName is the longest name of a site, device or network: that of a label of the DNS
// (RFC 1035 §2.3.4), which the lab makes of it.
const maxName = 63

// reserved are words that stand for something else where a site's name may stand.
var reserved = map[string]string{
	"mesh":    "in `links:` it means every two sites",
	"clients": "in `exits:` it means all devices of `clients:`",
}

// checkName reports a name that is not of lower-case letters, digits and hyphens. Such a
// name is at home wherever it is used: as a part of interface names, in the DNS, in files
// and in other programs' configurations.
func (r *report) checkName(p Pos, noun, name string) bool {
	hint := "for example `op1`"
	if clean := CleanName(name); clean != "" {
		hint = fmt.Sprintf("for example `%s`", clean)
	}
	switch {
	case name == "":
		r.err(p, codeBadName, hint, "the name of a %s is empty", noun)
	case len(name) > maxName:
		r.err(p, codeBadName, hint, "the name of this %s has %d characters; the longest have %d", noun, len(name), maxName)
	case reserved[name] != "" && noun != "network":
		r.err(p, codeReservedName, "take another name", "a %s cannot be called %q: %s", noun, name, reserved[name])
	case name[0] == '-' || name[len(name)-1] == '-':
		r.err(p, codeBadName, hint, "%s %q: a name begins and ends with a letter or a digit", noun, clip(name))
	case cleanRunes(name) != name:
		r.err(p, codeBadName, hint, "%s %q: a name has lower-case letters, digits and hyphens", noun, clip(name))
	default:
		return true
	}
	return false
}

// CleanName makes a name of a network or site out of any text, and the empty string where
// nothing in the text can stand in one.
func CleanName(text string) string {
	name := cleanRunes(text)
	if len(name) > maxName {
		name = name[:maxName]
	}
	return strings.Trim(name, "-")
}

func cleanRunes(text string) string {
	return strings.Map(func(r rune) rune {
		r = unicode.ToLower(r)
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r < 0x80:
			return '-'
		}
		return -1
	}, text)
}

// checkDevice reports a name that no network device can have (net/core/dev.c,
// dev_valid_name).
func (r *report) checkDevice(p Pos, name string) bool {
	switch {
	case name == "" || name == "." || name == "..":
		r.err(p, codeBadDevice, "`ip link` lists the devices", "%q is no name of a device", name)
	case len(name) > maxInterface:
		r.err(p, codeBadDevice, "`ip link` lists the devices", "device %q: no device has a name longer than %d characters", clip(name), maxInterface)
	case strings.ContainsFunc(name, func(c rune) bool { return c == '/' || c == ':' || c <= ' ' || c > '~' || c == '"' }):
		r.err(p, codeBadDevice, "`ip link` lists the devices", "device %q: a name of a device has no spaces, slashes or colons", clip(name))
	case strings.ContainsAny(name, `*\`):
		r.err(p, codeBadDevice, "write each device by its whole name", "device %q: nftables would take this for more than one", clip(name))
	case name == "lo":
		r.err(p, codeBadDevice, "`ip link` lists the devices", "device %q is the loopback device, which leads nowhere", name)
	default:
		return true
	}
	return false
}

// identities reports names, keys and endpoints that two sites have.
func (b *builder) identities() {
	keys := map[[32]byte]string{}
	seen := func(p Pos, k [32]byte, who string) {
		if other, dup := keys[k]; dup {
			b.err(p, codeDuplicateKeyValue, "each makes its own key; two with one key drive each other's tunnels away", "this is the key of %s too", other)
			return
		}
		keys[k] = fmt.Sprintf("%s (line %d)", who, p.Line)
	}
	ends := map[hostPort]int{}
	for i := range b.n.Sites {
		s, decl := &b.n.Sites[i], &b.f.sites.v[i].v
		if decl.key.ok {
			seen(decl.key.Pos, decl.key.v, fmt.Sprintf("site %q", clip(s.Name)))
		}
		for _, e := range s.Endpoints {
			end := hostPort{strings.ToLower(strings.TrimSuffix(e.Host, ".")), e.Base}
			other, dup := ends[end]
			switch {
			case dup && other == i:
				b.warn(e.Pos, codeDuplicateEnd, "delete one of them", "endpoint %s stands twice", e.Host)
			case dup:
				b.err(e.Pos, codeDuplicateEnd, fmt.Sprintf("behind one address, forward other ports to each router and say which: `endpoint: \"%s:%d\"`", bracketed(end.host), min(e.Base+1000, 60000)),
					"endpoint %s, base port %d, is also that of site %q (line %d)", e.Host, e.Base, b.n.Sites[other].Name, b.n.Sites[other].Pos.Line)
			default:
				ends[end] = i
			}
		}
	}
	if k := b.f.clients.v.key; k.ok {
		seen(k.Pos, k.v, "the doors in `clients:`")
	}
	for _, d := range b.f.clients.v.devices.v {
		if d.v.key.ok {
			seen(d.v.key.Pos, d.v.key.v, fmt.Sprintf("device %q", clip(d.name)))
		}
	}
}

// bracketed returns a host as it stands before a colon and a port.
func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// interfaces reports names of interfaces that are not the sites', and that two sites
// would share.
func (b *builder) interfaces() {
	owner := map[string]int{}
	var short []int
	for i := range b.n.Sites {
		s := &b.n.Sites[i]
		name := InterfaceName(s.Name)
		if other, dup := owner[name]; dup {
			b.err(s.Pos, codeInterfaceName, "rename one of them", "the links to site %q and to site %q (line %d) would both be called %s", s.Name, b.n.Sites[other].Name, b.n.Sites[other].Pos.Line, name)
			continue
		}
		owner[name] = i
		if name != "wg-"+s.Name && !b.f.sites.v[i].v.doubt && b.hasLinkTo(i) {
			short = append(short, i)
		}
	}
	const most = 3
	for n, i := range short {
		s := &b.n.Sites[i]
		if n == most && len(short) > most+1 {
			b.note(s.Pos, codeShortened, "", "and %d more sites, this the first, have names that interfaces cannot hold", len(short)-most)
			break
		}
		b.note(s.Pos, codeShortened, "", "interfaces to site %q are called %s: a name of theirs has at most %d characters", s.Name, InterfaceName(s.Name), maxInterface)
	}
	b.deviceNames(owner)
}

// hasLinkTo reports whether a router has an interface that is named after the site.
func (b *builder) hasLinkTo(site int) bool {
	for i := range b.n.Sites {
		if b.n.Links.Has(i, site) && b.n.Sites[i].Routing == Babel {
			return true
		}
	}
	return false
}

// isDoor reports whether clients enter at a site.
func (b *builder) isDoor(site string) bool {
	return slices.ContainsFunc(b.f.clients.v.at.v, func(a at[string]) bool { return a.v == site })
}

// deviceNames reports a device of a router that is called as one of ours would be.
func (b *builder) deviceNames(owner map[string]int) {
	for i := range b.n.Sites {
		s := &b.n.Sites[i]
		check := func(p Pos, device string) {
			peer, ours := owner[device]
			if ours && (peer == i || !b.n.Links.Has(i, peer)) {
				ours = false
			}
			if ours || device == StaticInterface || device == ClientsInterface && b.isDoor(s.Name) {
				b.err(p, codeInterfaceName, "`lan:`, `uplink:` and `babel:` name what the router has already; tunnels come from `links:`", "device %q is an interface that tombolo makes on %q", device, s.Name)
			}
		}
		for _, l := range s.LANs {
			check(l.Pos, l.Device)
		}
		for _, u := range s.Uplinks {
			check(u.Pos, u.Device)
		}
		for _, x := range s.Babel {
			check(x.Pos, x.Device)
		}
	}
}
