package ruleset_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"tombolo/internal/trace/ruleset"
)

// flow is a connection as the kernel would have it: what is translated in it is written here by
// the test's own hand, as the trace will do.
type flow struct {
	conn     ruleset.Conn
	src, dst netip.Addr // after translation
	port     uint16
	origPort uint16
}

// expect is what Run says of a packet's whole way through a router.
func (x *router) expect(p *ruleset.Packet, f *flow, local bool) (out fate) {
	end := "out"
	if local {
		p.OIF = x.table.Device(x.device(p.Dst))
		if !x.run(ruleset.Output, p, f, &out) {
			return out
		}
		f.to(p)
	} else {
		if !x.run(ruleset.Prerouting, p, f, &out) {
			return out
		}
		f.to(p)
		if x.local(p.Dst) {
			end = "in"
		}
	}
	if end == "in" {
		if !x.run(ruleset.Input, p, f, &out) {
			return out
		}
	} else {
		p.OIF = x.table.Device(x.device(p.Dst))
		if !local && !x.run(ruleset.Forward, p, f, &out) || !x.run(ruleset.Postrouting, p, f, &out) {
			return out
		}
	}
	f.from(p)
	out.end, out.mark, out.ctMark = end, p.Mark, f.conn.Mark
	return out
}

// run notes what Run says of one hook, and reports whether the packet goes on.
func (x *router) run(h ruleset.Hook, p *ruleset.Packet, f *flow, out *fate) bool {
	q, c := *p, f.conn
	short := x.table.Run(h, &q, &c, x.env(), false)
	r := x.table.Run(h, p, &f.conn, x.env(), true)
	if short.Steps = r.Steps; r.Verdict == "accept" {
		short.Why = r.Why
	}
	if !reflect.DeepEqual(short, r) || q != *p || c != f.conn {
		panic(fmt.Sprintf("without steps: %+v %+v %+v; with them: %+v %+v %+v", short, q, c, r, *p, f.conn))
	}
	for _, s := range r.Steps {
		switch {
		case s.Matched && strings.HasPrefix(s.Rule, "policy "):
			out.steps = append(out.steps, s.Chain+" policy")
		case s.Matched:
			out.steps = append(out.steps, fmt.Sprintf("%s:%d", s.Chain, s.Line))
		}
	}
	if r.NAT != nil {
		x.translate(f, p, r.NAT)
	}
	if r.Verdict != "accept" {
		out.end = "drop"
	}
	return r.Verdict == "accept"
}

// to is what connection tracking does where destinations are translated.
func (f *flow) to(p *ruleset.Packet) {
	switch {
	case f.conn.Reply:
		p.Dst = f.conn.OrigSrc
	case f.conn.DNAT:
		p.Dst, p.DPort = f.dst, f.port
	}
}

// from is what it does where sources are, also with what comes to the router itself.
func (f *flow) from(p *ruleset.Packet) {
	switch {
	case f.conn.Reply:
		if p.Src = f.conn.OrigDst; f.conn.DNAT && p.Protocol != 1 && p.Protocol != 58 {
			p.SPort = f.origPort
		}
	case f.conn.SNAT:
		p.Src = f.src
	}
}

// translate writes into a flow what a nat chain says.
func (x *router) translate(f *flow, p *ruleset.Packet, n *ruleset.NAT) {
	if n.Dst.IsValid() {
		f.conn.DNAT, f.dst, f.port = n.Dst != p.Dst || n.Port != 0 && n.Port != p.DPort, n.Dst, p.DPort
		if n.Port != 0 {
			f.port = n.Port
		}
	}
	src := n.Src
	if n.Masquerade {
		src = x.own[p.OIF.Name][one(p.Dst.Is6())]
	}
	if src.IsValid() {
		f.conn.SNAT, f.src = src != p.Src, src
	}
}

func numbered(text string) string {
	var b strings.Builder
	for i, line := range strings.Split(text, "\n") {
		fmt.Fprintf(&b, "%4d %s\n", i+1, line)
	}
	return b.String()
}

// compare sends packets and compares what the kernel does with what Run says.
func (x *router) compare(t *testing.T, flows int, ports []uint16) (count map[string]int) {
	t.Helper()
	count = map[string]int{}
	for range flows {
		p := x.packet(ports)
		f := &flow{conn: ruleset.Conn{State: "new", OrigSrc: p.Src, OrigDst: p.Dst}, dst: p.Dst, src: p.Src, port: p.DPort, origPort: p.DPort}
		if p.Protocol == 6 && p.SYN && p.ACK {
			f.conn.State = "invalid"
		}
		first := p
		end := x.send(t, &p, f, nil)
		count[end]++
		count["translated"] += int(one(f.conn.DNAT || f.conn.SNAT))
		if end != "out" || f.conn.State == "invalid" {
			continue
		}
		for _, answer := range x.answers(t, first, p) {
			f.conn.State, f.conn.Reply = answer.state, answer.reply
			end := x.send(t, &answer.packet, f, answer.quoted)
			if count[answer.state+" "+end]++; end != "out" {
				break // the router itself may have answered, which is in the flow, too
			}
		}
		if t.Failed() {
			break
		}
	}
	return count
}

type answer struct {
	packet ruleset.Packet
	state  string
	reply  bool
	quoted []byte
}

// answers are what follows a flow's first packet that left as `last`: an error, its answer, and
// another in its direction.
func (x *router) answers(t testing.TB, first, last ruleset.Packet) []answer {
	back := ruleset.Packet{Src: last.Dst, Dst: last.Src, Protocol: last.Protocol, SPort: last.DPort, DPort: last.SPort, IIF: last.OIF}
	fault := back
	fault.Protocol, fault.ICMPType, fault.SPort, fault.DPort = 1, 3, 0, 0
	if fault.Dst.Is6() {
		fault.Protocol, fault.ICMPType = 58, 1
	}
	again := first
	again.OIF, again.Mark = ruleset.Device{}, 0
	switch first.Protocol {
	case 1, 58:
		back.SPort, back.DPort = first.SPort, 0
		back.ICMPType = map[uint8]uint8{1: 0, 58: 129}[first.Protocol]
	case 6:
		back.SYN, back.ACK, again.SYN, again.ACK = first.SYN, true, false, true
	}
	return []answer{
		{packet: fault, state: "related", reply: true, quoted: packetBytes(t, last, nil)},
		{packet: back, state: "established", reply: true},
		{packet: again, state: "established"},
	}
}

// send sends a packet into the device that it comes in by. p is as it leaves, then.
func (x *router) send(t *testing.T, p *ruleset.Packet, f *flow, quoted []byte) string {
	t.Helper()
	sent, before := *p, *f
	want := x.expect(p, f, false)
	if _, err := x.tuns[sent.IIF.Name].Write(packetBytes(t, sent, quoted)); err != nil {
		t.Fatal(err)
	}
	got := x.follow(t)
	x.same(t, sent, before, *p, got, want)
	return want.end
}

func (x *router) same(t *testing.T, sent ruleset.Packet, before flow, p ruleset.Packet, got, want fate) {
	t.Helper()
	src, dst := got.addresses()
	bad := !slices.Equal(got.steps, want.steps) || got.end != want.end
	if !bad && want.end != "drop" {
		bad = got.mark != want.mark || got.ctMark != want.ctMark || src != p.Src || dst != p.Dst
		bad = bad || (p.Protocol == 6 || p.Protocol == 17) && !before.conn.Reply && got.port != p.DPort
	}
	if bad && !t.Failed() {
		t.Errorf("%+v, %+v\nkernel: %s, marks %#x %#x, %v > %v %d, %q\nRun:    %s, marks %#x %#x, %v > %v %d, %q\nroutes %v\n%s",
			sent, before, got.end, got.mark, got.ctMark, src, dst, got.port, got.steps,
			want.end, want.mark, want.ctMark, p.Src, p.Dst, p.DPort, want.steps, x.routes, numbered(x.text))
	}
}

// Every rule that Run says matches is one that the kernel says matches, in the same order, for
// packets from everywhere to everywhere through the tables that compile writes.
func TestKernelAgreesAboutWhatIsCompiled(t *testing.T) {
	texts := map[string]string{}
	for name, network := range networks(t) {
		for site, text := range rulesets(t, network) {
			texts[name+" "+site] = text
		}
	}
	x := newRouter(t, slices.Collect(maps.Values(texts))...)
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		t.Run(name, func(t *testing.T) {
			x.reset(t, texts[name], rand.New(rand.NewPCG(uint64(len(texts[name])), 3)))
			t.Logf("%v", x.compare(t, 40, []uint16{53, 67, 443, 8443, 6000, 6055, 6100, 8081, 2222, 25, 9}))
		})
	}
}

// And so are random tables, in which there is more than compile writes today.
func TestKernelAgreesAboutRandomTables(t *testing.T) {
	x, total := newRouter(t, strings.Join(generatedDevices, " ")), map[string]int{}
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 5))
			x.reset(t, randomTable(r), r)
			for what, n := range x.compare(t, 50, generatedPortNumbers) {
				total[what] += n
			}
		})
	}
	for _, what := range []string{"drop", "in", "out", "translated", "related out", "established out"} {
		if total[what] < 50 {
			t.Errorf("%d packets are %q: that is no sample", total[what], what)
		}
	}
	t.Logf("%v", total)
}
