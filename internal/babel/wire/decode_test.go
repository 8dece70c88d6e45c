package wire

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var (
	addrOf   = netip.MustParseAddr
	prefixOf = netip.MustParsePrefix

	source = addrOf("fe80::1") // of the packets
	id     = RouterID{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88}

	// Values as they are, addresses and prefixes too; an empty slice is as good as none.
	asValues = cmp.Options{
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmpopts.EquateEmpty(),
	}
)

// octetsOf reads bytes in hexadecimal. What follows a # on a line says which they are.
func octetsOf(t testing.TB, s string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(s) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// packetOf puts the header before a body.
func packetOf(body []byte) []byte {
	return append([]byte{42, 2, byte(len(body) >> 8), byte(len(body))}, body...)
}

const routerIDHex = `06 0a 0000 1122334455667788 # Router-Id
`

func TestDecodeReadsEveryTLV(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       TLV
	}{
		{"acknowledgment request", `02 06  0000 # reserved
			beef # opaque
			0064 # interval`, AckRequest{Opaque: 0xbeef, Interval: 100}},
		{"acknowledgment", `03 02 beef`, Ack{Opaque: 0xbeef}},
		{"multicast hello", `04 06
			0000 # flags
			0102 # seqno
			0190 # interval`, Hello{Seqno: 0x102, Interval: 400}},
		{"unicast hello, unscheduled, with flags that nobody knows", `04 06 ffff 0102 0000`,
			Hello{Unicast: true, Seqno: 0x102}},
		{"hello with a timestamp", `04 0c 0000 0102 0190
			03 04 aabbccdd`, Hello{Seqno: 0x102, Interval: 400, Stamped: true, Timestamp: 0xaabbccdd}},
		{"hello with a timestamp longer than today's, behind padding", `04 12 0000 0102 0190
			00        # Pad1
			01 01 00  # PadN
			03 06 aabbccdd 9999`, Hello{Seqno: 0x102, Interval: 400, Stamped: true, Timestamp: 0xaabbccdd}},
		{"hello with a timestamp that is too short", `04 0b 0000 0102 0190 03 03 aabbcc`, Hello{Seqno: 0x102, Interval: 400}},
		{"hello with a sub-TLV that nobody knows", `04 0a 0000 0102 0190 7f 02 0102`, Hello{Seqno: 0x102, Interval: 400}},
		{"IHU for the one it is sent to", `05 06
			00 00 # encoding, reserved
			0102  # rxcost
			04b0  # interval`, IHU{RxCost: 0x102, Interval: 1200}},
		{"IHU for an IPv4 address", `05 0a 01 00 0102 04b0 c0000201`,
			IHU{RxCost: 0x102, Interval: 1200, Address: addrOf("192.0.2.1")}},
		{"IHU for an IPv6 address", `05 16 02 00 0102 04b0 20010db8000000000000000000000001`,
			IHU{RxCost: 0x102, Interval: 1200, Address: addrOf("2001:db8::1")}},
		{"IHU for a link-local address, with timestamps", `05 18 03 00 ffff 04b0 0011223344556677
			03 08 aabbccdd 01020304`, IHU{RxCost: Infinity, Interval: 1200, Address: addrOf("fe80::11:2233:4455:6677"),
			Stamped: true, Origin: 0xaabbccdd, Receive: 0x01020304}},
		{"request for all routes", `09 02 00 00`, RouteRequest{}},
		{"request for an IPv4 prefix", `09 04 01 0c ac1f # host bits`, RouteRequest{Prefix: prefixOf("172.16.0.0/12")}},
		{"request for an IPv4 prefix via IPv6", `09 04 04 0c ac10`, RouteRequest{Prefix: prefixOf("172.16.0.0/12")}},
		{"request for a prefix from a source", `09 0d 02 20 20010db8
			80 05 # source prefix
			20 fd000001`, RouteRequest{Prefix: prefixOf("2001:db8::/32"), Source: prefixOf("fd00:1::/32")}},
		{"request for a default", `09 02 01 00`, RouteRequest{Prefix: prefixOf("0.0.0.0/0")}},
		{"request for a seqno", `0a 11
			01 18 # encoding, prefix length
			8001  # seqno
			40 00 # hop count, reserved
			1122334455667788
			c0a823`, SeqnoRequest{Prefix: prefixOf("192.168.35.0/24"), Seqno: 0x8001, HopCount: 64, RouterID: id}},
		{"request for a seqno of a prefix from a source", `0a 12 01 00 8001 01 00 1122334455667788
			80 02 08 0a # source prefix`,
			SeqnoRequest{Prefix: prefixOf("0.0.0.0/0"), Source: prefixOf("10.0.0.0/8"), Seqno: 0x8001, HopCount: 1, RouterID: id}},
		{"packet counter", `11 06 00000009 abcd`, PacketCounter{Counter: 9, Index: []byte{0xab, 0xcd}}},
		{"challenge request", `12 03 010203`, ChallengeRequest{Nonce: []byte{1, 2, 3}}},
		{"challenge reply", `13 03 010203`, ChallengeReply{Nonce: []byte{1, 2, 3}}},
		{"retraction of all routes", `08 0a
			00 00  # encoding, flags
			00 00  # prefix length, omitted
			ffff 0001 ffff # interval, seqno, metric`, Update{Interval: 0xffff, Seqno: 1, Metric: Infinity}},
		{"retraction without router-id or IPv4 next hop", `08 0c 01 80 10 00 0064 0001 ffff c0a8`,
			Update{Prefix: prefixOf("192.168.0.0/16"), Interval: 100, Seqno: 1, Metric: Infinity}},
		{"retraction for silence", `08 0f 01 80 10 00 0064 0001 ffff c0a8  70 01 07`,
			Update{Prefix: prefixOf("192.168.0.0/16"), Interval: 100, Seqno: 1, Metric: Infinity, Silent: 7}},
		{"a host that has moved", `06 0a 0000 1122334455667788 08 18 02 80 20 00 0064 0001 0002 20010db8  71 08 00000007 0a000001`,
			Update{Prefix: prefixOf("2001:db8::/32"), NextHop: source, RouterID: id, Interval: 100, Seqno: 1, Metric: 2, Mobility: 7, Before: 0x0a000001}},
		{"retraction of all routes is none for silence", `08 0d 00 00 00 00 ffff 0001 ffff  70 01 01`,
			Update{Interval: 0xffff, Seqno: 1, Metric: Infinity}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Decode(packetOf(octetsOf(t, tt.body)), source)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(Packet{TLVs: []TLV{tt.want}}, got, asValues); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// update shortens the wanted values below: seqno 1, interval 100, metric 2.
func update(prefix, nextHop string) Update {
	return Update{Prefix: prefixOf(prefix), NextHop: addrOf(nextHop), RouterID: id, Interval: 100, Seqno: 1, Metric: 2}
}

func TestDecodeMakesUpdatesWhole(t *testing.T) {
	from := func(u Update, source string) Update { u.Source = prefixOf(source); return u }
	by := func(u Update, r RouterID) Update { u.RouterID = r; return u }
	for _, tt := range []struct {
		name, body string
		want       []TLV
	}{
		{"an IPv6 prefix via the packet's source", `08 0e 02 00 20 00 0064 0001 0002 20010db8`,
			[]TLV{update("2001:db8::/32", "fe80::1")}},
		{"an IPv4 prefix via an IPv4 address", `
			07 06 01 00 c0000201                # Next Hop
			08 0d 01 00 18 00 0064 0001 0002 c0a823`, []TLV{update("192.168.35.0/24", "192.0.2.1")}},
		{"an IPv4 prefix via IPv6", `08 0d 04 00 18 00 0064 0001 0002 c0a823`, []TLV{update("192.168.35.0/24", "fe80::1")}},
		{"next hops of either family, until the next", `
			07 06 01 00 c0000201
			07 0a 03 00 0000000000000002        # fe80::2
			08 0d 01 00 18 00 0064 0001 0002 c0a823
			08 0d 04 00 18 00 0064 0001 0002 c0a823
			07 12 02 00 20010db8000000000000000000000009
			08 0a 02 00 00 00 0064 0001 0002`, []TLV{
			update("192.168.35.0/24", "192.0.2.1"), update("192.168.35.0/24", "fe80::2"), update("::/0", "2001:db8::9")}},
		{"octets left out, of the last prefix with the flag", `
			08 10 02 80 30 00 0064 0001 0002 20010db80001
			08 0b 02 00 38 06 0064 0001 0002 aa # no flag: the next is not after this one
			08 0c 02 80 40 06 0064 0001 0002 bbcc
			08 0a 02 00 40 08 0064 0001 0002    # all of them
			08 0a 02 00 2f 06 0064 0001 0002    # and a bit beyond its length`, []TLV{
			update("2001:db8:1::/48", "fe80::1"), update("2001:db8:1:aa00::/56", "fe80::1"),
			update("2001:db8:1:bbcc::/64", "fe80::1"), update("2001:db8:1:bbcc::/64", "fe80::1"), update("2001:db8::/47", "fe80::1")}},
		{"a default prefix for each encoding", `
			07 06 01 00 c0000201
			08 0c 01 80 10 00 0064 0001 0002 c0a8
			08 0c 04 80 10 00 0064 0001 0002 ac10
			08 0c 02 80 10 00 0064 0001 0002 2001
			08 0b 01 00 18 02 0064 0001 0002 23
			08 0b 04 00 18 02 0064 0001 0002 23
			08 0b 02 00 18 02 0064 0001 0002 23`, []TLV{
			update("192.168.0.0/16", "192.0.2.1"), update("172.16.0.0/16", "fe80::1"), update("2001::/16", "fe80::1"),
			update("192.168.35.0/24", "192.0.2.1"), update("172.16.35.0/24", "fe80::1"), update("2001:2300::/24", "fe80::1")}},
		{"host bits, not inherited either", `
			08 0d 04 80 14 00 0064 0001 0002 c0a8ff
			08 0a 04 00 18 03 0064 0001 0002`, []TLV{update("192.168.240.0/20", "fe80::1"), update("192.168.240.0/24", "fe80::1")}},
		{"a router-id from an IPv6 prefix, until the next", `
			08 1a 02 40 80 00 0064 0001 0002 20010db8000000000102030405060708
			08 0a 02 00 00 00 0064 0001 0002
			` + routerIDHex + `
			08 0a 02 00 00 00 0064 0001 0002`, []TLV{
			by(update("2001:db8::102:304:506:708/128", "fe80::1"), RouterID{1, 2, 3, 4, 5, 6, 7, 8}),
			by(update("::/0", "fe80::1"), RouterID{1, 2, 3, 4, 5, 6, 7, 8}), update("::/0", "fe80::1")}},
		{"a router-id from an IPv4 prefix", `08 0e 04 40 20 00 0064 0001 0002 c0a82301`,
			[]TLV{by(update("192.168.35.1/32", "fe80::1"), RouterID{4: 192, 5: 168, 6: 35, 7: 1})}},
		{"source prefixes", `
			08 0f 04 00 00 00 0064 0001 0002  80 03 10 c0a8
			08 11 02 00 00 00 0064 0001 0002  80 05 1c fd00001f # host bits
			08 0a 04 00 00 00 0064 0001 0002`, []TLV{
			from(update("0.0.0.0/0", "fe80::1"), "192.168.0.0/16"), from(update("::/0", "fe80::1"), "fd00:10::/28"),
			update("0.0.0.0/0", "fe80::1")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Decode(packetOf(octetsOf(t, routerIDHex+tt.body)), source)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(Packet{TLVs: tt.want}, got, asValues); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The last TLV of each body is one that relies on those before it.
func TestParserStateSurvivesIgnoredTLVsButNotBrokenOnes(t *testing.T) {
	const rest = `08 0b 02 00 28 04 0064 0001 0002 aa`
	whole := update("2001:db8:aa00::/40", "fe80::1")
	for _, tt := range []struct {
		name, body string
		want       []TLV
		unknown    int
		malformed  int
	}{
		{"an update with an unknown mandatory sub-TLV", routerIDHex + `
			08 10 02 80 20 00 0064 0001 0002 20010db8  ff 00`, []TLV{whole}, 1, 0},
		{"its router-id", `08 1c 02 c0 80 00 0064 0001 0002 20010db8000000001122334455667788 ff 00`, []TLV{whole}, 1, 0},
		{"a router-id with an unknown mandatory sub-TLV", `
			06 0c 0000 1122334455667788 ff 00
			08 1a 02 80 80 00 ffff 0001 ffff 20010db8000000001122334455667788`, []TLV{
			Update{Prefix: prefixOf("2001:db8::1122:3344:5566:7788/128"), NextHop: source, RouterID: id, Interval: 0xffff, Seqno: 1, Metric: Infinity},
			whole}, 1, 0},
		{"a next hop with an unknown mandatory sub-TLV", routerIDHex + `
			07 0c 03 00 0000000000000009 ff 00
			08 10 02 80 20 00 0064 0001 0002 20010db8  ff 00`, []TLV{update("2001:db8:aa00::/40", "fe80::9")}, 2, 0},
		{"an update that breaks a rule", routerIDHex + `
			08 0e 02 80 20 00 0000 0001 0002 20010db8 # interval 0`, []TLV{whole}, 0, 1},

		{"a router-id that is none", routerIDHex + `
			08 0e 02 80 20 00 0064 0001 ffff 20010db8
			06 0a 0000 ffffffffffffffff`, []TLV{
			Update{Prefix: prefixOf("2001:db8::/32"), NextHop: source, RouterID: id, Interval: 100, Seqno: 1, Metric: Infinity}}, 0, 2},
		{"a router-id that is too short", routerIDHex + `
			08 10 02 80 20 00 0064 0001 0002 20010db8  ff 00
			06 09 0000 11223344556677`, nil, 1, 2},
		{"a next hop that is a group", routerIDHex + `
			08 10 02 80 20 00 0064 0001 0002 20010db8  ff 00
			07 12 02 00 ff020000000000000000000000010006`, nil, 1, 2},
		{"a next hop that is too short", routerIDHex + `
			08 10 02 80 20 00 0064 0001 0002 20010db8  ff 00
			07 01 02`, nil, 1, 2},
		{"a default prefix that cannot be read", routerIDHex + `
			08 10 02 80 20 00 0064 0001 0002 20010db8  ff 00
			08 0a 02 80 81 00 0064 0001 0002`, nil, 1, 2},
		{"an update cut within its fixed part", routerIDHex + `
			08 10 02 80 20 00 0064 0001 0002 20010db8  ff 00
			08 02 02 80`, nil, 1, 2},
		{"an update of nothing", routerIDHex + `
			08 10 02 80 20 00 0064 0001 0002 20010db8  ff 00
			08 00`, nil, 1, 2},
		{"a router-id from a prefix in an encoding that nobody knows", routerIDHex + `
			08 10 02 80 20 00 0064 0001 0002 20010db8  ff 00
			08 0a 09 40 00 00 0064 0001 0002`, nil, 2, 1},
		{"a router-id from a prefix that has none", `
			08 0e 02 c0 20 00 0064 0001 0002 20010db8`, nil, 0, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Decode(packetOf(octetsOf(t, tt.body+"\n"+rest)), source)
			if err != nil {
				t.Fatal(err)
			}
			want := Packet{TLVs: tt.want, Unknown: tt.unknown, Malformed: tt.malformed}
			if diff := cmp.Diff(want, got, asValues); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Each is followed by an acknowledgment, which must be read: one TLV does not take the
// packet with it.
func TestDecodeLeavesOut(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		unknown    int
		malformed  int
	}{
		{"padding", `00 01 00 01 02 0000 00`, 0, 0},
		{"a type that nobody knows", `c8 03 010203`, 1, 0},
		{"a MAC in the body", `10 02 0102`, 1, 0},
		{"an acknowledgment request with interval 0", `02 06 0000 0001 0000`, 0, 1},
		{"an acknowledgment request that is short", `02 05 0000 0001 00`, 0, 1},
		{"an acknowledgment that is short", `03 01 00`, 0, 1},
		{"a hello that is short", `04 05 0000 0001 00`, 0, 1},
		{"a hello with an unknown mandatory sub-TLV", `04 08 0000 0001 0064 81 00`, 1, 0},
		{"a hello with a source prefix", `04 0a 0000 0001 0064 80 02 08 0a`, 0, 1},
		{"a hello with a sub-TLV that is cut", `04 09 0000 0001 0064 03 04 aa`, 0, 1},
		{"a hello with half a sub-TLV header", `04 07 0000 0001 0064 03`, 0, 1},
		{"an IHU that is short", `05 05 00 00 0001 00`, 0, 1},
		{"an IHU with interval 0", `05 06 00 00 0001 0000`, 0, 1},
		{"an IHU with half an address", `05 0a 03 00 0001 0064 00000000`, 0, 1},
		{"an IHU in encoding 4", `05 0a 04 00 0001 0064 c0000201`, 0, 1},
		{"an IHU in an encoding that nobody knows", `05 0a 05 00 0001 0064 c0000201`, 1, 0},
		{"an IHU for a group", `05 16 02 00 0001 0064 ff020000000000000000000000010006`, 0, 1},
		{"a next hop in encoding 0", `07 02 00 00`, 0, 1},
		{"a next hop in encoding 4", `07 06 04 00 c0000201`, 0, 1},
		{"a next hop in an encoding that nobody knows", `07 06 05 00 c0000201`, 1, 0},
		{"a next hop of nobody", `07 06 01 00 00000000`, 0, 1},
		{"a wildcard update that is no retraction", `08 0a 00 00 00 00 0064 0001 0002`, 0, 1},
		{"a wildcard update with a prefix length", `08 0b 00 00 08 00 0064 0001 ffff 0a`, 0, 1},
		{"a wildcard update with a source", `08 0e 00 00 00 00 0064 0001 ffff 80 02 08 0a`, 0, 1},
		{"an update without a router-id", `08 0b 04 00 08 00 0064 0001 0002 0a`, 0, 1},
		{"an IPv4 update without a next hop", routerIDHex + `08 0b 01 00 08 00 0064 0001 0002 0a`, 0, 1},
		{"an update with interval 0", routerIDHex + `08 0b 04 00 08 00 0000 0001 0002 0a`, 0, 1},
		{"an update with a prefix that is cut", routerIDHex + `08 0b 04 00 10 00 0064 0001 0002 0a`, 0, 1},
		{"an IPv4 update with 33 bits", routerIDHex + `08 0f 04 00 21 00 0064 0001 0002 0a00000000`, 0, 1},
		{"an IPv6 update with 129 bits", routerIDHex + `08 1b 02 00 81 00 0064 0001 0002 2001000000000000000000000000000000`, 0, 1},
		{"an update that leaves out what there is not", routerIDHex + `08 0b 04 00 10 01 0064 0001 0002 00`, 0, 1},
		{"an update that leaves out what another encoding has", routerIDHex + `
			08 0b 01 80 08 00 0064 0001 0002 0a # itself without a next hop
			08 0b 04 00 10 01 0064 0001 0002 00`, 0, 2},
		{"an update that leaves out more than its length", routerIDHex + `
			08 0e 04 80 10 00 0000 0001 0002 0a00 0000 # and itself with interval 0
			08 0a 04 00 08 02 0064 0001 0002`, 0, 2},
		{"a link-local prefix", routerIDHex + `08 0a 03 00 40 00 0064 0001 0002`, 0, 1},
		{"a prefix of IPv4 addresses in IPv6", routerIDHex + `
			08 1a 02 00 80 00 0064 0001 0002 00000000000000000000ffffc0000201`, 0, 1},
		{"a prefix in an encoding that nobody knows", `08 0b 05 00 08 00 0064 0001 0002 0a`, 1, 0},
		{"a source of length 0", routerIDHex + `08 0d 04 00 00 00 0064 0001 0002 80 01 00`, 0, 1},
		{"a source of no length", routerIDHex + `08 0c 04 00 00 00 0064 0001 0002 80 00`, 0, 1},
		{"a source that is cut", routerIDHex + `08 0e 04 00 00 00 0064 0001 0002 80 02 10 0a`, 0, 1},
		{"a source of 33 bits", routerIDHex + `08 12 04 00 00 00 0064 0001 0002 80 06 21 0a00000000`, 0, 1},
		{"two sources", routerIDHex + `08 12 04 00 00 00 0064 0001 0002 80 02 08 0a 80 02 08 0a`, 0, 1},
		{"a request that is short", `09 01 00`, 0, 1},
		{"a request for all with a length", `09 03 00 08 0a`, 0, 1},
		{"a request for all from a source", `09 06 00 00 80 02 08 0a`, 0, 1},
		{"a request with an unknown mandatory sub-TLV", `09 04 01 00 ff 00`, 1, 0},
		{"a seqno request for all", `0a 0e 00 00 0001 40 00 1122334455667788`, 0, 1},
		{"a seqno request without hops", `0a 0e 01 00 0001 00 00 1122334455667788`, 0, 1},
		{"a seqno request to nobody", `0a 0e 01 00 0001 40 00 0000000000000000`, 0, 1},
		{"a seqno request that is short", `0a 0d 01 00 0001 40 00 11223344556677`, 0, 1},
		{"a packet counter that is short", `11 03 000000`, 0, 1},
		{"a packet counter with an index of 33 bytes", `11 25 00000000` + strings.Repeat("00", 33), 0, 1},
		{"a nonce of 193 bytes", `12 c1` + strings.Repeat("00", 193), 0, 1},
		{"an answer of 193 bytes", `13 c1` + strings.Repeat("00", 193), 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Decode(packetOf(octetsOf(t, tt.body+"\n03 02 0007")), source)
			if err != nil {
				t.Fatal(err)
			}
			want := Packet{TLVs: []TLV{Ack{Opaque: 7}}, Unknown: tt.unknown, Malformed: tt.malformed}
			if diff := cmp.Diff(want, got, asValues); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDecodeStopsWhereATLVIsCut(t *testing.T) {
	for _, tail := range []string{"03", "03 02 00"} {
		got, err := Decode(packetOf(octetsOf(t, "03 02 0007 "+tail)), source)
		want := Packet{TLVs: []TLV{Ack{Opaque: 7}}, Malformed: 1}
		if diff := cmp.Diff(want, got, asValues); err != nil || diff != "" {
			t.Error(tail, err, diff)
		}
	}
}

func TestDecodeKeepsTheTrailerApart(t *testing.T) {
	b := append(packetOf(octetsOf(t, "03 02 0007")), octetsOf(t, "10 02 abcd 03 02 0008")...)
	got, err := Decode(b, source)
	want := Packet{TLVs: []TLV{Ack{Opaque: 7}}, Trailer: b[8:]}
	if diff := cmp.Diff(want, got, asValues); err != nil || diff != "" {
		t.Error(err, diff)
	}
	clear(b)
	if bytes.Equal(got.Trailer, b[8:]) {
		t.Error("the trailer is part of the buffer that the host reads into")
	}
}

func TestDecodeRefusesDatagramsThatAreNotBabel(t *testing.T) {
	for body, want := range map[string]string{
		"":                 "babel packet of 0 bytes: shorter than its header",
		"2a 02 00":         "babel packet of 3 bytes: shorter than its header",
		"2b 02 0000":       "babel packet: magic number 43, not 42",
		"2a 03 0000":       "babel packet: version 3, not 2",
		"2a 02 0003 01 00": "babel packet of 6 bytes: its header says 7",
	} {
		if got, err := Decode(octetsOf(t, body), source); err == nil || err.Error() != want || got.TLVs != nil {
			t.Errorf("%q: %v, %v, want %q", body, got, err, want)
		}
	}
}

func TestDecodeTakesTheZoneFromItsSource(t *testing.T) {
	got, err := Decode(packetOf(octetsOf(t, routerIDHex+"08 0a 02 00 00 00 0064 0001 0002")), addrOf("fe80::1%wg0"))
	if diff := cmp.Diff(Packet{TLVs: []TLV{update("::/0", "fe80::1")}}, got, asValues); err != nil || diff != "" {
		t.Error(err, diff)
	}
}
