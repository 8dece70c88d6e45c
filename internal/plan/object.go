package plan

import (
	"fmt"
	"strings"

	"tombolo/internal/state"
)

// The names of the kinds of object.
const (
	KindInterface = "interface"
	KindAddress   = "address"
	KindPeer      = "peer"
	KindRoute     = "route"
	KindRule      = "rule"
	KindRuleset   = "ruleset"
	KindSysctl    = "sysctl"
)

// Kind returns KindInterface. What sort of interface it is stands in i.Interface.Kind.
func (i Interface) Kind() string { return KindInterface }

// ID returns the interface's name.
func (i Interface) ID() string { return i.Name }

// Kind returns KindAddress.
func (a Address) Kind() string { return KindAddress }

// ID returns interface and address: "wg-op1 10.0.32.2/32".
func (a Address) ID() string { return a.Interface + " " + a.Prefix.String() }

// Kind returns KindPeer.
func (p Peer) Kind() string { return KindPeer }

// ID returns the interface and the peer's public key in base64; its name where the key is
// not known.
func (p Peer) ID() string {
	if p.PublicKey.IsZero() {
		return p.Interface + " " + p.Name
	}
	return p.Interface + " " + p.PublicKey.String()
}

// Kind returns KindRoute.
func (r Route) Kind() string { return KindRoute }

// ID returns the fields of the route's key: "10.2.0.0/24 table 110".
func (r Route) ID() string {
	id := r.Dst.String()
	if r.Src.IsValid() {
		id += " from " + r.Src.String()
	}
	id += " table " + tableName(r.Table)
	if r.Metric != 0 {
		id += fmt.Sprintf(" metric %d", r.Metric)
	}
	return id
}

// Kind returns KindRule.
func (r Rule) Kind() string { return KindRule }

// ID returns the whole rule, as `ip rule` takes it, without the protocol: all of a rule is
// what tells it apart.
func (r Rule) ID() string {
	id := ruleText(r.Rule)
	if r.IPv6 {
		id = "-6 " + id
	}
	return id
}

// Kind returns KindRuleset.
func (r Ruleset) Kind() string { return KindRuleset }

// ID returns the family and name of the table: "inet tombolo".
func (r Ruleset) ID() string { return r.Family + " " + r.Table }

// Kind returns KindSysctl.
func (s Sysctl) Kind() string { return KindSysctl }

// ID returns the name below /proc/sys, with slashes.
func (s Sysctl) ID() string { return s.Name }

// subject returns the object that an operation is about: what is to be, or what was.
func (o Op) subject() Object {
	if o.Verb == Remove {
		return o.Before
	}
	return o.Object
}

// String names verb and object: "add route 10.2.0.0/24 table 110".
func (o Op) String() string {
	s := o.subject()
	return string(o.Verb) + " " + s.Kind() + " " + s.ID()
}

// bare returns an interface without its addresses and peers.
func bare(i state.Interface) state.Interface {
	i.Addresses = nil
	if i.WireGuard != nil {
		w := *i.WireGuard
		w.Peers = nil
		i.WireGuard = &w
	}
	return i
}

// The kernel's own tables (linux/rtnetlink.h, RT_TABLE_*), which ip knows by name.
var tableNames = map[uint32]string{253: "default", 254: "main", 255: "local"}

func tableName(table uint32) string {
	if name, ok := tableNames[table]; ok {
		return name
	}
	return fmt.Sprint(table)
}

// ruleText returns a rule as `ip rule add` takes it, without its protocol.
func ruleText(r state.Rule) string {
	words := []string{"pref", fmt.Sprint(r.Priority)}
	if r.From.IsValid() {
		words = append(words, "from", r.From.String())
	}
	if r.To.IsValid() {
		words = append(words, "to", r.To.String())
	}
	if r.IIF != "" {
		words = append(words, "iif", quote(r.IIF))
	}
	if r.OIF != "" {
		words = append(words, "oif", quote(r.OIF))
	}
	if r.Mask != 0 {
		words = append(words, "fwmark", fmt.Sprintf("%#x/%#x", r.Mark, r.Mask))
	}
	if r.Action != state.Lookup {
		words = append(words, string(r.Action))
	} else {
		words = append(words, "lookup", tableName(r.Table))
	}
	if r.IPProto != 0 {
		words = append(words, "ipproto", protocolName(r.IPProto))
	}
	if r.DPort != 0 {
		words = append(words, "dport", fmt.Sprint(r.DPort))
	}
	if r.Suppress > 0 {
		words = append(words, "suppress_prefixlength", fmt.Sprint(r.Suppress-1))
	}
	return strings.Join(words, " ")
}

// protocolName is what `ip rule` calls a protocol of IP.
func protocolName(p uint8) string {
	switch p {
	case 6:
		return "tcp"
	case 17:
		return "udp"
	}
	return fmt.Sprint(p)
}
