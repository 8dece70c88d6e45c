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
	port     uint16
	dnat     bool
	ip6      bool
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
	x := run{t: t, p: p, e: e, hook: h, state: stateInvalid, src: p.Src, dst: p.Dst, port: p.DPort, iif: unknown, oif: unknown, record: record}
	x.ip6 = !p.Dst.Is4() && !p.Src.Is4()
	if c != nil {
		if x.state = stateOf(c.State); x.state != stateInvalid {
			x.c = c
		}
	}
	if record && len(t.hooks[h]) > 0 {
		x.steps = make([]Step, 0, 16)
	}
	out := Result{Verdict: verdictWords[accept]}
	for _, b := range t.hooks[h] {
		if b.nat && (x.state != stateNew || x.nat != nil) {
			continue
		}
		conn, state := x.c, x.state
		if b.untraced {
			x.c, x.state = nil, stateInvalid
		}
		did, why := x.base(b)
		x.c, x.state = conn, state
		out.Why = why
		if did == drop || did == reject {
			out.Verdict = verdictWords[did]
			break
		}
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

// base runs a base chain and returns what it does with the packet, and why.
func (x *run) base(b *chain) (action, Step) {
	did, in, r := x.chain(b)
	if r != nil {
		return did, Step{in.name, r.text, r.line, true}
	}
	why := Step{b.name, policyTexts[b.policy], b.line, true}
	if x.record {
		x.steps = append(x.steps, why)
	}
	return b.policy, why
}

var policyTexts = [...]string{accept: "policy accept", drop: "policy drop"}

// maxDepth is how many chains lead to each other at most (NFT_JUMP_STACK_SIZE).
const maxDepth = 16

// chain runs a chain and those that it leads to, until a rule decides. r is nil where none did.
func (x *run) chain(c *chain) (did action, in *chain, r *rule) {
	type place struct {
		*chain
		rule int
	}
	var stack [maxDepth]place // where to go on
	depth, i := 0, 0
	for {
		if i >= len(c.rules) {
			if depth == 0 {
				return next, nil, nil
			}
			depth--
			c, i = stack[depth].chain, stack[depth].rule
			continue
		}
		r := &c.rules[i]
		i++
		v, matched := x.rule(r)
		if x.record {
			x.steps = append(x.steps, Step{c.name, r.text, r.line, matched})
		}
		switch v.action {
		case next:
		case returns:
			i = len(c.rules)
		case jumps:
			stack[depth] = place{c, i}
			depth++
			c, i = v.chain, 0
		case gotos: // it does not come back: what comes after its end is what comes after ours
			c, i = v.chain, 0
		default:
			return v.action, c, r
		}
	}
}

// rule returns what a rule does, and whether it matched.
func (x *run) rule(r *rule) (verdict, bool) {
	for i := range r.tests {
		t := &r.tests[i]
		_, applies, found := x.find(&t.lookup)
		if !applies || found == t.not {
			return verdict{}, false
		}
	}
	for _, m := range r.marks {
		switch {
		case !m.ct:
			x.p.Mark = x.p.Mark&m.and | m.or
		case x.c == nil:
			return verdict{}, false
		default:
			x.c.Mark = x.c.Mark&m.and | m.or
		}
	}
	if r.branch != nil {
		value, _, found := x.find(&r.branch.lookup)
		if !found {
			return verdict{}, false
		}
		return r.branch.verdicts[value], true
	}
	if r.nat != nil {
		return x.translate(r.nat)
	}
	return r.verdict, true
}

// find looks a value up: whether there is one, whether it was found, and what a map has for it.
func (x *run) find(l *lookup) (value uint32, applies, found bool) {
	if l.field.ip6() {
		n, ok := x.load6(l.field)
		switch {
		case !ok:
			return 0, false, false
		case l.ports:
			value, found = l.boxes.find(n, x.protoPort())
		default:
			value, found = findWide(l.wide, n)
		}
		return value, true, found
	}
	n, ok := x.load(l.field)
	switch {
	case !ok:
		return 0, false, false
	case l.ports:
		value, found = l.boxes.find(wide{lo: uint64(n)}, x.protoPort())
	default:
		value, found = findNarrow(l.narrow, n&l.mask)
	}
	return value, true, found
}

// translate notes what a statement says. One of the other family matches and does nothing
// (nft_nat_inet_eval).
func (x *run) translate(n *translation) (verdict, bool) {
	if n.masquerade {
		x.nat = &NAT{Masquerade: true}
		return verdict{action: translates}, true
	}
	to := n.targets[0]
	if n.mapped {
		value, _, found := x.find(&n.lookup)
		if !found {
			return verdict{}, false
		}
		to = n.targets[value]
	}
	now := &x.dst
	if n.source {
		now = &x.src
	}
	if n.ip6 != x.ip6 || now.BitLen() != to.Addr().BitLen() {
		return verdict{}, true
	}
	before, port := *now, x.port
	if *now = to.Addr(); n.prefix {
		*now = within(to.Prefix, before)
	}
	if n.source {
		x.nat = &NAT{Src: *now}
		return verdict{action: translates}, true
	}
	x.nat = &NAT{Dst: *now, Port: to.port}
	if to.port != 0 {
		x.port = to.port
	}
	x.dnat = *now != before || x.port != port // what stays as it is has no such status
	return verdict{action: translates}, true
}
