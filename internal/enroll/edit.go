package enroll

import (
	"fmt"
	"slices"
	"strings"

	yaml "go.yaml.in/yaml/v4"
)

// field is an entry of a mapping: a key, and its value as YAML in one line.
type field struct{ key, value string }

func (f field) String() string { return f.key + ": " + f.value }

// flow writes fields as a mapping in one line.
func flow(fields []field) string {
	parts := make([]string, len(fields))
	for i, f := range fields {
		parts[i] = f.String()
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// block writes fields as a mapping below its key, each on a line that begins with indent.
func (p *page) block(fields []field, indent int) string {
	var b strings.Builder
	for _, f := range fields {
		b.WriteString(p.newline + strings.Repeat(" ", indent) + f.String())
	}
	return b.String()
}

func (p *page) splice(from, to int, text string) {
	p.splices = append(p.splices, splice{from, to, text})
}

// put gives a key of a mapping a value: in its place, or else as a new entry behind the
// entry with the index after, or behind the last one if that is -1.
func (p *page) put(m *yaml.Node, after int, f field) error {
	if i := find(m, f.key); i >= 0 {
		return p.replace(m, i, f)
	}
	return p.insert(m, after, f.String())
}

// insert makes a new entry of a mapping: its whole text, whose further lines are indented
// already.
func (p *page) insert(m *yaml.Node, after int, entry string) error {
	node, err := parse(entry)
	if err != nil {
		return err
	}
	if after < 0 {
		after = len(m.Content)/2 - 1
	}
	switch {
	case len(m.Content) == 0:
		at := p.begin(m) + 1
		p.splice(at, at, entry)
	case isFlow(m):
		p.insertFlow(m, after, entry)
	default:
		end := p.entryEnd(m, after)
		if !p.restIsComment(end) {
			return p.odd(end)
		}
		at := p.lineEnd(end)
		p.splice(at, at, p.newline+strings.Repeat(" ", m.Column-1)+entry)
	}
	m.Content = slices.Insert(m.Content, 2*(after+1), node.Content...)
	return nil
}

// insertFlow inserts an entry between brackets: on a line of its own if the one before it
// begins one.
func (p *page) insertFlow(m *yaml.Node, after int, entry string) {
	end := p.entryEnd(m, after)
	indent, ownLine := p.indent(p.begin(m.Content[2*after]))
	comma := p.skip(end, " \t")
	hasComma := comma < len(p.text) && p.text[comma] == ','
	switch {
	case !ownLine:
		p.splice(end, end, ", "+entry)
	case hasComma && p.restIsComment(comma+1):
		at := p.lineEnd(comma)
		p.splice(at, at, p.newline+indent+entry+",")
	case !hasComma && p.restIsComment(end):
		at := p.lineEnd(end)
		p.splice(end, end, ",")
		p.splice(at, at, p.newline+indent+entry)
	default:
		p.splice(end, end, ","+p.newline+indent+entry)
	}
}

// replace gives an entry another value.
func (p *page) replace(m *yaml.Node, i int, f field) error {
	node, err := parse(f.String())
	if err != nil {
		return err
	}
	colon, ok := p.colon(m, i)
	if !ok {
		return p.odd(p.begin(m.Content[2*i]))
	}
	v := m.Content[2*i+1]
	begin, end := p.begin(v), p.entryEnd(m, i)
	if p.line(begin) == p.line(colon) {
		p.splice(begin, end, f.value)
	} else { // below its key, and behind a comment perhaps
		p.splice(colon, colon, " "+f.value)
		p.splice(p.lineEnd(colon), end, "")
	}
	m.Content[2*i+1] = node.Content[1]
	return nil
}

// fill gives an entry a mapping that has no value yet: `pi:` becomes `pi: {…}`, or gets
// lines below it.
func (p *page) fill(m *yaml.Node, i int, fields []field, below bool, indent int) error {
	end, text := p.entryEnd(m, i), " "+flow(fields)
	v := m.Content[2*i+1]
	_, hasColon := p.colon(m, i)
	switch {
	case !isNothing(v):
		p.splice(p.begin(v), end, text[1:])
	case !hasColon:
		p.splice(end, end, ":"+text)
	case below && p.restIsComment(end):
		at := p.lineEnd(end)
		p.splice(at, at, p.block(fields, indent))
	default:
		p.splice(end, end, text)
	}
	node, err := parse(flow(fields))
	m.Content[2*i+1] = node
	return err
}

// remove takes an entry out of the mapping that is the value of the key with the index of
// parent. Comments above it stay: they may be about more than the entry.
func (p *page) remove(parent *yaml.Node, index, i int) error {
	m := parent.Content[2*index+1]
	begin, end := p.begin(m.Content[2*i]), p.entryEnd(m, i)
	_, ownLine := p.indent(begin)
	switch {
	case isFlow(m):
		p.removeFlow(m, i, begin, end, ownLine)
	case !ownLine || !p.restIsComment(end):
		return p.odd(begin)
	default:
		p.splice(p.starts[p.line(begin)], p.nextLine(end), "")
	}
	m.Content = slices.Delete(m.Content, 2*i, 2*i+2)
	if len(m.Content) == 0 && !isFlow(m) { // a key without a value would be a mistake
		colon, ok := p.colon(parent, index)
		if !ok {
			return p.odd(begin)
		}
		p.splice(colon, colon, " {}")
	}
	return nil
}

// removeFlow removes an entry between brackets, and one comma.
func (p *page) removeFlow(m *yaml.Node, i, begin, end int, ownLine bool) {
	comma := p.skip(end, " \t")
	if comma < len(p.text) && p.text[comma] == ',' {
		comma++
	} else {
		comma = end
	}
	last := 2*i+2 == len(m.Content)
	switch {
	case ownLine && p.restIsComment(comma):
		p.splice(p.starts[p.line(begin)], p.nextLine(comma), "")
	case !last && p.skip(comma, " \t") == p.begin(m.Content[2*i+2]):
		p.splice(begin, p.begin(m.Content[2*i+2]), "")
	case last && i > 0 && strings.Trim(p.text[p.entryEnd(m, i-1):begin], " \t") == ",":
		p.splice(p.entryEnd(m, i-1), end, "")
	default:
		p.splice(begin, comma, "")
	}
}

// odd is the error of a layout that none of the cases above is made for.
func (p *page) odd(at int) error {
	return fmt.Errorf("%w: line %d", ErrLayout, p.line(at)+1)
}

// scalar writes a text so that YAML reads it as that text, wherever it stands.
func scalar(text string) string {
	number := strings.Trim(text, "0123456789") == "e" // with an exponent that is too large for ours, not for others
	if n, err := parse("k: [" + text + "]"); err == nil && !number {
		if list := n.Content[1].Content; len(list) == 1 && list[0].Value == text && list[0].Tag == "!!str" {
			return text
		}
	}
	return `"` + text + `"`
}
