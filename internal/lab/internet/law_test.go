package internet

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestLaws drives an Internet at random and holds against it:
//
//   - what Handle keeps comes out of Due once, unless a cut is counted;
//   - nothing comes out before or after it is due, nor with a wrong checksum;
//   - packets of one pair keep their order unless jitter may change it;
//   - every pair's counters add up.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { newLaws(t).run() })
}

type laws struct {
	*rapid.T
	e       *Engine
	now     time.Time
	reorder bool
	next    int
	order   map[[2]string]int // the last number that came out of a pair
	pending map[int]bool
}

// The hosts of four places; one place has two, behind one NAT, and one NAT is
// shared by no other.
var lawHosts = map[string]string{"10.0.1.2": "n1", "10.0.1.3": "n1", "10.0.2.2": "n2", "10.0.3.2": "open", "203.0.113.1": ""}

func newLaws(t *rapid.T) *laws {
	l := &laws{
		T: t, e: New(rapid.Uint64().Draw(t, "seed")), now: time.Unix(1e9, 0),
		reorder: rapid.Bool().Draw(t, "reorder"),
		order:   make(map[[2]string]int), pending: make(map[int]bool),
	}
	nat := func(label, public string) NAT {
		kind := NATKind(rapid.IntRange(0, 4).Draw(t, label))
		return NAT{Kind: kind, Public: netip.MustParseAddr(public)}
	}
	err := l.e.SetPlaces([]Place{
		{Name: "n1", Prefixes: prefixes("10.0.1.0/24"), NAT: nat("n1", "198.51.100.1")},
		{Name: "n2", Prefixes: prefixes("10.0.2.0/24"), NAT: nat("n2", "198.51.100.2")},
		{Name: "open", Prefixes: prefixes("10.0.3.0/24")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *laws) run() {
	for range rapid.IntRange(1, 60).Draw(l.T, "steps") {
		switch rapid.IntRange(0, 9).Draw(l.T, "step") {
		case 0:
			l.setPath()
		case 1, 2:
			l.now = l.now.Add(time.Duration(rapid.IntRange(0, 30e6).Draw(l.T, "sleep")))
			l.drain()
		default:
			l.handle()
		}
	}
	l.now = l.now.Add(time.Hour)
	l.drain()
	if _, ok := l.e.Next(); ok {
		l.Fatal("something is on its way after an hour")
	}
	l.conserve()
}

func (l *laws) setPath() {
	places := rapid.SampledFrom([]string{"*", "", "n1", "n2", "open"})
	imp := Impairment{
		Delay:   time.Duration(rapid.IntRange(0, 20e6).Draw(l.T, "delay")),
		Jitter:  time.Duration(rapid.IntRange(0, 10e6).Draw(l.T, "jitter")),
		Reorder: l.reorder,
		Loss:    float64(rapid.IntRange(0, 3).Draw(l.T, "loss")) / 10,
		Rate:    rapid.SampledFrom([]uint64{0, 0, 1e5, 1e7, 1e10}).Draw(l.T, "rate"),
		Queue:   rapid.SampledFrom([]int{0, 100, 1000}).Draw(l.T, "queue"),
		Cut:     rapid.IntRange(0, 5).Draw(l.T, "cut") == 0,
	}
	if err := l.e.SetPath(places.Draw(l.T, "from"), places.Draw(l.T, "to"), imp); err != nil {
		l.Fatal(err)
	}
}

// handle sends a numbered packet between two hosts, or to a NAT's outside.
func (l *laws) handle() {
	hosts := []string{"10.0.1.2", "10.0.1.3", "10.0.2.2", "10.0.3.2", "203.0.113.1"}
	port := rapid.SampledFrom([]int{1024, 1025, 5000})
	src := rapid.SampledFrom(hosts).Draw(l.T, "src")
	dst := rapid.SampledFrom(append(hosts, "198.51.100.1", "198.51.100.2")).Draw(l.T, "dst")
	l.next++
	packet := udp(fmt.Sprintf("%s:%d", src, port.Draw(l.T, "sport")), fmt.Sprintf("%s:%d", dst, port.Draw(l.T, "dport")), strconv.Itoa(l.next))
	if l.e.Handle(l.now, packet) {
		l.pending[l.next] = true
	}
}

// drain checks what comes out now.
func (l *laws) drain() {
	next, some := l.e.Next()
	due := l.e.Due(l.now)
	if (len(due) > 0) != (some && !next.After(l.now)) {
		l.Fatalf("Next says %s (%t), now is %s, and %d are due", next, some, l.now, len(due))
	}
	for _, p := range l.e.pipes {
		if p.queue.len() > 0 && p.queue.first().due <= l.e.now {
			l.Fatalf("a packet from %q to %q is due and did not come out", p.from.name, p.to.name)
		}
	}
	for _, packet := range due {
		if wrong := wrongChecksums(packet); wrong != "" {
			l.Fatalf("%s: %s", describe(packet), wrong)
		}
		number, err := strconv.Atoi(string(packet[28:]))
		if err != nil || !l.pending[number] {
			l.Fatalf("%s %q came out, not expected (%v)", describe(packet), packet[28:], err)
		}
		delete(l.pending, number)
		h, _ := parseHeader(packet, false)
		pair := [2]string{l.origin(h.src), lawHosts[h.dst.String()]}
		if number < l.order[pair] && !l.reorder {
			l.Fatalf("%d came out after %d from %q to %q", number, l.order[pair], pair[0], pair[1])
		}
		l.order[pair] = number
	}
}

// origin is the place that a source, translated or not, stands for.
func (l *laws) origin(src netip.Addr) string {
	switch src.String() {
	case "198.51.100.1":
		return "n1"
	case "198.51.100.2":
		return "n2"
	}
	return lawHosts[src.String()]
}

// conserve checks the counters when nothing is on its way: what did not come
// out was cut.
func (l *laws) conserve() {
	var handled, cut uint64
	c := l.e.Counters()
	for _, p := range c.Pairs {
		if p.Received != p.Sent+p.Lost+p.Cut+p.Overflow+p.Filtered || p.Queued != 0 {
			l.Fatalf("counters do not add up: %+v", p)
		}
		handled += p.Received
		cut += p.Cut
	}
	if handled != uint64(l.next) || c.Malformed != 0 || c.Held != 0 {
		l.Fatalf("%d packets handled, counters say %d: %+v", l.next, handled, c)
	}
	if uint64(len(l.pending)) > cut {
		l.Fatalf("%d packets vanished, %d were cut", len(l.pending), cut)
	}
}

// FuzzHandle gives an Internet with NATs any two packets: it must not panic,
// must keep its counts, and must not make a good checksum bad.
func FuzzHandle(f *testing.F) {
	sent := udp("10.0.0.2:4000", "203.0.113.1:53", "question")
	seeds := [][]byte{
		sent, udp("203.0.113.1:53", "198.51.100.7:4000", "answer"),
		udp("[fd00::2]:4000", "[2001:db8::1]:53", "x"), udp("[2001:db8::1]:53", "[fd00::2]:4000", "x"),
		tcp("10.0.0.2:4000", "203.0.113.1:80", "S"), tcp("[fd00::2]:4000", "[2001:db8::1]:80", "FA"),
		echo(true, "10.0.0.2", "203.0.113.1", 4000), echo(false, "203.0.113.1", "198.51.100.7", 4000),
		echo(true, "fd00::2", "2001:db8::1", 7),
		unreachable("192.0.2.9", "198.51.100.7", udp("198.51.100.7:4000", "203.0.113.1:53", "question")),
		unreachable("10.0.0.2", "203.0.113.1", udp("203.0.113.1:53", "10.0.0.2:4000", "answer")),
		unreachable("2001:db8::9", "fd00::2", udp("[fd00::2]:4000", "[2001:db8::1]:53", "x")),
		udp("10.0.0.2:4000", "198.51.100.7:4000", "hairpin"),
		cut(udp("10.0.0.2:4000", "203.0.113.1:53", string(make([]byte, 100))), 64)[1],
	}
	for _, a := range seeds {
		for _, b := range seeds {
			f.Add(a, b)
		}
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		for _, kind := range natKinds {
			b := newBench(t, home(NAT{Kind: kind, Ports: PortPreserve}))
			var out uint64
			for _, packet := range [][]byte{first, second} {
				valid := checksumsHold(packet)
				b.Handle(b.now, slices.Clone(packet))
				for _, got := range b.Due(b.now) {
					out++
					if valid && !checksumsHold(got) {
						t.Errorf("%s: %x became %x", kind, packet, got)
					}
				}
			}
			c := b.Counters()
			in, sent := c.Malformed+c.Local+uint64(c.Held), uint64(0)
			for _, p := range c.Pairs {
				in += p.Received
				sent += p.Sent
			}
			if in != 2 || sent != out {
				t.Errorf("%s: %d of 2 packets came out, counters say %+v", kind, out, c)
			}
		}
	})
}

// checksumsHold says whether the packet's own checksums hold: of the IP
// header, and of the transport where all of it is there. A quote's are the
// quoting router's business.
func checksumsHold(packet []byte) bool {
	h, ok := parseHeader(packet, false)
	if !ok {
		return false
	}
	packet = packet[:h.length]
	s, ok := parseSegment(packet, h)
	if !ok || !h.v6 && sumWords(packet[:int(packet[0]&15)*4]).fold() != 0xffff {
		return false
	}
	if s.fragment {
		return true
	}
	t := packet[s.at:]
	sum := sumWords(t)
	switch s.kind {
	case kindUDP:
		if len(t) < 8 || t[6]|t[7] == 0 {
			return !h.v6
		}
	case kindTCP:
		if len(t) < 18 {
			return true
		}
	case kindEchoRequest, kindEchoReply, kindICMPError, kindICMPOther:
		if !h.v6 {
			return sum.fold() == 0xffff
		}
	default:
		return true
	}
	sum += sumWords(s.src.AsSlice()) + sumWords(s.dst.AsSlice()) + onesSum(s.proto) + onesSum(len(t))
	return sum.fold() == 0xffff
}
