package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tombolo/internal/kernel"
	"tombolo/internal/state"
)

// Client is a roaming device of the network: a node of its own, behind a NAT, with stock
// WireGuard and nothing of ours.
type Client struct {
	Name      string         `json:"name"`
	Addresses []netip.Prefix `json:"addresses"`      // in its tunnel: a /32 and a /128
	Door      string         `json:"door,omitempty"` // the site where it enters first; empty: nowhere
}

// WireGuard says what roaming devices have where the kernel has no WireGuard.
type WireGuard struct {
	Embedded kernel.Embedded // nil: then none of them enters
	Force    bool            // also where the kernel has it
}

// clientsDir is where the devices' configurations are, in the lab's directory.
const clientsDir = "devices"

// roamingUplink is the uplink of a roaming device.
var roamingUplink = state.Uplink{Device: hostDevice, DHCP: true, MTU: ethernetMTU}

// roams is what a roaming device has and a router has not.
type roams struct {
	of        string         // the device whose configuration it has: itself, or what it is a copy of
	addresses []netip.Prefix // in its tunnel
}

// withCopies returns the devices in their order, then those that a lab file adds, by name.
func withCopies(clients []Client, copies map[string]string) []Client {
	out := slices.Clone(clients)
	for _, name := range slices.Sorted(maps.Keys(copies)) {
		out = append(out, Client{Name: name})
	}
	return out
}

// device lays out a roaming device. A copy enters nowhere by itself.
func (b *builder) device(c Client) {
	r := &roams{of: c.Name, addresses: slices.Clone(c.Addresses)}
	if of, is := b.file.Copies[c.Name]; is {
		i := slices.IndexFunc(b.routers, func(r router) bool { return r.roams != nil && r.site == of })
		if i < 0 {
			b.wrong("device %q is to be a copy of %q, which is none", c.Name, of)
			return
		}
		r.of, r.addresses = of, b.routers[i].roams.addresses
	}
	sortPrefixes(r.addresses)
	uplinks := b.uplinks(state.Router{Site: c.Name, Uplinks: []state.Uplink{roamingUplink}})
	b.routers = append(b.routers, router{site: c.Name, uplinks: uplinks, roams: r})
}

// Configuration returns the path of the file with which a roaming device enters at a door:
// what the WireGuard app is given, as wg-quick(8) describes it, with one peer. The caller
// of Up writes these files; the copies of a device have the same ones.
func (l *Lab) Configuration(device, door string) string {
	return filepath.Join(l.dir, clientsDir, device, door+".conf")
}

// Roam does what the app on a roaming device does when its user switches: it takes the
// tunnel down, which it tells nobody, and makes another one towards a door, from another
// UDP port and with nothing of the old session. When Roam returns, it is up; with a
// keepalive in its Configuration, its first handshake begins by itself. An empty door
// leaves the tunnel down.
func (l *Lab) Roam(ctx context.Context, device, door string) error {
	_, err := l.ask(ctx, command{Do: doRoam, Node: device, To: door})
	return err
}

// roam prepares a device's way to a door, and returns what is left to be done, which takes
// time and touches the device alone.
func (d *daemon) roam(device, door string) (func(context.Context) error, error) {
	r := d.roamers[device]
	if r == nil {
		return nil, fmt.Errorf("there is no roaming device %q%s", device, among(slices.Collect(maps.Keys(d.roamers))))
	}
	if door == "" {
		return r.leave, nil
	}
	dir := filepath.Join(d.dir, clientsDir, r.of)
	doors, err := doorsIn(dir)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(doors, door) {
		return nil, fmt.Errorf("device %q has no configuration for a door %q%s", device, door, among(doors))
	}
	path := filepath.Join(dir, door+".conf")
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c, err := parseStock(string(text))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if c.at, err = d.layout.resolve(c.endpoint); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return func(ctx context.Context) error { return r.enter(ctx, c) }, nil
}

// among lists the names that there are, for an error.
func among(names []string) string {
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return "; there are " + strings.Join(names, ", ")
}

// doorsIn returns the doors for which a directory holds a configuration.
func doorsIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		if door, ok := strings.CutSuffix(e.Name(), ".conf"); ok {
			out = append(out, door)
		}
	}
	return out, err
}

// resolve returns the address of an endpoint, HOST:PORT, as the nodes' hosts files have
// its host. Of several the first of IPv4 counts, which the apps on phones prefer too.
func (l *layout) resolve(endpoint string) (netip.AddrPort, error) {
	if at, err := netip.ParseAddrPort(endpoint); err == nil {
		return at, nil
	}
	host, port, err := splitEndpoint(endpoint)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var found netip.Addr
	for _, n := range l.names() {
		if n.name == host && (!found.IsValid() || found.Is6() && n.address.Is4()) {
			found = n.address
		}
	}
	if !found.IsValid() {
		return netip.AddrPort{}, fmt.Errorf("nobody knows the name %q", host)
	}
	return netip.AddrPortFrom(found, port), nil
}
