package main

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/internal/compile"
	"tombolo/internal/spec"
)

// at is a time so many milliseconds ago.
func at(ms int) time.Time { return time.Now().Add(-time.Duration(ms) * time.Millisecond) }

// sample is a stream of which a letter for each packet says what became of it, the last one
// having been sent just now: d came by the direct way, t through op1, x did not come.
func sample(letters string) *stream {
	s := &stream{}
	for i, l := range letters {
		p := packet{sent: at(10 * (len(letters) - 1 - i))}
		switch l {
		case 'd':
			p.came, p.hops = p.sent, direct
		case 't':
			p.came, p.hops = p.sent, through
		}
		s.packets = append(s.packets, p)
	}
	return s
}

func TestStreamIsSteadySinceTheLastThatShouldNotBe(t *testing.T) {
	old := strings.Repeat("x", 30) // long enough ago to be lost
	for _, c := range []struct {
		letters string
		should  func(packet) bool
		from    int // ms ago
		want    int // packets that held
	}{
		{old + "tttt", came, 1000, 4},
		{old + "ddtt", by(through), 1000, 2},
		{old + "ddtt", by(direct), 1000, 0},
		{old + "tttttt", came, 35, 4},          // not before it was asked
		{old + "ttttxx", by(through), 1000, 4}, // what may yet come tells nothing
		{"tttt" + old, came, 1000, 0},
		{"", came, 1000, 0},
	} {
		_, held := sample(c.letters).steady(at(c.from), c.should)
		got := 0
		if held > 0 {
			got = int(held.Round(probeInterval)/probeInterval) + 1
		}
		if got != c.want {
			t.Errorf("%s: %d packets held, want %d", c.letters, got, c.want)
		}
	}
}

func TestStreamCountsWhatIsLost(t *testing.T) {
	s := sample("xxtxxt" + strings.Repeat("t", 30) + "xx")
	if got := s.lost(at(10000), time.Now()); got != 4 {
		t.Errorf("%d packets lost, want 4: the last ones may be under way", got)
	}
	if got := s.lost(s.packets[1].sent, s.packets[4].sent); got != 2 {
		t.Errorf("%d packets lost in between, want 2", got)
	}
}

func TestStreamCountsChangesOfWay(t *testing.T) {
	for letters, want := range map[string]int{"ddtt": 1, "dxtxtd": 2, "tttt": 0, "xxtt": 0, "": 0} {
		if got := sample(letters).turns(at(1000)); got != want {
			t.Errorf("%s: %d changes, want %d", letters, got, want)
		}
	}
}

func TestOnlyRoutingCountsAsRouting(t *testing.T) {
	v4 := func(protocol byte, options int, port uint16) []byte {
		b := make([]byte, 20+options, 100)
		b[0], b[9] = 0x45+byte(options/4), protocol
		b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, 9), port)
		b = append(b, make([]byte, 20)...)
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		return b
	}
	v6 := func(protocol byte, port uint16) []byte {
		b := make([]byte, 40, 100)
		b[0], b[6] = 0x60, protocol
		b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, 9), port)
		b = append(b, make([]byte, 20)...)
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		return b
	}
	for _, c := range []struct {
		name   string
		packet []byte
		want   float64
	}{
		{"Babel", v6(17, 6696), 64},
		{"OSPF", v4(89, 0, 0), 44},
		{"OSPF for IPv6", v6(89, 0), 64},
		{"BFD", v4(17, 0, 3784), 44},
		{"BFD with IP options", v4(17, 8, 3784), 52},
		{"a probe", v4(17, 0, probePort), 0},
		{"TCP to Babel's port", v6(6, 6696), 0},
		{"a header of IP options alone", []byte{0x4f, 19: 0}, 0},
		{"nothing", nil, 0},
	} {
		if got := routingBytes(c.packet); got != c.want {
			t.Errorf("%s: %v bytes, want %v", c.name, got, c.want)
		}
	}
}

func TestPromisesAreMissedWhereOthersAreFaster(t *testing.T) {
	ms := func(list ...int) (out []time.Duration) {
		for _, n := range list {
			out = append(out, time.Duration(n)*time.Millisecond)
		}
		return out
	}
	good := figures{
		cold: ms(900), cut: ms(200, 210, 450), oneWay: ms(200, 210, 220), back: ms(5000), moved: ms(4000), movedBack: ms(4000),
		host: ms(100), spikeTried: true, movedTurns: 1, busy: 900, idle: 90,
	}
	missed := func(f figures, rival int) (out []int) {
		others := struct{ cut, oneWay time.Duration }{time.Duration(rival) * time.Millisecond, never}
		for i, r := range promises(f, others) {
			if !r.met {
				out = append(out, i)
			}
		}
		return out
	}
	if got := missed(good, 270); got != nil {
		t.Errorf("good figures miss promises %v", got)
	}
	if got := missed(good, 210); !slices.Equal(got, []int{0}) {
		t.Errorf("with a rival as fast, promises %v are missed, want the first", got)
	}
	if got := missed(figures{}, 270); len(got) < 8 {
		t.Errorf("what was not measured counts as reached: only %v are missed", got)
	}
	bad := good
	bad.cut, bad.backLost, bad.spikeMoved, bad.idle = ms(200, 210, 510), 1, true, 101
	if got := missed(bad, 270); !slices.Equal(got, []int{0, 3, 9, 12}) {
		t.Errorf("promises %v are missed", got)
	}
}

func TestContendersAreChosenByName(t *testing.T) {
	o := options{tombolo: "/nowhere", contenders: "babled"}
	if _, err := chooseEntries(context.Background(), o); err == nil || !strings.HasPrefix(err.Error(), `there is no contender "babled"; there are ours, babeld, `) {
		t.Errorf("a misspelt contender: %v", err)
	}
	o.contenders = "ours"
	if _, err := chooseEntries(context.Background(), o); err == nil || err.Error() != "/nowhere has no agent" {
		t.Errorf("ours without an agent: %v", err)
	}
}

func TestNetworksOfTheBenchAreGood(t *testing.T) {
	for name, text := range map[string]string{"triangle": triangleFile, "star": star(agentLinks, agentPrefixes)} {
		n, ds := spec.Parse(name, []byte(text))
		if n == nil || ds.HasErrors() {
			t.Fatalf("%s: %v", name, ds)
		}
		hub, err := compile.Router(n, n.Sites[0].Name, compile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]int{"triangle": 2, "star": agentLinks}[name]; len(hub.Interfaces) != want {
			t.Errorf("%s: %d links, want %d", name, len(hub.Interfaces), want)
		}
	}
}
