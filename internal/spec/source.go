package spec

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// source is the text of a network file, by lines.
type source struct {
	file   string
	text   string
	starts []int // offset of each line; made when first asked for

	heldLine int // see runes
	held     []rune
}

const byteOrderMark = "\ufeff"

// lines finds where each line begins. What ends a line is what does for the YAML reader:
// CR, LF, both, and Unicode's NEL, LS and PS (YAML 1.1 §4.1.4, "line break characters").
func (s *source) lines() []int {
	if s.starts != nil {
		return s.starts
	}
	s.starts = append(s.starts, 0)
	for i, r := range s.text {
		switch {
		case r == '\r' && strings.HasPrefix(s.text[i+1:], "\n"):
		case r == '\n', r == '\r', r == '\u0085', r == '\u2028', r == '\u2029':
			s.starts = append(s.starts, i+utf8.RuneLen(r))
		}
	}
	return s.starts
}

// line returns a line, counted from 1, without its end.
func (s *source) line(n int) string {
	starts := s.lines()
	if n < 1 || n > len(starts) {
		return ""
	}
	end := len(s.text)
	if n < len(starts) {
		end = starts[n]
	}
	line := s.text[starts[n-1]:end]
	if n == 1 {
		line = strings.TrimPrefix(line, byteOrderMark)
	}
	return strings.TrimRight(line, "\r\n\u0085\u2028\u2029")
}

// clamp moves a place that is behind the end of the file, or of its line, to that end.
func (s *source) clamp(p Pos) Pos {
	last := len(s.lines())
	if last > 1 && s.line(last) == "" {
		last-- // what follows the last line's end is no line
	}
	if p.Line > last {
		p = Pos{last, len(s.runes(last)) + 1}
	}
	return Pos{p.Line, max(1, min(p.Column, len(s.runes(p.Line))+1))}
}

// place returns the line and column of an offset.
func (s *source) place(offset int) Pos {
	line := 0
	for _, start := range s.lines() {
		if start > offset {
			break
		}
		line++
	}
	before := s.text[s.starts[line-1]:offset]
	if line == 1 {
		before = strings.TrimPrefix(before, byteOrderMark)
	}
	return Pos{line, utf8.RuneCountInString(before) + 1}
}

// excerpt returns the line of p as it may be shown, or the part of a long line around p,
// and how many characters it left out before. Whatever looks like a key is blotted out:
// a private key may stand there by mistake.
func (s *source) excerpt(p Pos) (text string, cut int) {
	line := s.runes(p.Line)
	first, last := 0, len(line)
	if len(line) > maxExcerpt {
		first = max(0, min(p.Column-maxExcerpt/2, len(line)-maxExcerpt))
		last = first + maxExcerpt
	}
	// A key may reach over the ends of the part.
	const margin = 64
	from, to := max(0, first-margin), min(len(line), last+margin)
	part := blot(line[from:to])[first-from : last-from]
	if first > 0 {
		part[0] = '…'
	}
	if last < len(line) {
		part[len(part)-1] = '…'
	}
	return strings.TrimRightFunc(string(part), unicode.IsSpace), first
}

// runes returns the characters of a line. Many mistakes may lie in one long line, so the
// last one is kept.
func (s *source) runes(n int) []rune {
	if s.heldLine != n {
		s.heldLine, s.held = n, []rune(s.line(n))
	}
	return s.held
}

// blot replaces what must not reach a terminal: control characters, and runs of base64 as
// long as a key. The number of characters stays the same.
func blot(line []rune) []rune {
	out := append([]rune(nil), line...)
	run := 0
	for i := 0; i <= len(line); i++ {
		if i < len(line) && base64Digit(line[i]) {
			run++
			continue
		}
		if run >= 40 { // 32 bytes are 43 digits; a few may be lost in copying
			for j := i - run; j < i; j++ {
				out[j] = '…'
			}
		}
		run = 0
	}
	for i, r := range out {
		if r != '\t' && !unicode.IsPrint(r) {
			out[i] = '·'
		}
	}
	return out
}

func base64Digit(r rune) bool {
	return r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '+' || r == '/'
}
