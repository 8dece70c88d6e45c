package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// link is a network interface as rtnetlink shows it.
type link struct {
	index int
	name  string
	alias string // ifalias
	kind  string // of IFLA_LINKINFO: wireguard, tun, veth…; empty for a physical one
	mtu   int
	up    bool // administratively

	// carrier says that packets can be sent: the device is up, plugged in, and asked to
	// wait by nobody (RFC 2863, ifOperStatus up or unknown).
	carrier bool

	// pointToPoint says that nobody is asked for a neighbour's hardware address: there is but
	// one neighbour, or the device finds it itself.
	pointToPoint bool

	// bareIPv6 says that the kernel gives the interface no link-local address of its own
	// (addrgenmode none).
	bareIPv6 bool
}

// The kinds of link of a WireGuard interface: the kernel's own, and one in user space.
const (
	wireGuardLink = "wireguard"
	tunLink       = "tun"
)

// addrGenNone is IN6_ADDR_GEN_MODE_NONE (linux/if_link.h): no link-local address by itself.
const addrGenNone = 1

// skipStats asks for links without their counters (linux/rtnetlink.h, RTEXT_FILTER_SKIP_STATS).
const skipStats = 1 << 3

// decodeLink reads an RTM_NEWLINK message.
func decodeLink(b []byte) (link, bool) {
	if len(b) < unix.SizeofIfInfomsg {
		return link{}, false
	}
	const ready = unix.IFF_RUNNING | unix.IFF_LOWER_UP
	flags := native.Uint32(b[linkFlagsAt:])
	l := link{index: int(int32(native.Uint32(b[linkIndexAt:]))), up: flags&unix.IFF_UP != 0, carrier: flags&ready == ready,
		pointToPoint: flags&(unix.IFF_POINTOPOINT|unix.IFF_NOARP) != 0}
	attributes(b[unix.SizeofIfInfomsg:], func(kind uint16, v []byte) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.name = text(v)
		case unix.IFLA_IFALIAS:
			l.alias = text(v)
		case unix.IFLA_MTU:
			l.mtu = int(number(v))
		case unix.IFLA_LINKINFO:
			attributes(v, func(kind uint16, v []byte) {
				if kind == unix.IFLA_INFO_KIND {
					l.kind = text(v)
				}
			})
		case unix.IFLA_AF_SPEC:
			l.bareIPv6 = decodeAddrGenMode(v) == addrGenNone
		}
	})
	return l, l.index > 0 && l.name != ""
}

func decodeAddrGenMode(spec []byte) (mode uint8) {
	attributes(spec, func(kind uint16, v []byte) {
		if kind != unix.AF_INET6 {
			return
		}
		attributes(v, func(kind uint16, v []byte) {
			if kind == unix.IFLA_INET6_ADDR_GEN_MODE {
				mode = octet(v)
			}
		})
	})
	return mode
}

// readLinks returns every interface of the namespace.
func (k *Kernel) readLinks() ([]link, error) {
	var w writer
	w.begin(unix.RTM_GETLINK, 0, make([]byte, unix.SizeofIfInfomsg))
	w.uint32(unix.IFLA_EXT_MASK, skipStats)
	links, err := dump(k.route, &w, decodeLink)
	return links, wrap("read interfaces", err)
}

// deviceNames returns the names of links by their indexes.
func deviceNames(links []link) map[int]string {
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.index] = l.name
	}
	return names
}

// errNoDevice says that an interface does not exist.
var errNoDevice = unix.ENODEV

// findLink returns the interface of a name; the error Is errNoDevice where there is none.
func (k *Kernel) findLink(name string) (link, error) {
	var w writer
	w.begin(unix.RTM_GETLINK, 0, make([]byte, unix.SizeofIfInfomsg))
	w.text(unix.IFLA_IFNAME, name)
	w.uint32(unix.IFLA_EXT_MASK, skipStats)
	b, err := k.route.query(&w)
	if err != nil {
		return link{}, err
	}
	l, ok := decodeLink(b)
	if !ok {
		return link{}, errors.New("the kernel's answer is cut short")
	}
	return l, nil
}

// findOurs returns an interface of ours; one that is another's is an error.
func (k *Kernel) findOurs(name string) (link, error) {
	l, err := k.findLink(name)
	if err != nil {
		return link{}, err
	}
	if !k.options.Owner.OwnsInterface(l.observed()) {
		return link{}, fmt.Errorf("the interface is not ours: its alias is %q", l.alias)
	}
	return l, nil
}

// Indexes in the fixed header of a link message (struct ifinfomsg).
const (
	linkIndexAt = 4
	linkFlagsAt = 8
	linkMaskAt  = 12
)

// linkHeader names a link by index, or by the IFLA_IFNAME that follows where it is 0.
func linkHeader(index int) []byte {
	h := make([]byte, unix.SizeofIfInfomsg)
	native.PutUint32(h[linkIndexAt:], uint32(index))
	return h
}

// makeWireGuard makes a WireGuard interface of the kernel's own, with its alias. Both
// messages travel in one datagram, which the kernel works off in one call: whatever happens
// to us, there is never an interface of ours without the alias that says so. (It takes no
// alias in the message that makes the interface: net/core/rtnetlink.c, rtnl_create_link.)
func (k *Kernel) makeWireGuard(name, alias string, mtu int) error {
	var w writer
	w.begin(unix.RTM_NEWLINK, flagsAdd, linkHeader(0))
	w.text(unix.IFLA_IFNAME, name)
	if mtu != 0 {
		w.uint32(unix.IFLA_MTU, uint32(mtu))
	}
	end := w.nest(unix.IFLA_LINKINFO)
	w.text(unix.IFLA_INFO_KIND, wireGuardLink)
	end()
	w.begin(unix.RTM_SETLINK, 0, linkHeader(0))
	w.text(unix.IFLA_IFNAME, name)
	w.bytes(unix.IFLA_IFALIAS, []byte(alias))
	outcomes, _, err := k.route.execute(&w)
	if err != nil || outcomes[0] != nil {
		return errors.Join(err, first(outcomes))
	}
	if outcomes[1] != nil {
		return errors.Join(wrap("set alias", outcomes[1]), k.deleteLink(name))
	}
	return nil
}

// kernelHasWireGuard asks for a WireGuard interface with an MTU that no interface can
// have. A kernel that has WireGuard refuses the MTU, before it makes anything
// (net/core/dev.c, dev_validate_mtu); one that has not does not know the kind.
func kernelHasWireGuard(s *socket) (bool, error) {
	var w writer
	w.begin(unix.RTM_NEWLINK, flagsAdd, linkHeader(0))
	w.text(unix.IFLA_IFNAME, "tombolo-probe")
	w.uint32(unix.IFLA_MTU, 1<<32-1)
	end := w.nest(unix.IFLA_LINKINFO)
	w.text(unix.IFLA_INFO_KIND, wireGuardLink)
	end()
	outcomes, _, err := s.execute(&w)
	if err == nil {
		err = first(outcomes)
	}
	switch {
	case err == nil:
		panic("kernel: an interface with an MTU of 4294967295 bytes was made")
	case errors.Is(err, unix.EINVAL):
		return true, nil
	case errors.Is(err, unix.EOPNOTSUPP):
		return false, nil
	}
	return false, fmt.Errorf("ask for WireGuard: %w", err)
}

// setAlias names an interface as ours.
func (k *Kernel) setAlias(index int, alias string) error {
	return k.setLink(index, "set alias", func(w *writer) { w.bytes(unix.IFLA_IFALIAS, []byte(alias)) })
}

func (k *Kernel) setMTU(index, mtu int) error {
	return k.setLink(index, fmt.Sprintf("set MTU %d", mtu), func(w *writer) { w.uint32(unix.IFLA_MTU, uint32(mtu)) })
}

// setBareIPv6 keeps the kernel from giving the interface a link-local address. An
// interface or a kernel without IPv6 needs no such thing.
func (k *Kernel) setBareIPv6(index int) error {
	err := k.setLink(index, "set addrgenmode none", func(w *writer) {
		end := w.nest(unix.IFLA_AF_SPEC)
		endInet6 := w.nest(unix.AF_INET6)
		w.uint8(unix.IFLA_INET6_ADDR_GEN_MODE, addrGenNone)
		endInet6()
		end()
	})
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// setUp brings an interface up, or takes it down.
func (k *Kernel) setUp(index int, up bool) error {
	h := linkHeader(index)
	what := "take the interface down"
	if up {
		what = "bring the interface up"
		native.PutUint32(h[linkFlagsAt:], unix.IFF_UP)
	}
	native.PutUint32(h[linkMaskAt:], unix.IFF_UP)
	var w writer
	w.begin(unix.RTM_SETLINK, 0, h)
	return wrap(what, k.request(&w))
}

func (k *Kernel) setLink(index int, what string, attributes func(*writer)) error {
	var w writer
	w.begin(unix.RTM_SETLINK, 0, linkHeader(index))
	attributes(&w)
	return wrap(what, k.request(&w))
}

func (k *Kernel) deleteLink(name string) error {
	var w writer
	w.begin(unix.RTM_DELLINK, 0, linkHeader(0))
	w.text(unix.IFLA_IFNAME, name)
	return wrap("remove the interface", k.request(&w))
}

// request sends the messages of w and returns the first refusal.
func (k *Kernel) request(w *writer) error {
	outcomes, _, err := k.route.execute(w)
	if err != nil {
		return err
	}
	return first(outcomes)
}

// first returns the first error of outcomes.
func first(outcomes []error) error {
	for _, err := range outcomes {
		if err != nil {
			return err
		}
	}
	return nil
}
