package lab

import (
	"fmt"
	"net/netip"
)

// makeRouter builds what a router has without us: its LANs, each with a host behind it,
// and its uplinks, those with DHCP still without an address.
func makeRouter(r *router, nodes map[string]*namespaces) error {
	node := nodes[r.site]
	err := node.wired(func(w wire) error {
		if err := w.up("lo"); err != nil {
			return err
		}
		for _, lan := range r.lans {
			if err := w.makeLAN(r.site, lan, nodes[lan.node]); err != nil {
				return err
			}
		}
		for i := range r.uplinks {
			if err := w.makeUplink(&r.uplinks[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("router %s: %w", r.site, err)
	}
	for _, lan := range r.lans {
		if err := makeHost(nodes[lan.node], lan.host, gateways(lan.router)); err != nil {
			return fmt.Errorf("host %s: %w", lan.node, err)
		}
	}
	return nil
}

// makeLAN makes a LAN's bridge, and the wire to its host.
func (w wire) makeLAN(site string, l lan, host *namespaces) error {
	if err := w.bridge(end{l.device, hardwareAddress(site, l.device)}, ethernetMTU); err != nil {
		return err
	}
	port := lanPort(l.device)
	if err := w.pair(end{device: port}, end{hostDevice, hardwareAddress(l.node, hostDevice)}, host, ethernetMTU); err != nil {
		return err
	}
	if err := w.join(port, l.device); err != nil {
		return err
	}
	if err := w.assign(l.device, l.router...); err != nil {
		return err
	}
	return w.up(l.device)
}

// lanPort is the port of a LAN's bridge: br-lan has lan-host.
func lanPort(device string) string {
	name := bridgePort(device)
	return name[:len(name)-len("port")] + "host"
}

// metric6 is what the kernel takes for an IPv6 route of which no metric is said, and so for
// an advertised one (Linux include/uapi/linux/ipv6_route.h, IP6_RT_PRIO_USER).
const metric6 = 1024

// makeUplink configures a router's end of an uplink and sets it up.
func (w wire) makeUplink(u *uplink) error {
	if isBridge(u.device) {
		if err := w.bridge(end{u.device, u.mac}, u.mtu); err != nil {
			return err
		}
		if err := w.join(bridgePort(u.device), u.device); err != nil {
			return err
		}
	}
	// 2: also when the router forwards (Linux Documentation/networking/ip-sysctl.rst).
	accept := "2"
	if !u.ra {
		accept = "0"
	}
	conf := "ipv6/conf/" + u.device + "/"
	metric := setting{conf + "ra_defrtr_metric", fmt.Sprint(metric6 + u.metric)}
	if err := setAll([]setting{{conf + "accept_ra", accept}, metric}); err != nil {
		return err
	}
	if err := w.up(u.device); err != nil {
		return err
	}
	addresses := u.static6
	if u.address4.IsValid() && !u.dhcp {
		addresses = append([]netip.Prefix{u.address4}, addresses...)
	}
	if err := w.assign(u.device, addresses...); err != nil {
		return err
	}
	if u.gateway4.IsValid() && !u.dhcp {
		if err := w.addDefault(u.device, u.gateway4, u.metric); err != nil {
			return err
		}
	}
	if u.gateway6.IsValid() {
		return w.addDefault(u.device, u.gateway6, metric6+u.metric)
	}
	return nil
}

// addDefault makes a default route as an administrator does.
func (w wire) addDefault(device string, gateway netip.Addr, metric int) error {
	return w.add(route{dst: defaultOf(gateway), gateway: gateway, device: device, metric: metric, protocol: protoStatic})
}

// makeHost configures a host.
func makeHost(node *namespaces, addresses []netip.Prefix, gateways []netip.Addr) error {
	return node.wired(func(w wire) error {
		for _, device := range []string{"lo", hostDevice} {
			if err := w.up(device); err != nil {
				return err
			}
		}
		if err := w.assign(hostDevice, addresses...); err != nil {
			return err
		}
		for _, g := range gateways {
			if err := w.addDefault(hostDevice, g, 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// makeInternetHost configures a host in the Internet.
func makeInternetHost(h host, node *namespaces) error {
	var addresses []netip.Prefix
	for _, a := range h.addresses {
		addresses = append(addresses, hostPrefix(a))
	}
	if err := makeHost(node, addresses, gateways(hostGateways)); err != nil {
		return fmt.Errorf("host %s in the Internet: %w", h.name, err)
	}
	return nil
}

// gateways returns one address of each family.
func gateways(list []netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, p := range list {
		if a := p.Addr(); len(out) == 0 || out[len(out)-1].Is4() != a.Is4() {
			out = append(out, a)
		}
	}
	return out
}
