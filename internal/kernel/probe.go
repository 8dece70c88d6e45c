package kernel

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Features says what this machine has.
type Features struct {
	WireGuard bool   `json:"wireguard"` // in the kernel
	TUN       bool   `json:"tun"`       // which the embedded WireGuard needs
	IPv6      bool   `json:"ipv6"`
	Nft       string `json:"nft,omitempty"` // version of the program nft; empty without one
}

// Probe looks for what this machine has. It changes nothing, except that the kernel may
// load its WireGuard module. Without privileges, WireGuard is found only where its module
// is loaded.
func Probe(ctx context.Context) (Features, error) {
	var f Features
	s, err := openSocket(unix.NETLINK_ROUTE)
	if err != nil {
		return f, err
	}
	defer s.close()
	f.WireGuard, err = kernelHasWireGuard(s)
	if errors.Is(err, unix.EPERM) {
		f.WireGuard, err = exists("/sys/module/wireguard"), nil
	}
	f.TUN = exists("/dev/net/tun")
	f.IPv6 = exists("/proc/net/if_inet6")
	var n nft
	if out, nftErr := n.run(ctx, "", "--version"); nftErr == nil {
		f.Nft = nftVersion(out)
	}
	return f, err
}

// nftVersion returns the number in "nftables v1.0.6 (Lester Gooch #5)".
func nftVersion(out string) string {
	for _, word := range strings.Fields(out) {
		if v, ok := strings.CutPrefix(word, "v"); ok {
			return v
		}
	}
	return "unknown"
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// DeviceMTU returns the MTU of a device in bytes, and whether there is such a device in
// the namespace of the calling thread.
func DeviceMTU(device string) (int, bool) {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return 0, false
	}
	return i.MTU, true
}
