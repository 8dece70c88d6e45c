package learned_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"tombolo/internal/compile"
	"tombolo/internal/key"
	"tombolo/internal/spec"
	"tombolo/internal/state"
	"tombolo/internal/trace/learned"
)

// network compiles a file; every site and device gets a key.
func network(t testing.TB, text string) []state.Router {
	t.Helper()
	n, ds := spec.Parse("network.yaml", []byte(text))
	if n == nil {
		t.Fatalf("the file is bad: %v", ds)
	}
	keys := map[string]key.Public{}
	for i, s := range n.Sites {
		keys[s.Name] = key.Public{byte(i), byte(i >> 8), 1}
	}
	if n.Clients != nil {
		keys[spec.AccessKey] = key.Public{1, 1, 3}
		for i, d := range n.Clients.Devices {
			keys[d.Name] = key.Public{byte(i), byte(i >> 8), 2}
		}
	}
	return compile.All(n, compile.Options{Keys: keys})
}

// mesh is a network in which each site has a link to those whose number is near, and to a hub.
func mesh(sites int) string {
	var b strings.Builder
	b.WriteString("network: n\noverlay: 10.99.0.0/16\nclients: {pool: 10.98.0.0/16, at: [s0, s1, s2], devices: {")
	for i := range 20 {
		fmt.Fprintf(&b, "d%d: , ", i)
	}
	b.WriteString("}}\nsites:\n")
	for i := range sites {
		fmt.Fprintf(&b, "  s%d: {address: 10.99.1.%d, endpoint: s%d.example.net, lan: {lan0: 10.%d.%d.0/24}, uplink: {eth0: dhcp}}\n", i, i+1, i, i/200, i%200+1)
	}
	b.WriteString("links: mesh\nexits: [{for: s3, via: [s0, s1]}]\n")
	return b.String()
}

func BenchmarkRoutes(b *testing.B) {
	for _, sites := range []int{50, 200} {
		w := learned.World{Routers: network(b, mesh(sites)), Doors: map[string]string{"d0": "s1", "d1": "s2"}}
		b.Run(fmt.Sprint(sites), func(b *testing.B) {
			for b.Loop() {
				learned.Routes(w)
			}
		})
	}
}

const office = `
network: n
overlay: 10.9.0.0/24
clients: {pool: 10.98.0.0/24, at: [a, b], devices: {phone: {address: 10.98.0.7}}}
sites:
  a: {address: 10.9.0.1, endpoint: a.example.net, lan: {lan0: 10.1.0.0/24}, uplink: {wan: dhcp}}
  b: {address: 10.9.0.2, endpoint: b.example.net, lan: {lan0: 10.2.0.0/24}, uplink: {wan: {address: 192.0.2.2/30, gateway: 192.0.2.1, check: 1.1.1.1}, lte: {dhcp: true, preference: 2}}}
  c: {address: 10.9.0.3, lan: {lan0: 10.3.0.0/24}, uplink: {eth0: {address: 10.2.0.3/24, gateway: 10.2.0.254}}}
  d: {address: 10.9.0.4, lan: {lan0: 10.4.0.0/24}, uplink: {eth0: {address: 10.2.0.4/24, gateway: 10.2.0.254}}}
  s: {routing: static, address: 10.9.0.5, endpoint: s.example.net, lan: {lan0: 10.5.0.0/24}}
links:
  - [a, b]
  - {between: [b, c], transport: none, on: {b: lan0, c: eth0}}
  - {between: [b, d], transport: none, on: {b: lan0, d: eth0}}
  - [a, s]
exits: [{for: c, via: [a, b]}]
`

// ways says where the routes of a protocol number lead, without those to single addresses.
func ways(h learned.Held, protocol uint8) string {
	var out []string
	for _, r := range h.Routes {
		if r.Protocol != protocol || r.Dst.Addr().Is6() || r.Dst.IsSingleIP() && !r.Dst.Overlaps(netip.MustParsePrefix("10.98.0.0/24")) {
			continue
		}
		x := r.Dst.String() + " " + r.Device
		if r.Gateway.IsValid() {
			x += " " + r.Gateway.String()
		}
		if r.Dst.Bits() == 0 && protocol == 86 {
			x = fmt.Sprintf("%d: %s", r.Table, x)
		}
		out = append(out, x)
	}
	return strings.Join(out, ", ")
}

// A LAN where several meet, a device at a door, an exit, and what is conditional.
func TestWhatRoutersHold(t *testing.T) {
	lan, phone := "10.1.0.0/24 wg-a", ", 10.98.0.7/32 wg-a"
	for _, c := range []struct {
		name, site, want string
		change           func(*learned.World)
	}{
		{"all works", "b", lan + ", 10.3.0.0/24 lan0 10.2.0.3, 10.4.0.0/24 lan0 10.2.0.4, 10.5.0.0/24 wg-a" + phone + ", 0.0.0.0/0 wg-a", nil},
		{"over the LAN", "d", "10.1.0.0/24 eth0 10.2.0.1, 10.2.0.0/24 eth0 10.2.0.1, 10.3.0.0/24 eth0 10.2.0.3, 10.5.0.0/24 eth0 10.2.0.1, 10.98.0.7/32 eth0 10.2.0.1, 0.0.0.0/0 eth0 10.2.0.1", nil},
		{"the door", "a", "10.2.0.0/24 wg-b, 10.3.0.0/24 wg-b, 10.4.0.0/24 wg-b, 10.98.0.7/32 wg-clients", nil},
		{"static", "s", "", nil},
		{"a link is down", "b", "10.3.0.0/24 lan0 10.2.0.3, 10.4.0.0/24 lan0 10.2.0.4", func(w *learned.World) {
			w.Down = func(a, b string) bool { return a == "b" && b == "a" }
		}},
		{"two do not hear each other", "d", "", func(w *learned.World) {
			w.Down = func(a, b string) bool { return a == "d" || b == "d" }
		}},
		{"a LAN is down", "b", lan + ", 10.5.0.0/24 wg-a" + phone + ", 0.0.0.0/0 wg-a", func(w *learned.World) {
			w.Dead = func(site, device string) bool { return site == "b" && device == "lan0" }
		}},
		{"a static neighbour is gone", "b", lan + ", 10.3.0.0/24 lan0 10.2.0.3, 10.4.0.0/24 lan0 10.2.0.4" + phone + ", 0.0.0.0/0 wg-a", func(w *learned.World) {
			w.Dead = func(site, device string) bool { return site == "s" && device == "" }
		}},
		{"a router is cut off, and has no tunnels", "b", "10.3.0.0/24 lan0 10.2.0.3, 10.4.0.0/24 lan0 10.2.0.4", func(w *learned.World) {
			w.CutOff = func(site string) bool { return site == "a" }
		}},
		{"the exit has no uplink", "a", "10.2.0.0/24 wg-b, 10.3.0.0/24 wg-b, 10.4.0.0/24 wg-b, 10.98.0.7/32 wg-clients, 0.0.0.0/0 wg-b", func(w *learned.World) {
			w.Dead = func(site, device string) bool { return site == "a" && device == "wan" }
		}},
		{"a router is dead", "b", "10.3.0.0/24 lan0 10.2.0.3, 10.4.0.0/24 lan0 10.2.0.4", func(w *learned.World) {
			w.Dead = func(site, _ string) bool { return site == "a" }
		}},
	} {
		w := learned.World{Routers: network(t, office), Doors: map[string]string{"phone": "a"}}
		if c.change != nil {
			c.change(&w)
		}
		if got := ways(learned.Routes(w)[c.site], 85); got != c.want {
			t.Errorf("%s: %s has\n%s, want\n%s", c.name, c.site, got, c.want)
		}
	}
}

// What follows uplinks, of which one is leased; and that one that works not is not used.
func TestWaysOut(t *testing.T) {
	w := learned.World{Routers: network(t, office)}
	b := w.Routers[1]
	tables := map[string]uint32{b.Uplinks[0].Device: b.Uplinks[0].Table, b.Uplinks[1].Device: b.Uplinks[1].Table}
	check := func(shared, lease string) {
		t.Helper()
		got := ways(learned.Routes(w)["b"], 86)
		for _, want := range []string{"200: 0.0.0.0/0 " + shared, fmt.Sprintf("%d: 0.0.0.0/0 wan 192.0.2.1, 192.0.2.0/30 wan", tables["wan"]), fmt.Sprintf("%d: 0.0.0.0/0 lte%s", tables["lte"], lease)} {
			if !strings.Contains(got, want) {
				t.Errorf("it has %s, and not %s", got, want)
			}
		}
	}
	check("wan 192.0.2.1", "")
	w.Dead = func(site, device string) bool { return site == "b" && device == "wan" }
	check("lte", "")
	w.Uplinks = func(site, device string) ([]netip.Prefix, []netip.Addr) {
		if site != "b" || device != "lte" {
			return nil, nil
		}
		return []netip.Prefix{netip.MustParsePrefix("100.64.0.9/24")}, []netip.Addr{netip.MustParseAddr("100.64.0.1")}
	}
	check("lte 100.64.0.1", " 100.64.0.1, 100.64.0.0/24 lte")
}

// Nothing of the states is changed, and whatever their order, the same comes of it.
func TestRoutesIsPure(t *testing.T) {
	w := learned.World{Routers: network(t, office), Doors: map[string]string{"phone": "b"}}
	want := learned.Routes(w)
	slices.Reverse(w.Routers)
	if got := learned.Routes(w); !reflect.DeepEqual(got, want) {
		t.Error("in another order other routes are held")
	}
	fresh := network(t, office)
	slices.Reverse(fresh)
	if !reflect.DeepEqual(w.Routers, fresh) {
		t.Error("the states are others now")
	}
}
