package spec

import (
	"fmt"
	"math/bits"
	"strings"
)

// settings takes over the settings, and reports those that would make tombolo fight with
// the kernel or with another program.
func (b *builder) settings() {
	d := DefaultSettings()
	decl := b.f.settings.v
	s := Settings{
		Table: decl.table.or(d.Table), Priority: decl.priority.or(d.Priority), Mark: decl.mark.or(d.Mark), Mask: decl.mask.or(d.Mask),
		Protocol: uint8(decl.protocol.or(int(d.Protocol))), NFTable: decl.nftTable.or(d.NFTable), Port: decl.port.or(d.Port),
	}
	b.n.Settings = s
	if decl.priority.ok {
		for _, o := range rulesOfOthers {
			if s.Priority <= o.last && s.Priority+99 >= o.first {
				b.warn(decl.priority.Pos, codeNeighbourNumber, "this matters on routers that run it", "priorities %d to %d overlap those of %s, %d to %d", s.Priority, s.Priority+99, o.who, o.first, o.last)
			}
		}
	}
	b.checkTables(s)
	b.checkMark(s, b.checkMask(s))
	b.checkProtocol(s)
	b.checkTable(s)
}

// checkTables reports routing tables that are the kernel's own, and warns of others'.
func (b *builder) checkTables(s Settings) {
	t := b.f.settings.v.table
	if !t.ok {
		return
	}
	if s.NoWayTable() >= defaultTable && s.Table <= localTable {
		b.err(t.Pos, codeSettings, "take a number that, as the one after it, is in no line of /etc/iproute2/rt_tables", "routing table %d is the kernel's own: 253 is default, 254 main, 255 local", max(s.Table, defaultTable))
		return
	}
	for _, o := range tablesOfOthers {
		for _, r := range s.Tables() {
			if r.First <= o.last && o.first <= r.Last {
				b.warn(t.Pos, codeNeighbourNumber, "this matters on routers that run it", "of tables %d to %d, which follow from table %d, some are those of %s", r.First, r.Last, s.Table, o.who)
			}
		}
	}
}

// tablesOfOthers are the routing tables that other programs use.
var tablesOfOthers = []struct {
	who         string
	first, last uint32
}{
	{"OpenWrt's mwan3", 1, 60}, {"OpenWrt's pbr", 256, 271}, {"Tailscale", 52, 52}, {"NetBird", 7120, 7120}, {"wg-quick", 51820, 51820},
}

// leastBits is how many bits a mask needs for the numbers up to TowardsExit.
const leastBits = 7

// checkMask reports a mask that has no numbers; else it returns true.
func (b *builder) checkMask(s Settings) bool {
	m := b.f.settings.v.mask
	ones := bits.OnesCount32(s.Mask)
	switch {
	case bits.Len32(s.Mask)-bits.TrailingZeros32(s.Mask) != ones:
		b.err(m.Pos, codeSettings, "for example `mask: 0xff000000`", "the bits of mask %#x are not all beside each other", s.Mask)
	case ones < leastBits:
		b.err(m.Pos, codeSettings, "for example `mask: 0xff000000`", "mask %#x has %s: to number uplinks, tunnels and exits takes %d at least", s.Mask, plural(ones, "one bit", "bits"), leastBits)
	default:
		return true
	}
	return false
}

// rulesOfOthers are the priorities of rules that other programs use.
var rulesOfOthers = []struct {
	who         string
	first, last uint32
}{
	{"NetBird", 105, 110}, {"OpenWrt's pbr", 645, 901}, {"OpenWrt's mwan3", 1001, 3300}, {"Tailscale", 5210, 5270},
}

func (b *builder) checkMark(s Settings, numbers bool) {
	decl := b.f.settings.v
	if !decl.mark.given && !decl.mask.given || decl.mark.given != decl.mark.ok || decl.mask.given != decl.mask.ok {
		return
	}
	place := decl.mark.Pos
	if !decl.mark.given {
		place = decl.mask.Pos
	}
	if s.Mark&^s.Mask != 0 {
		within := s.Mark & s.Mask
		if within == 0 {
			within = s.Mask
		}
		b.err(place, codeSettings, fmt.Sprintf("a mark within it is %#x", within), "mark %#x has bits outside the mask %#x", s.Mark, s.Mask)
	} else if n := s.Mark >> bits.TrailingZeros32(s.Mask); numbers && n <= TowardsExit {
		b.err(place, codeSettings, fmt.Sprintf("take one from %#x to %#x", uint32(TowardsExit+1)<<bits.TrailingZeros32(s.Mask), s.Mask), "mark %#x is number %d within the mask %#x, and the numbers to %d are of uplinks, tunnels and exits", s.Mark, n, s.Mask, TowardsExit)
	}
	if !decl.mask.ok {
		return
	}
	for _, o := range []struct {
		who  string
		mask uint32
	}{{"OpenWrt's mwan3", 0x3f00}, {"Tailscale and OpenWrt's pbr", 0xff0000}} {
		if s.Mask&o.mask != 0 {
			b.warn(decl.mask.Pos, codeNeighbourNumber, "this matters on routers that run one of them", "mask %#x overlaps the bits of %s, %#x", s.Mask, o.who, o.mask)
		}
	}
}

// protocolsOfOthers are numbers of routing protocols (linux/rtnetlink.h, RTPROT_*) whose
// programs take every route with theirs for their own.
var protocolsOfOthers = map[uint8]string{
	11: "Zebra", 12: "BIRD", 16: "DHCP clients", 18: "Keepalived", 42: "babeld", 99: "Open/R",
	186: "BGP of FRR", 187: "IS-IS of FRR", 188: "OSPF of FRR", 189: "RIP of FRR", 192: "EIGRP of FRR",
}

func (b *builder) checkProtocol(s Settings) {
	p := b.f.settings.v.protocol
	if !p.ok {
		return
	}
	if s.Protocol <= 4 {
		b.err(p.Pos, codeSettings, "84, the default, is nobody's", "protocol number %d is the kernel's and the administrator's: tombolo would take their routes for its own", s.Protocol)
	}
	// The second is that of learned routes, the third of what follows the uplinks.
	for _, used := range []uint8{s.Protocol, s.Protocol + 1, s.Protocol + 2} {
		if who := protocolsOfOthers[used]; who != "" {
			b.warn(p.Pos, codeNeighbourNumber, "84, the default, is nobody's, nor are 85 and 86", "protocol number %d is that of %s: each would take the other's routes for its own", used, who)
		}
	}
}

// nftWords are words of the nft language that the name of a table cannot be, and tables of
// others.
var nftWords = map[string]string{
	"fw4": "OpenWrt's firewall", "firewalld": "firewalld", "filter": "iptables", "nat": "iptables", "mangle": "iptables", "raw": "iptables",
}

func (b *builder) checkTable(s Settings) {
	t := b.f.settings.v.nftTable
	if !t.ok {
		return
	}
	const begin, letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
	switch {
	case !strings.ContainsRune(begin, rune(s.NFTable[0])) || strings.ContainsFunc(s.NFTable, func(r rune) bool { return !strings.ContainsRune(letters, r) }) || len(s.NFTable) > 31:
		b.err(t.Pos, codeSettings, "for example `nft-table: tombolo`", "%q is no name for an nftables table: up to 31 letters, digits, `_` and `-`, of which the first is a letter", clip(s.NFTable))
	case nftWords[s.NFTable] != "":
		b.err(t.Pos, codeSettings, "tombolo replaces its table whole; give it a name of its own", "nftables table %q is that of %s", s.NFTable, nftWords[s.NFTable])
	case nftKeyword(s.NFTable):
		b.err(t.Pos, codeSettings, "take another name", "%q is a word of the nft language, and no name for a table", s.NFTable)
	}
}

func nftKeyword(name string) bool {
	switch name {
	case "table", "chain", "set", "map", "rule", "ruleset", "inet", "ip", "ip6", "arp", "bridge", "netdev", "add", "delete", "flush", "list", "type", "hook", "policy", "include", "define":
		return true
	}
	return false
}
