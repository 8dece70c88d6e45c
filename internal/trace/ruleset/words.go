package ruleset

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// words are those of one line. The first mistake is kept; after it there are no more words.
type words struct {
	line int
	rest string
	word string // the next one, "" at the end
	err  error
}

func newWords(line int, text string) *words {
	w := &words{line: line, rest: text}
	w.advance()
	return w
}

const blanks, signs = " \t\r", "{},;()"

// advance reads the next word: a sign, a quoted name with its first quote, or what has neither
// blanks nor signs.
func (w *words) advance() {
	w.rest = strings.TrimLeft(w.rest, blanks)
	n := 0
	switch {
	case w.rest == "":
	case w.rest[0] == '"':
		end := strings.IndexByte(w.rest[1:], '"')
		if end < 0 {
			w.fail(w.rest, "a quote that does not end")
			return
		}
		w.word, w.rest = w.rest[:end+1], w.rest[end+2:]
		return
	case strings.IndexByte(signs, w.rest[0]) >= 0:
		n = 1
	default:
		if n = strings.IndexAny(w.rest, blanks+signs+`"`); n < 0 {
			n = len(w.rest)
		}
	}
	w.word, w.rest = w.rest[:n], w.rest[n:]
}

// fail notes a mistake at a word.
func (w *words) fail(word, format string, args ...any) {
	if w.err == nil {
		switch {
		case word == "":
			word = "end of the line"
		case len(word) > 60:
			word = word[:60] + "…"
		}
		w.err = fmt.Errorf("line %d: %q: %s", w.line, word, fmt.Sprintf(format, args...))
	}
	w.word, w.rest = "", ""
}

// unknown notes that the next word is none that may stand here.
func (w *words) unknown(wanted string) { w.fail(w.word, "want %s", wanted) }

func (w *words) next() string {
	word := w.word
	if word != "" {
		w.advance()
	}
	return word
}

// take takes the next word if it is this one.
func (w *words) take(word string) bool {
	if w.word != word {
		return false
	}
	w.next()
	return true
}

// expect takes words that must stand here.
func (w *words) expect(all ...string) {
	for _, word := range all {
		if w.err == nil && !w.take(word) {
			w.unknown(strconv.Quote(word))
		}
	}
}

// oneOf takes a word that must be in a table.
func oneOf[T any](w *words, table map[string]T, what string) T {
	v, found := table[w.word]
	if !found {
		w.unknown(what)
	}
	w.next()
	return v
}

// end notes what stands behind the end.
func (w *words) end() {
	if w.word != "" {
		w.unknown("the end of the line")
	}
}

// name takes a name of a chain, a set or the table.
func (w *words) name(what string) string {
	word := w.word
	for _, c := range []byte(word) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-', c == '.':
		default:
			word = ""
		}
	}
	if word == "" {
		w.unknown(what)
	}
	return w.next()
}

// number takes a number below 2 to the power of bits, decimal or with 0x.
func (w *words) number(bits int) uint32 {
	base, digits := 10, w.word
	if hex, found := strings.CutPrefix(digits, "0x"); found {
		base, digits = 16, hex
	}
	n, err := strconv.ParseUint(digits, base, bits)
	if err != nil {
		w.unknown(fmt.Sprintf("a number of %d bits", bits))
	}
	w.next()
	return uint32(n)
}

// device takes a quoted name. nft takes an asterisk at its end, and there alone, for all that may
// follow, and one behind a backslash for itself (expr_evaluate_string).
func (w *words) device() string {
	word, quoted := strings.CutPrefix(w.word, `"`)
	start, starred := strings.CutSuffix(word, "*")
	before, meant := strings.CutSuffix(start, `\`)
	switch {
	case !quoted || word == "":
		w.unknown("a device in quotes")
	case starred && !meant:
		w.fail(word, "nft takes such a name for more than one device")
	case starred:
		word = before + "*"
	}
	w.next()
	return word
}

// prefix takes an address or a prefix of a family.
func (w *words) prefix(ip6 bool) netip.Prefix {
	var p netip.Prefix
	var err error
	if strings.IndexByte(w.word, '/') >= 0 {
		p, err = netip.ParsePrefix(w.word)
	} else {
		var a netip.Addr
		if a, err = netip.ParseAddr(w.word); err == nil {
			p = netip.PrefixFrom(a.WithZone(""), a.BitLen())
		}
	}
	if err != nil || p.Addr().Is4() == ip6 || strings.IndexByte(w.word, '%') >= 0 {
		w.unknown(map[bool]string{false: "an IPv4 address or prefix", true: "an IPv6 address or prefix"}[ip6])
		return netip.Prefix{}
	}
	w.next()
	return p.Masked()
}

// addresses takes an address, a prefix, or a range of addresses.
func (w *words) addresses(ip6 bool) (first, last wide) {
	from, to, ranged := strings.Cut(w.word, "-")
	if !ranged {
		p := w.prefix(ip6)
		if !p.IsValid() {
			return wide{}, wide{}
		}
		return number(p.Addr()), number(lastOf(p))
	}
	a, err := netip.ParseAddr(from)
	b, err2 := netip.ParseAddr(to)
	if err != nil || err2 != nil || a.Is4() == ip6 || b.Is4() == ip6 || a.Zone() != "" || b.Zone() != "" || b.Less(a) {
		w.unknown("a range of addresses of that family")
		return wide{}, wide{}
	}
	w.next()
	return number(a), number(b)
}

// ports takes a port or a range of them.
func (w *words) ports() (first, last uint32) {
	from, to, ranged := strings.Cut(w.word, "-")
	if !ranged {
		to = from
	}
	a, err := strconv.ParseUint(from, 10, 16)
	b, err2 := strconv.ParseUint(to, 10, 16)
	if err != nil || err2 != nil || b < a {
		w.unknown("a port or a range of them")
	}
	w.next()
	return uint32(a), uint32(b)
}
