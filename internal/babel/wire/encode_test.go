package wire

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

// encode puts all of tlvs into one packet.
func encode(t testing.TB, tlvs ...TLV) []byte {
	t.Helper()
	e := NewEncoder(1200)
	for _, tlv := range tlvs {
		if !e.Add(tlv) {
			t.Fatalf("%+v: does not fit", tlv)
		}
	}
	return e.Bytes()
}

func TestEncodeWritesTheseBytes(t *testing.T) {
	via := func(prefix, nextHop string) Update {
		u := update(prefix, "fe80::1")
		u.NextHop = netip.Addr{}
		if nextHop != "" {
			u.NextHop = addrOf(nextHop)
		}
		return u
	}
	from := func(u Update, source string) Update { u.Source = prefixOf(source); return u }
	gone := func(u Update) Update { u.Metric = Infinity; return u }
	silent := func(u Update) Update { u.Silent = 1; return u }
	moved := func(u Update) Update { u.Mobility, u.Before = 7, 0x0a000001; return u }
	other := RouterID{7: 1}
	by := func(u Update, r RouterID) Update { u.RouterID = r; return u }
	for _, tt := range []struct {
		name string
		tlvs []TLV
		want string
	}{
		{"acknowledgments", []TLV{AckRequest{Opaque: 0xbeef, Interval: 100}, Ack{Opaque: 7}}, `
			02 06 0000 beef 0064
			03 02 0007`},
		{"hellos", []TLV{Hello{Seqno: 1, Interval: 2}, Hello{Unicast: true, Seqno: 1}, Hello{Seqno: 1, Stamped: true, Timestamp: 3}}, `
			04 06 0000 0001 0002
			04 06 8000 0001 0000
			04 0c 0000 0001 0000  03 04 00000003`},
		{"IHUs", []TLV{
			IHU{RxCost: 1, Interval: 2}, IHU{RxCost: 1, Interval: 2, Address: addrOf("192.0.2.1")},
			IHU{RxCost: 1, Interval: 2, Address: addrOf("fe80::9%eth0"), Stamped: true, Origin: 3, Receive: 4},
			IHU{RxCost: 1, Interval: 2, Address: addrOf("fe80:1::9")}}, `
			05 06 00 00 0001 0002
			05 0a 01 00 0001 0002 c0000201
			05 18 03 00 0001 0002 0000000000000009  03 08 00000003 00000004
			05 16 02 00 0001 0002 fe800001000000000000000000000009`},
		{"requests", []TLV{
			RouteRequest{}, RouteRequest{Prefix: prefixOf("192.168.35.7/24")}, RouteRequest{Prefix: prefixOf("::/0"), Source: prefixOf("fd00::/20")},
			SeqnoRequest{Prefix: prefixOf("10.0.0.0/9"), Source: prefixOf("10.128.0.0/9"), Seqno: 1, HopCount: 2, RouterID: id}}, `
			09 02 00 00
			09 05 01 18 c0a823
			09 08 02 00  80 04 14 fd0000
			0a 15 01 09 0001 02 00 1122334455667788 0a00  80 03 09 0a80`},
		{"authentication", []TLV{PacketCounter{Counter: 1, Index: []byte{9}}, ChallengeRequest{Nonce: []byte{8}}, ChallengeReply{Nonce: []byte{7}}}, `
			11 05 00000001 09
			12 01 08
			13 01 07`},

		{"a router-id once for all of its updates", []TLV{via("::/0", ""), via("::/0", ""), by(via("::/0", ""), other), via("::/0", "")}, `
			06 0a 0000 1122334455667788
			08 0a 02 80 00 00 0064 0001 0002
			08 0a 02 80 00 00 0064 0001 0002
			06 0a 0000 0000000000000001
			08 0a 02 80 00 00 0064 0001 0002
			06 0a 0000 1122334455667788
			08 0a 02 80 00 00 0064 0001 0002`},
		{"no router-id for a retraction", []TLV{gone(via("::/0", "")), Update{Interval: 9, Metric: Infinity}}, `
			08 0a 02 80 00 00 0064 0001 ffff
			08 0a 00 00 00 00 0009 0000 ffff`},
		{"a retraction for silence", []TLV{silent(gone(via("10.1.0.0/16", ""))), silent(gone(from(via("10.1.0.0/16", ""), "10.128.0.0/9")))}, `
			08 0f 04 80 10 00 0064 0001 ffff 0a01  70 01 01
			08 12 04 80 10 02 0064 0001 ffff  80 03 09 0a80  70 01 01`},
		{"a host that has moved", []TLV{moved(via("10.1.0.10/32", ""))}, `
			06 0a 0000 1122334455667788
			08 18 04 80 20 00 0064 0001 0002 0a01000a  71 08 00000007 0a000001`},
		{"next hops where they change, the source without one", []TLV{
			via("10.0.0.0/8", ""), via("10.0.0.0/8", "192.0.2.1"), via("2001::/16", ""), via("2001::/16", "fe80::2"),
			via("10.0.0.0/8", "192.0.2.1"), via("10.0.0.0/8", "fe80::2"), via("10.0.0.0/8", "2001:db8::2")}, `
			06 0a 0000 1122334455667788
			08 0b 04 80 08 00 0064 0001 0002 0a
			07 06 01 00 c0000201
			08 0b 01 80 08 00 0064 0001 0002 0a # not from the default of encoding 4
			08 0c 02 80 10 00 0064 0001 0002 2001
			07 0a 03 00 0000000000000002
			08 0a 02 80 10 02 0064 0001 0002
			08 0a 01 80 08 01 0064 0001 0002
			08 0b 04 80 08 00 0064 0001 0002 0a
			07 12 02 00 20010db8000000000000000000000002
			08 0a 04 80 08 01 0064 0001 0002`},
		{"octets left out where the prefix before has them", []TLV{
			via("2001:db8:1::/48", ""), via("2001:db8:1:2::/64", ""), via("2001:db8:1:3::/64", ""), via("2001:db8::/32", ""), via("2001:db8::/64", "")}, `
			06 0a 0000 1122334455667788
			08 10 02 80 30 00 0064 0001 0002 20010db80001
			08 0c 02 80 40 06 0064 0001 0002 0002
			08 0b 02 80 40 07 0064 0001 0002 03
			08 0a 02 80 20 04 0064 0001 0002
			08 0e 02 80 40 04 0064 0001 0002 00000000 # the one before has only 32 bits`},
		{"no host bits, and a source", []TLV{from(via("10.1.2.255/20", ""), "10.9.255.255/12")}, `
			06 0a 0000 1122334455667788
			08 12 04 80 14 00 0064 0001 0002 0a0100  80 03 0c 0a00`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, want := encode(t, tt.tlvs...), packetOf(octetsOf(t, tt.want))
			if !bytes.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", hex.Dump(got), hex.Dump(want))
			}
		})
	}
}

func TestEncoderStaysAsItWasWhenATLVDoesNotFit(t *testing.T) {
	u := Update{Prefix: prefixOf("10.1.2.0/24"), NextHop: addrOf("192.0.2.1"), RouterID: id, Interval: 1, Metric: 1}
	whole := encode(t, Ack{Opaque: 1}, u)
	for size := range len(whole) {
		e := NewEncoder(size)
		added := e.Add(Ack{Opaque: 1})
		if added != (size >= 8) {
			t.Fatalf("%d bytes: an acknowledgment fits: %v", size, added)
		}
		if e.Add(u) {
			t.Fatalf("%d bytes: an update of %d fits", size, len(whole))
		}
		if added && (!bytes.Equal(e.Bytes(), packetOf([]byte{3, 2, 0, 1})) || e.Len() != 8) {
			t.Fatalf("%d bytes: left with %x", size, e.Bytes())
		}
		// What did not fit is not taken as known by what does.
		e.size = 1200
		if e.Add(u); added && !bytes.Equal(e.Bytes(), whole) {
			t.Fatalf("%d bytes: %x, not %x", size, e.Bytes(), whole)
		}
	}
	if e := NewEncoder(len(whole)); !e.Add(Ack{Opaque: 1}) || !e.Add(u) {
		t.Error("a packet cannot be filled to its last byte")
	}
}

func TestEncoderBeginsAnew(t *testing.T) {
	u := Update{Prefix: prefixOf("10.1.2.0/24"), RouterID: id, Interval: 1, Metric: 1}
	e := NewEncoder(100)
	if !e.Empty() || e.Bytes() != nil {
		t.Error("a new packet is not empty")
	}
	first := encode(t, u)
	for range 3 {
		if !e.Add(u) || e.Empty() || !bytes.Equal(e.Bytes(), first) {
			t.Fatalf("%x, not %x", e.Bytes(), first)
		}
		if e.Reset(); !e.Empty() || e.Bytes() != nil {
			t.Error("a packet is not empty after Reset")
		}
	}
}

// The encoder does not know the packet's source, so it cannot go back to it.
func TestUpdateViaTheSourceNeedsAPacketWithoutOtherNextHops(t *testing.T) {
	here := Update{Prefix: prefixOf("10.1.2.0/24"), RouterID: id, Interval: 1, Metric: 1}
	there := here
	there.NextHop = addrOf("fe80::2")
	e := NewEncoder(1200)
	if !e.Add(here) || !e.Add(there) {
		t.Fatal("an update does not fit")
	}
	before := bytes.Clone(e.Bytes())
	if e.Add(here) || !bytes.Equal(e.Bytes(), before) {
		t.Error("an update is via another's next hop")
	}
	here.Metric = Infinity // needs none
	if !e.Add(here) {
		t.Error("a retraction does not fit")
	}
}

func TestEncoderPanicsAtWhatNoPacketHolds(t *testing.T) {
	u := Update{Prefix: prefixOf("10.0.0.0/8"), RouterID: id, Interval: 1, Metric: 1}
	with := func(change func(*Update)) Update { u := u; change(&u); return u }
	for name, tlv := range map[string]TLV{
		"nothing":                        nil,
		"acknowledgment request at once": AckRequest{},
		"IHU at once":                    IHU{},
		"IHU for a group":                IHU{Interval: 1, Address: Group},
		"update at once":                 with(func(u *Update) { u.Interval = 0 }),
		"update of nobody":               with(func(u *Update) { u.RouterID = RouterID{} }),
		"update of everything":           with(func(u *Update) { u.Prefix = netip.Prefix{} }),
		"IPv6 update via IPv4":           with(func(u *Update) { u.Prefix, u.NextHop = prefixOf("::/0"), addrOf("10.0.0.1") }),
		"update via a group":             with(func(u *Update) { u.NextHop = Group }),
		"IPv4 written as IPv6":           with(func(u *Update) { u.Prefix = prefixOf("::ffff:10.0.0.0/104") }),
		"source of the other family":     with(func(u *Update) { u.Source = prefixOf("fd00::/8") }),
		"source of length 0":             with(func(u *Update) { u.Source = prefixOf("0.0.0.0/0") }),
		"request for all from a source":  RouteRequest{Source: prefixOf("10.0.0.0/8")},
		"seqno request for all":          SeqnoRequest{HopCount: 1, RouterID: id},
		"seqno request without hops":     SeqnoRequest{Prefix: prefixOf("::/0"), RouterID: id},
		"seqno request to nobody":        SeqnoRequest{Prefix: prefixOf("::/0"), HopCount: 1},
		"long index":                     PacketCounter{Index: make([]byte, 33)},
		"long nonce":                     ChallengeRequest{Nonce: make([]byte, 193)},
		"long answer":                    ChallengeReply{Nonce: make([]byte, 193)},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if s, _ := recover().(string); !strings.HasPrefix(s, "wire: cannot be encoded: ") {
					t.Errorf("panics with %q", s)
				}
			}()
			NewEncoder(1200).Add(tlv)
		})
	}
}

func TestValuesWalksATrailer(t *testing.T) {
	var got []string
	for kind, v := range Values(octetsOf(t, "00 01 01 00 10 02 abcd 63 00 10 03 01")) {
		got = append(got, hex.EncodeToString(append([]byte{kind}, v...)))
	}
	if s := strings.Join(got, " "); s != "10abcd 63" {
		t.Error(s)
	}
}

func TestRouterIDPrintsAsBabeldDoes(t *testing.T) {
	if s := id.String(); s != "11:22:33:44:55:66:77:88" {
		t.Error(s)
	}
}
