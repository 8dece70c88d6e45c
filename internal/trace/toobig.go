package trace

import (
	"fmt"

	"tombolo/internal/trace/ruleset"
)

// stuck is a packet that did not fit, and where.
type stuck struct {
	router *router // nil: none, or its sender noticed
	packet packet
	mtu    int
	entry  *entry // its connection there
	reply  bool
}

const toldAtOnce = "its sender is told at once, and sends less"

// fits reports whether a packet fits the device by which it is to leave. Packets are not to be
// taken apart on their way, as those of IPv6 and of all who look for the path's MTU.
func (w *walk) fits(r *router, p *packet, out *netdev, e *entry, reply bool) bool {
	mtu := out.mtu
	if mtu == 0 || p.Size == 0 || w.depth > 0 {
		return true
	}
	if p.Size <= mtu {
		w.step(r, MTU, p, func() (string, string) {
			return fmt.Sprintf("%d bytes fit %s, whose MTU is %d", p.Size, out.name, mtu), ""
		})
		return true
	}
	hint := ""
	if e == nil { // it is no packet yet
		hint = toldAtOnce
	} else {
		w.stuck = stuck{r, *p, mtu, e, reply}
	}
	w.loses(r, MTU, p, fmt.Sprintf("%d bytes do not fit %s, whose MTU is %d", p.Size, out.name, mtu), hint)
	return false
}

// tell follows the ICMP error about a packet that did not fit to who sent it: fragmentation needed
// (RFC 1191 §4), or packet too big (RFC 4443 §3.2).
func (w *walk) tell(sender Place, sent tuple) {
	r := w.stuck.router
	if r == nil {
		return
	}
	lost, steps, hops := w.end, w.steps, len(w.hops)
	w.steps, w.end, w.left = nil, end{}, mostHops
	about := w.stuck.packet.tuple()
	x := packet{Packet: Packet{Dst: about.src, Protocol: ICMP, TooBig: w.stuck.mtu}, about: &about}
	w.sends(r, &x, "")
	at := w.end
	w.told, w.steps, w.end, w.hops = w.steps, steps, lost, w.hops[:hops]
	switch {
	case at.lost:
		w.end.hint = fmt.Sprintf("nobody tells the sender to send less: the ICMP error is lost at %s, in %s: %s", at.where(), at.stage, at.reason)
	case at.place.Kind != sender.Kind || at.place.Site != sender.Site || at.place.Name != sender.Name:
		w.end.hint = fmt.Sprintf("nobody tells the sender to send less: the ICMP error comes to %s", at.place)
	case about != sent:
		w.end.hint = fmt.Sprintf("the sender is told of a packet to %s, which it knows nothing of, and goes on as before", addrPort(about.dst, about.to))
	default:
		w.end.hint = "the sender is told, and sends less"
	}
}

func (e end) where() string {
	if e.router == "" {
		return "a provider"
	}
	return e.router
}

// related finds the connection of an ICMP error. Where the error is made it is that of the packet
// (nf_conntrack_attach in net/netfilter/nf_conntrack_core.c), also if nobody else has seen it yet; else
// that of what it quotes (nf_conntrack_inet_error in net/netfilter/nf_conntrack_proto_icmp.c).
func (w *walk) related(r *router, p *packet) (e *entry, reply bool, state string) {
	if r == w.stuck.router {
		return w.stuck.entry, !w.stuck.reply, "related"
	}
	if e, reply = w.conns.find(r, p.about.reversed()); e == nil {
		return &entry{original: p.tuple(), reply: p.tuple().reversed(), placed: true}, false, "invalid"
	}
	return e, reply, "related"
}

// translateError does to an ICMP error, and to what it quotes, what is done to the packets of its
// connection (nf_nat_icmp_reply_translation in net/netfilter/nf_nat_proto.c).
func (w *walk) translateError(r *router, h ruleset.Hook, p *packet, e *entry, reply bool, state string) {
	if state != "related" {
		return
	}
	to, hides, aims := e.reply.reversed(), e.dnat(), e.snat()
	if reply {
		to, hides, aims = e.original.reversed(), e.snat(), e.dnat()
	}
	switch h {
	case ruleset.Prerouting, ruleset.Output:
		if hides {
			p.Dst, p.about.src, p.about.from = to.dst, to.dst, to.to
			w.step(r, DNAT, p, func() (string, string) { return "to " + p.Dst.String(), "as conntrack remembers what it is about" })
		}
	case ruleset.Postrouting, ruleset.Input:
		if aims {
			p.Src, p.about.dst, p.about.to = to.src, to.src, to.from
			w.step(r, SNAT, p, func() (string, string) { return "from " + p.Src.String(), "as conntrack remembers what it is about" })
		}
	}
}
