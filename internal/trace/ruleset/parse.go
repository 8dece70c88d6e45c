package ruleset

import (
	"fmt"
	"slices"
	"strings"
)

// parser reads a table, line by line: compile writes one rule on each.
type parser struct {
	sets    map[string]set
	chains  map[string]*chain
	order   []*chain // as they stand in the text
	devices map[string]uint32
	jumped  map[*chain]int // the line where a chain is first jumped to
	chain   *chain         // that is open
	set     *set
	name    string // of the open set
	inTable bool
	ended   bool
}

// set is a named one.
type set struct {
	ip6    bool
	typed  bool
	filled bool
	narrow []span[uint32]
	large  *large
}

// Parse reads the text of a table.
func Parse(text string) (*Table, error) {
	p := &parser{sets: map[string]set{}, chains: map[string]*chain{}, devices: map[string]uint32{}, jumped: map[*chain]int{}}
	last := 0
	for line := range strings.Lines(text) {
		last++
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		w := newWords(last, line)
		p.readLine(w, line)
		w.end()
		if w.err != nil {
			return nil, w.err
		}
	}
	if !p.ended {
		return nil, fmt.Errorf("line %d: the table does not end", last)
	}
	return p.table()
}

// readLine reads what may stand where we are.
func (p *parser) readLine(w *words, text string) {
	switch {
	case p.ended:
	case !p.inTable:
		w.expect("table", "inet")
		w.name("the table's name")
		w.expect("{")
		p.inTable = true
	case p.set != nil:
		p.readSet(w)
	case p.chain != nil:
		p.readChain(w, text)
	case w.take("}"):
		p.ended = true
	case w.take("set"):
		p.name = w.name("the set's name")
		w.expect("{")
		if _, met := p.sets[p.name]; met {
			w.fail(p.name, "there is one set of this name already")
		}
		p.set = &set{}
	case w.take("chain"):
		p.openChain(w)
	default:
		w.unknown("a set or a chain")
	}
}

func (p *parser) readSet(w *words) {
	switch {
	case w.take("}"):
		if !p.set.typed {
			w.fail("}", "the set has no type")
		}
		p.sets[p.name] = *p.set
		p.set = nil
	case !p.set.typed:
		w.expect("type")
		p.set.ip6 = oneOf(w, map[string]bool{"ipv4_addr": false, "ipv6_addr": true}, "ipv4_addr or ipv6_addr")
		w.expect(";", "flags", "interval", ";")
		p.set.typed = true
	case !p.set.filled:
		w.expect("elements", "=")
		f := saddr4
		if p.set.ip6 {
			f = saddr6
		}
		var l lookup
		l.field = f
		p.spans(w, &l, nil)
		p.set.narrow, p.set.large, p.set.filled = l.narrow, l.large, true
	default:
		w.unknown("the end of the set")
	}
}

func (p *parser) openChain(w *words) {
	name := w.name("the chain's name")
	w.expect("{")
	c := p.named(name)
	if c.line != 0 {
		w.fail(name, "there is one chain of this name already")
	}
	c.line = w.line
	p.chain, p.order = c, append(p.order, c)
}

// named returns a chain by its name, which may be read later.
func (p *parser) named(name string) *chain {
	c := p.chains[name]
	if c == nil {
		c = &chain{name: name}
		p.chains[name] = c
	}
	return c
}

func (p *parser) readChain(w *words, text string) {
	switch {
	case w.take("}"):
		p.chain = nil
	case w.word == "type" && p.chain.base == nil && len(p.chain.rules) == 0:
		p.chain.base = readBase(w)
	default:
		r := p.readRule(w)
		r.text, r.line = text, w.line
		p.chain.rules = append(p.chain.rules, r)
	}
}

// The priorities' names, and the kernel's own for translation and for connections
// (nf_ip_hook_priorities).
var priorities = map[string]int{"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}

const trackPriority = -200

// readBase reads the line that makes a chain a base chain.
func readBase(w *words) *base {
	b := &base{policy: accept}
	w.expect("type")
	kind := oneOf(w, map[string]string{"filter": "filter", "route": "route", "nat": "nat"}, "filter, route or nat")
	b.nat = kind == "nat"
	w.expect("hook")
	hook := w.word
	b.hook = Hook(slices.Index(hookNames[:], w.next()))
	if b.hook < 0 || kind == "route" && b.hook != Output || b.nat && b.hook == Forward {
		w.fail(hook, "no hook of chains of type %s", kind)
	}
	w.expect("priority")
	b.own = readPriority(w)
	b.core = b.own
	if b.nat { // the kernel calls all of them where it translates (nf_nat_register_fn)
		b.core = priorities["dstnat"]
		if b.hook == Input || b.hook == Postrouting {
			b.core = priorities["srcnat"]
		}
	}
	b.untraced = b.core < trackPriority && (b.hook == Prerouting || b.hook == Output)
	w.expect(";")
	if w.take("policy") {
		b.policy = oneOf(w, map[string]action{"accept": accept, "drop": drop}, "accept or drop")
		w.expect(";")
	}
	return b
}

func readPriority(w *words) int {
	sign := 1
	if digits, negative := strings.CutPrefix(w.word, "-"); negative {
		sign, w.word = -1, digits
	}
	n, named := priorities[w.word]
	if named && sign > 0 {
		w.next()
	} else {
		n = sign * int(w.number(16))
	}
	switch {
	case w.take("-"):
		n -= int(w.number(16))
	case w.take("+"):
		n += int(w.number(16))
	}
	return n
}

// table puts together what was read.
func (p *parser) table() (*Table, error) {
	t := &Table{devices: p.devices}
	if err := p.check(); err != nil {
		return nil, err
	}
	// Of the same priority the one that was registered last comes first (nf_hook_entries_grow).
	for _, c := range slices.Backward(p.order) {
		if c.base != nil {
			t.hooks[c.hook] = append(t.hooks[c.hook], hooked{c, c.nat, c.untraced})
		}
	}
	short := newShortener(p.order)
	for h, all := range t.hooks {
		slices.SortStableFunc(all, func(a, b hooked) int {
			if a.core != b.core {
				return a.core - b.core
			}
			if a.nat && b.nat {
				return a.own - b.own
			}
			return 0
		})
		t.onlyNAT[h] = !slices.ContainsFunc(all, func(c hooked) bool { return !c.nat })
		for _, c := range all {
			short.shorten(c.chain)
		}
	}
	return t, nil
}
