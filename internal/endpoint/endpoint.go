// Package endpoint finds where the tunnels' names lead, and which of several addresses to
// try next.
//
// WireGuard itself resolves nothing: a name is resolved once, by whoever sets the peer up,
// and a peer whose address changed since is lost. So names are resolved again on a timer,
// and a peer that we send to and that does not answer gets its next address.
package endpoint

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"tombolo/internal/key"
	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// Lookup returns the addresses of a host name. An address is its own lookup.
type Lookup func(ctx context.Context, host string) ([]netip.Addr, error)

// Reach reports whether the machine has any route to an address.
type Reach func(netip.Addr) bool

// System looks names up as the machine does: hosts file first, then its resolvers.
func System(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for i := range addresses {
		addresses[i] = addresses[i].Unmap()
	}
	return addresses, err
}

// Routed reports whether the kernel has a route to a. Nothing is sent: connecting a UDP
// socket only asks for the route.
func Routed(a netip.Addr) bool {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 9)))
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// Resolve returns r with the Addresses of every peer that has Endpoints: in the order of
// the endpoints, those with a route first, IPv4 before IPv6 (its packets are 20 bytes
// shorter). A name that does not resolve is an error in the second result and leaves the
// other peers, and its own other endpoints, as they should be.
func Resolve(ctx context.Context, r state.Router, lookup Lookup, reach Reach) (state.Router, []error) {
	var errs []error
	known := lookupAll(ctx, r, lookup)
	r.Interfaces = slices.Clone(r.Interfaces)
	for i, f := range r.Interfaces {
		if f.WireGuard == nil {
			continue
		}
		device := *f.WireGuard
		device.Peers = slices.Clone(device.Peers)
		for j := range device.Peers {
			p := &device.Peers[j]
			p.Addresses = nil
			for _, e := range p.Endpoints {
				found, err := resolve(e, known)
				if err != nil {
					errs = append(errs, fmt.Errorf("resolve endpoint %s of %s: %w", e, p.Name, err))
				}
				p.Addresses = append(p.Addresses, found...)
			}
			slices.SortStableFunc(p.Addresses, func(a, b netip.AddrPort) int {
				return order(reach(b.Addr())) - order(reach(a.Addr()))
			})
		}
		r.Interfaces[i].WireGuard = &device
	}
	return r, errs
}

// lookupTime bounds how long all names together may take: a router whose resolver is dead
// must still be set up.
const lookupTime = 5 * time.Second

// answer is what became of a name.
type answer struct {
	addresses []netip.Addr
	err       error
}

// lookupAll looks all names of r up, at once and each once.
func lookupAll(ctx context.Context, r state.Router, lookup Lookup) map[string]answer {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	known := map[string]answer{}
	for _, f := range r.Interfaces {
		if f.WireGuard == nil {
			continue
		}
		for _, p := range f.WireGuard.Peers {
			for _, e := range p.Endpoints {
				if host, _, err := net.SplitHostPort(e); err == nil {
					known[host] = answer{}
				}
			}
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for host := range maps.Clone(known) {
		wg.Go(func() {
			addresses, err := lookup(ctx, host)
			slices.SortFunc(addresses, netip.Addr.Compare) // IPv4 before IPv6, and the same each time
			mu.Lock()
			known[host] = answer{addresses, err}
			mu.Unlock()
		})
	}
	wg.Wait()
	return known
}

// resolve returns the addresses of one host:port.
func resolve(endpoint string, known map[string]answer) ([]netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(endpoint)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, err
	}
	a := known[host]
	if a.err != nil {
		return nil, a.err
	}
	out := make([]netip.AddrPort, 0, len(a.addresses))
	for _, addr := range a.addresses {
		out = append(out, netip.AddrPortFrom(addr, uint16(port)))
	}
	return out, nil
}

func order(b bool) int {
	if b {
		return 1
	}
	return 0
}

// sessionLife is how long a WireGuard session lasts without a new handshake
// (REJECT_AFTER_TIME, in WireGuard's whitepaper §6.1).
const sessionLife = 180 * time.Second

// Roamed returns want with the address in use added to those of every peer that answers
// from one to which neither want nor last leads, last being what was wanted before: such a
// peer is behind a NAT or has another uplink now, WireGuard has followed it, and to move it
// to where its name leads would cut a tunnel that works. Both must be resolved.
func Roamed(have, want, last state.Router, now time.Time) state.Router {
	want.Interfaces = slices.Clone(want.Interfaces)
	for i, f := range want.Interfaces {
		there := find(have.Interfaces, f.Name)
		if f.WireGuard == nil || there == nil || there.WireGuard == nil {
			continue
		}
		device := *f.WireGuard
		device.Peers = slices.Clone(device.Peers)
		for j := range device.Peers {
			p := &device.Peers[j]
			q := findPeer(there, p.PublicKey)
			if q == nil || len(q.Addresses) == 0 || len(p.Addresses) == 0 || now.Sub(time.Unix(q.Handshake, 0)) > sessionLife {
				continue
			}
			used := q.Addresses[0]
			was := findPeer(find(last.Interfaces, f.Name), p.PublicKey)
			if !slices.Contains(p.Addresses, used) && (was == nil || !slices.Contains(was.Addresses, used)) {
				p.Addresses = append(slices.Clone(p.Addresses), used)
			}
		}
		want.Interfaces[i].WireGuard = &device
	}
	return want
}

// Remembered returns want with the last address of every peer that is gone, and to which no
// name leads: WireGuard would wait until that peer speaks, which takes it a quarter of a
// minute to try (KEEPALIVE_TIMEOUT and REKEY_TIMEOUT). last is what was there.
func Remembered(have, last, want state.Router) state.Router {
	want.Interfaces = slices.Clone(want.Interfaces)
	for i, f := range want.Interfaces {
		was := find(last.Interfaces, f.Name)
		if f.WireGuard == nil || was == nil || was.WireGuard == nil {
			continue
		}
		device := *f.WireGuard
		device.Peers = slices.Clone(device.Peers)
		for j := range device.Peers {
			p := &device.Peers[j]
			there, before := findPeer(find(have.Interfaces, f.Name), p.PublicKey), findPeer(was, p.PublicKey)
			if len(p.Addresses) == 0 && there == nil && before != nil {
				p.Addresses = slices.Clone(before.Addresses)
			}
		}
		want.Interfaces[i].WireGuard = &device
	}
	return want
}

// Watch follows the peers of one router between passes.
type Watch struct {
	// Last is what was wanted at the last pass, resolved; before the first, at the last
	// apply.
	Last state.Router

	// Silent are the interfaces through which a routing protocol speaks all the time, and at
	// whose other ends it hears nobody.
	Silent map[string]bool

	passed map[peerID]traffic // as of the last pass
}

// traffic is how many bytes went each way.
type traffic struct{ sent, received uint64 }

type peerID struct {
	device string
	peer   key.Public
}

// Steer returns the changes that bring the peers' endpoints right: to an address that the
// names now lead to where the one in use is none of them (unless the peer has roamed, see
// Roamed), and to the next one where we send to a peer whose handshake is overdue, or which is
// silent and has sent nothing at all since the last time: who has no hellos for us and data is
// reached where it is. Nothing else of have is looked at; want must be resolved.
func (w *Watch) Steer(have, want state.Router, now time.Time) []plan.Op {
	last := w.Last
	w.Last = want
	want = Roamed(have, want, last, now)
	passed := map[peerID]traffic{}
	var ops []plan.Op
	for _, f := range want.Interfaces {
		there := find(have.Interfaces, f.Name)
		if f.WireGuard == nil || there == nil || !want.Owner.OwnsInterface(*there) || there.WireGuard == nil {
			continue
		}
		for _, p := range f.WireGuard.Peers {
			peer := findPeer(there, p.PublicKey)
			if peer == nil || len(p.Addresses) == 0 {
				continue
			}
			q, id := *peer, peerID{f.Name, p.PublicKey}
			passed[id] = traffic{q.Sent, q.Received}
			before, known := w.passed[id]
			overdue := known && q.Sent > before.sent && now.Sub(time.Unix(q.Handshake, 0)) > sessionLife
			// What is not sent, for want of a route to the address, is not counted.
			overdue = overdue || known && w.Silent[f.Name] && q.Received == before.received
			if next, ok := nextAddress(q.Addresses, p.Addresses, overdue); ok {
				to := q
				to.Addresses = []netip.AddrPort{next}
				ops = append(ops, plan.Op{Verb: plan.Change,
					Object: plan.Peer{Interface: f.Name, Peer: to}, Before: plan.Peer{Interface: f.Name, Peer: q}})
			}
		}
	}
	w.passed = passed
	return ops
}

// nextAddress chooses the address to change to, if any.
func nextAddress(used, candidates []netip.AddrPort, overdue bool) (netip.AddrPort, bool) {
	if len(used) == 0 {
		return candidates[0], true
	}
	at := slices.Index(candidates, used[0])
	if at < 0 {
		return candidates[0], true
	}
	if overdue && len(candidates) > 1 {
		return candidates[(at+1)%len(candidates)], true
	}
	return netip.AddrPort{}, false
}

func find(interfaces []state.Interface, name string) *state.Interface {
	for i := range interfaces {
		if interfaces[i].Name == name {
			return &interfaces[i]
		}
	}
	return nil
}

// findPeer returns the peer of an interface with a public key; nil where there is none.
func findPeer(i *state.Interface, k key.Public) *state.Peer {
	if i == nil || i.WireGuard == nil {
		return nil
	}
	for j := range i.WireGuard.Peers {
		if i.WireGuard.Peers[j].PublicKey == k {
			return &i.WireGuard.Peers[j]
		}
	}
	return nil
}
