package spec

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	yaml "go.yaml.in/yaml/v4"
)

// The grammar is made of shapes and records.
//
// A shape is what a value may be: it reads one, describes itself in messages and in the
// documentation, and has a JSON Schema. A record is a mapping with known keys: the table
// of its fields is the one place where a key is declared.

// at is a value and its place in the file. The zero at is one that the file does not give.
type at[V any] struct {
	Pos
	v     V
	given bool // the key stands in the file
	ok    bool // and its value can be used
	doubt bool // there are mistakes in it
}

// or returns the value, or what it is when the file does not give one.
func (a at[V]) or(otherwise V) V {
	if a.ok {
		return a.v
	}
	return otherwise
}

// named is an entry of a mapping whose keys are names.
type named[V any] struct {
	Pos  // of the name
	name string
	at[V]
}

// schema is a JSON Schema (draft 2020-12).
type schema = map[string]any

// described is what a shape says of itself.
type described struct {
	what   string   // after "takes": "an IPv4 address"
	schema schema   // of its values
	forms  []form   // the ways to write it, where there are several
	sub    *section // the record inside, if there is one
}

// form is one of several ways to write a value.
type form struct {
	what    string // "`mesh`"
	doc     string
	example string // the value, in YAML
	sub     *section
}

// section is a record as the schema and the documentation see it.
type section struct {
	noun    string
	title   string
	doc     string
	context string // YAML around a key of the record, which stands where the … is
	entries []entry
}

// entry is a field as the schema and the documentation see it.
type entry struct {
	key, concept, doc, example string

	also     []string // words that people try for it
	with     []string // keys that its example needs beside it
	hint     string   // for a value that is none, where the example would mislead
	required bool
	reach    bool // a mistake here leaves open which sites reach which

	described
}

// shape reads values of type V.
type shape[V any] struct {
	described

	read func(d *decoder, n *yaml.Node) (V, bool)
}

// record is the table of a mapping's keys.
type record[T any] struct {
	noun    string // "site": after "of a"
	title   string // in the documentation
	doc     string
	context string
	fields  []field[T]

	once sync.Once
	made *section
}

// field declares a key.
type field[T any] struct {
	entry
	binding[T]
}

// binding ties a key to the place in a T where its value goes.
type binding[T any] struct {
	shape  described
	decode func(d *decoder, into *T, key, value *yaml.Node)
}

// into binds a key whose values have a shape to a place.
func into[T, V any](s shape[V], place func(*T) *at[V]) binding[T] {
	return binding[T]{s.described, func(d *decoder, t *T, key, value *yaml.Node) {
		slot := place(t)
		slot.Pos, slot.given = posOf(value), true
		if value.Line != key.Line {
			slot.Pos = posOf(key) // what is below its key begins with it
		}
		before := d.wrong
		slot.v, slot.ok = s.read(d, value)
		slot.doubt = d.wrong > before
	}}
}

// described returns the record's section, which is made once.
func (r *record[T]) described() *section {
	r.once.Do(func() { r.made = r.section() })
	return r.made
}

// section returns the record as the schema and the documentation see it.
func (r *record[T]) section() *section {
	s := &section{noun: r.noun, title: r.title, doc: r.doc, context: r.context}
	for _, f := range r.fields {
		e := f.entry
		e.described = f.shape
		s.entries = append(s.entries, e)
	}
	return s
}

// shape returns the shape of the record's mappings.
func (r *record[T]) shape() shape[T] {
	s := r.section()
	return shape[T]{described{what: "a mapping", schema: s.object(), sub: s}, func(d *decoder, n *yaml.Node) (T, bool) {
		var t T
		ok := r.read(d, n, &t)
		return t, ok
	}}
}

// read fills t from a mapping. It reports false when n is none, or lacks a key.
func (r *record[T]) read(d *decoder, n *yaml.Node, t *T) bool {
	if n.Kind != yaml.MappingNode {
		d.wrongKind(n, "a mapping")
		return false
	}
	outer := d.scope
	defer func() { d.scope = outer }()
	owner, place := r.noun, posOf(n)
	if outer.Line > 0 && outer.Line < n.Line && !outer.item {
		place = outer.Pos
	}
	if outer.name != "" {
		owner = fmt.Sprintf("%s %q", r.noun, clip(outer.name))
	}
	table := r.described()
	lines := make([]int, len(r.fields)) // where each field was seen
	meant := map[string]bool{}          // keys that unknown ones were probably meant to be
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		f := r.find(k)
		switch {
		case k.Kind != yaml.ScalarNode:
			d.err(posOf(k), codeKeyKind, "is a bracket in the wrong place?", "a key is a name, not %s", kindOf(k))
		case f < 0:
			meant[d.unknownKey(k, table, owner)] = true
		case lines[f] > 0:
			d.duplicateKey(k, lines[f])
		default:
			lines[f] = k.Line
			d.scope = scope{Pos: posOf(k), key: k.Value, field: r.fields[f].key, example: r.fields[f].example, hint: r.fields[f].hint}
			if isNull(v) {
				v.Line, v.Column = k.Line, k.Column // an empty value has no place of its own
			}
			before := d.wrong
			r.fields[f].decode(d, t, k, v)
			d.doubt = d.doubt || r.fields[f].reach && d.wrong > before
		}
	}
	complete := true
	for i, f := range r.fields {
		if f.required && lines[i] == 0 {
			complete = false
			if !meant[f.key] {
				d.err(place, codeMissingKey, fmt.Sprintf("for example `%s: %s`", f.key, oneLine(f.example)), "`%s:` is missing in %s", f.key, article(owner))
			}
		}
	}
	return complete
}

func (r *record[T]) find(k *yaml.Node) int {
	for i := range r.fields {
		if r.fields[i].key == k.Value {
			return i
		}
	}
	return -1
}

// list is the shape of a list with at least least items.
func list[V any](item shape[V], what string, least int) shape[[]at[V]] {
	s := shape[[]at[V]]{described: described{what: what, sub: item.sub}}
	s.schema = schema{"type": "array", "items": item.schema}
	if least > 0 {
		s.schema["minItems"] = least
	}
	s.read = func(d *decoder, n *yaml.Node) ([]at[V], bool) {
		if n.Kind != yaml.SequenceNode {
			d.wrongKind(n, what)
			return nil, false
		}
		if len(n.Content) < least {
			has := "an empty list"
			if len(n.Content) > 0 {
				has = fmt.Sprintf("%d", len(n.Content))
			}
			d.err(posOf(n), codeTooFew, d.exampleHint(), "`%s:` takes %s, not %s", clip(d.scope.key), what, has)
			return nil, false
		}
		return readItems(d, item, n.Content)
	}
	return s
}

// oneOrMore is the shape of one item, or a list of them.
func oneOrMore[V any](item shape[V], what string) shape[[]at[V]] {
	many := list(item, what, 1)
	s := shape[[]at[V]]{described: described{what: what, sub: item.sub, forms: item.forms}}
	s.schema = schema{"anyOf": []any{item.schema, many.schema}}
	s.read = func(d *decoder, n *yaml.Node) ([]at[V], bool) {
		if n.Kind == yaml.SequenceNode {
			return many.read(d, n)
		}
		return readItems(d, item, []*yaml.Node{n})
	}
	return s
}

// readItems reads each node. It reports whether all could be used, and leaves out those
// that could not.
func readItems[V any](d *decoder, item shape[V], nodes []*yaml.Node) ([]at[V], bool) {
	out, all := make([]at[V], 0, len(nodes)), true
	outer := d.scope
	defer func() { d.scope = outer }()
	d.scope.item = true
	for _, n := range nodes {
		before := d.wrong
		v, ok := item.read(d, n)
		if ok {
			out = append(out, at[V]{posOf(n), v, true, true, d.wrong > before})
		}
		all = all && ok
	}
	return out, all || len(out) > 0
}

// mapOf is the shape of a mapping from names to items. The noun is what a name names.
func mapOf[V any](noun, what string, item shape[V]) shape[[]named[V]] {
	s := shape[[]named[V]]{described: described{what: what, sub: item.sub, forms: item.forms}}
	s.schema = schema{"type": "object", "additionalProperties": item.schema}
	s.read = func(d *decoder, n *yaml.Node) ([]named[V], bool) {
		if n.Kind != yaml.MappingNode {
			d.wrongKind(n, what)
			return nil, false
		}
		outer := d.scope
		defer func() { d.scope = outer }()
		seen := make(map[string]int, len(n.Content)/2)
		out := make([]named[V], 0, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			if k.Kind != yaml.ScalarNode {
				d.err(posOf(k), codeKeyKind, "is a bracket in the wrong place?", "the name of a %s cannot be %s", noun, kindOf(k))
				continue
			}
			if line, dup := seen[k.Value]; dup {
				d.err(posOf(k), codeDuplicateKey, "give one of them another name, or delete it", "%s %q is already in line %d", noun, clip(k.Value), line)
				continue
			}
			seen[k.Value] = k.Line
			d.scope = scope{Pos: posOf(k), key: k.Value, name: k.Value, field: outer.field, example: outer.example, hint: outer.hint}
			if isNull(v) {
				v.Line, v.Column = k.Line, k.Column
			}
			before := d.wrong
			x, ok := item.read(d, v)
			out = append(out, named[V]{posOf(k), k.Value, at[V]{posOf(v), x, true, ok, d.wrong > before}})
		}
		return out, true
	}
	return s
}

// decoder reads a document by the grammar.
type decoder struct {
	*report

	grammar *section // of the whole file
	scope   scope
	doubt   bool // it is open which sites reach which, so nothing is to be said of it
}

// scope is where in the document a decoder is.
type scope struct {
	Pos                   // of the key
	item           bool   // it is an item of the key's list that is read
	key            string // the key whose value is read, as the file has it
	field, example string // and as the grammar has it
	hint           string // instead of the example
	name           string // of the thing that the mapping describes, if it has one
}

// kindOf says what a node is, for "not …".
func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case isNull(n):
		return "nothing"
	}
	return strconv.Quote(clip(n.Value))
}

// wrongKind reports a value that is not of its key's kind.
func (d *decoder) wrongKind(n *yaml.Node, what string) {
	switch {
	case isNull(n):
		d.err(posOf(n), codeNoValue, d.exampleHint(), "`%s:` has no value; it takes %s", clip(d.scope.key), what)
	default:
		d.err(posOf(n), codeWrongType, d.exampleHint(), "`%s:` takes %s, not %s", clip(d.scope.key), what, kindOf(n))
	}
}

// exampleHint shows the key that is being read as it is meant.
func (d *decoder) exampleHint() string {
	if d.scope.hint != "" || d.scope.example == "" {
		return d.scope.hint
	}
	return fmt.Sprintf("for example `%s: %s`", d.scope.field, oneLine(d.scope.example))
}

// oneLine returns an example for a hint.
func oneLine(example string) string {
	if strings.Contains(example, "\n") {
		return "…"
	}
	return example
}

func (d *decoder) duplicateKey(k *yaml.Node, line int) {
	d.err(posOf(k), codeDuplicateKey, "delete one of them", "`%s:` is already in line %d", clip(k.Value), line)
}

// article puts "a" or "an" before a noun that is not that of one thing already.
func article(noun string) string {
	switch {
	case strings.HasPrefix(noun, "the "), strings.Contains(noun, "\""):
		return noun
	case strings.ContainsRune("aeiouI", rune(noun[0])): // I of IPv4
		return "an " + noun
	}
	return "a " + noun
}
