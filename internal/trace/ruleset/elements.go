package ruleset

import (
	"strings"
)

// spans reads one value, those of a set, or if there is a function for what follows the colon,
// of a map, into a lookup.
func (p *parser) spans(w *words, l *lookup, value func() uint32) {
	isMap := value != nil
	if name, named := strings.CutPrefix(w.word, "@"); named && !isMap {
		s, found := p.sets[name]
		if !found || !l.field.ip4() && !l.field.ip6() || s.ip6 != l.field.ip6() {
			w.unknown("a set that is known, of that family")
		}
		l.narrow, l.large = s.narrow, s.large
		w.next()
		return
	}
	var list []span[wide]
	var pairs []box
	read := func() {
		s := p.element(w, l.field)
		var ports span[wide]
		if l.ports {
			w.expect(".")
			ports = p.element(w, protoPort)
		}
		if isMap {
			w.expect(":")
			s.value = value()
		}
		if l.ports {
			pairs = append(pairs, box{s.first, s.last, span[uint32]{uint32(ports.first.lo), uint32(ports.last.lo), s.value}})
			return
		}
		list = append(list, s)
	}
	start := w.word
	if isMap || start == "{" {
		w.expect("{")
		for read(); w.take(","); {
			read()
		}
		w.expect("}")
	} else {
		read()
	}
	var err error
	if l.ports {
		l.large = &large{}
		l.large.boxes, err = newBoxes(pairs)
	} else {
		list, err = arrange(list, isMap)
	}
	switch {
	case err != nil:
		w.fail(start, "an element %v", err)
	case l.ports:
	case l.field.ip6():
		l.large = &large{wide: list}
	default:
		l.narrow = narrowed(list)
	}
}

// The words for values.
var valueWords = map[field]map[string]uint32{
	nfproto:     {"ipv4": ipv4, "ipv6": ipv6},
	l4proto:     {"icmp": icmp4, "igmp": igmp, "tcp": tcp, "udp": udp, "ipv6-icmp": icmp6},
	protocol4:   {"icmp": icmp4, "igmp": igmp, "tcp": tcp, "udp": udp},
	ctDirection: {"original": 0, "reply": 1},
	icmpType:    {"echo-reply": 0, "destination-unreachable": 3, "echo-request": 8, "time-exceeded": 11},
	icmp6Type: {
		"destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4, "echo-request": 128, "echo-reply": 129,
		"mld-listener-query": 130, "mld-listener-report": 131, "mld-listener-done": 132, "nd-router-solicit": 133,
		"nd-router-advert": 134, "nd-neighbor-solicit": 135, "nd-neighbor-advert": 136, "mld2-listener-report": 143,
	},
}

// element reads the values of one element.
func (p *parser) element(w *words, f field) span[wide] {
	var first, last uint32
	switch f {
	case saddr4, daddr4, originalSaddr4, originalDaddr4, saddr6, daddr6, originalSaddr6, originalDaddr6:
		a, b := w.addresses(f.ip6())
		return span[wide]{first: a, last: b}
	case iifname, oifname:
		first = p.device(w)
		last = first
	case twoNames:
		first = p.device(w) << 16
		w.expect(".")
		first |= p.device(w)
		last = first
	case mark, ctMark:
		first = w.number(32)
		last = first
	case tcpSport, tcpDport, udpSport, udpDport:
		first, last = w.ports()
	case protoPort:
		protocol := oneOf(w, valueWords[l4proto], "a protocol") << 16
		w.expect(".")
		first, last = w.ports()
		first, last = first|protocol, last|protocol
	default:
		first = oneOf(w, valueWords[f], "a value that is known here")
		last = first
	}
	return span[wide]{first: wide{lo: uint64(first)}, last: wide{lo: uint64(last)}}
}

// maxDevices is how many names may occur: two numbers of theirs are one of 32 bits.
const maxDevices = 1<<16 - 1

// device takes a device's name, and returns its number.
func (p *parser) device(w *words) uint32 {
	word := w.word
	name := w.device()
	n := p.devices[name]
	if n == 0 {
		n = uint32(len(p.devices)) + 1
		p.devices[name] = n
	}
	if n > maxDevices {
		w.fail(word, "more than %d devices", maxDevices)
	}
	return n
}
