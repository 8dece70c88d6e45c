package spec

import (
	"fmt"
	"strings"
)

// Reference returns the documentation of the language in Markdown, made from the grammar:
// for each key what it takes, what it means and an example in its place.
func Reference() string {
	var b strings.Builder
	b.WriteString(referenceIntro)
	var contents []string
	grammar.walk(func(s *section) {
		if s.title != "" {
			contents = append(contents, fmt.Sprintf("[%s](#%s)", s.title, CleanName(s.title)))
		}
	})
	fmt.Fprintf(&b, "\n%s\n", strings.Join(contents, " · "))
	grammar.walk(func(s *section) {
		if s.title != "" {
			s.document(&b)
		}
	})
	b.WriteString(referenceRules)
	return b.String()
}

// document writes one section.
func (s *section) document(b *strings.Builder) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n", s.title, s.doc)
	for _, e := range s.entries {
		need := ""
		if e.required {
			need = ", required"
		}
		fmt.Fprintf(b, "\n### `%s:`\n\n*%s%s · %s*\n\n%s\n", e.key, sentence(e.what), need, e.concept, e.doc)
		if len(e.forms) > 0 {
			b.WriteString("\n| form | meaning |\n|---|---|\n")
			for _, f := range e.forms {
				text := f.doc
				if f.example != "" {
					text = strings.TrimSpace(text + " `" + e.key + ": " + s.formExample(e, f) + "`")
				}
				fmt.Fprintf(b, "| %s | %s |\n", f.what, strings.ReplaceAll(text, "|", "\\|"))
			}
		}
		fmt.Fprintf(b, "\n```yaml\n%s```\n", s.placed(e))
	}
}

// formExample returns a form's example as the value of its key.
func (s *section) formExample(e entry, f form) string {
	switch e.key {
	case "sites":
		return "{op1: " + f.example + "}"
	case "lan":
		return "{br-lan: " + f.example + "}"
	case "uplink":
		return "{eth0: " + f.example + "}"
	}
	return f.example
}

// placed returns the example of a key in its place in the file, with the keys that it
// cannot be without.
func (s *section) placed(e entry) string {
	var lines []string
	for _, other := range s.entries {
		beside := other.key == e.key || other.required
		for _, w := range e.with {
			beside = beside || other.key == w
		}
		if beside && (s.context != "…" || other.key == e.key) {
			lines = append(lines, other.key+": "+other.example)
		}
	}
	before, _, _ := strings.Cut(s.context, "…")
	indent := before[strings.LastIndexByte(before, '\n')+1:]
	indent = strings.Map(func(rune) rune { return ' ' }, indent)
	return before + strings.Join(lines, "\n"+indent) + "\n"
}

func sentence(text string) string {
	for i, r := range text {
		return strings.ToUpper(string(r)) + text[i+len(string(r)):]
	}
	return text
}

const referenceIntro = `# The network file

<!-- Generated from internal/spec by ` + "`go test ./internal/spec -run Generated -update`" + `; do not edit. -->

One file says which sites there are and what should reach what. ` + "`tombolo check FILE`" + ` says what
is wrong with it, with line and column and the way out, and to root on a router what other programs
there have in the way of tombolo's rules, tables and marks; ` + "`tombolo show FILE SITE`" + ` says what
it comes to on a router.

` + "```yaml" + `
network: home
overlay: 10.0.32.0/24

sites:
  op1:
    address: 10.0.32.1
    endpoint: op1.example.net
    lan: {br-lan: 192.168.35.0/24}
    uplink: {eth0: {address: 203.0.113.1/24, gateway: 203.0.113.254}}
  op2:
    address: 10.0.32.2
    lan: {br-lan: 192.168.36.0/24}
    uplink: {eth0: {address: 203.0.113.2/24, gateway: 203.0.113.254}}
  op3:
    address: 10.0.32.3
    endpoint: op3.example.net
    lan: {br-lan: 192.168.37.0/24}
    uplink: {eth0: dhcp}

links: mesh
` + "```" + `

The other examples on this page are parts of such a file. Below each key stands what it takes,
whether it is required, and the concept that it is about. An editor that knows JSON Schema shows
the same with ` + "`network.schema.json`" + `: for the YAML language server, let the file begin with
` + "`# yaml-language-server: $schema=network.schema.json`" + `.
`

var referenceRules = fmt.Sprintf(`
## What follows from the file

- **Addresses.** A site has the same host bits in `+"`overlay:` and `overlay6:`"+`. Without `+"`address:`"+` they
  are a hash of its name. Adding, removing or reordering other sites never changes them.
- **Ports.** The link between two sites listens, at each end, on that end's base port and the number
  of the other end's address in the overlay: at op1 the link to 10.0.32.3 on 51823, at op3 the link to
  10.0.32.1 on 51821. A site with static routing, or a plain one, has one interface for all its links;
  it listens on the base port and the site's own number. The base port itself is for clients.
- **Interfaces.** The link to op1 is `+"`wg-op1`"+` everywhere; a name that would be longer than %d
  characters is cut and ends in four characters of a hash. A static site has one, `+"`%s`"+`. Clients
  enter by `+"`%s`"+`.
- **Who dials.** A site with an `+"`endpoint:`"+` and an open port is dialled; one without dials. Two
  sites of which neither can be dialled have no link; others carry their traffic, and if there are
  none, the file is wrong.
- **Routes.** A Babel router announces its address, and each of its LANs while the device has
  carrier. Where a Babel router has a link to a static or plain site, it announces that site and what
  lies behind it, while the site's handshake is fresh; it sends a keepalive for that. AllowedIPs make
  a static site reachable by one way only: of several links between the static sites that are joined
  to each other and the Babel routers that are, only the cheapest carries traffic (`+"`cost:`"+`; the first
  by the names of its ends where that is equal). The others are set up, with no AllowedIPs.
- **Who is believed.** A router takes a prefix only from the site that has it in the file, or from the
  router at whose door it lies; what is not in the file it takes from nobody, but for `+"`accept:`"+`.
- **Clients.** A device is reached from everywhere, at whichever of the sites in `+"`at:`"+` it is: their
  routers tell the others (Babel). What has static routing looks for all devices at one of them, the
  first that has Babel, so clients may enter at a static site only where there is no other. What a
  device sends to other sites has its own address as its source; to the Internet it leaves where it
  entered, unless an exit is for it.
- **Sources.** Between sites a packet keeps the source that it has. Its source is changed where it
  leaves by an uplink (`+"`masquerade:`"+`), where `+"`nat:`"+` says so, and at the edge of a mapped LAN
  (`+"`as:`"+`), where its last bits stay. All routers but that LAN's own, and all of the file but what
  is said at that LAN's own site, know the mapped prefix only.
- **Who may talk to whom.** AllowedIPs and routes say where packets go, `+"`policy:`"+` which may. Without
  one, every part of the network reaches every other. What comes from the Internet, by a published
  port, or goes there, by an exit or an uplink, is decided by rules with `+"`internet`"+` alone.
- **What is not in the file.** Private keys, preshared keys, and everything that the router's own
  system does already: addresses of LANs and uplinks, DHCP, DNS.

## YAML, and less of it

A file is one document in UTF-8. Anchors, aliases, merge keys and tags are refused, so that what a file says is
what stands in it; so are duplicate keys, and `+"`yes`, `on`"+` and their like for `+"`true`"+`. A file has at
most %d MB, %d sites and %d levels of lists and mappings.

## What can be wrong

A diagnostic is an error, a warning or a note. An error means that the file has no meaning, and
nothing is done with it; all of them are reported at once. A warning means that it has, and probably
not the one that was meant, or that this version does not build it yet. With `+"`--json`"+` each has a
code that does not change, such as `+"`overlapping-lans`"+`.
`, maxInterface, StaticInterface, ClientsInterface, maxFile>>20, maxSites, maxDepth)
