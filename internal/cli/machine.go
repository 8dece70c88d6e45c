package cli

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"tombolo/internal/compile"
	"tombolo/internal/kernel"
	"tombolo/internal/spec"
)

// surroundings returns what a compilation needs to know of this machine: what its devices
// have that no file says.
func surroundings(s *spec.Site) compile.Options {
	o := compile.Options{UplinkMTU: map[string]int{}, NoIPv6: ipv6Setting("default", "disable_ipv6") == "1"}
	for _, u := range s.Uplinks {
		if m, ok := kernel.DeviceMTU(u.Device); ok {
			o.UplinkMTU[u.Device] = m
		}
		if u.DHCP {
			o.Leased = append(o.Leased, subnets(u.Device)...)
		}
	}
	routes, _ := os.ReadFile("/proc/net/ipv6_route")
	o.Advertised = advertised(string(routes))
	return o
}

// advertised returns the devices over which the kernel learned an IPv6 default route from a
// router advertisement, given the text of /proc/net/ipv6_route: those that it drops when
// it begins to forward (rt6_purge_dflt_routers in net/ipv6/route.c).
func advertised(routes string) []string {
	const learned = 0x10000 | 0x40000 // RTF_DEFAULT, RTF_ADDRCONF (linux/ipv6_route.h)
	var out []string
	for line := range strings.Lines(routes) {
		words := strings.Fields(line)
		if len(words) != 10 {
			continue
		}
		flags, err := strconv.ParseUint(words[8], 16, 32)
		if err == nil && flags&learned == learned && !slices.Contains(out, words[9]) {
			out = append(out, words[9])
		}
	}
	slices.Sort(out)
	return out
}

// subnets returns the subnets of a device's addresses, without link-local ones; none where
// there is no such device.
func subnets(device string) []netip.Prefix {
	d, err := net.InterfaceByName(device)
	if err != nil {
		return nil
	}
	addresses, _ := d.Addrs()
	var out []netip.Prefix
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() {
			out = append(out, p.Masked())
		}
	}
	return out
}

// ipv6Setting reads a setting of a device; empty where there is none.
func ipv6Setting(device, name string) string {
	b, _ := os.ReadFile(filepath.Join("/proc/sys/net/ipv6/conf", device, name))
	return strings.TrimSpace(string(b))
}
