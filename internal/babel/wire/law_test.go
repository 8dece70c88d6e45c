package wire

import (
	"net/netip"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// said returns a TLV as its receiver will have it: prefixes without host bits, no next hop
// as the packet's source, and a retraction without what retractions are written without.
func said(t TLV) TLV {
	switch t := t.(type) {
	case Update:
		t.Prefix, t.Source, t.NextHop = t.Prefix.Masked(), t.Source.Masked(), t.NextHop.WithZone("")
		if !t.NextHop.IsValid() {
			t.NextHop = source
		}
		if t.Metric == Infinity {
			t.RouterID, t.NextHop = RouterID{}, netip.Addr{}
		}
		return t
	case RouteRequest:
		t.Prefix, t.Source = t.Prefix.Masked(), t.Source.Masked()
		return t
	case SeqnoRequest:
		t.Prefix, t.Source = t.Prefix.Masked(), t.Source.Masked()
		return t
	case IHU:
		t.Address = t.Address.WithZone("")
		return t
	}
	return t
}

func allSaid(tlvs []TLV) []TLV {
	var out []TLV
	for _, t := range tlvs {
		out = append(out, said(t))
	}
	return out
}

// packets encodes TLVs, in as many packets as they need.
func packets(t rapid.TB, size int, tlvs []TLV) [][]byte {
	t.Helper()
	e := NewEncoder(size)
	var out [][]byte
	for _, tlv := range tlvs {
		if e.Add(tlv) {
			continue
		}
		if !e.Empty() {
			out = append(out, append([]byte(nil), e.Bytes()...))
			e.Reset()
		}
		if !e.Add(tlv) {
			t.Fatalf("%+v: does not fit into %d bytes", tlv, size)
		}
	}
	if !e.Empty() {
		out = append(out, append([]byte(nil), e.Bytes()...))
	}
	return out
}

// heard decodes packets, of which nothing may be left out.
func heard(t rapid.TB, size int, packets [][]byte) []TLV {
	t.Helper()
	var out []TLV
	for _, b := range packets {
		p, err := Decode(b, source)
		if err != nil || p.Unknown != 0 || p.Malformed != 0 || len(p.Trailer) != 0 || len(b) > size {
			t.Fatalf("%x: of %d bytes at most: %v, %+v", b, size, err, p)
		}
		out = append(out, allSaid(p.TLVs)...)
	}
	return out
}

func TestWhatIsEncodedIsDecoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tlvs := rapid.SliceOf(rapid.Custom(drawTLV)).Draw(t, "tlvs")
		size := rapid.IntRange(250, 1400).Draw(t, "size")
		if diff := cmp.Diff(allSaid(tlvs), heard(t, size, packets(t, size, tlvs)), asValues); diff != "" {
			t.Fatal(diff)
		}
	})
}

// Few values of each, so that many TLVs have the same.
func drawTLV(t *rapid.T) TLV {
	u16, u32 := rapid.Uint16(), rapid.Uint32()
	interval := Interval(rapid.Uint16Min(1).Draw(t, "interval"))
	octets := rapid.SliceOfN(rapid.Byte(), 0, MaxIndex)
	routerID := rapid.Custom(func(t *rapid.T) RouterID { return RouterID{7: rapid.ByteRange(1, 3).Draw(t, "id")} })
	switch rapid.IntRange(0, 20).Draw(t, "kind") {
	case 0:
		return AckRequest{Opaque: u16.Draw(t, "opaque"), Interval: interval}
	case 1:
		return Ack{Opaque: u16.Draw(t, "opaque")}
	case 2:
		return Hello{Unicast: rapid.Bool().Draw(t, "unicast"), Seqno: u16.Draw(t, "seqno"), Interval: Interval(u16.Draw(t, "interval"))}
	case 3:
		return Hello{Seqno: u16.Draw(t, "seqno"), Stamped: true, Timestamp: u32.Draw(t, "timestamp")}
	case 4:
		return IHU{RxCost: u16.Draw(t, "rxcost"), Interval: interval}
	case 5:
		return IHU{RxCost: u16.Draw(t, "rxcost"), Interval: interval, Address: drawAddr(t),
			Stamped: true, Origin: u32.Draw(t, "origin"), Receive: u32.Draw(t, "receive")}
	case 6:
		return PacketCounter{Counter: u32.Draw(t, "counter"), Index: octets.Draw(t, "index")}
	case 7:
		return ChallengeRequest{Nonce: octets.Draw(t, "nonce")}
	case 8:
		return ChallengeReply{Nonce: octets.Draw(t, "nonce")}
	case 9:
		return RouteRequest{}
	case 10:
		p, src := drawPrefixes(t)
		return RouteRequest{Prefix: p, Source: src}
	case 11:
		p, src := drawPrefixes(t)
		return SeqnoRequest{Prefix: p, Source: src, Seqno: u16.Draw(t, "seqno"),
			HopCount: rapid.ByteMin(1).Draw(t, "hops"), RouterID: routerID.Draw(t, "router-id")}
	case 12:
		return Update{Interval: interval, Seqno: u16.Draw(t, "seqno"), Metric: Infinity}
	}
	p, src := drawPrefixes(t)
	u := Update{Prefix: p, Source: src, RouterID: routerID.Draw(t, "router-id"), Interval: interval,
		Seqno: u16.Draw(t, "seqno"), Metric: rapid.SampledFrom([]uint16{0, 1, Infinity}).Draw(t, "metric")}
	if rapid.Bool().Draw(t, "has a next hop") {
		if u.NextHop = drawAddr(t); u.NextHop.Is4() && !p.Addr().Is4() {
			u.NextHop = netip.Addr{}
		}
	}
	if u.Metric == Infinity {
		u.Silent = rapid.Uint8().Draw(t, "silent")
	}
	if u.Metric < Infinity && rapid.Bool().Draw(t, "mobile") {
		u.Mobility, u.Before = rapid.Uint32Min(1).Draw(t, "mobility"), u32.Draw(t, "before")
	}
	return u
}

func drawAddr(t *rapid.T) netip.Addr {
	return addrOf(rapid.SampledFrom([]string{
		"192.0.2.1", "192.0.2.2", "fe80::1", "fe80::2", "fe80::2%eth0", "fe80:1::2", "2001:db8::1",
	}).Draw(t, "address"))
}

func drawPrefixes(t *rapid.T) (p, source netip.Prefix) {
	octet := rapid.SampledFrom([]byte{0, 1, 2, 0xff})
	one := func(from int) netip.Prefix {
		if from >= 100 {
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, octet.Draw(t, "b"), octet.Draw(t, "c"), octet.Draw(t, "d")}),
				rapid.IntRange(from-100, 32).Draw(t, "bits"))
		}
		a := [16]byte{0x20, 0x01, 2: octet.Draw(t, "2"), 7: octet.Draw(t, "7"), 8: octet.Draw(t, "8"), 15: octet.Draw(t, "15")}
		return netip.PrefixFrom(netip.AddrFrom16(a), rapid.IntRange(from, 128).Draw(t, "bits"))
	}
	family := 100 * rapid.IntRange(0, 1).Draw(t, "family")
	p = one(family)
	if rapid.Bool().Draw(t, "has a source") {
		source = one(family + 1)
	}
	return p, source
}

// FuzzDecode looks for a packet that makes Decode panic or hold more than it is worth, or
// that says something which an Encoder cannot say again.
func FuzzDecode(f *testing.F) {
	f.Add(octetsOf(f, "2a 02 0006 03 02 0007 00 01 10 01 ab"))
	f.Add(encode(f, Hello{Seqno: 1, Interval: 2, Stamped: true}, IHU{RxCost: 1, Interval: 2, Address: addrOf("fe80::2"), Stamped: true},
		AckRequest{Opaque: 1, Interval: 2}, PacketCounter{Index: []byte{1}}, ChallengeRequest{Nonce: []byte{1}}, ChallengeReply{Nonce: []byte{1}}))
	four, six := update("10.1.2.0/24", "192.0.2.1"), update("2001:db8:1::/48", "fe80::2")
	four.Source, six.Source = prefixOf("10.0.0.0/9"), prefixOf("fd00::/20")
	via := update("10.1.3.0/24", "fe80::3")
	f.Add(encode(f, four, six, via, four, six, via, Update{Metric: Infinity, Interval: 1}))
	f.Add(encode(f, RouteRequest{}, RouteRequest{Prefix: six.Prefix, Source: six.Source},
		SeqnoRequest{Prefix: four.Prefix, Source: four.Source, HopCount: 1, RouterID: id}))
	f.Add(packetOf(octetsOf(f, "08 1a 02 c0 80 00 0064 0001 0002 20010db8000000000102030405060708 08 0b 02 00 28 04 0064 0001 0002 aa")))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Decode(b, source)
		if err != nil {
			return
		}
		// Two bytes are the shortest TLV.
		if n := len(p.TLVs) + p.Unknown + p.Malformed; n > (len(b)-headerLen+1)/2 || len(p.Trailer) > len(b)-headerLen {
			t.Fatalf("%d TLVs and %d bytes of trailer in %d bytes", n, len(p.Trailer), len(b))
		}
		const size = 512
		if diff := cmp.Diff(allSaid(p.TLVs), heard(t, size, packets(t, size, p.TLVs)), asValues); diff != "" {
			t.Fatalf("%x: %s", b, diff)
		}
	})
}

// A datagram of 64 KiB may hold 16,380 acknowledgments. Nothing in it makes more of itself
// than a few times what an update of the same length is.
func TestDecodeIsBoundedByTheLengthOfAPacket(t *testing.T) {
	for name, unit := range map[string]string{
		"acknowledgments": "03 02 0007",
		"requests":        "09 02 00 00",
		"updates":         "08 0a 02 00 00 00 0064 0001 ffff",
		"nonces":          "12 00",
		"unknown":         "c8 00",
		"broken":          "08 00",
		"padding":         "00",
	} {
		t.Run(name, func(t *testing.T) {
			var body []byte
			for one := octetsOf(t, unit); len(body)+len(one) <= maxBody; {
				body = append(body, one...)
			}
			b := packetOf(body)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			p, err := Decode(b, source)
			runtime.ReadMemStats(&after)
			if err != nil {
				t.Fatal(err)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 64*uint64(len(b)) {
				t.Errorf("%d bytes for %d TLVs in %d", n, len(p.TLVs), len(b))
			}
		})
	}
}

func benchmarkUpdates() []TLV {
	var tlvs []TLV
	for i := range 64 {
		tlvs = append(tlvs, Update{
			Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(i / 4), byte(i * 8)}), 32), RouterID: RouterID{1, 7: byte(i / 8)},
			Interval: 4000, Seqno: 7, Metric: uint16(400 + i)})
	}
	return tlvs
}

func BenchmarkDecode(b *testing.B) {
	packet := encode(b, benchmarkUpdates()...)
	b.ReportAllocs()
	b.SetBytes(int64(len(packet)))
	for b.Loop() {
		if p, err := Decode(packet, source); err != nil || len(p.TLVs) != 64 {
			b.Fatal(p, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/update")
}

func BenchmarkEncode(b *testing.B) {
	tlvs := benchmarkUpdates()
	e := NewEncoder(1400)
	b.ReportAllocs()
	for b.Loop() {
		e.Reset()
		for _, t := range tlvs {
			if !e.Add(t) {
				b.Fatal("does not fit")
			}
		}
		e.Bytes()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/update")
}
