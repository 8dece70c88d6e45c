package lab

import (
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// fields reads the values of a mapping's keys.
type fields map[string]func(value *yaml.Node)

// resolve follows an alias.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	return n
}

// isNull reports whether a key has no value.
func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// entries calls f with each key and value of a mapping. No value is an empty mapping.
func (p *parser) entries(n *yaml.Node, what string, f func(key, value *yaml.Node)) {
	n = resolve(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		p.wrong(n, "", "%s is a mapping: name and value", what)
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode {
			p.wrong(key, "", "a key is a word")
			continue
		}
		if line, twice := seen[key.Value]; twice {
			p.wrong(key, "", "%s has %q twice (line %d)", what, key.Value, line)
			continue
		}
		seen[key.Value] = key.Line
		f(key, resolve(n.Content[i+1]))
	}
}

// mapping reads a mapping that has these keys and no others, none of them required.
func (p *parser) mapping(n *yaml.Node, what string, known fields) {
	p.entries(n, what, func(key, value *yaml.Node) {
		read, ok := known[key.Value]
		if !ok {
			hint := "it has " + strings.Join(slices.Sorted(maps.Keys(known)), ", ")
			p.wrong(key, hint, "%s has no key %q", what, key.Value)
			return
		}
		read(value)
	})
}

// list returns the items of a list; anything else is a list of itself.
func (p *parser) list(n *yaml.Node) []*yaml.Node {
	if n.Kind != yaml.SequenceNode {
		return []*yaml.Node{n}
	}
	var out []*yaml.Node
	for _, item := range n.Content {
		out = append(out, resolve(item))
	}
	return out
}

func hasKey(n *yaml.Node, name string) bool {
	for i := 0; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return true
		}
	}
	return false
}

// text reads a word.
func (p *parser) text(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || n.Value == "" {
		p.wrong(n, "", "a word is wanted here")
		return ""
	}
	return n.Value
}

func (p *parser) boolean(n *yaml.Node) bool {
	if n.Value != "true" && n.Value != "false" {
		p.wrong(n, "", "%q is neither true nor false", n.Value)
	}
	return n.Value == "true"
}

// duration reads a time as 52ms or 1.5s.
func (p *parser) duration(n *yaml.Node) time.Duration {
	d, err := time.ParseDuration(p.text(n))
	if err != nil || d < 0 || d > time.Hour {
		p.wrong(n, "", "%q is not a time between 0s and 1h, as 52ms is", n.Value)
		return 0
	}
	return d
}

// parse reads a value of another form.
func parse[T any](p *parser, n *yaml.Node, read func(string) (T, error)) T {
	v, err := read(p.text(n))
	if err != nil {
		p.wrong(n, "", "%v", err)
	}
	return v
}
