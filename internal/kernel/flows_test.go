package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// flowsOf returns the destination ports of the flows in conntrack, as the kernel prints them.
func flowsOf(t testing.TB) (out []string) {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/net/nf_conntrack")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "dport=") })
		j := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "mark=") })
		out = append(out, words[0]+" "+words[i]+" "+words[j])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// marking gives flows by their port a mark, and 7 in the bits that are not ours.
const marking = `table inet test {
	chain raw {
		type filter hook output priority raw
		udp dport 1003 ct zone set 5
	}
	chain out {
		type filter hook output priority mangle
		ct state new udp dport 1001 ct mark set 0x01000007
		ct state new udp dport 1002 ct mark set 0x02000007
		ct state new udp dport 1003 ct mark set 0x01000000
	}
}
`

func udpTo(t testing.TB, host string, from, port int) {
	t.Helper()
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(host), Port: from}, &net.UDPAddr{IP: net.ParseIP(host), Port: port})
	if err == nil {
		_, err = c.Write([]byte("x"))
		_ = c.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestForgetFlowsForgetsThoseWithTheMark(t *testing.T) {
	namespace(t)
	nftLoad(t, marking)
	for _, host := range []string{"127.0.0.1", "::1"} {
		for port := 1000; port <= 1003; port++ {
			udpTo(t, host, 0, port)
		}
	}
	before := flowsOf(t)
	if len(before) != 8 {
		t.Fatalf("before there are %q", before)
	}
	// A mark that no flow has.
	if _, err := ForgetFlows(context.Background(), 0x03000000, 0xff000000); err != nil {
		t.Fatal(err)
	}
	if got := flowsOf(t); !slices.Equal(got, before) {
		t.Fatalf("of no flow at all: %q", got)
	}
	if _, err := ForgetFlows(context.Background(), 0x02000000, 0xff000000); err != nil {
		t.Fatal(err)
	}
	want := slices.DeleteFunc(slices.Clone(before), func(s string) bool { return strings.Contains(s, "dport=1002") })
	if got := flowsOf(t); !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
	// Those without a mark of ours are a mark too, and no others.
	if _, err := ForgetFlows(context.Background(), 0, 0xff000000); err != nil {
		t.Fatal(err)
	}
	want = slices.DeleteFunc(want, func(s string) bool { return strings.Contains(s, "dport=1000") })
	if got := flowsOf(t); !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
}

func TestForgetFlowsForgetsThoseOfASource(t *testing.T) {
	namespace(t)
	nftLoad(t, marking)
	for _, host := range []string{"127.0.0.1", "::1"} {
		udpTo(t, host, 0, 1002)
	}
	for _, c := range []struct {
		source string
		left   int
	}{{"10.0.0.0/8", 2}, {"::/64", 1}, {"127.0.0.0/8", 0}} {
		if _, err := ForgetFlows(context.Background(), 0x02000000, 0xff000000, netip.MustParsePrefix(c.source)); err != nil {
			t.Fatal(err)
		}
		if got := flowsOf(t); len(got) != c.left {
			t.Errorf("after those of %s were forgotten %q are left", c.source, got)
		}
	}
}

// Answers that were on their way when a flow was forgotten make a connection of their own, in
// which the flow would be the answer.
func TestForgetAnswersOfForgottenFlows(t *testing.T) {
	namespace(t)
	nftLoad(t, marking)
	udpTo(t, "127.0.0.1", 20000, 1002)
	udpTo(t, "127.0.0.1", 0, 1001)
	forgotten, err := ForgetFlows(context.Background(), 0x02000000, 0xff000000)
	want := []Tuple{{Protocol: 17, Src: netip.MustParseAddrPort("127.0.0.1:20000"), Dst: netip.MustParseAddrPort("127.0.0.1:1002")}}
	if err != nil || !slices.Equal(forgotten, want) {
		t.Fatalf("forgot %v, %v; want %v", forgotten, err, want)
	}
	udpTo(t, "127.0.0.1", 1002, 20000)
	if got := flowsOf(t); len(got) != 2 {
		t.Fatalf("the answer made %q", got)
	}
	if err := ForgetAnswers(context.Background(), forgotten); err != nil {
		t.Fatal(err)
	}
	if got := flowsOf(t); len(got) != 1 || !strings.Contains(got[0], "dport=1001") {
		t.Errorf("left are %q", got)
	}
}

func TestForgetTowardsForgetsByDestination(t *testing.T) {
	namespace(t)
	nftLoad(t, marking)
	for _, host := range []string{"127.0.0.1", "::1"} {
		udpTo(t, host, 0, 1002)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, x := range []struct {
		prefix string
		left   int
	}{{"127.1.0.0/16", 3}, {"127.0.0.0/16", 2}, {"::/64", 1}} {
		if err := ForgetTowards(context.Background(), netip.MustParsePrefix(x.prefix)); err != nil {
			t.Fatal(err)
		}
		if got := flowsOf(t); len(got) != x.left {
			t.Errorf("after those to %s were forgotten %q are left", x.prefix, got)
		}
	}
}

// More than fit into one datagram, some of which end while they are deleted.
func TestForgetFlowsForgetsMany(t *testing.T) {
	namespace(t)
	nftLoad(t, marking)
	udpTo(t, "127.0.0.1", 0, 1002)
	for i := range 3 * maxBatch / 2 {
		udpTo(t, "127.0.0.1", 20000+i, 1001)
		udpTo(t, "::1", 20000+i, 1001)
	}
	udpTo(t, "127.0.0.1", 0, 1003) // in a zone
	s, err := openSocket(unix.NETLINK_NETFILTER)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	flows, err := readFlows(s, 0x01000000, 0xff000000)
	if err != nil || len(flows) < 3*maxBatch {
		t.Fatalf("there are %d flows, %v", len(flows), err)
	}
	if i := slices.IndexFunc(flows, func(f flow) bool { return len(f.zone) > 0 }); i < 0 {
		t.Error("none of them is in a zone")
	}
	if err := deleteFlows(context.Background(), s, flows[100:200]); err != nil {
		t.Fatal(err)
	}
	if err := deleteFlows(context.Background(), s, flows); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(flowsOf(t)); got != "[ipv4 dport=1002 mark=33554439]" {
		t.Errorf("left are %s", got)
	}
}

// A flow that has come anew with the tuple of one that was read is another.
func TestForgetFlowsKnowsANewFlow(t *testing.T) {
	namespace(t)
	nftLoad(t, marking)
	s, err := openSocket(unix.NETLINK_NETFILTER)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	udpTo(t, "127.0.0.1", 20000, 1001)
	old, err := readFlows(s, 0x01000000, 0xff000000)
	if err != nil || len(old) != 1 {
		t.Fatalf("read %v, %v", old, err)
	}
	stale := old[0]
	stale.id = []byte{^stale.id[0], stale.id[1], stale.id[2], stale.id[3]}
	if err := deleteFlows(context.Background(), s, []flow{stale}); err != nil || len(flowsOf(t)) != 1 {
		t.Errorf("of one with another number: %v, left %q", err, flowsOf(t))
	}
	if err := deleteFlows(context.Background(), s, old); err != nil || len(flowsOf(t)) != 0 {
		t.Errorf("%v, left %q", err, flowsOf(t))
	}
}

func TestForgetFlowsNeverForgetsAll(t *testing.T) {
	for _, m := range [][2]uint32{{0, 0}, {1, 0}, {0x0100_0001, 0xff00_0000}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%#x/%#x does not panic", m[0], m[1])
				}
			}()
			_, _ = ForgetFlows(context.Background(), m[0], m[1])
		}()
	}
	defer func() {
		if recover() == nil {
			t.Error("a deletion without a tuple does not panic")
		}
	}()
	flow{id: []byte{1, 2, 3, 4}}.encodeDelete(&writer{})
}

func TestForgetFlowsStops(t *testing.T) {
	namespace(t)
	nftLoad(t, marking)
	udpTo(t, "127.0.0.1", 0, 1001)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := ForgetFlows(ctx, 0x01000000, 0xff000000); !errors.Is(err, context.Canceled) || len(flowsOf(t)) != 1 {
		t.Errorf("called off: %v, left %q", err, flowsOf(t))
	}
}
