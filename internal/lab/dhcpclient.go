package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// How long a client waits for a reply, and how often it asks: each time it waits twice as
// long as the time before.
const (
	dhcpTimeout = 300 * time.Millisecond
	dhcpRetries = 7
)

// dhcpClient is the program that leases the address of a router's uplink: what a Debian
// router has dhclient for. It sets the address and the default route, and takes them back
// when the lease changes.
type dhcpClient struct {
	node   *namespaces
	uplink *uplink
	kick   chan errand
	lease  *nclient4.Lease // nil: none
	has    netip.Prefix    // the address that is set
}

// errand is what a running client is asked to do now; the answer is how that went.
type errand struct {
	do     func(context.Context) error
	answer chan error
}

func newDHCPClient(node *namespaces, u *uplink) *dhcpClient {
	return &dhcpClient{node: node, uplink: u, kick: make(chan errand)}
}

// acquire gets a lease and configures the uplink with it.
func (c *dhcpClient) acquire(ctx context.Context) error {
	lease, err := c.ask(func(client *nclient4.Client) (*nclient4.Lease, error) {
		return client.Request(ctx, dhcpv4.WithBroadcast(true))
	})
	if err != nil {
		return fmt.Errorf("lease an address for %s: %w", c.uplink.place(), err)
	}
	return c.configure(lease)
}

// release takes the address away, and with it the kernel its routes: what systemd-networkd
// and OpenWrt's netifd do when a device loses its carrier.
func (c *dhcpClient) release(context.Context) error {
	if !c.has.IsValid() {
		return nil
	}
	err := c.node.wired(func(w wire) error { return w.unassign(c.uplink.device, c.has) })
	if err == nil {
		c.lease, c.has = nil, netip.Prefix{}
	}
	return err
}

// renew asks for the same address again, and where it is refused for another one. Without
// a lease there is nothing to renew.
func (c *dhcpClient) renew(ctx context.Context) error {
	if c.lease == nil {
		return nil
	}
	lease, err := c.ask(func(client *nclient4.Client) (*nclient4.Lease, error) {
		return client.Renew(ctx, c.lease, dhcpv4.WithBroadcast(true))
	})
	var refused *nclient4.ErrNak
	if errors.As(err, &refused) {
		return c.acquire(ctx)
	}
	if err != nil {
		return fmt.Errorf("renew the lease of %s: %w", c.uplink.place(), err)
	}
	return c.configure(lease)
}

// ask opens a client only for one exchange: its packet socket gets a copy of all that
// comes in by the device.
func (c *dhcpClient) ask(f func(*nclient4.Client) (*nclient4.Lease, error)) (*nclient4.Lease, error) {
	var client *nclient4.Client
	err := c.node.do(func() (err error) {
		client, err = nclient4.New(c.uplink.device, nclient4.WithTimeout(dhcpTimeout), nclient4.WithRetry(dhcpRetries))
		return err
	})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return f(client)
}

// configure sets what was leased: first the new address and route, then the old address
// goes.
func (c *dhcpClient) configure(lease *nclient4.Lease) error {
	ack := lease.ACK
	address, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	bits, _ := ack.SubnetMask().Size()
	if !ok || len(ack.Router()) == 0 {
		return fmt.Errorf("lease an address for %s: the reply has no address or no router", c.uplink.place())
	}
	gateway, _ := netip.AddrFromSlice(ack.Router()[0].To4())
	leased, old := netip.PrefixFrom(address, bits), c.has
	c.lease = lease
	if leased == old {
		return nil
	}
	err := c.node.wired(func(w wire) error {
		if err := w.assign(c.uplink.device, leased); err != nil {
			return err
		}
		err := w.add(route{
			dst: defaultOf(gateway), gateway: gateway, device: c.uplink.device,
			source: address, metric: c.uplink.metric, protocol: protoDHCP,
		})
		if err != nil || !old.IsValid() {
			return err
		}
		return w.unassign(c.uplink.device, old)
	})
	if err == nil {
		c.has = leased
	}
	return err
}

// run renews the lease at half of its time, and does what it is asked to, until ctx ends.
// While the server does not answer it keeps the address, and asks again soon.
func (c *dhcpClient) run(ctx context.Context) error {
	timer := time.NewTimer(leaseTime / 2)
	defer timer.Stop()
	for {
		do := errand{do: c.renew}
		select {
		case <-ctx.Done():
			return nil
		case do = <-c.kick:
		case <-timer.C:
		}
		err := do.do(ctx)
		if do.answer != nil {
			do.answer <- err
		}
		wait := leaseTime / 2
		if err != nil {
			wait = 5 * time.Second
		}
		timer.Reset(wait)
	}
}

// now has the running client do something, and waits for it.
func (c *dhcpClient) now(ctx context.Context, do func(context.Context) error) error {
	answer := make(chan error, 1)
	select {
	case c.kick <- errand{do, answer}:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// uplinkTime bounds the wait for the kernel to bring up a device, and for what a router
// forms from advertisements.
const uplinkTime = 10 * time.Second

// poll calls f until it is true.
func poll(ctx context.Context, f func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, uplinkTime)
	defer cancel()
	for {
		ok, err := f()
		if err != nil || ok {
			return err
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// awaitCarrier waits until devices carry packets: the kernel attaches their queues some
// time after both ends were set up (Linux net/core/link_watch.c), and drops what is sent
// before.
func awaitCarrier(ctx context.Context, node *namespaces, devices ...string) error {
	return node.wired(func(w wire) error {
		for _, device := range devices {
			err := poll(ctx, func() (bool, error) {
				link, err := w.link(device)
				return err == nil && link.Attrs().OperState == netlink.OperUp, err
			})
			if err != nil {
				return fmt.Errorf("wait for %s to come up: %w", device, err)
			}
		}
		return nil
	})
}

// awaitAdvertised waits until the router has taken its address and default route from an
// advertisement.
func awaitAdvertised(ctx context.Context, node *namespaces, u *uplink) error {
	return node.wired(func(w wire) error {
		link, err := w.link(u.device)
		if err != nil {
			return err
		}
		if err := poll(ctx, func() (bool, error) { return w.advertised(link, u) }); err != nil {
			return fmt.Errorf("wait for router advertisements on %s: %w", u.place(), err)
		}
		return nil
	})
}

func (w wire) advertised(link netlink.Link, u *uplink) (bool, error) {
	addresses, err := w.AddrList(link, unix.AF_INET6)
	if err != nil {
		return false, retryDump(err)
	}
	found := false
	for _, a := range addresses {
		found = found || a.IP.Equal(u.address6.Addr().AsSlice())
	}
	if !found {
		return false, nil
	}
	routes, err := w.RouteList(link, unix.AF_INET6)
	if err != nil {
		return false, retryDump(err)
	}
	for _, r := range routes {
		if r.Protocol == unix.RTPROT_RA && r.Gw != nil {
			return true, nil
		}
	}
	return false, nil
}

// retryDump passes over a dump that something changed meanwhile.
func retryDump(err error) error {
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil
	}
	return err
}
