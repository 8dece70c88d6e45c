package kernel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"tombolo/internal/key"
	"tombolo/internal/state"
)

// observed returns the interface without its addresses and its WireGuard device.
func (l link) observed() state.Interface {
	kind := state.InterfaceKind(l.kind)
	if kind == "" {
		kind = "device"
	}
	return state.Interface{Name: l.name, Kind: kind, Alias: l.alias, MTU: l.mtu, Down: !l.up}
}

// readInterfaces returns, out of links, our interfaces and those of others that have a
// name or a WireGuard port which want uses.
func (k *Kernel) readInterfaces(links []link, want state.Router) ([]state.Interface, error) {
	wanted, ports := map[string]*state.Interface{}, map[uint16]bool{}
	for i := range want.Interfaces {
		wanted[want.Interfaces[i].Name] = &want.Interfaces[i]
		ports[wireGuard(want.Interfaces[i]).ListenPort] = true
	}
	names := keyNames{store: k.options.Store}
	ours, linkOf := map[int]*state.Interface{}, map[int]link{}
	var out []*state.Interface
	for _, l := range links {
		i := l.observed()
		if k.options.Owner.OwnsInterface(i) {
			if err := k.readWireGuard(&i, l, wanted[l.name], &names); err != nil {
				return nil, fmt.Errorf("read interface %s: %w", l.name, err)
			}
			out = append(out, &i)
			ours[l.index], linkOf[l.index] = &i, l
			continue
		}
		i.Down = false // theirs to take down
		if l.kind == wireGuardLink {
			// Not readable is as good as not there: the kernel will say so.
			if d, err := k.device(l); err == nil && d != nil {
				i.WireGuard = &state.WireGuard{PublicKey: key.Public(d.PublicKey), ListenPort: uint16(d.ListenPort)}
			}
		}
		if port := wireGuard(i).ListenPort; wanted[l.name] != nil || port != 0 && ports[port] {
			out = append(out, &i)
		}
	}
	if err := k.readAddresses(ours, linkOf, want); err != nil {
		return nil, err
	}
	var values []state.Interface
	for _, i := range out {
		values = append(values, *i)
	}
	return values, nil
}

// addInterface makes an interface, sets it up and brings it up. If it cannot be finished
// it is gone again.
func (a *application) addInterface(ctx context.Context, i state.Interface) error {
	if i.Kind != state.WireGuardKind || i.WireGuard == nil {
		return fmt.Errorf("this version makes WireGuard interfaces, and none of kind %q", i.Kind)
	}
	if _, err := a.findLink(i.Name); !errors.Is(err, errNoDevice) {
		if err != nil {
			return err
		}
		return errors.New("an interface of that name is there already")
	}
	if err := a.makeDevice(ctx, i); err != nil {
		return err
	}
	if err := a.finishInterface(i); err != nil {
		return errors.Join(err, a.removeDevice(context.WithoutCancel(ctx), i.Name))
	}
	return nil
}

// makeDevice makes the interface with its alias and nothing else.
func (a *application) makeDevice(ctx context.Context, i state.Interface) error {
	if !a.options.ForceEmbedded {
		err := a.makeWireGuard(i.Name, i.Alias, i.MTU)
		if !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
	}
	if a.options.Embedded == nil {
		return errors.New("this kernel has no WireGuard, and no embedded one was given")
	}
	// The embedded device would only log that its port is taken.
	if err := portFree(i.WireGuard.ListenPort); err != nil {
		return err
	}
	if err := a.options.Embedded.Add(ctx, i.Name, i.MTU); err != nil {
		return fmt.Errorf("embedded WireGuard: %w", err)
	}
	l, err := a.findLink(i.Name)
	if err != nil {
		err = fmt.Errorf("embedded WireGuard made no interface: %w", err)
	} else {
		err = a.setAlias(l.index, i.Alias)
	}
	if err != nil {
		return errors.Join(err, a.options.Embedded.Remove(context.WithoutCancel(ctx), i.Name))
	}
	return nil
}

// finishInterface sets up an interface that was just made.
func (a *application) finishInterface(i state.Interface) error {
	l, err := a.findLink(i.Name)
	if err != nil {
		return err
	}
	if err := a.setBareIPv6(l.index); err != nil {
		return err
	}
	if i.MTU != 0 && l.mtu != i.MTU {
		if err := a.setMTU(l.index, i.MTU); err != nil {
			return err
		}
	}
	if err := a.setDevice(l, state.WireGuard{}, *i.WireGuard); err != nil {
		return err
	}
	if i.Down {
		return nil
	}
	return portInUse(a.setUp(l.index, true), i.WireGuard.ListenPort)
}

// portInUse says which port it was that was taken: the kernel binds it when the interface
// comes up.
func portInUse(err error, port uint16) error {
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("UDP port %d is in use by another program: %w", port, unix.EADDRINUSE)
	}
	return err
}

// changeInterface makes an interface of ours what it is to be. Addresses and peers are
// operations of their own. changed reports whether something may have changed.
func (a *application) changeInterface(before, i state.Interface) (changed bool, err error) {
	l, err := a.findOurs(i.Name)
	if err != nil {
		return false, err
	}
	if l.alias != i.Alias {
		if err := a.setAlias(l.index, i.Alias); err != nil {
			return true, err
		}
	}
	if i.MTU != 0 && l.mtu != i.MTU {
		if err := a.setMTU(l.index, i.MTU); err != nil {
			return true, err
		}
	}
	had, want := wireGuard(before), wireGuard(i)
	if err := a.setDevice(l, had, want); err != nil {
		return true, err
	}
	if l.up == i.Down {
		err = portInUse(a.setUp(l.index, !i.Down), want.ListenPort)
	}
	return true, err
}

// wireGuard returns an interface's WireGuard device; for one that has none, an empty one.
func wireGuard(i state.Interface) state.WireGuard {
	if i.WireGuard == nil {
		return state.WireGuard{}
	}
	return *i.WireGuard
}

// removeInterface removes an interface of ours.
func (a *application) removeInterface(ctx context.Context, i state.Interface) error {
	if _, err := a.findOurs(i.Name); err != nil {
		return err
	}
	if err := a.removeDevice(ctx, i.Name); err != nil {
		return err
	}
	return a.originals.forgetDevice(i.Name)
}

// removeDevice takes an interface away, through whoever made it.
func (a *application) removeDevice(ctx context.Context, name string) error {
	l, err := a.findLink(name)
	if errors.Is(err, errNoDevice) {
		return nil
	}
	if err != nil {
		return err
	}
	if l.kind != tunLink || a.options.Embedded == nil {
		return a.deleteLink(name)
	}
	if err := a.options.Embedded.Remove(ctx, name); err != nil {
		return fmt.Errorf("embedded WireGuard: %w", err)
	}
	return a.awaitGone(ctx, name)
}

// goneWithin is how long an embedded device may take to let go of its interface, and
// goneEvery how often that is looked at.
const (
	goneWithin = 5 * time.Second
	goneEvery  = 5 * time.Millisecond
)

// awaitGone returns when no interface has the name. The kernel takes a TUN away when the
// last file that holds it is closed, which may be after Remove.
func (a *application) awaitGone(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, goneWithin)
	defer cancel()
	for {
		if _, err := a.findLink(name); errors.Is(err, errNoDevice) {
			return nil
		} else if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the embedded WireGuard was told to remove the interface, and it is still there: %w", ctx.Err())
		case <-time.After(goneEvery):
		}
	}
}

// portFree reports, as an error, that another program has a UDP port.
func portFree(port uint16) error {
	if port == 0 {
		return nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open UDP socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	return portInUse(unix.Bind(fd, &unix.SockaddrInet4{Port: int(port)}), port)
}
