package trace_test

import (
	"net/netip"
	"strings"
	"testing"

	"tombolo/internal/compile"
	"tombolo/internal/key"
	"tombolo/internal/spec"
	"tombolo/internal/trace"
	"tombolo/internal/trace/learned"
)

const network = `
network: n
overlay: 10.9.0.0/24
sites:
  a: {address: 10.9.0.1, endpoint: 203.0.113.2, lan: {lan0: [10.1.0.0/24, "fd00:1::/64"]}, uplink: {eth0: {address: 203.0.113.2/30, gateway: 203.0.113.1}}}
  b: {address: 10.9.0.2, lan: {lan0: [10.2.0.0/24, "fd00:2::/64"]}, uplink: {eth0: dhcp}}
  c: {address: 10.9.0.3, lan: {lan0: {prefix: 192.168.1.0/24, as: 10.3.0.0/24}}, uplink: {eth0: dhcp}}
links: [[a, b], [a, c]]
exits:
  - {for: b, via: a, otherwise: block}
publish:
  - {at: a, port: 8443/tcp, to: 10.3.0.10:443}
policy:
  rules:
    - {from: b, to: c, deny: 22/tcp}
`

func build(t testing.TB, text string, change func(*learned.World)) *trace.Network {
	t.Helper()
	n, diagnostics := spec.Parse("n.yaml", []byte(text))
	if n == nil {
		t.Fatal(diagnostics)
	}
	w := learned.World{Routers: compile.All(n, compile.Options{Keys: map[string]key.Public{"phone": {1}, spec.AccessKey: {2}, "cabin": {3}}}), Doors: map[string]string{}}
	if change != nil {
		change(&w)
	}
	out, err := trace.New(w)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func host(site, a string) trace.Place {
	return trace.Place{Kind: trace.Host, Site: site, Addr: netip.MustParseAddr(a)}
}

func TestVerdicts(t *testing.T) {
	n := build(t, network, nil)
	outside := trace.Place{Kind: trace.Internet}
	for _, c := range []struct {
		name string
		trace.Flow
		want string // who answers; or where it is lost, and part of the reason
	}{
		{"across", trace.Flow{From: host("b", "10.2.0.10"), To: netip.MustParseAddr("10.1.0.10"), Protocol: trace.TCP, Port: 80}, "a:10.1.0.10"},
		{"across, IPv6", trace.Flow{From: host("b", "fd00:2::10"), To: netip.MustParseAddr("fd00:1::10"), Protocol: trace.ICMP}, "a:fd00:1::10"},
		{"to a mapped host, over two links", trace.Flow{From: host("b", "10.2.0.10"), To: netip.MustParseAddr("10.3.0.10"), Protocol: trace.UDP, Port: 53}, "c:192.168.1.10"},
		{"denied", trace.Flow{From: host("b", "10.2.0.10"), To: netip.MustParseAddr("10.3.0.10"), Protocol: trace.TCP, Port: 22}, "b filter refused"},
		{"by the exit", trace.Flow{From: host("b", "10.2.0.10"), To: netip.MustParseAddr("8.8.8.8"), Protocol: trace.UDP, Port: 53}, "outside (8.8.8.8)"},
		{"by its own uplink", trace.Flow{From: host("c", "192.168.1.10"), To: netip.MustParseAddr("8.8.8.8"), Protocol: trace.UDP, Port: 53}, "outside (8.8.8.8)"},
		{"published", trace.Flow{From: outside, To: netip.MustParseAddr("203.0.113.2"), Protocol: trace.TCP, Port: 8443}, "c:192.168.1.10"},
		{"from a router", trace.Flow{From: trace.Place{Kind: trace.Router, Site: "b"}, To: netip.MustParseAddr("10.9.0.3"), Protocol: trace.ICMP}, "c"},
		{"from a router to itself", trace.Flow{From: trace.Place{Kind: trace.Router, Site: "b"}, To: netip.MustParseAddr("10.9.0.2"), Protocol: trace.ICMP}, "b"},
		{"nobody has it", trace.Flow{From: host("b", "10.2.0.10"), To: netip.MustParseAddr("10.77.0.1"), Protocol: trace.ICMP}, "outside route the Internet has no way"},
	} {
		t.Run(c.name, func(t *testing.T) { check(t, n, c.Flow, c.want) })
	}
}

// check compares a flow's verdict with who should answer; or with where it should be lost, and a
// part of the reason.
func check(t *testing.T, n *trace.Network, f trace.Flow, want string) {
	t.Helper()
	quick, got := n.Verdict(f), n.Trace(f)
	if quick != got.Verdict {
		t.Errorf("without steps the verdict is %+v, with them %+v", quick, got.Verdict)
	}
	v := got.Verdict
	if v.Delivered && v.At == want {
		return
	}
	words := strings.SplitN(want, " ", 3)
	router := v.Router
	if router == "" {
		router = "outside"
	}
	if v.Delivered || len(words) < 3 || router != words[0] || string(v.Stage) != words[1] || !strings.Contains(v.Reason, words[2]) {
		t.Errorf("%+v, want %s", v, want)
		for _, s := range append(got.There, got.Back...) {
			t.Logf("%s %s: %s (%s) %+v", s.Router, s.Stage, s.Text, s.Why, s.Packet)
		}
	}
}

// Of a router that was looked at, what it holds counts, and not what it would hold.
func TestObserved(t *testing.T) {
	flow := trace.Flow{From: host("b", "10.2.0.10"), To: netip.MustParseAddr("10.1.0.10"), Protocol: trace.TCP, Port: 80}
	lans := func(addresses ...string) map[string][]netip.Prefix {
		out := map[string][]netip.Prefix{"lan0": {}}
		for _, a := range addresses {
			out["lan0"] = append(out["lan0"], netip.MustParsePrefix(a))
		}
		return out
	}
	for _, c := range []struct {
		name   string
		change func(*learned.World, learned.Held)
		want   string
	}{
		{"as it should be", func(w *learned.World, h learned.Held) { w.Observed["a"] = h }, "a:10.1.0.10"},
		{"with another address in its LAN", func(w *learned.World, h learned.Held) {
			h.LANs = lans("10.1.0.77/24")
			w.Observed["a"] = h
		}, "a:10.1.0.10"},
		{"without an address in its LAN", func(w *learned.World, h learned.Held) {
			h.LANs = lans("10.99.0.1/24")
			w.Observed["a"] = h
		}, "a rule 511"},
		{"without what is learned", func(w *learned.World, _ learned.Held) { w.Observed["a"] = learned.Held{} }, "a route unreachable 10.2.0.0/24"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := build(t, network, func(w *learned.World) {
				held := learned.Routes(*w)["a"]
				w.Observed = map[string]learned.Held{}
				c.change(w, held)
			})
			check(t, n, flow, c.want)
		})
	}
}
