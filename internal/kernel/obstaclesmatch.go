package kernel

import (
	"math"
	"net/netip"
	"slices"
	"strings"
)

// known is what is known of a thing that rules look at.
type known struct {
	words  []string // how nft may write it; of a thing of bits, those that are set
	number int64    // -1: it is none
	bits   bool
	device bool // words are names of devices, which may be matched by their beginning
	addr   netip.Addr
	single bool // it is the address of one host, and which is not known
}

// holds reports whether a statement lets a packet on to the next one of its rule.
func (w *walk) holds(r *filterRule, s object) truth {
	if l, ok := s["limit"].(object); ok {
		return truly(l["inv"] != true) // the first packet is below it
	}
	if x, ok := s["xt"]; ok {
		body, _ := x.(object)
		return w.foreign(r, body)
	}
	m, _ := s["match"].(object)
	if w.applies(m["left"]) == never {
		return never
	}
	switch m["op"] {
	case "==", "in":
		return w.equal(m["left"], m["right"])
	case "!=":
		return not(w.equal(m["left"], m["right"]))
	}
	return perhaps
}

// applies reports whether a packet has what an expression looks at: a rule about ports is for no
// other protocol, whatever it compares them with.
func (w *walk) applies(left any) truth {
	o, _ := left.(object)
	if parts, ok := o["concat"].([]any); ok {
		t := always
		for _, p := range parts {
			t = min(t, w.applies(p))
		}
		return t
	}
	if parts, ok := o["&"].([]any); ok && len(parts) > 0 {
		return w.applies(parts[0])
	}
	p, ok := o["payload"].(object)
	if !ok {
		return always
	}
	switch p["protocol"] {
	case "ip":
		return truly(!w.six)
	case "ip6":
		return truly(w.six)
	case "tcp", "udp":
		return truly(p["protocol"] == w.protocol)
	case "icmp":
		return truly(w.protocol == "icmp" && !w.six)
	case "icmpv6":
		return truly(w.protocol == "icmp" && w.six)
	case "th":
		return truly(w.protocol != "icmp")
	case "ah", "esp", "comp", "sctp", "dccp", "udplite", "igmp", "gre", "arp":
		return never
	}
	return perhaps
}

// equal compares what an expression looks at with a value, or with each of a set's.
func (w *walk) equal(left, right any) truth {
	if elements, ok := w.elements(right); ok {
		found := never
		for _, e := range elements {
			if found = max(found, w.equal(left, e)); found == always {
				break
			}
			if found == perhaps && !w.anything(left) {
				break // of a set of a thousand addresses one is enough
			}
		}
		return found
	}
	if strings.HasPrefix(word(right), "@") {
		return perhaps // a set that changes by itself
	}
	o, _ := left.(object)
	if parts, ok := o["concat"].([]any); ok {
		r, _ := right.(object)
		values, ok := r["concat"].([]any)
		if !ok || len(values) != len(parts) {
			return perhaps
		}
		t := always
		for i := range parts {
			t = min(t, w.equal(parts[i], values[i]))
		}
		return t
	}
	k, ok := w.look(o)
	if !ok {
		return perhaps
	}
	return k.is(right)
}

// anything reports whether there is something known of an expression.
func (w *walk) anything(left any) bool {
	o, _ := left.(object)
	if parts, ok := o["concat"].([]any); ok {
		return slices.ContainsFunc(parts, w.anything)
	}
	_, ok := w.look(o)
	return ok
}

// elements returns those of a set or map, written out or named; false where it is none, or one
// that changes by itself.
func (w *walk) elements(v any) ([]any, bool) {
	if name, ok := v.(string); ok && strings.HasPrefix(name, "@") {
		set, ok := w.table.sets[name[1:]]
		for _, f := range list(set["flags"]) {
			if f == "dynamic" || f == "timeout" {
				return nil, false
			}
		}
		return list(set["elem"]), ok
	}
	o, _ := v.(object)
	elements, ok := o["set"]
	return list(elements), ok
}

// look returns what is known of what an expression looks at.
func (w *walk) look(left object) (known, bool) {
	for kind, v := range left {
		body, _ := v.(object)
		switch kind {
		case "meta":
			return w.meta(word(body["key"]))
		case "ct":
			return w.connection(word(body["key"]))
		case "payload":
			return w.payload(word(body["protocol"]), word(body["field"]))
		case "fib":
			if flags := list(body["flags"]); body["result"] == "type" && len(flags) == 1 && flags[0] == "daddr" {
				if w.out == "" {
					return known{words: []string{"local"}, number: 2}, true // RTN_LOCAL
				}
				return known{words: []string{"unicast"}, number: 1}, true
			}
		case "&":
			parts, _ := v.([]any)
			if len(parts) != 2 {
				return known{}, false
			}
			inner, _ := parts[0].(object)
			k, ok := w.look(inner)
			mask, fits := numberOf(parts[1])
			if !ok || !fits || k.number < 0 {
				return known{}, false
			}
			return known{number: k.number & mask}, true
		}
	}
	return known{}, false
}

func (w *walk) meta(key string) (known, bool) {
	switch key {
	case "iifname", "iif":
		return known{words: []string{w.in}, number: -1, device: true}, true
	case "oifname", "oif":
		return known{words: []string{w.out}, number: -1, device: true}, true
	case "nfproto":
		return pick(w.six, known{words: []string{"ipv6"}, number: 10}, known{words: []string{"ipv4"}, number: 2}), true
	case "protocol":
		return pick(w.six, known{words: []string{"ip6"}, number: 0x86dd}, known{words: []string{"ip"}, number: 0x800}), true
	case "l4proto":
		return w.transport(), true
	case "pkttype":
		return known{words: []string{"host", "unicast"}, number: 0}, true
	case "mark":
		return known{number: 0}, !w.marked
	}
	return known{}, false
}

func pick[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

// transport is the packet's transport protocol.
func (w *walk) transport() known {
	switch {
	case w.protocol == "tcp":
		return known{words: []string{"tcp"}, number: 6}
	case w.protocol == "udp":
		return known{words: []string{"udp"}, number: 17}
	case w.six:
		return known{words: []string{"ipv6-icmp", "icmpv6"}, number: 58}
	}
	return known{words: []string{"icmp"}, number: 1}
}

// connection is what conntrack says. (linux/netfilter/nf_conntrack_common.h)
func (w *walk) connection(key string) (known, bool) {
	switch key {
	case "state":
		return pick(w.answer, known{words: []string{"established"}, number: 2, bits: true}, known{words: []string{"new"}, number: 8, bits: true}), true
	case "direction":
		return pick(w.answer, known{words: []string{"reply"}, number: 1}, known{words: []string{"original"}, number: 0}), true
	case "status":
		if w.to.IsValid() {
			return known{words: []string{"dnat"}, number: 1 << 5, bits: true}, !w.answer
		}
		return known{bits: true}, !w.answer && !w.translated
	}
	return known{}, false
}

func (w *walk) payload(protocol, field string) (known, bool) {
	switch protocol + " " + field {
	case "tcp dport", "udp dport", "th dport":
		return known{number: int64(w.port)}, !w.answer
	case "ip daddr", "ip6 daddr":
		if w.to.IsValid() && !w.answer {
			return known{number: -1, addr: w.to}, true
		}
		return known{number: -1, single: true}, true
	case "icmp type":
		return pick(w.answer, known{words: []string{"echo-reply"}, number: 0}, known{words: []string{"echo-request"}, number: 8}), true
	case "icmpv6 type":
		return pick(w.answer, known{words: []string{"echo-reply"}, number: 129}, known{words: []string{"echo-request"}, number: 128}), true
	case "icmp code", "icmpv6 code":
		return known{words: []string{"no-route", "net-unreachable"}, number: 0}, true // as nft writes a zero
	case "ip protocol", "ip6 nexthdr":
		return w.transport(), true
	case "tcp flags":
		return pick(w.answer, known{words: []string{"syn", "ack"}, number: 0x12, bits: true}, known{words: []string{"syn"}, number: 2, bits: true}), true
	}
	return known{}, false
}

// is compares what is known with a value as nft writes it.
func (k known) is(right any) truth {
	switch x := right.(type) {
	case string:
		return k.isWord(x)
	case float64:
		if k.number < 0 {
			return perhaps
		}
		return truly(pick(k.bits, k.number&int64(x) != 0, k.number == int64(x)))
	case []any: // bits
		t := never
		for _, e := range x {
			t = max(t, k.is(e))
		}
		return t
	case object:
		return k.within(x)
	}
	return perhaps
}

func (k known) isWord(s string) truth {
	begin, all := strings.CutSuffix(s, "*")
	switch {
	case k.device:
		return truly(k.words[0] == s || all && strings.HasPrefix(k.words[0], begin))
	case k.addr.IsValid():
		a, err := netip.ParseAddr(s)
		if err != nil {
			return perhaps
		}
		return truly(a == k.addr)
	case k.single:
		a, err := netip.ParseAddr(s)
		return pick(err == nil && a.IsMulticast(), never, perhaps)
	case slices.Contains(k.words, s):
		return always
	case k.bits || len(k.words) > 0:
		return never
	}
	n, ok := numberOf(s)
	if !ok || k.number < 0 {
		return perhaps
	}
	return truly(n == k.number)
}

// within compares with a range, a prefix, or an element that says more of itself.
func (k known) within(o object) truth {
	if e, ok := o["elem"].(object); ok {
		return k.is(e["val"])
	}
	if ends, ok := o["range"].([]any); ok && len(ends) == 2 {
		if k.addr.IsValid() {
			first, err := netip.ParseAddr(word(ends[0]))
			last, err2 := netip.ParseAddr(word(ends[1]))
			if err != nil || err2 != nil {
				return perhaps
			}
			return truly(first.Compare(k.addr) <= 0 && k.addr.Compare(last) <= 0)
		}
		first, ok := numberOf(ends[0])
		last, ok2 := numberOf(ends[1])
		if !ok || !ok2 || k.number < 0 {
			return perhaps
		}
		return truly(first <= k.number && k.number <= last)
	}
	p, _ := o["prefix"].(object)
	a, err := netip.ParseAddr(word(p["addr"]))
	bits, isNumber := p["len"].(float64)
	switch {
	case err != nil || !isNumber:
		return perhaps
	case k.single:
		return pick(a.IsMulticast(), never, perhaps)
	case k.addr.IsValid():
		return truly(netip.PrefixFrom(a, int(bits)).Contains(k.addr))
	}
	return perhaps
}

// tcpFlags are the bits of a TCP header that nft has words for.
var tcpFlags = map[string]int64{"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128}

// numberOf returns the number that nft writes as one, or as words for bits.
func numberOf(v any) (int64, bool) {
	switch x := v.(type) {
	case float64:
		return int64(x), x >= 0 && x <= math.MaxUint32
	case string:
		n, ok := tcpFlags[x]
		return n, ok
	case []any:
		return orOf(x)
	case object:
		if parts, ok := x["|"].([]any); ok {
			return orOf(parts)
		}
	}
	return 0, false
}

func orOf(parts []any) (int64, bool) {
	n := int64(0)
	for _, p := range parts {
		bits, ok := numberOf(p)
		if !ok {
			return 0, false
		}
		n |= bits
	}
	return n, true
}
