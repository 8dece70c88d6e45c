package agent

import (
	"net/netip"

	"tombolo/internal/babel"
	"tombolo/internal/babel/mac"
	"tombolo/internal/kernel"
	"tombolo/internal/state"
)

// newConfig makes the speaker's configuration of what is applied and what was seen.
func (h *host) newConfig() (babel.Config, error) {
	b := h.wanted.Router.Babel
	c := babel.Config{RouterID: h.id, Seqno: h.seqno, Accept: babel.Policy{Exact: map[babel.Key][]uint32{}}}
	for _, l := range b.Links {
		link := babel.Link{
			Name: l.Device, Tunnel: l.Tunnel, Foreign: l.Foreign, Only: l.Only,
			Cost: uint16(min(max(10*l.Cost, 1), 0xfffe)), NextHop4: b.PrefSrc4,
		}
		link.Address, link.MTU = linkLocalOf(h.wanted.Router, l.Device)
		if !l.Tunnel {
			ofSegment(&link, h.seen.devices[l.Device])
		}
		if l.Key != "" {
			k, err := h.machine.MAC(h.wanted.Keys, l.Key)
			if err != nil {
				return c, err
			}
			link.Keys = mac.Keys{k}
		}
		c.Links = append(c.Links, link)
	}
	for _, a := range b.Accept {
		if a.Mobile {
			if c.Accept.Mobile == nil {
				c.Accept.Mobile = map[babel.Key]bool{}
			}
			c.Accept.Mobile[babel.Key{Dst: a.Dst, Src: a.Src}] = true
		}
		if a.Within {
			c.Accept.Within = append(c.Accept.Within, a.Dst)
		} else {
			c.Accept.Exact[babel.Key{Dst: a.Dst, Src: a.Src}] = a.Origins
		}
	}
	for _, e := range b.Exits {
		if e.Local { // it leaves here
			if c.Otherwise == nil {
				c.Otherwise = map[babel.Key]bool{}
			}
			c.Otherwise[babel.Key{Dst: everywhere(e.Src), Src: e.Src}] = true
		}
	}
	return c, nil
}

// everywhere is the default destination of a source's family.
func everywhere(src netip.Prefix) netip.Prefix {
	if src.Addr().Is6() {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// linkLocalOf returns the link-local address and the MTU of an interface of ours.
func linkLocalOf(r state.Router, device string) (netip.Addr, int) {
	for _, f := range r.Interfaces {
		if f.Name != device {
			continue
		}
		for _, p := range f.Addresses {
			if p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
				return p.Addr(), f.MTU
			}
		}
		return netip.Addr{}, f.MTU
	}
	return netip.Addr{}, 0
}

// ofSegment takes what a segment's device has, which the kernel or another program gave it.
func ofSegment(l *babel.Link, d kernel.Device) {
	l.MTU, l.NextHop4 = d.MTU, netip.Addr{}
	for _, p := range d.Addresses {
		switch a := p.Addr(); {
		case a.Is4() && !l.NextHop4.IsValid():
			l.NextHop4 = a
		case a.Is6() && a.IsLinkLocalUnicast() && !l.Address.IsValid():
			l.Address = a
		}
	}
}
