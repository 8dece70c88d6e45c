package ruleset

import (
	"net/netip"
)

// chain is one of the table, with what is said of it where it is a base chain.
type chain struct {
	short [2][]brief // by family: the rules that may do anything, for runs without steps
	all   []brief
	name  string
	line  int // 0: jumped to, but not read yet
	rules []rule
	*base
}

// base is what makes a chain a base chain.
type base struct {
	hook     Hook
	nat      bool
	core     int // the priority by which the kernel calls it
	own      int // the order of chains for translation among themselves
	untraced bool
	policy   action
}

// rule is one line of a chain: tests, then marks, then at most one of verdict, branch and nat.
type rule struct {
	text    string
	line    int
	tests   []test
	marks   []assignment
	verdict verdict
	branch  *branch
	nat     *translation
}

// action is what a verdict does.
type action uint8

const (
	next action = iota // the next rule
	accept
	drop
	reject
	returns
	jumps
	gotos
	translates
)

var verdictWords = [...]string{accept: "accept", drop: "drop", reject: "reject", translates: "accept"}

// verdict is an action, and whereto if it is a jump or a goto.
type verdict struct {
	action
	chain *chain
}

// test holds where the value of a selector is among those of a lookup, or with `not` is not.
type test struct {
	not bool
	lookup
}

// lookup finds the value of a selector in spans, in those of the selector's width, or with the
// port in boxes.
type lookup struct {
	selector
	first, last uint32 // with only: those of the one span in narrow
	narrow      []span[uint32]
	large       *large // instead of narrow
}

// large are the spans of addresses of IPv6, and of addresses with ports.
type large struct {
	wide  []span[wide]
	boxes *boxes
}

// selector is a value of the packet or its connection. All but addresses of IPv6 are numbers of
// 32 bits, of which mask is looked at.
type selector struct {
	field field
	ports bool // and with it protocol and port
	only  bool // see lookup
	mask  uint32
}

// assignment sets a mark: mark & and | or.
type assignment struct {
	ct      bool // of the connection
	and, or uint32
}

// branch is a map to verdicts.
type branch struct {
	lookup
	verdicts []verdict
}

// translation is a statement of a nat chain. With spans in its lookup it has a target for each
// value.
type translation struct {
	masquerade, source bool
	ip6                bool
	mapped, prefix     bool
	lookup
	targets []target
}

// target is to what something is translated: an address, or with prefix one that keeps the
// last bits.
type target struct {
	netip.Prefix
	port uint16
}

// field is what a selector looks at.
type field uint8

const (
	nothing field = iota
	saddr6
	daddr6
	originalSaddr6
	originalDaddr6
	saddr4
	daddr4
	originalSaddr4
	originalDaddr4
	iifname
	oifname
	mark
	ctMark
	ctState
	ctDirection
	ctStatus
	nfproto
	l4proto
	protocol4 // ip protocol
	tcpFlags
	tcpSport
	tcpDport
	udpSport
	udpDport
	icmpType
	icmp6Type
	protoPort // meta l4proto . th dport
	twoNames  // iifname . oifname
	fibSaddrLocal
	fibDaddrLocal
	fibDaddrMany // broadcast or multicast
	fibMissing
)

// ip6 reports whether values are addresses of IPv6, which need two words.
func (f field) ip6() bool { return saddr6 <= f && f <= originalDaddr6 }

func (f field) ip4() bool { return saddr4 <= f && f <= originalDaddr4 }

// The bits of ct state (NF_CT_STATE_BIT), ct status (IPS_…) and TCP's flags.
const (
	stateInvalid     = 1 << 0
	stateEstablished = 1 << 1
	stateRelated     = 1 << 2
	stateNew         = 1 << 3

	statusSNAT = 1 << 4
	statusDNAT = 1 << 5

	flagSYN = 0x02
	flagACK = 0x10
)

const (
	icmp4 = 1
	igmp  = 2
	tcp   = 6
	udp   = 17
	icmp6 = 58

	ipv4, ipv6 = 2, 10 // NFPROTO_…
)
