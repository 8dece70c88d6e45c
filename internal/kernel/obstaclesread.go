package kernel

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// object is a JSON object.
type object = map[string]any

// filter is what the tables of others do to packets.
type filter struct {
	tables []*filterTable
	marked bool            // there are rules that set marks
	words  map[string]bool // all strings in it
}

// filterTable is a table of nftables, or of iptables-nft.
type filterTable struct {
	table
	bases  []*filterChain // in the order of the listing
	chains map[string]*filterChain
	sets   map[string]object // sets and maps, by name
}

// filterChain is a chain; a base chain has a hook.
type filterChain struct {
	name, hook, policy string
	rules              []filterRule
}

// filterRule is a rule: what it says as nft prints it, and as JSON.
type filterRule struct {
	chain      string
	handle     int
	text       string
	statements []object
}

// readFilter reads what `nft -j list ruleset` prints, without the tables of ours. text is what
// `nft -a list ruleset` does: only there stands what matches of iptables look at, and whether a
// table is switched off.
func readFilter(listing []byte, text, ours string) (*filter, error) {
	var whole struct {
		Nftables []object `json:"nftables"`
	}
	if err := json.Unmarshal(listing, &whole); err != nil {
		return nil, fmt.Errorf("read what nft lists: %w", err)
	}
	said := readTexts(text)
	f := &filter{words: map[string]bool{}}
	at := map[table]*filterTable{}
	for _, o := range whole.Nftables {
		for kind, v := range o {
			body, ok := v.(object)
			if !ok {
				continue
			}
			t := table{family: word(body["family"]), name: word(body["table"])}
			if kind == "table" {
				t.name = word(body["name"])
				if t.name == ours || !filters(t.family) || said.dormant[t] {
					continue
				}
				at[t] = &filterTable{table: t, chains: map[string]*filterChain{}, sets: map[string]object{}}
				f.tables = append(f.tables, at[t])
				continue
			}
			if x := at[t]; x != nil {
				f.add(x, kind, body, said)
			}
		}
	}
	return f, nil
}

// filters reports whether a family's tables see packets that are forwarded or come in.
func filters(family string) bool { return family == "inet" || family == "ip" || family == "ip6" }

func (f *filter) add(t *filterTable, kind string, body object, said texts) {
	switch kind {
	case "chain":
		c := &filterChain{name: word(body["name"]), hook: word(body["hook"]), policy: word(body["policy"])}
		t.chains[c.name] = c
		if c.hook != "" && word(body["type"]) == "filter" {
			t.bases = append(t.bases, c)
		}
	case "set", "map":
		t.sets[word(body["name"])] = body
		f.learn(body["elem"])
	case "rule":
		c := t.chains[word(body["chain"])]
		if c == nil {
			return
		}
		handle, _ := body["handle"].(float64)
		r := filterRule{chain: c.name, handle: int(handle), text: said.rules[ruleKey{t.table, int(handle)}]}
		for _, s := range list(body["expr"]) {
			if o, ok := s.(object); ok {
				r.statements = append(r.statements, o)
			}
		}
		f.learn(body["expr"])
		f.marked = f.marked || setsMark(r)
		c.rules = append(c.rules, r)
	}
}

// learn takes in the words that rules go by.
func (f *filter) learn(v any) {
	switch x := v.(type) {
	case string:
		f.words[x] = true
	case []any:
		for _, e := range x {
			f.learn(e)
		}
	case object:
		for _, e := range x {
			f.learn(e)
		}
	}
}

// setsMark reports whether a rule marks packets.
func setsMark(r filterRule) bool {
	for _, s := range r.statements {
		mangle, _ := s["mangle"].(object)
		key, _ := mangle["key"].(object)
		meta, _ := key["meta"].(object)
		if meta["key"] == "mark" {
			return true
		}
		if _, ok := s["xt"]; ok && (strings.Contains(r.text, "mark set") || strings.Contains(r.text, `"MARK"`)) {
			return true
		}
	}
	return false
}

// ruleKey tells rules apart.
type ruleKey struct {
	table
	handle int
}

var (
	tableLine = regexp.MustCompile(`^table (\S+) (\S+) \{`)
	ruleLine  = regexp.MustCompile(`^\t\t(.*\S)\s+# handle (\d+)$`)
	noise     = regexp.MustCompile(` ?\bcounter packets \d+ bytes \d+| ?\bcounter\b| comment "[^"]*"`)
)

// texts are what nft says of rules, without what it counts, and of tables.
type texts struct {
	rules   map[ruleKey]string
	dormant map[table]bool
}

func readTexts(listing string) texts {
	out := texts{map[ruleKey]string{}, map[table]bool{}}
	var t table
	for line := range strings.Lines(listing) {
		line = strings.TrimRight(line, "\n")
		if m := tableLine.FindStringSubmatch(line); m != nil {
			t = table{m[1], m[2]}
		} else if m := ruleLine.FindStringSubmatch(line); m != nil {
			handle, _ := strconv.Atoi(m[2])
			out.rules[ruleKey{t, handle}] = strings.TrimSpace(noise.ReplaceAllString(m[1], ""))
		} else if strings.HasPrefix(line, "\tflags ") && strings.Contains(line, "dormant") {
			out.dormant[t] = true
		}
	}
	return out
}

// word returns a string, or an empty one.
func word(v any) string {
	s, _ := v.(string)
	return s
}

// list returns the elements of a list, or a single thing as a list.
func list(v any) []any {
	switch x := v.(type) {
	case nil:
		return nil
	case []any:
		return x
	}
	return []any{v}
}
