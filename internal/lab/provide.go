package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tombolo/internal/lab/internet"
)

// places tells the emulator where everything is, and what the paths do.
func (d *daemon) places(ctx context.Context) error {
	var where []internet.Place
	for _, p := range d.paths.places {
		where = append(where, p.where)
	}
	if err := d.runner.SetPlaces(ctx, where); err != nil {
		return fmt.Errorf("lay out the Internet: %w", err)
	}
	return d.impair(ctx)
}

// impair tells the emulator what the paths do, and diverts to it what it has to do with:
// in this order for what gets worse, and what gets better at the latest when the sets are
// loaded.
func (d *daemon) impair(ctx context.Context) error {
	var inner error
	err := d.runner.Do(ctx, func(e *internet.Engine) { d.given, inner = d.paths.apply(e, d.given) })
	if err := errors.Join(err, inner); err != nil {
		return fmt.Errorf("change paths: %w", err)
	}
	if ruleset := d.paths.divert().ruleset(); ruleset != d.loaded {
		if err := d.nodes[d.layout.core].load(ctx, ruleset); err != nil {
			return err
		}
		d.loaded = ruleset
	}
	return d.filter(ctx)
}

// provide tells the DHCP server and the advertiser what they have to say.
func (d *daemon) provide() error {
	leases, adverts := map[client]binding{}, map[int]advertisement{}
	err := d.nodes[d.layout.core].wired(func(w wire) error {
		index := map[string]int{}
		links, err := w.LinkList()
		if err != nil {
			return fmt.Errorf("list the devices of %s: %w", d.layout.core, err)
		}
		for _, l := range links {
			index[l.Attrs().Name] = l.Attrs().Index
		}
		for _, s := range d.layout.segments {
			if s.advertise.IsValid() {
				adverts[index[s.device]] = advertisement{prefix: s.advertise, mtu: s.mtu}
			}
		}
		for _, r := range d.layout.routers {
			for _, u := range r.uplinks {
				if u.dhcp {
					who := client{index[d.layout.segments[u.segment].device], [6]byte(u.mac)}
					leases[who] = binding{address: u.address4, gateway: u.gateway4, mtu: u.mtu}
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.dhcp.bind(leases)
	d.ra.advertise(adverts)
	return nil
}

// relet leases another address to an uplink. An address outside the old subnet brings its
// gateway: the first address of its own. The zero prefix is the next address of the
// subnet.
func (d *daemon) relet(ctx context.Context, site, device string, address netip.Prefix) (netip.Prefix, error) {
	u := d.layout.uplink(site, device)
	if u == nil || !u.dhcp {
		return netip.Prefix{}, fmt.Errorf("there is no uplink %s/%s with DHCP", site, device)
	}
	if d.paths.muted()[u.place()] || d.unplugged[u.place()] {
		return netip.Prefix{}, fmt.Errorf("lease another address to %s: it is cut off, and would not hear of it", u.place())
	}
	before := *u
	if !address.IsValid() {
		address = d.layout.nextAddress(u)
	}
	if !address.IsValid() || !address.Addr().Is4() {
		return netip.Prefix{}, fmt.Errorf("lease another address to %s: there is none", u.place())
	}
	if who := d.layout.holder(address.Addr()); who != "" && who != u.place() {
		return netip.Prefix{}, fmt.Errorf("lease %s to %s: %s has it", address, u.place(), who)
	}
	u.address4 = address
	s := &d.layout.segments[u.segment]
	if !address.Contains(u.gateway4) {
		u.gateway4 = firstAddress(address.Masked(), address.Addr())
		err := d.nodes[d.layout.core].wired(func(w wire) error {
			return w.assign(s.device, netip.PrefixFrom(u.gateway4, address.Bits()))
		})
		if err != nil {
			*u = before
			return netip.Prefix{}, err
		}
		s.addresses = append(s.addresses, netip.PrefixFrom(u.gateway4, address.Bits()))
	}
	if err := d.moved(ctx); err != nil {
		return netip.Prefix{}, err
	}
	err := d.nodes[d.layout.core].wired(func(w wire) error { return w.routeTo(u, s.device) })
	if err != nil {
		return netip.Prefix{}, err
	}
	c := d.clients[u.place()]
	return address, c.now(ctx, c.renew)
}

// moved brings everything in line with addresses that have changed.
func (d *daemon) moved(ctx context.Context) error {
	now := d.layout.places()
	for i := range now {
		d.paths.places[i].where = now[i].where
	}
	if err := d.places(ctx); err != nil {
		return err
	}
	if err := d.provide(); err != nil {
		return err
	}
	d.record.Nodes = d.layout.nodes()
	if err := d.save(); err != nil {
		return err
	}
	return overwrite(filepath.Join(d.dir, hostsFile), d.layout.hostsText())
}

// nextAddress returns the next free address of an uplink's subnet after its own, or else
// the first; the zero prefix if there is none.
func (l *layout) nextAddress(u *uplink) netip.Prefix {
	subnet, own := u.address4.Masked(), u.address4.Addr()
	var next netip.Prefix
	for i := 1; i < 1<<16; i++ {
		a, ok := addressAt(subnet, i)
		if !ok {
			break
		}
		if l.holder(a) != "" {
			continue
		}
		if own.Less(a) {
			return netip.PrefixFrom(a, subnet.Bits())
		}
		if !next.IsValid() {
			next = netip.PrefixFrom(a, subnet.Bits())
		}
	}
	return next
}

// holder names what has an address; empty: nothing.
func (l *layout) holder(a netip.Addr) string {
	for _, s := range l.segments {
		if slices.ContainsFunc(s.addresses, func(p netip.Prefix) bool { return p.Addr() == a }) {
			return "core"
		}
	}
	for _, r := range l.routers {
		for _, u := range r.uplinks {
			if hasAddress(u.addresses(), a) {
				return u.place()
			}
		}
	}
	for _, h := range l.hosts {
		if slices.Contains(h.addresses, a) {
			return h.name
		}
	}
	return ""
}

// hostsText is the nodes' /etc/hosts.
func (l *layout) hostsText() []byte {
	var s strings.Builder
	s.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	for _, n := range l.names() {
		fmt.Fprintf(&s, "%s\t%s\n", n.address, n.name)
	}
	return []byte(s.String())
}

// named is an address that has a name.
type named struct {
	address netip.Addr
	name    string
}

// names returns the endpoints' names, and those of all hosts.
func (l *layout) names() []named {
	var out []named
	line := func(a netip.Addr, name string) { out = append(out, named{a, name}) }
	for _, r := range l.routers {
		for i, name := range r.names {
			if len(r.uplinks) == 0 {
				continue
			}
			for _, a := range r.uplinks[min(i, len(r.uplinks)-1)].public() {
				line(a, name)
			}
		}
	}
	for _, r := range l.routers {
		for _, lan := range r.lans {
			for _, p := range lan.host {
				line(p.Addr(), lan.node)
			}
		}
	}
	for _, h := range l.hosts {
		for _, a := range h.addresses {
			line(a, h.name)
		}
	}
	return out
}

// resolverText is the nodes' /etc/resolv.conf. Nobody answers there, so a name that
// stands in no hosts file is unknown at once.
const resolverText = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"

// overwrite changes a file that is mounted elsewhere, and so cannot be replaced.
func overwrite(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(text, 0)
	return errors.Join(err, f.Truncate(int64(len(text))), f.Close())
}
