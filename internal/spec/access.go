package spec

// access takes over whose sources are translated, and who may talk to whom.
func (b *builder) access() {
	if len(b.f.nat.v) == 0 && !b.f.policy.given {
		return
	}
	p := b.newParties()
	p.nat()
	p.policy()
}

// policy takes over who may open connections to whom.
func (p *parties) policy() {
	d := p.f.policy
	if !d.given {
		return
	}
	out := &Policy{Deny: d.v.otherwise.or("allow") == "deny"}
	decided := decisions{}
	for _, r := range d.v.rules.v {
		rule, from, to := p.rule(r)
		if rule == nil {
			continue
		}
		if line := decided.add(p.all, from, to, rule); line > 0 {
			p.warn(r.Pos, codeShadowed, "rules are asked in their order: put the narrower one first, or delete this one", "this rule never matches: line %d decides what it is about", line)
		}
		out.Rules = append(out.Rules, *rule)
	}
	p.n.Policy = out
}

// rule reads a rule; it is nil where something in it could not be read.
func (p *parties) rule(r at[ruleDecl]) (rule *PolicyRule, from, to *party) {
	from, to = p.side(r.v.from), p.side(r.v.to)
	allow, deny := r.v.allow, r.v.deny
	switch {
	case allow.given && deny.given:
		p.err(deny.Pos, codePolicy, "make two rules of it; the first that matches decides", "this rule has both `allow:` and `deny:`")
		return nil, nil, nil
	case !allow.given && !deny.given:
		if !r.doubt { // it may be said in what could not be read
			p.err(r.Pos, codePolicy, "add `allow: all` or `deny: all`, or name protocols and ports, for example `allow: 443/tcp`", "this rule does not say what it allows or denies")
		}
		return nil, nil, nil
	case from == nil || to == nil || r.doubt:
		return nil, nil, nil
	case from.Internet && to.Internet && len(from.Prefixes)+len(to.Prefixes) == 0:
		p.err(r.Pos, codePolicy, "one side of a rule is of the network", "this rule is about the Internet alone, none of which passes here")
		return nil, nil, nil
	}
	rule = &PolicyRule{Pos: r.Pos, From: from.Group, To: to.Group, Allow: allow.given}
	for _, s := range append(allow.v, deny.v...) {
		rule.Ports = append(rule.Ports, s.v)
	}
	rule.Ports = normalPorts(rule.Ports)
	return rule, from, to
}

func (p *parties) side(words at[[]at[string]]) *party {
	if !words.ok {
		return nil
	}
	return p.group(words.v, -1)
}

// decisions holds, by what rules are about, the line of the first that decides it. It knows
// rules with the same sides and the same ports, and those of everybody and everything, which
// are the mistakes that people make: to know all it would have to compare all with all.
type decisions map[decision]int

type decision struct {
	from, to *party
	port     PolicyPort // zero: everything
}

// add returns the line of a rule that leaves nothing for this one to decide, else 0.
func (ds decisions) add(all, from, to *party, r *PolicyRule) (line int) {
	ports := r.Ports
	if len(ports) == 0 {
		ports = []PolicyPort{{}}
	}
	left := false
	for _, port := range ports {
		by := ds.by(all, from, to, port)
		line = max(line, by)
		left = left || by == 0
	}
	if !left {
		return line
	}
	for _, port := range ports {
		if d := (decision{from, to, port}); ds[d] == 0 {
			ds[d] = r.Pos.Line
		}
	}
	return 0
}

// by returns the line of a rule that decides about all of a port, 0 where there is none.
func (ds decisions) by(all, from, to *party, port PolicyPort) int {
	for _, f := range wider(all, from) {
		for _, t := range wider(all, to) {
			for _, q := range []PolicyPort{{}, {Protocol: port.Protocol}, port} {
				if line := ds[decision{f, t, q}]; line > 0 {
					return line
				}
			}
		}
	}
	return 0
}

// wider returns who is all of a party: itself, and the whole network where it is a part.
func wider(all, of *party) []*party {
	if of.Internet {
		return []*party{of}
	}
	return []*party{of, all}
}
