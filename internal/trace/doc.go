// Package trace follows a flow through a network: at every router the steps that Linux takes, in
// its order, with the reason for each turn, until the packet is delivered or lost; and then the
// answer, through the state of connections that the way there made.
//
// It is pure. What it walks over are values: the state of every router, as it is wanted or as it
// was read, with what its agent lays beside that (package learned). Nothing is sent, and nothing
// needs to run.
//
//	compile.All ─▶ []state.Router ─▶ New ─▶ *Network ─▶ Trace(Flow) ─▶ Trace
//	learned.Routes ─────────────────┘
//
// A packet comes in by a device (walk.go), is looked at by the ruleset (package ruleset) and by
// conntrack (conn.go, nat.go), routed by rules and tables (route.go), filtered, and goes out
// (out.go): to a host, to the router itself, to a provider, or into a tunnel, whose own packet is
// walked in the same way (tunnel.go). Of one that does not fit the ICMP error is walked (toobig.go).
//
// What leads out of a device is one switch, walk.leaves, and what comes in by one is walk.arrives:
// there a device that is a port of an L2 segment is another case, from which a packet arrives at
// each router that has a port of the same segment.
package trace
