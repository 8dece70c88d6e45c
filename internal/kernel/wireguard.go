package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"tombolo/internal/key"
	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// control returns the client for WireGuard devices of a kind of link. One that was opened
// before the kernel loaded its WireGuard module cannot speak to it, so it is opened anew
// at the first such device.
func (k *Kernel) control(linkKind string) (*wgctrl.Client, error) {
	if k.wg != nil && (linkKind != wireGuardLink || k.wgKernel) {
		return k.wg, nil
	}
	c, err := wgctrl.New()
	if err != nil {
		return nil, fmt.Errorf("open WireGuard control: %w", err)
	}
	if k.wg != nil {
		_ = k.wg.Close()
	}
	k.wg, k.wgKernel = c, linkKind == wireGuardLink
	return c, nil
}

// device reads a WireGuard device; nil where the interface is none, or nobody serves it
// any more.
func (k *Kernel) device(l link) (*wgtypes.Device, error) {
	c, err := k.control(l.kind)
	if err != nil {
		return nil, err
	}
	d, err := c.Device(l.name)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, nil
	}
	return d, err
}

// configure changes a WireGuard device.
func (k *Kernel) configure(l link, c wgtypes.Config) error {
	client, err := k.control(l.kind)
	if err != nil {
		return err
	}
	err = client.ConfigureDevice(l.name, c)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is no WireGuard interface, or its process is gone", l.name)
	}
	return uapiError(err)
}

// uapiError turns the number by which a device in user space says no ("wguser: errno=-98")
// into the error that it stands for.
func uapiError(err error) error {
	if err == nil {
		return nil
	}
	_, number, found := strings.Cut(err.Error(), "errno=")
	n, parseErr := strconv.Atoi(number)
	if !found || parseErr != nil {
		return err
	}
	return syscall.Errno(max(n, -n))
}

// readWireGuard fills in the WireGuard device of an interface of ours. want is the wanted
// interface of that name, or nil.
func (k *Kernel) readWireGuard(i *state.Interface, l link, want *state.Interface, names *keyNames) error {
	d, err := k.device(l)
	if err != nil || d == nil {
		return err
	}
	i.Kind = state.WireGuardKind
	var wanted state.WireGuard
	if want != nil && want.WireGuard != nil {
		wanted = *want.WireGuard
	}
	i.WireGuard = &state.WireGuard{
		PrivateKey: names.private(key.PrivateFrom(d.PrivateKey), wanted.PrivateKey),
		ListenPort: uint16(d.ListenPort),
		FwMark:     uint32(d.FirewallMark),
	}
	if d.PrivateKey != (wgtypes.Key{}) {
		i.WireGuard.PublicKey = key.Public(d.PublicKey)
	}
	presharedOf := map[key.Public]key.Ref{}
	for _, p := range wanted.Peers {
		presharedOf[p.PublicKey] = p.Preshared
	}
	for _, p := range d.Peers {
		i.WireGuard.Peers = append(i.WireGuard.Peers, observedPeer(p, names, presharedOf))
	}
	return nil
}

func observedPeer(p wgtypes.Peer, names *keyNames, wanted map[key.Public]key.Ref) state.Peer {
	out := state.Peer{
		PublicKey: key.Public(p.PublicKey),
		Preshared: names.preshared(key.PresharedFrom(p.PresharedKey), wanted[key.Public(p.PublicKey)]),
		Keepalive: int(p.PersistentKeepaliveInterval / time.Second),
	}
	if p.Endpoint != nil {
		ap := p.Endpoint.AddrPort()
		out.Addresses = []netip.AddrPort{netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())}
	}
	for _, n := range p.AllowedIPs {
		a, _ := netip.AddrFromSlice(n.IP)
		bits, size := n.Mask.Size()
		if size == 32 {
			a = a.Unmap()
		}
		out.AllowedIPs = append(out.AllowedIPs, netip.PrefixFrom(a, bits))
	}
	if !p.LastHandshakeTime.IsZero() {
		out.Handshake = max(p.LastHandshakeTime.Unix(), 0)
	}
	out.Sent, out.Received = uint64(p.TransmitBytes), uint64(p.ReceiveBytes)
	return out
}

// setDevice changes key, port and mark of a WireGuard device from what they were; a zero
// had sets all of them.
func (a *application) setDevice(l link, had, want state.WireGuard) error {
	var c wgtypes.Config
	// Two names of one key are no change.
	if want.PublicKey != had.PublicKey || want.PublicKey.IsZero() && want.PrivateKey != had.PrivateKey {
		p, err := a.private(want)
		if err != nil {
			return err
		}
		b := wgtypes.Key(p.Reveal())
		c.PrivateKey = &b
	}
	if want.ListenPort != had.ListenPort { // 0: whichever is free
		port := int(want.ListenPort)
		c.ListenPort = &port
	}
	if want.FwMark != had.FwMark {
		mark := int(want.FwMark)
		c.FirewallMark = &mark
	}
	if c.PrivateKey == nil && c.ListenPort == nil && c.FirewallMark == nil {
		return nil
	}
	return portInUse(wrap("configure WireGuard", a.configure(l, c)), want.ListenPort)
}

// addPeer adds a peer. Like changePeer and removePeer it touches no other peer, and
// reports whether something may have changed.
func (a *application) addPeer(p plan.Peer) (changed bool, err error) {
	c := peerConfig(p.Peer)
	c.ReplaceAllowedIPs = true
	if p.Preshared != "" {
		if err := a.putPreshared(&c, p); err != nil {
			return false, err
		}
	}
	if len(p.Addresses) > 0 {
		c.Endpoint = net.UDPAddrFromAddrPort(p.Addresses[0])
	}
	keepalive := time.Duration(p.Keepalive) * time.Second
	c.PersistentKeepaliveInterval = &keepalive
	return a.setPeer(p, c)
}

func (a *application) changePeer(before, p plan.Peer) (changed bool, err error) {
	c := peerConfig(p.Peer)
	c.UpdateOnly = true
	c.ReplaceAllowedIPs = true
	if p.Preshared != before.Preshared {
		if err := a.putPreshared(&c, p); err != nil {
			return false, err
		}
	}
	// An endpoint that does not change is not set again: the peer may have roamed since.
	if len(p.Addresses) > 0 && !slices.Equal(p.Addresses, before.Addresses) {
		c.Endpoint = net.UDPAddrFromAddrPort(p.Addresses[0])
	}
	if p.Keepalive != before.Keepalive {
		keepalive := time.Duration(p.Keepalive) * time.Second
		c.PersistentKeepaliveInterval = &keepalive
	}
	return a.setPeer(p, c)
}

func (a *application) removePeer(p plan.Peer) (changed bool, err error) {
	return a.setPeer(p, wgtypes.PeerConfig{PublicKey: wgtypes.Key(p.PublicKey), Remove: true})
}

func (a *application) setPeer(p plan.Peer, c wgtypes.PeerConfig) (changed bool, err error) {
	if p.PublicKey.IsZero() {
		return false, errors.New("the peer's public key is not known")
	}
	l, err := a.findOurs(p.Interface)
	if err != nil {
		return false, err
	}
	return true, a.configure(l, wgtypes.Config{Peers: []wgtypes.PeerConfig{c}})
}

// putPreshared sets the preshared key; an empty Ref takes it away.
func (a *application) putPreshared(c *wgtypes.PeerConfig, p plan.Peer) error {
	var b wgtypes.Key
	if p.Preshared != "" {
		k, err := a.preshared(p)
		if err != nil {
			return err
		}
		b = wgtypes.Key(k.Reveal())
	}
	c.PresharedKey = &b
	return nil
}

func peerConfig(p state.Peer) wgtypes.PeerConfig {
	c := wgtypes.PeerConfig{PublicKey: wgtypes.Key(p.PublicKey)}
	for _, ip := range p.AllowedIPs {
		c.AllowedIPs = append(c.AllowedIPs, net.IPNet{
			IP: ip.Masked().Addr().AsSlice(), Mask: net.CIDRMask(ip.Bits(), ip.Addr().BitLen()),
		})
	}
	return c
}
