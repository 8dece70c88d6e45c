package spec

import (
	"net/netip"
	"time"

	"tombolo/internal/key"
)

// The declarations are the file as it was read, with the place of each value: what the
// grammar fills and the checks look at.

type fileDecl struct {
	network  at[string]
	overlay  at[netip.Prefix]
	overlay6 at[netip.Prefix]
	routing  at[Routing]
	settings at[settingsDecl]
	sites    at[[]named[siteDecl]]
	links    at[[]linkDecl]
	clients  at[clientsDecl]
	exits    at[[]at[exitDecl]]
	nat      at[[]at[natDecl]]
	publish  at[[]at[publishDecl]]
	policy   at[policyDecl]
	segments at[[]named[segmentDecl]]
}

type settingsDecl struct {
	table, priority at[uint32]
	mark, mask      at[uint32]
	protocol        at[int]
	nftTable        at[string]
	port            at[int]
}

type siteDecl struct {
	kind     at[Kind]
	address  at[netip.Addr]
	endpoint at[[]at[hostPort]]
	inbound  at[Inbound]
	port     at[int]
	key      at[key.Public]
	lan      at[[]named[[]at[lanDecl]]]
	uplink   at[[]named[uplinkDecl]]
	routing  at[Routing]
	babel    at[[]named[babelDecl]]

	doubt bool // something in it could not be read
}

// hostPort is an endpoint; its base is 0 where the file has none.
type hostPort struct {
	host string
	base int
}

type lanDecl struct {
	prefix, as at[netip.Prefix]
	probe      at[netip.Addr]
}

type babelDecl struct {
	accept at[[]at[netip.Prefix]]
	key    at[string]
}

type uplinkDecl struct {
	dhcp       at[bool]
	address    at[[]at[netip.Prefix]]
	gateway    at[[]at[netip.Addr]]
	mtu        at[int]
	weight     at[int]
	preference at[int]
	masquerade at[bool]

	check              at[[]at[netip.AddrPort]]
	checkInterval      at[time.Duration]
	checkDown, checkUp at[int]
}

// linkDecl is an element of `links:`.
type linkDecl struct {
	Pos
	form    linkForm
	star    at[string]
	sites   []at[string] // of a chain, a group, or the two of between
	options betweenDecl
}

type linkForm int

const (
	meshForm linkForm = iota
	starForm
	chainForm
	groupForm
	betweenForm
)

type betweenDecl struct {
	between   at[[]at[string]]
	mtu       at[int]
	keepalive at[time.Duration]
	psk       at[bool]
	cost      at[int]
	port      at[portsDecl]
	transport at[string]
	on        at[[]named[string]]
}

// portsDecl is one port for both ends, or one for each named.
type portsDecl struct {
	both int
	each []named[int]
}

type clientsDecl struct {
	pool    at[netip.Prefix]
	at      at[[]at[string]]
	key     at[key.Public]
	hold    at[time.Duration]
	devices at[[]named[deviceDecl]]
}

type deviceDecl struct {
	address at[netip.Addr]
	key     at[key.Public]
	full    at[bool]
	dns     at[[]at[netip.Addr]]
	given   at[[]at[string]]
}

type exitDecl struct {
	from      at[[]at[string]]
	via       at[[]at[string]]
	otherwise at[string]
	router    at[bool]
}

type publishDecl struct {
	at   at[string]
	port at[publishedPort]
	to   at[netip.AddrPort]
}

type publishedPort struct {
	ports    PortRange
	protocol string
}

type natDecl struct {
	at         at[string]
	masquerade at[[]at[string]]
	out        at[string]
	to         at[[]at[string]]
}

type policyDecl struct {
	otherwise at[string]
	rules     at[[]at[ruleDecl]]
}

type ruleDecl struct {
	from, to    at[[]at[string]]
	allow, deny at[[]at[PolicyPort]]
}

type segmentDecl struct {
	kind   at[string]
	attach at[[]named[attachDecl]]
}

type attachDecl struct {
	bridge at[string]
	dhcpv6 at[dhcpv6Decl]
}

type dhcpv6Decl struct {
	delegateTo at[string]
}
