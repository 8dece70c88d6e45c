package internet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/tailscale/wireguard-go/tun"
	"pgregory.net/rapid"
)

// stream makes TCP segments that follow each other.
type stream struct {
	v6      bool
	seq     uint32
	id      uint16
	options []layers.TCPOption
}

func (s *stream) segment(payload string, change func(*layers.IPv4, *layers.TCP)) []byte {
	src, dst := ends("10.0.1.2:1000", "10.0.2.2:80")
	if s.v6 {
		src, dst = ends("[fd00::1]:1000", "[fd00::2]:80")
	}
	ip := network(src.Addr(), dst.Addr(), layers.IPProtocolTCP)
	t := &layers.TCP{SrcPort: 1000, DstPort: 80, Seq: s.seq, Ack: 77, ACK: true, Window: 512, Options: s.options}
	v4, _ := ip.(*layers.IPv4)
	if v4 != nil {
		v4.Id = s.id
	}
	if change != nil {
		change(v4, t)
	}
	t.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer))
	s.seq += uint32(len(payload))
	s.id++
	return serialise(ip, t, gopacket.Payload(payload))
}

// TestTrainsJoinOnlyNeighboursOfOneFlow says how many packets of a burst leave
// in each write.
func TestTrainsJoinOnlyNeighboursOfOneFlow(t *testing.T) {
	type burst = func(s *stream) [][]byte
	for name, c := range map[string]struct {
		burst burst
		want  []int
	}{
		"equal segments": {func(s *stream) [][]byte {
			return [][]byte{s.segment("aaaa", nil), s.segment("bbbb", nil), s.segment("cccc", nil)}
		}, []int{3}},
		"a shorter one ends it": {func(s *stream) [][]byte {
			return [][]byte{s.segment("aaaa", nil), s.segment("bb", nil), s.segment("cc", nil), s.segment("dd", nil)}
		}, []int{2, 2}},
		"a longer one begins anew": {func(s *stream) [][]byte {
			return [][]byte{s.segment("aa", nil), s.segment("bbbb", nil)}
		}, []int{1, 1}},
		"PSH ends it": {func(s *stream) [][]byte {
			return [][]byte{s.segment("aaaa", nil), s.segment("bbbb", func(_ *layers.IPv4, t *layers.TCP) { t.PSH = true }), s.segment("cccc", nil)}
		}, []int{2, 1}},
		"a gap": {func(s *stream) [][]byte {
			a := s.segment("aaaa", nil)
			s.seq++
			return [][]byte{a, s.segment("bbbb", nil)}
		}, []int{1, 1}},
		"bare acknowledgements": {func(s *stream) [][]byte {
			return [][]byte{s.segment("", nil), s.segment("", nil)}
		}, []int{1, 1}},
		"another acknowledgement": {func(s *stream) [][]byte {
			return [][]byte{s.segment("aaaa", nil), s.segment("bbbb", func(_ *layers.IPv4, t *layers.TCP) { t.Ack++ })}
		}, []int{1, 1}},
		"another window": {func(s *stream) [][]byte {
			return [][]byte{s.segment("aaaa", nil), s.segment("bbbb", func(_ *layers.IPv4, t *layers.TCP) { t.Window++ })}
		}, []int{1, 1}},
		"FIN": {func(s *stream) [][]byte {
			return [][]byte{s.segment("aaaa", nil), s.segment("bbbb", func(_ *layers.IPv4, t *layers.TCP) { t.FIN = true })}
		}, []int{1, 1}},
		"another TTL": {func(s *stream) [][]byte {
			return [][]byte{s.segment("aaaa", nil), s.segment("bbbb", func(ip *layers.IPv4, _ *layers.TCP) { ip.TTL-- })}
		}, []int{1, 1}},
		"a flow between": {func(s *stream) [][]byte {
			return [][]byte{s.segment("aaaa", nil), udp(from1, to2, "x"), s.segment("bbbb", nil)}
		}, []int{1, 1, 1}},
		"a wrong checksum first": {func(s *stream) [][]byte {
			a := s.segment("aaaa", nil)
			a[36] ^= 1
			return [][]byte{a, s.segment("bbbb", nil)}
		}, []int{1, 1}},
		"a wrong checksum second": {func(s *stream) [][]byte {
			a, b := s.segment("aaaa", nil), s.segment("bbbb", nil)
			b[41] ^= 1
			return [][]byte{a, b}
		}, []int{1, 1}},
		"UDP": {func(*stream) [][]byte {
			return [][]byte{udp(from1, to2, "aaaa"), udp(from1, to2, "bbbb"), udp(from1, to2, "cc"), udp(from1, to2, "dd")}
		}, []int{3, 1}},
		"UDP of several flows": {func(*stream) [][]byte {
			return [][]byte{udp(from1, to2, "aaaa"), udp(to2, from1, "bbbb")}
		}, []int{1, 1}},
		"fragments": {func(*stream) [][]byte { return cut(udp(from1, to2, string(make([]byte, 100))), 48) }, []int{1, 1, 1}},
		"more than the kernel takes": {func(*stream) [][]byte {
			return slices.Repeat([][]byte{udp(from1, to2, "x")}, 100)
		}, []int{64, 36}},
		"longer than a packet can be": {func(s *stream) (p [][]byte) {
			for range 48 {
				p = append(p, s.segment(string(make([]byte, 1400)), nil))
			}
			return p
		}, []int{46, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			packets := c.burst(new(stream))
			for i := range packets {
				packets[i] = slices.Clone(packets[i])
			}
			train := train{udp: true}
			var got []int
			for len(packets) > 0 {
				n := train.load(packets)
				got = append(got, n)
				packets = packets[n:]
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("trains of %v, want %v", got, c.want)
			}
		})
	}
}

// TestTrainsComeApartAsTheyWere: what is joined, and cut as the kernel cuts,
// is byte for byte what it was.
func TestTrainsComeApartAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &stream{v6: rapid.Bool().Draw(t, "v6")}
		if rapid.Bool().Draw(t, "options") {
			s.options = []layers.TCPOption{{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: make([]byte, 8)}}
		}
		sizes := rapid.SampledFrom([]int{0, 1, 7, 100, 100, 100, 1400, 1400})
		var packets [][]byte
		for i := range rapid.IntRange(1, 80).Draw(t, "packets") {
			payload := string(bytes.Repeat([]byte{byte(i)}, sizes.Draw(t, "size")))
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1:
				p := udp(from1, to2, payload)
				if s.v6 {
					p = udp("[fd00::1]:1000", "[fd00::2]:2000", payload)
				} else { // identification counts up in a train
					var sum onesSum
					sum.put(p[4:], uint16(i))
					sum.mend(p[10:])
				}
				packets = append(packets, p)
			case 2:
				packets = append(packets, s.segment(payload, func(_ *layers.IPv4, t *layers.TCP) { t.PSH = true }))
			default:
				packets = append(packets, s.segment(payload, nil))
			}
		}
		var want, got []string
		for _, p := range packets {
			want = append(want, string(p))
		}
		train := train{udp: true}
		slab, split1 := make([]byte, 1<<18), make([]tun.ReadPacket, 100)
		for len(packets) > 0 {
			n := train.load(packets)
			packets = packets[n:]
			m, err := split(slices.Concat(train.parts...), slab, split1)
			if err != nil || m != n {
				t.Fatalf("a train of %d comes apart into %d: %v", n, m, err)
			}
			for _, p := range split1[:m] {
				got = append(got, string(slab[p.Offset:p.Offset+p.Size]))
			}
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("packet %d\n was %x\nbecame %x", i, want[i], got[i])
			}
		}
	})
}

// TestSplitCompletesChecksums as the kernel leaves them, IPv6 UDP's zero included.
func TestSplitCompletesChecksums(t *testing.T) {
	seen := 0
	for word := range 1 << 16 {
		packet := udp6(uint16(word))
		want := binary.BigEndian.Uint16(packet[46:])
		if word%512 != 0 && want != 0xffff {
			continue
		}
		if want == 0xffff {
			seen++
		}
		in := make([]byte, virtioHeaderLen, virtioHeaderLen+len(packet))
		in[0] = virtioNeedsCsum
		binary.NativeEndian.PutUint16(in[6:], 40)
		binary.NativeEndian.PutUint16(in[8:], 6)
		s := segmentation{v6: true, udp: true, at: 40}
		binary.BigEndian.PutUint16(packet[46:], pseudoHeader(packet, s, len(packet)-40))
		in = append(in, packet...)
		slab, packets := make([]byte, 2048), make([]tun.ReadPacket, 4)
		n, err := split(in, slab, packets)
		if n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if got := binary.BigEndian.Uint16(slab[packets[0].Offset+46:]); got != want {
			t.Errorf("payload %#x: checksum %#x, want %#x", word, got, want)
		}
	}
	if seen == 0 {
		t.Error("no payload has the checksum zero")
	}
}

// udp6 is an IPv6 UDP packet with one word of payload.
func udp6(word uint16) []byte {
	p := slices.Clone(udp6Template)
	var sum onesSum
	sum.put(p[48:], word)
	sum.mendTransport(protoUDP, p[40:])
	return p
}

var udp6Template = udp("[fd00::1]:1000", "[fd00::2]:2000", "\x00\x01")

func TestSplitRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, c := range []struct {
		in   []byte
		want string
	}{
		{make([]byte, 9), "no virtio header"},
		{[]byte{1: 0x80, 9: 0}, "GSO type 0x80"},
		{[]byte{1: virtioTCPv4, 9: 0}, "TCP header is cut short"},
	} {
		if _, err := split(c.in, make([]byte, 100), make([]tun.ReadPacket, 1)); fmt.Sprint(err) != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}
