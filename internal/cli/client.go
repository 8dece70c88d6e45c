package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tombolo/internal/enroll"
	"tombolo/internal/key"
	"tombolo/internal/spec"
)

func (a *app) clientCommand() *cobra.Command {
	var keys string
	c := &cobra.Command{
		Use:   "client",
		Short: "Let roaming devices in: phones, laptops, whatever runs stock WireGuard",
		Long: `Let roaming devices in, and out again: phones, laptops, whatever runs stock WireGuard.
The device stands in the network file under "clients:", which these commands edit; comments
and layout stay. FILE is network.yaml where it lies here, else /etc/tombolo/network.yaml.

Every router needs the file as it then is. The doors, the sites in at:, also share the
access key: docs/clients.md.`,
	}
	c.PersistentFlags().StringVar(&keys, "keys", "", "folder of the key files (default: keys/ beside FILE, else /etc/tombolo)")
	_ = c.MarkPersistentFlagDirname("keys")
	c.AddCommand(a.clientAddCommand(&keys), a.clientListCommand(), a.clientShowCommand(&keys), a.clientRekeyCommand(&keys), a.clientRemoveCommand(&keys))
	return c
}

// handout says how a device gets its configuration, and by which doors.
type handout struct {
	doors          []string
	conf, png, svg string // files; with several doors each with the door's name in it
	qr             bool   // a QR code also where standard output is no terminal
}

func (h *handout) flags(a *app, c *cobra.Command) {
	c.Flags().StringSliceVar(&h.doors, "door", nil, "the sites to enter by, a configuration for each (default: the first in at: that can be dialled)")
	c.Flags().StringVar(&h.conf, "conf", "", "write the configuration into this file too (mode 0600)")
	c.Flags().StringVar(&h.png, "png", "", "write the QR code into this file as PNG")
	c.Flags().StringVar(&h.svg, "svg", "", "write the QR code into this file as SVG")
	c.Flags().BoolVar(&h.qr, "qr", false, "print the QR code also where standard output is no terminal")
	_ = c.RegisterFlagCompletionFunc("door", a.completeDoor)
}

// newKey says where a device's new key comes from, and whether its private half stays here.
type newKey struct {
	public string
	keep   bool
}

func (k *newKey) flags(c *cobra.Command) {
	c.Flags().StringVar(&k.public, "key", "", "the public key of a device that made its own key pair")
	c.Flags().BoolVar(&k.keep, "keep", false, "keep the private key in the key folder, as NAME.key")
}

// check reads the public key, if there is one.
func (k *newKey) check() (key.Public, error) {
	if k.public == "" {
		return key.Public{}, nil
	}
	p, err := key.ParsePublic(k.public)
	switch {
	case err != nil:
		return p, fmt.Errorf("--key: %w", err)
	case p.IsZero():
		return p, errors.New("--key: a key of zeros is nobody's")
	case k.keep:
		return p, errors.New("--keep: only the device has the private key that belongs to --key")
	}
	return p, nil
}

func (a *app) clientAddCommand(keys *string) *cobra.Command {
	var h handout
	var k newKey
	var address string
	var full bool
	var dns []string
	c := &cobra.Command{
		Use:   "add NAME [FILE]",
		Short: "Add a device, and print its configuration",
		Long: `Add a device to the network file, or complete one that stands there without a key, and
print the configuration that the device needs; on a terminal as a QR code too, which the
WireGuard app reads. The private key is shown this once and stored nowhere, unless --keep.

The first device also makes the access key, clients.key in the key folder.`,
		Example: "  tombolo client add phone\n  tombolo client add laptop --door op1,op2 --conf laptop.conf --full --dns 192.168.35.1",
		Args:    cobra.RangeArgs(1, 2), ValidArgsFunction: a.completeDevice,
		RunE: func(_ *cobra.Command, args []string) error {
			public, err := k.check()
			if err != nil {
				return err
			}
			d := enroll.Device{Key: public, Full: full}
			if address != "" {
				if d.Address, err = netip.ParseAddr(address); err != nil {
					return fmt.Errorf("--address: %q is no address", address)
				}
			}
			for _, text := range dns {
				resolver, err := netip.ParseAddr(text)
				if err != nil {
					return fmt.Errorf("--dns: %q is no address", text)
				}
				d.DNS = append(d.DNS, resolver)
			}
			r, err := a.openRoster(args, *keys)
			if err != nil {
				return err
			}
			if d, err = r.newcomer(args[0], d); err != nil {
				return err
			}
			return a.enrol(r, args[0], d, k.keep, h, "added")
		},
	}
	h.flags(a, c)
	k.flags(c)
	c.Flags().StringVar(&address, "address", "", "its address in the pool (default: one that follows from its name)")
	c.Flags().BoolVar(&full, "full", false, "send all its traffic into the network, not only what goes to the sites")
	c.Flags().StringSliceVar(&dns, "dns", nil, "the resolvers that it asks")
	return c
}

// newcomer looks whether a device can be added as asked, and gives it an address where its
// name's is taken.
func (r *roster) newcomer(name string, d enroll.Device) (enroll.Device, error) {
	is := r.device(name)
	switch {
	case is == nil && !d.Address.IsValid():
		d.Address = enroll.FreeAddress(r.Network, name)
	case is == nil:
	case !is.Key.IsZero():
		return d, hinted{fmt.Errorf("device %q is in %s already, with key %s", name, r.path, is.Key), fmt.Sprintf("tombolo client rekey %s gives it a new key, tombolo client show %s shows its configuration", name, name)}
	case d.Address.IsValid() && d.Address != is.Address:
		return d, hinted{fmt.Errorf("device %q has address %s already", name, is.Address), "an address is for life; to change it all the same, edit the file"}
	case d.Address.IsValid():
		d.Address = netip.Addr{} // as it stands there, or as its name's hash
	}
	return d, nil
}

func (a *app) clientRekeyCommand(keys *string) *cobra.Command {
	var h handout
	var k newKey
	c := &cobra.Command{
		Use:   "rekey NAME [FILE]",
		Short: "Give a device a new key, and print its new configuration",
		Long: `Give a device a new key in the network file, and print its new configuration. The old one
stops to work at each door within seconds of the file's change there. Do this where a device
was lost or its configuration seen by others.`,
		Args: cobra.RangeArgs(1, 2), ValidArgsFunction: a.completeDevice,
		RunE: func(_ *cobra.Command, args []string) error {
			public, err := k.check()
			if err != nil {
				return err
			}
			r, err := a.openRoster(args, *keys)
			if err != nil {
				return err
			}
			d, err := r.named(args[0])
			if err != nil {
				return err
			}
			if d.Key.IsZero() {
				return hinted{fmt.Errorf("device %q has no key yet", d.Name), "tombolo client add " + d.Name}
			}
			if public == d.Key {
				return fmt.Errorf("device %q has that key already", d.Name)
			}
			return a.enrol(r, d.Name, enroll.Device{Key: public}, k.keep, h, "has a new key")
		},
	}
	h.flags(a, c)
	k.flags(c)
	return c
}

// enrol gives a device a key, unless it made its own, writes it into the file, and hands its
// configuration out.
func (a *app) enrol(r *roster, name string, d enroll.Device, keep bool, h handout, what string) error {
	before := r.device(name)
	ownKey := !d.Key.IsZero() // of which only the device has the private half
	private, lies, err := r.privateFor(name, &d)
	if err != nil {
		return err
	}
	keep = keep || lies
	if err := h.forCodes(name, private); err != nil {
		return err
	}
	old := r.text
	if err := r.edit(func(text []byte) ([]byte, error) { return enroll.Set(text, name, d) }); err != nil {
		return err
	}
	// Before the access key is made: a mistake in --door leaves nothing behind.
	if _, err := r.configs(r.device(name), h.doors); err != nil {
		return err
	}
	if err := a.shareAccess(r); err != nil {
		return err
	}
	configs, err := r.configs(r.device(name), h.doors)
	if err != nil {
		return err
	}
	given := enroll.Device{Given: digests(configs)}
	if err := r.edit(func(text []byte) ([]byte, error) { return enroll.Set(text, name, given) }); err != nil {
		return err
	}
	stock, err := h.stage(configs, private)
	if err != nil {
		return err
	}
	defer stock.drop()
	if err := replaceFile(r.path, old, r.text); err != nil {
		return err
	}
	// From here on the key must reach somebody, whatever else fails.
	var keepErr error
	switch {
	case keep:
		_, keepErr = r.store.Put(key.Ref(name), private, true)
	case before != nil && r.kept(before):
		keepErr = r.store.Remove(key.Ref(name)) // its public half stands nowhere now
	}
	a.say("%s: device %q %s: %s, %s", r.path, name, what, r.device(name).Address, r.device(name).Address6)
	a.say("put the file on every router; the device can then enter by %s", strings.Join(doorNames(configs), " or "))
	err = errors.Join(a.handOut(r, r.device(name), configs, private, h, stock), keepErr)
	switch {
	case ownKey || err != nil:
	case keep:
		a.say("the private key is kept in %s", r.keyFile(name))
	default:
		a.say("the private key is shown this once, and stored nowhere")
	}
	return err
}

func (a *app) clientShowCommand(keys *string) *cobra.Command {
	var h handout
	var given bool
	c := &cobra.Command{
		Use:   "show NAME [FILE]",
		Short: "Print the configuration of a device",
		Long: `Print the configuration that a device would be given now, with a placeholder where its
private key is not kept here. With --given the file says from then on that the device has
this one: for a configuration that was brought up to date by hand.`,
		Args: cobra.RangeArgs(1, 2), ValidArgsFunction: a.completeDevice,
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := a.openRoster(args, *keys)
			if err != nil {
				return err
			}
			d, err := r.named(args[0])
			if err != nil {
				return err
			}
			if d.Key.IsZero() || r.Clients.Key.IsZero() {
				what := fmt.Errorf("device %q has no key yet", d.Name)
				if !d.Key.IsZero() {
					what = fmt.Errorf("%s has no `key:` in `clients:` yet, the access key of the doors", r.path)
				}
				return hinted{what, "tombolo client add " + d.Name}
			}
			return a.showClient(r, d, given, h)
		},
	}
	h.flags(a, c)
	c.Flags().BoolVar(&given, "given", false, "note in the file that the device has this configuration")
	return c
}

func (a *app) showClient(r *roster, d *spec.Device, given bool, h handout) error {
	configs, err := r.configs(d, h.doors)
	if err != nil {
		return err
	}
	var private key.Private
	if r.kept(d) {
		if private, err = r.store.Private(key.Ref(d.Name)); err != nil {
			return err
		}
	}
	if err := h.forCodes(d.Name, private); err != nil {
		return err
	}
	if given {
		noted := enroll.Device{Given: digests(configs)}
		if err := r.change(func(text []byte) ([]byte, error) { return enroll.Set(text, d.Name, noted) }); err != nil {
			return err
		}
		d = r.device(d.Name)
	}
	stock, err := h.stage(configs, private)
	if err != nil {
		return err
	}
	defer stock.drop()
	if err := a.handOut(r, d, configs, private, h, stock); err != nil {
		return err
	}
	if enroll.Outdated(r.Network, d) {
		a.say("warning: the device has an older configuration than this one; once it has this one: tombolo client show %s --given", d.Name)
	}
	return nil
}

func (a *app) clientRemoveCommand(keys *string) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME [FILE]",
		Short: "Remove a device",
		Long: `Remove a device from the network file. It is cut off at each door within seconds of the
file's change there. Its private key, where it was kept, is removed too.`,
		Args: cobra.RangeArgs(1, 2), ValidArgsFunction: a.completeDevice,
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := a.openRoster(args, *keys)
			if err != nil {
				return err
			}
			d, err := r.named(args[0])
			if err != nil {
				return err
			}
			for _, e := range r.Exits {
				if slices.Contains(e.For, d.Name) {
					return hinted{fmt.Errorf("device %q is named in the exit in line %d of %s", d.Name, e.Pos.Line, r.path), "take it out there first"}
				}
			}
			kept := r.kept(d)
			if err := r.change(func(text []byte) ([]byte, error) { return enroll.Remove(text, d.Name) }); err != nil {
				return err
			}
			if kept {
				if err := r.store.Remove(key.Ref(d.Name)); err != nil {
					return err
				}
			}
			a.say("%s: device %q is removed; put the file on every router", r.path, d.Name)
			return a.done(map[string]any{"removed": d.Name, "file": r.path})
		},
	}
}
