package lab

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"
)

// Carrier takes an uplink's carrier away, as when its cable is pulled out, or gives it
// back; an empty device is the first uplink. The router's DHCP client then gives its address
// up, and leases one again. When Carrier returns, the router has seen it.
func (l *Lab) Carrier(ctx context.Context, site, device string, on bool) error {
	_, err := l.ask(ctx, command{Do: doCarrier, Site: site, Device: device, On: on})
	return err
}

// carrier sets the far end of an uplink's wire down or up.
func (d *daemon) carrier(ctx context.Context, site, device string, on bool) error {
	u := d.layout.uplink(site, device)
	if u == nil {
		return fmt.Errorf("there is no uplink %s/%s", site, device)
	}
	if on != d.unplugged[u.place()] {
		return nil // as it is
	}
	if !on {
		return d.unplug(ctx, u)
	}
	if d.paths.muted()[u.place()] && u.dhcp {
		return fmt.Errorf("%s is cut off, and would lease no address: heal it first", u.place())
	}
	return d.plugIn(ctx, u)
}

func (d *daemon) unplug(ctx context.Context, u *uplink) error {
	err := d.nodes[d.layout.core].wired(func(w wire) error { return w.down(u.port) })
	if err != nil {
		return err
	}
	d.unplugged[u.place()] = true
	err = d.nodes[u.site].wired(func(w wire) error {
		return poll(ctx, func() (bool, error) {
			link, err := w.link(u.device)
			return err == nil && link.Attrs().OperState != netlink.OperUp, err
		})
	})
	if err != nil {
		return fmt.Errorf("wait for %s to lose its carrier: %w", u.place(), err)
	}
	if c := d.clients[u.place()]; c != nil {
		return c.now(ctx, c.release)
	}
	return nil
}

// plugIn sets core's end up, and makes again what the kernel took away with it: IPv6
// addresses and all routes.
func (d *daemon) plugIn(ctx context.Context, u *uplink) error {
	core, node := d.nodes[d.layout.core], d.nodes[u.site]
	err := core.wired(func(w wire) error {
		if err := w.up(u.port); err != nil {
			return err
		}
		if d.layout.segments[u.segment].bridge {
			return nil // which has them
		}
		if err := w.raise(d.layout, u.segment); err != nil {
			return err
		}
		return w.aliasRoutes(d.layout)
	})
	if err != nil {
		return err
	}
	if err := awaitCarrier(ctx, core, u.port); err != nil {
		return err
	}
	if err := awaitCarrier(ctx, node, u.device); err != nil {
		return err
	}
	delete(d.unplugged, u.place())
	d.ra.sendAll()
	if c := d.clients[u.place()]; c != nil {
		if err := c.now(ctx, c.acquire); err != nil {
			return err
		}
	}
	if u.ra {
		return awaitAdvertised(ctx, node, u)
	}
	return nil
}
