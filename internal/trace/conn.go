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
	router   *router
	original tuple // as its first packet came in
	reply    tuple // as its answers come in: what was translated is turned round here
	mark     uint32
	answered bool
	placed   bool // its first packet has gone on: what it is translated to is settled
}

// conns are the connections that one walk has made at its routers: few, so that they are looked
// through. What a walk no longer needs the next one takes.
type conns struct{ used, free []*entry }

func (c *conns) reset() {
	c.free = append(c.free, c.used...)
	c.used = c.used[:0]
}

// find returns the connection of a packet, and whether it is an answer.
func (c *conns) find(r *router, t tuple) (e *entry, reply bool) {
	for _, e := range c.used {
		if e.router != r {
			continue
		}
		switch t {
		case e.original:
			return e, false
		case e.reply:
			return e, true
		}
	}
	return nil, false
}

func (c *conns) begin(r *router, t tuple) *entry {
	var e *entry
	if n := len(c.free); n > 0 {
		e, c.free = c.free[n-1], c.free[:n-1]
	} else {
		e = new(entry)
	}
	*e = entry{router: r, original: t, reply: t.reversed()}
	c.used = append(c.used, e)
	return e
}

// first returns the connection that a router began with.
func (c *conns) first(r *router) *entry {
	for _, e := range c.used {
		if e.router == r {
			return e
		}
	}
	return nil
}

// dnat and snat report what was translated.
func (e *entry) dnat() bool { return e.reply.src != e.original.dst || e.reply.from != e.original.to }
func (e *entry) snat() bool { return e.reply.dst != e.original.src || e.reply.to != e.original.from }
