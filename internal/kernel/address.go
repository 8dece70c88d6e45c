package kernel

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"tombolo/internal/state"
)

// sizeofIfAddrmsg is sizeof(struct ifaddrmsg).
const sizeofIfAddrmsg = 8

// Attributes that golang.org/x/sys does not name (linux/if_addr.h).
const (
	addressProtocol = 11 // IFA_PROTO, Linux 5.18
	protocolLL      = 3  // IFAPROT_KERNEL_LL: a link-local address that the kernel made
)

// encodeAddress adds an RTM_NEWADDR or RTM_DELADDR message. New IPv6 addresses skip
// duplicate address detection: on a tunnel between two routers nobody else answers, and
// an address that is still tentative cannot be a route's preferred source.
func encodeAddress(w *writer, kind, flags uint16, p netip.Prefix, index int) {
	h := make([]byte, sizeofIfAddrmsg)
	h[0], h[1] = family(p.Addr().Is6()), uint8(p.Bits())
	native.PutUint32(h[4:], uint32(index))
	w.begin(kind, flags, h)
	w.addr(unix.IFA_LOCAL, p.Addr())
	w.addr(unix.IFA_ADDRESS, p.Addr())
	if kind == unix.RTM_NEWADDR && p.Addr().Is6() {
		flags := uint32(unix.IFA_F_NODAD)
		if p.IsSingleIP() {
			flags |= unix.IFA_F_NOPREFIXROUTE // as IPv4 has none for a /32
		}
		w.uint32(unix.IFA_FLAGS, flags)
	}
}

// address is an address of an interface.
type address struct {
	index  int
	prefix netip.Prefix // not masked
	kernel bool         // the kernel made it by itself, and says so

	// narrow says that the address means something on the device or the machine alone.
	narrow bool

	// unusable says that duplicate address detection has not ended, or not well.
	unusable bool
}

// decodeAddress reads an RTM_NEWADDR message.
func decodeAddress(b []byte) (address, bool) {
	if len(b) < sizeofIfAddrmsg || b[0] != unix.AF_INET && b[0] != unix.AF_INET6 {
		return address{}, false
	}
	six := b[0] == unix.AF_INET6
	a := address{index: int(int32(native.Uint32(b[4:])))}
	flags := uint32(b[2])
	var local, remote netip.Addr
	attributes(b[sizeofIfAddrmsg:], func(kind uint16, v []byte) {
		switch kind {
		case unix.IFA_FLAGS:
			flags = number(v)
		case unix.IFA_LOCAL:
			local = addr(v)
		case unix.IFA_ADDRESS:
			remote = addr(v)
		case addressProtocol:
			a.kernel = octet(v) == protocolLL
		}
	})
	// An optimistic address may be used while it is tentative (RFC 4429).
	a.unusable = flags&unix.IFA_F_DADFAILED != 0 || flags&unix.IFA_F_TENTATIVE != 0 && flags&unix.IFA_F_OPTIMISTIC == 0
	if !local.IsValid() {
		local = remote
	}
	a.narrow = b[3] >= unix.RT_SCOPE_LINK || local.IsLinkLocalUnicast()
	if local.Is6() != six {
		return address{}, false
	}
	a.prefix = netip.PrefixFrom(local, int(b[1]))
	return a, a.prefix.IsValid()
}

// readAddresses fills in the addresses of interfaces of ours. links are those of the same
// indexes; want decides which link-local ones count.
func (k *Kernel) readAddresses(ours map[int]*state.Interface, links map[int]link, want state.Router) error {
	if len(ours) == 0 {
		return nil
	}
	wanted := map[string][]netip.Prefix{}
	for _, i := range want.Interfaces {
		wanted[i.Name] = i.Addresses
	}
	var w writer
	w.begin(unix.RTM_GETADDR, 0, make([]byte, sizeofIfAddrmsg))
	all, err := dump(k.route, &w, decodeAddress)
	if err != nil {
		return fmt.Errorf("read addresses: %w", err)
	}
	for _, a := range all {
		i := ours[a.index]
		if i == nil || linkLocalOfKernel(a, links[a.index], wanted[i.Name]) {
			continue
		}
		i.Addresses = append(i.Addresses, a.prefix)
	}
	return nil
}

// linkLocalOfKernel reports whether the kernel made a link-local address by itself. Before
// Linux 5.18 it does not say; then every one on an interface that may make them counts as
// such.
func linkLocalOfKernel(a address, l link, wanted []netip.Prefix) bool {
	if !a.prefix.Addr().Is6() || !a.prefix.Addr().IsLinkLocalUnicast() {
		return false
	}
	for _, p := range wanted {
		if p == a.prefix {
			return false
		}
	}
	return a.kernel || !l.bareIPv6
}
