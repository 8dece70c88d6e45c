// Package lab puts a whole network on one machine, without hardware: a namespace for each
// router, for a host in each LAN, for roaming devices and for hosts in the Internet, and
// between them an emulated Internet. It knows no network file: it is given what the
// compiler made of one, a state.Router for each site, the roaming devices' names
// ([Client]), and a lab file ([File]) that says what the Internet between them is like.
//
//	op1.host ── br-lan ┐                             ┌ eth0 ── core ── eth0 inet
//	                   op1 ── eth0 ── op1.eth0  core ┤
//	op2.host ── br-lan ┘  …                          └ emu0 (package internet)
//
// # Nodes
//
// A router's node is named after its site. The host behind its first LAN is SITE.host,
// one behind a further LAN is SITE.host-DEVICE; the address is the prefix's tenth. A
// roaming device has its own name, an Internet host the one that the lab file gives it;
// without any it is "inet". The node "core" is the Internet itself. Each has a network, a
// mount and a UTS namespace. The network namespaces can be seen by `ip netns`, as
// tombolo-LAB-NODE.
//
// # Roaming devices
//
// A device runs nothing of ours: its tunnel, wg0, is stock WireGuard. [Lab.Roam] makes it
// anew out of a file that the WireGuard app takes ([Lab.Configuration]). The lab's process
// does that, with the kernel's WireGuard or the one that Serve is given.
//
// # Core
//
// The other end of each uplink is in core and has the gateway's address. Uplinks that are
// described with the same subnet share a bridge there. core forwards plainly, so a path
// without impairment is veth and nothing else. What an impaired path or a NAT concerns is
// marked by nftables sets and routed into emu0, where package internet takes it, and
// comes out again when it is due. Before all that, core drops what has a source that is not
// the uplink's, as providers do, and counts what each uplink sends ([Lab.Uplinks]). A DHCP server and router advertisements in core, and a
// client in the router, do for an uplink what a provider and the router's own system do.
//
// # Processes
//
// [Up] starts a detached process, which calls [Serve] and owns all of the above; others
// speak to it over a socket ([Open]). Everything that the lab needs is in one directory;
// [Down] removes the lab with what that directory says, whether or not its process still
// runs. Without root, [Enter] first makes a user namespace, and finds it again later.
package lab
