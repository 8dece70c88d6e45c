package cli

import (
	"strings"
	"unicode/utf8"
)

// table is a text of columns that are as wide as what stands in them, colours not counted.
type table struct {
	title []string
	right string // 'r' at the place of a column that ends on one line; else it begins on one
	rows  [][]string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// write writes the table; columns in which nothing stands are left out.
func (t *table) write(b *strings.Builder) {
	widths := make([]int, len(t.title))
	for i := range t.title {
		for _, r := range t.rows {
			widths[i] = max(widths[i], width(r[i]))
		}
		if widths[i] > 0 {
			widths[i] = max(widths[i], width(t.title[i]))
		}
	}
	for _, r := range append([][]string{t.title}, t.rows...) {
		var line strings.Builder
		for i, cell := range r {
			if widths[i] == 0 {
				continue
			}
			if line.Len() > 0 {
				line.WriteString("  ")
			}
			pad := strings.Repeat(" ", widths[i]-width(cell))
			if i < len(t.right) && t.right[i] == 'r' {
				line.WriteString(pad + cell)
			} else {
				line.WriteString(cell + pad)
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}

// width counts what is seen of a cell.
func width(cell string) int {
	n, escape := 0, false
	for len(cell) > 0 {
		r, size := utf8.DecodeRuneInString(cell)
		cell = cell[size:]
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		default:
			n++
		}
	}
	return n
}
