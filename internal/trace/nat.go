package trace

import (
	"tombolo/internal/trace/ruleset"
)

// translateKnown does to a packet of a known connection what was done to its first, or the reverse
// to an answer: destinations as it comes in, sources as it leaves.
func (w *walk) translateKnown(r *router, h ruleset.Hook, p *packet, e *entry, reply bool, state string) {
	switch {
	case p.about != nil:
		w.translateError(r, h, p, e, reply, state)
		return
	case state == "invalid" || !e.placed:
		return
	}
	to := e.reply.reversed() // what an original packet is made into
	if reply {
		to = e.original.reversed()
	}
	switch h {
	case ruleset.Prerouting, ruleset.Output:
		if p.Dst != to.dst || p.DstPort != to.to {
			p.Dst, p.DstPort = to.dst, to.to
			w.step(r, DNAT, p, func() (string, string) { return "to " + addrPort(p.Dst, p.DstPort), "as conntrack remembers" })
		}
	case ruleset.Postrouting, ruleset.Input:
		if p.Src != to.src || p.SrcPort != to.from {
			p.Src, p.SrcPort = to.src, to.from
			w.step(r, SNAT, p, func() (string, string) { return "from " + addrPort(p.Src, p.SrcPort), "as conntrack remembers" })
		}
	}
}

// translate does what a rule says, and remembers it.
func (w *walk) translate(r *router, h ruleset.Hook, p *packet, e *entry, nat *ruleset.NAT, out *netdev) {
	switch h {
	case ruleset.Prerouting, ruleset.Output:
		if nat.Dst.IsValid() {
			p.Dst = nat.Dst
		}
		if nat.Port != 0 {
			p.DstPort = nat.Port
		}
		e.reply.src, e.reply.from = p.Dst, p.DstPort
		w.step(r, DNAT, p, func() (string, string) { return "to " + addrPort(p.Dst, p.DstPort), "" })
	case ruleset.Postrouting:
		src := nat.Src
		if nat.Masquerade {
			src = r.addressOn(out, w.next)
		}
		if !src.IsValid() || src == p.Src {
			return
		}
		p.Src = src
		e.reply.dst = src
		w.step(r, SNAT, p, func() (string, string) { return "from " + src.String(), "" })
	}
}
