package ruleset

import (
	"net/netip"
)

// run is one packet in one hook.
type run struct {
	t        *Table
	p        *Packet
	c        *Conn // nil: none
	e        Env
	hook     Hook
	state    uint32
	src, dst netip.Addr // as translated by an earlier chain of the hook
	src4     uint32     // as numbers, of IPv4
	dst4     uint32
	port     uint16
	dnat     bool
	ip6      bool
	family   int    // 0: IPv4
	iif, oif uint32 // numbers of the devices, unknown before they were asked for
	record   bool
	steps    []Step
	nat      *NAT
}

const unknown = ^uint32(0)

// Run sends a packet through the base chains of a hook, in the order of their priorities, and
// writes the marks that they set into p and c. An accept ends one of them, a drop all. Chains for
// translation see only packets of new connections, and end with the first that translates: what
// that says is in the result and, for later chains of the same hook, in force; the caller writes
// it into packets and connections. Without a connection, c is nil or invalid.
//
// Steps are kept if record says so: without, it allocates nothing but a NAT, if p and c are used
// again for the next hook.
func (t *Table) Run(h Hook, p *Packet, c *Conn, e Env, record bool) Result {
	if h < 0 || int(h) >= len(t.hooks) {
		panic("ruleset: there is no " + h.String())
	}
	if t.onlyNAT[h] && (c == nil || c.State != "new") {
		return Result{Verdict: verdictWords[accept]}
	}
	x := run{t: t, p: p, e: e, hook: h, state: stateInvalid, src: p.Src, dst: p.Dst, port: p.DPort, iif: unknown, oif: unknown, record: record}
	if x.ip6 = !p.Dst.Is4() && !p.Src.Is4(); x.ip6 {
		x.family = 1
	} else {
		x.src4, x.dst4 = number4(p.Src), number4(p.Dst)
	}
	if c != nil {
		if x.state = stateOf(c.State); x.state != stateInvalid {
			x.c = c
		}
	}
	if record && len(t.hooks[h]) > 0 {
		x.steps = make([]Step, 0, 16)
	}
	out := Result{Verdict: verdictWords[accept]}
	var last decision
	for _, b := range t.hooks[h] {
		if b.nat && (x.state != stateNew || x.nat != nil) {
			continue
		}
		if b.untraced {
			conn, state := x.c, x.state
			x.c, x.state = nil, stateInvalid
			last = x.base(b.chain)
			x.c, x.state = conn, state
		} else {
			last = x.base(b.chain)
		}
		if last.action == drop || last.action == reject {
			out.Verdict = verdictWords[last.action]
			break
		}
	}
	if last.chain != nil && (record || last.action != accept) {
		out.Why = last.step()
	}
	out.Steps, out.NAT = x.steps, x.nat
	return out
}

func stateOf(word string) uint32 {
	switch word {
	case "established":
		return stateEstablished
	case "new":
		return stateNew
	case "related":
		return stateRelated
	case "invalid":
		return stateInvalid
	}
	panic("ruleset: no connection is " + word)
}

// decision is what a chain does with a packet, and what says so.
type decision struct {
	action
	chain *chain
	rule  *rule // nil: the chain's policy
}

func (d decision) step() Step {
	if d.rule == nil {
		return Step{d.chain.name, policyTexts[d.action], d.chain.line, true}
	}
	return Step{d.chain.name, d.rule.text, d.rule.line, true}
}

// base runs a base chain.
func (x *run) base(b *chain) decision {
	if d := x.chain(b); d.rule != nil {
		return d
	}
	d := decision{b.policy, b, nil}
	if x.record {
		x.steps = append(x.steps, d.step())
	}
	return d
}

var policyTexts = [...]string{accept: "policy accept", drop: "policy drop"}

// maxDepth is how many chains lead to each other at most (NFT_JUMP_STACK_SIZE).
const maxDepth = 16

// chain runs a chain and those that it leads to, until a rule decides. Without a rule none did.
func (x *run) chain(c *chain) decision {
	for i, rules := 0, x.rules(c); i < len(rules); {
		b := &rules[i]
		i++
		did, to, matched := next, b.chain, x.matches(b.tests)
		switch {
		case !matched:
		case b.branch != nil:
			did, to, matched = x.branch(b.branch)
		case b.more:
			did, matched = x.does(b.rule)
		default:
			did = b.action
		}
		if x.record {
			x.steps = append(x.steps, Step{c.name, b.rule.text, b.rule.line, matched})
		}
		switch did {
		case next:
		case returns:
			return decision{}
		case jumps:
			if d := x.chain(to); d.rule != nil {
				return d
			}
		case gotos: // it does not come back: what comes after its end is what comes after ours
			c = to
			i, rules = 0, x.rules(c)
		default:
			return decision{did, c, b.rule}
		}
	}
	return decision{}
}

// rules are those of a chain that have to be looked at.
func (x *run) rules(c *chain) []brief {
	if x.record {
		return c.all
	}
	return c.short[x.family]
}

// matches reports whether a packet passes the tests of a rule.
func (x *run) matches(tests []test) bool {
	for i := range tests {
		t := &tests[i]
		_, applies, found := x.find(&t.lookup)
		if !applies || found == t.not {
			return false
		}
	}
	return true
}

// branch looks up what a map says.
func (x *run) branch(b *branch) (did action, to *chain, matched bool) {
	value, _, found := x.find(&b.lookup)
	if !found {
		return next, nil, false
	}
	v := &b.verdicts[value]
	return v.action, v.chain, true
}

// does marks and translates a packet that passes the tests of a rule. It returns what the rule does
// then, if it matches at all.
func (x *run) does(r *rule) (action, bool) {
	for _, m := range r.marks {
		switch {
		case !m.ct:
			x.p.Mark = x.p.Mark&m.and | m.or
		case x.c == nil:
			return next, false
		default:
			x.c.Mark = x.c.Mark&m.and | m.or
		}
	}
	if r.nat != nil {
		return x.translate(r.nat)
	}
	return r.verdict.action, true
}

// find looks a value up: whether there is one, whether it was found, and what a map has for it.
func (x *run) find(l *lookup) (value uint32, applies, found bool) {
	if l.large != nil {
		return x.findLarge(l)
	}
	n, ok := x.load(l.field)
	switch n &= l.mask; {
	case !ok:
		return 0, false, false
	case l.only:
		return 0, true, l.first <= n && n <= l.last
	}
	value, found = findNarrow(l.narrow, n)
	return value, true, found
}

// findLarge is find for addresses of IPv6, and for addresses with ports.
func (x *run) findLarge(l *lookup) (value uint32, applies, found bool) {
	var n wide
	if l.field.ip6() {
		n, applies = x.load6(l.field)
	} else {
		var narrow uint32
		narrow, applies = x.load(l.field)
		n = wide{lo: uint64(narrow)}
	}
	switch {
	case !applies:
		return 0, false, false
	case l.ports:
		value, found = l.large.boxes.find(n, x.protoPort())
	default:
		value, found = findWide(l.large.wide, n)
	}
	return value, true, found
}

// translate notes what a statement says. One of the other family matches and does nothing
// (nft_nat_inet_eval).
func (x *run) translate(n *translation) (action, bool) {
	if n.masquerade {
		x.nat = &NAT{Masquerade: true}
		return translates, true
	}
	to := n.targets[0]
	if n.mapped {
		value, _, found := x.find(&n.lookup)
		if !found {
			return next, false
		}
		to = n.targets[value]
	}
	now := &x.dst
	if n.source {
		now = &x.src
	}
	if n.ip6 != x.ip6 || now.BitLen() != to.Addr().BitLen() {
		return next, true
	}
	before, port := *now, x.port
	if *now = to.Addr(); n.prefix {
		*now = within(to.Prefix, before)
	}
	x.src4, x.dst4 = number4(x.src), number4(x.dst)
	if n.source {
		x.nat = &NAT{Src: *now}
		return translates, true
	}
	x.nat = &NAT{Dst: *now, Port: to.port}
	if to.port != 0 {
		x.port = to.port
	}
	x.dnat = *now != before || x.port != port // what stays as it is has no such status
	return translates, true
}
