// Package lab puts a whole network on one machine, without hardware: a namespace for each
// router, for a host in each LAN and for hosts in the Internet, and between them an
// emulated Internet. It knows no network file: it is given what the compiler made of one,
// a state.Router for each site, and a lab file ([File]) that says what the Internet
// between them is like.
//
//	op1.host ── br-lan ┐                             ┌ eth0 ── core ── eth0 inet
//	                   op1 ── eth0 ── op1.eth0  core ┤
//	op2.host ── br-lan ┘  …                          └ emu0 (package internet)
//
// # Nodes
//
// A router's node is named after its site. The host behind its first LAN is SITE.host,
// one behind a further LAN is SITE.host-DEVICE; the address is the prefix's tenth. An
// Internet host has the name that the lab file gives it; without any it is "inet". The
// node "core" is the Internet itself. Each has a network, a mount and a UTS namespace.
// The network namespaces can be seen by `ip netns`, as tombolo-LAB-NODE.
//
// # Core
//
// The other end of each uplink is in core and has the gateway's address. Uplinks that are
// described with the same subnet share a bridge there. core forwards plainly, so a path
// without impairment is veth and nothing else. What an impaired path or a NAT concerns is
// marked by nftables sets and routed into emu0, where package internet takes it, and
// comes out again when it is due. A DHCP server and router advertisements in core, and a
// client in the router, do for an uplink what a provider and the router's own system do.
//
// # Processes
//
// [Up] starts a detached process, which calls [Serve] and owns all of the above; others
// speak to it over a socket ([Open]). Everything that the lab needs is in one directory;
// [Down] removes the lab with what that directory says, whether or not its process still
// runs. Without root, [Enter] first makes a user namespace, and finds it again later.
package lab
