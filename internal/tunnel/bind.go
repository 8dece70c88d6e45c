package tunnel

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/tailscale/wireguard-go/conn"
)

// bind is wireguard-go's UDP bind with two things changed: peers roam (see remote), and a
// sticky source is let go in time.
//
// A packet to a peer leaves with the address, and by the interface, where the peer's last
// packet came in. That is right until routes change: then the source may belong to an uplink
// that no longer leads to the peer. The kernel's WireGuard asks at every new route lookup
// whether, with this source, the packet would leave by that interface, and forgets the
// source if not (send4 in drivers/net/wireguard/socket.c). bind asks the same, once for each
// path after each change in the namespace.
type bind struct {
	conn.Bind // a whole
	watch     *watch
	roaming

	mu     sync.Mutex
	mark   uint32
	routes uint32        // watch.routes when good was last empty
	good   map[path]bool // verdicts under these routes
}

// path is what a sticky source pins down.
type path struct {
	dst     netip.AddrPort
	src     netip.Addr
	ifindex int32
}

// maxPaths bounds bind.good: beyond it peers are very many, and asking again is cheap.
const maxPaths = 4096

var errNoEndpoint = errors.New("no known endpoint for peer")

// newBind returns a closed bind. It fills moved, if that is empty, when a peer's endpoint
// has changed by itself.
func newBind(w *watch, moved chan<- struct{}) *bind {
	return &bind{Bind: newWhole(), watch: w, roaming: newRoaming(moved)}
}

// Open implements conn.Bind.
func (b *bind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	b.crossing.forget() // the device begins anew
	receive, port, err := b.Bind.Open(port)
	for i, f := range receive {
		receive[i] = b.attribute(f, b.Bind.Send)
	}
	return receive, port, err
}

// Send implements conn.Bind.
func (b *bind) Send(bufs [][]byte, ep conn.Endpoint, offset int) error {
	var e *conn.StdNetEndpoint
	switch ep := ep.(type) {
	case *remote:
		b.settle(ep, bufs[0][offset:])
		e = ep.at.Load()
	case *origin: // a cookie reply, to wherever the initiation came from
		e = ep.StdNetEndpoint
	}
	if e == nil {
		return errNoEndpoint
	}
	if !b.crossing.sends(e.AddrPort, bufs[0][offset:], time.Now()) {
		return nil
	}
	if e.SrcIfidx() != 0 && !b.holds(path{e.AddrPort, e.SrcIP(), e.SrcIfidx()}) {
		e = &conn.StdNetEndpoint{AddrPort: e.AddrPort}
	}
	return b.Bind.Send(bufs, e, offset)
}

// ParseEndpoint implements conn.Bind, for text that addressed has prepared.
func (b *bind) ParseEndpoint(text string) (conn.Endpoint, error) { return b.remote(text) }

// SetMark implements conn.Bind. The mark decides about routes too.
func (b *bind) SetMark(mark uint32) error {
	b.mu.Lock()
	b.mark, b.good = mark, nil
	b.mu.Unlock()
	return b.Bind.SetMark(mark)
}

// holds reports whether the path is still the one that the routes say.
func (b *bind) holds(p path) bool {
	// Without its interface a link-local destination means nothing.
	if p.dst.Addr().IsLinkLocalUnicast() {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := b.watch.routes.Load(); b.good == nil || b.routes != now || len(b.good) >= maxPaths {
		b.routes, b.good = now, make(map[path]bool)
	}
	good, asked := b.good[p]
	if !asked {
		oif, err := b.watch.leaves(p.src, p.dst.Addr(), b.mark)
		good = err == nil && oif == uint32(p.ifindex)
		b.good[p] = good
	}
	return good
}
