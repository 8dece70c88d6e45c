package lab

import (
	"net/netip"

	"tombolo/internal/state"
)

func brLAN(prefix ...string) []state.LAN {
	return []state.LAN{{Device: "br-lan", Prefixes: prefixes(prefix...)}}
}

func dhcp(device string) []state.Uplink {
	return []state.Uplink{{Device: device, DHCP: true, MTU: 1500}}
}

func static(device, address, gateway string) state.Uplink {
	return state.Uplink{Device: device, MTU: 1500, Addresses: prefixes(address), Gateways: []netip.Addr{addr(gateway)}}
}

// exampleClients are the roaming devices of those examples that have some.
var exampleClients = map[string][]Client{"home": {
	{Name: "phone", Addresses: prefixes("10.0.31.10/32", "fd00:32:0:ffff::a00:1f0a/128")},
	{Name: "pi", Addresses: prefixes("10.0.31.11/32", "fd00:32:0:ffff::a00:1f0b/128")},
}}

// examples are what the compiler makes of examples/*.yaml, as far as a lab looks at it.
var examples = map[string][]state.Router{
	"home": {
		{Network: "home", Site: "op1", Endpoints: []string{"op1.example.net:51820"}, LANs: brLAN("192.168.35.0/24"), Uplinks: dhcp("eth0")},
		{Network: "home", Site: "op2", LANs: brLAN("192.168.36.0/24"), Uplinks: dhcp("eth0")},
		{
			Network: "home", Site: "op3", Endpoints: []string{"203.0.113.3:51820"}, LANs: brLAN("192.168.37.0/24"),
			Uplinks: []state.Uplink{static("eth0", "203.0.113.3/24", "203.0.113.1")},
		},
	},
	"dorm": {
		{Network: "dorm", Site: "lab", Endpoints: []string{"lab.example.net:51820"}, Uplinks: dhcp("br-wan")},
		{Network: "dorm", Site: "dorm", LANs: brLAN("192.168.36.0/24"), Uplinks: dhcp("eth0")},
	},
	"overlap": {
		{Network: "twins", Site: "north", Endpoints: []string{"north.example.net:51820"}, LANs: brLAN("192.168.1.0/24"), Uplinks: dhcp("eth0")},
		{Network: "twins", Site: "south", LANs: brLAN("192.168.1.0/24"), Uplinks: dhcp("eth0")},
	},
	"relay": {
		{Network: "relay", Site: "lab-a", Uplinks: []state.Uplink{static("eth0", "10.8.1.2/24", "10.8.1.1")}},
		{
			Network: "relay", Site: "relay-b", Endpoints: []string{"10.8.2.2:51820"},
			Uplinks: []state.Uplink{static("eth0", "10.8.2.2/24", "10.8.2.1")},
		},
		{
			Network: "relay", Site: "exit-c", Endpoints: []string{"198.51.100.3:51820"},
			Uplinks: []state.Uplink{static("eth0", "198.51.100.3/24", "198.51.100.1")},
		},
	},
	"two-uplinks": {
		{
			Network: "office", Site: "office", Endpoints: []string{"211.200.0.2:51820", "58.56.0.2:51820"}, LANs: brLAN("192.168.50.0/24"),
			Uplinks: []state.Uplink{
				static("eth1", "211.200.0.2/30", "211.200.0.1"),
				static("eth2", "58.56.0.2/30", "58.56.0.1"),
			},
		},
		{Network: "office", Site: "branch", LANs: brLAN("192.168.51.0/24"), Uplinks: dhcp("eth0")},
	},
	// The corners: a shared wire with a tunnel-less link, two providers' boxes that are
	// alike, a forwarded port, an address of the endpoint to be leased, a gateway outside
	// the subnet, IPv6 that is described, several LANs, a short one, long names.
	"corners": {
		{Network: "corners", Site: "a", LANs: brLAN("10.1.0.0/16", "fd00:a::/64"), Uplinks: []state.Uplink{static("eth0", "192.168.1.2/24", "192.168.1.1")}},
		{
			Network: "corners", Site: "b", LANs: append(brLAN("10.2.0.0/29"), state.LAN{Device: "guests", Prefixes: prefixes("10.3.0.0/24")}),
			Uplinks: []state.Uplink{static("eth0", "192.168.1.2/24", "192.168.1.1")},
		},
		{
			Network: "corners", Site: "c", Endpoints: []string{"203.0.113.77:51820"},
			Uplinks: []state.Uplink{static("eth0", "192.168.1.3/24", "192.168.1.1")},
		},
		{Network: "corners", Site: "d", Endpoints: []string{"203.0.113.9:51820", "[2001:db8:77::9]:51820"}, Uplinks: dhcp("pppoe-wan")},
		{
			Network: "corners", Site: "e", Endpoints: []string{"e.example.net:51820"},
			Uplinks: []state.Uplink{static("eth0", "198.51.100.5/32", "198.51.100.1")},
		},
		{
			Network: "corners", Site: "a-site-with-a-long-name", Endpoints: []string{"x.example.net:1", "y.example.net:1"},
			Uplinks: []state.Uplink{
				{
					Device: "eth0", MTU: 1400, Addresses: prefixes("203.0.113.10/24", "2001:db8:88::10/64"),
					Gateways: []netip.Addr{addr("203.0.113.1"), addr("2001:db8:88::1")},
				},
				{Device: "eth1", DHCP: true},
			},
		},
	},
}
