package kernel

import "net/netip"

// truth is whether something is so of a packet of which not all is known.
type truth int

const (
	never truth = iota
	perhaps
	always
)

func not(t truth) truth { return always - t }

// truly is a truth that is known.
func truly(yes bool) truth {
	if yes {
		return always
	}
	return never
}

// sample is a packet that must pass: the first of a connection, or one that answers.
type sample struct {
	in, out  string     // devices; no out: it is for the router itself
	six      bool       // IPv6
	protocol string     // tcp, udp, icmp: an echo request in either family
	port     uint16     // its destination
	to       netip.Addr // its destination, where that was translated
	answer   bool       // of an established connection, the other way
}

// outcome is what may become of a packet in a chain.
type outcome struct {
	passes, drops bool
	falls         bool        // to its end, or back to where it came from
	ends          string      // what becomes of it where nothing is unknown: passes or drops
	by            *filterRule // the rule that drops it, the last of those that may; nil: none
	unless        *filterRule // what may have let it pass before, and is not known
	doubt         *filterRule // what may drop it, and is not known
}

// walk follows packets through the chains of one table.
type walk struct {
	sample
	table      *filterTable
	marked     bool // others mark packets, so that a mark may be anything
	translated bool // we may have translated where it goes, as with a mapped LAN
	depth      int
}

// maxDepth is more than nftables lets chains lead into each other (NFT_JUMP_STACK_SIZE).
const maxDepth = 16

// base follows a packet through a base chain.
func (w *walk) base(c *filterChain) outcome {
	o := w.chain(c)
	if o.falls {
		o.falls = false
		if c.policy == "drop" {
			o.drops, o.by, o.ends = true, nil, "drops"
		} else {
			o.passes, o.ends = true, "passes"
		}
	}
	return o
}

func (w *walk) chain(c *filterChain) outcome {
	var o outcome
	if w.depth++; w.depth > maxDepth || c == nil {
		w.depth--
		return outcome{passes: true, drops: true, falls: true}
	}
	defer func() { w.depth-- }()
	for i := range c.rules {
		if w.rule(&c.rules[i], &o) {
			return o
		}
	}
	o.falls = true
	return o
}

// rule adds what a rule may do to what may become of a packet; it reports whether no packet
// comes past it.
func (w *walk) rule(r *filterRule, o *outcome) (ends bool) {
	held := always
	for _, s := range r.statements {
		if isMatch(s) {
			if held = min(held, w.holds(r, s)); held == never {
				return false
			}
		}
		if key, ok := s["vmap"].(object); ok {
			if w.looksUp(r, key, held, o) {
				return true
			}
			continue
		}
		if v, ok := verdictOf(s); ok {
			if !w.rejects(s) {
				return false
			}
			return w.verdict(r, v, held, o)
		}
	}
	return false
}

// isMatch reports whether a statement ends its rule for some packets.
func isMatch(s object) bool {
	if x, ok := s["xt"]; ok {
		body, _ := x.(object)
		return body["type"] != "target"
	}
	return s["match"] != nil || s["limit"] != nil
}

// verdict is what is done to a packet.
type verdict struct{ verb, target string }

// verdictOf returns the verdict that a statement is.
func verdictOf(s object) (verdict, bool) {
	for _, verb := range []string{"accept", "drop", "return", "reject", "queue", "jump", "goto"} {
		body, ok := s[verb]
		if !ok {
			continue
		}
		target, _ := body.(object)
		name, _ := target["target"].(string)
		return verdict{verb, name}, true
	}
	if x, ok := s["xt"].(object); ok && x["name"] == "REJECT" {
		return verdict{verb: "reject"}, true
	}
	return verdict{}, false
}

// rejects reports whether a reject is for a packet: of its kind nft leaves out what the rule says
// of the protocol.
func (w *walk) rejects(s object) bool {
	body, _ := s["reject"].(object)
	switch body["type"] {
	case "icmp":
		return !w.six
	case "icmpv6":
		return w.six
	case "tcp reset":
		return w.protocol == "tcp"
	}
	return true
}

func (w *walk) verdict(r *filterRule, v verdict, held truth, o *outcome) (ends bool) {
	var sub outcome
	switch v.verb {
	case "accept":
		sub.passes, sub.ends = true, "passes"
	case "drop", "reject":
		sub.drops, sub.by, sub.ends = true, r, "drops"
	case "return":
		sub.falls = true
	case "queue": // a program decides
		sub = outcome{passes: true, drops: true, by: r, doubt: r, unless: r, ends: "passes"}
	case "jump", "goto":
		sub = w.chain(w.table.chains[v.target])
	}
	if held != always {
		if sub.passes && sub.unless == nil {
			sub.unless = r
		}
		if sub.drops && sub.doubt == nil {
			sub.doubt = r
		}
	}
	comesBack := sub.falls && v.verb == "jump"
	o.passes, o.drops = o.passes || sub.passes, o.drops || sub.drops
	o.falls = o.falls || sub.falls && !comesBack
	if sub.by != nil {
		o.by = sub.by
	}
	if o.unless == nil {
		o.unless = sub.unless
	}
	if o.doubt == nil {
		o.doubt = sub.doubt
	}
	if held != always || comesBack {
		return false
	}
	o.ends = sub.ends
	return true
}

// looksUp follows a verdict map.
func (w *walk) looksUp(r *filterRule, vmap object, held truth, o *outcome) (ends bool) {
	if w.applies(vmap["key"]) == never {
		return false
	}
	elements, known := w.elements(vmap["data"])
	if !known {
		elements, held = nil, perhaps
		o.passes, o.drops, o.doubt, o.unless = true, true, r, r
	}
	for _, e := range elements {
		pair, _ := e.([]any)
		if len(pair) != 2 {
			continue
		}
		found := always // the catchall element
		if pair[0] != "*" {
			found = w.equal(vmap["key"], pair[0])
		}
		body, _ := pair[1].(object)
		v, ok := verdictOf(body)
		if found = min(held, found); found == never || !ok {
			continue
		}
		if w.verdict(r, v, found, o) {
			return true
		}
		if found == always {
			return false // it came back, or the rule may not hold
		}
	}
	return false
}
