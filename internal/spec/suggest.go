package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	yaml "go.yaml.in/yaml/v4"
)

// unknownKey reports a key that the record has not, and returns the one that was probably
// meant.
func (d *decoder) unknownKey(k *yaml.Node, s *section, owner string) string {
	d.doubt = true
	word, meant, hint, code := strings.ToLower(k.Value), "", "", codeUnknownKey
	if !d.full() {
		meant, hint = s.suggestion(word, d.grammar)
	}
	if secretWord(word) {
		code, meant = codeSecret, ""
		hint = "private and preshared keys lie in files on the routers, never in this one: `key:` of a site is its public key, `psk: true` of a link asks for a preshared one; make new ones if anybody else has seen this file"
	}
	d.err(posOf(k), code, hint, "unknown key `%s:` in %s", clip(k.Value), article(owner))
	return meant
}

func secretWord(word string) bool {
	word = strings.NewReplacer("-", "", "_", "", " ", "").Replace(word)
	return slices.Contains([]string{"privatekey", "private", "privkey", "presharedkey", "preshared", "secret", "secretkey"}, word)
}

// suggestion returns a hint for a key that is not in s: the one that looks or means the
// same, else where else in the grammar the key has its place, else all keys of s.
func (s *section) suggestion(word string, grammar *section) (meant, hint string) {
	var keys []string
	for _, e := range s.entries {
		if slices.Contains(e.also, word) {
			return e.key, fmt.Sprintf("it is called `%s:` here", e.key)
		}
		keys = append(keys, e.key)
	}
	if near := nearest(word, keys); near != "" {
		return near, fmt.Sprintf("did you mean `%s:`?", near)
	}
	mine := fmt.Sprintf("the keys of %s are %s", article(s.noun), listKeys(keys))
	if len(keys) == 1 {
		mine = fmt.Sprintf("the only key of %s is %s", article(s.noun), listKeys(keys))
	}
	if home := grammar.home(word, s); home != "" {
		return "", home + "; " + mine
	}
	return "", mine
}

// home says where in the grammar a key has its place, other than in the section not.
func (s *section) home(word string, not *section) string {
	homes := map[string][]string{} // by key
	s.walk(func(in *section) {
		for _, e := range in.entries {
			if in.noun != not.noun && (e.key == word || slices.Contains(e.also, word)) {
				homes[e.key] = append(homes[e.key], article(in.noun))
			}
		}
	})
	key := word
	if homes[key] == nil { // a word for something that is called otherwise
		for _, k := range slices.Sorted(maps.Keys(homes)) {
			key = k
			break
		}
	}
	if homes[key] == nil {
		return ""
	}
	return fmt.Sprintf("`%s:` is a key of %s", key, either(homes[key]))
}

// walk visits s and every section below it, each once.
func (s *section) walk(visit func(*section)) {
	seen := map[*section]bool{}
	var down func(*section)
	down = func(s *section) {
		if s == nil || seen[s] {
			return
		}
		seen[s] = true
		visit(s)
		for _, e := range s.entries {
			down(e.sub)
			for _, f := range e.forms {
				down(f.sub)
			}
		}
	}
	down(s)
}

func listKeys(keys []string) string {
	return "`" + strings.Join(keys, ":`, `") + ":`"
}

// either joins alternatives: "a site, a link or an exit".
func either(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// nearest returns the candidate that was probably meant by word, or nothing: one that
// differs by a slip or two of the fingers, fewer in a short word.
func nearest(word string, candidates []string) string {
	const longest = 64
	if len(word) > longest {
		return ""
	}
	best, least := "", 1+min(2, (len(word)+1)/3)
	for _, c := range candidates {
		if len(c) > longest || max(len(c)-len(word), len(word)-len(c)) >= least {
			continue
		}
		if n := distance(word, strings.ToLower(c)); n < least {
			best, least = c, n
		}
	}
	return best
}

// distance is the number of letters to insert, delete, replace or swap with their
// neighbour that makes b out of a (Damerau-Levenshtein, without moving a letter twice).
func distance(a, b string) int {
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			differ := 0
			if a[i-1] != b[j-1] {
				differ = 1
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+differ)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}
