package agent

import (
	"net/netip"
	"slices"
	"sync"

	"tombolo/internal/key"
	"tombolo/internal/state"
)

// away says what the base loop must know of the peers at which roaming devices enter, and
// which the roaming changes beside it: some are removed and added again, or have a keepalive
// for a second. That is no drift, and neither waits for the other.
type away struct {
	mu    sync.Mutex
	turns uint64 // how often a peer was put back so far
	out   map[key.Public]bool
	back  map[key.Public]uint64 // turns when it was put back
	here  map[key.Public]bool   // devices that are here
}

func newAway() *away {
	return &away{out: map[key.Public]bool{}, back: map[key.Public]uint64{}, here: map[key.Public]bool{}}
}

// leave says that a peer is about to be changed, and settle that it is as it should be.
func (a *away) leave(k key.Public) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.out[k] = true
}

func (a *away) settle(k key.Public) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.out[k] {
		a.turns++
		a.back[k] = a.turns
		delete(a.out, k)
	}
}

// setHere says whether a device is here: that its endpoint is worth remembering.
func (a *away) setHere(k key.Public, here bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.here[k] = here; !here {
		delete(a.here, k)
	}
}

// mark begins a read of the kernel, for spare. It serves one goroutine.
func (a *away) mark() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.back) // of earlier reads
	return a.turns
}

// spare returns what was read since a mark, with those peers as they are wanted that were
// changed meanwhile, or still are. One that is then not put back is missing at the next read.
func (a *away) spare(since uint64, have, want state.Router) state.Router {
	a.mu.Lock()
	defer a.mu.Unlock()
	if want.Clients == nil || len(a.out) == 0 && a.turns == since {
		return have
	}
	var wanted []state.Peer
	for _, f := range want.Interfaces {
		if f.Name == want.Clients.Device && f.WireGuard != nil {
			wanted = f.WireGuard.Peers
		}
	}
	return withPeers(have, want.Clients.Device, func(peers []state.Peer) []state.Peer {
		for _, p := range wanted {
			if !a.out[p.PublicKey] && a.back[p.PublicKey] <= since {
				continue
			}
			i := slices.IndexFunc(peers, func(q state.Peer) bool { return q.PublicKey == p.PublicKey })
			if i < 0 {
				p.Addresses = nil
				peers = append(peers, p)
			} else {
				peers[i].Keepalive = p.Keepalive
			}
		}
		return peers
	})
}

// located returns what was read, without the endpoints of the devices that are not here: who
// sends to them from here has them think that their door is this one.
func (a *away) located(have, want state.Router) state.Router {
	if want.Clients == nil {
		return have
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return withPeers(have, want.Clients.Device, func(peers []state.Peer) []state.Peer {
		for i, p := range peers {
			if !a.here[p.PublicKey] {
				peers[i].Addresses = []netip.AddrPort(nil)
			}
		}
		return peers
	})
}

// withPeers returns r with other peers of an interface. change may write to its argument.
func withPeers(r state.Router, device string, change func([]state.Peer) []state.Peer) state.Router {
	r.Interfaces = slices.Clone(r.Interfaces)
	for i, f := range r.Interfaces {
		if f.Name == device && f.WireGuard != nil {
			w := *f.WireGuard
			w.Peers = change(slices.Clone(w.Peers))
			r.Interfaces[i].WireGuard = &w
		}
	}
	return r
}
