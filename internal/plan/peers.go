package plan

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"tombolo/internal/key"
	"tombolo/internal/state"
)

// peerID tells the peers of an interface apart: by public key, and where that is not
// known, by name.
type peerID struct {
	key  key.Public
	name string
}

func idOf(p state.Peer) peerID {
	if p.PublicKey.IsZero() {
		return peerID{name: p.Name}
	}
	return peerID{key: p.PublicKey}
}

func comparePeerIDs(a, b peerID) int {
	return cmp.Or(slices.Compare(a.key[:], b.key[:]), strings.Compare(a.name, b.name))
}

// diffPeers adds, changes and removes the peers of an interface that is to be there.
//
// An allowed IP belongs to one peer: setting it at a second takes it from the first
// (net/wireguard/allowedips.c). So a peer gets one that moves only when the other has let
// go of it, or is gone: each operation then does what it says and no more.
func (d *differ) diffPeers(l *link) {
	if !l.fresh() && !l.kept() {
		return
	}
	have := map[peerID]state.Peer{}
	if l.kept() {
		have = peersByID(wireGuard(l.have).Peers)
	}
	want := oneOwner(wireGuard(l.want).Peers)
	ids := make([]peerID, 0, len(have)+len(want))
	for id := range have {
		ids = append(ids, id)
	}
	for id := range want {
		if _, there := have[id]; !there {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, comparePeerIDs)

	moves := make([]mover[netip.Prefix], len(ids))
	for i, id := range ids {
		_, wanted := want[id]
		moves[i] = mover[netip.Prefix]{holds: have[id].AllowedIPs, wants: want[id].AllowedIPs, leaves: !wanted}
	}
	early := map[peerID]bool{}
	for _, s := range reorder(moves) {
		id := ids[s.i]
		now, there := have[id]
		w, wanted := want[id]
		switch {
		case !wanted:
			d.remove(peersPhase, Peer{l.name, now})
			early[id] = true
		case s.letGo:
			less := now
			less.AllowedIPs = both(now.AllowedIPs, w.AllowedIPs)
			d.change(peersPhase, Peer{l.name, now}, Peer{l.name, less})
			have[id] = less
		case !there:
			d.add(peersPhase, Peer{l.name, target(nil, w)})
		default:
			if next := target(&now, w); !samePeer(now, next) {
				d.change(peersPhase, Peer{l.name, now}, Peer{l.name, next})
			}
		}
	}
	for _, id := range slices.Backward(ids) {
		if _, wanted := want[id]; !wanted && !early[id] {
			d.remove(oldPeersPhase, Peer{l.name, have[id]})
		}
	}
}

// peersByID returns the peers as a plan sees them.
func peersByID(peers []state.Peer) map[peerID]state.Peer {
	out := make(map[peerID]state.Peer, len(peers))
	for _, p := range peers {
		p.AllowedIPs = sortedPrefixes(p.AllowedIPs)
		out[idOf(p)] = quiet(p)
	}
	return out
}

// quiet returns the peer without what only tells how it fares.
func quiet(p state.Peer) state.Peer {
	p.Handshake, p.Sent, p.Received = 0, 0, 0
	return p
}

// oneOwner returns the peers with each allowed IP at one of them only: the last, in the
// order of their keys, as when they were set one after the other.
func oneOwner(peers []state.Peer) map[peerID]state.Peer {
	out := peersByID(peers)
	last := map[netip.Prefix]peerID{}
	for id, p := range out {
		for _, a := range p.AllowedIPs {
			if other, taken := last[a]; !taken || comparePeerIDs(other, id) < 0 {
				last[a] = id
			}
		}
	}
	for id, p := range out {
		p.AllowedIPs = slices.DeleteFunc(p.AllowedIPs, func(a netip.Prefix) bool { return last[a] != id })
		out[id] = p
	}
	return out
}

// target returns what a peer is to be when it is have now, or nil, and want is wanted.
// Its Addresses are the endpoint to use, one or none; an endpoint in use stays when it is
// as good as any.
func target(have *state.Peer, want state.Peer) state.Peer {
	switch {
	case have != nil && len(want.Addresses) == 0:
		want.Addresses = have.Addresses
	case have != nil && len(have.Addresses) > 0 && slices.Contains(want.Addresses, have.Addresses[0]):
		want.Addresses = have.Addresses
	case len(want.Addresses) > 1:
		want.Addresses = want.Addresses[:1:1]
	}
	return want
}

// samePeer compares a peer with its target. A key that is not known is never the same.
func samePeer(have, want state.Peer) bool {
	return !want.PublicKey.IsZero() && have.Preshared == want.Preshared &&
		have.Keepalive == want.Keepalive &&
		slices.Equal(have.Addresses, want.Addresses) &&
		slices.Equal(have.AllowedIPs, want.AllowedIPs)
}

// both returns the prefixes that stand in both lists.
func both(a, b []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range a {
		if slices.Contains(b, p) {
			out = append(out, p)
		}
	}
	return out
}

// Roamed reports whether nothing is left to do but to move peers back from where they are
// now: between a plan and its check they may have spoken from another address, which
// WireGuard follows by itself.
func (p Plan) Roamed() bool {
	for _, op := range p.Ops {
		now, isPeer := op.Object.(Peer)
		was, wasPeer := op.Before.(Peer)
		if op.Verb != Change || !isPeer || !wasPeer {
			return false
		}
		same := now.Interface == was.Interface && now.PublicKey == was.PublicKey && now.Preshared == was.Preshared && now.Keepalive == was.Keepalive
		if !same || !slices.Equal(now.AllowedIPs, was.AllowedIPs) {
			return false
		}
	}
	return len(p.Conflicts) == 0
}
