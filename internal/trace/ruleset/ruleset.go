// Package ruleset says what one nftables table of ours does with a packet.
//
// It reads the text that compile writes into state.Router.Rulesets and nothing else: what it
// does not know is an error of Parse, with its line and word, and never a guess. What a rule
// means is what the kernel makes of it; the tests compare the two.
//
// A rule matches if all its expressions apply and hold. An expression that does not apply (an
// address of IPv4 in a packet of IPv6, the mark of a connection that there is none of, a map
// without the key) ends the rule: NFT_BREAK in net/netfilter.
package ruleset

import (
	"fmt"
	"net/netip"
)

// Hook is a place in a packet's way where base chains stand.
type Hook int

// The hooks of the family inet.
const (
	Prerouting Hook = iota
	Input
	Forward
	Output
	Postrouting
)

var hookNames = [...]string{"prerouting", "input", "forward", "output", "postrouting"}

func (h Hook) String() string {
	if h < 0 || int(h) >= len(hookNames) {
		return fmt.Sprintf("hook %d", int(h))
	}
	return hookNames[h]
}

// Device is one by its name. Those that Table.Device returns are found faster in that table, and must
// not be given to another.
type Device struct {
	Name   string
	number uint32 // of the table's, from 1; 0: it was not looked for
}

// Packet is what the rules look at. IIF and OIF count only in hooks in which the kernel knows
// them.
type Packet struct {
	Src, Dst     netip.Addr
	Protocol     uint8
	SPort, DPort uint16
	ICMPType     uint8
	SYN, ACK     bool
	IIF, OIF     Device
	Mark         uint32
}

// Conn is the packet's connection. OrigSrc and OrigDst are those of its first packet, before
// anything was translated.
type Conn struct {
	State            string // new, established, related, invalid: that has no connection
	Reply            bool
	Mark             uint32
	DNAT, SNAT       bool
	OrigSrc, OrigDst netip.Addr
}

// Env answers what only the router's addresses and routes can. Without Local no address is the
// router's; without RouteBack there always is a way back.
type Env struct {
	Local     func(netip.Addr) bool // fib … type local
	RouteBack func(p Packet) bool   // fib saddr . iif oif: by the device that it came in by
}

// Table is a table that was read. It does not change: any number may run it at once.
type Table struct {
	hooks   [len(hookNames)][]hooked
	onlyNAT [len(hookNames)]bool // there is nothing else in the hook
	devices map[string]uint32    // numbers of the names that occur, from 1
}

// hooked is a base chain, and what is asked before it is run.
type hooked struct {
	*chain
	nat, untraced bool
}

// Step is a rule that was looked at, or a base chain's policy that was applied.
type Step struct {
	Chain   string
	Rule    string // as written
	Line    int    // in the table's text
	Matched bool
}

// Device returns one by its name.
func (t *Table) Device(name string) Device { return Device{name, t.devices[name] + 1} }

// Result is what becomes of a packet in a hook. Why is the step that said so: for "accept" that
// of the last base chain, if steps were asked for.
type Result struct {
	Verdict string // accept, drop, reject
	Why     Step
	Steps   []Step // all that were looked at, in order, if they were asked for
	NAT     *NAT
}

// NAT is what a nat chain says of a connection. What is zero stays as it is. A connection is
// only DNAT or SNAT if that makes a difference.
type NAT struct {
	Src, Dst   netip.Addr
	Port       uint16 // of the destination
	Masquerade bool   // the source is to be the address of the device that it leaves by
}
