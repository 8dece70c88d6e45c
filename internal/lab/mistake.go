package lab

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Mistake is something that is wrong in a lab file.
type Mistake struct {
	File    string `json:"file"`
	Line    int    `json:"line"`   // from 1; 0: the file as a whole
	Column  int    `json:"column"` // from 1
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Excerpt string `json:"excerpt,omitempty"` // the line of the file
}

// Error returns the mistake on one line: file:line:column: message.
func (m Mistake) Error() string {
	if m.Line == 0 {
		return m.File + ": " + m.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", m.File, m.Line, m.Column, m.Message)
}

// Mistakes are all that is wrong in a lab file, in the order of its lines.
type Mistakes []Mistake

// Error returns the mistakes, one on each line.
func (ms Mistakes) Error() string {
	var lines []string
	for _, m := range ms {
		lines = append(lines, m.Error())
	}
	return strings.Join(lines, "\n")
}

// wrong notes a mistake at a node of the file.
func (p *parser) wrong(n *yaml.Node, hint, format string, args ...any) {
	m := Mistake{File: p.name, Message: fmt.Sprintf(format, args...), Hint: hint}
	if n != nil && n.Line > 0 {
		m.Line, m.Column = n.Line, n.Column
		if n.Line <= len(p.lines) {
			m.Excerpt = p.lines[n.Line-1]
		}
	}
	p.mistakes = append(p.mistakes, m)
}

// sorted returns the mistakes in the order of the file, the first of each place.
func (p *parser) sorted() Mistakes {
	slices.SortStableFunc(p.mistakes, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.CompactFunc(p.mistakes, func(a, b Mistake) bool {
		return a.Line == b.Line && a.Column == b.Column && a.Line > 0
	})
}
