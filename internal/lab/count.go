package lab

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"

	"tombolo/internal/lab/internet"
)

// UplinkCount is what an uplink has handed to its provider: before a NAT, and before what
// paths do to it. What others on its own wire were sent is not among it.
type UplinkCount struct {
	Uplink string `json:"uplink"` // SITE/DEVICE
	Sent   []Sent `json:"sent"`   // sorted
}

// Sent is what went from one address to another, of one protocol.
type Sent struct {
	From        netip.Addr  `json:"from"`
	To          netip.Addr  `json:"to"`
	Destination Destination `json:"destination"`
	Place       string      `json:"place,omitempty"` // whose To is: SITE/DEVICE or an Internet host; empty: nobody's
	Protocol    string      `json:"protocol"`        // tcp, udp, icmp, ipv6-icmp; another's number
	Packets     uint64      `json:"packets"`         // what the kernel handed over as one counts once (GSO)
	Bytes       uint64      `json:"bytes"`

	// WrongSource says that From is no address of the uplink, nor one that is routed to
	// it: the provider dropped it (BCP 38).
	WrongSource bool `json:"wrongSource,omitempty"`
}

// Destination says where packets were bound.
type Destination string

// The destinations.
const (
	ToLink     Destination = "link"     // the provider's own addresses and all hosts of the wire: DHCP, neighbours
	ToSite     Destination = "site"     // an uplink of a site or a roaming device, or what was one: mostly tunnels
	ToInternet Destination = "internet" // an Internet host, or an address that nobody in the lab has
)

// Count returns how many packets were sent of what f is true for.
func (c UplinkCount) Count(f func(Sent) bool) uint64 {
	var n uint64
	for _, s := range c.Sent {
		if f(s) {
			n += s.Packets
		}
	}
	return n
}

// Internet returns how many packets were bound for the Internet, with any source: those
// that are neither for a site nor for the provider itself.
func (c UplinkCount) Internet() uint64 {
	return c.Count(func(s Sent) bool { return s.Destination == ToInternet })
}

// To returns how many packets were bound for a place, with any source: an Internet host,
// or an uplink.
func (c UplinkCount) To(place string) uint64 {
	return c.Count(func(s Sent) bool { return s.Place == place })
}

// Wrong returns how many packets had a source that is not the uplink's, and so were
// dropped, wherever they were bound.
func (c UplinkCount) Wrong() uint64 {
	return c.Count(func(s Sent) bool { return s.WrongSource })
}

// Uplinks returns what uplinks have sent since the lab came up, or since ResetUplinks:
// all of them, or those of the names, which are of sites, roaming devices or uplinks
// (SITE/DEVICE).
func (l *Lab) Uplinks(ctx context.Context, names ...string) ([]UplinkCount, error) {
	a, err := l.ask(ctx, command{Do: doUplinks})
	if err != nil || len(names) == 0 {
		return a.Uplinks, err
	}
	var out []UplinkCount
	for _, name := range names {
		n := len(out)
		for _, c := range a.Uplinks {
			if site, _, _ := strings.Cut(c.Uplink, "/"); name == site || name == c.Uplink {
				out = append(out, c)
			}
		}
		if n == len(out) {
			return nil, fmt.Errorf("lab %q: there is no uplink %q", l.name, name)
		}
	}
	return out, nil
}

// ResetUplinks begins anew to count what uplinks send.
func (l *Lab) ResetUplinks(ctx context.Context) error {
	_, err := l.ask(ctx, command{Do: doReset})
	return err
}

// resetCounts empties the tables of counters.
func (d *daemon) resetCounts(ctx context.Context) error {
	var s strings.Builder
	for _, set := range counterSets {
		fmt.Fprintf(&s, "flush set inet providers %s\n", set)
	}
	return d.nodes[d.layout.core].load(ctx, s.String())
}

// uplinkCounts reads the tables of counters, for every uplink in the order of the layout.
func (d *daemon) uplinkCounts(ctx context.Context) ([]UplinkCount, error) {
	var text []byte
	err := d.nodes[d.layout.core].do(func() (err error) {
		cmd := exec.CommandContext(ctx, "nft", "-j", "list", "table", "inet", "providers")
		var said bytes.Buffer
		cmd.Stderr = &said
		if text, err = cmd.Output(); err != nil {
			return fmt.Errorf("read what the uplinks have sent: nft: %w: %s", err, bytes.TrimSpace(said.Bytes()))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	flows, err := parseFlows(text)
	if err != nil {
		return nil, fmt.Errorf("read what the uplinks have sent: %w", err)
	}
	return d.layout.count(flows, d.paths.places), nil
}

// flow is a line of a table of counters.
type flow struct {
	device, mac string
	Sent
}

// nftSet is what `nft -j` prints of a set.
type nftSet struct {
	Name     string            `json:"name"`
	Elements []json.RawMessage `json:"elem"`
}

// parseFlows reads the tables of counters in what `nft -j` prints (libnftables-json(5)).
func parseFlows(text []byte) ([]flow, error) {
	var all struct {
		Objects []struct {
			Set *nftSet `json:"set"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	var out []flow
	for _, o := range all.Objects {
		if o.Set == nil || !slices.Contains(counterSets, o.Set.Name) {
			continue
		}
		if len(o.Set.Elements) >= maxFlows {
			return nil, fmt.Errorf("%s is full: there were more than %d pairs of addresses", o.Set.Name, maxFlows)
		}
		for _, e := range o.Set.Elements {
			f, err := parseFlow(e)
			if err != nil {
				return nil, fmt.Errorf("%s: %w: %s", o.Set.Name, err, e)
			}
			f.WrongSource = strings.HasPrefix(o.Set.Name, "wrong")
			out = append(out, f)
		}
	}
	return out, nil
}

func parseFlow(text []byte) (flow, error) {
	var f flow
	var protocol any
	key := [5]any{&f.device, &f.mac, &f.From, &f.To, &protocol}
	var e struct {
		Element struct {
			Value struct {
				Concat *[5]any `json:"concat"`
			} `json:"val"`
			Counter struct {
				Packets uint64 `json:"packets"`
				Bytes   uint64 `json:"bytes"`
			} `json:"counter"`
		} `json:"elem"`
	}
	e.Element.Value.Concat = &key
	err := json.Unmarshal(text, &e)
	f.Protocol, f.Packets, f.Bytes = fmt.Sprint(protocol), e.Element.Counter.Packets, e.Element.Counter.Bytes
	if name, known := protocolNames[f.Protocol]; known {
		f.Protocol = name
	}
	return f, err
}

// protocolNames are those of whose numbers nft prints the names, where there is an
// /etc/protocols.
var protocolNames = map[string]string{"1": "icmp", "6": "tcp", "17": "udp", "58": "ipv6-icmp"}

// count tells flows apart by the uplinks that sent them, and says where they went.
func (l *layout) count(flows []flow, places []place) []UplinkCount {
	alone := l.alone()
	var out []UplinkCount
	at := map[deviceMAC]int{} // without a MAC where nobody else could have sent it
	for _, r := range l.routers {
		for i := range r.uplinks {
			u := &r.uplinks[i]
			who := deviceMAC{device: l.segments[u.segment].device}
			if !alone[u.segment] {
				who.mac = u.mac.String()
			}
			at[who] = len(out)
			out = append(out, UplinkCount{Uplink: u.place(), Sent: []Sent{}})
		}
	}
	for _, f := range flows {
		i, ok := at[deviceMAC{device: f.device}]
		if !ok {
			i, ok = at[deviceMAC{f.device, f.mac}]
		}
		if !ok {
			continue // another machine on the same wire
		}
		f.Destination, f.Place = l.destination(f.To, places)
		out[i].Sent = append(out[i].Sent, f.Sent)
	}
	for _, c := range out {
		slices.SortFunc(c.Sent, func(a, b Sent) int {
			return cmp.Or(a.From.Compare(b.From), a.To.Compare(b.To), cmp.Compare(a.Protocol, b.Protocol))
		})
	}
	return out
}

// destination says where an address is, and whose it is.
func (l *layout) destination(to netip.Addr, places []place) (Destination, string) {
	if to.IsMulticast() || to.IsLinkLocalUnicast() || to == broadcast4 || to == emulator4.Addr() || to == emulator6.Addr() {
		return ToLink, ""
	}
	for _, s := range l.segments {
		if hasAddress(s.addresses, to) {
			return ToLink, ""
		}
	}
	for _, p := range places {
		inside := slices.ContainsFunc(p.where.Prefixes, func(x netip.Prefix) bool { return x.Contains(to) })
		switch {
		case inside && p.segment < 0:
			return ToInternet, p.name
		case inside, p.where.NAT.Kind != internet.None && p.where.NAT.Public == to:
			return ToSite, p.name
		}
	}
	for _, s := range l.segments {
		if s.connects(hostPrefix(to)) {
			return ToSite, ""
		}
	}
	return ToInternet, ""
}

// broadcast4 is the address of all on the same wire.
var broadcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})
