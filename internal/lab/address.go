package lab

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
)

// The ranges that the lab assigns from. None of them is in use on the Internet: benchmark
// addresses (RFC 2544), shared address space (RFC 6598) for what lies behind a provider's
// NAT, documentation addresses (RFC 3849).
var (
	public4  = netip.MustParsePrefix("198.18.0.0/15")
	private4 = netip.MustParsePrefix("100.64.0.0/10")
	public6  = netip.MustParsePrefix("2001:db8::/32")
)

// The first /24 and the first /48 are for emu0 and the Internet's hosts.
var (
	emulator4 = netip.MustParsePrefix("198.18.0.1/32")
	emulator6 = netip.MustParsePrefix("2001:db8::1/128")
	hosts4    = netip.MustParsePrefix("198.18.0.0/24")
	hosts6    = netip.MustParsePrefix("2001:db8::/64")
)

// blocks are what one uplink's addresses come from: number 7 has 198.18.7.0/24,
// 100.64.7.0/24 and 2001:db8:7::/48.
type blocks struct {
	public, private, six netip.Prefix
}

// numbers hands out blocks, in order, past those in which an address is already used.
type numbers struct {
	bits  int // of an IPv4 block
	next  int
	taken []netip.Prefix
}

// newNumbers prepares blocks for so many uplinks.
func newNumbers(uplinks int, taken []netip.Prefix) *numbers {
	n := &numbers{bits: 24, next: 1, taken: taken}
	if uplinks > 400 { // 198.18.0.0/15 has 511 of them, and some may be taken
		n.bits, n.next = 29, 32
	}
	return n
}

// take returns the next blocks, or an error when there are no more.
func (n *numbers) take() (blocks, error) {
	for ; ; n.next++ {
		var b blocks
		var ok [3]bool
		b.public, ok[0] = subnet(public4, n.bits, n.next)
		b.private, ok[1] = subnet(private4, n.bits, n.next)
		b.six, ok[2] = subnet(public6, 48, n.next)
		if ok != [3]bool{true, true, true} {
			return blocks{}, fmt.Errorf("assign addresses: %s is used up", public4)
		}
		if !n.overlaps(b.public) && !n.overlaps(b.private) && !n.overlaps(b.six) {
			n.next++
			return b, nil
		}
	}
}

func (n *numbers) overlaps(p netip.Prefix) bool {
	for _, t := range n.taken {
		if t.Overlaps(p) {
			return true
		}
	}
	return false
}

// subnet returns the prefix number i of that length in p, and whether there is one.
func subnet(p netip.Prefix, bits, i int) (netip.Prefix, bool) {
	if bits-p.Bits() < 31 && i >= 1<<(bits-p.Bits()) {
		return netip.Prefix{}, false
	}
	b := p.Masked().Addr().AsSlice()
	shift := len(b)*8 - bits
	carry := uint64(i) << (shift % 8)
	for at := len(b) - 1 - shift/8; at >= 0 && carry > 0; at-- {
		carry += uint64(b[at])
		b[at] = byte(carry)
		carry >>= 8
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, bits), true
}

// addressAt returns the address number i of a prefix, and whether a host may have it: it
// is inside and, in an IPv4 subnet of more than two, neither the first nor the last.
func addressAt(p netip.Prefix, i int) (netip.Addr, bool) {
	whole, ok := subnet(p, p.Addr().BitLen(), i)
	if !ok {
		return netip.Addr{}, false
	}
	a, room := whole.Addr(), p.Addr().BitLen()-p.Bits()
	if a.Is4() && room >= 2 && (i == 0 || i == 1<<room-1) {
		return netip.Addr{}, false
	}
	return a, true
}

// firstAddress returns the first address of a prefix that a host may have and that is
// not one of those.
func firstAddress(p netip.Prefix, not ...netip.Addr) netip.Addr {
next:
	for i := range len(not) + 2 {
		a, ok := addressAt(p, i)
		if !ok || i == 0 && p.Addr().BitLen()-p.Bits() > 1 {
			continue
		}
		for _, n := range not {
			if a == n {
				continue next
			}
		}
		return a
	}
	return netip.Addr{}
}

// hostAddress returns the address of the host in a LAN: the tenth (…10 in its text for
// IPv6 too), or the last where the prefix is smaller. The router has the first.
func hostAddress(p netip.Prefix) netip.Addr {
	i := 10
	if p.Addr().Is6() {
		i = 0x10
	}
	for ; i > 0; i-- {
		if a, ok := addressAt(p, i); ok {
			if a == firstAddress(p) {
				return netip.Addr{}
			}
			return a
		}
	}
	return netip.Addr{}
}

// hardwareAddress returns a MAC address of a device: locally administered, and the same
// every time.
func hardwareAddress(node, device string) net.HardwareAddr {
	sum := sha256.Sum256([]byte("tombolo lab " + node + " " + device))
	return append(net.HardwareAddr{0x02}, sum[:5]...)
}

// slaacAddress returns the address that a device of that MAC forms in a /64 (RFC 4291
// appendix A).
func slaacAddress(p netip.Prefix, mac net.HardwareAddr) netip.Addr {
	b := p.Addr().As16()
	copy(b[8:], []byte{mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
	return netip.AddrFrom16(b)
}
