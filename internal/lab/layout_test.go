package lab

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tombolo/internal/lab/internet"
	"tombolo/internal/state"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares a text with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", path, d)
	}
}

// exampleFile reads the lab file of an example.
func exampleFile(t testing.TB, name string) File {
	t.Helper()
	path := name + ".lab.yaml"
	source, err := os.ReadFile(filepath.Join("..", "..", "examples", path))
	if errors.Is(err, fs.ErrNotExist) && name == "corners" {
		return File{}
	}
	if err != nil {
		t.Fatal(err)
	}
	f, mistakes := ParseFile(path, source, examples[name], exampleClients[name])
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	return f
}

func TestExamplesAreLaidOut(t *testing.T) {
	for name, routers := range examples {
		t.Run(name, func(t *testing.T) {
			f := exampleFile(t, name)
			l, err := newLayout("x", routers, exampleClients[name], f)
			if err != nil {
				t.Fatal(err)
			}
			p, err := newPaths(l, f)
			if err != nil {
				t.Fatal(err)
			}
			file, err := json.MarshalIndent(f, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".txt", describe(l, p)+"\nhosts:\n"+string(l.hostsText())+"\n"+p.divert().ruleset()+"\n"+l.providers(nil).ruleset()+"\n"+string(file)+"\n")
			if err := internet.New(1).SetPlaces(wheres(p)); err != nil {
				t.Errorf("the emulator refuses the places: %v", err)
			}
		})
	}
}

func wheres(p *paths) []internet.Place {
	var out []internet.Place
	for _, x := range p.places {
		out = append(out, x.where)
	}
	return out
}

// describe writes a layout for a reader.
func describe(l *layout, p *paths) string {
	var s strings.Builder
	for _, n := range l.nodes() {
		fmt.Fprintf(&s, "%s %s (%s)\n", n.Kind, n.Name, n.Namespace)
		for _, d := range n.Devices {
			fmt.Fprintf(&s, "    %s %v\n", d.Name, d.Addresses)
			if d.Uplink {
				u := l.uplink(n.Name, d.Name)
				fmt.Fprintf(&s, "        port %s, segment %d, MTU %d, metric %d, dhcp %v, ra %v, gateways %v %v, NAT %s %v, alias %v\n",
					u.port, u.segment, u.mtu, u.metric, u.dhcp, u.ra, u.gateway4, u.gateway6, u.nat.Kind, u.nat.Public, u.alias)
			}
		}
	}
	s.WriteString("\nsegments:\n")
	for i, seg := range l.segments {
		fmt.Fprintf(&s, "    %d %s: %s, bridge %v, MTU %d, %v, advertises %v\n", i, seg.key, seg.device, seg.bridge, seg.mtu, seg.addresses, seg.advertise)
	}
	s.WriteString("\nplaces:\n")
	for _, x := range p.places {
		fmt.Fprintf(&s, "    %s: %v\n", x.name, x.where.Prefixes)
	}
	s.WriteString("\npaths:\n")
	impaired := p.impaired()
	for i := range p.places {
		for j := range p.places {
			if imp, ok := impaired[pair{i, j}]; ok {
				fmt.Fprintf(&s, "    %s to %s: %+v\n", p.places[i].name, p.places[j].name, imp)
			}
		}
	}
	return s.String()
}

func TestLayoutRefuses(t *testing.T) {
	one := func(r state.Router) []state.Router { return append(slices.Clone(examples["home"][:1]), r) }
	lease := func(site, p string) map[string]Site {
		return map[string]Site{site: {Uplinks: map[string]Uplink{"eth0": {Addresses: prefixes(p)}}}}
	}
	for _, c := range []struct {
		name    string
		routers []state.Router
		clients []Client
		file    File
		want    string
	}{
		{
			name: "a site twice", routers: one(examples["home"][0]),
			want: "two routers are called \"op1\"",
		},
		{
			name:    "an endpoint that nobody can have",
			routers: one(state.Router{Site: "x", Endpoints: []string{"192.0.2.1:1"}, Uplinks: []state.Uplink{static("eth0", "192.0.2.7/24", "192.0.2.254")}}),
			want:    "site x: no uplink has the endpoint's address 192.0.2.1, and none is left to lease it",
		},
		{
			name: "a leased address that a host has", routers: examples["home"], file: File{Sites: lease("op1", "198.18.0.10/24")},
			want: "Internet host inet and uplink op1/eth0 both have the address 198.18.0.10",
		},
		{
			name: "a device with a site's name", routers: examples["home"], clients: []Client{{Name: "op2"}},
			want: "two nodes are called \"op2\"",
		},
		{
			name: "a copy of a site", routers: examples["home"], file: File{Copies: map[string]string{"thief": "op2"}},
			want: "device \"thief\" is to be a copy of \"op2\", which is none",
		},
		{
			name: "a host with a device's name", routers: examples["home"], clients: exampleClients["home"],
			file: File{Internet: []InternetHost{{Name: "pi"}}},
			want: "Internet host \"pi\" has the name of another node",
		},
		{
			name: "a host with a site's name", routers: examples["home"], file: File{Internet: []InternetHost{{Name: "op2"}}},
			want: "Internet host \"op2\" has the name of another node",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newLayout("x", c.routers, c.clients, c.file)
			if err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestAddressesKeepClearOfWhatIsUsed(t *testing.T) {
	routers := []state.Router{
		{Site: "a", LANs: brLAN("198.18.1.0/24", "2001:db8:2::/64"), Uplinks: dhcp("eth0")},
		{Site: "b", Uplinks: dhcp("eth0"), Endpoints: []string{"b.example.net:1"}},
	}
	l, err := newLayout("x", routers, nil, File{})
	if err != nil {
		t.Fatal(err)
	}
	got := []netip.Addr{l.uplink("a", "eth0").nat.Public, l.uplink("b", "eth0").address4.Addr()}
	if want := []netip.Addr{addr("198.18.3.2"), addr("198.18.4.2")}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestThousandSitesHaveAddresses(t *testing.T) {
	l, err := newLayout("x", mesh(1000), nil, File{})
	if err != nil {
		t.Fatal(err)
	}
	if got := l.uplink("s999", "eth0").address4; got != prefix("198.18.32.58/29") {
		t.Errorf("s999 has %v", got)
	}
}

// mesh is a network of n sites that can all be dialled, each with a LAN.
func mesh(n int) []state.Router {
	var out []state.Router
	for i := range n {
		out = append(out, state.Router{
			Network: "mesh", Site: fmt.Sprintf("s%d", i), Endpoints: []string{fmt.Sprintf("s%d.example.net:51820", i)},
			LANs: brLAN(fmt.Sprintf("10.%d.%d.0/24", i/256, i%256)), Uplinks: dhcp("eth0"),
		})
	}
	return out
}
