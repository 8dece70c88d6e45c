package spec

import (
	"net/netip"
	"strings"
)

// Starter returns a network file to begin with, which its comments explain. The name is
// that of a network (see CleanName), and overlay6 a random /48 (RFC 4193).
func Starter(network string, overlay6 netip.Prefix) string {
	return strings.NewReplacer("NETWORK", network, "OVERLAY6", overlay6.String()).Replace(starter)
}

const starter = `# A tombolo network: which sites there are, and what should reach what.
#
#   tombolo check FILE          what is wrong with it
#   tombolo show FILE SITE      what it comes to on a router
#   tombolo lab up FILE         try it on this machine, in namespaces
#   tombolo apply FILE --site SITE      on each router, as root
#
# The file has no secrets. Each router makes its own private key; this file holds the
# public ones. Copy it to every router.

network: NETWORK
overlay: 10.77.0.0/16           # one address of it for each router, used by no LAN
overlay6: OVERLAY6   # the same for IPv6, made at random for you

sites:
  # A router that can be reached from outside. Its address or name is all that the
  # others need.
  office:
    endpoint: office.example.net
    lan: {br-lan: 192.168.35.0/24}      # device and prefix, as the router has them now
    uplink: {eth0: dhcp}                # the device that leads to the Internet

  # A router behind a provider's NAT has no endpoint: it dials the others.
  home:
    kind: openwrt
    lan: {br-lan: 192.168.36.0/24}
    uplink: {wan: dhcp}

  # A server with a fixed address and no LAN.
  server:
    endpoint: 203.0.113.3
    uplink:
      eth0:
        address: 203.0.113.3/24
        gateway: 203.0.113.1

  # "tombolo apply" prints a line like this on each router. Add it to the router's site
  # above, and copy the file to the others again:
  #
  #   key: 0qPqCrnPwjkBzBJ0ELIUvHBC9uLGbxPBE3JzlwwRSl0=

# Every two sites get a tunnel. Others: {star: server}, {chain: [home, server, office]},
# or a list of pairs and groups: [[office, server], [home, server]].
links: mesh

# A link of its own kind, in a list:
#
#   links:
#     - mesh
#     - {between: [office, server], mtu: 1380, keepalive: 25s, psk: true}

# How routers learn their routes: babel follows what happens, static computes them from
# this file and needs no daemon.
#
#   routing: static

# Two sites with the same prefix, roaming devices, exits to the Internet, published ports:
# see docs/language.md.
`
