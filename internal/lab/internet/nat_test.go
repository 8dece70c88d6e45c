package internet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// home is a place behind a NAT.
func home(nat NAT) Place {
	nat.Public = public
	return Place{Name: "home", Prefixes: prefixes("10.0.0.0/24", "fd00::/64"), NAT: nat}
}

var coneKinds = []NATKind{FullCone, AddressRestricted, PortRestricted}
var natKinds = append(coneKinds, Symmetric)

// source is the source of a packet as described, without the protocol.
func source(t testing.TB, description string) netip.AddrPort {
	t.Helper()
	var proto, src string
	if _, err := fmt.Sscan(description, &proto, &src); err != nil {
		t.Fatalf("%q has no source: %v", description, err)
	}
	return netip.MustParseAddrPort(src)
}

// TestFilteringByKind is who may reach an inside host that has sent to
// 203.0.113.1:1000, by RFC 4787 §5.
func TestFilteringByKind(t *testing.T) {
	make := map[string]func(src, dst string) []byte{
		"udp": func(src, dst string) []byte { return udp(src, dst, "x") },
		"tcp": func(src, dst string) []byte { return tcp(src, dst, "S") },
	}
	for _, c := range []struct {
		kind                              NATKind
		samePort, otherPort, otherAddress bool
	}{
		{FullCone, true, true, true},
		{AddressRestricted, true, true, false},
		{PortRestricted, true, false, false},
		{Symmetric, true, false, false},
	} {
		for proto, packet := range make {
			t.Run(c.kind.String()+"/"+proto, func(t *testing.T) {
				b := newBench(t, home(NAT{Kind: c.kind}))
				seen := source(t, b.pass(packet("10.0.0.2:4000", "203.0.113.1:1000"))).String()
				for from, passes := range map[string]bool{
					"203.0.113.1:1000": c.samePort, "203.0.113.1:2000": c.otherPort, "203.0.113.2:1000": c.otherAddress,
				} {
					want := ""
					if passes {
						want = fmt.Sprintf("%s %s > 10.0.0.2:4000", proto, from)
					}
					b.want(packet(from, seen), want)
				}
				b.want(packet("203.0.113.1:1000", "198.51.100.7:9"), "")
				b.want(packet("203.0.113.1:1000", "10.0.0.2:4000"), "")
				if c := b.pair("", "home"); c.Filtered == 0 {
					t.Error("what was dropped is not counted")
				}
			})
		}
	}
}

// TestMappingByKind is RFC 4787 §4.1: the same outside port for every
// destination, or another for each.
func TestMappingByKind(t *testing.T) {
	for _, kind := range natKinds {
		for _, ports := range []PortChoice{PortPreserve, PortRandom} {
			b := newBench(t, home(NAT{Kind: kind, Ports: ports}))
			seen := make(map[netip.AddrPort]bool)
			for _, dst := range []string{"203.0.113.1:1000", "203.0.113.1:2000", "203.0.113.2:1000"} {
				first := source(t, b.pass(udp("10.0.0.2:4000", dst, "")))
				if again := source(t, b.pass(udp("10.0.0.2:4000", dst, ""))); again != first {
					t.Errorf("%s: %s, then %s, for the same destination", kind, first, again)
				}
				seen[first] = true
			}
			if want := map[bool]int{true: 3, false: 1}[kind == Symmetric]; len(seen) != want {
				t.Errorf("%s: %v seen from outside, want %d", kind, seen, want)
			}
			if preserved := seen[netip.AddrPortFrom(public, 4000)]; preserved != (ports == PortPreserve) {
				t.Errorf("%s: port 4000 is preserved: %t", kind, preserved)
			}
		}
	}
}

func TestPortsByDefault(t *testing.T) {
	for _, kind := range natKinds {
		b := newBench(t, home(NAT{Kind: kind}))
		got := source(t, b.pass(udp("10.0.0.2:4000", "203.0.113.1:53", ""))).Port()
		if preserved := got == 4000; preserved == (kind == Symmetric) {
			t.Errorf("%s: inside port 4000 becomes %d", kind, got)
		}
		// Another host with the same port must get another one.
		if other := source(t, b.pass(udp("10.0.0.3:4000", "203.0.113.1:53", ""))).Port(); other == got {
			t.Errorf("%s: two hosts share port %d", kind, got)
		}
		if low := source(t, b.pass(udp("10.0.0.3:53", "203.0.113.1:53", ""))).Port(); low < 1024 {
			t.Errorf("%s: port %d is out of range", kind, low)
		}
	}
}

func TestPortsRunOut(t *testing.T) {
	b := newBench(t, home(NAT{Kind: FullCone, PortMin: 5000, PortMax: 5003}))
	seen := make(map[string]bool)
	for i := range 4 {
		seen[b.pass(udp(fmt.Sprintf("10.0.0.%d:4000", i+2), "203.0.113.1:53", ""))] = true
	}
	if len(seen) != 4 || seen[""] {
		t.Errorf("four hosts, four ports: %v", seen)
	}
	b.want(udp("10.0.0.9:4000", "203.0.113.1:53", ""), "")
	if b.want(tcp("10.0.0.9:5001", "203.0.113.1:53", "S"), "tcp 198.51.100.7:5001 > 203.0.113.1:53"); b.pair("home", "").Filtered != 1 {
		t.Error("the fifth packet is not counted as dropped")
	}
	b.sleep(3 * time.Minute)
	if got := b.pass(udp("10.0.0.9:4000", "203.0.113.1:53", "")); got == "" {
		t.Error("expired ports are not used again")
	}
}

func TestUDPTimeoutRunsFromOutboundPackets(t *testing.T) {
	b := newBench(t, home(NAT{Kind: FullCone}))
	out := func() []byte { return udp("10.0.0.2:4000", "203.0.113.1:53", "") }
	in := func() []byte { return udp("203.0.113.1:53", "198.51.100.7:4000", "") }
	const passed = "udp 203.0.113.1:53 > 10.0.0.2:4000"
	b.pass(out())
	b.sleep(119 * time.Second)
	b.want(in(), passed)
	b.sleep(time.Second)
	b.want(in(), "") // the inbound packet has not refreshed the mapping
	b.pass(out())
	b.sleep(119 * time.Second)
	b.pass(out())
	b.sleep(119 * time.Second)
	b.want(in(), passed)
}

// TestFilterExpiresBeforeMapping: each remote has its own time.
func TestFilterExpiresBeforeMapping(t *testing.T) {
	b := newBench(t, home(NAT{Kind: PortRestricted}))
	b.pass(udp("10.0.0.2:4000", "203.0.113.1:53", ""))
	b.sleep(100 * time.Second)
	b.pass(udp("10.0.0.2:4000", "203.0.113.2:53", ""))
	b.sleep(30 * time.Second)
	b.want(udp("203.0.113.1:53", "198.51.100.7:4000", ""), "")
	b.want(udp("203.0.113.2:53", "198.51.100.7:4000", ""), "udp 203.0.113.2:53 > 10.0.0.2:4000")
}

func TestTCPTimeoutsFollowTheConnection(t *testing.T) {
	const host, peer, seen = "10.0.0.2:4000", "203.0.113.1:80", "198.51.100.7:4000"
	const passed = "tcp 203.0.113.1:80 > 10.0.0.2:4000"
	open := func(b *bench) {
		b.pass(tcp(host, peer, "S"))
		b.want(tcp(peer, seen, "SA"), passed)
		b.pass(tcp(host, peer, "A"))
	}
	for _, c := range []struct {
		name  string
		talk  func(*bench)
		lives time.Duration
	}{
		{"opening", func(b *bench) { b.pass(tcp(host, peer, "S")) }, 4 * time.Minute},
		{"never answered", func(b *bench) { b.pass(tcp(host, peer, "S")); b.pass(tcp(host, peer, "A")) }, 4 * time.Minute},
		{"established", open, 124 * time.Minute},
		{"half closed", func(b *bench) { open(b); b.pass(tcp(host, peer, "FA")) }, 124 * time.Minute},
		{"closed by us", func(b *bench) { open(b); b.want(tcp(peer, seen, "FA"), passed); b.pass(tcp(host, peer, "FA")) }, 4 * time.Minute},
		{"closed by them", func(b *bench) { open(b); b.pass(tcp(host, peer, "FA")); b.want(tcp(peer, seen, "FA"), passed) }, 4 * time.Minute},
		{"reset by us", func(b *bench) { open(b); b.pass(tcp(host, peer, "R")) }, 4 * time.Minute},
		{"reset by them", func(b *bench) { open(b); b.want(tcp(peer, seen, "R"), passed) }, 4 * time.Minute},
		{"opened again", func(b *bench) { open(b); b.pass(tcp(host, peer, "R")); open(b) }, 124 * time.Minute},
	} {
		for _, kind := range natKinds {
			t.Run(c.name+"/"+kind.String(), func(t *testing.T) {
				b := newBench(t, home(NAT{Kind: kind, Ports: PortPreserve}))
				c.talk(b)
				b.sleep(c.lives - time.Second)
				b.want(tcp(peer, seen, "A"), passed)
				b.sleep(time.Second)
				b.want(tcp(peer, seen, "A"), "")
			})
		}
	}
}

func TestResetOpensNoMapping(t *testing.T) {
	b := newBench(t, home(NAT{Kind: FullCone}))
	b.want(tcp("10.0.0.2:4000", "203.0.113.1:80", "R"), "")
}

func TestEchoThroughNAT(t *testing.T) {
	for _, kind := range natKinds {
		b := newBench(t, home(NAT{Kind: kind, Ports: PortPreserve}))
		b.want(echo(true, "10.0.0.2", "203.0.113.1", 4000), "echo 198.51.100.7 > 203.0.113.1 id 4000")
		b.want(echo(false, "203.0.113.1", "198.51.100.7", 4000), "echo 203.0.113.1 > 10.0.0.2 id 4000")
		other := ""
		if kind == FullCone {
			other = "echo 203.0.113.2 > 10.0.0.2 id 4000"
		}
		b.want(echo(false, "203.0.113.2", "198.51.100.7", 4000), other)
		b.want(echo(true, "203.0.113.1", "198.51.100.7", 4000), "") // a request is no answer
		b.sleep(time.Minute)
		b.want(echo(false, "203.0.113.1", "198.51.100.7", 4000), "")
	}
}

func TestOtherProtocolsDoNotPassAnIPv4NAT(t *testing.T) {
	b := newBench(t, home(NAT{Kind: FullCone}))
	esp := udp("10.0.0.2:4000", "203.0.113.1:53", "")
	esp[9] = 50
	b.want(esp, "")
}

// TestHairpin has two inside hosts meet at their outside addresses (RFC 4787
// §6), the source being the outside one too ("External source").
func TestHairpin(t *testing.T) {
	for _, kind := range natKinds {
		b := newBench(t, home(NAT{Kind: kind, Ports: PortPreserve}))
		b.pass(udp("10.0.0.3:5000", "203.0.113.1:53", ""))
		want := ""
		if kind == FullCone {
			want = "udp 198.51.100.7:4000 > 10.0.0.3:5000"
		}
		b.want(udp("10.0.0.2:4000", "198.51.100.7:5000", ""), want)
		// Both have sent to each other's outside port now, or to each other's
		// address.
		b.pass(udp("10.0.0.3:5000", "198.51.100.7:4000", ""))
		if kind == Symmetric {
			want = "" // each has another outside port for this
		} else {
			want = "udp 198.51.100.7:4000 > 10.0.0.3:5000"
		}
		b.want(udp("10.0.0.2:4000", "198.51.100.7:5000", ""), want)
	}
}

func TestNeighboursBehindOneNATSeeEachOtherUntranslated(t *testing.T) {
	nat := NAT{Kind: Symmetric, Public: public}
	b := newBench(t,
		Place{Name: "flat", Prefixes: prefixes("10.0.0.0/24"), NAT: nat},
		Place{Name: "shop", Prefixes: prefixes("10.0.1.0/24"), NAT: nat})
	b.want(udp("10.0.0.2:4000", "10.0.1.2:80", ""), "udp 10.0.0.2:4000 > 10.0.1.2:80")
	// They share one outside address, each its ports, and answers find their way.
	for _, host := range []string{"10.0.0.2:4000", "10.0.1.2:4000"} {
		seen := source(t, b.pass(udp(host, "203.0.113.1:53", "")))
		if seen.Addr() != public {
			t.Errorf("%s is seen as %s", host, seen)
		}
		b.want(udp("203.0.113.1:53", seen.String(), ""), "udp 203.0.113.1:53 > "+host)
	}
	if b.pair("", "shop").Sent != 1 || b.pair("", "flat").Sent != 1 {
		t.Errorf("answers are counted for the wrong place: %+v", b.Counters().Pairs)
	}
}

// TestHolePunching is which two NATs' hosts can reach each other with the help
// of a server that tells each what the other looks like.
func TestHolePunching(t *testing.T) {
	kinds := append([]NATKind{None}, natKinds...)
	for _, left := range kinds {
		for _, right := range kinds {
			hard := func(k NATKind) bool { return k == PortRestricted || k == Symmetric }
			want := (left != Symmetric || !hard(right)) && (right != Symmetric || !hard(left))
			if got := punch(t, left, right); got != want {
				t.Errorf("%s and %s meet: %t, want %t", left, right, got, want)
			}
		}
	}
}

// punch says whether both sides hear each other in the end.
func punch(t *testing.T, left, right NATKind) bool {
	const server = "203.0.113.1:3478"
	b := newBench(t,
		Place{Name: "left", Prefixes: prefixes("10.0.1.0/24"), NAT: NAT{Kind: left, Public: netip.MustParseAddr("198.51.100.1")}},
		Place{Name: "right", Prefixes: prefixes("10.0.2.0/24"), NAT: NAT{Kind: right, Public: netip.MustParseAddr("198.51.100.2")}})
	hosts := [2]string{"10.0.1.2:51820", "10.0.2.2:51820"}
	var target [2]string // where each sends
	var heard [2]bool
	for i, host := range hosts {
		target[1-i] = source(t, b.pass(udp(host, server, ""))).String()
	}
	for range 3 {
		for i, host := range hosts {
			if got := b.pass(udp(host, target[i], "")); got != "" {
				heard[1-i] = true
				target[1-i] = source(t, got).String() // as WireGuard roams
			}
		}
	}
	return heard[0] && heard[1]
}

// TestICMPErrorsAreTranslated has errors about packets both ways, their
// quotes whole or 8 bytes of the transport header long.
func TestICMPErrorsAreTranslated(t *testing.T) {
	const router, host = "192.0.2.9", "10.0.0.2"
	for _, c := range []struct {
		name    string
		out     []byte // opens the mapping; the quote is what the outside saw of it
		in      []byte // an answer; the quote is what the inside saw of it
		outside string // an error from the outside, as the inside gets it
		inside  string // an error from the inside, as the outside gets it
	}{
		{"udp", udp("10.0.0.2:4000", "203.0.113.1:53", "question"), udp("203.0.113.1:53", "198.51.100.7:4000", "answer"),
			"[udp 10.0.0.2:4000 > 203.0.113.1:53]", "[udp 203.0.113.1:53 > 198.51.100.7:4000]"},
		{"tcp", tcp("10.0.0.2:4000", "203.0.113.1:80", "S"), tcp("203.0.113.1:80", "198.51.100.7:4000", "SA"),
			"[tcp 10.0.0.2:4000 > 203.0.113.1:80]", "[tcp 203.0.113.1:80 > 198.51.100.7:4000]"},
		{"echo", echo(true, host, "203.0.113.1", 4000), echo(false, "203.0.113.1", "198.51.100.7", 4000),
			"[echo 10.0.0.2 > 203.0.113.1 id 4000]", "[echo 203.0.113.1 > 198.51.100.7 id 4000]"},
	} {
		for _, kind := range natKinds {
			t.Run(c.name+"/"+kind.String(), func(t *testing.T) {
				b := newBench(t, home(NAT{Kind: kind, Ports: PortPreserve}))
				sent := b.passRaw(append([]byte(nil), c.out...))
				b.want(unreachable(router, public.String(), sent), "icmp-error 192.0.2.9 > 10.0.0.2 "+c.outside)
				got := b.passRaw(append([]byte(nil), c.in...))
				b.want(unreachable(host, "203.0.113.1", got), "icmp-error 198.51.100.7 > 203.0.113.1 "+c.inside)
				// What an inside router says of it has its source hidden as well.
				b.want(unreachable("10.0.0.1", "203.0.113.1", got), "icmp-error 198.51.100.7 > 203.0.113.1 "+c.inside)

				short := b.passRaw(unreachable(router, public.String(), sent[:28]))
				if wrong := icmpAndQuotedHeaderChecksums(short); wrong != "" {
					t.Errorf("short quote: %s", wrong)
				}
				quote := short[28:]
				if got := netip.AddrFrom4([4]byte(quote[12:16])).String(); got != host {
					t.Errorf("short quote's source is %s", got)
				}

				// RFC 5508 REQ-6: none of this has kept the mapping.
				b.sleep(5 * time.Minute)
				b.want(unreachable(router, public.String(), sent), "")
				b.want(unreachable(host, "203.0.113.1", got), "")
			})
		}
	}
}

// icmpAndQuotedHeaderChecksums checks what can be checked of a short quote.
func icmpAndQuotedHeaderChecksums(packet []byte) string {
	switch {
	case sumWords(packet[:20]).fold() != 0xffff:
		return "outer header"
	case sumWords(packet[20:]).fold() != 0xffff:
		return "ICMP"
	case sumWords(packet[28:48]).fold() != 0xffff:
		return "quoted header"
	}
	return ""
}

func TestICMPErrorsThatDoNotFitAreDropped(t *testing.T) {
	const router = "192.0.2.9"
	for _, kind := range natKinds {
		b := newBench(t, home(NAT{Kind: kind, Ports: PortPreserve}))
		sent := b.passRaw(udp("10.0.0.2:4000", "203.0.113.1:53", ""))
		b.want(unreachable(router, public.String(), udp("198.51.100.7:4001", "203.0.113.1:53", "")), "")
		if kind >= PortRestricted {
			b.want(unreachable(router, public.String(), udp("198.51.100.7:4000", "203.0.113.1:54", "")), "")
		}
		b.want(unreachable(router, public.String(), udp("10.0.0.2:4000", "203.0.113.1:53", "")), "")
		bad := unreachable(router, public.String(), sent)
		bad[22] ^= 1
		if b.passRaw(bad) != nil { // RFC 5508 REQ-3
			t.Error("an error with a wrong checksum was translated")
		}
		b.want(unreachable("10.0.0.2", "203.0.113.1", udp("203.0.113.1:53", "10.0.0.2:4001", "")), "")
	}
}

// TestHairpinnedICMPErrorsPass is RFC 5508 REQ-7.
func TestHairpinnedICMPErrorsPass(t *testing.T) {
	b := newBench(t, home(NAT{Kind: FullCone}))
	b.pass(udp("10.0.0.3:5000", "203.0.113.1:53", ""))
	got := b.passRaw(udp("10.0.0.2:4000", "198.51.100.7:5000", ""))
	b.want(unreachable("10.0.0.3", "198.51.100.7", got),
		"icmp-error 198.51.100.7 > 10.0.0.2 [udp 10.0.0.2:4000 > 198.51.100.7:5000]")
}

func TestZeroUDPChecksumStaysZero(t *testing.T) {
	b := newBench(t, home(NAT{Kind: FullCone}))
	packet := udp("10.0.0.2:4000", "203.0.113.1:53", "x")
	packet[26], packet[27] = 0, 0
	if got := b.passRaw(packet); got[26]|got[27] != 0 {
		t.Errorf("no checksum became %x", got[26:28])
	}
}

// TestUDPChecksumNeverBecomesZero tries every payload word, one of which
// makes the translated packet's checksum come out as zero.
func TestUDPChecksumNeverBecomesZero(t *testing.T) {
	b := newBench(t, home(NAT{Kind: FullCone}))
	allOnes := 0
	packet := udp("10.0.0.2:4000", "203.0.113.1:53", "xx")
	base := make([]byte, len(packet))
	for word := range 1 << 16 {
		copy(base, packet)
		var sum onesSum
		sum.put(base[28:], uint16(word))
		sum.mendTransport(protoUDP, base[20:])
		got := b.passRaw(append([]byte(nil), base...))
		switch checksum := binary.BigEndian.Uint16(got[26:]); checksum {
		case 0:
			t.Fatalf("payload %#x has no checksum after translation", word)
		case 0xffff:
			allOnes++
			if wrong := wrongChecksums(got); wrong != "" {
				t.Errorf("payload %#x: %s", word, wrong)
			}
		}
	}
	if allOnes == 0 {
		t.Error("the case did not occur")
	}
}

func TestIPv6IsFilteredNotTranslated(t *testing.T) {
	for _, kind := range natKinds {
		b := newBench(t, home(NAT{Kind: kind}))
		const host, peer = "[fd00::2]:4000", "[2001:db8::1]:53"
		b.want(udp(peer, host, ""), "")
		b.want(udp(host, peer, ""), "udp [fd00::2]:4000 > [2001:db8::1]:53")
		b.want(udp(peer, host, ""), "udp [2001:db8::1]:53 > [fd00::2]:4000")
		b.want(udp("[2001:db8::1]:54", host, ""), "")
		b.want(udp("[2001:db8::2]:53", host, ""), "")
		b.want(unreachable("2001:db8:9::9", "fd00::2", udp(host, peer, "")),
			"icmp-error 2001:db8:9::9 > fd00::2 [udp [fd00::2]:4000 > [2001:db8::1]:53]")
		b.want(unreachable("2001:db8:9::9", "fd00::2", udp(host, "[2001:db8::3]:53", "")), "")
		b.want(unreachable("fd00::2", "2001:db8::1", udp(peer, host, "")),
			"icmp-error fd00::2 > 2001:db8::1 [udp [2001:db8::1]:53 > [fd00::2]:4000]")
		b.sleep(2 * time.Minute)
		b.want(udp(peer, host, ""), "")

		b.want(echo(true, "2001:db8::1", "fd00::2", 7), "")
		b.want(echo(false, "2001:db8::1", "fd00::2", 7), "")
		b.want(echo(true, "fd00::2", "2001:db8::1", 7), "echo fd00::2 > 2001:db8::1 id 7")
		b.want(echo(false, "2001:db8::1", "fd00::2", 7), "echo 2001:db8::1 > fd00::2 id 7")
		b.want(tcp("[2001:db8::1]:80", host, "S"), "")
		b.want(tcp(host, "[2001:db8::1]:80", "S"), "tcp [fd00::2]:4000 > [2001:db8::1]:80")
		b.want(tcp("[2001:db8::1]:80", host, "SA"), "tcp [2001:db8::1]:80 > [fd00::2]:4000")
		b.want(udp("[fd00::3]:1", host, ""), "udp [fd00::3]:1 > [fd00::2]:4000") // a neighbour
	}
}

func TestNoneFiltersNothing(t *testing.T) {
	b := newBench(t, home(NAT{}))
	b.want(udp("203.0.113.1:53", "10.0.0.2:4000", ""), "udp 203.0.113.1:53 > 10.0.0.2:4000")
	b.want(udp("[2001:db8::1]:53", "[fd00::2]:4000", ""), "udp [2001:db8::1]:53 > [fd00::2]:4000")
}

// TestExpiredStateIsFreed: a day of new flows must not fill the memory.
func TestExpiredStateIsFreed(t *testing.T) {
	b := newBench(t, home(NAT{Kind: Symmetric}))
	for i := range 2000 {
		b.sleep(time.Second)
		b.pass(udp("10.0.0.2:4000", fmt.Sprintf("203.0.113.1:%d", i+1), ""))
		b.pass(udp("[fd00::2]:4000", fmt.Sprintf("[2001:db8::1]:%d", i+1), ""))
	}
	box := b.boxes[public]
	if n := len(box.byPort); n > 135 || len(box.byInside) != n || len(box.flows6) > 135 {
		t.Errorf("%d, %d and %d entries, want those of two minutes", n, len(box.byInside), len(box.flows6))
	}
}
