// Package state is the waist of the house: plain values that say what one router must
// hold, or does hold. Wanted and observed are the same type, so a plan is a function of
// two values.
//
// Left of it (network file, spec, compile) nothing touches a machine; right of it (plan,
// kernel, render, trace, lab) nothing knows the network file. It carries names of keys,
// never their bytes, and has a versioned JSON form.
//
// Every list is sorted (see Router.Sort) and every value compares by its fields, so that
// equal routers are equal values.
package state

import (
	"net/netip"

	"tombolo/internal/key"
)

// Version is the version of the JSON form. A reader refuses another one.
const Version = 1

// Router is what one router holds.
//
// Site, Endpoints, LANs and Uplinks describe what is there without us, and Forwards what
// nobody else there may stop: they are never part of a plan. The rest is ours to make.
type Router struct {
	Version int    `json:"version"`
	Network string `json:"network,omitempty"`
	Site    string `json:"site,omitempty"`

	// Owner says how what is ours is told from what is not.
	Owner Owner `json:"owner"`

	Endpoints []string `json:"endpoints,omitempty"` // host:port by which others dial us; the port is the base port
	LANs      []LAN    `json:"lans,omitempty"`
	Uplinks   []Uplink `json:"uplinks,omitempty"`

	Forwards []Forward `json:"forwards,omitempty"`

	Interfaces []Interface `json:"interfaces,omitempty"`
	Routes     []Route     `json:"routes,omitempty"`
	Rules      []Rule      `json:"rules,omitempty"`
	Rulesets   []Ruleset   `json:"rulesets,omitempty"`
	Sysctls    []Sysctl    `json:"sysctls,omitempty"`

	Babel   *Babel   `json:"babel,omitempty"`   // nil: no speaker; never observed
	Egress  *Egress  `json:"egress,omitempty"`  // nil: no uplink; never observed, and no part of a plan
	Clients *Clients `json:"clients,omitempty"` // nil: no device enters here; never observed, and no part of a plan
}

// LAN describes a device with hosts behind it. tombolo follows it and never assigns it.
type LAN struct {
	Device   string         `json:"device"`
	Prefixes []netip.Prefix `json:"prefixes"` // masked; IPv4 and IPv6
}

// InterfaceKind says what sort of interface we make.
type InterfaceKind string

// The kinds of interface.
const (
	WireGuardKind InterfaceKind = "wireguard"
)

// Interface is a network interface that we make.
type Interface struct {
	Name string        `json:"name"` // at most 15 bytes
	Kind InterfaceKind `json:"kind"`

	// Alias is the interface's ifalias. Ours begin with Owner.Alias; that is how an
	// interface is known to be ours, whoever made it under the same name.
	Alias string `json:"alias,omitempty"`

	MTU       int            `json:"mtu"`            // bytes
	Down      bool           `json:"down,omitempty"` // observed: somebody took it down; wanted: false
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	WireGuard *WireGuard     `json:"wireguard,omitempty"`
}

// WireGuard is the device of a WireGuard interface.
type WireGuard struct {
	PrivateKey key.Ref    `json:"privateKey,omitempty"` // empty: observed, and no file of ours holds it
	PublicKey  key.Public `json:"publicKey,omitzero"`
	ListenPort uint16     `json:"listenPort"`
	FwMark     uint32     `json:"fwMark,omitempty"` // of the tunnel's outer packets
	Peers      []Peer     `json:"peers,omitempty"`  // sorted by public key, then name
}

// Peer is a WireGuard peer.
type Peer struct {
	Name      string     `json:"name,omitempty"` // the site's, or the roaming device's; empty when observed
	PublicKey key.Public `json:"publicKey,omitzero"`

	// Preshared names the preshared key; empty for none. Observed and unknown to the
	// store it is UnknownKey.
	Preshared key.Ref `json:"preshared,omitempty"`

	// Endpoints are the host:port texts of the network file, in the order in which they
	// are tried; none when the peer dials us. Observed: always none.
	Endpoints []string `json:"endpoints,omitempty"`

	// Addresses is where the endpoints lead: wanted, every address that the names
	// resolve to, best first (none before they are resolved); observed, the one in use.
	Addresses []netip.AddrPort `json:"addresses,omitempty"`

	AllowedIPs []netip.Prefix `json:"allowedIPs,omitempty"` // sorted
	Keepalive  int            `json:"keepalive,omitempty"`  // seconds; 0 is off

	// Handshake is the time of the last handshake in Unix seconds. Only observed; 0 is
	// never. It is no part of a plan.
	Handshake int64 `json:"handshake,omitempty"`

	// Sent and Received are the bytes that went to the peer and came from it. Only
	// observed, and no part of a plan.
	Sent     uint64 `json:"sent,omitempty"`
	Received uint64 `json:"received,omitempty"`
}

// UnknownKey stands for a preshared key that is in use and that no file holds.
const UnknownKey key.Ref = "?"

// RouteType is the type of a route (linux/rtnetlink.h, RTN_*).
type RouteType string

// The types of route.
const (
	Unicast     RouteType = "unicast"
	Unreachable RouteType = "unreachable"
	Blackhole   RouteType = "blackhole"
	Prohibit    RouteType = "prohibit"
	Throw       RouteType = "throw" // the lookup goes on at the next rule
)

// Route is a route. It is comparable; Key is what the kernel tells routes apart by.
type Route struct {
	Table    uint32       `json:"table"`
	Dst      netip.Prefix `json:"dst"`          // masked; 0.0.0.0/0 and ::/0 are defaults
	Src      netip.Prefix `json:"src,omitzero"` // source-specific, IPv6 only
	Metric   uint32       `json:"metric,omitempty"`
	Type     RouteType    `json:"type"`
	Device   string       `json:"device,omitempty"`
	Gateway  netip.Addr   `json:"gateway,omitzero"` // may be IPv6 for an IPv4 route (RTA_VIA)
	OnLink   bool         `json:"onlink,omitempty"`
	PrefSrc  netip.Addr   `json:"prefSrc,omitzero"` // source of the router's own packets
	Protocol uint8        `json:"protocol"`         // Owner.Protocol for ours
}

// RouteKey tells routes apart as the kernel does: a second route with the same key
// replaces the first.
type RouteKey struct {
	Table    uint32
	Dst, Src netip.Prefix
	Metric   uint32
}

// Key returns what the kernel tells the route apart by.
func (r Route) Key() RouteKey { return RouteKey{r.Table, r.Dst, r.Src, r.Metric} }

// RuleAction is what a matching rule does (linux/fib_rules.h, FR_ACT_*).
type RuleAction string

// The actions of a rule.
const (
	Lookup          RuleAction = "lookup"
	RuleUnreachable RuleAction = "unreachable"
	RuleBlackhole   RuleAction = "blackhole"
	RuleProhibit    RuleAction = "prohibit"
)

// Rule is a policy routing rule. It is comparable, and every field is part of what tells
// rules apart: a changed rule is a new rule.
type Rule struct {
	Priority uint32       `json:"priority"`
	IPv6     bool         `json:"ipv6,omitempty"`
	From     netip.Prefix `json:"from,omitzero"` // zero: any
	To       netip.Prefix `json:"to,omitzero"`
	IIF      string       `json:"iif,omitempty"`
	OIF      string       `json:"oif,omitempty"`
	Mark     uint32       `json:"mark,omitempty"`
	Mask     uint32       `json:"mask,omitempty"` // 0: the mark is not looked at
	Action   RuleAction   `json:"action"`
	Table    uint32       `json:"table,omitempty"` // for Lookup

	// Suppress is suppress_prefixlength + 1: a route of the table whose prefix is
	// shorter than Suppress bits is passed over. 1 passes over default routes; 0 is off.
	Suppress int `json:"suppress,omitempty"`

	// IPProto (IPPROTO_*) and DPort are the protocol and the destination port; 0: any.
	IPProto uint8  `json:"ipProto,omitempty"`
	DPort   uint16 `json:"dport,omitempty"`

	Protocol uint8 `json:"protocol"` // Owner.Protocol for ours
}

// Ruleset is one nftables table of ours, replaced whole.
type Ruleset struct {
	Family string `json:"family"` // inet, ip, ip6, netdev, bridge
	Table  string `json:"table"`

	// Text is what is given to `nft -f`: only the table's own block, `table inet name
	// {…}`. Observed, it is what `nft list table` prints, which is the same rules in
	// other words: two rulesets are compared by Digest, never by Text.
	Text string `json:"text"`

	// Digest identifies the rules: wanted, RulesetDigest(Text); observed, the digest of
	// the text that was loaded, or DriftedDigest if somebody changed the table since.
	Digest string `json:"digest"`
}

// DriftedDigest is the digest of a table of ours that no longer is what we loaded.
const DriftedDigest = "drifted"

// Sysctl is a kernel setting below /proc/sys.
type Sysctl struct {
	Name  string `json:"name"`  // slashes: net/ipv4/ip_forward
	Value string `json:"value"` // as it reads, without the newline

	// Only, if set, is the one value from which we change it; any other is left alone.
	// Observed: empty.
	Only string `json:"only,omitempty"`
}

// Owner says how what is ours is told from what is not. Wanted and observed carry the
// same one.
type Owner struct {
	Alias        string `json:"alias"`        // beginning of the ifalias of our interfaces
	Protocol     uint8  `json:"protocol"`     // of our routes and rules (rtnetlink.h, RTPROT_*)
	RuleFirst    uint32 `json:"ruleFirst"`    // our rules have a priority from RuleFirst…
	RuleLast     uint32 `json:"ruleLast"`     // …to RuleLast, and our protocol
	RulesetTable string `json:"rulesetTable"` // name of our nftables tables
}

// DefaultOwner is the owner when the network file sets nothing else. Protocol 84 is
// neither babeld's (42) nor BIRD's (12), which those programs would touch.
func DefaultOwner() Owner {
	return Owner{Alias: "tombolo", Protocol: 84, RuleFirst: 500, RuleLast: 599, RulesetTable: "tombolo"}
}
