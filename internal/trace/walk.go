package trace

import (
	"fmt"
	"net/netip"
	"slices"

	"tombolo/internal/trace/ruleset"
)

// packet is one on its way.
type packet struct {
	Packet
	about *tuple // an ICMP error: of the packet that it quotes, as that was at this router
}

// wire is the number of its protocol.
func (p *packet) wire() uint8 {
	if p.Protocol == ICMP && p.Src.Is6() {
		return uint8(ICMPv6)
	}
	return uint8(p.Protocol)
}

// walk is one flow's.
type walk struct {
	n      *Network
	record bool // else only the verdict is wanted
	conns  conns
	steps  []Step
	hops   []Hop
	depth  int // of tunnels
	left   int // routers that may still be passed
	end    end
	met    Place      // who was reached
	next   netip.Addr // the hop to which it goes, for what hides it
	stuck  stuck      // what did not fit
	told   []Step
	origin netip.Addr // the source with which it began

	packets [2]packet // there and back

	// What a ruleset is given, to be used again.
	seen  ruleset.Packet
	conn  ruleset.Conn
	asked ruleset.Env
	at    struct {
		router *router
		packet *packet
		device *netdev
	}

	choices []choice // between next hops, in the order in which they come up
	chosen  int      // of them

	hidden []hidden // by providers' NATs

	there     []Step // while it is on its way back: those of the way there
	hopsThere []Hop
}

// end is where a packet came to.
type end struct {
	lost   bool
	router string // where; empty at a provider or outside
	stage  Stage
	reason string
	hint   string

	place Place // where it was delivered
}

// mostHops is the TTL that hosts begin with.
const mostHops = 64

// step notes one, if anybody wants to know.
func (w *walk) step(r *router, stage Stage, p *packet, text func() (text, why string)) {
	if w.record {
		t, why := text()
		w.note(r, Step{Stage: stage, Text: t, Why: why}, p)
	}
}

func (w *walk) passed(r *router, p *packet, x *rule, why string) {
	if w.record {
		w.note(r, Step{Stage: Rule, Text: describeRule(x.Rule), Why: why, Passed: true}, p)
	}
}

func (w *walk) note(r *router, s Step, p *packet) {
	if r != nil {
		s.Router = r.name
	}
	s.Packet, s.Depth = p.Packet, w.depth
	w.steps = append(w.steps, s)
}

// loses ends the walk.
func (w *walk) loses(r *router, stage Stage, p *packet, reason, hint string) {
	w.end = end{lost: true, stage: stage, reason: reason, hint: hint}
	if r != nil {
		w.end.router = r.name
	}
	w.step(r, Lost, p, func() (string, string) { return reason, "" })
}

func (w *walk) delivers(r *router, p *packet, at Place) {
	w.end = end{place: at}
	if r != nil {
		w.end.router = r.name
	}
	w.step(r, Delivered, p, func() (string, string) { return "delivered to " + at.String(), "" })
}

func (p Place) String() string {
	switch p.Kind {
	case Host:
		return p.Site + ":" + p.Addr.String()
	case Router:
		return p.Site
	case Device:
		return p.Name
	}
	if p.Addr.IsValid() {
		return fmt.Sprintf("outside (%s)", p.Addr)
	}
	return "outside"
}

// arrives takes a packet that comes to a router by a device.
func (w *walk) arrives(r *router, p *packet, in *netdev) {
	if w.left--; w.left < 0 {
		w.loses(r, RouteStage, p, "it goes round until its TTL is spent", "")
		return
	}
	if r.dead || !in.up() {
		w.loses(r, Arrives, p, fmt.Sprintf("%s is down", in.name), "")
		return
	}
	p.Mark = 0
	if w.record {
		w.note(r, Step{Stage: Arrives, Device: in.name, Text: "iif " + in.name}, p)
	}
	e, reply, state := w.connection(r, p)
	if !w.hook(r, ruleset.Prerouting, p, e, reply, state, in, nil) {
		return
	}
	if !w.sourceIsRight(r, p, in) {
		return
	}
	to := w.lookup(r, p, in.name, "")
	if to.local != nil {
		if w.hook(r, ruleset.Input, p, e, reply, state, in, nil) {
			w.translateKnown(r, ruleset.Input, p, e, reply, state) // after what filters it (nf_nat_core.c)
			e.placed = true
			w.delivers(r, p, Place{Kind: Router, Site: r.name, Addr: p.Dst})
		}
		return
	}
	w.forwards(r, p, e, reply, state, in, to)
}

// forwards hands a packet on by a way.
func (w *walk) forwards(r *router, p *packet, e *entry, reply bool, state string, in *netdev, to way) {
	if !w.leads(r, p, to) {
		return
	}
	out := to.route.out
	// Before the rules of forward (ip_forward in net/ipv4/ip_forward.c, ip6_forward in net/ipv6/ip6_output.c).
	if !w.fits(r, p, out, e, reply) {
		return
	}
	w.next = to.next(p)
	if !w.hook(r, ruleset.Forward, p, e, reply, state, in, out) || !w.hook(r, ruleset.Postrouting, p, e, reply, state, in, out) {
		return
	}
	e.placed = true
	w.leaves(r, p, to)
}

// leads reports whether a way leads anywhere.
func (w *walk) leads(r *router, p *packet, to way) bool {
	switch {
	case to.route == nil && to.rule != nil:
		w.loses(r, Rule, p, describeRule(to.rule.Rule), w.n.whyNoWay(r, p, to))
		return false
	case to.route == nil:
		w.loses(r, RouteStage, p, "no rule leads to a way there", w.n.whyNoWay(r, p, to))
		return false
	case to.route.Type == broadcast:
		w.loses(r, RouteStage, p, fmt.Sprintf("%s is the broadcast address of a LAN, or the LAN itself", p.Dst), "")
		return false
	case to.route.Type != "unicast":
		w.loses(r, RouteStage, p, describeRoute(to.route.Route)+" in table "+tableName(to.route.Table), w.n.whyNoWay(r, p, to))
		return false
	}
	return true
}

// connection finds what connection a packet belongs to, or begins one.
func (w *walk) connection(r *router, p *packet) (e *entry, reply bool, state string) {
	if p.about != nil {
		e, reply, state = w.related(r, p)
	} else {
		e, reply = w.conns.find(r, p.tuple())
	}
	switch {
	case state != "":
	case e == nil && p.Reply && p.Protocol == ICMP:
		state = "invalid" // an answer to nothing that passed here
		e = &entry{original: p.tuple(), reply: p.tuple().reversed(), placed: true}
	case e == nil && p.Reply && p.Protocol == TCP:
		state = "invalid" // SYN and ACK begin nothing (nf_conntrack_proto_tcp.c)
		e = &entry{original: p.tuple(), reply: p.tuple().reversed(), placed: true}
	case e == nil:
		e, state = w.conns.begin(r, p.tuple()), "new"
	case reply:
		e.answered, state = true, "established"
	case e.answered:
		state = "established"
	default:
		state = "new"
	}
	w.step(r, Conntrack, p, func() (string, string) {
		if e.mark != 0 {
			return fmt.Sprintf("ct state %s, mark %#x", state, e.mark), ""
		}
		return "ct state " + state, ""
	})
	return e, reply, state
}

// hook has the ruleset and conntrack look at a packet, and reports whether it goes on.
func (w *walk) hook(r *router, h ruleset.Hook, p *packet, e *entry, reply bool, state string, in, out *netdev) bool {
	if h != ruleset.Input {
		w.translateKnown(r, h, p, e, reply, state)
	}
	if r.table == nil {
		return true
	}
	x, c := &w.seen, &w.conn
	x.Src, x.Dst, x.Protocol, x.SPort, x.DPort, x.Mark = p.Src, p.Dst, p.wire(), p.SrcPort, p.DstPort, p.Mark
	x.SYN, x.ACK, x.ICMPType = p.Protocol == TCP, p.Protocol == TCP && p.Reply, p.icmpType()
	x.IIF, x.OIF = in.named(), out.named()
	c.State, c.Reply, c.Mark, c.DNAT, c.SNAT, c.OrigSrc, c.OrigDst = state, reply, e.mark, e.dnat(), e.snat(), e.original.src, e.original.dst
	result := r.table.Run(h, x, c, w.env(r, p, in), w.record)
	if c.Mark != e.mark || x.Mark != p.Mark {
		p.Mark, e.mark = x.Mark, c.Mark
	}
	stage := stageOf(h)
	if w.record {
		for _, s := range result.Steps {
			w.note(r, Step{Stage: stage, Text: s.Rule, Why: "chain " + s.Chain, Passed: !s.Matched}, p)
		}
	}
	if result.Verdict != "accept" {
		w.loses(r, stage, p, fmt.Sprintf("%s in chain %s: %s", map[string]string{"drop": "dropped", "reject": "refused"}[result.Verdict], result.Why.Chain, result.Why.Rule), hintOf(result.Why.Chain))
		return false
	}
	if result.NAT != nil && !e.placed && p.about == nil {
		w.translate(r, h, p, e, result.NAT, out)
	}
	return true
}

// env answers what a ruleset asks of a router. Its functions are made once for each walk.
func (w *walk) env(r *router, p *packet, in *netdev) ruleset.Env {
	w.at.router, w.at.packet, w.at.device = r, p, in
	if w.asked.Local == nil {
		w.asked.Local = func(a netip.Addr) bool { _, own := w.at.router.local[a]; return own }
		w.asked.RouteBack = func(ruleset.Packet) bool { return w.back(w.at.router, w.at.packet, w.at.device) }
	}
	return w.asked
}

func stageOf(h ruleset.Hook) Stage {
	switch h {
	case ruleset.Prerouting:
		return Prerouting
	case ruleset.Postrouting:
		return SNAT
	}
	return Filter
}

func (p *packet) icmpType() uint8 {
	switch {
	case p.Protocol != ICMP:
		return 0
	case p.about != nil && p.Src.Is6():
		return 2 // packet too big
	case p.about != nil:
		return 3 // destination unreachable: fragmentation needed
	case p.Src.Is6() && p.Reply:
		return 129
	case p.Src.Is6():
		return 128
	case p.Reply:
		return 0
	}
	return 8
}

func addrPort(a netip.Addr, port uint16) string {
	if port == 0 {
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String()
}

// addressOn is the address that the router has on a device: of several of a family the one in whose
// subnet the next hop is, else the first (inet_select_addr in net/ipv4/devinet.c).
func (r *router) addressOn(d *netdev, next netip.Addr) netip.Addr {
	var first netip.Addr
	look := func(a netip.Addr, subnet netip.Prefix) bool {
		if a.Is6() != next.Is6() || !a.IsValid() || a.IsLinkLocalUnicast() {
			return false
		}
		if !first.IsValid() || subnet.Contains(next) {
			first = a
		}
		return subnet.Contains(next)
	}
	if u := d.uplink; u != nil {
		for _, a := range u.addresses {
			if look(a.Addr(), a.Masked()) {
				return first
			}
		}
	}
	for _, l := range r.lans {
		if l.device == d && look(l.own, l.prefix) {
			return first
		}
	}
	if first.IsValid() {
		return first
	}
	if d.made != nil {
		for _, a := range d.made.Addresses {
			if look(a.Addr(), a.Masked()) {
				return first
			}
		}
	}
	return first
}

// sourceIsRight is the kernel's look at where a packet comes from (fib_validate_source in
// net/ipv4/fib_frontend.c).
func (w *walk) sourceIsRight(r *router, p *packet, in *netdev) bool {
	if p.Src.Is6() {
		return true
	}
	if _, own := r.local[p.Src]; own && !in.accepts {
		w.loses(r, Source, p, fmt.Sprintf("%s is the router's own address, and comes in by %s", p.Src, in.name), "")
		return false
	}
	if in.strict && !w.back(r, p, in) {
		w.loses(r, Source, p, fmt.Sprintf("rp_filter: %s would not be answered by %s", p.Src, in.name), "")
		return false
	}
	return true
}

// back reports whether what answers a packet leaves by the device that it came in by.
func (w *walk) back(r *router, p *packet, in *netdev) bool {
	record := w.record
	w.record = false
	w.depth++ // it goes nowhere: no next hop is chosen for it
	answer := packet{Packet: Packet{Src: p.Dst, Dst: p.Src, Protocol: p.Protocol}}
	to := w.lookup(r, &answer, "lo", "")
	w.record = record
	w.depth--
	return to.route != nil && slices.ContainsFunc(to.hops, func(h route) bool { return h.out == in })
}
