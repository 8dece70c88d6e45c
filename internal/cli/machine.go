package cli

import (
	"fmt"
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
	"tombolo/internal/state"
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
	devices, _ := net.Interfaces()
	for _, d := range devices {
		if !described(s, d.Name) {
			o.Connected = append(o.Connected, subnets(d.Name)...)
		}
	}
	routes, _ := os.ReadFile("/proc/net/ipv6_route")
	o.Advertised = advertised(string(routes))
	return o
}

// described reports whether the file says what a device is.
func described(s *spec.Site, device string) bool {
	return slices.ContainsFunc(s.Uplinks, func(u spec.Uplink) bool { return u.Device == device }) ||
		slices.ContainsFunc(s.LANs, func(l spec.LAN) bool { return l.Device == device })
}

// mismatches returns what the file says of this machine and the machine does not.
func mismatches(s *spec.Site) []string {
	var out []string
	look := func(what, device string, prefixes []netip.Prefix) {
		if _, ok := kernel.DeviceMTU(device); !ok {
			out = append(out, fmt.Sprintf("site %q has %s %s in the file, and this machine has no such device", s.Name, what, device))
			return
		}
		for _, p := range prefixes {
			if there := subnets(device); !slices.Contains(there, p.Masked()) {
				out = append(out, fmt.Sprintf("%s %s has %s in the file, and on this machine %s", what, device, p.Masked(), orNone(there)))
			}
		}
	}
	for _, l := range s.LANs {
		var prefixes []netip.Prefix
		for _, m := range l.Prefixes {
			prefixes = append(prefixes, m.Prefix)
		}
		look("LAN", l.Device, prefixes)
	}
	for _, u := range s.Uplinks {
		look("uplink", u.Device, u.Addresses)
	}
	return out
}

// shadowed returns what the router keeps for itself although another site has it too.
func shadowed(o compile.Options, r state.Router) []string {
	var out []string
	for _, p := range slices.Concat(o.Leased, o.Connected) {
		if compile.Covered(r, p) {
			out = append(out, fmt.Sprintf("this machine is in %s, and so is another site: its hosts there are reached, that site's are not", p))
		}
	}
	return out
}

func orNone(prefixes []netip.Prefix) string {
	if len(prefixes) == 0 {
		return "no address"
	}
	words := make([]string, len(prefixes))
	for i, p := range prefixes {
		words[i] = p.String()
	}
	return strings.Join(words, ", ")
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
