package draw

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"tombolo/internal/spec"
)

// newNetwork returns a network with sites and no links, as spec.Parse would.
func newNetwork(name, overlay string, sites ...spec.Site) *spec.Network {
	n := &spec.Network{
		Name: name, File: name + ".yaml", Overlay: netip.MustParsePrefix(overlay),
		Routing: spec.Babel, Settings: spec.DefaultSettings(), Sites: sites, Links: spec.NewLinks(len(sites)),
	}
	for i := range n.Sites {
		s := &n.Sites[i]
		if s.Kind == "" {
			s.Kind = spec.Linux
		}
		s.Routing, s.BasePort = spec.Babel, 51820
		s.Index = spec.IndexOf(n.Overlay, s.Address)
	}
	return n
}

// site makes a site; an empty endpoint is none.
func site(name, address, endpoint string, lan []spec.LAN, uplinks ...spec.Uplink) spec.Site {
	s := spec.Site{Name: name, Address: netip.MustParseAddr(address), LANs: lan, Uplinks: uplinks}
	if endpoint != "" {
		s.Endpoints = []spec.Endpoint{{Host: endpoint, Base: 51820}}
	}
	return s
}

func lan(device string, prefix string, as ...string) []spec.LAN {
	m := spec.Mapped{Prefix: netip.MustParsePrefix(prefix)}
	if len(as) > 0 {
		m.As = netip.MustParsePrefix(as[0])
	}
	return []spec.LAN{{Device: device, Prefixes: []spec.Mapped{m}}}
}

func dhcp(device string) spec.Uplink {
	return spec.Uplink{Device: device, DHCP: true, MTU: 1500, Weight: 1, Masquerade: true}
}

func static(device, address, gateway string) spec.Uplink {
	return spec.Uplink{
		Device: device, Addresses: []netip.Prefix{netip.MustParsePrefix(address)},
		Gateways: []netip.Addr{netip.MustParseAddr(gateway)}, MTU: 1500, Weight: 1, Masquerade: true,
	}
}

func fullMesh(n *spec.Network, sites ...int) *spec.Network {
	for i, a := range sites {
		for _, b := range sites[i+1:] {
			n.Links.Add(a, b)
		}
	}
	return n
}

// The five examples of the project.

func homeNetwork() *spec.Network {
	n := fullMesh(newNetwork("home", "10.0.32.0/24",
		site("op1", "10.0.32.1", "op1.example.net", lan("br-lan", "192.168.35.0/24"), dhcp("eth0")),
		site("op2", "10.0.32.2", "", lan("br-lan", "192.168.36.0/24"), dhcp("eth0")),
		site("op3", "10.0.32.3", "203.0.113.3", lan("br-lan", "192.168.37.0/24"), static("eth0", "203.0.113.3/24", "203.0.113.1")),
	), 0, 1, 2)
	n.Clients = &spec.Clients{
		Pool: netip.MustParsePrefix("10.0.31.0/24"), At: []string{"op1", "op2", "op3"},
		Devices: []spec.Device{
			{Name: "phone", Address: netip.MustParseAddr("10.0.31.10")},
			{Name: "pi", Address: netip.MustParseAddr("10.0.31.11")},
		},
	}
	n.Exits = []spec.Exit{{For: []string{"op2"}, Via: []string{"op1"}, Otherwise: "local"}}
	return n
}

func dormNetwork() *spec.Network {
	n := fullMesh(newNetwork("dorm", "10.0.31.0/24",
		site("lab", "10.0.31.10", "lab.example.net", nil, dhcp("br-wan")),
		site("dorm", "10.0.31.2", "", lan("br-lan", "192.168.36.0/24"), dhcp("eth0")),
	), 0, 1)
	n.Sites[1].Kind = spec.OpenWrt
	n.Segments = []spec.Segment{{Name: "campus", Kind: "gretap", Attach: []spec.Attachment{
		{Site: "lab", Bridge: "br-wan"}, {Site: "dorm", DelegateTo: "br-lan"},
	}}}
	return n
}

func overlapNetwork() *spec.Network {
	return fullMesh(newNetwork("twins", "10.0.60.0/24",
		site("north", "10.0.60.1", "north.example.net", lan("br-lan", "192.168.1.0/24", "10.61.1.0/24"), dhcp("eth0")),
		site("south", "10.0.60.2", "", lan("br-lan", "192.168.1.0/24", "10.61.2.0/24"), dhcp("eth0")),
	), 0, 1)
}

func relayNetwork() *spec.Network {
	n := newNetwork("relay", "10.0.40.0/24",
		site("lab-a", "10.0.40.1", "", nil, static("eth0", "10.8.1.2/24", "10.8.1.1")),
		site("relay-b", "10.0.40.2", "10.8.2.2", nil, static("eth0", "10.8.2.2/24", "10.8.2.1")),
		site("exit-c", "10.0.40.3", "198.51.100.3", nil, static("eth0", "198.51.100.3/24", "198.51.100.1")),
	)
	n.Links.Add(0, 1)
	n.Links.Add(1, 2)
	n.Exits = []spec.Exit{{For: []string{"lab-a", "relay-b"}, Via: []string{"exit-c"}, Otherwise: "block", Router: true}}
	return n
}

func officeNetwork() *spec.Network {
	eth1 := static("eth1", "211.200.0.2/30", "211.200.0.1")
	eth1.Weight, eth1.Checks = 3, []netip.Addr{netip.MustParseAddr("1.1.1.1")}
	eth2 := static("eth2", "58.56.0.2/30", "58.56.0.1")
	eth2.Checks = []netip.Addr{netip.MustParseAddr("9.9.9.9")}
	n := fullMesh(newNetwork("office", "10.0.50.0/24",
		site("office", "10.0.50.1", "211.200.0.2", lan("br-lan", "192.168.50.0/24"), eth1, eth2),
		site("branch", "10.0.50.2", "", lan("br-lan", "192.168.51.0/24"), dhcp("eth0")),
	), 0, 1)
	n.Sites[0].Endpoints = append(n.Sites[0].Endpoints, spec.Endpoint{Host: "58.56.0.2", Base: 51820})
	n.Publish = []spec.Publish{{
		At: "office", Port: spec.PortRange{First: 8443, Last: 8443}, Protocol: "tcp",
		To: netip.MustParseAddrPort("192.168.51.10:443"),
	}}
	return n
}

// many returns a network with count sites, every third of which can be dialled, and no
// links.
func many(name string, count int) *spec.Network {
	sites := make([]spec.Site, count)
	for i := range sites {
		endpoint := ""
		if i%3 == 0 {
			endpoint = fmt.Sprintf("site%d.example.net", i+1)
		}
		sites[i] = site(fmt.Sprintf("site%d", i+1), fmt.Sprintf("10.%d.%d.%d", 64, i/250, i%250+1), endpoint,
			lan("br-lan", fmt.Sprintf("10.%d.%d.0/24", 100+i/250, i%250)), dhcp("eth0"))
		if i%5 == 4 {
			sites[i].Kind = spec.OpenWrt
		}
	}
	return newNetwork(name, "10.64.0.0/16", sites...)
}

// open makes all sites of a network reachable.
func open(n *spec.Network) *spec.Network {
	for i := range n.Sites {
		if len(n.Sites[i].Endpoints) == 0 {
			n.Sites[i].Endpoints = []spec.Endpoint{{Host: fmt.Sprintf("198.51.100.%d", i%250+1), Base: 51820}}
		}
	}
	return n
}

func meshOf(count int) *spec.Network {
	n := many("mesh", count)
	for a := range count {
		for b := range a {
			n.Links.Add(a, b)
		}
	}
	return n
}

func starOf(count int) *spec.Network {
	n := many("star", count)
	for i := 1; i < count; i++ {
		n.Links.Add(0, i)
	}
	return n
}

func chainOf(count int) *spec.Network {
	n := open(many("chain", count))
	for i := 1; i < count; i++ {
		n.Links.Add(i-1, i)
	}
	return n
}

func cycleOf(count int) *spec.Network {
	n := chainOf(count)
	n.Name = "cycle"
	n.Links.Add(0, count-1)
	return n
}

// randomOf returns a connected network with about 1.6 links for each site.
func randomOf(count int, seed uint64) *spec.Network {
	r := rand.New(rand.NewPCG(seed, 7))
	n := many(fmt.Sprintf("random%d", seed), count)
	for i := 1; i < count; i++ {
		n.Links.Add(i, r.IntN(i))
	}
	for range count * 6 / 10 {
		if a, b := r.IntN(count), r.IntN(count); a != b {
			n.Links.Add(a, b)
		}
	}
	return n
}

// hubsOf returns three hubs that are linked with each other and with a third of the sites
// each.
func hubsOf(count int) *spec.Network {
	n := many("hubs", count)
	for i := range count {
		if i < 3 {
			n.Links.Add(i, (i+1)%3)
		} else {
			n.Links.Add(i, i%3)
		}
	}
	return n
}

// groupsOf returns full meshes of 15, joined by their first sites.
func groupsOf(count int) *spec.Network {
	n := many("groups", count)
	for a := range count {
		for b := range a {
			if a/15 == b/15 || a%15 == 0 && b%15 == 0 {
				n.Links.Add(a, b)
			}
		}
	}
	return n
}

// busy adds to a network one of everything that a file can say.
func busy(n *spec.Network) *spec.Network {
	last := len(n.Sites) - 1
	n.Sites[last].LANs = append(n.Sites[last].LANs, lan("br-lab", "192.168.7.0/24", "10.61.7.0/24")...)
	n.Sites[1].Uplinks[0].MTU = 1492
	if n.Links.Has(0, 1) {
		n.Links.SetOptions(0, 1, spec.LinkOptions{Cost: 10, MTU: 1380, Preshared: true, Keepalive: 25 * time.Second})
	}
	if n.Links.Has(1, 2) {
		n.Links.SetOptions(1, 2, spec.LinkOptions{NoTunnel: true, On: [2]string{"eth0", "eth1"}})
	}
	n.Clients = &spec.Clients{Pool: netip.MustParsePrefix("10.65.0.0/24"), At: []string{"site1", "site4"}}
	for i := range 15 {
		n.Clients.Devices = append(n.Clients.Devices, spec.Device{
			Name: fmt.Sprintf("device%d", i), Address: netip.AddrFrom4([4]byte{10, 65, 0, byte(10 + i)}), Full: i == 0,
		})
	}
	n.Exits = []spec.Exit{
		{For: []string{"site3", "site2"}, Via: []string{"site1", "site4"}, Otherwise: "local"},
		{For: []string{"clients"}, Via: []string{"site1"}, Otherwise: "block"},
	}
	n.Publish = []spec.Publish{{
		At: "site1", Port: spec.PortRange{First: 8000, Last: 8010}, Protocol: "tcp",
		To: netip.AddrPortFrom(n.Sites[last].LANs[0].Prefixes[0].Prefix.Addr().Next(), 8000),
	}}
	n.Segments = []spec.Segment{{Name: "campus", Kind: "vxlan", Attach: []spec.Attachment{
		{Site: "site1", Bridge: "br-lan"}, {Site: "site2", Bridge: "br-lan"}, {Site: "site3", DelegateTo: "br-lan"},
	}}}
	return n
}

// pictures are the networks that the tests draw, by the name of the picture.
func pictures() map[string]*spec.Network {
	out := map[string]*spec.Network{
		"home": homeNetwork(), "dorm": dormNetwork(), "overlap": overlapNetwork(),
		"relay": relayNetwork(), "two-uplinks": officeNetwork(),
		"one": many("one", 1), "none": many("none", 0), "unlinked9": many("unlinked", 9),
	}
	for _, count := range []int{2, 3, 4, 5, 6, 7, 8, 9, 12, 20, 30, 45, 60} {
		out[fmt.Sprintf("mesh%d", count)] = meshOf(count)
		if count < 3 {
			continue
		}
		out[fmt.Sprintf("star%d", count)] = starOf(count)
		out[fmt.Sprintf("chain%d", count)] = chainOf(count)
		out[fmt.Sprintf("cycle%d", count)] = cycleOf(count)
		out[fmt.Sprintf("hubs%d", count)] = hubsOf(count)
		out[fmt.Sprintf("random%d", count)] = randomOf(count, uint64(count))
		if count > 3 {
			out[fmt.Sprintf("busy-mesh%d", count)] = busy(meshOf(count))
			out[fmt.Sprintf("busy-star%d", count)] = busy(starOf(count))
			out[fmt.Sprintf("busy-chain%d", count)] = busy(chainOf(count))
			out[fmt.Sprintf("busy-random%d", count)] = busy(randomOf(count, 3))
		}
	}
	out["groups60"] = groupsOf(60)
	out["open-mesh60"] = open(meshOf(60))
	return out
}
