package lab

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tombolo/internal/lab/internet"
)

// makeCore builds the Internet's namespace: the segments' ends, and the emulator's device,
// which is returned. The routers' and hosts' ends are there, and down, when it is done.
func makeCore(core *namespaces, l *layout, nodes map[string]*namespaces) (*internet.Device, error) {
	var dev *internet.Device
	err := core.wired(func(w wire) error {
		if err := w.up("lo"); err != nil {
			return err
		}
		for i := range l.segments {
			if s := &l.segments[i]; s.bridge {
				if err := w.bridge(end{device: s.device}, s.mtu); err != nil {
					return err
				}
			}
		}
		for i := range l.routers {
			if err := w.makePorts(l, &l.routers[i], nodes[l.routers[i].site]); err != nil {
				return err
			}
		}
		for i := range l.segments {
			if err := w.raise(l, i); err != nil {
				return err
			}
		}
		for _, h := range l.hosts {
			if err := w.raiseHost(h, nodes[h.name]); err != nil {
				return err
			}
		}
		if err := w.routeAliases(l); err != nil {
			return err
		}
		var err error
		dev, err = w.makeEmulator(l)
		return err
	})
	return dev, err
}

// makePorts makes the pairs to a router's uplinks.
func (w wire) makePorts(l *layout, r *router, node *namespaces) error {
	for i := range r.uplinks {
		u := &r.uplinks[i]
		there := end{device: u.device, mac: u.mac}
		if isBridge(u.device) {
			there = end{device: bridgePort(u.device)}
		}
		if err := w.pair(end{device: u.port}, there, node, u.mtu); err != nil {
			return err
		}
		if s := &l.segments[u.segment]; s.bridge {
			if err := w.join(u.port, s.device); err != nil {
				return err
			}
		}
	}
	return nil
}

// bridgePort is the port of an uplink that is a bridge: br-wan has wan-port.
func bridgePort(device string) string {
	name := strings.Trim(strings.TrimPrefix(device, "br"), "-") + "-port"
	return name[max(0, len(name)-maxInterface):]
}

// raise gives core's end of a segment its addresses, and routes to what is not in their
// subnets.
func (w wire) raise(l *layout, i int) error {
	s := &l.segments[i]
	if err := w.assign(s.device, s.addresses...); err != nil {
		return err
	}
	if err := w.up(s.device); err != nil {
		return err
	}
	for _, r := range l.routers {
		for _, u := range r.uplinks {
			if u.segment != i {
				continue
			}
			for _, p := range u.addresses() {
				if s.connects(p) || len(s.addresses) == 0 {
					continue
				}
				if err := w.add(route{dst: p.Masked(), device: s.device, protocol: protoStatic}); err != nil {
					return err
				}
			}
			if err := w.routeTo(&u, s.device); err != nil {
				return err
			}
		}
	}
	return nil
}

// routeTo makes the routes to what the provider routes to an uplink.
func (w wire) routeTo(u *uplink, device string) error {
	for _, p := range u.routed {
		via := slices.IndexFunc(u.addresses(), func(a netip.Prefix) bool { return a.Addr().Is4() == p.Addr().Is4() })
		if via < 0 {
			continue // the uplink has no address of that family
		}
		err := w.add(route{dst: p, gateway: u.addresses()[via].Addr(), device: device, protocol: protoStatic})
		if err != nil {
			return err
		}
	}
	return nil
}

// connects reports whether an uplink's address lies in a subnet of core's on the segment.
func (s *segment) connects(p netip.Prefix) bool {
	for _, a := range s.addresses {
		if a.Bits() <= p.Bits() && a.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// hostGateways are core's addresses toward every host in the Internet, whatever the
// host's own address is.
var hostGateways = []netip.Prefix{netip.MustParsePrefix("169.254.0.1/32"), linkLocalGateway}

// raiseHost makes the pair to a host in the Internet, and the routes to it.
func (w wire) raiseHost(h host, node *namespaces) error {
	there := end{device: hostDevice, mac: hardwareAddress(h.name, hostDevice)}
	if err := w.pair(end{device: h.port}, there, node, ethernetMTU); err != nil {
		return err
	}
	if err := w.assign(h.port, hostGateways...); err != nil {
		return err
	}
	if err := w.up(h.port); err != nil {
		return err
	}
	for _, a := range h.addresses {
		if err := w.add(route{dst: hostPrefix(a), device: h.port, protocol: protoStatic}); err != nil {
			return err
		}
	}
	return nil
}

// emulatorMTU is more than any packet has that core forwards: the segments' MTUs hold,
// not emu0's.
const emulatorMTU = 65535

// makeEmulator makes the emulator's device, and routes what is marked into it, and the
// public addresses of the NATs, which are nowhere else.
func (w wire) makeEmulator(l *layout) (*internet.Device, error) {
	dev, err := internet.OpenTUN(emulator)
	if err != nil {
		return nil, err
	}
	if err := w.raiseEmulator(l); err != nil {
		dev.Close() // it carried nothing yet
		return nil, err
	}
	return dev, nil
}

func (w wire) raiseEmulator(l *layout) error {
	link, err := w.link(emulator)
	if err != nil {
		return err
	}
	if err := w.LinkSetMTU(link, emulatorMTU); err != nil {
		return fmt.Errorf("set MTU of %s: %w", emulator, err)
	}
	// In a user namespace OpenTUN may not do it.
	if err := w.LinkSetTxQLen(link, internet.TxQueueLen); err != nil {
		return fmt.Errorf("set queue length of %s: %w", emulator, err)
	}
	if err := w.assign(emulator, emulator4, emulator6); err != nil {
		return err
	}
	if err := w.up(emulator); err != nil {
		return err
	}
	for _, a := range []netip.Addr{emulator4.Addr(), emulator6.Addr()} {
		if err := w.add(route{dst: defaultOf(a), device: emulator, table: divertTable, protocol: protoStatic}); err != nil {
			return err
		}
		if err := w.markRule(a, divertMark, divertTable); err != nil {
			return err
		}
	}
	for _, p := range l.places() {
		if p.inside() {
			dst := hostPrefix(p.where.NAT.Public)
			if err := w.add(route{dst: dst, device: emulator, protocol: protoStatic}); err != nil {
				return err
			}
		}
	}
	return nil
}

// markRule routes what has the mark by a table, in the address family of a.
func (w wire) markRule(a netip.Addr, mark uint32, table int) error {
	rule := netlink.NewRule()
	rule.Family, rule.Mark, rule.Table, rule.Priority = unix.AF_INET, mark, table, markPriority
	if a.Is6() {
		rule.Family = unix.AF_INET6
	}
	if err := w.RuleAdd(rule); err != nil {
		return fmt.Errorf("add rule fwmark %d: %w", mark, err)
	}
	return nil
}

// routeAliases routes to the uplinks that core knows by another address, by the marks of
// diverted.translate.
func (w wire) routeAliases(l *layout) error {
	if err := w.aliasRoutes(l); err != nil {
		return err
	}
	mark := aliasMark
	for _, r := range l.routers {
		for _, u := range r.uplinks {
			if !u.alias.IsValid() {
				continue
			}
			if err := w.markRule(u.alias, uint32(mark), mark); err != nil {
				return err
			}
			mark++
		}
	}
	return nil
}

// aliasRoutes makes the routes to them.
func (w wire) aliasRoutes(l *layout) error {
	n := 0
	for _, r := range l.routers {
		for _, u := range r.uplinks {
			if !u.alias.IsValid() {
				continue
			}
			device, mark := l.segments[u.segment].device, aliasMark+n
			n++
			for _, r := range []route{
				{dst: hostPrefix(u.alias), device: device, protocol: protoStatic},
				{dst: hostPrefix(u.address4.Addr()), device: device, table: mark, protocol: protoStatic},
			} {
				if err := w.add(r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// load gives nft a ruleset in the namespaces.
func (n *namespaces) load(ctx context.Context, ruleset string) error {
	return n.do(func() error {
		cmd := exec.CommandContext(ctx, "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(ruleset)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("load the Internet's ruleset: nft: %w: %s", err, bytes.TrimSpace(out))
		}
		return nil
	})
}
