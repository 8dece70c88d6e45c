package enroll

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"tombolo/internal/key"
	"tombolo/internal/spec"
)

// Config is what a device is given: the configuration of stock WireGuard.
type Config struct {
	Door       string         // the site at which the device enters with it
	Addresses  []netip.Prefix // its /32 and /128
	DNS        []netip.Addr
	MTU        int        // bytes; 0: the program's own, which is 1420 or less
	AccessKey  key.Public // of all doors
	Endpoint   string     // host:port
	AllowedIPs []netip.Prefix
}

// commonMTU is that of a tunnel through an uplink of 1500 bytes, the MTU of wg-quick(8)
// where nothing else is known. An interface that carries IPv6 has at least minMTU (RFC 8200
// §5); below, the tunnel's own packets go in fragments.
const (
	commonMTU = 1420
	minMTU    = 1280
)

// What WireGuard adds to a packet: IP and UDP headers, and 32 bytes of its own.
const (
	overhead4 = 20 + 8 + 32
	overhead6 = 40 + 8 + 32
)

// keepalive is how often a device speaks in seconds, so that the NATs on its way let answers
// through: below the 30 s that the shortest of them keep a mapping (RFC 4787 §4.3 wants 120).
const keepalive = 25

// Configs returns a device's configurations, one for each endpoint of each door that can be
// dialled, the preferred ones first: in the order of the file's `at:` and of their endpoints.
func Configs(n *spec.Network, d *spec.Device) []Config {
	var out []Config
	for _, door := range n.Clients.At {
		i, _ := n.Site(door)
		s := &n.Sites[i]
		if !s.Dialable(s.BasePort) {
			continue
		}
		for _, e := range s.Endpoints {
			out = append(out, Config{
				Door:       door,
				Addresses:  hosts(d.Address, d.Address6),
				DNS:        d.DNS,
				MTU:        mtu(s, e),
				AccessKey:  n.Clients.Key,
				Endpoint:   net.JoinHostPort(e.Host, strconv.Itoa(e.Base)),
				AllowedIPs: allowed(n, d, e),
			})
		}
	}
	return out
}

func hosts(addresses ...netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range addresses {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}

// mtu returns the MTU of a tunnel to a site's endpoint, as far as the site's uplinks ask for
// a smaller one than usual; 0 where they do not.
func mtu(s *spec.Site, e spec.Endpoint) int {
	overhead := overhead6 // a name may be that of an IPv6 address
	if a, ok := e.Addr(); ok && a.Is4() {
		overhead = overhead4
	}
	least := commonMTU
	for _, u := range s.Uplinks {
		least = min(least, u.MTU-overhead)
	}
	if least == commonMTU {
		return 0
	}
	return max(least, minMTU)
}

// allowed returns what a device sends into the tunnel: everything, or all that the network
// has, in as few prefixes as it takes, sorted.
func allowed(n *spec.Network, d *spec.Device, e spec.Endpoint) []netip.Prefix {
	if d.Full {
		return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	}
	all := []netip.Prefix{n.Overlay, n.Overlay6, n.Clients.Pool} // the devices' own IPv6 addresses lie in overlay6
	for i := range n.Sites {
		for _, l := range n.Sites[i].LANs {
			for _, m := range l.Prefixes {
				all = append(all, m.Outside())
			}
		}
		for _, segment := range n.Sites[i].Babel {
			all = append(all, segment.Accept...)
		}
	}
	all = aggregate(all)
	// A LAN may have public addresses, and the endpoint be one of them: the tunnel's own
	// packets must not go into the tunnel.
	if a, ok := e.Addr(); ok {
		all = without(all, a)
	}
	return all
}

// Text returns the configuration in the form of wg-quick(8). The private key is the base64
// form of one, or what else is to stand in its place.
func (c Config) Text(privateKey string) string { return c.text("PrivateKey = " + privateKey + "\n") }

// Digest names the configuration: the first eight hexadecimal digits of the SHA-256 of its
// text without the line of the private key.
func (c Config) Digest() string {
	sum := sha256.Sum256([]byte(c.text("")))
	return hex.EncodeToString(sum[:4])
}

func (c Config) text(privateKey string) string {
	var b strings.Builder
	b.WriteString("[Interface]\n" + privateKey)
	line := func(key string, values ...string) {
		if len(values) > 0 {
			b.WriteString(key + " = " + strings.Join(values, ", ") + "\n")
		}
	}
	line("Address", texts(c.Addresses)...)
	line("DNS", texts(c.DNS)...)
	if c.MTU > 0 {
		line("MTU", strconv.Itoa(c.MTU))
	}
	b.WriteString("\n[Peer]\n")
	line("PublicKey", c.AccessKey.String())
	line("Endpoint", c.Endpoint)
	line("AllowedIPs", texts(c.AllowedIPs)...)
	line("PersistentKeepalive", strconv.Itoa(keepalive))
	return b.String()
}

func texts[T fmt.Stringer](things []T) []string {
	out := make([]string, len(things))
	for i, t := range things {
		out[i] = t.String()
	}
	return out
}

// Outdated reports whether one of the configurations that a device was given is none that it
// would get now. A device of which the file does not say what it was given is not.
func Outdated(n *spec.Network, d *spec.Device) bool {
	now := Configs(n, d)
	return slices.ContainsFunc(d.Given, func(digest string) bool {
		return !slices.ContainsFunc(now, func(c Config) bool { return c.Digest() == digest })
	})
}
