// Package agent keeps a router right: what was applied is held against everybody who
// changes it, the network file is followed, and a Babel speaker finds the routes.
//
// It knows no file format, prints nothing, and sees the machine through the interfaces of
// [Machine]. What it may not do is remembered in Problems and tried again; it ends only
// when it is told to.
//
// # Its parts
//
// Each is one goroutine that owns its state, and is sent values:
//
//	base      read → diff → apply → read, of what was applied; takes a changed file
//	loader    reads the file and resolves endpoint names, which may take seconds
//	watcher   the kernel's events, to those whom they concern
//	host      owns the speaker: packets, time, links, announcements
//	table     the learned routes, into the kernel, in batches
//	observer  looks at devices, handshakes and counters for the host and for people
//	roaming   which roaming devices are here, by their handshakes; drops the sessions of
//	          those that went to another door
//	server    answers on the socket
//
// # Its end
//
// When its context ends the agent leaves everything as it is: interfaces, rules, and also
// the learned routes, which its successor finds and keeps until its own speaker has
// learned them again. Only Retire takes them away.
package agent
