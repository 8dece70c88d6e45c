package spec

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"
	"time"

	"tombolo/internal/key"
)

// Network is a network file that has no mistakes: every name refers to something, every
// address is assigned, every default is filled in.
type Network struct {
	File     string // as it was given to Parse, for messages
	Name     string
	Overlay  netip.Prefix // of the routers' addresses
	Overlay6 netip.Prefix // the same in IPv6, a ULA /48; derived where the file has none
	Routing  Routing
	Settings Settings

	Sites []Site // in the order of the file
	Links Links  // over indices of Sites

	Clients  *Clients  // nil: none
	Exits    []Exit    // in the order of the file
	NAT      []NAT     // in the order of the file
	Publish  []Publish // in the order of the file
	Policy   *Policy   // nil: none, everything passes
	Segments []Segment // in the order of the file
}

// Site returns the index of a site in Sites.
func (n *Network) Site(name string) (int, bool) {
	for i := range n.Sites {
		if n.Sites[i].Name == name {
			return i, true
		}
	}
	return 0, false
}

// Pos is a place in the network file. Lines and columns count from 1, columns in
// characters; the zero Pos is no place.
type Pos struct{ Line, Column int }

// Routing says how a router learns its routes.
type Routing string

// The kinds of routing.
const (
	Babel  Routing = "babel"  // an interface for each link, and a speaker
	Static Routing = "static" // one interface, wg_s2s, with computed AllowedIPs
)

// Kind says what a site's router runs.
type Kind string

// The kinds of site.
const (
	Linux   Kind = "linux"
	OpenWrt Kind = "openwrt"
	Plain   Kind = "plain" // speaks WireGuard and runs nothing of ours
)

// Site is a router and what lies around it.
type Site struct {
	Pos  Pos // of the name
	Name string
	Kind Kind

	Address  netip.Addr // in Overlay
	Address6 netip.Addr // in Overlay6: the host bits of Address
	Index    int        // Address minus the overlay's first address: its number in UDP ports
	Hashed   bool       // the address was derived from the name

	Key     key.Public // zero: the file does not say
	Routing Routing

	Endpoints []Endpoint // by which others dial it, in order; none: it cannot be dialled
	BasePort  int        // its links listen on BasePort + the other end's Index
	Inbound   Inbound

	LANs    []LAN    // in the order of the file
	Uplinks []Uplink // in the order of the file

	Babel []BabelSegment // in the order of the file; none unless Routing is Babel
}

// Dialable reports whether others can open a tunnel to the site's UDP port.
func (s *Site) Dialable(port int) bool {
	if len(s.Endpoints) == 0 || s.Inbound.None {
		return false
	}
	for _, p := range s.Inbound.Ports {
		if p.First <= port && port <= p.Last {
			return true
		}
	}
	return len(s.Inbound.Ports) == 0
}

// Endpoint is a name or address by which a site is reached from outside.
type Endpoint struct {
	Pos  Pos
	Host string // DNS name, IPv4 or IPv6 address (without brackets)
	Base int    // the base port there; differs from BasePort behind a port forward
}

// Addr returns the endpoint's address when it is one, and not a name.
func (e Endpoint) Addr() (netip.Addr, bool) {
	a, err := netip.ParseAddr(e.Host)
	return a, err == nil
}

// Inbound says which UDP ports of a site can be reached from outside. The zero value is
// all of them.
type Inbound struct {
	None  bool
	Ports []PortRange
}

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last int }

// LAN describes a device with hosts behind it.
type LAN struct {
	Pos      Pos
	Device   string
	Prefixes []Mapped
}

// Mapped is a LAN's prefix and, where it overlaps another site's, the prefix under which
// the rest of the network sees it.
type Mapped struct {
	Pos    Pos
	Prefix netip.Prefix
	As     netip.Prefix // zero: not mapped; else of the same length as Prefix
	Probe  netip.Addr   // in Prefix; the LAN is announced while it answers; zero: always
}

// Outside is the prefix as other sites see it.
func (m Mapped) Outside() netip.Prefix {
	if m.As.IsValid() {
		return m.As
	}
	return m.Prefix
}

// Seen returns an address in Prefix as other sites see it.
func (m Mapped) Seen(a netip.Addr) netip.Addr { return translate(a, m.Outside()) }

// BabelSegment is a device on which a router speaks Babel with whoever is there.
type BabelSegment struct {
	Pos    Pos
	Device string
	Accept []netip.Prefix // that routers of no site may announce there; each once
	Key    string         // name of the MAC key; empty: none
}

// Uplink describes a device that leads to the Internet.
type Uplink struct {
	Pos        Pos
	Device     string
	DHCP       bool           // another program leases its addresses
	Addresses  []netip.Prefix // address and length, at most one of each family
	Gateways   []netip.Addr   // at most one of each family
	MTU        int            // bytes; 1500 where the file does not say
	Weight     int            // share of new connections; 1 where the file does not say
	Preference int            // lower first: the others carry nothing while one that works has a lower one; 1 where the file does not say
	Check      Check
	Masquerade bool // true where the file does not say
}

// Check says how it is found out whether an uplink works.
type Check struct {
	Targets  []netip.AddrPort // in the order of the file; port 0: by ping, else by TCP; none: no check
	Interval time.Duration    // between rounds, in whole milliseconds
	Down     int              // rounds in a row without an answer, and it is down
	Up       int              // rounds in a row with one, and it is up again
}

// Clients are the roaming devices.
type Clients struct {
	Pos     Pos
	Pool    netip.Prefix
	Pool6   netip.Prefix  // of the devices' IPv6 addresses: the same bits, within Overlay6
	At      []string      // sites, in the order of the file
	Key     key.Public    // the public half of the key that all doors share; zero: the file does not say
	Hold    time.Duration // how long a device counts as there after its last handshake, in whole seconds
	Devices []Device      // in the order of the file
}

// Home returns the door to which the clients' pool leads where nobody hears which door a
// device is at: the first in `at:` with Babel, else the first; -1 where there is none.
func (n *Network) Home() int {
	home := -1
	if n.Clients == nil {
		return home
	}
	for _, name := range n.Clients.At {
		i, ok := n.Site(name)
		switch {
		case !ok:
		case n.Sites[i].Routing == Babel:
			return i
		case home < 0:
			home = i
		}
	}
	return home
}

// Roams reports whether a site enters like a roaming device, with all its prefixes, at whichever
// door it dials: a plain one that `links:` joins to no other.
func (n *Network) Roams(i int) bool { return n.Clients != nil && n.unjoined(i) }

func (n *Network) unjoined(i int) bool {
	if n.Sites[i].Kind != Plain {
		return false
	}
	for j := range n.Sites {
		if j != i && n.Links.Has(i, j) {
			return false
		}
	}
	return true
}

// Device is a roaming device with the stock WireGuard app.
type Device struct {
	Pos      Pos
	Name     string
	Address  netip.Addr   // in Pool; derived from the name where the file does not say
	Address6 netip.Addr   // in Pool6: the bits of Address
	Key      key.Public   // zero: the file does not say
	Full     bool         // all its traffic comes through the network
	DNS      []netip.Addr // resolvers for its configuration
	Given    []string     // digests of the configurations that it was given
}

// Exit says whose Internet traffic leaves where.
type Exit struct {
	Pos       Pos
	For       []string // sites, clients, or prefixes of LANs
	Via       []string // sites in order of preference
	Otherwise string   // "local" or "block"
	Router    bool     // the routers' own traffic too
}

// Publish forwards a port of a site's uplink to a host of the network.
type Publish struct {
	Pos      Pos
	At       string
	Port     PortRange
	Protocol string         // tcp or udp
	To       netip.AddrPort // as others see it: in a mapped LAN the mapped address
}

// Segment is a layer 2 extension between sites.
type Segment struct {
	Pos    Pos
	Name   string
	Kind   string // gretap or vxlan
	Attach []Attachment
}

// Attachment says how a site takes part in a segment.
type Attachment struct {
	Pos        Pos
	Site       string
	Bridge     string // device that the segment becomes a port of
	DelegateTo string // device that gets the prefix asked for over the segment (DHCPv6)
}

// Settings are the numbers by which tombolo lives beside other programs.
type Settings struct {
	Table    uint32 // the fabric's routing table; the default is 110
	Priority uint32 // first of 100 rule priorities; 500
	Mark     uint32 // fwmark of the tunnels' outer packets: 0x7f000000
	Mask     uint32 // the bits of the fwmark that are ours: 0xff000000
	Protocol uint8  // of our routes and rules: 84; learned routes have the next one
	NFTable  string // name of our nftables table: tombolo
	Port     int    // base UDP port where a site does not say: 51820
}

// DefaultSettings are the settings of a file that has none.
func DefaultSettings() Settings {
	return Settings{Table: 110, Priority: 500, Mark: 0x7f000000, Mask: 0xff000000, Protocol: 84, NFTable: "tombolo", Port: 51820}
}

// NoWayTable is the table in which packets for the fabric end while it has no way for them.
func (s Settings) NoWayTable() uint32 { return s.Table + 1 }

// SourceTable is the first table of learned routes with a source (state.Sources): twenty
// after the fabric's, or 256 where the kernel's own would be among them.
func (s Settings) SourceTable() uint32 {
	first := s.Table + 20
	if first <= localTable && first+SourceTables > defaultTable {
		return localTable + 1
	}
	return first
}

// SourceTables is how many there are of them.
const SourceTables = 32

// Numbers of what is marked, within Mask: see Number.
const (
	FirstUplink = 1  // what came in by an uplink, in the order of the file
	FirstPin    = 17 // what left by one
	FirstTunnel = 33 // what came in by a tunnel from outside the network: up to 64
	TowardsExit = 65 // what left towards an exit
)

// Number returns the mark that stands for a number; 0 where the mask has no room for it, or
// it would be Mark.
func (s Settings) Number(n int) uint32 {
	shift := bits.TrailingZeros32(s.Mask)
	m := uint64(n) << shift
	if m&^uint64(s.Mask) != 0 || m == uint64(s.Mark) {
		return 0
	}
	return uint32(m)
}

// UplinkTable is the table of all uplinks that work; those after it, in the order of the
// file, are one uplink's each: ninety after the fabric's, or above the kernel's own.
func (s Settings) UplinkTable() uint32 {
	first := s.Table + 90
	if first <= localTable && first+MaxUplinks >= defaultTable {
		return first + 200
	}
	return first
}

// TunnelTable is the first of the tables by which replies go back into the tunnel that the
// connection came by.
func (s Settings) TunnelTable() uint32 { return s.Table + 1000 }

// TunnelTables is how many there may be: as many as there are numbers for tunnels.
const TunnelTables = TowardsExit - FirstTunnel

// ExitTable is the first of the tables of exits' sources.
func (s Settings) ExitTable() uint32 { return s.Table + 2000 }

// ExitTables is for how many sources Tables reserves some; a file that has more goes on.
const ExitTables = 1000

// mostTable is the largest fabric's table: after it there is room for one for each source
// that a file can hold.
const mostTable = 0xfff00000

// TableRange is a range of routing tables, both ends included.
type TableRange struct{ First, Last uint32 }

// Tables returns the routing tables that are ours, ascending. No two ranges overlap.
func (s Settings) Tables() []TableRange {
	out := []TableRange{
		{s.Table, s.NoWayTable()},
		{s.SourceTable(), s.SourceTable() + SourceTables - 1},
		{s.UplinkTable(), s.UplinkTable() + MaxUplinks},
		{s.TunnelTable(), s.TunnelTable() + TunnelTables - 1},
		{s.ExitTable(), s.ExitTable() + ExitTables - 1},
	}
	slices.SortFunc(out, func(x, y TableRange) int { return cmp.Compare(x.First, y.First) })
	return out
}

// The first and the last of the kernel's own tables (linux/rtnetlink.h, RT_TABLE_*).
const (
	defaultTable = 253
	localTable   = 255
)

// LinkOptions are what a file may say of one link. The zero value is the default.
type LinkOptions struct {
	Pos       Pos
	MTU       int           // bytes; 0: computed from the uplinks
	Keepalive time.Duration // 0: not said; negative: off
	Preshared bool          // with a preshared key
	Cost      int           // of routing over it, between Babel routers milliseconds; 0: not said, which counts as 1
	Ports     [2]int        // UDP port at each end, in the order of the pair; 0: not said
	NoTunnel  bool          // transport: none; the two are on one LAN
	On        [2]string     // with NoTunnel: the device at each end, in the order of the pair
}

// Inside returns a prefix as the hosts in it have it, where it is or lies in what a LAN is
// mapped to (`as:`); else the prefix itself.
func (n *Network) Inside(p netip.Prefix) netip.Prefix {
	for i := range n.Sites {
		if in := n.Sites[i].Inside(p); in != p {
			return in
		}
	}
	return p
}

// Inside returns a prefix as the site itself has it, where it is or lies in what one of its
// LANs is mapped to; else the prefix itself.
func (s *Site) Inside(p netip.Prefix) netip.Prefix {
	for _, l := range s.LANs {
		for _, m := range l.Prefixes {
			if m.As.IsValid() && m.As.Bits() <= p.Bits() && m.As.Overlaps(p) {
				return netip.PrefixFrom(translate(p.Addr(), m.Prefix), p.Bits())
			}
		}
	}
	return p
}

// translate puts an address into a prefix; its bits behind that stay.
func translate(a netip.Addr, into netip.Prefix) netip.Addr {
	from, to := a.AsSlice(), into.Addr().AsSlice()
	for k := range from {
		if keep := into.Bits() - 8*k; keep < 8 {
			mask := byte(0xff) >> max(keep, 0)
			to[k] = to[k]&^mask | from[k]&mask
		}
	}
	out, _ := netip.AddrFromSlice(to)
	return out
}
