package cli_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"tombolo/internal/api"
	"tombolo/internal/lab"
)

// homeLab is the home network over its emulated Internet: op1–op2 20 ms, op1–op3 27 ms,
// op2–op3 52 ms. So op2 and op3 are nearer by op1 (47 ms) than to each other.
type homeLab struct {
	testLab
	lab *lab.Lab
}

const (
	lanOfOp1 = "192.168.35.0/24"
	lanOfOp2 = "192.168.36.0/24"
	lanOfOp3 = "192.168.37.0/24"

	// A lab's routers share two slow processors with everything else: what takes a third
	// of a second there is given ten times that.
	patience = 30 * time.Second
	leftIn   = 3 * time.Second
)

func upHome(t *testing.T, name string) homeLab {
	t.Helper()
	network, err := os.ReadFile("../../examples/home.yaml")
	if err != nil {
		t.Fatal(err)
	}
	paths, err := os.ReadFile("../../examples/home.lab.yaml")
	if err != nil {
		t.Fatal(err)
	}
	l := homeLab{testLab: up(t, name, string(network), string(paths))}
	if l.lab, err = lab.Open(l.name); err != nil {
		t.Fatal(err)
	}
	return l
}

// routes returns what a router's agent knows of a destination.
func (l testLab) routes(site, dst string) api.Entry {
	l.Helper()
	var r api.Routes
	out := l.in(site, binary, "routes", "--json")
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		l.Fatalf("%v in %s", err, out)
	}
	for _, e := range r.Entries {
		if e.Dst.String() == dst {
			return e
		}
	}
	return api.Entry{}
}

// device returns the device by which a router sends packets to a destination, by its own
// account.
func (l testLab) device(site, dst string) string {
	l.Helper()
	for _, w := range l.routes(site, dst).Ways {
		if w.Chosen {
			return w.Device
		}
	}
	return ""
}

// goes waits until a router goes by a device.
func (l testLab) goes(site, dst, device string) {
	l.Helper()
	var last string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if last = l.device(site, dst); last == device {
			return
		}
	}
	l.Fatalf("%s goes to %s by %q and not by %q\n%s", site, dst, last, device, l.in(site, binary, "routes"))
}

// losesTheWay waits until a router has no way, or only one that is kept, since nobody is heard there.
func (l testLab) losesTheWay(site, dst string) {
	l.Helper()
	l.soon(func() string {
		for _, w := range l.routes(site, dst).Ways {
			if w.Chosen && !w.Kept {
				return site + " still goes to " + dst + " by " + w.Device
			}
		}
		return ""
	})
}

func (l homeLab) do(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// stream is a ping from host to host every ten milliseconds.
type stream struct {
	testLab
	cmd *exec.Cmd
	out *strings.Builder
}

func (l testLab) stream(from, to string) stream {
	l.Helper()
	c := l.start(from, "ping", "-n", "-i", "0.01", "-W", "2", to)
	return stream{l, c, c.Stdout.(*strings.Builder)}
}

var (
	answered    = regexp.MustCompile(`icmp_seq=(\d+)`)
	transmitted = regexp.MustCompile(`(\d+) packets transmitted`)
)

// end ends the stream and returns how many answers were missing, and the time of the
// longest run of them.
func (s stream) end() (lost int, longest time.Duration) {
	s.Helper()
	s.in("core", "true")
	_ = s.cmd.Process.Signal(os.Interrupt)
	_ = s.cmd.Wait()
	// A flow that moves to a shorter way overtakes itself: what counts is what never came.
	came, last := map[int]bool{}, 0
	for _, m := range answered.FindAllStringSubmatch(s.out.String(), -1) {
		n, _ := strconv.Atoi(m[1])
		came[n], last = true, max(last, n)
	}
	if m := transmitted.FindStringSubmatch(s.out.String()); m != nil {
		sent, _ := strconv.Atoi(m[1])
		last = max(last, sent-50) // what is still under way counts as nothing
	}
	run := 0
	for n := 1; n <= last; n++ {
		if run++; came[n] {
			run = 0
			continue
		}
		lost++
		longest = max(longest, time.Duration(run)*10*time.Millisecond)
	}
	if last < 50 {
		s.Fatalf("the stream was not answered:\n%s", s.out.String())
	}
	return lost, longest
}

// moves counts how often a router changed its way to a destination since the watch began.
type watch struct {
	testLab
	cmd *exec.Cmd
}

func (l testLab) watch(site string) watch {
	l.Helper()
	w := watch{l, l.start(site, binary, "watch", "--json")}
	time.Sleep(300 * time.Millisecond) // until it listens
	return w
}

func (w watch) moves(dst string) (moves []string) {
	w.Helper()
	_ = w.cmd.Process.Signal(os.Interrupt)
	_ = w.cmd.Wait()
	for line := range strings.Lines(w.cmd.Stdout.(*strings.Builder).String()) {
		var e api.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			w.Fatalf("%v in %s", err, line)
		}
		if e.Route == dst && e.Kind == "route moved" {
			moves = append(moves, e.Text)
		}
	}
	return moves
}

func TestNearerWayIsTaken(t *testing.T) {
	t.Parallel()
	l := upHome(t, "nearer")
	start := func(t *testing.T) {
		l.goes("op2", lanOfOp3, "wg-op1")
		l.goes("op3", lanOfOp2, "wg-op1")
		l.reached()
		e := l.routes("op2", lanOfOp3)
		if len(e.Ways) < 2 || e.Ways[0].Metric >= e.Ways[1].Metric || e.Why == "" || e.Ways[1].Note == "" {
			t.Errorf("the ways are not explained: %+v", e)
		}
	}
	t.Run("all routers at the same instant", start)
	t.Run("one after the other", func(t *testing.T) {
		for _, s := range []string{"op1", "op2", "op3"} {
			l.in(s, binary, "down")
		}
		for _, s := range []string{"op2", "op3", "op1"} {
			l.in(s, binary, "apply", l.lab.Dir()+"/network.yaml", "--site", s, "--keys", l.lab.Dir()+"/keys", "--partial")
			time.Sleep(2 * time.Second)
		}
		start(t)
	})
	t.Run("it becomes longer and then shorter again", func(t *testing.T) {
		s := l.stream("op2.host", "192.168.37.10")
		w := l.watch("op2")
		l.do(l.lab.ChangePath(t.Context(), "op1", "op3", "rtt=60ms"))
		l.goes("op2", lanOfOp3, "wg-op3")
		time.Sleep(5 * time.Second)
		l.do(l.lab.ChangePath(t.Context(), "op1", "op3", "rtt=27ms"))
		l.goes("op2", lanOfOp3, "wg-op1")
		time.Sleep(5 * time.Second)
		if m := w.moves(lanOfOp3); len(m) != 2 {
			t.Errorf("it moved %d times, and there was reason for two:\n%s", len(m), strings.Join(m, "\n"))
		}
		if lost, _ := s.end(); lost > 0 {
			t.Errorf("%d packets were lost, although every link was up", lost)
		}
	})
}

// Nothing is signalled when a path is cut: packets vanish.
func TestSilentCutIsLeft(t *testing.T) {
	t.Parallel()
	l := upHome(t, "silent")
	l.goes("op2", lanOfOp3, "wg-op1")
	l.goes("op3", lanOfOp2, "wg-op1")
	for _, c := range []struct {
		name string
		cut  func() error
	}{
		{"both ways", func() error { return l.lab.Cut(t.Context(), "op1", "op3") }},
		{"one way", func() error { return l.lab.CutOneWay(t.Context(), "op1", "op3") }},
		{"the other way", func() error { return l.lab.CutOneWay(t.Context(), "op3", "op1") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := l.stream("op2.host", "192.168.37.10")
			time.Sleep(2 * time.Second)
			l.do(c.cut())
			l.goes("op2", lanOfOp3, "wg-op3")
			l.goes("op3", lanOfOp2, "wg-op2")
			time.Sleep(time.Second)
			lost, longest := s.end()
			t.Logf("%d packets lost, %s without an answer", lost, longest)
			if longest > leftIn {
				t.Errorf("the stream stood for %s", longest)
			}
			s = l.stream("op2.host", "192.168.37.10")
			l.do(l.lab.Heal(t.Context(), "op1", "op3"))
			l.goes("op2", lanOfOp3, "wg-op1")
			l.goes("op3", lanOfOp2, "wg-op1")
			time.Sleep(time.Second)
			if lost, _ := s.end(); lost > 0 {
				t.Errorf("%d packets were lost when the better way came back", lost)
			}
		})
	}
}

func TestRouterIsCutOffAndComesBack(t *testing.T) {
	t.Parallel()
	l := upHome(t, "cutoff")
	l.reached()
	s := l.stream("op2.host", "192.168.37.10")
	time.Sleep(2 * time.Second)
	l.do(l.lab.Cut(t.Context(), "op1", ""))
	l.goes("op2", lanOfOp3, "wg-op3")
	l.goes("op3", lanOfOp2, "wg-op2")
	l.losesTheWay("op2", lanOfOp1)
	time.Sleep(time.Second)
	if _, longest := s.end(); longest > leftIn {
		t.Errorf("the others' stream stood for %s", longest)
	}
	l.fails("op2.host", "ping", "-c1", "-W1", "192.168.35.10")
	l.do(l.lab.Heal(t.Context(), "op1", ""))
	l.goes("op2", lanOfOp1, "wg-op1")
	l.goes("op2", lanOfOp3, "wg-op1")
	l.reached()
}

// A link that comes and goes is not trusted, and what goes by the others is not disturbed.
func TestLinkThatComesAndGoes(t *testing.T) {
	t.Parallel()
	l := upHome(t, "flap")
	l.goes("op2", lanOfOp3, "wg-op1")
	l.goes("op3", lanOfOp2, "wg-op1")
	s := l.stream("op2.host", "192.168.37.10")
	time.Sleep(time.Second)
	const rounds = 5
	for range rounds {
		l.do(l.lab.Cut(t.Context(), "op1", "op3"))
		time.Sleep(2 * time.Second)
		l.do(l.lab.Heal(t.Context(), "op1", "op3"))
		time.Sleep(2 * time.Second)
	}
	lost, longest := s.end()
	t.Logf("%d packets lost, at most %s in a row", lost, longest)
	if limit := rounds * int(leftIn/(10*time.Millisecond)) / 2; longest > leftIn || lost > limit {
		t.Errorf("%d packets were lost, at most %s in a row", lost, longest)
	}
	l.goes("op2", lanOfOp3, "wg-op1")
	l.reached()
}

func TestPartitionHeals(t *testing.T) {
	t.Parallel()
	l := upHome(t, "partition")
	l.reached()
	for _, s := range []string{"op1", "op2", "op3"} {
		l.do(l.lab.Cut(t.Context(), s, ""))
	}
	l.losesTheWay("op2", lanOfOp1)
	l.losesTheWay("op3", lanOfOp1)
	l.losesTheWay("op1", lanOfOp2)
	time.Sleep(3 * time.Second)
	for _, s := range []string{"op1", "op2", "op3"} {
		l.do(l.lab.Heal(t.Context(), s, ""))
	}
	l.goes("op2", lanOfOp3, "wg-op1")
	l.goes("op3", lanOfOp2, "wg-op1")
	l.goes("op1", lanOfOp2, "wg-op2")
	l.reached()
}

// Behind two symmetric NATs no tunnel between the two comes up, whatever the file says of
// their endpoints: routing goes by the third, without a setting.
func TestSymmetricNATsMeetByAThird(t *testing.T) {
	t.Parallel()
	l := up(t, "symmetric", `
network: n
overlay: 10.9.0.0/24
sites:
  op1: {endpoint: op1.example.net, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: dhcp}}
  op2: {endpoint: "op2.example.net", lan: {lan0: 10.2.0.0/24}, uplink: {eth0: dhcp}}
  op3: {endpoint: "op3.example.net", lan: {lan0: 10.3.0.0/24}, uplink: {eth0: dhcp}}
links: mesh
`, "sites: {op2: {eth0: {nat: symmetric}}, op3: {eth0: {nat: symmetric}}}")
	l.goes("op2", "10.3.0.0/24", "wg-op1")
	l.goes("op3", "10.2.0.0/24", "wg-op1")
	l.reached()
	if out := l.in("op2", "wg", "show", "wg-op3", "latest-handshakes"); !strings.HasSuffix(strings.TrimSpace(out), "\t0") {
		t.Errorf("the two have met after all: %s", out)
	}
}
