package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
)

// ephemeral is the port that a flow comes from; the identifier of an echo request.
const ephemeral = 40000

// Trace follows a flow there, and its answer back, with all steps.
func (n *Network) Trace(f Flow) Trace {
	w := &walk{n: n, record: true}
	v := w.flow(f)
	return w.trace(v)
}

func (w *walk) trace(v Verdict) Trace {
	return Trace{There: w.there, Back: w.steps, Told: w.told, Verdict: v, Hops: w.hopsThere, HopsBack: w.hops}
}

// Verdict is Trace without the steps, which costs less.
func (n *Network) Verdict(f Flow) Verdict {
	w := quiet.Get().(*walk)
	defer quiet.Put(w)
	w.n = n
	return w.flow(f)
}

// quiet walks are used again, so that to follow a flow costs next to no memory.
var quiet = sync.Pool{New: func() any { return new(walk) }}

// mostPossible bounds Possible: a network with more ways than that is not made by hand.
const mostPossible = 64

// Possible is Trace for every way that a flow may take: where a route has several next hops, a
// real router goes by one of them, which it chooses by a hash that nobody can foresee.
func (n *Network) Possible(f Flow) []Trace {
	var out []Trace
	for w := new(walk); ; {
		w = &walk{n: n, record: true, choices: w.choices}
		out = append(out, w.trace(w.flow(f)))
		if _, at := w.further(len(out)); at < 0 {
			return out
		}
	}
}

// choice is one that a walk made between next hops.
type choice struct {
	taken, of      int
	router, device string // whose it was, and by which device it goes
}

func (c choice) last() bool { return c.taken+1 == c.of }

// choose takes one of several next hops: as it is told, else the first.
func (w *walk) choose(of int) int {
	if w.chosen == len(w.choices) {
		w.choices = append(w.choices, choice{of: of})
	}
	w.chosen++
	return w.choices[w.chosen-1].taken
}

// flow walks both ways.
func (w *walk) flow(f Flow) Verdict {
	port := f.Port
	if f.Protocol == ICMP {
		port = 0
	}
	p, back := &w.packets[0], &w.packets[1]
	*p = packet{Packet: Packet{Src: f.From.Addr, Dst: f.To, Protocol: f.Protocol, SrcPort: ephemeral, DstPort: port, Size: f.Size}}
	w.conns.reset()
	w.hidden = w.hidden[:0]
	w.left, w.end, w.stuck, w.told, w.hops, w.hopsThere, w.chosen = mostHops, end{}, stuck{}, nil, w.hops[:0], w.hopsThere[:0], 0
	if d := w.n.devices[f.From.Name]; f.From.Kind == Device && d != nil && !d.has(f.To) {
		f.From, p.Src = Place{Kind: Internet}, netip.Addr{} // it goes there by itself, past this network
	}
	w.begins(f.From, p)
	w.there, w.steps = w.steps, nil
	w.hopsThere, w.hops = w.hops, w.hopsThere
	if w.end.lost {
		w.tell(f.From, tuple{p.Protocol, w.origin, f.To, ephemeral, port})
		return w.end.verdict(false)
	}
	at := w.end
	w.met = at.place
	*back = packet{Packet: Packet{Src: p.Dst, Dst: p.Src, Protocol: p.Protocol, SrcPort: p.DstPort, DstPort: p.SrcPort, Reply: true, Size: f.Size}}
	sent, answered := w.origin, back.tuple()
	w.left = mostHops
	w.answers(at, back)
	if w.end.lost {
		w.tell(at.place, answered)
		return w.end.verdict(true)
	}
	if w.end.place.Kind != f.From.Kind || w.end.place.Site != f.From.Site || w.end.place.Name != f.From.Name {
		return Verdict{Back: true, Router: w.end.router, Stage: RouteStage, Reason: fmt.Sprintf("the answer comes to %s, who did not ask", w.end.place)}
	}
	if back.Src != f.To || back.SrcPort != port || back.Dst != sent {
		return Verdict{Back: true, Router: w.end.router, Stage: SNAT, Reason: fmt.Sprintf("the answer comes from %s to %s, and is one to nothing that was asked", addrPort(back.Src, back.SrcPort), back.Dst)}
	}
	return Verdict{Delivered: true, At: at.place.String()}
}

func (e end) verdict(back bool) Verdict {
	return Verdict{Back: back, Router: e.router, Stage: e.stage, Reason: e.reason, Hint: e.hint}
}

// begins sends a packet from where it comes from.
func (w *walk) begins(from Place, p *packet) {
	switch from.Kind {
	case Host:
		r := w.n.routers[from.Site]
		for _, l := range r.lans {
			if l.prefix.Contains(p.Src) {
				w.origin = p.Src
				w.fromHost(r, p, l)
				return
			}
		}
		w.loses(r, Arrives, p, fmt.Sprintf("%s is in no LAN of %s", p.Src, from.Site), "")
	case Router:
		r := w.n.routers[from.Site]
		if r.dead {
			w.loses(r, Leaves, p, "it is down", "")
			return
		}
		if _, own := r.local[p.Src]; p.Src.IsValid() && !own {
			w.loses(r, Leaves, p, fmt.Sprintf("%s is no address of the router", p.Src), "")
			return
		}
		w.sends(r, p, "")
		w.origin = w.sentAs(r, p)
	case Device:
		d := w.n.devices[from.Name]
		for _, a := range d.addresses {
			if !p.Src.IsValid() && a.Is6() == p.Dst.Is6() {
				p.Src = a
			}
		}
		w.origin = p.Src
		w.fromDevice(d, p)
	case Internet:
		if !p.Src.IsValid() {
			p.Src = stranger(p.Dst.Is6())
		}
		w.origin = p.Src
		w.outside(p)
	}
}

// sentAs is the source with which a router began, before anything translated it.
func (w *walk) sentAs(r *router, p *packet) netip.Addr {
	if e := w.conns.first(r); e != nil {
		return e.original.src
	}
	return p.Src
}

// stranger is somebody outside (RFC 5737, RFC 3849).
func stranger(six bool) netip.Addr {
	if six {
		return netip.MustParseAddr("2001:db8:ffff::7")
	}
	return netip.MustParseAddr("198.51.100.7")
}

// fromHost has a host in a LAN send: to its neighbours by itself, to all else by its router.
func (w *walk) fromHost(r *router, p *packet, l lan) {
	if r.broadcasts[p.Dst] {
		w.loses(r, Leaves, p, fmt.Sprintf("%s is the broadcast address of a LAN, or the LAN itself", p.Dst), "")
		return
	}
	if _, own := r.local[p.Dst]; !own && l.prefix.Contains(p.Dst) {
		w.delivers(r, p, Place{Kind: Host, Site: r.name, Addr: p.Dst})
		return
	}
	w.arrives(r, p, l.device)
}

// fromDevice has a roaming device send into its tunnel.
func (w *walk) fromDevice(d *roamer, p *packet) {
	switch {
	case slices.Contains(d.addresses, p.Dst):
		w.delivers(nil, p, Place{Kind: Device, Name: d.name, Addr: p.Dst}) // it asks itself
		return
	case d.door == nil:
		w.loses(nil, Arrives, p, d.name+" is at no door", "")
		return
	case d.door.cut:
		w.loses(nil, Outer, p, fmt.Sprintf("no uplink of %s works, where it enters", d.door.name), "")
		return
	}
	if x := chosen(d.device.links, p.Src); x == nil || x.roamer != d {
		w.loses(d.door, AllowedIPs, p, fmt.Sprintf("%s does not take %s from %s", d.device.name, p.Src, d.name), "")
		return
	}
	if mtu := d.device.mtu; mtu > 0 && p.Size > mtu { // both ends have the same
		w.loses(nil, MTU, p, fmt.Sprintf("%d bytes do not fit the tunnel of %s, whose MTU is %d", p.Size, d.name, mtu), toldAtOnce)
		return
	}
	w.arrives(d.door, p, d.device)
}

// answers sends the answer from where a packet was delivered.
func (w *walk) answers(at end, p *packet) {
	switch at.place.Kind {
	case Host:
		r := w.n.routers[at.place.Site]
		for _, l := range r.lans {
			if l.prefix.Contains(p.Src) {
				w.fromHost(r, p, l)
				return
			}
		}
		w.loses(r, Arrives, p, "its host is in no LAN", "")
	case Router:
		w.sends(w.n.routers[at.place.Site], p, "")
	case Device:
		w.fromDevice(w.n.devices[at.place.Name], p)
	case Internet:
		w.outside(p)
	}
}
