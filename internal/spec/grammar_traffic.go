package spec

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"tombolo/internal/key"

	yaml "go.yaml.in/yaml/v4"
)

var clientsRecord = record[clientsDecl]{
	noun:    "the clients",
	title:   "Clients",
	context: "clients:\n  …",
	doc:     "A client has one address for life and may enter at any of the sites in `at:`.",
	fields: []field[clientsDecl]{
		{entry{key: "pool", concept: "client", required: true, also: []string{"subnet", "prefix", "overlay"}, example: "10.0.31.0/24",
			doc: "The IPv4 prefix of the clients' addresses, outside the overlay and every LAN."},
			into(prefix(ipv4), func(c *clientsDecl) *at[netip.Prefix] { return &c.pool })},
		{entry{key: "at", concept: "client", required: true, also: []string{"via", "sites", "doors"}, example: "[op1, op2]",
			doc: "The sites at which they enter, on the base port; those share a key, so that one configuration fits all."},
			into(oneOrMore(siteName, "one site or a list of them"), func(c *clientsDecl) *at[[]at[string]] { return &c.at })},
		{entry{key: "key", concept: "client", also: []string{"access-key", "access_key", "public-key", "publickey", "public_key", "pubkey"}, example: "spvx9HIOQ4/rUYtKSlcHBwAlv9R1LZD7+RcRlRDjPBY=", hint: "leave it out; `tombolo client add NAME` writes it",
			doc: "The public half of the access key, which those sites share. `tombolo client add` makes the key with the first device."},
			into(publicKey, func(c *clientsDecl) *at[key.Public] { return &c.key })},
		{entry{key: "hold", concept: "client", also: []string{"timeout", "keep", "expire"}, example: "10m",
			doc: "For how long a device counts as being where it last made a handshake, in seconds or as `10m`; at least 180 seconds, the life of a WireGuard session and the default. A device that goes to sleep stays reachable for as long; one that enters elsewhere leaves at once."},
			into(hold, func(c *clientsDecl) *at[time.Duration] { return &c.hold })},
		{entry{key: "devices", concept: "client", also: []string{"device", "peers", "clients"}, example: "{phone: {address: 10.0.31.10}, pi: }",
			doc: "The devices, by name; a name is none of a site."},
			into(devices, func(c *clientsDecl) *at[[]named[deviceDecl]] { return &c.devices })},
	},
}

var devices = func() shape[[]named[deviceDecl]] {
	full := deviceRecord.shape()
	one := shape[deviceDecl]{described{what: "a mapping or nothing", schema: schema{"anyOf": []any{schema{"type": "null"}, full.schema}}, sub: full.sub}, func(d *decoder, n *yaml.Node) (deviceDecl, bool) {
		if isNull(n) {
			return deviceDecl{}, true
		}
		return full.read(d, n)
	}}
	return mapOf("device", "a mapping from names to devices", one)
}()

var deviceRecord = record[deviceDecl]{
	noun:    "device",
	title:   "Devices",
	context: "clients:\n  pool: 10.0.31.0/24\n  at: op1\n  devices:\n    phone:\n      …",
	doc:     "A device can be as short as its name: `pi:`.",
	fields: []field[deviceDecl]{
		{entry{key: "address", concept: "client", also: []string{"ip", "addr"}, example: "10.0.31.10",
			doc: "Its address in the pool. Left out, it is a hash of its name. Its IPv6 address, in `overlay6:`, has the same bits."},
			into(address(ipv4), func(c *deviceDecl) *at[netip.Addr] { return &c.address })},
		{entry{key: "key", concept: "client", also: []string{"public-key", "publickey", "public_key", "pubkey"}, example: "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", hint: "the app on the device shows it",
			doc: "Its public key. A device without one cannot enter yet; `tombolo client add NAME` makes it."},
			into(publicKey, func(c *deviceDecl) *at[key.Public] { return &c.key })},
		{entry{key: "full", concept: "client", also: []string{"all", "full-tunnel"}, example: "true",
			doc: "Whether all its traffic comes through the network, not only what goes to the sites. Default: `false`."},
			into(boolean, func(c *deviceDecl) *at[bool] { return &c.full })},
		{entry{key: "dns", concept: "client", also: []string{"resolver", "nameserver"}, example: "192.168.35.1",
			doc: "The resolvers in its configuration: an address or a list."},
			into(oneOrMore(address(anyFamily), "an address or a list of them"), func(c *deviceDecl) *at[[]at[netip.Addr]] { return &c.dns })},
		{entry{key: "given", concept: "client", also: []string{"digest"}, example: "1a2b3c4d", hint: "`tombolo client add NAME` writes it",
			doc: "Which configuration the device has: the first eight hexadecimal digits of the SHA-256 of its text without the private key, one for each door that it has one for. `tombolo client` writes it, and `tombolo client list` says by it which devices need a new one."},
			into(oneOrMore(digest, "a digest or a list of them"), func(c *deviceDecl) *at[[]at[string]] { return &c.given })},
	},
}

// digest is the shape of a configuration's digest. Some look like numbers to YAML: the schema
// wants those in quotes, as tombolo writes them.
var digest = scalar("eight hexadecimal digits", schema{"type": "string", "pattern": "^[0-9a-f]{8}$"}, func(text string) (string, *mistake) {
	if len(text) != 8 || strings.Trim(text, "0123456789abcdef") != "" {
		return "", &mistake{}
	}
	return text, nil
})

var exitRecord = record[exitDecl]{
	noun:    "exit",
	title:   "Exits",
	context: "exits:\n  - …",
	doc:     "Where several exits fit a packet's source, the most specific one wins: a device before `clients`, a prefix before the site whose LAN it is a part of, or the whole of. The packets keep their sources up to the site where they leave. tombolo does not change the DNS of the hosts: a resolver that is to be asked through the exit is what they are given by DHCP (option 6) or router advertisements (RDNSS).",
	fields: []field[exitDecl]{
		{entry{key: "for", concept: "exit", required: true, also: []string{"from", "source", "src"}, example: "op2",
			doc: "Whose traffic: sites (which means their LANs), `clients` or single devices, or prefixes of LANs; one or a list. A plain site can be one only if it enters like a device."},
			into(oneOrMore(text("a site, a device, `clients` or a prefix"), "what the exit is for, or a list"), func(e *exitDecl) *at[[]at[string]] { return &e.from })},
		{entry{key: "via", concept: "exit", required: true, also: []string{"through", "to", "gateway"}, example: "[op1, op3]",
			doc: "The sites where it leaves, in order of preference: the first whose uplink works. One or a list of at most 6. A site with static routing is one only for static sites that links of static sites join to it."},
			into(oneOrMore(siteName, "one site or a list of them"), func(e *exitDecl) *at[[]at[string]] { return &e.via })},
		{entry{key: "otherwise", concept: "exit", also: []string{"else", "fallback"}, example: "block",
			doc: "What happens while none of these works: `local` (the default), the traffic leaves by the site's own uplink; or `block`, it does not leave, in IPv4 and IPv6."},
			into(oneOf("local", "block"), func(e *exitDecl) *at[string] { return &e.otherwise })},
		{entry{key: "router", concept: "exit", also: []string{"routers", "self"}, example: "true",
			doc: "Whether the own traffic of the routers in `for:` goes there too; their tunnels' packets leave by the uplink all the same, and with `otherwise: block`, while no exit works, also what a router needs to find one: DNS and the time. Default: `false`."},
			into(boolean, func(e *exitDecl) *at[bool] { return &e.router })},
	},
}

var publishRecord = record[publishDecl]{
	noun:    "published port",
	title:   "Published ports",
	context: "publish:\n  - …",
	doc:     "What comes to the port of a site's uplink goes to a host at any site, which sees who sent it; but behind what takes this network's sources alone (a site with `static` routing or a plain one, a link with `transport: none`, a device without `full: true`) it sees the router that publishes it.",
	fields: []field[publishDecl]{
		{entry{key: "at", concept: "nat", required: true, also: []string{"site", "on", "via"}, example: "op1",
			doc: "The site whose uplinks have the port."},
			into(siteName, func(p *publishDecl) *at[string] { return &p.at })},
		{entry{key: "port", concept: "nat", required: true, also: []string{"ports", "listen"}, example: "8443/tcp",
			doc: "The port or range of ports and its protocol, `tcp` or `udp`, in either order: `8443/tcp` or `tcp/8443`."},
			into(published, func(p *publishDecl) *at[publishedPort] { return &p.port })},
		{entry{key: "to", concept: "nat", required: true, also: []string{"host", "target", "dest"}, example: "192.168.36.10:443",
			doc: "The host, in a LAN of the network, and its port; for a range, the port of its first one. In a LAN that is mapped (`as:`) it has its mapped address; at that LAN's own site its real one will do too."},
			into(addrPort, func(p *publishDecl) *at[netip.AddrPort] { return &p.to })},
	},
}

var published = scalar("a port with its protocol", schema{"type": "string", "pattern": "^(" + portPattern + "/(tcp|udp)|(tcp|udp)/" + portPattern + ")$"}, func(text string) (publishedPort, *mistake) {
	ports, protocol, ok := cutService(text)
	r, m := parsePortRange(ports)
	switch {
	case m != nil:
		return publishedPort{}, m
	case !ok:
		return publishedPort{}, &mistake{message: fmt.Sprintf("port %s has no protocol", ports), hint: fmt.Sprintf("write %s/tcp or %s/udp", ports, ports)}
	case protocol != "tcp" && protocol != "udp":
		return publishedPort{}, &mistake{message: fmt.Sprintf("a published port is tcp or udp, not %q", clip(protocol)), hint: fmt.Sprintf("write %s/tcp or %s/udp", ports, ports)}
	}
	return publishedPort{r, protocol}, nil
})

var addrPort = scalar("an address and a port", schema{"type": "string", "pattern": "^.+:[0-9]+$"}, func(text string) (netip.AddrPort, *mistake) {
	ap, err := netip.ParseAddrPort(text)
	if err == nil {
		if ap.Port() == 0 {
			return ap, &mistake{code: codeRange, message: "a port goes from 1 to 65535; this is 0"}
		}
		return ap, anyFamily.mismatch(ap.Addr(), text, "address")
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPort{}, &mistake{message: fmt.Sprintf("%v has no port", a), hint: fmt.Sprintf("for example %v", netip.AddrPortFrom(a, 443))}
	}
	return netip.AddrPort{}, &mistake{}
})

var segmentRecord = record[segmentDecl]{
	noun:    "segment",
	title:   "Segments",
	context: "segments:\n  campus:\n    …",
	doc:     "A segment carries Ethernet frames over the links: for IPv6 prefix delegation from one site to another, or what else cannot be routed.",
	fields: []field[segmentDecl]{
		{entry{key: "kind", concept: "segment", with: []string{"attach"}, also: []string{"type"}, example: "vxlan",
			doc: "What carries the frames: `gretap` (the default) or `vxlan`."},
			into(oneOf("gretap", "vxlan"), func(s *segmentDecl) *at[string] { return &s.kind })},
		{entry{key: "attach", concept: "segment", required: true, also: []string{"sites", "members", "at", "between"}, example: "{op1: {bridge: br-wan}, op2: {dhcpv6: {delegate-to: br-lan}}}",
			doc: "How each site takes part; at least two."},
			into(mapOf("site", "a mapping from sites to how they take part", attachRecord.shape()), func(s *segmentDecl) *at[[]named[attachDecl]] { return &s.attach })},
	},
}

var attachRecord = record[attachDecl]{
	noun:    "attachment",
	title:   "Attachments",
	context: "segments:\n  campus:\n    attach:\n      op1: {bridge: br-wan}\n      op2:\n        …",
	doc:     "One of two ways.",
	fields: []field[attachDecl]{
		{entry{key: "bridge", concept: "segment", also: []string{"br"}, example: "br-lan",
			doc: "The segment becomes a port of this bridge."},
			into(text("a device"), func(a *attachDecl) *at[string] { return &a.bridge })},
		{entry{key: "dhcpv6", concept: "segment", also: []string{"dhcp", "dhcp6", "pd"}, example: "{delegate-to: br-lan}",
			doc: "The router asks for an IPv6 prefix over the segment."},
			into(dhcpv6Record.shape(), func(a *attachDecl) *at[dhcpv6Decl] { return &a.dhcpv6 })},
	},
}

var dhcpv6Record = record[dhcpv6Decl]{
	noun:    "DHCPv6 client",
	title:   "DHCPv6 over a segment",
	context: "segments:\n  campus:\n    attach:\n      op1: {bridge: br-wan}\n      op2:\n        dhcpv6:\n          …",
	doc:     "The prefix that it gets is announced on a LAN.",
	fields: []field[dhcpv6Decl]{
		{entry{key: "delegate-to", concept: "segment", required: true, also: []string{"delegate", "to", "lan"}, example: "br-lan",
			doc: "The LAN's device."},
			into(text("a device"), func(d *dhcpv6Decl) *at[string] { return &d.delegateTo })},
	},
}

// endpoint reads host[:base].
var endpoint = scalar("a host, or host:port", schema{"type": "string", "minLength": 1}, parseEndpoint)

// parseEndpoint reads a DNS name, an IPv4 address or an IPv6 address, with the base port
// after a colon; an IPv6 address is then in brackets.
func parseEndpoint(text string) (hostPort, *mistake) {
	if strings.Contains(text, "://") {
		return hostPort{}, &mistake{code: codeBadEndpoint, message: "an endpoint is a host, not a URL", hint: "write what stands between `//` and the next `/`"}
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return checkedHost(a.String(), 0)
	}
	host, base, hasBase := cutPort(text)
	if !hasBase {
		return checkedHost(text, 0)
	}
	r, m := parsePortRange(base)
	if m != nil || r.First != r.Last {
		return hostPort{}, &mistake{code: codeBadEndpoint, message: fmt.Sprintf("%q is not a port from 1 to 65535", clip(base)), hint: "`host:port`, where the port is the base port as it is seen from outside; without one it is the site's own"}
	}
	return checkedHost(host, r.First)
}

// cutPort cuts off what follows the last colon, and the brackets of an IPv6 address.
func cutPort(text string) (host, port string, ok bool) {
	i := strings.LastIndexByte(text, ':')
	if inner, bracketed := strings.CutPrefix(text, "["); bracketed {
		host, rest, closed := strings.Cut(inner, "]")
		switch {
		case closed && rest == "":
			return host, "", false
		case closed && strings.HasPrefix(rest, ":"):
			return host, rest[1:], true
		}
		return text, "", false
	}
	if i < 0 || strings.Count(text, ":") > 1 {
		return text, "", false
	}
	return text[:i], text[i+1:], true
}

func checkedHost(host string, base int) (hostPort, *mistake) {
	host = strings.Trim(host, "[]")
	a, err := netip.ParseAddr(host)
	if err != nil {
		if m := badHost(host); m != nil {
			return hostPort{}, m
		}
		return hostPort{host, base}, nil
	}
	is := ""
	switch {
	case a.Is4In6():
		return hostPort{}, &mistake{code: codeBadEndpoint, message: fmt.Sprintf("%v is an IPv4 address written as IPv6", a), hint: fmt.Sprintf("write %v", a.Unmap())}
	case a.IsUnspecified():
		is = "the unspecified address"
	case a.IsLoopback():
		is = "a loopback address, which leads everybody to themselves"
	case a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		is = "a multicast address"
	case a.IsLinkLocalUnicast() || a.Zone() != "":
		is = "a link-local address, which other networks cannot reach"
	}
	if is != "" {
		return hostPort{}, &mistake{code: codeBadEndpoint, message: fmt.Sprintf("endpoint %v is %s", a, is), hint: "an endpoint is the name or address by which the others reach this router; leave it out if they cannot"}
	}
	return hostPort{a.String(), base}, nil
}

// badHost says what is wrong with a host name, nil if nothing is: labels of letters,
// digits and hyphens (RFC 1123 §2.1), of which the last is not a number.
func badHost(host string) *mistake {
	bad := func(hint, format string, args ...any) *mistake {
		return &mistake{code: codeBadEndpoint, hint: hint, message: fmt.Sprintf(format, args...)}
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	last := labels[len(labels)-1]
	if strings.Trim(last, "0123456789") == "" && last != "" {
		return bad("", "%q is neither an address nor a host name", clip(host))
	}
	if len(host) > 253 {
		return bad("", "this host name has %d characters; the longest have 253", len(host))
	}
	for _, l := range labels {
		switch {
		case l == "":
			return bad("", "%q is no host name: there is nothing between two dots, or none at all", clip(host))
		case len(l) > 63:
			return bad("", "%q is no host name: no part of one is longer than 63 characters", clip(host))
		case strings.HasPrefix(l, "-") || strings.HasSuffix(l, "-"):
			return bad("", "%q is no host name: no part of one begins or ends with a hyphen", clip(host))
		}
		for _, c := range l {
			if c > 0x7f {
				return bad("write the form that begins with `xn--`", "%q is no host name as the DNS has it: it holds %q", clip(host), c)
			}
			if !base64Digit(c) && c != '-' || c == '+' || c == '/' {
				return bad("for example `op1.example.net`, `203.0.113.3`, `203.0.113.3:51820` or `[2001:db8::3]:51820`", "%q is no host name: it holds %q", clip(host), c)
			}
		}
	}
	return nil
}

// nameOf is the shape of a name that is ours to choose.
func nameOf(noun string) shape[string] {
	return shape[string]{described{what: "a name of lower-case letters, digits and hyphens", schema: schema{"$ref": "#/$defs/name"}}, func(d *decoder, n *yaml.Node) (string, bool) {
		if n.Kind != yaml.ScalarNode || isNull(n) {
			d.wrongKind(n, "a name")
			return "", false
		}
		return n.Value, d.checkName(posOf(n), noun, n.Value)
	}}
}
