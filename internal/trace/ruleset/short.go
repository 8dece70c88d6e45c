package ruleset

// brief is a rule as it is run: what is looked at first stands together.
type brief struct {
	tests  []test
	action action
	more   bool    // it marks or translates
	chain  *chain  // of the action
	branch *branch // instead of it
	rule   *rule
}

// whole returns all rules of a chain.
func (c *chain) whole() []brief {
	out := make([]brief, len(c.rules))
	for i := range c.rules {
		out[i] = c.rules[i].brief(c.rules[i].tests)
	}
	return out
}

func (r *rule) brief(tests []test) brief {
	return brief{tests, r.verdict.action, len(r.marks) > 0 || r.nat != nil, r.verdict.chain, r.branch, r}
}

// shortener finds for each family the rules that may do anything to a packet of it: to most packets
// half of a table's rules say nothing, as they are about the other family, or change what packets
// here do not have. A table's lie together in memory, in the order in which packets meet them.
type shortener struct {
	tests  []test
	briefs []brief
}

func newShortener(chains []*chain) *shortener {
	tests, rules := 0, 0
	for _, c := range chains {
		rules += len(c.rules)
		for i := range c.rules {
			tests += len(c.rules[i].tests)
		}
	}
	return &shortener{make([]test, 0, 2*tests), make([]brief, 0, 2*rules)}
}

// shorten does so for a chain and those that it leads to.
func (s *shortener) shorten(c *chain) {
	if c.all != nil {
		return
	}
	c.all = c.whole()
	for i := range c.rules {
		r := &c.rules[i]
		if r.verdict.chain != nil {
			s.shorten(r.verdict.chain)
		}
		if r.branch != nil {
			for _, v := range r.branch.verdicts {
				if v.chain != nil {
					s.shorten(v.chain)
				}
			}
		}
	}
	for family := range c.short {
		first := len(s.briefs)
		for i := range c.rules {
			if r := &c.rules[i]; r.does(family) {
				s.add(r, family)
			}
		}
		c.short[family] = s.briefs[first:len(s.briefs):len(s.briefs)]
	}
}

// add adds a rule with the tests that not all packets of a family pass, unless none can match.
func (s *shortener) add(r *rule, family int) {
	first := len(s.tests)
	for _, t := range r.tests {
		applies := t.field.family() != 1-family
		if applies && t.field == nfproto {
			_, found := findNarrow(t.narrow, families[family]&t.mask)
			if found != t.not {
				continue
			}
			applies = false
		}
		if !applies {
			s.tests = s.tests[:first]
			return
		}
		if t.large == nil && len(t.narrow) == 1 {
			t.only, t.first, t.last = true, t.narrow[0].first, t.narrow[0].last
		}
		s.tests = append(s.tests, t)
	}
	s.briefs = append(s.briefs, r.brief(s.tests[first:len(s.tests):len(s.tests)]))
}

// does reports whether a rule that matches may do anything to a packet of a family.
func (r *rule) does(family int) bool {
	switch {
	case len(r.marks) > 0 || r.nat != nil:
		return true
	case r.branch != nil:
		return r.branch.field.family() != 1-family
	case r.verdict.action == jumps:
		return len(r.verdict.chain.short[family]) > 0
	}
	return r.verdict.action != next
}

// families are nfproto's numbers of IPv4 and IPv6.
var families = [...]uint32{ipv4, ipv6}

// family returns in which family alone a field applies; -1: in both.
func (f field) family() int {
	switch f {
	case saddr4, daddr4, protocol4, icmpType:
		return 0
	case saddr6, daddr6, icmp6Type:
		return 1
	}
	return -1
}
