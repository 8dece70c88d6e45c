package spec

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Severity says what a Diagnostic means for the file.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // the file has no meaning as it stands
	Warning Severity = "warning" // it has, and probably not the one that was meant
	Note    Severity = "note"    // worth knowing
)

// Diagnostic is something to say about a place in the network file.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	Code     string   `json:"code"` // stable, for programs: "overlapping-lans"
	File     string   `json:"file"`
	Line     int      `json:"line"`   // from 1; 0: the file as a whole
	Column   int      `json:"column"` // from 1, in characters
	Message  string   `json:"message"`
	Hint     string   `json:"hint,omitempty"`
	Excerpt  string   `json:"excerpt,omitempty"` // the line of the file, or the middle of a long one

	// Unbuilt marks a warning about something that is right and that this version does
	// not build yet. The lab goes on without it; apply on a router refuses.
	Unbuilt bool `json:"unbuilt,omitempty"`

	cut int // characters that Excerpt lacks at its beginning
}

// Diagnostics are all that there is to say about a file, in the order of its lines.
type Diagnostics []Diagnostic

// HasErrors reports whether the file has a mistake.
func (ds Diagnostics) HasErrors() bool { return ds.count(Error) > 0 }

// Err returns the diagnostics as an error if one of them is an Error, else nil.
func (ds Diagnostics) Err() error {
	if !ds.HasErrors() {
		return nil
	}
	return ds
}

// Error returns the text of what is wrong with the file, without warnings and notes.
func (ds Diagnostics) Error() string {
	var wrong Diagnostics
	for _, d := range ds {
		if d.Severity == Error {
			wrong = append(wrong, d)
		}
	}
	return strings.TrimSuffix(wrong.String(), "\n")
}

// Write prints the diagnostics as text, without colour: for each a line with its place
// and message, the line of the file with a caret, and the way out. Empty lines part them.
func (ds Diagnostics) Write(w io.Writer) error {
	_, err := io.WriteString(w, ds.String())
	return err
}

// String returns the text that Write prints.
func (ds Diagnostics) String() string {
	var b strings.Builder
	for i, d := range ds {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(d.String())
	}
	return b.String()
}

// String returns the text of one diagnostic:
//
//	home.yaml:14:19: prefix 192.168.35.0/24 overlaps the LAN of site "op1" (line 9)
//	   14 |     lan: {br-lan: 192.168.35.0/24}
//	      |                   ^
//	hint: give each site its own prefix, or map this one with `as:`
func (d Diagnostic) String() string {
	var b strings.Builder
	b.WriteString(d.File)
	if d.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", d.Line, d.Column)
	}
	b.WriteString(": ")
	if d.Severity != Error {
		b.WriteString(string(d.Severity) + ": ")
	}
	b.WriteString(d.Message + "\n")
	if d.Excerpt != "" {
		gutter := fmt.Sprintf("%5d", d.Line)
		fmt.Fprintf(&b, "%s | %s\n%*s | %s^\n", gutter, d.Excerpt, len(gutter), "", blank(d.Excerpt, d.Column-1-d.cut))
	}
	if d.Hint != "" {
		b.WriteString("hint: " + d.Hint + "\n")
	}
	return b.String()
}

// blank returns white space as wide as the first n characters of line.
func blank(line string, n int) string {
	var b strings.Builder
	for _, r := range line {
		if n--; n < 0 {
			break
		}
		switch {
		case r == '\t':
			b.WriteByte('\t')
		case wide(r):
			b.WriteString("  ")
		default:
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// wide reports whether a terminal gives r two columns: the blocks of East Asian scripts
// and pictures (Unicode's UAX #11, the ranges that are wide as a whole).
func wide(r rune) bool {
	switch {
	case r < 0x1100:
		return false
	case r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf, r >= 0xac00 && r <= 0xd7a3,
		r >= 0xf900 && r <= 0xfaff, r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60,
		r >= 0xffe0 && r <= 0xffe6, r >= 0x1f300 && r <= 0x1faff, r >= 0x20000 && r <= 0x3fffd:
		return true
	}
	return false
}

func (ds Diagnostics) count(s Severity) int {
	n := 0
	for _, d := range ds {
		if d.Severity == s {
			n++
		}
	}
	return n
}

// Limits on what is said, so that a hostile file cannot make us say more than it does.
const (
	maxShown   = 200  // diagnostics of one file
	maxHeld    = 2000 // held while the file is being read, before they are sorted
	maxExcerpt = 160  // characters of a line
)

// report gathers diagnostics.
type report struct {
	src   *source
	held  Diagnostics
	more  int // not held
	wrong int // errors so far, held or not
}

func (r *report) err(p Pos, code, hint, format string, args ...any) {
	r.add(Error, p, code, hint, format, args...)
}

func (r *report) warn(p Pos, code, hint, format string, args ...any) {
	r.add(Warning, p, code, hint, format, args...)
}

func (r *report) note(p Pos, code, hint, format string, args ...any) {
	r.add(Note, p, code, hint, format, args...)
}

// unbuilt says that this version does not build something yet.
func (r *report) unbuilt(p Pos, what, until string) {
	before := len(r.held)
	r.add(Warning, p, codeUnbuilt, until, "this version does not build %s yet", what)
	if len(r.held) > before {
		r.held[before].Unbuilt = true
	}
}

// full reports whether what is said now is only counted, so that there is no need to find
// good words for it.
func (r *report) full() bool { return len(r.held) == maxHeld }

func (r *report) add(s Severity, p Pos, code, hint, format string, args ...any) {
	if s == Error {
		r.wrong++
	}
	if r.full() {
		r.more++
		return
	}
	d := Diagnostic{Severity: s, Code: code, File: r.src.file, Message: fmt.Sprintf(format, args...), Hint: hint}
	if p.Line > 0 {
		if r.src.text != "" {
			p = r.src.clamp(p)
			d.Excerpt, d.cut = r.src.excerpt(p)
		}
		d.Line, d.Column = p.Line, p.Column
	}
	r.held = append(r.held, d)
}

// sorted returns what was gathered, in the order of the file's lines.
func (r *report) sorted() Diagnostics {
	ds := r.held
	slices.SortStableFunc(ds, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	more := r.more
	if len(ds) > maxShown {
		more += len(ds) - maxShown
		ds = keepWorst(ds, maxShown)
	}
	if more > 0 {
		s := Note
		if r.wrong > ds.count(Error) {
			s = Error
		}
		ds = append(ds, Diagnostic{Severity: s, Code: codeMore, File: r.src.file, Message: fmt.Sprintf("%d more like these are not shown", more)})
	}
	return ds
}

// keepWorst returns the first n of ds, errors before warnings before notes, in their order.
func keepWorst(ds Diagnostics, n int) Diagnostics {
	keep := make([]bool, len(ds))
	for _, s := range []Severity{Error, Warning, Note} {
		for i, d := range ds {
			if n > 0 && d.Severity == s {
				keep[i] = true
				n--
			}
		}
	}
	var out Diagnostics
	for i, d := range ds {
		if keep[i] {
			out = append(out, d)
		}
	}
	return out
}
