package trace

import "net/netip"

// tuple is what conntrack tells packets apart by.
type tuple struct {
	protocol Protocol
	src, dst netip.Addr
	from, to uint16
}

func (p *packet) tuple() tuple { return tuple{p.Protocol, p.Src, p.Dst, p.SrcPort, p.DstPort} }

func (t tuple) reversed() tuple { return tuple{t.protocol, t.dst, t.src, t.to, t.from} }

// entry is a connection as one router knows it.
type entry struct {
	original tuple // as its first packet came in
	reply    tuple // as its answers come in: what was translated is turned round here
	mark     uint32
	answered bool
	placed   bool // its first packet has gone on: what it is translated to is settled
}

// conns are the connections that one walk has made at its routers.
type conns map[*router][]*entry

// find returns the connection of a packet, and whether it is an answer.
func (c conns) find(r *router, t tuple) (e *entry, reply bool) {
	for _, e := range c[r] {
		switch t {
		case e.original:
			return e, false
		case e.reply:
			return e, true
		}
	}
	return nil, false
}

func (c conns) begin(r *router, t tuple) *entry {
	e := &entry{original: t, reply: t.reversed()}
	c[r] = append(c[r], e)
	return e
}

// dnat and snat report what was translated.
func (e *entry) dnat() bool { return e.reply.src != e.original.dst || e.reply.from != e.original.to }
func (e *entry) snat() bool { return e.reply.dst != e.original.src || e.reply.to != e.original.from }
