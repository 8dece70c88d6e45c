// Package internet is the Internet between the routers of a lab: what a path
// does to packets (delay, jitter, loss, rate, a cut) for every ordered pair of
// places, and what a NAT at the edge of a place does to them. It works in user
// space on a TUN, for kernels without netem.
//
// It has two halves.
//
// [Engine] is pure: packets, times and a seed go in, packets and the time of
// the next one come out. It has no clock, no socket and no goroutine, so a day
// of traffic runs in a test in a moment and a seed repeats a run exactly.
//
// [Runner] is the one goroutine that owns an Engine: it reads a TUN
// ([OpenTUN]), sleeps until the next packet is due, and writes the due ones to
// the same TUN. Others reach the Engine only through it.
//
// # What a packet meets
//
// In this order: the NAT of its source's place (outbound), the NAT of its
// destination's place (inbound), then the path between the two places: cut,
// loss, rate with its queue, delay with jitter. The place of an address is
// found by longest prefix; an address of no place belongs to the place ""
// (the rest of the Internet). TTL is the kernel's to decrement, and nothing is
// fragmented or reassembled here.
//
// # What the kernel around it must do
//
// Whatever is impaired or translated is routed into the TUN, both ways, the
// NATs' public addresses included; what comes out of the TUN is routed on
// plainly and never into it again. Give the TUN device an address of its own
// that is inside no place, and set its accept_local: the kernel's ICMP errors
// about packets that came out of the TUN (their TTL ran out there) then have a
// source that no NAT mistakes for one of its own hosts, and are not taken for
// martians when they come out of the TUN themselves, translated. Its rp_filter
// must be off. A packet's TTL goes down by two: before the TUN and after it.
package internet
