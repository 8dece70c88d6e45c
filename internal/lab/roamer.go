package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// tunnelDevice is the WireGuard interface of a roaming device.
const tunnelDevice = "wg0"

// The numbers that wg-quick(8) takes for a tunnel that everything goes through: the
// tunnel's own packets have the mark, all others look into the table.
const (
	fullTable    = 51820
	fullPriority = 32765 // of the rule for the others; before it comes the one for main
)

// roamer is a roaming device's WireGuard.
type roamer struct {
	name, of string
	node     *namespaces
	WireGuard

	mu sync.Mutex // one change at a time
}

// enter takes down what tunnel there is, and makes another one.
func (r *roamer) enter(ctx context.Context, c stock) error {
	return r.change(ctx, func(w wire) error {
		err := r.makeTunnel(ctx, w, c)
		if err != nil {
			err = errors.Join(err, r.takeDown(context.WithoutCancel(ctx), w))
		}
		return err
	})
}

// leave takes the tunnel down.
func (r *roamer) leave(ctx context.Context) error {
	return r.change(ctx, func(wire) error { return nil })
}

// change takes the tunnel down, and then calls f inside the device.
func (r *roamer) change(ctx context.Context, f func(w wire) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.node.wired(func(w wire) error {
		if err := r.takeDown(ctx, w); err != nil {
			return err
		}
		return f(w)
	})
	if err != nil {
		return fmt.Errorf("device %s: %w", r.name, err)
	}
	return nil
}

// takeDown removes the tunnel, if there is one. WireGuard has no word for it, so nobody
// is told.
func (r *roamer) takeDown(ctx context.Context, w wire) error {
	link, err := w.LinkByName(tunnelDevice)
	switch {
	case isMissing(err):
	case err != nil:
		return fmt.Errorf("find %s: %w", tunnelDevice, err)
	case link.Type() == (&netlink.Wireguard{}).Type():
		if err := w.LinkDel(link); err != nil {
			return fmt.Errorf("remove %s: %w", tunnelDevice, err)
		}
	case r.Embedded != nil:
		if err := r.Embedded.Remove(ctx, tunnelDevice); err != nil {
			return err
		}
		if err := w.awaitGone(ctx, tunnelDevice); err != nil {
			return err
		}
	}
	return fullRules("remove", w.RuleDel)
}

// awaitGone returns when no device has the name: a TUN goes with the last file that holds
// it, which may be a moment after its process has let go of it.
func (w wire) awaitGone(ctx context.Context, device string) error {
	ctx, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	for {
		_, err := w.LinkByName(device)
		if isMissing(err) {
			return nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("wait for the end of %s: %w", device, errors.Join(err, ctx.Err()))
		}
	}
}

// fullRules adds or removes the rules of a tunnel that everything goes through: what is
// not the tunnel's own packet goes by main's routes, but the default one, and then into
// the tunnel.
func fullRules(verb string, do func(*netlink.Rule) error) error {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		main, others := netlink.NewRule(), netlink.NewRule()
		main.Family, main.Priority, main.Table, main.SuppressPrefixlen = family, fullPriority-1, unix.RT_TABLE_MAIN, 0
		others.Family, others.Priority, others.Table, others.Mark, others.Invert = family, fullPriority, fullTable, fullTable, true
		for _, rule := range []*netlink.Rule{main, others} {
			if err := do(rule); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("%s rule %d: %w", verb, rule.Priority, err)
			}
		}
	}
	return nil
}

func isMissing(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing)
}

// makeTunnel makes the tunnel in the order of wg-quick(8). A peer with a keepalive is sent
// one as soon as the interface comes up, and so a handshake begins.
func (r *roamer) makeTunnel(ctx context.Context, w wire, c stock) error {
	if err := r.makeDevice(ctx, w, c.mtu); err != nil {
		return err
	}
	if err := c.configure(); err != nil {
		return fmt.Errorf("configure %s: %w", tunnelDevice, err)
	}
	if err := w.assign(tunnelDevice, c.addresses...); err != nil {
		return err
	}
	if err := w.up(tunnelDevice); err != nil {
		return err
	}
	for _, p := range c.allowed {
		out := route{dst: p.Masked(), device: tunnelDevice, protocol: protoStatic}
		if p.Bits() == 0 {
			out.table = fullTable
		}
		if err := w.add(out); err != nil {
			return err
		}
	}
	if c.full() {
		return fullRules("add", w.RuleAdd)
	}
	return nil
}

// makeDevice makes the interface, which is down and has no key yet.
func (r *roamer) makeDevice(ctx context.Context, w wire, mtu int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = tunnelDevice, mtu
	err := error(unix.EOPNOTSUPP)
	if !r.Force {
		err = w.LinkAdd(&netlink.Wireguard{LinkAttrs: attrs})
	}
	if errors.Is(err, unix.EOPNOTSUPP) && r.Embedded != nil {
		return r.Embedded.Add(ctx, tunnelDevice, mtu)
	}
	if err != nil {
		return fmt.Errorf("add WireGuard interface %s: %w", tunnelDevice, err)
	}
	return nil
}

// configure gives the interface in the calling thread's namespace its key and its peer.
func (c stock) configure() error {
	client, err := wgctrl.New()
	if err != nil {
		return err
	}
	defer client.Close()
	peer := wgtypes.PeerConfig{
		PublicKey: c.peer, PresharedKey: c.preshared, Endpoint: net.UDPAddrFromAddrPort(c.at),
		PersistentKeepaliveInterval: &c.keepalive,
	}
	for _, p := range c.allowed {
		peer.AllowedIPs = append(peer.AllowedIPs, *ipNet(p.Masked()))
	}
	device := wgtypes.Config{PrivateKey: &c.private, Peers: []wgtypes.PeerConfig{peer}}
	if c.full() {
		mark := fullTable
		device.FirewallMark = &mark
	}
	return client.ConfigureDevice(tunnelDevice, device)
}
