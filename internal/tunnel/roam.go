package tunnel

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailscale/wireguard-go/conn"
	wireguard "github.com/tailscale/wireguard-go/device"
)

// Roaming: a peer's endpoint is where its last authenticated packet came from (WireGuard
// whitepaper §2.1). The wireguard-go that we embed has lost this: its makers' own bind knows
// where peers are, so device never moves an endpoint, and a peer that was given none is
// never answered. What it has kept are two hooks on the endpoints of received packets, and
// with them the bind does it:
//
//   - every peer's endpoint is a remote, which knows the peer's key and whose address can
//     change. addressed puts one into each peer that is configured.
//   - every received packet's endpoint is an origin. After a transport packet was
//     authenticated, device calls FromPeer: the remote moves there.
//   - device names the sender of a handshake initiation (InitiationMessagePublicKey) before
//     it has authenticated it, so that is only a claim. When it then sends the response to
//     that very initiation, it has: the remote moves, and the response goes there.
//
// A handshake response from elsewhere than its initiation went moves nothing; the first
// transport packet from there does.

// remote is where a peer is. It implements conn.Endpoint.
type remote struct {
	key [32]byte
	at  atomic.Pointer[conn.StdNetEndpoint] // with the sticky source; nil while not known
}

// ClearSrc implements conn.Endpoint. Values behind at never change, they are replaced.
func (r *remote) ClearSrc() {
	if e := r.at.Load(); e != nil && e.SrcIfidx() != 0 {
		r.at.CompareAndSwap(e, &conn.StdNetEndpoint{AddrPort: e.AddrPort})
	}
}

// DstToString implements conn.Endpoint; empty while the address is not known.
func (r *remote) DstToString() string {
	if e := r.at.Load(); e != nil {
		return netip.AddrPortFrom(e.Addr().Unmap(), e.Port()).String()
	}
	return ""
}

func (r *remote) address() *conn.StdNetEndpoint {
	if e := r.at.Load(); e != nil {
		return e
	}
	return &conn.StdNetEndpoint{}
}

// SrcToString, DstToBytes, DstIP and SrcIP implement conn.Endpoint.
func (r *remote) SrcToString() string { return r.address().SrcToString() }
func (r *remote) DstToBytes() []byte  { return r.address().DstToBytes() }
func (r *remote) DstIP() netip.Addr   { return r.address().DstIP() }
func (r *remote) SrcIP() netip.Addr   { return r.address().SrcIP() }

// origin is where a received packet came from.
type origin struct {
	*conn.StdNetEndpoint
	roaming *roaming
	index   uint32      // of a handshake initiation: its sender's index
	learned atomic.Bool // FromPeer was called; it comes for each packet of a batch
}

// FromPeer implements conn.PeerAwareEndpoint: a packet from here was the peer's.
func (o *origin) FromPeer(key [32]byte) {
	if !o.learned.Swap(true) {
		o.roaming.move(key, o.StdNetEndpoint)
	}
}

// InitiationMessagePublicKey implements conn.InitiationAwareEndpoint: an initiation from
// here says that it is the peer's.
func (o *origin) InitiationMessagePublicKey(key [32]byte) {
	o.roaming.claim(claim{key, o.index, o.StdNetEndpoint})
}

// roaming knows where a device's peers are.
type roaming struct {
	moved chan<- struct{} // filled when an endpoint has changed

	remotesMu sync.RWMutex
	remotes   map[[32]byte]*remote

	crossing crossing

	claimsMu  sync.Mutex
	claims    [maxClaims]claim
	nextClaim int
}

// claim is a handshake initiation that has not been authenticated yet. The index, chosen at
// random by the sender, tells it from others in the same peer's name.
type claim struct {
	key   [32]byte
	index uint32
	at    *conn.StdNetEndpoint
}

// maxClaims is how many claims are kept. One is needed only while a goroutine of device
// works on the initiation, so there are never more in use than such goroutines, one per CPU.
const maxClaims = 64

func newRoaming(moved chan<- struct{}) roaming {
	return roaming{moved: moved, remotes: make(map[[32]byte]*remote)}
}

// remote parses "KEY@ADDRESS:PORT", or "KEY@" for where the peer is already known to be, if
// it is. KEY is in hexadecimal.
func (r *roaming) remote(text string) (*remote, error) {
	keyText, address, _ := strings.Cut(text, "@")
	var key [32]byte
	if n, err := hex.Decode(key[:], []byte(keyText[:min(len(keyText), 64)])); err != nil || n != len(key) {
		return nil, fmt.Errorf("endpoint %q without a peer", text)
	}
	r.remotesMu.Lock()
	defer r.remotesMu.Unlock()
	e := r.remotes[key]
	if e == nil || address != "" {
		e = &remote{key: key}
	}
	if address != "" {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return nil, err
		}
		e.at.Store(&conn.StdNetEndpoint{AddrPort: to})
	}
	r.remotes[key] = e
	return e, nil
}

// retain forgets the remotes of all but these peers.
func (r *roaming) retain(keys map[[32]byte]bool) {
	r.remotesMu.Lock()
	defer r.remotesMu.Unlock()
	for key := range r.remotes {
		if !keys[key] {
			delete(r.remotes, key)
		}
	}
}

func (r *roaming) move(key [32]byte, to *conn.StdNetEndpoint) {
	r.remotesMu.RLock()
	e := r.remotes[key]
	r.remotesMu.RUnlock()
	if e != nil {
		r.put(e, to)
	}
}

// put says where e is. to may differ from before in no more than the sticky source.
func (r *roaming) put(e *remote, to *conn.StdNetEndpoint) {
	if before := e.at.Swap(to); before == nil || before.AddrPort != to.AddrPort {
		poke(r.moved)
	}
}

func (r *roaming) claim(c claim) {
	r.claimsMu.Lock()
	defer r.claimsMu.Unlock()
	r.claims[r.nextClaim%maxClaims] = c
	r.nextClaim++
}

// settle looks at a packet that is about to be sent to e: if it is a handshake response,
// the initiation with its receiver's index was authentic.
func (r *roaming) settle(e *remote, packet []byte) {
	if len(packet) != wireguard.MessageResponseSize || binary.LittleEndian.Uint32(packet) != wireguard.MessageResponseType {
		return
	}
	index := binary.LittleEndian.Uint32(packet[8:])
	r.claimsMu.Lock()
	defer r.claimsMu.Unlock()
	for i, c := range r.claims {
		if c.at != nil && c.index == index && c.key == e.key {
			r.put(e, c.at)
			r.claims[i] = claim{}
			return
		}
	}
}

// attribute has f mark its packets with their origins. By send goes again what crossing says.
func (r *roaming) attribute(f conn.ReceiveFunc, send func([][]byte, conn.Endpoint, int) error) conn.ReceiveFunc {
	return func(slab []byte, packets []conn.ReceivedPacket) (int, error) {
		n, err := f(slab, packets)
		var from conn.Endpoint // of the packet before: those that came as one share it
		var o *origin
		for i := range packets[:max(n, 0)] {
			p := &packets[i]
			b := p.Bytes(slab)
			index, initiation := initiation(b)
			if p.Endpoint != from || initiation {
				from = p.Endpoint
				o = &origin{StdNetEndpoint: from.(*conn.StdNetEndpoint), roaming: r}
			}
			if initiation {
				o.index = index
				from = nil // the next packet gets its own
			}
			if ours, yields := r.crossing.yields(o.AddrPort, b, time.Now()); yields {
				clear(b) // a packet of no type: device drops it
				// No more certain to arrive than the first.
				_ = send([][]byte{ours}, o.StdNetEndpoint, 0)
			}
			p.Endpoint = o
		}
		return n, err
	}
}

// addressed prepares the lines of a `set=1` for bind.ParseEndpoint, which is not told which
// peer an endpoint is for: every peer gets a remote, and endpoints the peer's key.
func addressed(set string) string {
	var b strings.Builder
	var key string
	for line := range strings.Lines(set) {
		line = strings.TrimSuffix(line, "\n")
		switch k, v, _ := strings.Cut(line, "="); k {
		case "public_key":
			key = v
			fmt.Fprintf(&b, "%s\nendpoint=%s@\n", line, key)
		case "endpoint":
			fmt.Fprintf(&b, "endpoint=%s@%s\n", key, v)
		default:
			b.WriteString(line)
			b.WriteByte('\n')
		}
	}
	return b.String()
}
