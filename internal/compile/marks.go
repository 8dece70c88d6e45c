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
//
// A packet of a known flow passes one map; only a flow's first ones are looked at for where
// they come from and go to, the latter in a chain for translation, which sees no others.
type marks struct {
	*strings.Builder
	egress  *state.Egress // nil: no uplink is described
	own     uint32        // the mark of the tunnels' own packets
	mask    uint32
	uplinks []state.Uplink
	tunnels []tunnelMark
	devices []string       // all tunnels
	exits   []netip.Prefix // sources
	checks  *sourceChecks
}

func (m marks) printf(format string, args ...any) { fmt.Fprintf(m, format, args...) }

// chains writes them all.
func (m marks) chains() {
	var from, known []string
	chain := func(name string, mark uint32, direction, otherwise string, packet uint32) {
		m.printf("\tchain %s {\n\t\tct direction %s %s\n", name, direction, otherwise)
		m.set("meta", packet)
		m.printf("\t}\n")
		known = append(known, fmt.Sprintf("%#x : goto %s", mark, name))
	}
	entry := func(device string, mark uint32) {
		m.fromChain(device, mark)
		from = append(from, fmt.Sprintf("%q : goto from-%s", device, label(device)))
	}
	for _, t := range m.tunnels {
		entry(t.device, t.mark)
	}
	if len(from) > 0 {
		m.printf("\tchain again {\n\t\tiifname vmap { %s }\n\t}\n", strings.Join(from, ", "))
	}
	for _, u := range m.uplinks {
		if u.Mark != 0 {
			entry(u.Device, u.Mark)
			chain("reply-"+label(u.Device), u.Mark, "original", "return", u.Mark)
		}
		if u.Pin != 0 {
			chain("stay-"+label(u.Device), u.Pin, "reply", "return", u.Pin)
		}
	}
	for _, t := range m.tunnels {
		// It may come by another tunnel now.
		chain("reply-"+label(t.device), t.mark, "original", "goto again", t.mark)
	}
	m.WriteString(m.checks.chains.String())
	m.printf("\tchain prerouting {\n\t\ttype filter hook prerouting priority mangle; policy accept;\n")
	m.printf("\t\tct mark & %#x vmap { %s }\n\t\tct state established,related accept\n", m.mask, strings.Join(known, ", "))
	if v := m.checks.vmap(); v != "" {
		m.printf("\t\tiifname vmap { %s }\n", v)
	}
	m.printf("\t\tiifname vmap { %s }\n\t}\n", strings.Join(from, ", "))
	m.printf("\tchain output {\n\t\ttype route hook output priority mangle; policy accept;\n")
	if len(m.devices) > 0 {
		// Where no uplink leads anywhere, a default route of main's may lead into a tunnel: its own
		// packets would go round in it.
		m.printf("\t\tmeta mark & %#x == %#x oifname %s drop\n", m.mask, m.own, anonymous(m.devices, quoted))
	}
	m.printf("\t\tmeta mark & %#x != 0 accept\n\t\tct mark & %#x vmap { %s }\n\t}\n", m.mask, m.mask, strings.Join(known, ", "))
	m.leaveChain()
}

// set writes a statement that sets our bits of a mark, "meta" or "ct".
func (m marks) set(what string, mark uint32) {
	m.printf("\t\t%s mark set %s mark & %#x | %#x\n", what, what, ^m.mask, mark)
}

// fromChain remembers where a connection comes from; of the network's own, for which there
// are routes, nothing.
func (m marks) fromChain(device string, mark uint32) {
	m.printf("\tchain from-%s {\n\t\tct mark & %#x == %#x return\n", label(device), m.mask, mark)
	m.printf("\t\tip saddr @inside4 return\n\t\tip6 saddr @inside6 return\n")
	m.set("ct", mark)
	m.printf("\t}\n")
}

// leaveChain remembers of flows by which uplink they left, where they are to stay on it, and
// of those from exits' sources that they went on towards an exit.
func (m marks) leaveChain() {
	stay := slices.ContainsFunc(m.uplinks, func(u state.Uplink) bool { return u.Pin != 0 })
	if m.egress == nil || !stay && len(m.exits) == 0 {
		return
	}
	m.printf("\tchain leave {\n\t\ttype nat hook postrouting priority srcnat - 1; policy accept;\n")
	m.printf("\t\tct mark & %#x != 0 accept\n\t\tmeta mark & %#x != 0 accept\n", m.mask, m.mask)
	m.printf("\t\tip daddr @inside4 accept\n\t\tip6 daddr @inside6 accept\n")
	var devices []string
	for _, u := range m.uplinks {
		devices = append(devices, u.Device)
		if u.Pin != 0 {
			m.printf("\t\toifname %q ct mark set ct mark & %#x | %#x\n", u.Device, ^m.mask, u.Pin)
		}
	}
	if len(m.exits) > 0 && m.egress.Exit != 0 {
		m.printf("\t\toifname %s accept\n", anonymous(devices, quoted))
		sources(m.exits, func(family, set string) {
			m.printf("\t\t%s saddr %s ct mark set ct mark & %#x | %#x\n", family, set, ^m.mask, m.egress.Exit)
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
