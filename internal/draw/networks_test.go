package draw

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
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

// exampleNames are the files of the project's examples, without their extension.
var exampleNames = []string{"dorm", "home", "overlap", "relay", "two-uplinks"}

// example reads one of the project's examples.
func example(name string) *spec.Network {
	file := "../../examples/" + name + ".yaml"
	text, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	n, d := spec.Parse(file, text)
	if n == nil {
		panic(fmt.Sprint(file, ": ", d))
	}
	return n
}

// hostile returns a network whose names are made to break out of their quotes.
func hostile() *spec.Network {
	n := newNetwork("\"]; --> <b>&amp;\\", "10.0.0.0/24",
		site("</text><script>", "10.0.0.1", "a\"b&c.example.net", lan("br\\lan\"", "10.1.0.0/24"), dhcp("eth0\n")),
		site("end", "10.0.0.2", "", lan("`x`", "10.2.0.0/24"), dhcp("%%{init}%%")),
		site("style:x#34;\x00\x1b\xff|{}", "10.0.0.3", "]]>", nil, dhcp("\\N")),
		site("这是一个非常长的名字的路由器这是一个非常长的名字的路由器", "10.0.0.4", "", nil),
	)
	for i := 1; i < 4; i++ {
		n.Links.Add(0, i)
	}
	n.Clients = &spec.Clients{
		Pool: netip.MustParsePrefix("10.3.0.0/24"), At: []string{"end", "not a site"},
		Devices: []spec.Device{{Name: "\"phone\"", Address: netip.MustParseAddr("10.3.0.1")}},
	}
	n.Exits = []spec.Exit{{For: []string{"end", "clients", "10.1.0.0/24"}, Via: []string{"</text><script>", "not a site"}, Otherwise: "block"}}
	n.Segments = []spec.Segment{{Name: "a -- b \"]", Kind: "vxlan", Attach: []spec.Attachment{{Site: "end"}, {Site: "</text><script>"}}}}
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
		"hostile": hostile(), "one": many("one", 1), "none": many("none", 0), "unlinked9": many("unlinked", 9),
	}
	for _, name := range exampleNames {
		out[name] = example(name)
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
