package ruleset

import (
	"maps"
	"slices"
	"strings"
)

// all is the mask of a selector that is looked at as a whole.
const all = ^uint32(0)

// readRule reads a rule: tests, marks, a verdict.
func (p *parser) readRule(w *words) rule {
	var r rule
	for w.word != "" {
		if done := p.readPart(w, &r); done {
			w.end()
			break
		}
	}
	return r
}

// readPart reads a test or a statement, and reports whether the rule ends there.
func (p *parser) readPart(w *words, r *rule) (done bool) {
	word := w.word
	if v, found := p.verdict(w); found {
		r.verdict = v
		return true
	}
	switch word {
	case "masquerade", "dnat", "snat":
		r.nat = p.readTranslation(w)
		return true
	}
	if len(r.marks) > 0 {
		w.unknown("a verdict: tests stand before what sets a mark")
		return true
	}
	l, direct, statement := p.readSelector(w, r)
	switch {
	case statement || w.err != nil:
		return false
	case direct != nil:
		r.tests = append(r.tests, *direct)
	case w.take("vmap"):
		r.branch = p.readBranch(w, l)
		return true
	default:
		r.tests = append(r.tests, p.readTest(w, l))
	}
	return false
}

// The selectors that are two words, and compared with values.
var selectors = map[string]map[string]field{
	"ip":     {"saddr": saddr4, "daddr": daddr4, "protocol": protocol4},
	"ip6":    {"saddr": saddr6, "daddr": daddr6},
	"tcp":    {"sport": tcpSport, "dport": tcpDport, "flags": tcpFlags, "option": nothing},
	"udp":    {"sport": udpSport, "dport": udpDport},
	"icmp":   {"type": icmpType},
	"icmpv6": {"type": icmp6Type},
	"meta":   {"nfproto": nfproto, "l4proto": l4proto, "mark": mark},
	"ct":     {"state": ctState, "direction": ctDirection, "status": ctStatus, "mark": ctMark, "original": nothing},
}

// originals are those that stand behind `ct original`.
var originals = map[string]map[string]field{
	"ip":  {"saddr": originalSaddr4, "daddr": originalDaddr4},
	"ip6": {"saddr": originalSaddr6, "daddr": originalDaddr6},
}

// readSelector reads what a test or a map looks at, and if that has a form of its own the whole
// test or statement.
func (p *parser) readSelector(w *words, r *rule) (l lookup, direct *test, statement bool) {
	l.mask = all
	first := w.next()
	switch first {
	case "iifname":
		l.field = iifname
		if w.take(".") {
			w.expect("oifname")
			l.field = twoNames
		}
		return l, nil, false
	case "oifname":
		l.field = oifname
		return l, nil, false
	case "fib":
		return l, readFib(w), false
	}
	seconds, known := selectors[first]
	if !known {
		w.fail(first, "no expression or statement that is known here")
		return l, nil, false
	}
	second := w.word
	l.field = oneOf(w, seconds, "one of "+strings.Join(slices.Sorted(maps.Keys(seconds)), ", "))
	switch {
	case w.err != nil:
	case second == "option":
		readSegmentSize(w)
		return l, equal(l4proto, all, tcp), false
	case second == "original":
		l.field = oneOf(w, oneOf(w, originals, "ip or ip6"), "saddr or daddr")
	case second == "flags":
		return l, readFlags(w), false
	case l.field == l4proto && w.take("."):
		w.expect("th", "dport")
		l.field = protoPort
	case w.word == "." && (l.field.ip4() || l.field.ip6()):
		w.expect(".", "meta", "l4proto", ".", "th", "dport")
		if l.ports = true; w.word != "vmap" {
			w.unknown("`vmap`")
		}
	case second == "mark" && w.take("set"):
		r.marks = append(r.marks, readAssignment(w, first))
		return l, nil, true
	case second == "mark" && w.take("&"):
		l.mask = w.number(32)
	}
	return l, nil, false
}

// equal returns the test for one value.
func equal(f field, mask, n uint32) *test {
	return &test{lookup: lookup{selector: selector{field: f, mask: mask}, narrow: []span[uint32]{{first: n, last: n}}}}
}

func readFib(w *words) *test {
	source := oneOf(w, map[string]bool{"saddr": true, "daddr": false}, "saddr or daddr")
	switch {
	case source && w.take("."):
		w.expect("iif", "oif", "missing")
		return equal(fibMissing, all, 1)
	case source:
		w.expect("type", "local")
		return equal(fibSaddrLocal, all, 1)
	}
	w.expect("type")
	if w.take("!=") {
		w.expect("{", "broadcast", ",", "multicast", "}")
		return equal(fibDaddrMany, all, 0)
	}
	w.expect("local")
	return equal(fibDaddrLocal, all, 1)
}

// readSegmentSize reads what changes the option of TCP, of which packets here have none.
func readSegmentSize(w *words) {
	w.expect("maxseg", "size", "set")
	if w.take("rt") {
		w.expect("mtu")
		return
	}
	w.number(16)
}

var flagWords = map[string]uint32{"fin": 1, "syn": flagSYN, "rst": 4, "psh": 8, "ack": flagACK, "urg": 32}

const aFlag = "a flag of TCP"

// readFlags reads both forms of a comparison of some of TCP's flags: `syn / syn,rst` and
// `& (syn | ack) != syn`.
func readFlags(w *words) *test {
	if w.take("&") {
		w.expect("(")
		mask := oneOf(w, flagWords, aFlag)
		for w.take("|") {
			mask |= oneOf(w, flagWords, aFlag)
		}
		w.expect(")")
		not := w.take("!=")
		if !not {
			w.expect("==")
		}
		t := equal(tcpFlags, mask, oneOf(w, flagWords, aFlag))
		t.not = not
		return t
	}
	list := func() uint32 {
		n := oneOf(w, flagWords, aFlag)
		for w.take(",") {
			n |= oneOf(w, flagWords, aFlag)
		}
		return n
	}
	want := list()
	w.expect("/")
	return equal(tcpFlags, list(), want)
}

// readAssignment reads what follows `meta mark set` or `ct mark set`.
func readAssignment(w *words, what string) assignment {
	a := assignment{ct: what == "ct"}
	w.expect(what, "mark", "&")
	a.and = w.number(32)
	w.expect("|")
	a.or = w.number(32)
	return a
}

// The bits of selectors that are tested for any of some.
var bits = map[field]map[string]uint32{
	ctState:  {"invalid": stateInvalid, "established": stateEstablished, "related": stateRelated, "new": stateNew},
	ctStatus: {"snat": statusSNAT, "dnat": statusDNAT},
}

// readTest reads the operator and the values of a test.
func (p *parser) readTest(w *words, l lookup) test {
	if table := bits[l.field]; table != nil {
		const what = "a state or status that is known here"
		l.mask = oneOf(w, table, what)
		for w.take(",") {
			l.mask |= oneOf(w, table, what)
		}
		l.narrow = []span[uint32]{{}}
		return test{lookup: l, not: true} // not none of them
	}
	t := test{lookup: l, not: w.take("!=")}
	if !t.not {
		w.take("==")
	}
	p.spans(w, &t.lookup, nil)
	return t
}
