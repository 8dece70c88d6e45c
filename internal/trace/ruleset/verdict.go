package ruleset

import (
	"fmt"
)

// verdict reads a verdict, if one follows.
func (p *parser) verdict(w *words) (verdict, bool) {
	switch w.word {
	case "accept":
		w.next()
		return verdict{action: accept}, true
	case "drop":
		w.next()
		return verdict{action: drop}, true
	case "return":
		w.next()
		return verdict{action: returns}, true
	case "jump", "goto":
		v := verdict{action: map[string]action{"jump": jumps, "goto": gotos}[w.next()]}
		name := w.name("a chain")
		if w.err != nil {
			return v, true
		}
		v.chain = p.named(name)
		if p.jumped[v.chain] == 0 {
			p.jumped[v.chain] = w.line
		}
		return v, true
	case "reject":
		w.next()
		if w.take("with") {
			w.expect("icmpx", "type", "admin-prohibited")
		}
		return verdict{action: reject}, true
	}
	return verdict{}, false
}

// readBranch reads the map behind `vmap`.
func (p *parser) readBranch(w *words, l lookup) *branch {
	b := &branch{lookup: l}
	number := map[verdict]uint32{}
	p.spans(w, &b.lookup, func() uint32 {
		v, found := p.verdict(w)
		if !found {
			w.unknown("a verdict")
		}
		n, met := number[v]
		if !met {
			n = uint32(len(b.verdicts))
			number[v], b.verdicts = n, append(b.verdicts, v)
		}
		return n
	})
	return b
}

// readTranslation reads a statement of a nat chain.
func (p *parser) readTranslation(w *words) *translation {
	n := &translation{}
	n.mask = all
	word := w.next()
	if n.masquerade = word == "masquerade"; n.masquerade {
		n.source = true
		return n
	}
	n.source = word == "snat"
	n.ip6 = oneOf(w, map[string]bool{"ip": false, "ip6": true}, "ip or ip6")
	n.prefix = w.take("prefix")
	w.expect("to")
	switch {
	case w.take("meta"):
		w.expect("l4proto", ".", "th", "dport", "map")
		n.field = protoPort
		if n.prefix || n.source {
			w.fail("map", "a map of ports without `prefix`, for destinations")
		}
	case n.prefix:
		family := map[bool]string{false: "ip", true: "ip6"}[n.ip6]
		end := map[bool]string{false: "daddr", true: "saddr"}[n.source]
		w.expect(family, end, "map")
		n.field = selectors[family][end]
	default:
		n.targets = []target{p.target(w, n)}
		return n
	}
	n.mapped = true
	p.spans(w, &n.lookup, func() uint32 {
		n.targets = append(n.targets, p.target(w, n))
		return uint32(len(n.targets) - 1)
	})
	return n
}

// target reads to what something is translated.
func (p *parser) target(w *words, n *translation) target {
	word := w.word
	t := target{Prefix: w.prefix(n.ip6)}
	if w.err != nil {
		return t
	}
	if !n.prefix && !t.IsSingleIP() {
		w.fail(word, "want an address")
	}
	if n.mapped && !n.prefix {
		w.expect(".")
		t.port = uint16(w.number(16))
	}
	return t
}

// check looks for what the kernel would not load: jumps to what is no chain for that, rings of
// chains, too many in each other, and translations where they cannot be.
func (p *parser) check() error {
	var astray *chain
	for to, line := range p.jumped {
		if (to.line == 0 || to.base != nil) && (astray == nil || line < p.jumped[astray]) {
			astray = to
		}
	}
	if astray != nil {
		return fmt.Errorf("line %d: %q: no chain that one can go to", p.jumped[astray], astray.name)
	}
	seen := map[*chain]*reach{}
	for _, c := range p.order {
		r, err := p.reach(c, seen)
		if err != nil {
			return err
		}
		if c.base == nil {
			continue
		}
		for _, source := range []bool{false, true} {
			found := r.translates[source]
			fits := c.nat && (c.hook == Postrouting && source || (c.hook == Prerouting || c.hook == Output) && !source)
			if found != nil && !fits {
				return fmt.Errorf("line %d: %q: no such translation where packets of chain %q come", found.line, found.text, c.name)
			}
		}
	}
	return nil
}

// reach is what is reached from a chain.
type reach struct {
	open       bool // it is looked at just now
	depth      int
	translates map[bool]*rule // by whether it is the source's
}

func (p *parser) reach(c *chain, seen map[*chain]*reach) (*reach, error) {
	if r := seen[c]; r != nil {
		if r.open {
			return nil, fmt.Errorf("line %d: %q: the chain leads to itself", c.line, c.name)
		}
		return r, nil
	}
	r := &reach{open: true, translates: map[bool]*rule{}}
	seen[c] = r
	for i := range c.rules {
		x := &c.rules[i]
		if x.nat != nil {
			r.translates[x.nat.source] = x
		}
		ways := []verdict{x.verdict}
		if x.branch != nil {
			ways = x.branch.verdicts
		}
		for _, v := range ways {
			if v.chain == nil {
				continue
			}
			next, err := p.reach(v.chain, seen)
			if err != nil {
				return nil, err
			}
			r.depth = max(r.depth, next.depth+1)
			for source, t := range next.translates {
				r.translates[source] = t
			}
		}
	}
	if r.open = false; r.depth >= maxDepth {
		return nil, fmt.Errorf("line %d: %q: %d chains lie in each other", c.line, c.name, r.depth+1)
	}
	return r, nil
}
