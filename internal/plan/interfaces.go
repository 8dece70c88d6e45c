package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"tombolo/internal/state"
)

// link is an interface's way from what it is to what it is to be.
type link struct {
	name     string
	have     *state.Interface // nil: not there
	want     *state.Interface // nil: not wanted
	now      state.Interface  // bare; have, as far as the plan has come
	replaced bool             // have must go before want can come
	blocked  bool             // something that is not ours is in the way
}

// fresh reports whether the plan adds the interface.
func (l *link) fresh() bool { return l.want != nil && !l.blocked && (l.have == nil || l.replaced) }

// kept reports whether the interface is there before and after.
func (l *link) kept() bool { return l.want != nil && !l.blocked && l.have != nil && !l.replaced }

// whole returns what the interface is now, with the addresses and peers that it has.
func (l *link) whole() state.Interface {
	i := l.now
	i.Addresses = sortedPrefixes(l.have.Addresses)
	peers := slices.Collect(maps.Values(peersByID(wireGuard(l.have).Peers)))
	slices.SortFunc(peers, func(a, b state.Peer) int { return comparePeerIDs(idOf(a), idOf(b)) })
	return withPeers(i, peers)
}

// findLinks pairs the interfaces of both sides, and finds what is in their way.
func (d *differ) findLinks() {
	byName := map[string]*link{}
	foreign := map[string]*state.Interface{}
	foreignPort := map[uint16]*state.Interface{}
	for i := range d.have.Interfaces {
		f := &d.have.Interfaces[i]
		if d.owner.OwnsInterface(*f) {
			byName[f.Name] = &link{name: f.Name, have: f, now: bare(*f)}
			continue
		}
		foreign[f.Name] = f
		if p := listenPort(f); p != 0 {
			foreignPort[p] = f
		}
	}
	for i := range d.want.Interfaces {
		f := &d.want.Interfaces[i]
		if !d.owner.OwnsInterface(*f) {
			continue
		}
		l := byName[f.Name]
		if l == nil {
			l = &link{name: f.Name}
			byName[f.Name] = l
		}
		l.want = f
		l.replaced = l.have != nil && l.have.Kind != f.Kind
	}
	for _, l := range byName {
		d.links = append(d.links, l)
	}
	slices.SortFunc(d.links, func(a, b *link) int { return strings.Compare(a.name, b.name) })
	for _, l := range d.links {
		if l.want == nil {
			continue
		}
		if f := foreign[l.name]; f != nil {
			l.blocked = true
			d.conflict(Interface{bare(*f)}, fmt.Sprintf(
				"tombolo did not make it: its alias is %q and does not begin with %q; rename it (ip link set %s name NAME) or remove it (ip link del %s)",
				f.Alias, d.owner.Alias, quote(f.Name), quote(f.Name)))
		} else if f := foreignPort[listenPort(l.want)]; f != nil {
			l.blocked = true
			d.conflict(Interface{bare(*f)}, fmt.Sprintf(
				"tombolo did not make it, and it listens on UDP port %d, which %s needs; give either another port (wg set %s listen-port PORT)",
				listenPort(f), l.name, quote(f.Name)))
		}
	}
}

// diffInterfaces adds and changes interfaces so that no two ever have the same UDP port:
// for the kernel the second would be an address in use.
func (d *differ) diffInterfaces() {
	wanted := map[uint16]bool{}
	for _, l := range d.links {
		if l.want != nil && !l.blocked {
			wanted[listenPort(l.want)] = true
		}
	}
	ports := make([]mover[uint16], len(d.links))
	for i, l := range d.links {
		if l.replaced && !l.blocked {
			d.remove(interfacesPhase, Interface{l.whole()})
		}
		if l.have != nil && (!l.replaced || l.blocked) && listenPort(l.have) != 0 {
			ports[i].holds = []uint16{listenPort(l.have)}
		}
		if ports[i].leaves = l.want == nil; l.want == nil {
			continue
		}
		if l.blocked {
			ports[i].wants = ports[i].holds
		} else if p := wantPort(l, wanted); p != 0 {
			ports[i].wants = []uint16{p}
		}
	}
	for _, s := range reorder(ports) {
		l := d.links[s.i]
		switch {
		case l.blocked:
		case s.letGo:
			d.advance(interfacesPhase, l, withPort(l.now, 0))
		case l.fresh():
			d.add(interfacesPhase, Interface{bare(*l.want)})
		default:
			next := withPort(bare(*l.want), wantPort(l, wanted))
			d.advance(interfacesPhase, l, withMark(next, mark(&l.now)))
		}
	}
	for _, l := range d.links {
		switch {
		case l.want == nil:
			d.remove(oldInterfacesPhase, Interface{l.whole()})
		case l.kept() && mark(&l.now) != mark(l.want):
			d.advance(marksPhase, l, withMark(l.now, mark(l.want)))
		}
	}
}

// advance changes an interface into next, where that is something else.
func (d *differ) advance(at phase, l *link, next state.Interface) {
	if !sameInterface(l.now, next) {
		d.change(at, Interface{l.now}, Interface{next})
	}
	l.now = next
}

// wantPort returns the port that a wanted interface is to have. Where any will do it
// keeps its own, unless another needs it; 0 lets the kernel choose.
func wantPort(l *link, wanted map[uint16]bool) uint16 {
	if p := listenPort(l.want); p != 0 {
		return p
	}
	if l.have == nil || l.replaced || wanted[listenPort(l.have)] {
		return 0
	}
	return listenPort(l.have)
}

// sameInterface compares two interfaces without their addresses and peers. A key that is
// not known is never the same.
func sameInterface(have, want state.Interface) bool {
	if have.Alias != want.Alias || have.MTU != want.MTU || have.Down != want.Down {
		return false
	}
	if want.WireGuard == nil {
		return true
	}
	h, w := wireGuard(&have), want.WireGuard
	return h.PublicKey == w.PublicKey && !w.PublicKey.IsZero() &&
		h.ListenPort == w.ListenPort && h.FwMark == w.FwMark
}

// wireGuard returns an interface's WireGuard device; for one that has none, an empty one.
func wireGuard(i *state.Interface) state.WireGuard {
	if i == nil || i.WireGuard == nil {
		return state.WireGuard{}
	}
	return *i.WireGuard
}

func listenPort(i *state.Interface) uint16 { return wireGuard(i).ListenPort }
func mark(i *state.Interface) uint32       { return wireGuard(i).FwMark }

func withPort(i state.Interface, port uint16) state.Interface {
	return withWireGuard(i, func(w *state.WireGuard) { w.ListenPort = port })
}

func withMark(i state.Interface, mark uint32) state.Interface {
	return withWireGuard(i, func(w *state.WireGuard) { w.FwMark = mark })
}

func withPeers(i state.Interface, peers []state.Peer) state.Interface {
	return withWireGuard(i, func(w *state.WireGuard) { w.Peers = peers })
}

func withWireGuard(i state.Interface, set func(*state.WireGuard)) state.Interface {
	if i.WireGuard != nil {
		w := *i.WireGuard
		set(&w)
		i.WireGuard = &w
	}
	return i
}
