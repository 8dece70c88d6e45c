package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	yaml "go.yaml.in/yaml/v4"
)

var siteName = text("the name of a site")

// links reads one way of joining sites, or a list of them.
var links = func() shape[[]linkDecl] {
	s := shape[[]linkDecl]{described: described{what: "`mesh`, `{star: …}`, `{chain: […]}`, or a list", sub: betweenRecord.section(), forms: []form{
		{what: "`mesh`", doc: "Every two sites.", example: "mesh"},
		{what: "`{star: hub}`", doc: "One site and each of the others.", example: "{star: op1}"},
		{what: "`{chain: […]}`", doc: "Each site and the next.", example: "{chain: [op2, op1, op3]}"},
		{what: "a list", doc: "Any of these together, and groups: a group joins every two of its sites, so a group of two is a pair.", example: "[[op1, op2], {star: op3}]"},
		{what: "`{between: […], …}`", doc: "In a list: a pair with options, which it has also where something else joins the two. See [Links](#links).", example: "[mesh, {between: [op1, op2], keepalive: 25s}]"},
	}}}
	group := list(siteName, "a list of at least two sites", 2)
	names := list(siteName, "a list of sites", 2)
	one := schema{"anyOf": []any{schema{"const": "mesh"}, starRecord.section().object(), chainRecord.section().object(), betweenRecord.section().object()}}
	s.schema = schema{"anyOf": []any{one, schema{"type": "array", "items": schema{"anyOf": []any{one, group.schema}}}}}
	s.read = func(d *decoder, n *yaml.Node) ([]linkDecl, bool) {
		if n.Kind != yaml.SequenceNode {
			l, ok := readLink(d, n, names)
			return []linkDecl{l}, ok
		}
		if allSites(n) {
			var names []string
			for _, c := range n.Content {
				names = append(names, clip(c.Value))
			}
			d.err(posOf(n), codeWrongType, fmt.Sprintf("a group is a list in the list: `links: [[%s]]`", few(names, 4)), "`links:` is a list of names here, not of links")
			return nil, false
		}
		var out []linkDecl
		all := true
		for _, c := range n.Content {
			l, ok := readLink(d, c, names)
			if all = all && ok; ok {
				out = append(out, l)
			}
		}
		return out, all
	}
	return s
}()

// allSites reports whether a list of links holds names only, as a group does.
func allSites(n *yaml.Node) bool {
	for _, c := range n.Content {
		if c.Kind != yaml.ScalarNode || c.Value == "mesh" || isNull(c) {
			return false
		}
	}
	return len(n.Content) > 0
}

// readLink reads an element of `links:`.
func readLink(d *decoder, n *yaml.Node, names shape[[]at[string]]) (linkDecl, bool) {
	l := linkDecl{Pos: posOf(n)}
	const what = "`mesh`, `{star: hub}`, `{chain: [a, b]}`, `{between: [a, b]}` or `[a, b]`"
	switch {
	case n.Kind == yaml.ScalarNode && n.Value == "mesh":
		l.form = meshForm
		return l, true
	case n.Kind == yaml.ScalarNode && !isNull(n):
		hint := "a star is `{star: hub}`, a chain `{chain: [a, b, c]}`"
		if near := nearest(n.Value, []string{"mesh"}); near != "" {
			hint = "did you mean `mesh`?"
		}
		d.err(posOf(n), codeWrongType, hint, "a link is %s, not %s", what, kindOf(n))
		return l, false
	case n.Kind == yaml.SequenceNode:
		l.form = groupForm
		sites, ok := names.read(d, n)
		l.sites = sites
		return l, ok
	case n.Kind != yaml.MappingNode:
		d.err(posOf(n), codeNoValue, "delete it, or write "+what, "an item of `links:` is empty")
		return l, false
	}
	return readLinkMapping(d, n, l)
}

func readLinkMapping(d *decoder, n *yaml.Node, l linkDecl) (linkDecl, bool) {
	has := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		has[n.Content[i].Value] = n.Content[i]
	}
	switch star, chain, between := has["star"], has["chain"], has["between"]; {
	case star != nil && chain != nil, star != nil && between != nil, chain != nil && between != nil:
		d.err(posOf(n), codeTooMany, "make a list of them: `links: [{star: a}, {chain: [b, c]}]`", "a mapping in `links:` is one of `star:`, `chain:` and `between:`, and this has more")
		return l, false
	case star != nil:
		var s starDecl
		l.form = starForm
		ok := starRecord.read(d, n, &s)
		l.star = s.star
		return l, ok && s.star.ok
	case chain != nil:
		var c chainDecl
		l.form = chainForm
		ok := chainRecord.read(d, n, &c)
		l.sites = c.chain.v
		return l, ok && c.chain.ok
	case between == nil:
		d.doubt = true
		hint := "for example `{star: op1}`, `{chain: [op1, op2]}` or `{between: [op1, op2], mtu: 1380}`"
		for _, k := range slices.Sorted(maps.Keys(has)) {
			if near := nearest(strings.ToLower(k), []string{"star", "chain", "between"}); near != "" {
				hint = fmt.Sprintf("did you mean `%s:`?", near)
			}
		}
		d.err(posOf(n), codeMissingKey, hint, "a mapping in `links:` has `star:`, `chain:` or `between:`, and this has none of them")
		return l, false
	}
	l.form = betweenForm
	ok := betweenRecord.read(d, n, &l.options)
	l.sites = l.options.between.v
	return l, ok && l.options.between.ok
}

type starDecl struct{ star at[string] }

var starRecord = record[starDecl]{noun: "star", context: "links:\n  …", fields: []field[starDecl]{
	{entry{key: "star", concept: "link", required: true, also: []string{"hub"}, example: "op1", doc: "The site that all others are joined to."},
		into(siteName, func(s *starDecl) *at[string] { return &s.star })},
}}

type chainDecl struct{ chain at[[]at[string]] }

var chainRecord = record[chainDecl]{noun: "chain", context: "links:\n  …", fields: []field[chainDecl]{
	{entry{key: "chain", concept: "link", required: true, example: "[op2, op1, op3]", doc: "Sites, each joined to the next."},
		into(list(siteName, "a list of at least two sites", 2), func(c *chainDecl) *at[[]at[string]] { return &c.chain })},
}}

// betweenRecord is a pair of sites with options.
var betweenRecord = record[betweenDecl]{
	noun:    "link",
	title:   "Links",
	context: "links:\n  - mesh\n  - …",
	doc:     "A link is a WireGuard tunnel of two sites, with an interface of its own at each end unless the end's routing is `static`.",
	fields: []field[betweenDecl]{
		{entry{key: "between", concept: "link", required: true, also: []string{"pair", "sites", "of"}, example: "[op1, op2]",
			doc: "The two sites. If nothing else joins them, this does."},
			into(pair, func(l *betweenDecl) *at[[]at[string]] { return &l.between })},
		{entry{key: "mtu", concept: "link", example: "1380",
			doc: "The MTU of the tunnel in bytes, at both ends. Left out, it is what the smaller of the two uplinks leaves: 60 bytes less over IPv4, 80 over IPv6. Between two Babel routers, which speak IPv6, it is at least 1280."},
			into(number("an MTU", 576, 65535), func(l *betweenDecl) *at[int] { return &l.mtu })},
		{entry{key: "keepalive", concept: "link", also: []string{"persistent-keepalive", "persistentkeepalive"}, example: "25s",
			doc: "How often an end speaks when there is nothing to say, in seconds or as `25s`; `off` for never. Left out, an end that cannot be dialled speaks every 25 seconds, so that its NAT stays open."},
			into(keepalive, func(l *betweenDecl) *at[time.Duration] { return &l.keepalive })},
		{entry{key: "psk", concept: "link", also: []string{"preshared-key", "presharedkey", "preshared_key"}, example: "true",
			doc: "Whether the two also share a symmetric key, which lies in a file on both routers. Default: `false`."},
			into(psk, func(l *betweenDecl) *at[bool] { return &l.psk })},
		{entry{key: "cost", concept: "routing", also: []string{"metric", "weight"}, example: "3",
			doc: "What routing pays for the link; the way with the lowest sum wins. Default: 1. Between two Babel routers it is in milliseconds, at most 1000, and stands beside the delay that they measure: `cost: 20` makes the link as good as one that is 20 ms longer, and the default prefers the way with fewer routers on it. Elsewhere it is all that counts."},
			into(number("a cost", 1, 65534), func(l *betweenDecl) *at[int] { return &l.cost })},
		{entry{key: "port", concept: "link", also: []string{"ports", "listen-port", "listenport"}, example: "{op1: 53000}",
			doc: "The UDP port of the link, instead of base and number: one for both ends, or by site."},
			into(ports, func(l *betweenDecl) *at[portsDecl] { return &l.port })},
		{entry{key: "transport", concept: "link", with: []string{"on"}, example: "none",
			doc: "`none` for two sites on one LAN, which need no tunnel: their packets go there as they are."},
			into(transport, func(l *betweenDecl) *at[string] { return &l.transport })},
		{entry{key: "on", concept: "link", with: []string{"transport"}, also: []string{"device", "devices", "dev"}, example: "{op1: eth0, op2: eth0}",
			doc: "With `transport: none`: the device of each end on that LAN: an uplink with a fixed address, or of two Babel routers also a LAN."},
			into(mapOf("site", "the device of each of the two sites", text("a device")), func(l *betweenDecl) *at[[]named[string]] { return &l.on })},
	},
}

// pair is two sites.
var pair = func() shape[[]at[string]] {
	const what = "a list of two sites"
	s := list(siteName, what, 2)
	s.schema = schema{"type": "array", "items": siteName.schema, "minItems": 2, "maxItems": 2}
	read := s.read
	s.read = func(d *decoder, n *yaml.Node) ([]at[string], bool) {
		names, ok := read(d, n)
		if len(names) > 2 {
			d.err(posOf(n), codeTooMany, "write one `between:` for each pair; without options a group `[a, b, c]` joins every two", "`between:` takes two sites, and this has %d", len(names))
			return nil, false
		}
		return names, ok && len(names) == 2
	}
	return s
}()

// psk is a boolean; a key in its place gets its own words.
var psk = func() shape[bool] {
	s := boolean
	s.read = func(d *decoder, n *yaml.Node) (bool, bool) {
		if n.Kind == yaml.ScalarNode && len(n.Value) >= 40 {
			d.err(posOf(n), codeSecret, "write `psk: true`, and put the key itself into its file on both routers (`tombolo key psk SITE SITE` makes it)", "a preshared key has no place in the network file")
			return false, false
		}
		return boolean.read(d, n)
	}
	return s
}()

var transport = scalar("`none`", schema{"const": "none"}, func(text string) (string, *mistake) {
	if text == "none" {
		return text, nil
	}
	return "", &mistake{hint: "leave `transport:` out for a tunnel, which is UDP"}
})

// ports reads one port, or a port by site.
var ports = func() shape[portsDecl] {
	each := mapOf("site", "a port, or a port by site", port)
	s := shape[portsDecl]{described: described{what: "a port, or a port by site", forms: []form{
		{what: "a port", example: "53000"},
		{what: "a port by site", example: "{op1: 53000, op2: 53001}"},
	}}}
	s.schema = schema{"anyOf": []any{port.schema, each.schema}}
	s.read = func(d *decoder, n *yaml.Node) (portsDecl, bool) {
		if n.Kind == yaml.MappingNode {
			v, ok := each.read(d, n)
			return portsDecl{each: v}, ok
		}
		v, ok := port.read(d, n)
		return portsDecl{both: v}, ok
	}
	return s
}()
