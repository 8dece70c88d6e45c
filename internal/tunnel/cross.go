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
// larger one does not let the other's initiation in, and sends its own once more, because it
// may be that the other was not there yet to hear it. Where it was, that is a replay, which
// it drops. One end is enough, so this helps half of the time where the other is a kernel.
type crossing struct {
	mu   sync.Mutex
	sent map[netip.AddrPort]beginning
}

// beginning is what was last sent somewhere of a handshake that has no end yet: an
// initiation, or an answer to one.
type beginning struct {
	index      uint32
	initiation []byte // nil: an answer
	at         time.Time
}

const (
	// crossTime is how much later than ours an initiation can come and still have been
	// sent before ours arrived: longer than nearly every round trip.
	crossTime = 500 * time.Millisecond

	maxBeginnings = 4096
)

// sends looks at a packet that is about to be sent, and reports whether it still should be.
// An initiation that was made before another's was answered, and is sent after, should not:
// device has forgotten it.
func (c *crossing) sends(to netip.AddrPort, packet []byte, now time.Time) bool {
	index, initiates := initiation(packet)
	answers := handshake(packet, wireguard.MessageResponseType, wireguard.MessageResponseSize)
	if !initiates && !answers {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	to = unmapped(to)
	if initiates {
		if b, met := c.sent[to]; met && b.initiation == nil && now.Sub(b.at) < crossTime {
			return false // device itself waits for longer before it begins again (REKEY_TIMEOUT)
		}
	}
	if c.sent == nil || len(c.sent) >= maxBeginnings {
		c.sent = map[netip.AddrPort]beginning{}
	}
	b := beginning{at: now}
	if initiates {
		b.index, b.initiation = index, append([]byte(nil), packet...)
	}
	c.sent[to] = b
	return true
}

// yields reports whether a received packet is an initiation that has to give way to ours,
// and returns ours. It does so once for each of ours: what comes again is no longer a
// coincidence. Nor is what comes after ours was answered.
func (c *crossing) yields(from netip.AddrPort, packet []byte, now time.Time) (ours []byte, yields bool) {
	index, initiates := initiation(packet)
	answers := handshake(packet, wireguard.MessageResponseType, wireguard.MessageResponseSize)
	if !initiates && !answers {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	from = unmapped(from)
	b, met := c.sent[from]
	if !met || b.initiation == nil {
		return nil, false
	}
	if answers {
		if binary.LittleEndian.Uint32(packet[8:]) == b.index {
			delete(c.sent, from)
		}
		return nil, false
	}
	delete(c.sent, from)
	if now.Sub(b.at) >= crossTime || index >= b.index {
		return nil, false
	}
	return b.initiation, true
}

// forget is for when device has forgotten what it sent, and may begin again at once.
func (c *crossing) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.sent)
}

// initiation returns the sender's index of a handshake initiation.
func initiation(packet []byte) (index uint32, ok bool) {
	if !handshake(packet, wireguard.MessageInitiationType, wireguard.MessageInitiationSize) {
		return 0, false
	}
	return binary.LittleEndian.Uint32(packet[4:]), true
}

// handshake reports whether a packet is of that type, which has one size.
func handshake(packet []byte, kind uint32, size int) bool {
	return len(packet) == size && binary.LittleEndian.Uint32(packet) == kind
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
