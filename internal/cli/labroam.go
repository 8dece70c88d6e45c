//go:build !router

package cli

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"tombolo/internal/key"
	"tombolo/internal/lab"
	"tombolo/internal/spec"
)

func (a *app) labRoamCommand(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "roam DEVICE DOOR|off",
		Short: "Have a roaming device enter at another door, or leave",
		Long: `Have a roaming device enter at another door, as its app does when its user switches: the
tunnel is taken down, which nobody is told, and made anew towards the door's endpoint, from
another UDP port and with a new handshake. With "off" it stays down.`,
		Example: "  tombolo lab roam phone op3\n  tombolo lab roam phone off",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := openLab(*name)
			if err != nil {
				return err
			}
			door := args[1]
			if door == off {
				door = ""
			}
			if err := l.Roam(c.Context(), args[0], door); err != nil {
				return err
			}
			return a.done(map[string]any{"device": args[0], "door": door})
		},
		ValidArgsFunction: completeNode(name, 2),
	}
}

// off is said in the place of a door.
const off = "off"

// enter says whether the devices enter at all.
func (up *labUp) enter(devices string) error {
	switch devices {
	case "on":
	case off:
		for i := range up.clients {
			up.clients[i].Door = ""
		}
	default:
		return hinted{fmt.Errorf("--devices %s: it is on or off", devices), "tombolo lab roam DEVICE DOOR, once the lab is up"}
	}
	return nil
}

// labClients returns the roaming devices of a network, each of which enters at the first
// door that can be dialled. One that made its own key, which only the device has, enters
// nowhere.
func labClients(n *spec.Network) []lab.Client {
	if n.Clients == nil {
		return nil
	}
	doors := labDoors(n)
	var out []lab.Client
	for _, d := range n.Clients.Devices {
		c := lab.Client{Name: d.Name, Addresses: deviceAddresses(d)}
		if len(doors) > 0 && d.Key.IsZero() {
			c.Door = doors[0].Name
		}
		out = append(out, c)
	}
	return out
}

// labDoors returns the sites at which devices can enter from the Internet, in the order of
// the file.
func labDoors(n *spec.Network) []spec.Site {
	var out []spec.Site
	for _, name := range n.Clients.At {
		i, ok := n.Site(name)
		if ok && n.Sites[i].Dialable(n.Sites[i].BasePort) && len(n.Sites[i].Uplinks) > 0 {
			out = append(out, n.Sites[i])
		}
	}
	return out
}

// prepareClients makes the keys with which devices enter, and writes for each device and
// each door what its app would be given.
func prepareClients(l *lab.Lab, n *spec.Network, store key.Store) error {
	if n.Clients == nil {
		return nil
	}
	access, _, err := store.Make(spec.AccessKey, rand.Reader)
	if err != nil {
		return err
	}
	for _, d := range n.Clients.Devices {
		if !d.Key.IsZero() {
			continue
		}
		private, _, err := store.Make(key.Ref(d.Name), rand.Reader)
		if err != nil {
			return err
		}
		for _, door := range labDoors(n) {
			path, text := l.Configuration(d.Name, door.Name), deviceConfiguration(n, d, door, private, access.Public())
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
				return fmt.Errorf("write the configuration of %s: %w", d.Name, err)
			}
		}
	}
	return nil
}

// deviceConfiguration is what the WireGuard app of a device is given to enter at a door.
func deviceConfiguration(n *spec.Network, d spec.Device, door spec.Site, private key.Private, access key.Public) string {
	e := door.Endpoints[0]
	return fmt.Sprintf("[Interface]\nPrivateKey = %s\nAddress = %s\n\n[Peer]\nPublicKey = %s\nAllowedIPs = %s\nEndpoint = %s\nPersistentKeepalive = 25\n",
		private.RevealText(), joinPrefixes(deviceAddresses(d)), access, joinPrefixes(deviceDestinations(n, d)),
		net.JoinHostPort(e.Host, strconv.Itoa(e.Base)))
}

// deviceAddresses returns a device's own: its /32 and its /128.
func deviceAddresses(d spec.Device) []netip.Prefix {
	return []netip.Prefix{netip.PrefixFrom(d.Address, 32), netip.PrefixFrom(d.Address6, 128)}
}

// deviceDestinations returns what a device sends into its tunnel: the network, or with
// `full` everything.
func deviceDestinations(n *spec.Network, d spec.Device) []netip.Prefix {
	if d.Full {
		return []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
	}
	out := []netip.Prefix{n.Overlay, n.Overlay6, n.Clients.Pool}
	for _, s := range n.Sites {
		for _, l := range s.LANs {
			for _, p := range l.Prefixes {
				out = append(out, p.Outside())
			}
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

func joinPrefixes(list []netip.Prefix) string {
	words := make([]string, len(list))
	for i, p := range list {
		words[i] = p.String()
	}
	return strings.Join(words, ", ")
}
