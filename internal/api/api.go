// Package api is what an agent says over its local socket, and the client that asks.
//
// The socket is /run/tombolo/agent.sock, mode 0600 (or 0660 with a group of the user's
// choice). A client sends one line of JSON, a [Request]; the agent answers with lines of
// JSON, each a [Reply]: one for most requests, and for "watch" and "ping" one for each event
// until either side closes. It is not HTTP: that would be a quarter of a router's binary.
package api

import (
	"net/netip"
	"time"

	"tombolo/internal/state"
)

// SocketName is the socket's name in the run folder.
const SocketName = "agent.sock"

// What a Request asks for.
const (
	DoStatus  = "status"
	DoRoutes  = "routes"
	DoWatch   = "watch"   // events, until the client closes
	DoPing    = "ping"    // echoes, until the client closes
	DoReload  = "reload"  // take the network file, whatever is applied; root only
	DoApplied = "applied" // something else was applied: look; root only
	DoRetire  = "retire"  // take the learned routes away, and end; root only
	DoYield   = "yield"   // leave all as it is, and end, if `apply` left the agent behind; root only
)

// Request is what a client asks for.
type Request struct {
	Do   string `json:"do"`
	Site string `json:"site,omitempty"` // for ping: a site or an address
	IPv6 bool   `json:"ipv6,omitempty"` // for ping: the site's IPv6 address
}

// Reply is one line of an answer. Exactly one field is set.
type Reply struct {
	Error  string  `json:"error,omitempty"`
	Done   bool    `json:"done,omitempty"` // reload, applied, retire, yield: it was heard, and will be done
	Status *Status `json:"status,omitempty"`
	Routes *Routes `json:"routes,omitempty"`
	Event  *Event  `json:"event,omitempty"`
	Echo   *Echo   `json:"echo,omitempty"`
}

// Status is what a router does right now.
type Status struct {
	Network string    `json:"network"`
	Site    string    `json:"site"`
	Version string    `json:"version"`
	Started time.Time `json:"started"` // the agent
	Now     time.Time `json:"now"`

	WireGuard string `json:"wireguard"` // "kernel" or "embedded"
	Source    string `json:"source"`    // the file from which what is in force was made
	Follows   string `json:"follows"`   // the file that the agent follows; empty: none, it keeps what was applied
	Waiting   bool   `json:"waiting"`   // the last change waits for its confirmation

	// Problems are what the agent could not do, newest last: a file with mistakes, an
	// operation that the kernel refused. None is a healthy router.
	Problems []string `json:"problems"`

	Links     []Link         `json:"links"`
	LANs      []Device       `json:"lans"`
	Uplinks   []Uplink       `json:"uplinks"`
	Announced []Announcement `json:"announced"`
	Clients   []Client       `json:"clients"` // that may enter here, by name

	LastChange time.Time `json:"lastChange,omitzero"` // of what the kernel holds, but for learned routes
	Routes     int       `json:"routes"`              // learned

	Refused   uint64 `json:"refused"`   // announcements that the file does not allow
	Malformed uint64 `json:"malformed"` // Babel packets, or parts of them, that make no sense
	Unsigned  uint64 `json:"unsigned"`  // Babel packets without the right signature
}

// Link is a tunnel, or a LAN segment on which the agent speaks.
type Link struct {
	Device string `json:"device"`
	Peer   string `json:"peer"` // the site at the other end

	// State is the neighbour's ("up", "suspect", "one-way", "new", "dead"); without one "no
	// neighbour"; on a link that carries no Babel "static"; before all that "missing", "down"
	// or "no handshake".
	State string `json:"state"`

	Since     time.Time      `json:"since,omitzero"`     // of State
	Handshake time.Time      `json:"handshake,omitzero"` // zero: never
	Endpoint  netip.AddrPort `json:"endpoint,omitzero"`

	RTT    time.Duration `json:"rtt"`    // 0: not known
	Loss   float64       `json:"loss"`   // 0 to 1
	Cost   uint16        `json:"cost"`   // of a route through it; 0xffff: unusable
	Active bool          `json:"active"` // it carries traffic, and is probed often

	WireGuard bool `json:"wireguard"` // it is a tunnel

	Received uint64  `json:"received"` // bytes
	Sent     uint64  `json:"sent"`
	RxRate   float64 `json:"rxRate"` // bytes/s, over the last seconds
	TxRate   float64 `json:"txRate"`

	Prefixes int `json:"prefixes"` // that go by this link
}

// Device is a LAN's or an uplink's device.
type Device struct {
	Name      string         `json:"name"`
	State     string         `json:"state"` // "up", "without carrier", "down" or "missing"
	Addresses []netip.Prefix `json:"addresses"`
	Gateways  []netip.Addr   `json:"gateways"`
}

// Uplink is an uplink's device, and whether it leads anywhere.
type Uplink struct {
	Device
	Works   bool `json:"works"`   // it has an address and a gateway, and its check passes
	Carries bool `json:"carries"` // new flows leave by it

	// What its check says; zero values where it has none.
	Checked bool          `json:"checked"`
	Since   time.Time     `json:"since,omitzero"` // of Works
	RTT     time.Duration `json:"rtt"`            // 0: not known
	Loss    float64       `json:"loss"`           // 0 to 1
}

// Client is a roaming device that may enter at this router.
type Client struct {
	Name      string         `json:"name"`
	Addresses []netip.Prefix `json:"addresses"` // its /32 and /128
	Here      bool           `json:"here"`      // it is connected to this router
	Site      string         `json:"site"`      // to which it is connected; empty: to none
	Since     time.Time      `json:"since,omitzero"`

	// What WireGuard says here: nothing after it went to another site.
	Handshake time.Time      `json:"handshake,omitzero"`
	Endpoint  netip.AddrPort `json:"endpoint,omitzero"`
	Received  uint64         `json:"received"` // bytes, in this session and those before it
	Sent      uint64         `json:"sent"`

	Problem string `json:"problem,omitempty"`
}

// Announcement is a prefix of the router, and whether it is announced now.
type Announcement struct {
	state.Announcement
	Now bool   `json:"now"`
	Why string `json:"why"` // "br-lan has carrier"
}

// Routes are all ways to all prefixes.
type Routes struct {
	Site    string    `json:"site"`
	Now     time.Time `json:"now"`
	Entries []Entry   `json:"routes"`
}

// Entry is a destination.
type Entry struct {
	Dst   netip.Prefix `json:"dst"`
	Src   netip.Prefix `json:"src,omitzero"`
	Own   bool         `json:"own"`  // this router's
	Site  string       `json:"site"` // that announced it
	Since time.Time    `json:"since,omitzero"`
	Why   string       `json:"why"`
	Ways  []Way        `json:"ways"` // the chosen one first

	// Unreachable says that packets are dropped: there is no way, or a retraction is not
	// yet known to everybody.
	Unreachable bool `json:"unreachable,omitempty"`
}

// Way is one way to a destination.
type Way struct {
	Device   string     `json:"device"`
	Peer     string     `json:"peer"`
	NextHop  netip.Addr `json:"nextHop,omitzero"`
	Metric   uint16     `json:"metric"` // 0xffff: retracted
	Cost     uint16     `json:"cost"`   // of the link: the part of Metric that is ours
	Chosen   bool       `json:"chosen"`
	Kept     bool       `json:"kept,omitempty"` // chosen for want of another, though nobody is heard there
	Feasible bool       `json:"feasible"`
	Origin   string     `json:"origin,omitempty"` // the site that announced it, or a router-id
	Note     string     `json:"note,omitempty"`   // why it is not the chosen one
}

// Event is something that happened.
type Event struct {
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind"` // "neighbour up", "route moved", "applied", "reloaded", …
	Text   string    `json:"text"` // in words, for a person, with figures
	Device string    `json:"device,omitempty"`
	Peer   string    `json:"peer,omitempty"`   // the site
	Route  string    `json:"route,omitempty"`  // the destination, "DST" or "DST from SRC"
	Client string    `json:"client,omitempty"` // the roaming device
}

// Echo is one echo request to a site, and what became of it.
type Echo struct {
	Time time.Time     `json:"time"`
	Seq  int           `json:"seq"`
	Site string        `json:"site,omitempty"`
	To   netip.Addr    `json:"to"`
	RTT  time.Duration `json:"rtt"`            // 0: no reply
	Lost string        `json:"lost,omitempty"` // why there is no reply

	// Via is the way that it took: the neighbour, or the device where that is no site;
	// empty where it is not known.
	Via string `json:"via,omitempty"`
}
