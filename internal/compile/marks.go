package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tombolo/internal/state"
)

// marks writes the chains that remember how connections came in and left, in the bits of the
// conntrack mark that are ours, and that turn this into packet marks, for which there are rules.
//
// What came in by an uplink or a tunnel is restored in the reply direction alone: in both,
// packets that come in would be sent back out. What left by an uplink is restored in the
// original direction, so that a flow stays where it is while others come and go.
//
// A packet that has a mark of ours keeps it: the tunnels' own would else lead into the tunnels.
// Others' bits are never touched.
type marks struct {
	*strings.Builder
	egress  *state.Egress
	mask    uint32
	uplinks []state.Uplink
	tunnels []tunnelMark
	devices []string       // all tunnels
	exits   []netip.Prefix // that may leave by an uplink too
}

// stay reports whether flows are kept on the uplink that they left by.
func (m marks) stay() bool {
	return slices.ContainsFunc(m.uplinks, func(u state.Uplink) bool { return u.Pin != 0 })
}

func (m marks) printf(format string, args ...any) { fmt.Fprintf(m, format, args...) }

// chains writes them all. inside are the network's own prefixes.
func (m marks) chains(inside []netip.Prefix) {
	m.insideSets(inside)
	for _, u := range m.uplinks {
		if u.Mark != 0 {
			m.setChain("reply-"+label(u.Device), "meta", u.Mark)
			m.fromChain(u.Device, u.Mark, "ct state != new return")
		}
		if u.Pin != 0 {
			m.setChain("stay-"+label(u.Device), "meta", u.Pin)
		}
	}
	for _, t := range m.tunnels {
		m.setChain("reply-"+label(t.device), "meta", t.mark)
		m.fromChain(t.device, t.mark, fmt.Sprintf("ct mark & %#x == %#x return", m.mask, t.mark))
	}
	m.originalChain()
	m.replyChain()
	m.printf("\tchain prerouting {\n\t\ttype filter hook prerouting priority mangle; policy accept;\n")
	m.printf("\t\tct state established ct mark & %#x == 0 accept\n", m.mask)
	m.printf("\t\tct direction original goto original\n\t\tgoto reply\n\t}\n")
	m.printf("\tchain output {\n\t\ttype route hook output priority mangle; policy accept;\n")
	if len(m.devices) > 0 {
		// Where no uplink leads anywhere, a default route of main's may lead into a tunnel: its own
		// packets would go round in it.
		m.printf("\t\tmeta mark & %#x == %#x oifname %s drop\n", m.mask, m.egress.Mark, anonymous(m.devices, quoted))
	}
	m.printf("\t\tct mark & %#x == 0 accept\n\t\tmeta mark & %#x != 0 accept\n", m.mask, m.mask)
	if m.stay() {
		m.printf("\t\tct direction original goto stay\n\t\tgoto reply\n\t}\n")
		m.stayChains()
		return
	}
	m.printf("\t\tct direction reply goto reply\n\t}\n")
}

// set writes a statement that sets our bits of a mark, "meta" or "ct".
func (m marks) set(what string, mark uint32) {
	m.printf("\t\t%s mark set %s mark & %#x | %#x\n", what, what, ^m.mask, mark)
}

func (m marks) setChain(name, what string, mark uint32) {
	m.printf("\tchain %s {\n", name)
	m.set(what, mark)
	m.printf("\t}\n")
}

// fromChain remembers where a connection comes from; of the network's own, for which there
// are routes, nothing. known says of which there is nothing to remember: by an uplink, of any
// but a new one; by a tunnel, of those that came in by it before, for they may change tunnels.
func (m marks) fromChain(device string, mark uint32, known string) {
	m.printf("\tchain from-%s {\n\t\t%s\n", label(device), known)
	m.printf("\t\tip saddr @inside4 return\n\t\tip6 saddr @inside6 return\n")
	m.set("ct", mark)
	m.printf("\t}\n")
}

// insideSets hold the prefixes that lie in no other: nft refuses sets that overlap.
func (m marks) insideSets(inside []netip.Prefix) {
	byFamily := map[string][]netip.Prefix{}
	for _, p := range inside {
		contained := false
		for _, o := range inside {
			contained = contained || o.Bits() < p.Bits() && o.Overlaps(p)
		}
		if !contained {
			byFamily[nftFamily(p)] = append(byFamily[nftFamily(p)], p)
		}
	}
	for _, f := range []struct{ family, name, kind string }{{"ip", "inside4", "ipv4_addr"}, {"ip6", "inside6", "ipv6_addr"}} {
		words := make([]string, 0, len(byFamily[f.family]))
		for _, p := range byFamily[f.family] {
			words = append(words, p.String())
		}
		m.printf("\tset %s {\n\t\ttype %s; flags interval;\n", f.name, f.kind)
		if len(words) > 0 {
			m.printf("\t\telements = { %s }\n", strings.Join(words, ", "))
		}
		m.printf("\t}\n")
	}
}

// originalChain is for packets in the direction in which a connection was opened.
func (m marks) originalChain() {
	m.printf("\tchain original {\n")
	if m.stay() {
		m.printf("\t\tct mark & %#x vmap %s\n", m.mask, m.stays())
	}
	var words []string
	for _, u := range m.uplinks {
		if u.Mark != 0 {
			words = append(words, fmt.Sprintf("%q : goto from-%s", u.Device, label(u.Device)))
		}
	}
	for _, t := range m.tunnels {
		words = append(words, fmt.Sprintf("%q : goto from-%s", t.device, label(t.device)))
	}
	m.printf("\t\tiifname vmap { %s }\n\t}\n", strings.Join(words, ", "))
}

func (m marks) stays() string {
	var words []string
	for _, u := range m.uplinks {
		if u.Pin != 0 {
			words = append(words, fmt.Sprintf("%#x : goto stay-%s", u.Pin, label(u.Device)))
		}
	}
	return "{ " + strings.Join(words, ", ") + " }"
}

// replyChain is for packets in the other direction.
func (m marks) replyChain() {
	var words []string
	for _, u := range m.uplinks {
		if u.Mark != 0 {
			words = append(words, fmt.Sprintf("%#x : goto reply-%s", u.Mark, label(u.Device)))
		}
	}
	for _, t := range m.tunnels {
		words = append(words, fmt.Sprintf("%#x : goto reply-%s", t.mark, label(t.device)))
	}
	m.printf("\tchain reply {\n\t\tct mark & %#x vmap { %s }\n\t}\n", m.mask, strings.Join(words, ", "))
}

// stayChains keep flows on the uplink that they left by, where there are several.
func (m marks) stayChains() {
	m.printf("\tchain stay {\n\t\tct mark & %#x vmap %s\n\t}\n", m.mask, m.stays())
	m.printf("\tchain leave {\n\t\ttype filter hook postrouting priority mangle; policy accept;\n\t\tct state != new accept\n")
	for _, u := range m.uplinks {
		if u.Pin != 0 {
			m.printf("\t\toifname %q ct mark & %#x == 0 meta mark & %#x == 0 ct mark set ct mark & %#x | %#x\n",
				u.Device, m.mask, m.mask, ^m.mask, u.Pin)
		}
	}
	if m.egress.Exit != 0 {
		var devices []string
		for _, u := range m.uplinks {
			devices = append(devices, u.Device)
		}
		m.printf("\t\toifname %s accept\n\t\tip daddr @inside4 accept\n\t\tip6 daddr @inside6 accept\n", anonymous(devices, quoted))
		sources(m.exits, func(family, set string) {
			m.printf("\t\t%s saddr %s ct mark & %#x == 0 ct mark set ct mark & %#x | %#x\n", family, set, m.mask, ^m.mask, m.egress.Exit)
		})
	}
	m.printf("\t}\n")
}

// label is a device's name as a part of a chain's: nft takes letters, digits and a few signs.
func label(device string) string {
	plain := strings.Map(func(r rune) rune {
		if strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", r) {
			return r
		}
		return -1
	}, device)
	if plain == device {
		return device
	}
	return fmt.Sprintf("%s-%04x", plain, hashName(device)&0xffff) // not another's of the same letters
}
