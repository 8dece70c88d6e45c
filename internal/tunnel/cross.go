package tunnel

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	wireguard "github.com/tailscale/wireguard-go/device"
)

// crossing has handshakes that cross end well. Where both ends of a tunnel begin one before
// the other's arrives, each drops its own for the other's and then refuses the answer to
// what it dropped (WireGuard whitepaper §5.4: an initiation that is received takes the place
// of one that was sent). Neither has a session, and WireGuard tries again after five seconds.
//
// The sender's index, which stands in the clear, breaks the tie: the end that chose the
// larger one does not let the other's initiation in. That is enough of one end, so it
// helps half of the time where the other is a kernel.
type crossing struct {
	mu   sync.Mutex
	sent map[netip.AddrPort]beginning
}

// beginning is the last initiation that was sent somewhere.
type beginning struct {
	index uint32
	at    time.Time
}

const (
	// crossTime is how much later than ours an initiation can come and still have been
	// sent before ours arrived: longer than nearly every round trip.
	crossTime = 500 * time.Millisecond

	maxBeginnings = 4096
)

// began looks at a packet that is about to be sent.
func (c *crossing) began(to netip.AddrPort, packet []byte, now time.Time) {
	index, ok := initiation(packet)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent == nil || len(c.sent) >= maxBeginnings {
		c.sent = map[netip.AddrPort]beginning{}
	}
	c.sent[unmapped(to)] = beginning{index, now}
}

// yields reports whether a packet is an initiation that has to give way to ours. It does so
// once for each of ours: what comes again is no longer a coincidence.
func (c *crossing) yields(from netip.AddrPort, packet []byte, now time.Time) bool {
	index, ok := initiation(packet)
	if !ok {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	from = unmapped(from)
	ours, met := c.sent[from]
	delete(c.sent, from)
	return met && now.Sub(ours.at) < crossTime && index < ours.index
}

// initiation returns the sender's index of a handshake initiation.
func initiation(packet []byte) (index uint32, ok bool) {
	if len(packet) != wireguard.MessageInitiationSize || binary.LittleEndian.Uint32(packet) != wireguard.MessageInitiationType {
		return 0, false
	}
	return binary.LittleEndian.Uint32(packet[4:]), true
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
