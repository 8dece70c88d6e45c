package plan

import (
	"net/netip"

	"tombolo/internal/key"
	"tombolo/internal/state"
)

// sample is a router with two links, as compile makes one: op2 of the home network.
func sample() state.Router {
	owner := state.DefaultOwner()
	text := `table inet tombolo {
	chain input {
		type filter hook input priority filter - 5; policy accept;
		udp dport { 51821, 51823 } accept comment "tunnels"
	}
	chain forward {
		type filter hook forward priority filter - 5; policy accept;
		iifname { "wg-op1", "wg-op3" } accept
		oifname { "wg-op1", "wg-op3" } accept
	}
}
`
	r := state.Router{
		Version: state.Version, Network: "home", Site: "op2", Owner: owner,
		Interfaces: []state.Interface{
			sampleLink("op1", 1, "op1.example.net:51822", "198.51.100.1:51822"),
			sampleLink("op3", 3, "[2001:db8::3]:51822", "[2001:db8::3]:51822"),
		},
		Routes: []state.Route{
			sampleRoute("10.0.32.1/32", "wg-op1"), sampleRoute("192.168.35.0/24", "wg-op1"),
			sampleRoute("10.0.32.3/32", "wg-op3"), sampleRoute("fd74:6f6d::3/128", "wg-op3"),
			sampleRoute("192.168.37.0/24", "wg-op3"),
			{Table: 120, Dst: netip.MustParsePrefix("0.0.0.0/0"), Metric: 4294967295, Type: state.Unreachable, Protocol: owner.Protocol},
			{Table: 120, Dst: netip.MustParsePrefix("::/0"), Metric: 4294967295, Type: state.Unreachable, Protocol: owner.Protocol},
			{
				Table: 110, Dst: netip.MustParsePrefix("192.168.38.0/24"), Type: state.Unicast, Device: "wg-op3",
				Gateway: netip.MustParseAddr("fe80::3"), OnLink: true, Protocol: owner.Protocol,
			},
			{
				Table: 110, Dst: netip.MustParsePrefix("::/0"), Src: netip.MustParsePrefix("fd74:6f6d:0:1::/64"), Type: state.Unicast,
				Device: "wg-op1", Protocol: owner.Protocol,
			},
		},
		Rulesets: []state.Ruleset{{Family: "inet", Table: "tombolo", Text: text, Digest: state.RulesetDigest(text)}},
		Sysctls: []state.Sysctl{
			{Name: "net/ipv4/ip_forward", Value: "1"},
			{Name: "net/ipv6/conf/all/forwarding", Value: "1"},
			{Name: "net/ipv6/conf/eth0/accept_ra", Value: "2", Only: "1"},
			{Name: "net/ipv4/conf/wg-op1/rp_filter", Value: "0"},
			{Name: "net/ipv4/conf/wg-op3/rp_filter", Value: "0"},
		},
	}
	for _, six := range []bool{false, true} {
		r.Rules = append(r.Rules,
			state.Rule{Priority: 500, IPv6: six, Mark: 0x7f000000, Mask: 0xff000000, Action: state.Lookup, Table: 254, Protocol: owner.Protocol},
			state.Rule{Priority: 501, IPv6: six, Mark: 0x7f000000, Mask: 0xff000000, Action: state.RuleUnreachable, Protocol: owner.Protocol},
			state.Rule{Priority: 520, IPv6: six, Action: state.Lookup, Table: 110, Suppress: 1, Protocol: owner.Protocol})
	}
	r.Rules = append(r.Rules,
		state.Rule{Priority: 560, From: netip.MustParsePrefix("192.168.36.0/24"), IIF: "br-lan", Action: state.Lookup, Table: 120, Protocol: owner.Protocol})
	r.Sort()
	return r
}

func sampleLink(peer string, index int, endpoint, address string) state.Interface {
	return state.Interface{
		Name: "wg-" + peer, Kind: state.WireGuardKind, Alias: "tombolo home " + peer, MTU: 1420,
		Addresses: prefixes("10.0.32.2/32", "fd74:6f6d::2/128", "fe80::2/64"),
		WireGuard: &state.WireGuard{
			PrivateKey: "op2", PublicKey: publicKeyOf(2), ListenPort: uint16(51820 + index), FwMark: 0x7f000000,
			Peers: []state.Peer{{
				Name: peer, PublicKey: publicKeyOf(index), Preshared: key.LinkRef("op2", peer), Keepalive: 25,
				Endpoints: []string{endpoint}, Addresses: []netip.AddrPort{netip.MustParseAddrPort(address)},
				AllowedIPs: prefixes("0.0.0.0/0", "::/0"),
			}},
		},
	}
}

func sampleRoute(dst, device string) state.Route {
	r := state.Route{Table: 110, Dst: netip.MustParsePrefix(dst), Type: state.Unicast, Device: device, Protocol: 84}
	if r.Dst.Addr().Is4() {
		r.PrefSrc = netip.MustParseAddr("10.0.32.2")
	}
	return r
}

// observed returns what a kernel shows of r after it was applied.
func observed(r state.Router) state.Router {
	r.Sysctls = append([]state.Sysctl(nil), r.Sysctls...)
	for i := range r.Sysctls {
		r.Sysctls[i].Only = ""
	}
	return Apply(r, nil)
}

// bareMachine is a machine on which tombolo never ran.
func bareMachine() state.Router {
	return state.Router{
		Version: state.Version, Owner: state.DefaultOwner(),
		Sysctls: []state.Sysctl{
			{Name: "net/ipv4/ip_forward", Value: "0"},
			{Name: "net/ipv6/conf/all/forwarding", Value: "0"},
			{Name: "net/ipv6/conf/eth0/accept_ra", Value: "1"},
		},
	}
}
