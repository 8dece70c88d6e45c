// Package kernel holds every syscall that tombolo makes on a router: it reads what is
// there as a state.Router, and carries out the operations of a plan. netlink messages,
// nftables and wgctrl types never leave it.
//
// # Namespace
//
// A Kernel belongs to the network namespace of the thread on which Open was called. Its
// sockets stay there; but nft runs, and /proc/sys is read, where the calling thread is, so
// every method must be called from a thread of the same namespace (which is every thread
// of a program that never enters another). A call from elsewhere would change somebody
// else's firewall: it panics. A Kernel serves one goroutine at a time.
//
// # Ownership
//
// Before an interface is changed or removed its alias is looked at again. Routes and rules
// are removed by their protocol number, and added such that one which is there already is
// an error. Rulesets are only those tables that have our name. What is gone when its
// removal comes is no error: somebody else was quicker.
//
// # What reads differently from what the kernel says
//
// Equal routers must be equal values, so Read puts some things into one form:
//
//   - An IPv6 route without a metric gets 1024 from the kernel (IP6_RT_PRIO_USER,
//     include/uapi/linux/ipv6_route.h). Read returns 0 for 1024, except where the wanted
//     router says 1024 itself.
//   - An IPv6 route of a type that leads nowhere is bound to lo by the kernel. Read
//     returns it without a device, as for IPv4.
//   - The scope of a route, its flags that only say how a device fares (dead, linkdown,
//     offload), and times of life are left out.
//   - fe80::/10 addresses which the kernel gave an interface by itself are left out,
//     unless the wanted router has them. We make interfaces with addrgenmode none, so that
//     there are none.
//   - Of interfaces of others only those are read, without addresses and peers, that have
//     a name or (in the kernel's own WireGuard) a UDP port which the wanted router uses; of
//     their routes, those in tables which the wanted router uses but for learned ones and
//     those that follow the uplinks, and of the tables main and local only those with the
//     key of a route that is wanted in main; of their rules, those in our range.
//
// # Beside the Kernel
//
// An agent has more than one goroutine. A Watcher and a Meter have sockets of their own and
// may be used beside the Kernel that they belong to; Routes and Device are the Kernel's own.
// Learned routes and rules have a protocol number other than the owner's, and so a Kernel other than
// that of the rest, opened with an Owner of that number: it may serve another goroutine. So
// have those that follow the uplinks; their default routes, by several next hops, are made by
// SetDefault and no plan.
//
// A route is changed in place, by NLM_F_REPLACE, which both families do without a moment
// in which there is none, also between one that leads nowhere and one that leads somewhere.
// (A lookup under way that has already found the old one may fail in the microsecond in
// which the kernel releases it; nothing that is done with single routes avoids that.)
//
// # Others' firewalls
//
// Obstacles reads all tables that are not ours as `nft -j` lists them, follows packets through
// their chains of the hooks input and forward, and returns what stops those that must pass. A rule
// that looks at what is not known of a packet may hold or not, and so it may be that a packet is
// perhaps stopped. It changes nothing. What iptables-legacy has is not in nftables.
//
// # Why not a netlink library
//
// Links, addresses, routes and rules go through a small codec of our own, over a plain
// socket. Three things are wanted that the libraries do not give: a new interface and its
// alias in one datagram, so that no crash of ours leaves an interface that is not
// recognisably ours; the mark of an interrupted dump, which for routes stands in its last
// message (net/netlink/af_netlink.c, netlink_dump_done); and ten thousand routes in one
// go.
package kernel
