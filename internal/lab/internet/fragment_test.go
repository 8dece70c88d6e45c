package internet

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"
)

// cut cuts an IPv4 packet into fragments of so many payload bytes.
func cut(packet []byte, size int) (fragments [][]byte) {
	payload := packet[20:]
	for at := 0; at < len(payload); at += size {
		end := min(at+size, len(payload))
		f := append(slices.Clone(packet[:20]), payload[at:end]...)
		field := uint16(at / 8)
		if end < len(payload) {
			field |= 0x2000
		}
		var sum onesSum
		sum.put(f[2:], uint16(len(f)))
		sum.put(f[6:], field)
		sum.mend(f[10:])
		fragments = append(fragments, f)
	}
	return fragments
}

// join puts fragments together again.
func join(fragments [][]byte) []byte {
	fragments = slices.Clone(fragments)
	offset := func(f []byte) int { return int(binary.BigEndian.Uint16(f[6:])&0x1fff) * 8 }
	slices.SortFunc(fragments, func(a, b []byte) int { return offset(a) - offset(b) })
	packet := slices.Clone(fragments[0][:20])
	for _, f := range fragments {
		packet = append(packet, f[20:]...)
	}
	var sum onesSum
	sum.put(packet[2:], uint16(len(packet)))
	sum.put(packet[6:], 0)
	sum.mend(packet[10:])
	return packet
}

// TestFragmentsFollowTheFirst in order and out of order (RFC 4787 REQ-14).
func TestFragmentsFollowTheFirst(t *testing.T) {
	text := strings.Repeat("fragments ", 100)
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}} {
		b := newBench(t, home(NAT{Kind: PortRestricted}))
		through := func(packet []byte) []byte {
			b.Helper()
			parts := cut(packet, 400)
			var out [][]byte
			for _, i := range order {
				b.Handle(b.now, parts[i])
				out = append(out, slices.Clone(b.Due(b.now))...)
			}
			if len(out) != 3 {
				t.Fatalf("order %v: %d of 3 fragments came out", order, len(out))
			}
			for _, f := range out {
				if wrong := wrongChecksums(f); wrong != "" {
					t.Error(wrong)
				}
			}
			return join(out)
		}
		out := through(udp("10.0.0.2:4000", "203.0.113.1:53", text))
		if got := show(t, out); got != "udp 198.51.100.7:4000 > 203.0.113.1:53" {
			t.Error(got)
		}
		in := through(udp("203.0.113.1:53", "198.51.100.7:4000", text))
		if got := show(t, in); got != "udp 203.0.113.1:53 > 10.0.0.2:4000" || string(in[28:]) != text {
			t.Errorf("%s %q", got, in[28:])
		}
	}
}

// TestIdentificationIsUsedAgain: a new first fragment is a new packet, decided
// anew.
func TestIdentificationIsUsedAgain(t *testing.T) {
	b := newBench(t, home(NAT{Kind: PortRestricted}))
	for _, port := range []string{"4000", "4001", "4002"} {
		var out [][]byte
		for _, f := range cut(udp("10.0.0.2:"+port, "203.0.113.1:53", strings.Repeat("x", 1000)), 400) {
			b.Handle(b.now, f)
			out = append(out, slices.Clone(b.Due(b.now))...)
		}
		if got := show(t, join(out)); got != "udp 198.51.100.7:"+port+" > 203.0.113.1:53" {
			t.Error(got)
		}
	}
}

// TestTinyTCPFragmentIsDropped: the checksum to mend is in another fragment.
func TestTinyTCPFragmentIsDropped(t *testing.T) {
	b := newBench(t, home(NAT{Kind: FullCone}))
	for _, f := range cut(tcp("10.0.0.2:4000", "203.0.113.1:80", "S"), 8) {
		if b.passRaw(f) != nil {
			t.Error("a fragment came out")
		}
	}
	if c := b.pair("home", ""); c.Filtered != c.Received {
		t.Errorf("%+v, want all filtered", c)
	}
}

func TestFragmentsOfADroppedPacketAreDropped(t *testing.T) {
	b := newBench(t, home(NAT{Kind: PortRestricted}))
	parts := cut(udp("203.0.113.1:53", "198.51.100.7:4000", strings.Repeat("x", 1000)), 400)
	for _, i := range []int{1, 0, 2} {
		b.Handle(b.now, parts[i])
	}
	if c := b.pair("", "home"); c.Filtered != 3 || c.Received != 3 || b.Counters().Held != 0 {
		t.Errorf("%+v, want 3 filtered", c)
	}
}

// TestFragmentsAreCountedWhereTheFirstWent: only the first one's port says
// which of the places behind a NAT they are for.
func TestFragmentsAreCountedWhereTheFirstWent(t *testing.T) {
	nat := NAT{Kind: FullCone, Public: public}
	b := newBench(t,
		Place{Name: "flat", Prefixes: prefixes("10.0.0.0/24"), NAT: nat},
		Place{Name: "shop", Prefixes: prefixes("10.0.1.0/24"), NAT: nat})
	b.pass(udp("10.0.1.2:4000", "203.0.113.1:53", ""))
	parts := cut(udp("203.0.113.1:53", "198.51.100.7:4000", strings.Repeat("x", 1000)), 400)
	for _, i := range []int{2, 0, 1} {
		b.Handle(b.now, parts[i])
	}
	if shop, flat := b.pair("", "shop"), b.pair("", "flat"); shop.Received != 3 || flat.Received != 0 {
		t.Errorf("%d counted for shop and %d for flat, want 3 and 0", shop.Received, flat.Received)
	}
}

func TestFragmentsWithoutAFirstAreGivenUp(t *testing.T) {
	b := newBench(t, home(NAT{Kind: FullCone}))
	parts := cut(udp("10.0.0.2:4000", "203.0.113.1:53", strings.Repeat("x", 1000)), 400)
	b.Handle(b.now, parts[1])
	b.Handle(b.now, parts[2])
	if held := b.Counters().Held; held != 2 {
		t.Errorf("%d fragments held, want 2", held)
	}
	b.sleep(time.Minute)
	b.Due(b.now)
	if c := b.pair("home", ""); b.Counters().Held != 0 || c.Filtered != 2 || len(b.fragments.records) != 0 {
		t.Errorf("%+v, want 2 filtered and none held", c)
	}
}

// TestFragmentsBetweenOpenPlacesAreNotLookedAt: nothing needs their ports.
func TestFragmentsBetweenOpenPlacesAreNotLookedAt(t *testing.T) {
	b := threePlaces(t)
	parts := cut(udp(from1, to2, strings.Repeat("x", 1000)), 400)
	if got := b.passRaw(parts[2]); got == nil {
		t.Error("a fragment was held")
	}
}

// TestIPv6Fragments pass the stateful filter with their first.
func TestIPv6Fragments(t *testing.T) {
	b := newBench(t, home(NAT{Kind: FullCone}))
	fragment := func(packet []byte, at, end int) []byte {
		payload := packet[40:]
		f := slices.Clone(packet[:40])
		f[6] = protoFragment
		field := uint16(at)
		if end < len(payload) {
			field |= 1
		}
		f = append(f, packet[6], 0)
		f = binary.BigEndian.AppendUint16(f, field)
		f = binary.BigEndian.AppendUint32(f, 77)
		f = append(f, payload[at:end]...)
		binary.BigEndian.PutUint16(f[4:], uint16(len(f)-40))
		return f
	}
	in := udp("[2001:db8::1]:53", "[fd00::2]:4000", strings.Repeat("x", 92))
	if b.passRaw(fragment(in, 0, 48)) != nil || b.passRaw(fragment(in, 48, 100)) != nil {
		t.Error("an unasked fragment came in")
	}
	b.sleep(time.Minute) // the verdict on these is forgotten
	b.pass(udp("[fd00::2]:4000", "[2001:db8::1]:53", ""))
	b.Handle(b.now, fragment(in, 48, 100))
	b.Handle(b.now, fragment(in, 0, 48))
	if n := len(b.Due(b.now)); n != 2 {
		t.Errorf("%d of 2 fragments of an answer came in", n)
	}
}
