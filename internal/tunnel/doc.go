// Package tunnel runs WireGuard in user space where the kernel has none: wireguard-go,
// embedded, in a process of its own that outlives whoever started it.
//
// There is one tunnel process per router, that is per runtime directory and network
// namespace, and it holds any number of interfaces:
//
//	apply, agent ──Client──▶ DIR/tunnel.sock ─▶ supervisor ──socketpair──▶ worker
//	                                            TUN descriptors            wireguard-go
//	                                            UAPI listeners             UDP sockets
//	                                            last configurations        UAPI connections
//
// The supervisor is small and does not touch packets. It keeps what must not be lost:
// the TUN descriptors, by which the kernel keeps the interface with its addresses and
// routes; the listening sockets /var/run/wireguard/NAME.sock, by which wg(8) and wgctrl
// find the device; and each device's last configuration, in memory only, for it holds
// private keys. The worker runs the devices. It reports a device's configuration before
// it acknowledges the change to whoever made it, so that what was acknowledged survives.
//
// What happens when one of them ends:
//
//   - whoever called Add: nothing. The supervisor is in a session of its own, its parent
//     is init, and it ignores SIGHUP. (A service manager that kills a whole control group
//     still reaches it: under systemd the caller's unit wants KillMode=process.)
//   - the worker: the supervisor starts another at once (then with growing pauses) and
//     hands it descriptors and configurations. Peers that were connected get a new
//     handshake right away. Counters and handshake times begin anew.
//   - the supervisor: the worker reads end of file, removes the UAPI sockets and ends, and
//     the interfaces go with the last descriptor. The next Add starts anew; it waits for
//     the old worker through DIR/tunnel.lock, which both hold.
//   - the interface, by ip-link(8): the device is dropped and its UAPI socket removed.
//
// Why two processes and not one: a single process with a persistent TUN (TUNSETPERSIST)
// would keep addresses and routes over a crash, but not the keys, and would leave dead
// interfaces behind when it is killed for good.
package tunnel
