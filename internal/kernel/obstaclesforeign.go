package kernel

import (
	"regexp"
	"strings"
)

// spoken is how nft writes in its own words what some matches of iptables look at, of which the
// JSON form has no more than the name. It has the words where libxtables and its modules are
// there, as they are where iptables is.
var spoken = map[any]*regexp.Regexp{
	"conntrack": regexp.MustCompile(`\b(ct) (state|status|direction) (!= )?([a-z,-]+)`),
	"state":     regexp.MustCompile(`\b(ct) (state) (!= )?([a-z,-]+)`),
	"addrtype":  regexp.MustCompile(`\b(fib) (daddr) type (!= )?([a-z]+)`),
	"icmp":      regexp.MustCompile(`\b(icmp) (type) (!= )?([a-z-]+|\d+)`),
	"icmp6":     regexp.MustCompile(`\b(icmpv6) (type) (!= )?([a-z-]+|\d+)`),
	"multiport": regexp.MustCompile(`\b(tcp|udp) (dport) (!= )?(\{[^}]*\}|[\d-]+)`),
}

// foreign reports whether a match of iptables' lets a packet on.
func (w *walk) foreign(r *filterRule, x object) truth {
	if x["name"] == "comment" {
		return always
	}
	say := spoken[x["name"]]
	if say == nil {
		return perhaps
	}
	said := say.FindAllStringSubmatch(r.text, -1)
	if len(said) == 0 {
		return perhaps
	}
	held := always
	for _, m := range said {
		held = min(held, w.holds(r, object{"match": matchOf(m[1], m[2], m[3] != "", m[4])}))
	}
	return held
}

// matchOf returns what nft has said as its JSON form would.
func matchOf(what, field string, differs bool, value string) object {
	m := object{"op": pick(differs, "!=", "==")}
	switch what {
	case "ct":
		m["left"] = object{"ct": object{"key": field}}
	case "fib":
		m["left"] = object{"fib": object{"result": "type", "flags": []any{field}}}
	default:
		m["left"] = object{"payload": object{"protocol": what, "field": field}}
	}
	var values []any
	for v := range strings.SplitSeq(strings.Trim(value, "{ }"), ",") {
		v = strings.TrimSpace(v)
		first, last, ranges := strings.Cut(v, "-")
		n, isNumber := digits(first)
		switch k, also := digits(last); {
		case ranges && isNumber && also:
			values = append(values, object{"range": []any{n, k}})
		case isNumber:
			values = append(values, n)
		default:
			values = append(values, v)
		}
	}
	m["right"] = object{"set": values}
	return m
}

func digits(s string) (float64, bool) {
	n := 0.0
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + float64(c-'0')
	}
	return n, s != ""
}
