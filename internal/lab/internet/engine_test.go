package internet

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Three places without NAT.
func threePlaces(t testing.TB) *bench {
	return newBench(t,
		Place{Name: "op1", Prefixes: prefixes("10.1.0.0/16", "fd00:1::/32")},
		Place{Name: "op2", Prefixes: prefixes("10.2.0.0/16", "fd00:2::/32")},
		Place{Name: "lab", Prefixes: prefixes("10.2.9.0/24")}, // inside op2's
	)
}

const from1, to2 = "10.1.0.2:1000", "10.2.0.2:2000"

// arrivals runs the clock until nothing is on its way and returns when each
// payload came out, relative to start.
func (b *bench) arrivals(start time.Time) (payloads []string, after []time.Duration) {
	for {
		next, ok := b.Next()
		if !ok {
			return payloads, after
		}
		b.now = next
		due := b.Due(b.now)
		if len(due) == 0 {
			b.Fatalf("nothing due at %s, when Next said so", next)
		}
		for _, packet := range due {
			payloads = append(payloads, string(packet[28:]))
			after = append(after, next.Sub(start))
		}
	}
}

func TestDelayIsExact(t *testing.T) {
	b := threePlaces(t)
	b.path("op1", "op2", Impairment{Delay: 26 * time.Millisecond})
	start := b.now
	b.Handle(b.now, udp(from1, to2, "a"))
	b.sleep(3 * time.Millisecond)
	b.Handle(b.now, udp(from1, to2, "b"))
	b.sleep(26*time.Millisecond - 3*time.Millisecond - 1)
	if due := b.Due(b.now); len(due) != 0 {
		t.Fatalf("%d packets due 1 ns early", len(due))
	}
	payloads, after := b.arrivals(start)
	if !slices.Equal(payloads, []string{"a", "b"}) || !slices.Equal(after, []time.Duration{26e6, 29e6}) {
		t.Errorf("%v after %v", payloads, after)
	}
}

func TestPathIsOneWay(t *testing.T) {
	b := threePlaces(t)
	b.path("op1", "op2", Impairment{Delay: time.Second})
	b.want(udp(to2, from1, "back"), "udp 10.2.0.2:2000 > 10.1.0.2:1000")
	b.want(udp(from1, to2, "there"), "")
}

func TestPlaceIsFoundByLongestPrefix(t *testing.T) {
	b := threePlaces(t)
	for _, dst := range []string{"10.2.0.2:1", "10.2.9.2:1", "192.0.2.1:1"} {
		b.pass(udp(from1, dst, ""))
	}
	b.pass(udp("[fd00:2::1]:1", "[2001:db8::1]:1", ""))
	var pairs []string
	for _, c := range b.Counters().Pairs {
		pairs = append(pairs, fmt.Sprintf("%s→%s %d", c.From, c.To, c.Sent))
	}
	if diff := cmp.Diff([]string{"op1→ 1", "op1→lab 1", "op1→op2 1", "op2→ 1"}, pairs); diff != "" {
		t.Error(diff)
	}
}

func TestMostSpecificPathWins(t *testing.T) {
	b := threePlaces(t)
	ms := func(n int) Impairment { return Impairment{Delay: time.Duration(n) * time.Millisecond} }
	b.path("*", "*", ms(1))
	b.path("*", "op2", ms(2))
	b.path("op1", "*", ms(3))
	b.path("op1", "op2", ms(4))
	b.path("", "op1", ms(5))
	for _, c := range []struct {
		from, to string
		ms       int
	}{
		{"lab", "op1", 1}, {"lab", "op2", 2}, {"op1", "lab", 3}, {"op1", "op2", 4}, {"op1", "", 3}, {"", "op1", 5},
	} {
		if got := b.Path(c.from, c.to); got != ms(c.ms) {
			t.Errorf("path %s→%s is %+v, want %d ms", c.from, c.to, got, c.ms)
		}
	}
	b.ClearPath("op1", "op2")
	if got := b.Path("op1", "op2"); got != ms(3) {
		t.Errorf("after ClearPath %+v, want that of op1→*", got)
	}
}

// TestPathChangesPacketsToCome has a path change while its pipe exists.
func TestPathChangesPacketsToCome(t *testing.T) {
	b := threePlaces(t)
	start := b.now
	b.path("*", "*", Impairment{Delay: 10 * time.Millisecond})
	b.Handle(b.now, udp(from1, to2, "slow"))
	b.path("op1", "op2", Impairment{})
	b.Handle(b.now, udp(from1, to2, "waits for order"))
	payloads, after := b.arrivals(start)
	if !slices.Equal(payloads, []string{"slow", "waits for order"}) || after[0] != 10e6 || after[1] != 10e6 {
		t.Errorf("%v after %v", payloads, after)
	}
}

func TestSetPathRefusesNonsense(t *testing.T) {
	for _, c := range []struct {
		imp  Impairment
		want string
	}{
		{Impairment{Delay: -1}, `path from "a" to "b": delay -1ns is not between 0 and 1 h`},
		{Impairment{Jitter: 2 * time.Hour}, `path from "a" to "b": jitter 2h0m0s is not between 0 and 1 h`},
		{Impairment{Loss: 1.5}, `path from "a" to "b": loss 1.5 is not between 0 and 1`},
		{Impairment{Loss: math.NaN()}, `path from "a" to "b": loss NaN is not between 0 and 1`},
		{Impairment{Queue: -1}, `path from "a" to "b": queue of -1 bytes is negative`},
	} {
		e := New(1)
		if err := e.SetPath("a", "b", c.imp); err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
		if e.Path("a", "b") != (Impairment{}) {
			t.Errorf("%s, and yet it holds", c.want)
		}
	}
}

func TestJitterStaysInBoundsAndOrder(t *testing.T) {
	b := threePlaces(t)
	b.path("op1", "op2", Impairment{Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond})
	var least, most time.Duration = time.Hour, 0
	for i := range 2000 { // apart, so that order asks for nothing
		start := b.now
		b.Handle(b.now, udp(from1, to2, fmt.Sprint(i)))
		_, after := b.arrivals(start)
		least, most = min(least, after[0]), max(most, after[0])
	}
	if least < 15e6 || least > 15.1e6 || most > 25e6 || most < 24.9e6 {
		t.Errorf("delays from %s to %s, want 15 to 25 ms", least, most)
	}
	start := b.now
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprint(i))
		b.Handle(b.now, udp(from1, to2, want[i]))
	}
	got, after := b.arrivals(start)
	if !slices.Equal(got, want) || slices.Max(after) > 25e6 {
		t.Errorf("order %v after %v", got, after)
	}
}

func TestReorderLetsPacketsOvertake(t *testing.T) {
	b := threePlaces(t)
	b.path("op1", "op2", Impairment{Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond, Reorder: true})
	start := b.now
	for i := range 100 {
		b.Handle(b.now, udp(from1, to2, fmt.Sprintf("%02d", i)))
	}
	got, after := b.arrivals(start)
	if !slices.IsSorted(after) {
		t.Errorf("times go back: %v", after)
	}
	if slices.IsSorted(got) {
		t.Error("nothing was overtaken")
	}
	slices.Sort(got)
	if len(slices.Compact(got)) != 100 {
		t.Errorf("%d of 100 packets came out", len(got))
	}
}

func TestLossIsAsOftenAsAsked(t *testing.T) {
	b := threePlaces(t)
	b.path("op1", "op2", Impairment{Loss: 0.1})
	b.path("op2", "op1", Impairment{Loss: 1})
	const n = 50_000
	packet := udp(from1, to2, "")
	for range n {
		b.passRaw(packet)
	}
	// Four standard deviations of a binomial: 4*sqrt(n*0.1*0.9).
	if c := b.pair("op1", "op2"); math.Abs(float64(c.Lost)-n*0.1) > 270 || c.Lost+c.Sent != n {
		t.Errorf("%d of %d lost, want a tenth", c.Lost, n)
	}
	b.want(udp(to2, from1, ""), "")
}

func TestSameSeedLosesTheSamePackets(t *testing.T) {
	lost := func(other bool) string {
		b := threePlaces(t)
		b.path("*", "*", Impairment{Loss: 0.5})
		var s strings.Builder
		for range 64 {
			if other {
				b.passRaw(udp(to2, from1, ""))
			}
			fmt.Fprint(&s, len(b.passRaw(udp(from1, to2, "")))/28)
		}
		return s.String()
	}
	if a, b := lost(false), lost(true); a != b {
		t.Errorf("losses depend on the traffic the other way:\n%s\n%s", a, b)
	}
}

func TestRateSpacesPackets(t *testing.T) {
	b := threePlaces(t)
	// 1,000 bytes take 1 ms.
	b.path("op1", "op2", Impairment{Rate: 8e6, Delay: 5 * time.Millisecond, Queue: 1 << 20})
	start := b.now
	for range 5 {
		b.Handle(b.now, udp(from1, to2, strings.Repeat("x", 1000-28)))
	}
	if _, after := b.arrivals(start); !slices.Equal(after, []time.Duration{6e6, 7e6, 8e6, 9e6, 10e6}) {
		t.Errorf("after %v, want 6 to 10 ms", after)
	}
	start = b.now // the link is idle again
	b.Handle(b.now, udp(from1, to2, strings.Repeat("x", 500-28)))
	if _, after := b.arrivals(start); !slices.Equal(after, []time.Duration{5.5e6}) {
		t.Errorf("after %v, want 5.5 ms", after)
	}
}

func TestFullQueueDropsTheTail(t *testing.T) {
	b := threePlaces(t)
	b.path("op1", "op2", Impairment{Rate: 8e6, Queue: 3000})
	start := b.now
	for i := range 10 {
		b.Handle(b.now, udp(from1, to2, fmt.Sprintf("%-972d", i)))
	}
	b.sleep(time.Millisecond) // one is sent
	b.Handle(b.now, udp(from1, to2, fmt.Sprintf("%-972d", 10)))
	payloads, after := b.arrivals(start)
	var got []string
	for _, p := range payloads {
		got = append(got, strings.TrimSpace(p))
	}
	if !slices.Equal(got, []string{"0", "1", "2", "10"}) || after[3] != 4e6 {
		t.Errorf("%v after %v", got, after)
	}
	if c := b.pair("op1", "op2"); c.Overflow != 7 {
		t.Errorf("%d dropped, want 7", c.Overflow)
	}
}

func TestIdleLinkTakesAPacketLargerThanItsQueue(t *testing.T) {
	b := threePlaces(t)
	b.path("op1", "op2", Impairment{Rate: 1e6, Queue: 100})
	if !b.Handle(b.now, udp(from1, to2, strings.Repeat("x", 1000))) {
		t.Error("an idle link dropped it")
	}
	if b.Handle(b.now, udp(from1, to2, "")) {
		t.Error("a busy link took more than its queue holds")
	}
}

func TestDefaultQueueIsATenthOfASecond(t *testing.T) {
	for rate, want := range map[uint64]int64{64e3: 15_000, 8e6: 100_000, 1e9: 12_500_000} {
		if got := (Impairment{Rate: rate}).queue(); got != want {
			t.Errorf("queue at %d bit/s is %d bytes, want %d", rate, got, want)
		}
	}
}

func TestCutDropsWhatIsOnItsWay(t *testing.T) {
	b := threePlaces(t)
	imp := Impairment{Delay: 10 * time.Millisecond}
	b.path("*", "*", imp)
	b.Handle(b.now, udp(from1, to2, "lost"))
	b.Handle(b.now, udp(to2, from1, "safe"))
	imp.Cut = true
	b.path("op1", "op2", imp)
	b.Handle(b.now, udp(from1, to2, "lost too"))
	imp.Cut = false
	b.path("op1", "op2", imp)
	b.sleep(time.Millisecond)
	start := b.now
	b.Handle(b.now, udp(from1, to2, "healed"))
	payloads, after := b.arrivals(start)
	if !slices.Equal(payloads, []string{"safe", "healed"}) || after[1] != 10e6 {
		t.Errorf("%v after %v", payloads, after)
	}
	if c := b.pair("op1", "op2"); c.Cut != 2 || c.Sent != 1 || c.Received != 3 {
		t.Errorf("%+v, want 2 cut, 1 sent", c)
	}
}

// TestHealedPathDoesNotWaitForWhatWasCut: neither its order nor its rate does.
func TestHealedPathDoesNotWaitForWhatWasCut(t *testing.T) {
	b := threePlaces(t)
	b.path("op1", "op2", Impairment{Delay: time.Minute, Rate: 8e3})
	b.Handle(b.now, udp(from1, to2, strings.Repeat("x", 1000)))
	b.path("op1", "op2", Impairment{Cut: true})
	b.path("op1", "op2", Impairment{Rate: 8e6})
	start := b.now
	b.Handle(b.now, udp(from1, to2, strings.Repeat("x", 1000-28)))
	if _, after := b.arrivals(start); !slices.Equal(after, []time.Duration{1e6}) {
		t.Errorf("after %v, want 1 ms", after)
	}
}

func TestPathsDoNotWaitForEachOther(t *testing.T) {
	b := threePlaces(t)
	b.path("op1", "op2", Impairment{Delay: 30 * time.Millisecond})
	b.path("op2", "op1", Impairment{Delay: 20 * time.Millisecond})
	b.path("op1", "lab", Impairment{Delay: 10 * time.Millisecond})
	start := b.now
	b.Handle(b.now, udp(from1, to2, "third"))
	b.Handle(b.now, udp(to2, from1, "second"))
	b.Handle(b.now, udp(from1, "10.2.9.2:1", "first"))
	if payloads, _ := b.arrivals(start); !slices.Equal(payloads, []string{"first", "second", "third"}) {
		t.Error(payloads)
	}
}

func TestEqualDueTimesKeepArrivalOrder(t *testing.T) {
	b := threePlaces(t)
	b.path("*", "*", Impairment{Delay: time.Millisecond})
	var want []string
	for i := range 50 {
		want = append(want, fmt.Sprint(i))
		src, dst := from1, to2
		if i%3 == 0 {
			src, dst = dst, src
		}
		b.Handle(b.now, udp(src, dst, want[i]))
	}
	if got, _ := b.arrivals(b.now); !slices.Equal(got, want) {
		t.Error(got)
	}
}

func TestMalformedPacketsAreCounted(t *testing.T) {
	b := threePlaces(t)
	whole := udp(from1, to2, "payload")
	short := slices.Clone(whole)
	short[0] = 0x44 // a header of 16 bytes
	for _, packet := range [][]byte{nil, {0x45}, make([]byte, 60), whole[:27], short, append([]byte{0x60}, make([]byte, 38)...)} {
		if b.Handle(b.now, packet) {
			t.Errorf("%x was taken", packet)
		}
	}
	if c := b.Counters(); c.Malformed != 6 {
		t.Errorf("%d malformed, want 6", c.Malformed)
	}
}

func TestLinkLocalAndMulticastStayOnTheirLink(t *testing.T) {
	b := threePlaces(t)
	b.want(udp("[fe80::1]:546", "[ff02::1:2]:547", ""), "")
	b.want(udp("[fd00:1::1]:1", "[fe80::1]:1", ""), "")
	b.want(udp("10.1.0.2:1", "224.0.0.251:5353", ""), "")
	if c := b.Counters(); c.Local != 3 || len(c.Pairs) != 0 {
		t.Errorf("%+v, want 3 local", c)
	}
}

func TestTrailingBytesAreCutOff(t *testing.T) {
	b := threePlaces(t)
	packet := udp(from1, to2, "payload")
	if got := b.passRaw(append(slices.Clone(packet), 1, 2, 3)); !slices.Equal(got, packet) {
		t.Errorf("%x, want %x", got, packet)
	}
}

func TestTimeNeverGoesBack(t *testing.T) {
	b := threePlaces(t)
	b.path("*", "*", Impairment{Delay: time.Millisecond})
	start := b.now
	b.Handle(start, udp(from1, to2, "a"))
	b.Handle(start.Add(-time.Hour), udp(from1, to2, "b"))
	if got, after := b.arrivals(start); len(got) != 2 || after[1] != 1e6 {
		t.Errorf("%v after %v", got, after)
	}
}
