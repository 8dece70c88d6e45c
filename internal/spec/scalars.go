package spec

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	yaml "go.yaml.in/yaml/v4"

	"tombolo/internal/key"
)

// mistake is what is wrong with the text of a scalar. The zero message stands for
// "`key:` takes …, not "text"", and the empty hint for the key's example.
type mistake struct {
	code, hint, message string
	usable              bool // what was meant is plain, so that other mistakes can be looked for
}

// scalar is the shape of a value that is one text. The parser returns nil when it can
// read the text.
func scalar[V any](what string, s schema, parse func(text string) (V, *mistake)) shape[V] {
	return shape[V]{described{what: what, schema: s}, func(d *decoder, n *yaml.Node) (V, bool) {
		var none V
		if n.Kind != yaml.ScalarNode || isNull(n) {
			d.wrongKind(n, what)
			return none, false
		}
		v, m := parse(n.Value)
		if m == nil {
			return v, true
		}
		if m.code == "" {
			m.code = codeBadValue
		}
		if m.hint == "" {
			m.hint = d.exampleHint()
		}
		if m.message == "" {
			m.message = fmt.Sprintf("`%s:` takes %s, not %s", clip(d.scope.key), what, kindOf(n))
		}
		d.err(posOf(n), m.code, m.hint, "%s", m.message)
		return v, m.usable
	}}
}

// text is the shape of any text; what it must be is checked where it is used.
func text(what string) shape[string] {
	return scalar(what, schema{"type": []any{"string", "integer"}}, func(text string) (string, *mistake) {
		if text == "" {
			return "", &mistake{}
		}
		return text, nil
	})
}

// oneOf is the shape of one word out of several.
func oneOf[V ~string](words ...V) shape[V] {
	var names []string
	var values []any
	for _, w := range words {
		names = append(names, string(w))
		values = append(values, string(w))
	}
	return scalar(either(quoted(names)), schema{"enum": values}, func(text string) (V, *mistake) {
		if slices.Contains(words, V(text)) {
			return V(text), nil
		}
		if near := nearest(strings.ToLower(text), names); near != "" {
			return "", &mistake{hint: fmt.Sprintf("did you mean `%s`?", near)}
		}
		return "", &mistake{}
	})
}

func quoted(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = "`" + w + "`"
	}
	return out
}

// boolean takes true and false only: what else YAML has read as one in its time (yes, on,
// y) means a text to other readers.
var boolean = scalar("`true` or `false`", schema{"type": "boolean"}, func(text string) (bool, *mistake) {
	switch text {
	case "true", "True", "TRUE":
		return true, nil
	case "false", "False", "FALSE":
		return false, nil
	}
	switch strings.ToLower(text) {
	case "yes", "on", "y", "1":
		return false, &mistake{hint: "write `true`"}
	case "no", "off", "n", "0":
		return false, &mistake{hint: "write `false`"}
	}
	return false, &mistake{}
})

// number is the shape of a whole number from least to most.
func number(what string, least, most int) shape[int] {
	s := scalar(fmt.Sprintf("%s from %d to %d", what, least, most), schema{"type": "integer", "minimum": least, "maximum": most}, func(text string) (int, *mistake) {
		n, err := strconv.ParseInt(text, 10, 64)
		switch {
		case err != nil:
			return 0, &mistake{}
		case n < int64(least) || n > int64(most):
			return 0, &mistake{code: codeRange, message: fmt.Sprintf("%s goes from %d to %d; this is %s", what, least, most, clip(text))}
		}
		return int(n), nil
	})
	return s
}

// word32 is the shape of a 32-bit number, not 0, which may be hexadecimal.
func word32(what string, most uint32) shape[uint32] {
	const least = 1
	s := schema{"anyOf": []any{schema{"type": "integer", "minimum": least, "maximum": most}, schema{"type": "string", "pattern": "^0x[0-9a-fA-F]+$"}}}
	return scalar("a number", s, func(text string) (uint32, *mistake) {
		digits, base := text, 10
		if hex, ok := strings.CutPrefix(strings.ToLower(text), "0x"); ok {
			digits, base = hex, 16
		}
		n, err := strconv.ParseUint(digits, base, 64)
		switch {
		case err != nil:
			return 0, &mistake{}
		case n < least || n > uint64(most):
			return 0, &mistake{code: codeRange, message: fmt.Sprintf("%s goes from %d to %d; this is %s", what, least, most, clip(text))}
		}
		return uint32(n), nil
	})
}

// family is an address family that a value must have.
type family struct{ name, length string }

var (
	anyFamily = family{"", "/24"}
	ipv4      = family{"IPv4 ", "/24"}
	ipv6      = family{"IPv6 ", "/64"}
	ula       = family{"IPv6 ", "/48"} // RFC 4193 §3.1
)

func (f family) has(a netip.Addr) bool {
	return f == anyFamily || a.Is4() == (f == ipv4)
}

// mismatch is the mistake of the other family, or nil. It covers IPv4 written as IPv6,
// which would be neither.
func (f family) mismatch(a netip.Addr, text, kind string) *mistake {
	switch {
	case a.Is4In6():
		write := a.Unmap().String()
		if p, err := netip.ParsePrefix(text); err == nil && p.Bits() >= 96 {
			write += fmt.Sprintf("/%d", p.Bits()-96)
		}
		return &mistake{message: fmt.Sprintf("%s is an IPv4 %s written as IPv6", clip(text), kind), hint: "write " + write}
	case a.Zone() != "":
		return &mistake{message: fmt.Sprintf("%s has a zone, which means something on one machine only", clip(text))}
	case !f.has(a):
		is := "IPv6"
		if a.Is4() {
			is = "IPv4"
		}
		return &mistake{code: codeFamily, message: fmt.Sprintf("this takes %s, and %s is %s", article(f.name+kind), clip(text), is)}
	}
	return nil
}

// address is the shape of an IP address without a length.
func address(f family) shape[netip.Addr] {
	what := article(strings.TrimSpace(f.name + "address"))
	if f == anyFamily {
		what = "an IP address"
	}
	return scalar(what, schema{"type": "string", "pattern": "^[0-9a-fA-F:.]+$"}, func(text string) (netip.Addr, *mistake) {
		a, err := netip.ParseAddr(text)
		if err == nil {
			return a, f.mismatch(a, text, "address")
		}
		if p, err := netip.ParsePrefix(text); err == nil {
			return netip.Addr{}, &mistake{hint: fmt.Sprintf("write %v", p.Addr()), message: fmt.Sprintf("an address here has no length: %v", p)}
		}
		return netip.Addr{}, &mistake{}
	})
}

// prefix is the shape of an IP prefix whose host bits are zero.
func prefix(f family) shape[netip.Prefix] {
	what := article(strings.TrimSpace(f.name + "prefix"))
	if f == anyFamily {
		what = "an IP prefix"
	}
	return scalar(what, schema{"type": "string", "pattern": "^[0-9a-fA-F:.]+/[0-9]+$"}, func(text string) (netip.Prefix, *mistake) {
		p, m := parsePrefix(text, f)
		if m != nil || p == p.Masked() {
			return p, m
		}
		return p.Masked(), &mistake{
			code: codeHostBits, usable: true, hint: fmt.Sprintf("the prefix is %v", p.Masked()),
			message: fmt.Sprintf("prefix %v has bits set behind its length", p),
		}
	})
}

// interfaceAddress is the shape of an address with the length of its subnet.
var interfaceAddress = scalar("an address with its length", schema{"type": "string", "pattern": "^[0-9a-fA-F:.]+/[0-9]+$"}, func(text string) (netip.Prefix, *mistake) {
	p, m := parsePrefix(text, anyFamily)
	if m != nil {
		return p, m
	}
	if _, last := ends(p); p.Addr().Is4() && p.Bits() < 31 && (p.Addr() == p.Masked().Addr() || p.Addr() == last) {
		is := "the subnet itself"
		if p.Addr() == last {
			is = "the subnet's broadcast address"
		}
		return p, &mistake{code: codeHostBits, usable: true, hint: "write the router's own address in it", message: fmt.Sprintf("%v is %s, not an address in it", p, is)}
	}
	return p, nil
})

func parsePrefix(text string, f family) (netip.Prefix, *mistake) {
	p, err := netip.ParsePrefix(text)
	if err == nil {
		return p, f.mismatch(p.Addr(), text, "prefix")
	}
	before, _, ok := strings.Cut(text, "/")
	a, err := netip.ParseAddr(before)
	switch {
	case err != nil:
		return netip.Prefix{}, &mistake{}
	case !ok:
		add := ipv4.length
		if a.Is6() {
			add = ipv6.length
		}
		return netip.Prefix{}, &mistake{code: codeNoLength, message: fmt.Sprintf("%s has no length", clip(text)), hint: fmt.Sprintf("for example %s%s", clip(text), add)}
	case a.Zone() != "":
		return netip.Prefix{}, f.mismatch(a, text, "prefix")
	}
	return netip.Prefix{}, &mistake{message: fmt.Sprintf("%q is no prefix: the length of one of %s goes from 0 to %d", clip(text), familyName(a.Is4()), a.BitLen())}
}

// ends returns the first and the last address of a prefix.
func ends(p netip.Prefix) (first, last netip.Addr) {
	first = p.Masked().Addr()
	b := first.AsSlice()
	for i := range b {
		if host := (i+1)*8 - p.Bits(); host >= 8 {
			b[i] = 0xff
		} else if host > 0 {
			b[i] |= 1<<host - 1
		}
	}
	last, _ = netip.AddrFromSlice(b)
	return first, last
}

// port is the shape of a UDP or TCP port.
var port = number("a port", 1, 65535)

// portRange is the shape of a port or a range of ports.
var portRange = scalar("a port or a range such as 51821-51830", schema{"anyOf": []any{
	schema{"type": "integer", "minimum": 1, "maximum": 65535},
	schema{"type": "string", "pattern": "^[0-9]+(-[0-9]+)?$"},
}}, parsePortRange)

func parsePortRange(text string) (PortRange, *mistake) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	a, err := strconv.ParseUint(first, 10, 32)
	b, err2 := strconv.ParseUint(last, 10, 32)
	switch {
	case err != nil || err2 != nil:
		return PortRange{}, &mistake{}
	case a < 1 || a > 65535 || b < 1 || b > 65535:
		return PortRange{}, &mistake{code: codeRange, message: fmt.Sprintf("a port goes from 1 to 65535; this is %s", clip(text))}
	case a > b:
		return PortRange{}, &mistake{code: codeRange, hint: fmt.Sprintf("write %d-%d", b, a), message: fmt.Sprintf("the range %s ends before it begins", clip(text))}
	}
	return PortRange{int(a), int(b)}, nil
}

// keyIsPrinted says where a site's public key comes from. An example would be copied.
const keyIsPrinted = "leave it out until the router has one, which `tombolo key make SITE` prints there"

// publicKey is the shape of a WireGuard public key. What it says never repeats the text.
var publicKey = scalar("a public key", schema{"type": "string", "pattern": "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$"}, func(text string) (key.Public, *mistake) {
	k, err := key.ParsePublic(text)
	switch {
	case err != nil:
		return k, &mistake{code: codeBadKey, message: err.Error()}
	case k.IsZero():
		return k, &mistake{code: codeBadKey, message: "a key of zeros is nobody's"}
	}
	return k, nil
})

// keepalive is the shape of the time between two keepalives.
var keepalive = scalar("seconds, or `off`", schema{"anyOf": []any{
	schema{"type": "integer", "minimum": 0, "maximum": 65535},
	schema{"type": "string", "pattern": "^(off|[0-9]+(s|m|h|m[0-9]+s))$"},
	schema{"const": false},
}}, func(text string) (time.Duration, *mistake) {
	if text == "off" || text == "0" || text == "false" {
		return -1, nil
	}
	every, err := parseSeconds(text)
	switch {
	case err != nil:
		return 0, &mistake{}
	case every%time.Second != 0:
		return 0, &mistake{code: codeRange, message: fmt.Sprintf("keepalives come at whole seconds; this is %s", clip(text))}
	case every < time.Second || every > 65535*time.Second:
		return 0, &mistake{code: codeRange, hint: "25 seconds keep a NAT open; `off` sends none", message: fmt.Sprintf("the time between keepalives goes from 1 to 65535 seconds; this is %s", clip(text))}
	}
	return every, nil
})

// mostHold bounds how long a device that has gone stays where it was.
const mostHold = 24 * time.Hour

// hold is the shape of the time for which a device counts as being at a door.
var hold = scalar("seconds, or a time such as 10m", schema{"anyOf": []any{
	schema{"type": "integer", "minimum": int(leastHold / time.Second), "maximum": int(mostHold / time.Second)},
	schema{"type": "string", "pattern": "^[0-9]+(s|m|h|m[0-9]+s|h[0-9]+m)$"},
}}, func(text string) (time.Duration, *mistake) {
	d, err := parseSeconds(text)
	switch {
	case err != nil || d%time.Second != 0:
		return 0, &mistake{}
	case d < leastHold:
		return 0, &mistake{code: codeRange, hint: "a device that has nothing to say keeps its session for as long", message: fmt.Sprintf("a device is held for 180 seconds at least; this is %s", clip(text))}
	case d > mostHold:
		return 0, &mistake{code: codeRange, message: fmt.Sprintf("a device is held for a day at most; this is %s", clip(text))}
	}
	return d, nil
})

// parseSeconds reads a time in seconds, or with a unit.
func parseSeconds(text string) (time.Duration, error) {
	if s, err := strconv.ParseInt(text, 10, 32); err == nil {
		return time.Duration(s) * time.Second, nil
	}
	return time.ParseDuration(text)
}
