package spec

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"net/netip"
	"strings"
)

// StaticInterface is the one interface of a router with static routing.
const StaticInterface = "wg_s2s"

// ClientsInterface is the one by which roaming devices enter: that of no link, since no site
// is called so.
const ClientsInterface = "wg-" + AccessKey

// AccessKey is the name of the key that all doors share, also that of its file. No site and
// no device is called so.
const AccessKey = "clients"

// maxInterface is the longest interface name (linux/if.h, IFNAMSIZ - 1).
const maxInterface = 15

// InterfaceName returns the name of the interface of the link to the site peer: wg- and
// the site's name, which is cut where the whole would be longer than 15 bytes, and then
// ends in four characters of a hash, so that the same site has the same name everywhere.
func InterfaceName(peer string) string {
	name := "wg-" + peer
	if len(name) <= maxInterface {
		return name
	}
	sum := sha256.Sum256([]byte("tombolo interface " + peer))
	tail := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:4])
	return name[:maxInterface-5] + "-" + tail
}

// HashedIndex returns the overlay index of a site or device that names no address: a hash
// of its name, so that other sites never change it. It is never the network's first or
// last address, and below limit, where limit is not 0.
func HashedIndex(name string, overlay netip.Prefix, limit int) int {
	sum := sha256.Sum256([]byte("tombolo address " + name))
	room := uint64(1) << min(overlay.Addr().BitLen()-overlay.Bits(), 31)
	if room > 2 {
		room -= 2 // neither the network's own address nor the broadcast address
	}
	if limit > 0 && room > uint64(limit) {
		room = uint64(limit)
	}
	return 1 + int(binary.BigEndian.Uint64(sum[:])%room)
}

// AddressAt returns the address with the given index in prefix. It panics when the index
// is outside.
func AddressAt(prefix netip.Prefix, index int) netip.Addr {
	b := prefix.Masked().Addr().AsSlice()
	for i, carry := len(b)-1, uint64(index); carry > 0 && i >= 0; i-- {
		carry += uint64(b[i])
		b[i] = byte(carry)
		carry >>= 8
	}
	a, _ := netip.AddrFromSlice(b)
	if !prefix.Contains(a) {
		panic("spec: address index outside its prefix")
	}
	return a
}

// IndexOf returns the index of an address in its prefix: 1 for 10.0.32.1 in 10.0.32.0/24.
// It saturates at the largest int32.
func IndexOf(prefix netip.Prefix, a netip.Addr) int {
	base, at := prefix.Masked().Addr().AsSlice(), a.AsSlice()
	n := uint64(0)
	for i := range at {
		n = min(n<<8, 1<<40) + uint64(at[i]) - uint64(base[i])
	}
	return int(min(n, 1<<31-1))
}
