package draw

import (
	"bytes"
	"strconv"
	"strings"
	"unicode"

	"tombolo/internal/spec"
)

// Mermaid returns n as a Mermaid flowchart, which Git hosts draw where it stands in a page.
func Mermaid(n *spec.Network) []byte {
	s := newSketch(n)
	var b bytes.Buffer
	b.WriteString("---\ntitle: " + yamlQuote(s.title) + "\n---\nflowchart TB\n")
	for _, v := range s.nodes {
		lines := make([]string, len(v.lines))
		for i, l := range v.lines {
			lines[i] = mermaidText(l)
		}
		shape := mermaidNode[v.kind]
		b.WriteString("  " + v.id + shape.open + `"` + strings.Join(lines, "<br/>") + `"` + shape.end + ":::" + shape.class + "\n")
	}
	styles := map[edgeKind][]string{}
	for i, e := range s.edges {
		b.WriteString("  " + e.a + " " + mermaidEdge[e.kind].line)
		if e.label != "" {
			b.WriteString(`|"` + mermaidText(e.label) + `"|`)
		}
		b.WriteString(" " + e.b + "\n")
		styles[e.kind] = append(styles[e.kind], strconv.Itoa(i))
	}
	for _, shape := range mermaidNode {
		b.WriteString("  classDef " + shape.class + " " + shape.style + "\n")
	}
	for k, e := range mermaidEdge {
		if which := styles[edgeKind(k)]; len(which) > 0 {
			b.WriteString("  linkStyle " + strings.Join(which, ",") + " " + e.style + "\n")
		}
	}
	return b.Bytes()
}

var mermaidNode = [...]struct{ open, end, class, style string }{
	siteNode:     {"[", "]", "site", "fill:" + paper + ",stroke:" + ink + ",color:" + ink},
	meshNode:     {"([", "])", "mesh", "fill:" + pale + ",stroke:" + pale + ",color:" + blue},
	lanNode:      {"[", "]", "lan", "fill:" + wash + ",stroke:" + hair + ",color:" + ink},
	internetNode: {"([", "])", "internet", "fill:" + wash + ",stroke:" + hair + ",color:" + muted},
	clientsNode:  {"[", "]", "clients", "fill:" + paper + ",stroke:" + green + ",color:" + ink},
}

var mermaidEdge = [...]struct{ line, style string }{
	tunnelEdge:  {"---", "stroke:" + blue + ",stroke-width:2px"},
	deadEdge:    {"-.-", "stroke:" + faint},
	directEdge:  {"---", "stroke:" + muted + ",stroke-width:2px"},
	memberEdge:  {"---", "stroke:" + pale + ",stroke-width:4px"},
	uplinkEdge:  {"---", "stroke:" + muted},
	lanEdge:     {"---", "stroke:" + muted},
	doorEdge:    {"-.-", "stroke:" + green},
	exitEdge:    {"-->", "stroke:" + orange + ",color:" + orange},
	publishEdge: {"-->", "stroke:" + orange + ",color:" + orange},
	segmentEdge: {"===", "stroke:" + violet + ",color:" + violet},
}

// mermaidText escapes text for a quoted label. What is neither letter nor digit nor
// harmless becomes an entity code (#34; for a quotation mark). The colon becomes one in a
// text that Mermaid's preprocessor could take for a style statement.
func mermaidText(text string) string {
	harmless := " .,_-/()+:→·–"
	if strings.Contains(text, "style") || strings.Contains(text, "classDef") {
		harmless = " .,_-/()+→·–"
	}
	var b strings.Builder
	for _, r := range printable(text, "") {
		if r == '\uFFFD' || unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(harmless, r) {
			b.WriteRune(r)
		} else {
			b.WriteString("#" + strconv.Itoa(int(r)) + ";")
		}
	}
	return b.String()
}

// yamlQuote writes a double-quoted YAML scalar.
func yamlQuote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(printable(text, "")) + `"`
}
