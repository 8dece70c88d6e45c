package kernel

import (
	"errors"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"tombolo/internal/state"
)

// Tunnel is how a WireGuard interface of ours fares.
type Tunnel struct {
	Embedded bool         // its process is ours and not the kernel
	Peers    []state.Peer // without names and preshared keys, in no particular order
}

// Tunnels returns the WireGuard interfaces of ours that have one of the names. It looks at
// nothing else, so that it may be called every second. One that is not there, or not ours,
// is left out.
func (k *Kernel) Tunnels(names []string) (map[string]Tunnel, error) {
	if err := k.here(); err != nil {
		return nil, err
	}
	out := map[string]Tunnel{}
	for _, name := range names {
		l, err := k.findLink(name)
		if errors.Is(err, errNoDevice) {
			continue
		}
		if err != nil {
			return nil, wrap("read interface "+name, err)
		}
		if !k.options.Owner.OwnsInterface(l.observed()) {
			continue
		}
		d, err := k.device(l)
		if err != nil {
			return nil, wrap("read WireGuard of "+name, err)
		}
		if d == nil {
			continue
		}
		t := Tunnel{Embedded: l.kind != wireGuardLink}
		for _, p := range d.Peers {
			p.PresharedKey = wgtypes.Key{} // no file is opened to find its name
			t.Peers = append(t.Peers, observedPeer(p, &keyNames{}, nil))
		}
		out[name] = t
	}
	return out, nil
}
