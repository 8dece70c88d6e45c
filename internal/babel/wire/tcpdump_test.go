package wire

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// capture writes payloads into a file as if they had been seen on a wire, and returns what
// tcpdump says of it.
func capture(t *testing.T, payloads ...[]byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "babel.pcap")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := pcapgo.NewWriter(f)
	if err := w.WriteFileHeader(65536, layers.LinkTypeRaw); err != nil {
		t.Fatal(err)
	}
	for _, payload := range payloads {
		ip := &layers.IPv6{Version: 6, HopLimit: 1, NextHeader: layers.IPProtocolUDP,
			SrcIP: net.IP(source.AsSlice()), DstIP: net.IP(Group.AsSlice())}
		udp := &layers.UDP{SrcPort: Port, DstPort: Port}
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		buf := gopacket.NewSerializeBuffer()
		err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
			ip, udp, gopacket.Payload(payload))
		if err != nil {
			t.Fatal(err)
		}
		b := buf.Bytes()
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(0, 0), CaptureLength: len(b), Length: len(b)}, b); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("tcpdump", "-n", "-t", "-vv", "-r", name).CombinedOutput()
	if err != nil {
		t.Fatalf("tcpdump: %v\n%s", err, out)
	}
	return string(out)
}

// tcpdump 4.99 knows neither source prefixes nor our own sub-TLVs, which it names as
// unknown and steps over, nor encoding 4, at which it gives up the packet; so there is none here.
func TestTcpdumpReadsWhatIsEncoded(t *testing.T) {
	four, six := update("10.1.2.0/24", "192.0.2.1"), update("2001:db8:1::/48", "fe80::2")
	next4, next6, gone, from := four, six, four, six
	next4.Prefix, next6.Prefix = prefixOf("10.1.3.16/28"), prefixOf("2001:db8:1:2::/64")
	next6.RouterID = RouterID{7: 1}
	gone.Metric = Infinity
	moved := four
	moved.Mobility, moved.Before = 7, 0x0a000001
	silent := gone
	silent.Silent = 1
	from.Source = prefixOf("fd00::/20")
	got := capture(t,
		encode(t,
			AckRequest{Opaque: 0xbeef, Interval: 100}, Ack{Opaque: 7},
			Hello{Seqno: 1, Interval: 400}, Hello{Unicast: true, Seqno: 2, Stamped: true, Timestamp: 1_500_000},
			IHU{RxCost: 96, Interval: 1200}, IHU{RxCost: Infinity, Interval: 1200, Address: addrOf("fe80::9")},
			IHU{RxCost: 1, Interval: 1200, Address: addrOf("2001:db8::9"), Stamped: true, Origin: 2_500_000, Receive: 3_500_000}),
		encode(t, four, next4, six, next6, gone, silent, moved, from, Update{Interval: 1, Metric: Infinity}),
		encode(t, RouteRequest{}, RouteRequest{Prefix: four.Prefix}, RouteRequest{Prefix: six.Prefix, Source: from.Source},
			SeqnoRequest{Prefix: four.Prefix, Seqno: 9, HopCount: 64, RouterID: id},
			SeqnoRequest{Prefix: six.Prefix, Source: from.Source, Seqno: 9, HopCount: 64, RouterID: id}),
		append(encode(t, PacketCounter{Counter: 3, Index: []byte{1, 2}}, ChallengeRequest{Nonce: []byte{3}}, ChallengeReply{Nonce: []byte{4}}),
			TypeMAC, 4, 1, 2, 3, 4), // the trailer
	)
	var lines []string // those of Babel, which are indented
	for line := range strings.Lines(got) {
		if text, ok := strings.CutPrefix(line, "\t"); ok && text != "\n" {
			text, _, _ = strings.Cut(text, " (M) sub-unknown-0x80")
			text, _, _ = strings.Cut(text, " sub-unknown-0x70")
			text, _, _ = strings.Cut(text, " sub-unknown-0x71")
			lines = append(lines, strings.TrimSpace(text))
		}
	}
	if diff := cmp.Diff(strings.Split(strings.TrimSpace(tcpdumped), "\n"), lines); diff != "" || strings.Contains(got, "invalid") {
		t.Errorf("%s\n%s", diff, got)
	}
}

const tcpdumped = `
Acknowledgment Request beef 1.00s
Acknowledgment 0007
Hello seqno 1 interval 4.00s
Hello (Unicast) seqno 2 unscheduled sub-timestamp 1.500000s
IHU any rxcost 96 interval 12.00s
IHU fe80::9 rxcost 65535 interval 12.00s
IHU 2001:db8::9 rxcost 1 interval 12.00s sub-timestamp 2.500000s|3.500000s
Router Id 11:22:33:44:55:66:77:88
Next Hop 192.0.2.1
Update/prefix 10.1.2.0/24 metric 2 seqno 1 interval 1.00s
Update/prefix 10.1.3.16/28 metric 2 seqno 1 interval 1.00s
Next Hop fe80::2
Update/prefix 2001:db8:1::/48 metric 2 seqno 1 interval 1.00s
Router Id 00:00:00:00:00:00:00:01
Update/prefix 2001:db8:1:2::/64 metric 2 seqno 1 interval 1.00s
Update/prefix 10.1.2.0/24 metric 65535 seqno 1 interval 1.00s
Update/prefix 10.1.2.0/24 metric 65535 seqno 1 interval 1.00s
Router Id 11:22:33:44:55:66:77:88
Update/prefix 10.1.2.0/24 metric 2 seqno 1 interval 1.00s
Update/prefix 2001:db8:1::/48 metric 2 seqno 1 interval 1.00s
Update any metric 65535 seqno 0 interval 0.01s
Route Request for any
Route Request for 10.1.2.0/24
Route Request for 2001:db8:1::/48
Seqno Request (64 hops) for 10.1.2.0/24 seqno 9 id 11:22:33:44:55:66:77:88
Seqno Request (64 hops) for 2001:db8:1::/48 seqno 9 id 11:22:33:44:55:66:77:88
PC value 3 index len 2
Challenge Request len 1
Challenge Reply len 1
----
MAC len 4
`
