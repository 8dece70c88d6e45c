package spec

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	yaml "go.yaml.in/yaml/v4"

	"tombolo/internal/key"
)

var routing = oneOf(Babel, Static)

// sites reads the mapping of sites. A site may be empty, or only an endpoint.
var sites = func() shape[[]named[siteDecl]] {
	full := siteRecord.shape()
	site := shape[siteDecl]{described: described{what: "a site", sub: full.sub, forms: []form{
		{what: "nothing", doc: "A router with no LAN that joins from behind a NAT."},
		{what: "a host", doc: "A router with only an `endpoint:`.", example: "op1.example.net"},
		{what: "a mapping", doc: "See [Sites](#sites)."},
	}}}
	site.schema = schema{"anyOf": []any{schema{"type": "null"}, schema{"type": "string", "description": "The site's endpoint."}, full.schema}}
	site.read = func(d *decoder, n *yaml.Node) (siteDecl, bool) {
		before := d.wrong
		var s siteDecl
		switch {
		case isNull(n):
		case n.Kind == yaml.ScalarNode:
			d.scope.key, d.scope.field, d.scope.example = d.scope.name, d.scope.name, "op1.example.net"
			e, ok := endpoint.read(d, n)
			s.endpoint = at[[]at[hostPort]]{posOf(n), []at[hostPort]{{posOf(n), e, true, ok, !ok}}, true, ok, !ok}
		case n.Kind == yaml.SequenceNode:
			d.scope.field, d.scope.example = d.scope.name, "{endpoint: op1.example.net}"
			d.wrongKind(n, "an endpoint, or a mapping with the site's keys")
		default:
			s, _ = full.read(d, n)
		}
		s.doubt = d.wrong > before
		return s, true
	}
	what := "a mapping from names to sites"
	s := mapOf("site", what, site)
	s.schema = schema{"type": "object", "minProperties": 1, "propertyNames": schema{"$ref": "#/$defs/name"}, "additionalProperties": site.schema}
	return s
}()

var siteRecord = record[siteDecl]{
	noun:    "site",
	title:   "Sites",
	context: "sites:\n  op1:\n    …",
	doc:     "A site is a router and the LANs behind it. It can be as short as its name: `op2:`.",
	fields: []field[siteDecl]{
		{entry{key: "kind", concept: "site", reach: true, also: []string{"type", "os"}, example: "openwrt",
			doc: "What the router is: `linux` (the default), `openwrt`, or `plain`: a router that speaks WireGuard and runs nothing of ours. The neighbours of a plain site treat it as a static peer."},
			into(oneOf(Linux, OpenWrt, Plain), func(s *siteDecl) *at[Kind] { return &s.kind })},
		{entry{key: "address", concept: "address", also: []string{"ip", "addr", "addresses"}, example: "10.0.32.1",
			doc: "The router's address in the overlay, without a length; it is a /32 on each of its links. Left out, it is a hash of the site's name, so that other sites never change it. Two sites that meet there are an error that shows the line to add."},
			into(address(ipv4), func(s *siteDecl) *at[netip.Addr] { return &s.address })},
		{entry{key: "endpoint", concept: "site", reach: true, also: []string{"endpoints", "host", "public", "wan-ip"}, example: "op1.example.net",
			doc: "A name or an address by which others can dial the router from outside: `host` or `host:base`, or a list of them that is tried in order. An IPv6 address with a port stands in brackets and quotes. The base is the base port as it is seen from outside, for a port forward; the port of each link moves with it."},
			into(oneOrMore(endpoint, "one endpoint or a list of them"), func(s *siteDecl) *at[[]at[hostPort]] { return &s.endpoint })},
		{entry{key: "inbound", concept: "site", reach: true, with: []string{"endpoint"}, also: []string{"ports", "forwarded"}, example: "[\"51821-51830\", 51840]",
			doc: "Which UDP ports reach the router from outside: `none`, or ports and ranges, as the router itself numbers them. Left out, all of them do if there is an `endpoint:`."},
			into(inbound, func(s *siteDecl) *at[Inbound] { return &s.inbound })},
		{entry{key: "port", concept: "link", reach: true, also: []string{"listen-port", "listenport", "base", "base-port"}, example: "52000",
			doc: "The router's base UDP port; `port:` of the settings otherwise. A link listens on the base and the number of the other end's address in the overlay; the base itself is for clients."},
			into(port, func(s *siteDecl) *at[int] { return &s.port })},
		{entry{key: "key", concept: "site", also: []string{"public-key", "publickey", "public_key", "pubkey"}, example: "0qPqCrnPwjkBzBJ0ELIUvHBC9uLGbxPBE3JzlwwRSl0=", hint: keyIsPrinted,
			doc: "The router's WireGuard public key, which `tombolo apply` prints there. The others need it before they can make their links to it. Private keys never stand in this file."},
			into(publicKey, func(s *siteDecl) *at[key.Public] { return &s.key })},
		{entry{key: "lan", concept: "lan", also: []string{"lans", "local", "subnets", "networks"}, example: "{br-lan: 192.168.35.0/24}",
			doc: "The devices with hosts behind them, and their prefixes: what the router already has. tombolo reads it and never assigns it. No two sites have the same prefix, unless `as:` maps it."},
			into(mapOf("device", "a mapping from devices to prefixes", lan), func(s *siteDecl) *at[[]named[[]at[lanDecl]]] { return &s.lan })},
		{entry{key: "uplink", concept: "uplink", also: []string{"uplinks", "wan", "wans"}, example: "{eth0: dhcp}",
			doc: "The devices that lead to the Internet, which the router already has too: `dhcp`, or address and gateway. Of several, those that work and have the lowest `preference:` share new connections by `weight:`, so with the defaults all do."},
			into(mapOf("device", "a mapping from devices to `dhcp` or an address and a gateway", uplink), func(s *siteDecl) *at[[]named[uplinkDecl]] { return &s.uplink })},
		{entry{key: "routing", concept: "routing", example: "static",
			doc: "How this router learns its routes, if not as the network: `babel` or `static`. A plain site is always `static`."},
			into(routing, func(s *siteDecl) *at[Routing] { return &s.routing })},
		{entry{key: "babel", concept: "routing", also: []string{"babeld", "bird", "rip", "ospf"}, example: "{br-core: {accept: 10.9.0.0/16, key: core}}",
			doc: "Devices on which the router speaks Babel with routers that are no sites, babeld or BIRD for example, and what they may announce there. Any device of the router's own will do, whether or not it is a LAN or an uplink."},
			into(mapOf("device", "a mapping from devices to what may come in there", babelRecord.shape()), func(s *siteDecl) *at[[]named[babelDecl]] { return &s.babel })},
	},
}

var babelRecord = record[babelDecl]{
	noun:    "Babel device",
	title:   "Babel devices",
	context: "sites:\n  op1:\n    babel:\n      br-core:\n        …",
	doc:     "The routers on the device learn all of this network's prefixes. What they announce is taken only as far as `accept:` goes, and is then reached from everywhere in this network.",
	fields: []field[babelDecl]{
		{entry{key: "accept", concept: "routing", also: []string{"prefixes", "allow", "import", "from"}, example: "[10.9.0.0/16, \"fd00:9::/32\"]",
			doc: "The prefixes that may come in there, these or any part of them. They are apart from the overlay and from every site's LANs. With `static` or `plain` sites in the network, no two sites accept the same."},
			into(oneOrMore(prefix(anyFamily), "a prefix or a list of them"), func(b *babelDecl) *at[[]at[netip.Prefix]] { return &b.accept })},
		{entry{key: "key", concept: "routing", with: []string{"accept"}, also: []string{"mac", "password", "secret", "psk"}, example: "core", hint: "the name of a key, whose file `tombolo key mac core` makes",
			doc: "The name of the key with which the routers on the device sign their packets (RFC 8967, HMAC-SHA256). It lies in `NAME.mac` beside the router's private key; `tombolo key mac NAME` makes one. Left out, whoever is on the device is believed. It also serves a link with `transport: none` on the device."},
			into(macName, func(b *babelDecl) *at[string] { return &b.key })},
	},
}

// macName is the name of a key; a key in its place gets its own words.
var macName = func() shape[string] {
	s := text("the name of a key")
	read := s.read
	s.read = func(d *decoder, n *yaml.Node) (string, bool) {
		if n.Kind == yaml.ScalarNode && len(n.Value) >= 40 {
			d.err(posOf(n), codeSecret, "write its name, and put the key itself into a file of that name (`tombolo key mac NAME` makes one)", "a MAC key has no place in the network file")
			return "", false
		}
		return read(d, n)
	}
	return s
}()

// lan reads what lies behind one device: a prefix, a mapped one, or a list of either.
var lan = func() shape[[]at[lanDecl]] {
	p, m := prefix(anyFamily), lanRecord.shape()
	one := shape[lanDecl]{described{what: "a prefix", schema: schema{"anyOf": []any{p.schema, m.schema}}, sub: m.sub, forms: []form{
		{what: "a prefix", example: "192.168.35.0/24"},
		{what: "a mapped prefix", example: "{prefix: 192.168.1.0/24, as: 10.61.1.0/24}"},
		{what: "a probed prefix", example: "{prefix: 192.168.35.0/24, probe: 192.168.35.10}"},
		{what: "a list of these", example: "[192.168.35.0/24, \"fd00:35::/64\"]"},
	}}, func(d *decoder, n *yaml.Node) (lanDecl, bool) {
		if n.Kind == yaml.MappingNode {
			return m.read(d, n)
		}
		v, ok := p.read(d, n)
		return lanDecl{prefix: at[netip.Prefix]{posOf(n), v, true, ok, !ok}}, ok
	}}
	return oneOrMore(one, "a prefix or a list of them")
}()

var lanRecord = record[lanDecl]{
	noun:    "LAN",
	title:   "LANs",
	context: "sites:\n  op1:\n    lan:\n      br-lan:\n        …",
	doc:     "A prefix that another site uses too can be mapped: the rest of the network sees it under another one of the same length, host for host. A Babel router announces a prefix while its device has carrier; with `probe:`, while a host behind it answers too.",
	fields: []field[lanDecl]{
		{entry{key: "prefix", concept: "lan", required: true, also: []string{"subnet", "network", "address"}, example: "192.168.1.0/24",
			doc: "The prefix on the device."},
			into(prefix(anyFamily), func(l *lanDecl) *at[netip.Prefix] { return &l.prefix })},
		{entry{key: "as", concept: "nat", also: []string{"map", "mapped", "netmap"}, example: "10.61.1.0/24",
			doc: "The prefix under which everybody else sees it: in routes, exits, published ports and the policy only this one exists. Hosts keep their last bits. The site's own hosts and router use the real one."},
			into(prefix(anyFamily), func(l *lanDecl) *at[netip.Prefix] { return &l.as })},
		{entry{key: "probe", concept: "lan", also: []string{"check", "ping", "while"}, example: "192.168.1.10",
			doc: "A host in the prefix that answers pings while the LAN works: a router can be up and cut off from its LAN. Only a router with `babel` routing looks."},
			into(address(anyFamily), func(l *lanDecl) *at[netip.Addr] { return &l.probe })},
	},
}

// uplink reads one uplink: `dhcp`, or a mapping.
var uplink = func() shape[uplinkDecl] {
	full := uplinkRecord.shape()
	s := shape[uplinkDecl]{described: described{what: "`dhcp` or a mapping", sub: full.sub, forms: []form{
		{what: "`dhcp`", doc: "Another program on the router leases the address.", example: "dhcp"},
		{what: "a mapping", doc: "See [Uplinks](#uplinks).", example: "{address: 203.0.113.3/24, gateway: 203.0.113.1}"},
	}}}
	s.schema = schema{"anyOf": []any{schema{"const": "dhcp"}, full.schema}}
	s.read = func(d *decoder, n *yaml.Node) (uplinkDecl, bool) {
		if n.Kind == yaml.ScalarNode && n.Value == "dhcp" {
			return uplinkDecl{dhcp: at[bool]{posOf(n), true, true, true, false}}, true
		}
		if n.Kind != yaml.MappingNode {
			d.wrongKind(n, "`dhcp`, or a mapping with `address:` and `gateway:`")
			return uplinkDecl{}, false
		}
		before := d.wrong
		u, _ := full.read(d, n)
		return u, d.wrong == before
	}
	return s
}()

var uplinkRecord = record[uplinkDecl]{
	noun:    "uplink",
	title:   "Uplinks",
	context: "sites:\n  op1:\n    uplink:\n      eth0:\n        …",
	doc:     "An uplink has `dhcp: true`, or an address and a gateway. Whatever comes in by an uplink is answered by it, and a connection stays on the one that it began on while that works; `tombolo agent` looks whether it does. With several, a UDP server on the router itself must be bound to each address: one that is bound to all answers from whichever address the route has.",
	fields: []field[uplinkDecl]{
		{entry{key: "dhcp", concept: "uplink", example: "true",
			doc: "Another program leases the address; the long form of `eth0: dhcp`."},
			into(boolean, func(u *uplinkDecl) *at[bool] { return &u.dhcp })},
		{entry{key: "address", concept: "uplink", with: []string{"gateway"}, also: []string{"ip", "addresses", "addr"}, example: "203.0.113.3/24",
			doc: "The address with the length of its subnet; a list for IPv4 and IPv6, one of each."},
			into(oneOrMore(interfaceAddress, "an address with its length, or one of each family"), func(u *uplinkDecl) *at[[]at[netip.Prefix]] { return &u.address })},
		{entry{key: "gateway", concept: "uplink", with: []string{"address"}, also: []string{"gw", "via", "router", "gateways"}, example: "203.0.113.1",
			doc: "The provider's router, within the subnet; a list for IPv4 and IPv6."},
			into(oneOrMore(address(anyFamily), "an address, or one of each family"), func(u *uplinkDecl) *at[[]at[netip.Addr]] { return &u.gateway })},
		{entry{key: "mtu", concept: "uplink", with: []string{"dhcp"}, example: "1492",
			doc: "The largest packet of the uplink in bytes, IP header included; the MTU of the links follows from it. Default: 1500."},
			into(number("an MTU", 576, 65535), func(u *uplinkDecl) *at[int] { return &u.mtu })},
		{entry{key: "masquerade", concept: "nat", with: []string{"dhcp"}, also: []string{"masq", "nat", "snat"}, example: "false",
			doc: "Whether what tombolo sends out of the uplink gets the uplink's address. Default: `true`."},
			into(boolean, func(u *uplinkDecl) *at[bool] { return &u.masquerade })},
		{entry{key: "weight", concept: "uplink", with: []string{"dhcp"}, also: []string{"share"}, example: "3",
			doc: "The uplink's share of new connections beside the site's other uplinks of the same `preference:`. Default: 1."},
			into(number("a weight", 1, 256), func(u *uplinkDecl) *at[int] { return &u.weight })},
		{entry{key: "preference", concept: "uplink", with: []string{"dhcp"}, also: []string{"metric", "priority", "tier"}, example: "2",
			doc: "Uplinks with a lower one carry all new connections while one of them works; those with a higher one wait for that to end. Default: 1."},
			into(number("a preference", 1, 100), func(u *uplinkDecl) *at[int] { return &u.preference })},
		{entry{key: "check", concept: "uplink", with: []string{"dhcp"}, also: []string{"ping", "health", "track", "track_ip"}, example: "[1.1.1.1, \"9.9.9.9:853\"]",
			doc: "Who answers while the uplink works, asked through this very uplink: an address by ping, an address with a port by TCP, where a refusal is an answer too. An IPv6 address with a port stands in brackets and quotes. The uplink works while one of the list answers. Left out, it works while it has carrier, address and gateway."},
			into(oneOrMore(checkTarget, "an address, address:port, or a list of them"), func(u *uplinkDecl) *at[[]at[netip.AddrPort]] { return &u.check })},
		{entry{key: "check-interval", concept: "uplink", with: []string{"dhcp", "check"}, also: []string{"interval", "check-every"}, example: "200ms",
			doc: "The time between two rounds, from 100ms to 60s. Default: 600ms."},
			into(checkInterval, func(u *uplinkDecl) *at[time.Duration] { return &u.checkInterval })},
		{entry{key: "check-down", concept: "uplink", with: []string{"dhcp", "check"}, also: []string{"down", "failures"}, example: "3",
			doc: "After how many rounds in a row without any answer the uplink is down, and its connections move to another. Default: 3."},
			into(number("a number of rounds", 1, 20), func(u *uplinkDecl) *at[int] { return &u.checkDown })},
		{entry{key: "check-up", concept: "uplink", with: []string{"dhcp", "check"}, also: []string{"up", "recovery"}, example: "5",
			doc: "After how many rounds in a row with an answer it is up again. Default: 5."},
			into(number("a number of rounds", 1, 100), func(u *uplinkDecl) *at[int] { return &u.checkUp })},
	},
}

// inbound reads `none`, a port, a range, or a list of ports and ranges.
var inbound = func() shape[Inbound] {
	ports := oneOrMore(portRange, "`none`, or ports and ranges such as 51821-51830")
	s := shape[Inbound]{described: described{what: "`none`, or ports and ranges", forms: []form{
		{what: "`none`", doc: "Nothing comes in; the router dials.", example: "none"},
		{what: "ports and ranges", example: "[\"51821-51830\", 51840]"},
	}}}
	s.schema = schema{"anyOf": []any{schema{"const": "none"}, ports.schema}}
	s.read = func(d *decoder, n *yaml.Node) (Inbound, bool) {
		if n.Kind == yaml.ScalarNode && strings.EqualFold(n.Value, "none") {
			return Inbound{None: true}, true
		}
		items, ok := ports.read(d, n)
		in := Inbound{}
		for _, p := range items {
			in.Ports = append(in.Ports, p.v)
		}
		slices.SortFunc(in.Ports, func(a, b PortRange) int { return a.First - b.First })
		return in, ok && len(in.Ports) > 0
	}
	return s
}()
