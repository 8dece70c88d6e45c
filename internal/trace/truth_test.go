package trace_test

import (
	"net/netip"
	"strings"
	"testing"

	"tombolo/internal/trace"
	"tombolo/internal/trace/learned"
)

const truthSites = `
network: n
overlay: 10.9.0.0/24
sites:
  a: {address: 10.9.0.1, endpoint: 203.0.113.2, lan: {lan0: [10.1.0.0/24, "fd00:1::/64"]}, uplink: {eth0: {address: 203.0.113.2/30, gateway: 203.0.113.1}, eth1: dhcp}}
  b: {address: 10.9.0.2, endpoint: 203.0.113.6, lan: {lan0: [{prefix: 192.168.1.0/24, as: 10.2.0.0/24}, {prefix: "fd00:ffff::/64", as: "fd00:2::/64"}]}, uplink: {eth0: {address: 203.0.113.6/30, gateway: 203.0.113.5}}}
links: mesh
clients:
  pool: 10.31.0.0/24
  at: a
  devices: {phone: {address: 10.31.0.10}}
`

// What the tracer once said and real packets did not do (TestTraceIsTrue in package cli).
func TestWhatRealPacketsDid(t *testing.T) {
	addr := netip.MustParseAddr
	from := func(site, a string) trace.Place {
		p := trace.Place{Kind: trace.Router, Site: site}
		if a != "" {
			p.Addr = addr(a)
		}
		return p
	}
	leased := func(w *learned.World) {
		w.Uplinks = func(site, device string) ([]netip.Prefix, []netip.Addr) {
			if site == "a" && device == "eth1" {
				return []netip.Prefix{netip.MustParsePrefix("198.18.4.2/24")}, []netip.Addr{addr("198.18.4.1")}
			}
			return nil, nil
		}
		w.Dead = func(site, device string) bool { return site == "a" && device == "eth1" }
	}
	withSix := func(w *learned.World) {
		w.Uplinks = func(site, device string) ([]netip.Prefix, []netip.Addr) {
			return []netip.Prefix{netip.MustParsePrefix("2001:db8:" + site + "::2/64")}, []netip.Addr{addr("fe80::1")}
		}
	}
	atTheDoor := func(w *learned.World) {
		w.Doors["phone"] = "a"
		w.Takes = map[string][]netip.Prefix{"phone": {netip.MustParsePrefix("10.0.0.0/8")}}
	}
	for _, c := range []struct {
		name  string
		world func(*learned.World)
		trace.Flow
		want string
	}{
		{"a router asks its own host by what the LAN is mapped to", nil,
			trace.Flow{From: from("b", ""), To: addr("10.2.0.10"), Protocol: trace.TCP, Port: 7007}, "b:192.168.1.10"},
		{"and in IPv6", withSix,
			trace.Flow{From: from("b", ""), To: addr("fd00:2::10"), Protocol: trace.UDP, Port: 7007}, "b:fd00:ffff::10"},
		{"to an address whose lease ended with the carrier", leased,
			trace.Flow{From: host("a", "10.1.0.10"), To: addr("198.18.4.2"), Protocol: trace.TCP, Port: 7007}, "outside route was leased to a"},
		{"a router cannot say an address whose lease is gone", leased,
			trace.Flow{From: from("a", "198.18.4.2"), To: addr("10.2.0.10"), Protocol: trace.TCP, Port: 7007}, "a out 198.18.4.2 is no address of the router"},
		{"the network of an uplink without carrier stays", func(w *learned.World) {
			w.Dead = func(site, device string) bool { return site == "a" && device == "eth0" }
		}, trace.Flow{From: from("a", ""), To: addr("203.0.113.1"), Protocol: trace.ICMP}, "a out eth0 has no carrier"},
		{"a router that says its uplink's address asks a device without full:", atTheDoor,
			trace.Flow{From: from("a", "203.0.113.2"), To: addr("10.31.0.10"), Protocol: trace.UDP, Port: 7007}, "a allowed-ips phone takes nothing from 203.0.113.2"},
		{"a device without full: goes to the Internet by itself", atTheDoor,
			trace.Flow{From: trace.Place{Kind: trace.Device, Name: "phone"}, To: addr("8.8.8.8"), Protocol: trace.UDP, Port: 53}, "outside (8.8.8.8)"},
	} {
		t.Run(c.name, func(t *testing.T) { check(t, build(t, truthSites, c.world), c.Flow, c.want) })
	}
}

// Where an uplink is one of several, a flow leaves by one of them.
func TestEveryWayIsPossible(t *testing.T) {
	n := build(t, truthSites, nil)
	seen := map[netip.Addr]bool{}
	for _, w := range n.Possible(trace.Flow{From: host("a", "10.1.0.10"), To: netip.MustParseAddr("8.8.8.8"), Protocol: trace.ICMP}) {
		if !w.Verdict.Delivered {
			t.Errorf("%+v", w.Verdict)
		}
		seen[w.There[len(w.There)-1].Packet.Src] = true
	}
	if len(seen) != 2 || !seen[netip.MustParseAddr("203.0.113.2")] {
		t.Errorf("outside it is seen as one of %v", seen)
	}
}

const wireSites = `
network: n
overlay: 10.9.0.0/24
sites:
  a: {address: 10.9.0.1, endpoint: 203.0.113.2, lan: {lan0: [10.1.0.0/24, "fd00:1::/64"]}, uplink: {eth0: {address: 203.0.113.2/29, gateway: 203.0.113.1}}}
  b: {address: 10.9.0.2, endpoint: 203.0.113.3, lan: {lan0: [10.2.0.0/24, "fd00:2::/64"]}, uplink: {eth0: {address: 203.0.113.3/29, gateway: 203.0.113.1}}}
  c: {address: 10.9.0.3, lan: {lan0: 10.3.0.0/24}, uplink: {eth0: {address: 192.168.8.2/24, gateway: 192.168.8.1}}}
  cabin: {kind: plain, address: 10.9.0.9, lan: {lan0: 10.4.0.0/24}, uplink: {eth0: dhcp}}
links:
  - {between: [a, b], transport: none, on: {a: eth0, b: eth0}}
  - [b, c]
publish:
  - {at: a, port: 7007/udp, to: "10.3.0.10:7007"}
clients: {pool: 10.31.0.0/24, at: [a, b]}
exits: [{for: a, via: b}]
`

// And with sites on one wire, at doors, and behind somebody's NAT.
func TestWhatRealPacketsDidAtTheEdges(t *testing.T) {
	addr := netip.MustParseAddr
	router := func(site string) trace.Place { return trace.Place{Kind: trace.Router, Site: site} }
	at := func(door string) func(*learned.World) {
		return func(w *learned.World) {
			w.Doors["cabin"] = door
			w.Public = func(site, _ string) netip.Addr {
				if site == "c" {
					return addr("198.18.7.7")
				}
				return netip.Addr{}
			}
		}
	}
	for _, c := range []struct {
		name  string
		world func(*learned.World)
		trace.Flow
		want string
	}{
		{"on a wire the next hop of IPv6 is a router that no file names by its address", nil,
			trace.Flow{From: host("a", "fd00:1::10"), To: addr("fd00:2::10"), Protocol: trace.ICMP}, "b:fd00:2::10"},
		{"behind a plain site that enters at a door is its LAN", at("b"),
			trace.Flow{From: host("c", "10.3.0.10"), To: addr("10.4.0.10"), Protocol: trace.TCP, Port: 7007}, "cabin:10.4.0.10"},
		{"and its router is one", at("b"),
			trace.Flow{From: host("a", "10.1.0.10"), To: addr("10.4.0.1"), Protocol: trace.TCP, Port: 7007}, "cabin"},
		{"its hosts go by the door", at("a"),
			trace.Flow{From: host("cabin", "10.4.0.10"), To: addr("10.3.0.10"), Protocol: trace.UDP, Port: 7007}, "c:10.3.0.10"},
		{"while it is nowhere, they are lost in its tunnel", nil,
			trace.Flow{From: host("cabin", "10.4.0.10"), To: addr("10.3.0.10"), Protocol: trace.UDP, Port: 7007}, "cabin outer cabin is at no door"},
		{"a router behind a NAT asks for its own host, by another's published port", at("a"),
			trace.Flow{From: router("c"), To: addr("203.0.113.2"), Protocol: trace.UDP, Port: 7007}, "c:10.3.0.10"},
		{"by whoever else is on a wire the provider hears its customers", func(w *learned.World) {
			at("a")(w)
			w.Uplinks = func(site, device string) ([]netip.Prefix, []netip.Addr) {
				if own := map[string]string{"a": "2001:db8:1::2/64", "b": "2001:db8:1::3/64"}[site]; own != "" {
					return []netip.Prefix{netip.MustParsePrefix(own)}, []netip.Addr{addr("fe80::1")}
				}
				return nil, nil
			}
		}, trace.Flow{From: host("a", "fd00:1::10"), To: addr("2001:db8:ffff::7"), Protocol: trace.UDP, Port: 7007}, "outside (2001:db8:ffff::7)"},
		{"also where nobody knows what the NAT shows", nil,
			trace.Flow{From: router("c"), To: addr("203.0.113.2"), Protocol: trace.UDP, Port: 7007}, "c:10.3.0.10"},
		{"a NAT lets in what it was asked for alone", at("a"),
			trace.Flow{From: router("c"), To: addr("198.18.7.7"), Protocol: trace.TCP, Port: 7007}, "outside dnat lets nobody in"},
	} {
		t.Run(c.name, func(t *testing.T) { check(t, build(t, wireSites, c.world), c.Flow, c.want) })
	}
}

// Who sends what does not fit is told so, by whoever cannot hand it on; and of what it sent.
func TestWhoIsToldThatItDoesNotFit(t *testing.T) {
	addr := netip.MustParseAddr
	outside := trace.Place{Kind: trace.Internet}
	for _, c := range []struct {
		name string
		trace.Flow
		last, hint string // where the ICMP error comes to
	}{
		{"in a LAN", trace.Flow{From: host("a", "10.1.0.10"), To: addr("10.2.0.10"), Protocol: trace.UDP, Port: 7007, Size: 1500}, "delivered to a:10.1.0.10", "told, and sends less"},
		{"in IPv6", trace.Flow{From: host("a", "fd00:1::10"), To: addr("fd00:2::10"), Protocol: trace.UDP, Port: 7007, Size: 1500}, "delivered to a:fd00:1::10", "told, and sends less"},
		{"in a mapped LAN, whose own address it sees", trace.Flow{From: host("b", "192.168.1.10"), To: addr("10.1.0.10"), Protocol: trace.UDP, Port: 7007, Size: 1500}, "delivered to b:192.168.1.10", "told, and sends less"},
		{"by its own router", trace.Flow{From: trace.Place{Kind: trace.Router, Site: "a"}, To: addr("10.2.0.10"), Protocol: trace.UDP, Port: 7007, Size: 1500}, "", "told at once"},
		{"outside, of a later packet of TCP", trace.Flow{From: outside, To: addr("203.0.113.2"), Protocol: trace.TCP, Port: 7007, Size: 1500}, "delivered to outside (198.51.100.7)", "told, and sends less"},
		{"outside, of a first one of UDP, whose translation only its own packet knows", trace.Flow{From: outside, To: addr("203.0.113.2"), Protocol: trace.UDP, Port: 7007, Size: 1500}, "delivered to outside (198.51.100.7)", "told, and sends less"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := build(t, truthSites+"publish: [{at: a, port: 7007/tcp, to: \"10.2.0.10:7007\"}, {at: a, port: 7007/udp, to: \"10.2.0.10:7007\"}]\n", nil)
			got := n.Trace(c.Flow)
			last := ""
			if len(got.Told) > 0 {
				last = got.Told[len(got.Told)-1].Text
			}
			if got.Verdict.Stage != trace.MTU || last != c.last || !strings.Contains(got.Verdict.Hint, c.hint) {
				t.Errorf("%+v, and the error is %q", got.Verdict, last)
			}
			if quick := n.Verdict(c.Flow); quick != got.Verdict {
				t.Errorf("without steps the verdict is %+v, with them %+v", quick, got.Verdict)
			}
		})
	}
}

// Where a check finds an uplink dead, it is its provider that is: who else is on its wire is there.
func TestADeadProviderLeavesTheWireAlone(t *testing.T) {
	addr := netip.MustParseAddr
	text := strings.Replace(wireSites, "gateway: 203.0.113.1}}}\n  b:", "gateway: 203.0.113.1, check: 198.51.100.1}}}\n  b:", 1)
	dead := func(w *learned.World) {
		w.Dead = func(site, device string) bool { return site == "a" && device == "eth0" }
	}
	n := build(t, text, dead)
	check(t, n, trace.Flow{From: host("a", "10.1.0.10"), To: addr("10.2.0.10"), Protocol: trace.TCP, Port: 7007}, "b:10.2.0.10")
	check(t, n, trace.Flow{From: trace.Place{Kind: trace.Internet}, To: addr("203.0.113.2"), Protocol: trace.UDP, Port: 7007}, "outside out the provider on a's eth0 is dead")
	check(t, build(t, wireSites, func(w *learned.World) {
		w.Dead = func(site, device string) bool { return site == "b" && device == "eth0" }
	}), trace.Flow{From: trace.Place{Kind: trace.Router, Site: "a"}, To: addr("203.0.113.3"), Protocol: trace.ICMP}, "a out nobody answers at 203.0.113.3 on eth0: b's eth0 is down")
	without := build(t, wireSites, dead) // without a check it is the carrier that is lost
	check(t, without, trace.Flow{From: host("b", "10.2.0.10"), To: addr("10.1.0.10"), Protocol: trace.TCP, Port: 7007}, "b route unreachable 10.1.0.0/24")
}
