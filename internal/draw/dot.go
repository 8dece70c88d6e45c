package draw

import (
	"bytes"
	"strings"

	"tombolo/internal/spec"
)

// Dot returns n in the language of Graphviz. It is laid out by dot where it is small and by
// neato, which suits networks, where it is large; `dot -Tsvg` reads which from the file.
func Dot(n *spec.Network) []byte {
	s := newSketch(n)
	var b bytes.Buffer
	b.WriteString("graph " + dotQuote(s.title) + " {\n")
	b.WriteString("  graph [label=" + dotQuote(s.title) + ", labelloc=t, fontname=\"sans-serif\", fontsize=20")
	if s.large {
		b.WriteString(", layout=neato, overlap=false, splines=true, sep=\"+8\"")
	} else {
		b.WriteString(", layout=dot, ranksep=0.7, nodesep=0.6")
	}
	b.WriteString("];\n")
	b.WriteString("  node [fontname=\"sans-serif\", fontsize=11, shape=box, color=\"" + ink + "\", fontcolor=\"" + ink + "\"];\n")
	b.WriteString("  edge [fontname=\"sans-serif\", fontsize=10, fontcolor=\"" + muted + "\"];\n")
	for _, v := range s.nodes {
		b.WriteString("  " + v.id + " [label=" + dotQuote(strings.Join(v.lines, "\n")) + dotNode[v.kind] + "];\n")
	}
	for _, e := range s.edges {
		b.WriteString("  " + e.a + " -- " + e.b + " [" + dotEdge[e.kind])
		if e.label != "" {
			b.WriteString(", label=" + dotQuote(e.label))
		}
		b.WriteString("];\n")
	}
	b.WriteString("}\n")
	return b.Bytes()
}

var dotNode = map[nodeKind]string{
	siteNode:     `, style=rounded`,
	meshNode:     `, shape=ellipse, style=filled, fillcolor="` + pale + `", color="` + pale + `"`,
	lanNode:      `, style=filled, fillcolor="` + wash + `", color="` + hair + `"`,
	internetNode: `, shape=ellipse, style=filled, fillcolor="` + wash + `", color="` + hair + `"`,
	clientsNode:  `, style=rounded, color="` + green + `"`,
}

var dotEdge = map[edgeKind]string{
	tunnelEdge:  `color="` + blue + `", penwidth=1.6`,
	deadEdge:    `color="` + faint + `", style=dashed`,
	directEdge:  `color="` + muted + `", penwidth=1.6`,
	memberEdge:  `color="` + pale + `", penwidth=4`,
	uplinkEdge:  `color="` + muted + `"`,
	lanEdge:     `color="` + muted + `"`,
	doorEdge:    `color="` + green + `", style=dotted, constraint=false`,
	exitEdge:    `color="` + orange + `", fontcolor="` + orange + `", dir=forward, constraint=false`,
	publishEdge: `color="` + orange + `", fontcolor="` + orange + `", dir=forward, constraint=false`,
	segmentEdge: `color="` + violet + `:white:` + violet + `", fontcolor="` + violet + `", constraint=false`,
}

// dotQuote writes a quoted string. Inside, Graphviz knows \ escapes and, in labels, HTML
// character references.
func dotQuote(text string) string {
	text = printable(text, "\n")
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "&", "&amp;", "\n", `\n`).Replace(text) + `"`
}

// printable replaces what is no text by U+FFFD: invalid UTF-8, and control characters that
// are not in keep.
func printable(text, keep string) string {
	return strings.Map(func(r rune) rune {
		if (r < ' ' || 0x7f <= r && r < 0xa0) && !strings.ContainsRune(keep, r) {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}
