package trace_test

import (
	"net/netip"
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
