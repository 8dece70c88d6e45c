package agent

import (
	"context"
	"net/netip"
	"time"

	"tombolo/internal/babel/mac"
	"tombolo/internal/babel/udp"
	"tombolo/internal/health"
	"tombolo/internal/kernel"
	"tombolo/internal/key"
	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// Wanted is what a router must hold, and where that comes from.
type Wanted struct {
	Router state.Router // its endpoints resolved, as far as they could be
	Keys   key.Store
	File   string // the network file, as an absolute path
	Digest string // of the file's text
	Sites  []Site // of the network, by name
}

// Site is a router of the network, so that people can name it.
type Site struct {
	Name     string     `json:"name"`
	Babel    uint32     `json:"babel"` // the upper half of its router-ids
	Address  netip.Addr `json:"address"`
	Address6 netip.Addr `json:"address6"`
}

// Records are what the commands and the agent write down for each other, in the run folder.
type Records interface {
	// Applied returns what was last applied. The error Is os.ErrNotExist if nothing is.
	Applied() (Wanted, error)
	// Remember makes w what was last applied.
	Remember(w Wanted) error
	// Waiting reports whether a change waits for its confirmation.
	Waiting() bool
	// Lock keeps others from changing the router until the function it returns is called.
	Lock(ctx context.Context) (unlock func(), err error)
}

// Source is a network file that the agent follows.
type Source interface {
	// Name is the file's absolute path.
	Name() string
	// Load returns what the file wants of this router. It may take seconds.
	Load(ctx context.Context) (Wanted, error)
	// Taken returns the Digest of the file that was last taken; empty before the first.
	Taken() string
	// Take remembers it, until everything of ours is taken away from the router.
	Take(digest string) error
}

// Kernel is what the base loop does to a router. It serves one goroutine.
type Kernel interface {
	Read(ctx context.Context, want state.Router) (state.Router, error)
	Apply(ctx context.Context, ops []plan.Op) error
	// Watch tells what others change. It is called once.
	Watch() (Watcher, error)
	Close()
}

// Watcher tells what others change on a router.
type Watcher interface {
	// Changed has a value when there is something to Take.
	Changed() <-chan struct{}
	// Take returns what happened since the last time. An error says that the watcher is
	// broken and that another is needed.
	Take() (kernel.Change, error)
	Close()
}

// RouteTable is where learned routes go. It serves one goroutine, and may only touch
// routes and rules with the protocol that it was opened for.
type RouteTable interface {
	// Routes returns the routes with a protocol number: of all tables, where none is named.
	Routes(ctx context.Context, tables []uint32, protocol uint8) ([]state.Route, error)
	// Rules returns the rules of the protocol.
	Rules(ctx context.Context) ([]state.Rule, error)
	Apply(ctx context.Context, ops []plan.Op) error
	Watch() (Watcher, error)
	Close()
}

// Ways is what follows the uplinks. It serves one goroutine, and may only touch routes and
// rules with the protocol that it was opened for.
type Ways interface {
	RouteTable
	// Device returns how a device is; false where there is none of that name.
	Device(name string) (kernel.Device, bool, error)
	// Specifics returns main's other routes by a device, at most so many with a gateway.
	Specifics(ctx context.Context, device string, most int) ([]state.Route, error)
	// Defaults returns the default routes of a protocol in some tables.
	Defaults(ctx context.Context, tables []uint32, protocol uint8) ([]kernel.Default, error)
	// SetDefault puts one in the place of what is there; one without hops removes it.
	SetDefault(ctx context.Context, protocol uint8, d kernel.Default) error
}

// Eyes look at a router and change nothing. They serve one goroutine.
type Eyes interface {
	// Device returns how a device is; false where there is none of that name.
	Device(name string) (kernel.Device, bool, error)
	// Tunnels returns the WireGuard devices of our interfaces, by name.
	Tunnels(names []string) (map[string]kernel.Tunnel, error)
	Close()
}

// Meter counts what devices carry. It serves one goroutine.
type Meter interface {
	Counters() (map[string]kernel.Counter, error)
	Close()
}

// Door is the WireGuard interface at which roaming devices enter, each of them a peer. It
// serves one goroutine.
type Door interface {
	// Sessions returns how the peers of an interface fare; nil where there is none.
	Sessions(device string) ([]kernel.Session, error)
	// Drop takes a peer's session away, and its endpoint: nothing is sent to it any more.
	Drop(device string, p state.Peer) error
	// Rouse takes its session away, and begins another one; Calm is to follow.
	Rouse(device string, p state.Peer, at netip.AddrPort) error
	// Calm gives it the keepalive that is wanted.
	Calm(device string, p state.Peer) error
	Close()
}

// Initiations tell of handshakes that begin.
type Initiations interface {
	// Seen has a value when some began since it had one.
	Seen() <-chan struct{}
	// Count returns how many began so far.
	Count() uint64
	// Err says why nothing is told any more.
	Err() error
	Close()
}

// Socket is the speaker's. Receive serves one goroutine, the rest any.
type Socket interface {
	Receive(b *udp.Batch) ([]udp.Packet, error)
	Send(index int, from, to netip.Addr, payload []byte) error
	Join(index int) error
	Close() error
}

// Machine is the router that an agent runs on, seen through functions that open its parts.
type Machine struct {
	Kernel func(Wanted) (Kernel, error)
	Table  func(owner state.Owner, protocol uint8) (RouteTable, error)
	Ways   func(owner state.Owner, protocol uint8) (Ways, error)
	Eyes   func(Wanted) (Eyes, error)
	Meter  func() (Meter, error)
	Socket func(start time.Time) (Socket, error)
	Door   func(Wanted) (Door, error)
	// Initiations of a WireGuard that listens on a UDP port.
	Initiations func(port uint16) (Initiations, error)
	// Check looks through an uplink's device whether it works, until ctx ends. Its packets
	// have the mark.
	Check func(ctx context.Context, c state.Check, device string, mark uint32, report func(health.Status))
	// ForgetFlows has conntrack forget the connections with a mark, from some sources only if
	// any are named.
	ForgetFlows func(ctx context.Context, mark, mask uint32, sources ...netip.Prefix) ([]kernel.Tuple, error)
	// ForgetAnswers has it forget what answers to such made.
	ForgetAnswers func(ctx context.Context, to []kernel.Tuple) error
	// ForgetTowards has it forget the connections to some prefixes, but TCP's.
	ForgetTowards func(ctx context.Context, to ...netip.Prefix) error
	// MAC returns the key of a segment.
	MAC func(s key.Store, name string) (mac.Key, error)
	// Resolve finds where the endpoints lead.
	Resolve func(ctx context.Context, r state.Router) (state.Router, []error)
}
