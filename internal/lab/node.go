package lab

import (
	"crypto/sha256"
	"encoding/base32"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"tombolo/internal/state"
)

// NodeKind says what a node stands for.
type NodeKind string

// The kinds of node.
const (
	Core         NodeKind = "core"     // the Internet itself
	RouterNode   NodeKind = "router"   // a site's router
	LANHost      NodeKind = "host"     // a host in a site's LAN
	DeviceNode   NodeKind = "device"   // a roaming device
	InternetNode NodeKind = "internet" // a host in the Internet
)

// Node is one machine of a lab.
type Node struct {
	Name      string   `json:"name"`
	Kind      NodeKind `json:"kind"`
	Site      string   `json:"site,omitempty"`    // of a router and a LAN host
	Namespace string   `json:"namespace"`         // as `ip netns` names it
	Devices   []Device `json:"devices,omitempty"` // none of core's
}

// Device is a network device that the lab gave a node. A roaming device's first is its
// tunnel's, which is there while the tunnel is up.
type Device struct {
	Name      string         `json:"name"`
	Uplink    bool           `json:"uplink,omitempty"`
	Addresses []netip.Prefix `json:"addresses,omitempty"` // address and length; IPv4 first
	Public    netip.Addr     `json:"public,omitzero"`     // the NAT's before it
}

// Addr returns the node's first address: of IPv4, else of IPv6; the zero Addr if it has
// none.
func (n Node) Addr() netip.Addr {
	if a := n.addr(false); a.IsValid() {
		return a
	}
	return n.Addr6()
}

// Addr6 returns the node's first IPv6 address, or the zero Addr.
func (n Node) Addr6() netip.Addr { return n.addr(true) }

func (n Node) addr(v6 bool) netip.Addr {
	for _, d := range n.Devices {
		for _, p := range d.Addresses {
			if p.Addr().Is6() == v6 {
				return p.Addr()
			}
		}
	}
	return netip.Addr{}
}

// names of what the lab adds to a network.
const (
	coreName = "core"
	inetName = "inet"
)

// freeName returns name, or if a site or a device has that name, one that none has.
func freeName(name string, taken func(string) bool) string {
	for taken(name) {
		name = "lab-" + name
	}
	return name
}

// defaultHosts are the Internet's hosts where the lab file names none.
func defaultHosts(taken []string) []InternetHost {
	return []InternetHost{{Name: freeName(inetName, func(name string) bool { return slices.Contains(taken, name) })}}
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?$`)

// validName reports whether a lab or an Internet host may have the name.
func validName(name string) bool { return nameForm.MatchString(name) }

// namespaceName is the name of a node's network namespace below /run/netns.
func namespaceName(lab, node string) string { return "tombolo-" + lab + "-" + node }

// maxInterface is the longest name of a device (linux/if.h, IFNAMSIZ - 1).
const maxInterface = 15

// portName returns the name in core of the device that leads to a node's device: both
// names, and where that is too long, a part of them and of a hash.
func portName(node, device string) string {
	name := node + "." + device
	if len(name) <= maxInterface {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	tail := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:6])
	return name[:maxInterface-7] + "~" + tail
}

// sortPrefixes puts IPv4 before IPv6.
func sortPrefixes(list []netip.Prefix) []netip.Prefix {
	slices.SortFunc(list, state.ComparePrefixes)
	return list
}
