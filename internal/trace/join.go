package trace

import (
	"net/netip"
	"slices"

	"tombolo/internal/state"
	"tombolo/internal/trace/learned"
)

// enter finds where the roaming devices are.
func (n *Network) enter(w learned.World) {
	for _, name := range n.names {
		r := n.routers[name]
		if r.state.Clients == nil {
			continue
		}
		for _, d := range r.state.Clients.Devices {
			x := n.devices[d.Name]
			if x == nil {
				x = &roamer{name: d.Name, takes: w.Takes[d.Name]}
				for _, p := range d.Addresses {
					if p.IsSingleIP() {
						x.addresses = append(x.addresses, p.Addr())
						n.byAddr[p.Addr()] = x
					}
				}
				n.devices[d.Name] = x
			}
			if w.Doors[d.Name] == name {
				x.door, x.device = r, r.has(r.state.Clients.Device)
			}
		}
	}
}

// join finds the other ends of a router's tunnels.
func (n *Network) join(r *router, down func(a, b string) bool) {
	for i := range r.state.Interfaces {
		f := &r.state.Interfaces[i]
		if f.WireGuard == nil {
			continue
		}
		for k := range f.WireGuard.Peers {
			p := &f.WireGuard.Peers[k]
			l := link{peer: p, to: n.routers[p.Name]}
			l.all = slices.Contains(p.AllowedIPs, everything[0]) && slices.Contains(p.AllowedIPs, everything[1])
			door := r.state.Clients != nil && f.Name == r.state.Clients.Device
			itself, enters := n.devices[r.name]
			switch d := n.devices[p.Name]; {
			case door && d != nil && l.to == nil:
				l.roamer, l.down = d, d.door != r
			case door && d != nil: // a plain site that enters like a device
				l.device, l.down = l.to.ofPeer(doors), d.door != r
			case l.to != nil:
				l.device = l.to.ofPeer(r.name)
			case enters && p.Name == doors:
				if l.to, l.device = itself.door, itself.device; l.to == nil {
					l.down = true
				}
			}
			if l.to != nil {
				l.down = l.down || down != nil && down(r.name, l.to.name)
			}
			d := r.has(f.Name)
			d.links = append(d.links, l)
		}
	}
}

var everything = [...]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// doors is the peer of who enters at a door: all doors have one key (compile.Router).
const doors = "clients"

// ofPeer returns the tunnel in which a router has a peer, if it has one.
func (r *router) ofPeer(name string) *netdev {
	for _, f := range r.state.Interfaces {
		if f.WireGuard == nil {
			continue
		}
		if slices.ContainsFunc(f.WireGuard.Peers, func(p state.Peer) bool { return p.Name == name }) {
			return r.has(f.Name)
		}
	}
	return nil
}
