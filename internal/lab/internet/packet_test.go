package internet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Packets for tests, made and read by somebody else's code.

// ends reads "10.0.0.2:4000" or "[fd00::2]:4000".
func ends(src, dst string) (netip.AddrPort, netip.AddrPort) {
	return netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
}

// network makes the IP layer between two addresses.
func network(src, dst netip.Addr, proto layers.IPProtocol) gopacket.SerializableLayer {
	if src.Is4() {
		return &layers.IPv4{Version: 4, TTL: 64, Id: 7, Protocol: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	}
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
}

func serialise(parts ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, options, parts...); err != nil {
		panic(err)
	}
	return slices.Clone(buf.Bytes())
}

func udp(src, dst, payload string) []byte {
	s, d := ends(src, dst)
	ip := network(s.Addr(), d.Addr(), layers.IPProtocolUDP)
	u := &layers.UDP{SrcPort: layers.UDPPort(s.Port()), DstPort: layers.UDPPort(d.Port())}
	u.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer))
	return serialise(ip, u, gopacket.Payload(payload))
}

// tcp makes a segment with flags such as "S", "SA", "A", "FA", "R".
func tcp(src, dst, flags string) []byte {
	s, d := ends(src, dst)
	ip := network(s.Addr(), d.Addr(), layers.IPProtocolTCP)
	seg := &layers.TCP{
		SrcPort: layers.TCPPort(s.Port()), DstPort: layers.TCPPort(d.Port()), Seq: 1000, Ack: 2000, Window: 512,
		SYN: strings.Contains(flags, "S"), ACK: strings.Contains(flags, "A"),
		FIN: strings.Contains(flags, "F"), RST: strings.Contains(flags, "R"),
	}
	seg.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer))
	return serialise(ip, seg, gopacket.Payload("data"))
}

// echo makes an ICMP echo request or reply of either family.
func echo(request bool, src, dst string, id uint16) []byte {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	if s.Is4() {
		typ := layers.ICMPv4TypeEchoReply
		if request {
			typ = layers.ICMPv4TypeEchoRequest
		}
		icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(uint8(typ), 0), Id: id, Seq: 1}
		return serialise(network(s, d, layers.IPProtocolICMPv4), icmp, gopacket.Payload("ping"))
	}
	typ := layers.ICMPv6TypeEchoReply
	if request {
		typ = layers.ICMPv6TypeEchoRequest
	}
	ip := network(s, d, layers.IPProtocolICMPv6)
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(uint8(typ), 0)}
	icmp.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer))
	return serialise(ip, icmp, &layers.ICMPv6Echo{Identifier: id, SeqNumber: 1}, gopacket.Payload("ping"))
}

// unreachable makes an ICMP port unreachable (for IPv6 too) that quotes the
// start of a packet.
func unreachable(src, dst string, quote []byte) []byte {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	if s.Is4() {
		icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 3)}
		return serialise(network(s, d, layers.IPProtocolICMPv4), icmp, gopacket.Payload(quote))
	}
	ip := network(s, d, layers.IPProtocolICMPv6)
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(1, 4)}
	icmp.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer))
	return serialise(ip, icmp, gopacket.Payload(append(make([]byte, 4), quote...)))
}

// decode reads a packet with gopacket.
func decode(packet []byte) gopacket.Packet {
	first := layers.LayerTypeIPv4
	if packet[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	return gopacket.NewPacket(packet, first, gopacket.Default)
}

// wrongChecksums names the checksums that do not hold, those of the packet
// quoted in an ICMP error included. Of fragments only the IP header is checked.
func wrongChecksums(packet []byte) string {
	p := decode(packet)
	if ip, ok := p.NetworkLayer().(*layers.IPv4); ok && (ip.FragOffset != 0 || ip.Flags&layers.IPv4MoreFragments != 0) {
		if _, result := ip.VerifyChecksum(); !result.Valid {
			return "IPv4 fragment"
		}
		return ""
	}
	if l, ok := upper(p).(interface {
		SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
	}); ok {
		_ = l.SetNetworkLayerForChecksum(p.NetworkLayer())
	}
	err, wrong := p.VerifyChecksums()
	if err != nil {
		return err.Error()
	}
	var names []string
	for _, w := range wrong {
		names = append(names, fmt.Sprintf("%s: %#x, not %#x", w.Layer.LayerType(), w.Actual, w.Correct))
	}
	if quote := quoteOf(p); quote != nil {
		if inner := wrongChecksums(quote); inner != "" {
			names = append(names, "quoted "+inner)
		}
	}
	return strings.Join(names, "; ")
}

// upper is the layer above IP.
func upper(p gopacket.Packet) gopacket.Layer {
	for _, l := range p.Layers() {
		switch l.LayerType() {
		case layers.LayerTypeUDP, layers.LayerTypeTCP, layers.LayerTypeICMPv4, layers.LayerTypeICMPv6:
			return l
		}
	}
	return nil
}

// quoteOf returns the packet that an ICMP error quotes, if it is one.
func quoteOf(p gopacket.Packet) []byte {
	switch icmp := upper(p).(type) {
	case *layers.ICMPv4:
		if t := icmp.TypeCode.Type(); t == 3 || t == 11 || t == 12 {
			return icmp.Payload
		}
	case *layers.ICMPv6:
		if icmp.TypeCode.Type() < 128 && len(icmp.Payload) > 4 {
			return icmp.Payload[4:]
		}
	}
	return nil
}

// show writes a packet as a test wants to read it:
//
//	udp 10.0.0.2:4000 > 203.0.113.1:53
//	icmp-error 203.0.113.1 > 10.0.0.2 [udp 10.0.0.2:4000 > 203.0.113.1:53]
func show(t testing.TB, packet []byte) string {
	t.Helper()
	if wrong := wrongChecksums(packet); wrong != "" {
		t.Errorf("wrong checksum: %s", wrong)
	}
	return describe(packet)
}

func describe(packet []byte) string {
	p := decode(packet)
	flow := p.NetworkLayer().NetworkFlow()
	src, _ := netip.AddrFromSlice(flow.Src().Raw())
	dst, _ := netip.AddrFromSlice(flow.Dst().Raw())
	port := func(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
	switch l := upper(p).(type) {
	case *layers.UDP:
		return fmt.Sprintf("udp %s > %s", port(src, uint16(l.SrcPort)), port(dst, uint16(l.DstPort)))
	case *layers.TCP:
		return fmt.Sprintf("tcp %s > %s", port(src, uint16(l.SrcPort)), port(dst, uint16(l.DstPort)))
	case *layers.ICMPv4:
		if quote := quoteOf(p); quote != nil {
			return fmt.Sprintf("icmp-error %s > %s [%s]", src, dst, describe(quote))
		}
		return fmt.Sprintf("echo %s > %s id %d", src, dst, l.Id)
	case *layers.ICMPv6:
		if quote := quoteOf(p); quote != nil {
			return fmt.Sprintf("icmp-error %s > %s [%s]", src, dst, describe(quote))
		}
		if e, ok := p.Layer(layers.LayerTypeICMPv6Echo).(*layers.ICMPv6Echo); ok {
			return fmt.Sprintf("echo %s > %s id %d", src, dst, e.Identifier)
		}
	}
	return fmt.Sprintf("%s > %s", src, dst)
}

// bench is an engine on a virtual clock.
type bench struct {
	testing.TB
	*Engine
	now time.Time
}

func newBench(t testing.TB, places ...Place) *bench {
	t.Helper()
	b := &bench{TB: t, Engine: New(1), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	if err := b.SetPlaces(places); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) sleep(d time.Duration) { b.now = b.now.Add(d) }

func (b *bench) path(from, to string, imp Impairment) {
	b.Helper()
	if err := b.SetPath(from, to, imp); err != nil {
		b.Fatal(err)
	}
}

// pass sends a packet over an unimpaired path and returns what comes out, or
// "" if nothing does.
func (b *bench) pass(packet []byte) string {
	b.Helper()
	out := b.passRaw(packet)
	if out == nil {
		return ""
	}
	return show(b.TB, out)
}

func (b *bench) passRaw(packet []byte) []byte {
	b.Helper()
	b.Handle(b.now, packet)
	due := b.Due(b.now)
	if len(due) > 1 {
		b.Fatalf("%d packets came out of one", len(due))
	}
	if len(due) == 0 {
		return nil
	}
	return due[0]
}

// want sends a packet and says what must come out.
func (b *bench) want(packet []byte, out string) {
	b.Helper()
	in := describe(packet)
	if got := b.pass(packet); got != out {
		b.Errorf("%s\n came out as %q\n      want %q", in, got, out)
	}
}

// pair returns the counters of one ordered pair.
func (b *bench) pair(from, to string) PairCounters {
	for _, c := range b.Counters().Pairs {
		if c.From == from && c.To == to {
			return c
		}
	}
	return PairCounters{From: from, To: to}
}

func prefixes(texts ...string) (p []netip.Prefix) {
	for _, text := range texts {
		p = append(p, netip.MustParsePrefix(text))
	}
	return p
}
