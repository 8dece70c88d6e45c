// Package interop is tests of the speaker against babeld and BIRD, as Debian has them, over
// veth devices between network namespaces. It holds nothing else.
//
// What those two can and cannot do is said where a test goes round it: babeld 1.12 does not
// retract a route that it redistributed and that is gone, and has source-specific routes for
// IPv6 only; BIRD 2.0 has neither the delay metric nor IPv4 via IPv6 next hops.
//
// Whatever a test makes the speaker send is captured, and tcpdump must decode all of it.
package interop
