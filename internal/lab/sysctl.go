package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// setting is a kernel setting below /proc/sys/net.
type setting struct{ name, value string }

// What differs from the kernel's defaults, or is not the same on every machine. No node
// waits for duplicate address detection: there are none.
var (
	everywhere = []setting{
		{"ipv6/conf/all/disable_ipv6", "0"},
		{"ipv6/conf/default/disable_ipv6", "0"},
		{"ipv6/conf/all/accept_dad", "0"},
		{"ipv6/conf/default/accept_dad", "0"},
		{"ipv6/conf/default/dad_transmits", "0"},
		{"ipv6/conf/default/use_tempaddr", "0"},
		{"ipv6/conf/default/router_solicitation_delay", "0"},
		{"ipv4/conf/all/rp_filter", "0"},

		// Bridged frames are no concern of a router's firewall. The files are there only
		// with the kernel's br_netfilter.
		{"bridge/bridge-nf-call-arptables", "0"},
		{"bridge/bridge-nf-call-iptables", "0"},
		{"bridge/bridge-nf-call-ip6tables", "0"},
	}

	// The Internet forwards, believes nobody, and does not limit its ICMP errors.
	coreSettings = []setting{
		{"ipv4/ip_forward", "1"},
		{"ipv6/conf/all/forwarding", "1"},
		{"ipv4/conf/default/rp_filter", "0"},
		{"ipv4/conf/all/send_redirects", "0"},
		{"ipv4/conf/default/send_redirects", "0"},
		{"ipv6/conf/default/accept_ra", "0"},
		{"ipv6/conf/default/addr_gen_mode", "1"}, // no link-local address but those we give
		{"ipv4/icmp_ratelimit", "0"},
		{"ipv6/icmp/ratelimit", "0"},
	}

	// A router is as a Debian machine before anybody made a router of it: it does not
	// forward, its devices filter loosely by reverse path, and one address's end is not
	// that of its neighbours (systemd's 50-default.conf).
	routerSettings = []setting{
		{"ipv4/ip_forward", "0"},
		{"ipv6/conf/all/forwarding", "0"},
		{"ipv4/conf/default/rp_filter", "2"},
		{"ipv4/conf/default/promote_secondaries", "1"},
	}

	hostSettings = []setting{
		{"ipv4/ip_forward", "0"},
		{"ipv6/conf/default/accept_ra", "0"},
		{"ipv4/conf/default/rp_filter", "0"},
	}
)

// settings are a node's own, by its kind.
var settings = map[NodeKind][]setting{
	Core: coreSettings, RouterNode: routerSettings, LANHost: hostSettings, DeviceNode: hostSettings, InternetNode: hostSettings,
}

// setAll writes settings of the calling thread's network namespace.
func setAll(lists ...[]setting) error {
	for _, list := range lists {
		for _, s := range list {
			if err := set1(s); err != nil {
				return err
			}
		}
	}
	return nil
}

func set1(s setting) error {
	err := os.WriteFile(filepath.Join("/proc/sys/net", s.name), []byte(s.value), 0)
	if errors.Is(err, fs.ErrNotExist) && (filepath.Dir(s.name) == "bridge" || filepath.Base(s.name) == "ra_defrtr_metric") {
		return nil // not in every kernel
	}
	if err != nil {
		return fmt.Errorf("set net/%s to %s: %w", s.name, s.value, err)
	}
	return nil
}
