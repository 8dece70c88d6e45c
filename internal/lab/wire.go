package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Protocols of routes (linux/rtnetlink.h): who installed them.
const (
	protoStatic = unix.RTPROT_STATIC
	protoDHCP   = unix.RTPROT_DHCP
)

// wire is a connection to the kernel's network configuration in one namespace. Every
// method's error names what was to be made.
type wire struct{ *netlink.Handle }

// wired calls f on a thread inside the namespaces, with a connection there.
func (n *namespaces) wired(f func(w wire) error) error {
	return n.do(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		defer h.Close()
		return f(wire{h})
	})
}

// up sets a device up.
func (w wire) up(device string) error {
	link, err := w.link(device)
	if err != nil {
		return err
	}
	if err := w.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", device, err)
	}
	return nil
}

// down sets a device down.
func (w wire) down(device string) error {
	link, err := w.link(device)
	if err != nil {
		return err
	}
	if err := w.LinkSetDown(link); err != nil {
		return fmt.Errorf("set %s down: %w", device, err)
	}
	return nil
}

func (w wire) link(device string) (netlink.Link, error) {
	link, err := w.LinkByName(device)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", device, err)
	}
	return link, nil
}

// end is one end of a veth pair.
type end struct {
	device string
	mac    net.HardwareAddr // nil: any
}

// pair makes a veth pair from here to another node's namespace.
func (w wire) pair(here, there end, node *namespaces, mtu int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = here.device, mtu, here.mac
	err := w.LinkAdd(&netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         there.device,
		PeerHardwareAddr: there.mac,
		PeerMTU:          uint32(mtu),
		PeerNamespace:    netlink.NsFd(node.net.Fd()),
	})
	if err != nil {
		return fmt.Errorf("add veth pair %s, %s: %w", here.device, there.device, err)
	}
	return nil
}

// bridge makes a bridge that forwards at once and floods all multicast.
func (w wire) bridge(b end, mtu int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = b.device, mtu, b.mac
	off := false
	if err := w.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}); err != nil {
		return fmt.Errorf("add bridge %s: %w", b.device, err)
	}
	return nil
}

// join makes a device a port of a bridge, without addresses of its own, and sets it up.
func (w wire) join(device, bridge string) error {
	if err := set1(setting{"ipv6/conf/" + device + "/disable_ipv6", "1"}); err != nil {
		return err
	}
	link, err := w.link(device)
	if err != nil {
		return err
	}
	master, err := w.link(bridge)
	if err != nil {
		return err
	}
	if err := w.LinkSetMaster(link, master); err != nil {
		return fmt.Errorf("add %s to bridge %s: %w", device, bridge, err)
	}
	if err := w.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", device, err)
	}
	return nil
}

// assign gives a device addresses.
func (w wire) assign(device string, addresses ...netip.Prefix) error {
	link, err := w.link(device)
	if err != nil {
		return err
	}
	for _, p := range addresses {
		a := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		// No error when it is there: SLAAC may have been faster.
		if err := w.AddrReplace(link, a); err != nil {
			return fmt.Errorf("add address %s to %s: %w", p, device, err)
		}
	}
	return nil
}

// unassign takes an address away, if it is there.
func (w wire) unassign(device string, p netip.Prefix) error {
	link, err := w.link(device)
	if err != nil {
		return err
	}
	err = w.AddrDel(link, &netlink.Addr{IPNet: ipNet(p)})
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove address %s from %s: %w", p, device, err)
	}
	return nil
}

// route is one that the lab makes.
type route struct {
	dst      netip.Prefix
	gateway  netip.Addr // zero: on the link
	device   string
	source   netip.Addr // zero: the kernel chooses
	metric   int
	table    int // 0: main
	protocol int
}

// add makes a route, or replaces the one to the same destination and metric.
func (w wire) add(r route) error {
	link, err := w.link(r.device)
	if err != nil {
		return err
	}
	out := &netlink.Route{
		LinkIndex: link.Attrs().Index,
		Dst:       ipNet(r.dst),
		Priority:  r.metric,
		Table:     r.table,
		Protocol:  netlink.RouteProtocol(r.protocol),
		Scope:     netlink.SCOPE_LINK,
	}
	if r.gateway.IsValid() {
		out.Gw, out.Scope = r.gateway.AsSlice(), netlink.SCOPE_UNIVERSE
		out.Flags = int(netlink.FLAG_ONLINK) // the gateway may be outside the subnet
	}
	if r.dst.Addr().Is6() {
		out.Scope = netlink.SCOPE_UNIVERSE
	}
	if r.source.IsValid() {
		out.Src = r.source.AsSlice()
	}
	if err := w.RouteReplace(out); err != nil {
		return fmt.Errorf("add route %s dev %s: %w", r.dst, r.device, err)
	}
	return nil
}

// defaultOf returns the default route of an address family.
func defaultOf(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// isBridge reports whether an uplink is to be a bridge, as its name says: others are to
// become ports of it.
func isBridge(device string) bool { return strings.HasPrefix(device, "br") }
