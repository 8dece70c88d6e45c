package spec

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	yaml "go.yaml.in/yaml/v4"
)

// Limits on the file, so that a bad one is refused in bounded time and memory. A network
// of 4,096 sites, described at length, has 1.5 MB.
const (
	maxFile   = 4 << 20 // bytes
	maxDepth  = 24      // of lists and mappings in each other; the language needs 9
	maxValues = 400_000 // of all kinds; counted by what may begin one
	maxSites  = 4096
	maxPairs  = 1 << 24 // of sites, named by links

	maxEndpoints = 16 // of a site
	MaxUplinks   = 16 // of a site; the marks of replies have numbers for no more
)

// readYAML returns the one document of the file, or reports why there is none.
func readYAML(r *report) *yaml.Node {
	if !checkBytes(r) {
		return nil
	}
	loader, err := yaml.NewLoader(strings.NewReader(r.src.text), yaml.WithPlugin(limits{}))
	if err != nil {
		panic("spec: the YAML reader refuses its options: " + err.Error())
	}
	var doc, second yaml.Node
	if err := loader.Load(&doc); errors.Is(err, io.EOF) {
		reportEmpty(r)
		return nil
	} else if err != nil {
		reportSyntax(r, err)
		return nil
	}
	root := &doc
	if doc.Kind == yaml.DocumentNode {
		root = doc.Content[0]
	}
	if err := loader.Load(&second); err == nil {
		r.err(Pos{second.Line, second.Column}, codeDocuments, "remove the `---` and what follows it, or make it a file of its own",
			"a second document begins here; a network file is one")
		return nil
	} else if !errors.Is(err, io.EOF) {
		reportSyntax(r, err)
		return nil
	}
	if isNull(root) {
		reportEmpty(r)
		return nil
	}
	if !checkNodes(r, root) {
		return nil
	}
	return root
}

func reportEmpty(r *report) {
	r.err(Pos{}, codeEmpty, "`tombolo init` writes a file to begin with", "the file is empty")
}

// limits refuses deep nesting; aliases are refused in checkNodes.
type limits struct{}

func (limits) CheckDepth(depth int, _ *yaml.DepthContext) error {
	if depth > maxDepth {
		return errors.New(deepMessage)
	}
	return nil
}

func (limits) CheckAlias(int, int) error { return nil }

const deepMessage = "lists and mappings lie too deep in each other"

// checkBytes refuses what is not text, and more of it than a network can need.
func checkBytes(r *report) bool {
	text := r.src.text
	if len(text) > maxFile {
		r.src.text = "" // its lines are of no interest
		r.err(Pos{}, codeLarge, "is this the right file?", "the file has %.1f MB; a network file has at most %d", float64(len(text))/(1<<20), maxFile>>20)
		return false
	}
	if strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") {
		r.err(Pos{1, 1}, codeEncoding, "save it as UTF-8", "the file is UTF-16")
		return false
	}
	if !utf8.ValidString(text) {
		at := 0
		for rest := text; ; {
			c, size := utf8.DecodeRuneInString(rest)
			if c == utf8.RuneError && size <= 1 {
				break
			}
			at, rest = at+size, rest[size:]
		}
		r.err(r.src.place(at), codeEncoding, "save the file as UTF-8", "the byte 0x%02x here is not UTF-8", text[at])
		return false
	}
	for i, c := range text {
		if c == '\t' || c == '\n' || c == '\r' || c == '\u0085' || i == 0 && c == '\ufeff' {
			continue
		}
		// What YAML calls not printable (YAML 1.2.2 §5.1).
		if c < 0x20 || c >= 0x7f && c < 0xa0 || c == '\ufeff' || c == 0xfffe || c == 0xffff {
			r.err(r.src.place(i), codeControl, "delete the character; an editor may hide it", "the control character U+%04X has no place in a text", c)
			return false
		}
	}
	values := 1
	for i := range len(text) {
		switch text[i] {
		case '\n', ':', ',', '[', '{', '-', '?':
			values++
		}
	}
	if values > maxValues {
		r.err(Pos{}, codeLarge, "is this the right file?", "the file has more than %d values", maxValues)
		return false
	}
	return true
}

// checkNodes refuses what YAML has and the language has not: with anchors and aliases the
// file would say less than it means, and tags would say what the language says already.
func checkNodes(r *report, root *yaml.Node) bool {
	before := r.wrong
	seen := map[string]bool{} // aliases, each of which is reported once
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		p := posOf(n)
		switch {
		case n.Kind == yaml.AliasNode && seen[n.Value]:
		case n.Kind == yaml.AliasNode:
			seen[n.Value] = true
			r.err(p, codeAlias, "write out what it stands for", "`*%s` is an alias, which a network file cannot have", clip(n.Value))
		case n.Anchor != "":
			r.err(p, codeAlias, "delete it", "`&%s` is an anchor, which a network file cannot have", clip(n.Anchor))
		case n.Style&yaml.TaggedStyle != 0:
			r.err(p, codeTag, "delete it; the key says what sort of value it takes", "`%s` is a tag, which a network file cannot have", clip(n.Tag))
		}
		for i, c := range n.Content {
			if n.Kind == yaml.MappingNode && i%2 == 0 && c.Tag == "!!merge" {
				r.err(posOf(c), codeAlias, "write out what it stands for", "`<<:` merges mappings, which a network file cannot do")
				continue
			}
			walk(c)
		}
	}
	walk(root)
	return r.wrong == before
}

// reportSyntax says what is wrong with the YAML in the words of somebody who wrote it; the
// reader's own words are about its tokens.
func reportSyntax(r *report, err error) {
	if strings.HasPrefix(strings.TrimSpace(r.src.text), "[Interface]") {
		r.err(Pos{1, 1}, codeWrongType, "`tombolo init` writes a file to begin with", "this is a WireGuard configuration, not a network file")
		return
	}
	var load *yaml.LoadError
	if !errors.As(err, &load) {
		r.err(Pos{1, 1}, codeSyntax, "", "not YAML: %v", err)
		return
	}
	at := Pos{load.Mark.Line, load.Mark.Column}
	began := Pos{load.ContextMark.Line, load.ContextMark.Column}
	if at.Line == 0 {
		at = Pos{1, 1}
	}
	if p, ok := tabNear(r.src, began, at); ok {
		r.err(p, codeTab, "use spaces", "a tab in the indentation, which YAML does not allow")
		return
	}
	if strings.Contains(load.Message, deepMessage) || errors.Is(load, errDepth) {
		r.err(at, codeDeep, "", "%s: more than %d levels", deepMessage, maxDepth)
		return
	}
	if p, ok := unquotedIPv6(r.src, began, at); ok {
		r.err(p, codeSyntax, "put it in quotes: \"[2001:db8::1]:51820\"", "a `[` begins a list, so an IPv6 address with a port needs quotes")
		return
	}
	for _, w := range syntaxWords {
		if !strings.Contains(load.Message, w.is) || !strings.Contains(load.ContextMsg, w.in) {
			continue
		}
		if w.fromStart && began.Line > 0 {
			at, began = began, at
		}
		fill := strings.NewReplacer("LINE", fmt.Sprint(began.Line), "CHAR", string(r.src.char(at)), "WORD", r.src.word(at))
		code := codeSyntax
		if strings.Contains(w.say, "alias") {
			code = codeAlias
		}
		r.err(at, code, fill.Replace(w.hint), "%s", fill.Replace(w.say))
		return
	}
	r.err(at, codeSyntax, "", "not YAML: %s", load.Message)
}

var errDepth = errors.New(deepMessage)

// syntaxWords are the reader's words and ours. LINE is the line where the thing began.
var syntaxWords = []struct {
	is, in    string // parts of the reader's message and of its context
	say, hint string
	fromStart bool // the place to look at is where the thing began
}{
	{is: "mapping values are not allowed", say: "a second `: ` in one line", hint: "begin a new line, or put a text that holds a colon in quotes"},
	{is: "did not find expected ',' or ']'", say: "a `,` is missing before this, or the `]` of the list that begins in line LINE"},
	{is: "did not find expected ',' or '}'", say: "a `,` is missing before this, or the `}` of the mapping that begins in line LINE"},
	{is: "did not find expected key", say: "this line is indented like none of those that it follows", hint: "the keys of one mapping stand exactly below each other (this one began in line LINE)"},
	{is: "did not find expected '-' indicator", say: "this line does not go on with the list of line LINE", hint: "the `-` of one list stand exactly below each other"},
	{is: "could not find expected ':'", say: "`WORD` has no `:` after it", fromStart: true},
	{is: "found unexpected end of stream", in: "quoted", say: "this quote is never closed", hint: "end the text with the same quote", fromStart: true},
	{is: "found unknown escape character", say: "a backslash with an unknown letter after it", hint: "in 'single quotes' a backslash is only itself"},
	{is: "did not find expected node content", say: "a value is missing here"},
	{is: "did not find expected <document start>", say: "this follows the end of the file's mapping", hint: "is there one bracket too many before it?"},
	{is: "found character that cannot start any token", say: "a value cannot begin with `CHAR`", hint: "put it in quotes"},
	{is: "unknown anchor", say: "`*` begins an alias, which a network file cannot have", hint: "put a text that begins with `*` in quotes"},
	{is: "while scanning an alias", say: "`*` begins an alias, which a network file cannot have", hint: "put a text that begins with `*` in quotes"},
	{is: "did not find expected alphabetic or numeric character", in: "alias", say: "`*` begins an alias, which a network file cannot have", hint: "put a text that begins with `*` in quotes", fromStart: true},
	{is: "did not find expected alphabetic or numeric character", in: "anchor", say: "`&` begins an anchor; aliases have no place in a network file", hint: "put a text that begins with `&` in quotes", fromStart: true},
}

// tabNear finds a tab in the indentation of the lines in which an error lies.
func tabNear(s *source, from, to Pos) (Pos, bool) {
	if from.Line == 0 || from.Line > to.Line || to.Line-from.Line > 1000 {
		from = to
	}
	for n := from.Line; n <= to.Line; n++ {
		line := s.line(n)
		indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
		if i := strings.IndexByte(indent, '\t'); i >= 0 && len(indent) < len(line) {
			return Pos{n, i + 1}, true
		}
	}
	return Pos{}, false
}

// unquotedIPv6 finds `[address]:port` without quotes in the line of an error, or in the
// one before.
func unquotedIPv6(s *source, from, to Pos) (Pos, bool) {
	for n := max(1, min(from.Line, to.Line), to.Line-1); n <= to.Line; n++ {
		line := s.line(n)
		end := strings.Index(line, "]:")
		begin := strings.LastIndexByte(line[:max(end, 0)], '[')
		if begin >= 0 && strings.Contains(line[begin:end], "::") && !strings.ContainsAny(line[:begin], "\"'#") {
			return Pos{n, utf8.RuneCountInString(line[:begin]) + 1}, true
		}
	}
	return Pos{}, false
}

// char returns the character at p, or a space.
func (s *source) char(p Pos) rune {
	line := []rune(s.line(p.Line))
	if p.Column < 1 || p.Column > len(line) {
		return ' '
	}
	return line[p.Column-1]
}

// word returns what stands at p, up to the next space.
func (s *source) word(p Pos) string {
	line := []rune(s.line(p.Line))
	if p.Column < 1 || p.Column > len(line) {
		return ""
	}
	word, _, _ := strings.Cut(string(line[p.Column-1:]), " ")
	return clip(word)
}

// clip shortens what a message repeats from the file, and blots out what may be a key.
func clip(text string) string {
	const most = 60
	runes := blot([]rune(text))
	if len(runes) > most {
		runes = append(runes[:most-1:most-1], '…')
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		return r
	}, string(runes))
}

func posOf(n *yaml.Node) Pos { return Pos{n.Line, n.Column} }

// isNull reports whether a key has no value, or `null` or `~`.
func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null" && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0
}
