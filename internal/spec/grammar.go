package spec

import "net/netip"

// fileRecord is the language: everything that a network file may hold hangs on it. The
// decoder, the JSON Schema and the documentation are made from it and from the records
// that it names (grammar_sites.go, grammar_links.go, grammar_traffic.go,
// grammar_access.go).
//
// The first sentence of each doc is what an editor shows; the examples are values, in
// YAML, and each parses where it stands (see the tests).
var fileRecord = record[fileDecl]{
	noun:    "the network file",
	title:   "The file",
	context: "…",
	doc:     "A network file is YAML: one mapping, in UTF-8. It needs a name, an overlay and sites; everything else has a default.",
	fields: []field[fileDecl]{
		{entry{key: "network", concept: "network", required: true, also: []string{"name"}, example: "home",
			doc: "The network's name. It is part of the mark on everything that tombolo makes, and of the IPv6 addresses where `overlay6:` is left out."},
			into(nameOf("network"), func(f *fileDecl) *at[string] { return &f.network })},
		{entry{key: "overlay", concept: "address", required: true, also: []string{"subnet", "cidr", "overlay4"}, example: "10.0.32.0/24",
			doc: "The IPv4 prefix of the routers' own addresses, one for each. It is private and part of no LAN. Take a roomy one: a site that names no `address:` gets one by the hash of its name, and in a small prefix two of them meet soon."},
			into(prefix(ipv4), func(f *fileDecl) *at[netip.Prefix] { return &f.overlay })},
		{entry{key: "overlay6", concept: "address", also: []string{"overlay-6", "overlayv6", "ula"}, example: "fd5e:1f0c:8a34::/48",
			doc: "The same for IPv6: a unique local prefix (RFC 4193) of length 48. A router has the same host bits in both. Left out, it is derived from `network:` and `overlay:`; `tombolo init` writes a random one."},
			into(prefix(ula), func(f *fileDecl) *at[netip.Prefix] { return &f.overlay6 })},
		{entry{key: "routing", concept: "routing", example: "static",
			doc: "How the routers learn their routes: `babel` (the default), an interface for each link and routers that tell each other what they reach, take the fastest way and leave a dead one (RFC 8966; `tombolo agent` does it); or `static`, one interface `wg_s2s` whose AllowedIPs and routes are computed from this file. A site can differ: see [what follows](#what-follows-from-the-file)."},
			into(routing, func(f *fileDecl) *at[Routing] { return &f.routing })},
		{entry{key: "sites", concept: "site", required: true, reach: true, also: []string{"site", "routers", "nodes", "hosts", "peers"},
			example: "{op1: op1.example.net, op2: {lan: {br-lan: 192.168.36.0/24}}}",
			doc:     "The routers, by name. A name has lower-case letters, digits and hyphens, and names the interfaces that lead to the site: `wg-op1`."},
			into(sites, func(f *fileDecl) *at[[]named[siteDecl]] { return &f.sites })},
		{entry{key: "links", concept: "link", reach: true, also: []string{"link", "tunnels", "topology", "mesh", "star", "chain"}, example: "mesh",
			doc: "Which sites are joined by a tunnel. Left out, every two are. A link is made if one end can be dialled; where neither can, routing goes round by other sites."},
			into(links, func(f *fileDecl) *at[[]linkDecl] { return &f.links })},
		{entry{key: "clients", concept: "client", also: []string{"client", "devices", "phones", "roaming"}, example: "{pool: 10.0.31.0/24, at: [op1, op2], devices: {phone: {address: 10.0.31.10}}}",
			doc: "Roaming devices with the stock WireGuard app."},
			into(clientsRecord.shape(), func(f *fileDecl) *at[clientsDecl] { return &f.clients })},
		{entry{key: "exits", concept: "exit", also: []string{"exit", "gateways"}, example: "[{for: op2, via: op1}]",
			doc: "Whose traffic to the Internet leaves where."},
			into(list(exitRecord.shape(), "a list of exits", 0), func(f *fileDecl) *at[[]at[exitDecl]] { return &f.exits })},
		{entry{key: "nat", concept: "nat", also: []string{"snat", "masq", "masquerade", "masquerading", "translate"}, example: "[{at: op1, masquerade: op1, to: op3}]",
			doc: "Whose packets get a router's own address as their source on the way to other sites. Left out, all keep their true ones."},
			into(list(natRecord.shape(), "a list of source translations", 0), func(f *fileDecl) *at[[]at[natDecl]] { return &f.nat })},
		{entry{key: "publish", concept: "nat", also: []string{"published", "forwards", "port-forwards", "dnat"}, example: "[{at: op1, port: 8443/tcp, to: 192.168.36.10:443}]",
			doc: "Ports of a site's uplinks that lead to a host of the network."},
			into(list(publishRecord.shape(), "a list of published ports", 0), func(f *fileDecl) *at[[]at[publishDecl]] { return &f.publish })},
		{entry{key: "policy", concept: "policy", also: []string{"policies", "access", "firewall", "acl", "acls", "rules", "filter", "allow", "deny"}, example: "{default: deny, rules: [{from: op2, to: op1, allow: all}]}",
			doc: "Who may open connections to whom. Left out, every part of the network may to every other."},
			into(policyRecord.shape(), func(f *fileDecl) *at[policyDecl] { return &f.policy })},
		{entry{key: "segments", concept: "segment", also: []string{"segment", "bridges", "l2"}, example: "{campus: {attach: {op1: {bridge: br-wan}, op2: {dhcpv6: {delegate-to: br-lan}}}}}",
			doc: "Layer 2 networks that stretch over several sites, by name. *Not built in this version: a warning.*"},
			into(mapOf("segment", "a mapping from names to segments", segmentRecord.shape()), func(f *fileDecl) *at[[]named[segmentDecl]] { return &f.segments })},
		{entry{key: "settings", concept: "network", also: []string{"options", "config"}, example: "{port: 51820}",
			doc: "The numbers by which tombolo lives beside other programs on a router. The defaults keep away from fw4, docker, mwan3, pbr, Tailscale, babeld and BIRD."},
			into(settingsRecord.shape(), func(f *fileDecl) *at[settingsDecl] { return &f.settings })},
	},
}

var settingsRecord = record[settingsDecl]{
	noun:    "the settings",
	title:   "Settings",
	context: "settings:\n  …",
	doc:     "Every router of the network has the same ones.",
	fields: []field[settingsDecl]{
		{entry{key: "port", concept: "link", also: []string{"listen-port", "listenport", "base-port"}, example: "51820",
			doc: "The base UDP port of sites that do not name one. Default: 51820. A link listens on the base and the number of the other end's address in the overlay, so the link to 10.0.32.3 on 51823; the base itself is for clients."},
			into(port, func(s *settingsDecl) *at[int] { return &s.port })},
		{entry{key: "table", concept: "routing", example: "110",
			doc: "The routing table that holds the way to all other sites; others are counted from it. The next one holds where their packets end while there is no way; 32 from the 20th after it, or from 256 where the kernel's 253 to 255 would be among them, learned ways for some sources only; 17 from the 90th, or from the 290th, the uplinks together and each; those from the 1000th the ways back into tunnels; those from the 2000th the exits, one for each source. Default: 110."},
			into(word32("a routing table", mostTable), func(s *settingsDecl) *at[uint32] { return &s.table })},
		{entry{key: "priority", concept: "routing", also: []string{"pref", "preference"}, example: "500",
			doc: "The first of a hundred priorities of routing rules. Default: 500."},
			into(word32("the priority of the first rule", 32765-99), func(s *settingsDecl) *at[uint32] { return &s.priority })},
		{entry{key: "mark", concept: "routing", also: []string{"fwmark"}, example: "0x7f000000",
			doc: "The firewall mark of the tunnels' own packets, within the mask, and there none of the first 65 numbers. Default: 0x7f000000."},
			into(word32("a mark", 0xffffffff), func(s *settingsDecl) *at[uint32] { return &s.mark })},
		{entry{key: "mask", concept: "routing", also: []string{"fwmask"}, example: "0xff000000",
			doc: "The bits of firewall and connection marks that are tombolo's; the others are never touched. They are beside each other, and seven at least: the numbers from 1 are of the uplinks that connections came in by, from 17 of those that they left by, from 33 of the tunnels that they came in by; 65 is of what left towards an exit. Default: 0xff000000."},
			into(word32("a mask", 0xffffffff), func(s *settingsDecl) *at[uint32] { return &s.mask })},
		{entry{key: "protocol", concept: "routing", also: []string{"proto"}, example: "84",
			doc: "The protocol number on tombolo's routes and rules, by which it knows them again; learned routes have the next one, and what follows the uplinks the one after. Default: 84."},
			into(number("a protocol number", 0, 253), func(s *settingsDecl) *at[int] { return &s.protocol })},
		{entry{key: "nft-table", concept: "network", also: []string{"nfttable", "nft_table", "nftables"}, example: "tombolo",
			doc: "The name of tombolo's nftables table. Default: `tombolo`."},
			into(text("a name"), func(s *settingsDecl) *at[string] { return &s.nftTable })},
	},
}
