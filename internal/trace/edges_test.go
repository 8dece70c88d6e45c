package trace_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tombolo/internal/compile"
	"tombolo/internal/spec"
	"tombolo/internal/state"
	"tombolo/internal/trace"
	"tombolo/internal/trace/learned"
)

// dead has devices not work, and sites where no device is said.
func dead(words ...string) func(*learned.World) {
	return func(w *learned.World) {
		w.Doors["phone"] = "a"
		w.Dead = func(site, device string) bool {
			return slices.Contains(words, site+"/"+device) || device == "" && slices.Contains(words, site)
		}
	}
}

const doorSites = `
network: n
overlay: 10.9.0.0/24
sites:
  a: {address: 10.9.0.1, endpoint: 203.0.113.2, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: {address: 203.0.113.2/30, gateway: 203.0.113.1}, eth1: {address: 203.0.113.18/30, gateway: 203.0.113.17}}}
  b: {address: 10.9.0.2, endpoint: 203.0.113.6, lan: {lan0: 10.2.0.0/24}, uplink: {eth0: {address: 203.0.113.6/30, gateway: 203.0.113.5CHECK}}}
clients: {pool: 10.31.0.0/24, at: [a], devices: {phone: {address: 10.31.0.10}}}
`

// A router whose uplinks are all dead has no tunnels either.
func TestARouterThatIsCutOffHasNoTunnels(t *testing.T) {
	addr := netip.MustParseAddr
	phone := trace.Place{Kind: trace.Device, Name: "phone"}
	for _, check_ := range []string{"", ", check: 198.51.100.1"} {
		text := strings.Replace(doorSites, "CHECK", check_, 1)
		for _, c := range []struct {
			name string
			down []string
			from trace.Place
			to   string
			want string
		}{
			{"nothing is dead", nil, host("a", "10.1.0.10"), "10.2.0.10", "b:10.2.0.10"},
			{"one of two uplinks", []string{"a/eth0"}, host("a", "10.1.0.10"), "10.2.0.10", "b:10.2.0.10"},
			{"both", []string{"a/eth0", "a/eth1"}, host("a", "10.1.0.10"), "10.2.0.10", "a route unreachable 10.2.0.0/24"},
			{"the other end's", []string{"b/eth0"}, host("a", "10.1.0.10"), "10.2.0.10", "a route unreachable 10.2.0.0/24"},
			{"a device", nil, phone, "10.2.0.10", "b:10.2.0.10"},
			{"a device's door", []string{"a/eth0", "a/eth1"}, phone, "10.1.0.10", "outside outer no uplink of a works"},
			{"to the device", []string{"a/eth0", "a/eth1"}, host("b", "10.2.0.10"), "10.31.0.10", "b route unreachable 10.31.0.0/24"},
			{"to itself", []string{"a/eth0", "a/eth1"}, phone, "10.31.0.10", "phone"},
			{"a dead router asks nobody", []string{"a"}, trace.Place{Kind: trace.Router, Site: "a"}, "10.2.0.10", "a out it is down"},
		} {
			t.Run(c.name+check_, func(t *testing.T) {
				check(t, build(t, text, dead(c.down...)), trace.Flow{From: c.from, To: addr(c.to), Protocol: trace.ICMP}, c.want)
			})
		}
	}
	static := build(t, "routing: static\n"+strings.Replace(doorSites, "CHECK", "", 1), dead("b/eth0"))
	check(t, static, trace.Flow{From: host("a", "10.1.0.10"), To: addr("10.2.0.10"), Protocol: trace.ICMP}, "a outer no uplink of b works")
}

const homes = `
network: n
overlay: 10.9.0.0/24
sites:
  hub: {address: 10.9.0.1, endpoint: 203.0.113.2, lan: {lan0: {prefix: 192.168.1.0/24, as: 10.1.0.0/24}, lan1: [10.11.0.0/24, 10.12.0.0/24, "2001:db8:5::/64"]}, uplink: {eth0: {address: [203.0.113.2/24, "2001:db8:1::2/64"], gateway: [203.0.113.1, "2001:db8:1::1"]}}}
  a: {address: 10.9.0.2, lan: {lan0: 10.2.0.0/24}, uplink: {eth0: {address: 192.168.1.2/24, gateway: 192.168.1.1}}}
  b: {address: 10.9.0.3, lan: {lan0: 10.3.0.0/24}, uplink: {eth0: {address: 192.168.1.2/24, gateway: 192.168.1.1}}}
  c: {address: 10.9.0.4, lan: {lan0: 10.4.0.0/24}, uplink: {eth0: {address: 192.168.1.1/24, gateway: 192.168.1.254}}}
links: {star: hub}
`

// Private networks may have the addresses of others, and nothing to do with them.
func TestPrivateNetworksAreNotEachOther(t *testing.T) {
	addr := netip.MustParseAddr
	outside := trace.Place{Kind: trace.Internet}
	n := build(t, homes, nil)
	for _, c := range []struct {
		name, want string
		trace.Flow
	}{
		{"behind one of two like it", "outside (8.8.8.8)", trace.Flow{From: host("a", "10.2.0.10"), To: addr("8.8.8.8"), Protocol: trace.UDP, Port: 53}},
		{"behind the other", "outside (8.8.8.8)", trace.Flow{From: host("b", "10.3.0.10"), To: addr("8.8.8.8"), Protocol: trace.UDP, Port: 53}},
		{"who begins outside does not come in", "outside route the Internet has no way to 192.168.1.1", trace.Flow{From: outside, To: addr("192.168.1.1"), Protocol: trace.TCP, Port: 22}},
		{"also not in shared addresses", "outside route the Internet has no way to 100.64.0.77", trace.Flow{From: outside, To: addr("100.64.0.77"), Protocol: trace.TCP, Port: 22}},
		{"a mapped LAN is on nobody's wire", "hub:192.168.1.10", trace.Flow{From: host("b", "10.3.0.10"), To: addr("10.1.0.10"), Protocol: trace.TCP, Port: 22}},
		{"a LAN with addresses of the Internet is reached", "hub:2001:db8:5::10", trace.Flow{From: outside, To: addr("2001:db8:5::10"), Protocol: trace.TCP, Port: 22}},
		{"and reaches", "outside (2001:db8:ffff::9)", trace.Flow{From: host("hub", "2001:db8:5::10"), To: addr("2001:db8:ffff::9"), Protocol: trace.TCP, Port: 22}},
		{"to all in a LAN", "hub route 10.11.0.255 is the broadcast address", trace.Flow{From: host("a", "10.2.0.10"), To: addr("10.11.0.255"), Protocol: trace.ICMP}},
		{"to the LAN", "hub route 10.11.0.0 is the broadcast address", trace.Flow{From: host("a", "10.2.0.10"), To: addr("10.11.0.0"), Protocol: trace.ICMP}},
		{"to one's own", "hub out 10.11.0.255 is the broadcast address", trace.Flow{From: host("hub", "10.11.0.10"), To: addr("10.11.0.255"), Protocol: trace.ICMP}},
	} {
		t.Run(c.name, func(t *testing.T) { check(t, n, c.Flow, c.want) })
	}
	if a, ok := n.Public("a"); !ok || a != addr("198.51.100.20") {
		t.Errorf("a is known outside as %s", a)
	}
	asks := n.Trace(trace.Flow{From: trace.Place{Kind: trace.Router, Site: "hub"}, To: addr("10.12.0.10"), Protocol: trace.ICMP})
	if got := asks.Hops[0].Src; got != addr("10.12.0.1") {
		t.Errorf("a LAN with two prefixes is asked from %s", got)
	}
}

// What the kernel thinks of sources: rp_filter and accept_local, as somebody may have set them.
func TestSourcesAreLookedAt(t *testing.T) {
	addr := netip.MustParseAddr
	n, _ := spec.Parse("n.yaml", []byte(strings.Replace(doorSites, "CHECK", "", 1)))
	set := func(settings ...string) *trace.Network {
		w := learned.World{Routers: compile.All(n, compile.Options{}), Doors: map[string]string{}}
		for i := range w.Routers {
			r := &w.Routers[i]
			r.Rulesets = nil
			r.Sysctls = slices.DeleteFunc(r.Sysctls, func(s state.Sysctl) bool { return strings.Contains(s.Name, "/lan0/") })
			for _, s := range settings {
				name, value, _ := strings.Cut(s, "=")
				r.Sysctls = append(r.Sysctls, state.Sysctl{Name: "net/ipv4/conf/" + name, Value: value})
			}
		}
		out, err := trace.New(w)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	stranger := trace.Flow{From: host("a", "10.1.0.10"), To: addr("10.2.0.10"), Protocol: trace.ICMP}
	check(t, set("lan0/rp_filter=1"), stranger, "b:10.2.0.10")
	wrong := trace.Flow{From: trace.Place{Kind: trace.Router, Site: "a", Addr: addr("203.0.113.18")}, To: addr("203.0.113.6"), Protocol: trace.ICMP}
	check(t, set("eth0/rp_filter=1"), wrong, "b")
	loose := set("wg-a/rp_filter=1")
	from := trace.Flow{From: trace.Place{Kind: trace.Router, Site: "a", Addr: addr("203.0.113.2")}, To: addr("10.2.0.10"), Protocol: trace.ICMP}
	check(t, loose, from, "b source rp_filter: 203.0.113.2 would not be answered by wg-a")
	if v := set().Verdict(from); v.Stage == trace.Source {
		t.Errorf("nothing looks at the source, and yet: %+v", v)
	}
	own := trace.Flow{From: host("a", "10.1.0.1"), To: addr("10.2.0.10"), Protocol: trace.ICMP}
	check(t, set(), own, "a source is the router's own address")
	if v := set("lan0/accept_local=1").Verdict(own); v.Stage == trace.Source {
		t.Errorf("accept_local lets it in, and not: %+v", v)
	}
}

const narrow = `
network: n
overlay: 10.9.0.0/24
sites:
  a: {address: 10.9.0.1, endpoint: 203.0.113.2, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: {address: 203.0.113.2/30, gateway: 203.0.113.1}}}
  b: {address: 10.9.0.2, endpoint: 203.0.113.6, uplink: {eth0: {address: 203.0.113.6/30, gateway: 203.0.113.5}}}
  c: {address: 10.9.0.3, endpoint: 203.0.113.10, lan: {lan0: 10.3.0.0/24}, uplink: {eth0: {address: 203.0.113.10/30, gateway: 203.0.113.9}}}
links: [[a, b], {between: [b, c], mtu: 1280}]
nat: [{at: a, masquerade: a, to: c}]
publish: [{at: a, port: 7007/tcp, to: "10.3.0.10:7007"}]
`

// An ICMP error comes through the NAT that hid who is told.
func TestTheSenderIsToldThroughNAT(t *testing.T) {
	addr := netip.MustParseAddr
	n := build(t, narrow, nil)
	for _, c := range []struct {
		name string
		trace.Flow
		last string
	}{
		{"of an address that was hidden two routers before", trace.Flow{From: host("a", "10.1.0.10"), To: addr("10.3.0.10"), Protocol: trace.UDP, Port: 7007, Size: 1400}, "delivered to a:10.1.0.10"},
		{"of a port that was published two routers before", trace.Flow{From: trace.Place{Kind: trace.Internet}, To: addr("203.0.113.2"), Protocol: trace.TCP, Port: 7007, Size: 1400}, "delivered to outside (198.51.100.7)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := n.Trace(c.Flow)
			if len(got.Told) == 0 || got.Told[len(got.Told)-1].Text != c.last || got.Verdict.Router != "b" || got.Verdict.Hint != "the sender is told, and sends less" {
				t.Errorf("%+v", got.Verdict)
				for _, s := range got.Told {
					t.Logf("%s %s: %s (%s) %s → %s", s.Router, s.Stage, s.Text, s.Why, s.Packet.Src, s.Packet.Dst)
				}
			}
		})
	}
}
