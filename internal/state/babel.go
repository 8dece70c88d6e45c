package state

import "net/netip"

// Babel is what a router's speaker is to do. It is no part of a plan: the routes that the
// speaker learns are kept apart from those that are compiled, by their protocol number.
//
// A route that comes in by a link is taken if the link takes its origin (Only), and if the
// origin may announce the prefix (Accept); or if it lies in one of the link's Foreign
// prefixes, whatever its origin.
type Babel struct {
	// Site is the upper half of the router-id, big endian. The lower half is fresh at each
	// start of the speaker, so that what an earlier one said does not bind it.
	Site uint32 `json:"site"`

	Table    uint32 `json:"table"`    // of the routes it learns
	Protocol uint8  `json:"protocol"` // of them; never Owner.Protocol

	Sources Sources `json:"sources"`

	// Exits are sources whose default routes have tables of their own, to which compiled rules
	// lead. What is learned for them goes there and not where Sources says.
	Exits []ExitTable `json:"exits,omitempty"` // by source

	// PrefSrc4 and PrefSrc6 are the sources of the router's own packets by such routes.
	PrefSrc4 netip.Addr `json:"prefSrc4,omitzero"`
	PrefSrc6 netip.Addr `json:"prefSrc6,omitzero"`

	Links    []BabelLink    `json:"links,omitempty"`    // by device, one for each; none at a door for devices with static routing
	Announce []Announcement `json:"announce,omitempty"` // by prefix
	Accept   []Accept       `json:"accept,omitempty"`   // by prefix; one of Announce only where several may be exits for it
}

// Sources says where learned routes with a source prefix go that Table cannot hold or that
// are not found there: those of IPv4, of which the kernel takes `ip route add … from` and
// ignores the source, and default routes, which Table's rule passes over.
type Sources struct {
	// Table is the first of as many Tables, one for each source prefix of IPv4.
	Table  uint32 `json:"table"`
	Tables uint32 `json:"tables"`

	// Prefixes and Defaults are the priorities of the rules that lead from a source to its
	// routes: to prefixes, before all others' routes, and to a default, after them. A
	// source inside another comes before it, at the next lower priority, or with defaults
	// the second next (compiled rules stand between); there are SourceDepth of either kind.
	Prefixes uint32 `json:"prefixes"`
	Defaults uint32 `json:"defaults"`
}

// ExitTable is where the default route of an exit's source stands.
type ExitTable struct {
	Src   netip.Prefix `json:"src"`
	Table uint32       `json:"table"`

	// Inside is Src as it comes from this router's LAN, where that is mapped.
	Inside netip.Prefix `json:"inside,omitzero"`

	// Local says that here its packets may leave by an uplink too, where nothing is in Table.
	// Flows that change between the two are forgotten: by one their source is translated, and
	// by the other it is not.
	Local bool `json:"local,omitempty"`
}

// SourceDepth is how many sources can lie in each other.
const SourceDepth = 8

// BabelLink is a device on which the speaker speaks.
type BabelLink struct {
	Device string `json:"device"`

	// Peer is the site at the other end; empty on a segment with several of them, or with
	// routers of no site only.
	Peer string `json:"peer,omitempty"`

	// Tunnel says that the device is one of Interfaces, with one neighbour. Else it is a
	// segment that is there without us, whose link-local address is the kernel's.
	Tunnel bool `json:"tunnel,omitempty"`

	Cost int `json:"cost"` // added to the metric; milliseconds, from 1 to 1000

	// Key names the MAC key of a segment; empty: packets are not authenticated.
	Key string `json:"key,omitempty"`

	// Foreign are the prefixes that routers of no site may announce here, and any longer
	// one inside them. Their router-ids are not looked at, also not by Only.
	Foreign []netip.Prefix `json:"foreign,omitempty"`

	// Only are the only sites whose routes are taken; none: all. The router's own one
	// stands for nobody, since what it announces is in no Accept of its own.
	Only []uint32 `json:"only,omitempty"`
}

// While says how long something is announced.
type While string

// The conditions of an announcement.
const (
	Always    While = "always"
	Carrier   While = "carrier"   // while the device exists and has carrier
	Probe     While = "probe"     // while a host behind it answers too
	Handshake While = "handshake" // while the WireGuard peer on the device is there
	Works     While = "works"     // while an uplink works, in the family of Dst
)

// Announcement is a prefix that the router announces while a condition holds.
type Announcement struct {
	Dst netip.Prefix `json:"dst"`
	// Src makes it source-specific (RFC 9079). By which way such packets then leave this
	// router is not the speaker's: rules must say it, before those of Sources.
	Src netip.Prefix `json:"src,omitzero"`

	// Metric is what it starts with, in units of 0.1 ms. One that is also in Accept is not
	// announced while a better route by another router is known, and that is taken.
	Metric uint16 `json:"metric,omitempty"`

	While  While      `json:"while"`
	Device string     `json:"device,omitempty"` // but for Always and Works
	Probe  netip.Addr `json:"probe,omitzero"`   // for Probe
	Peer   string     `json:"peer,omitempty"`   // for Handshake: the peer's name on the device
}

// Accept says which sites may announce a prefix: the upper halves of their router-ids.
type Accept struct {
	Dst netip.Prefix `json:"dst"`
	Src netip.Prefix `json:"src,omitzero"`

	// Origins is empty where any router may announce it: a prefix that came in from
	// routers of no site keeps their router-ids on its whole way (RFC 8966 §3.7), and those
	// are nobody's whom we know.
	Origins []uint32 `json:"origins,omitempty"`

	// Within says that any longer prefix inside Dst may be announced too. Such a prefix
	// has no Origins: how a network that is not ours is cut up is not in our file.
	Within bool `json:"within,omitempty"`

	// Mobile says that it is a roaming device's, whose place changes: of several origins the
	// one with the highest mobility number has it. The router's own may be among Origins; it
	// is one of them while the device is here.
	Mobile bool `json:"mobile,omitempty"`
}
