package enroll

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	yaml "go.yaml.in/yaml/v4"
)

// page is the text of a network file, and the nodes that YAML sees in it.
type page struct {
	text    string
	root    *yaml.Node // a mapping
	starts  []int      // offset of each line
	newline string     // what ends a line of it

	splices []splice // changes to the text, whose tree has them already
}

// splice puts text in the place of text[from:to]. No two overlap, and those that insert at one
// place do it in their order.
type splice struct {
	from, to int
	text     string
}

// ErrLayout is what errors.Is finds when a file is laid out in a way that cannot be edited.
var ErrLayout = errors.New("the file is laid out in a way that is not edited safely")

// open reads a text that spec.Parse takes; so there are no aliases, tags and anchors in it.
func open(text string) (*page, error) {
	root, err := parse(text)
	if err != nil {
		return nil, err
	}
	p := &page{text: text, root: root, starts: []int{0}, newline: "\n"}
	for i, r := range text {
		switch {
		case r == '\r' && strings.HasPrefix(text[i+1:], "\n"):
			p.newline = "\r\n"
		case strings.ContainsRune(lineBreaks, r):
			p.starts = append(p.starts, i+utf8.RuneLen(r))
		}
	}
	return p, nil
}

// lineBreaks are the characters that end a line for the YAML reader (YAML 1.1 §4.1.4).
const lineBreaks = "\n\r\u0085\u2028\u2029"

func parse(text string) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLayout, err)
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%w: it is no mapping", ErrLayout)
	}
	return doc.Content[0], nil
}

// done carries the changes out. The error says that the text would not read as it should.
func (p *page) done() (*page, error) {
	slices.SortStableFunc(p.splices, func(a, b splice) int { return a.from - b.from })
	var out strings.Builder
	at := 0
	for _, s := range p.splices {
		if s.from < at || s.to < s.from || s.to > len(p.text) {
			return nil, ErrLayout
		}
		out.WriteString(p.text[at:s.from] + s.text)
		at = s.to
	}
	out.WriteString(p.text[at:])
	after, err := open(out.String())
	if err != nil {
		return nil, err
	}
	if !equal(p.root, after.root) {
		return nil, fmt.Errorf("%w: the change would reach more than it should", ErrLayout)
	}
	return after, nil
}

// equal reports whether two trees say the same, in the same order.
func equal(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || a.Value != b.Value || a.Kind == yaml.ScalarNode && a.Tag != b.Tag || len(a.Content) != len(b.Content) {
		return false
	}
	for i := range a.Content {
		if !equal(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}

// find returns the index of a key among a mapping's entries, or -1.
func find(m *yaml.Node, key string) int {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return i / 2
		}
	}
	return -1
}

// get returns the mapping that is a key's value, or nil.
func get(m *yaml.Node, key string) *yaml.Node {
	if i := find(m, key); i >= 0 && m.Content[2*i+1].Kind == yaml.MappingNode {
		return m.Content[2*i+1]
	}
	return nil
}

func isFlow(n *yaml.Node) bool { return n.Style&yaml.FlowStyle != 0 }

// isNothing reports whether a key has no value at all, not even a `~`.
func isNothing(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Value == "" && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
}

// begin returns the offset of a node.
func (p *page) begin(n *yaml.Node) int {
	if n.Line < 1 || n.Line > len(p.starts) {
		return len(p.text)
	}
	i := p.starts[n.Line-1]
	if n.Line == 1 && strings.HasPrefix(p.text, "\ufeff") {
		i += len("\ufeff") // which has no column
	}
	for range n.Column - 1 {
		_, size := utf8.DecodeRuneInString(p.text[i:])
		i += size
	}
	return i
}

// end returns the offset behind a node, which YAML does not tell. The column is that of the
// block in which it lies.
func (p *page) end(n *yaml.Node, column int) int {
	i := p.begin(n)
	switch {
	case n.Kind == yaml.MappingNode && !isFlow(n):
		return p.entryEnd(n, len(n.Content)/2-1)
	case n.Kind == yaml.SequenceNode && !isFlow(n):
		return p.end(n.Content[len(n.Content)-1], n.Column)
	case n.Kind == yaml.MappingNode:
		i++
		if len(n.Content) > 0 {
			i = p.entryEnd(n, len(n.Content)/2-1)
		}
		return p.closing(i)
	case n.Kind == yaml.SequenceNode:
		i++
		if len(n.Content) > 0 {
			i = p.end(n.Content[len(n.Content)-1], column)
		}
		return p.closing(i)
	case n.Style&yaml.SingleQuotedStyle != 0:
		return p.quoteEnd(i+1, '\'')
	case n.Style&yaml.DoubleQuotedStyle != 0:
		return p.quoteEnd(i+1, '"')
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return p.blockScalarEnd(i, column)
	}
	return p.plainEnd(i, n.Value)
}

// entryEnd returns the offset behind the i-th entry of a mapping.
func (p *page) entryEnd(m *yaml.Node, i int) int {
	if v := m.Content[2*i+1]; !isNothing(v) {
		return p.end(v, m.Column)
	}
	if colon, ok := p.colon(m, i); ok {
		return colon
	}
	return p.end(m.Content[2*i], m.Column)
}

// colon returns the offset behind the colon of a mapping's i-th entry, if it has one on the
// line of its key: in {a, b} there is none.
func (p *page) colon(m *yaml.Node, i int) (int, bool) {
	at := p.skip(p.end(m.Content[2*i], m.Column), " \t")
	if at < len(p.text) && p.text[at] == ':' {
		return at + 1, true
	}
	return 0, false
}

// closing returns the offset behind the bracket that closes a collection whose last item
// ends at i.
func (p *page) closing(i int) int {
	for ; i < len(p.text); i++ {
		switch p.text[i] {
		case '}', ']':
			return i + 1
		case '#':
			i = p.lineEnd(i) - 1
		}
	}
	return len(p.text)
}

// quoteEnd returns the offset behind the quote that ends a text. Two single quotes stand
// for one.
func (p *page) quoteEnd(i int, quote byte) int {
	for ; i < len(p.text); i++ {
		switch {
		case p.text[i] == '\\' && quote == '"':
			i++
		case p.text[i] != quote:
		case quote == '\'' && strings.HasPrefix(p.text[i:], "''"):
			i++
		default:
			return i + 1
		}
	}
	return len(p.text)
}

// plainEnd follows a text that has no quotes; it may go on over several lines.
func (p *page) plainEnd(i int, value string) int {
	const blanks = " \t" + lineBreaks
	for _, r := range value {
		if strings.ContainsRune(blanks, r) {
			i = p.skip(i, blanks)
			continue
		}
		i += utf8.RuneLen(r)
	}
	return min(i, len(p.text))
}

// blockScalarEnd returns the end of the last line of a text that stands below its `|`, in a
// block with the given column: of those that are indented more than the block.
func (p *page) blockScalarEnd(i, column int) int {
	end := p.lineEnd(i)
	for l := p.line(i) + 1; l < len(p.starts); l++ {
		start := p.starts[l]
		first := p.skip(start, " ")
		switch {
		case first == p.lineEnd(start): // an empty line, which may be within it
		case first-start < column:
			return end
		default:
			end = p.lineEnd(start)
		}
	}
	return end
}

// skip returns the offset of the first character from i on that is none of those.
func (p *page) skip(i int, those string) int {
	return len(p.text) - len(strings.TrimLeft(p.text[i:], those))
}

// line returns the line in which an offset lies, counted from 0.
func (p *page) line(i int) int {
	n, found := slices.BinarySearch(p.starts, i)
	if !found {
		n--
	}
	return n
}

// lineEnd returns where the line of an offset ends, before what ends it.
func (p *page) lineEnd(i int) int {
	l := p.line(i)
	if l+1 == len(p.starts) {
		return len(p.text)
	}
	return p.starts[l] + len(strings.TrimRight(p.text[p.starts[l]:p.starts[l+1]], lineBreaks))
}

// nextLine returns the offset of the line after that of i.
func (p *page) nextLine(i int) int {
	if l := p.line(i) + 1; l < len(p.starts) {
		return p.starts[l]
	}
	return len(p.text)
}

// restIsComment reports whether nothing but a comment follows on the line of i.
func (p *page) restIsComment(i int) bool {
	rest := strings.TrimLeft(p.text[i:p.lineEnd(i)], " \t")
	return rest == "" || rest[0] == '#'
}

// indent returns what stands before i on its line, if that is white space alone.
func (p *page) indent(i int) (string, bool) {
	before := p.text[p.starts[p.line(i)]:i]
	return before, strings.Trim(before, " \t") == ""
}
