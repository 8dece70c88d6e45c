package cli_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tombolo/internal/lab"
	"tombolo/internal/spec"
	"tombolo/internal/trace"
	"tombolo/internal/trace/truth"
)

// setting is a number that the environment may set.
func setting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(name, err)
	}
	return n
}

// This file's name is the first of this folder's: tests begin in that order, and this one takes longest.

// What the tracer says of random flows in random networks is what happens to real packets: at which
// nodes they come in and leave, by which devices and with which addresses, there and back, until
// they are delivered or lost. `make truth` runs more of them.
func TestTraceIsTrue(t *testing.T) {
	t.Parallel()
	networks, seed := setting(t, "TOMBOLO_TRUTH_NETWORKS", 20), setting(t, "TOMBOLO_SEED", 8)
	flows := setting(t, "TOMBOLO_TRUTH_FLOWS", 130)
	folder := os.Getenv("TOMBOLO_TRUTH_DIR")
	if folder == "" {
		folder = t.TempDir()
	}
	var count truthCount
	var labs sync.WaitGroup
	next := make(chan uint64)
	for range setting(t, "TOMBOLO_TRUTH_AT_ONCE", 4) { // they mostly wait
		labs.Go(func() {
			for seed := range next {
				t.Run(fmt.Sprint(seed), func(t *testing.T) {
					r := rand.New(rand.NewPCG(seed, 8))
					n, network, labFile := makeTruthNetwork(t, r)
					l := &truthLab{truthNetwork: n, network: network, homeLab: open(t, fmt.Sprintf("truth%d", seed%10000), n.file.String(), labFile, n.devices()...), count: &count, folder: folder}
					l.run(int(flows))
				})
			}
		})
	}
	for i := range networks {
		next <- seed + i
	}
	close(next)
	labs.Wait()
	t.Logf("%d flows in %d networks, of which %d are answered and %d have several ways, TOMBOLO_SEED=%d", count.flows.Load(), networks, count.answered.Load(), count.several.Load(), seed)
	if !t.Failed() {
		caught(t, folder)
	}
}

type truthCount struct{ flows, answered, several atomic.Int64 }

// toRest is how long a network may take to come to rest: a router that is silent is given up after 25 s,
// and then its addresses are tried in turn.
const toRest = 75 * time.Second

// truthLab is a random network in a lab, and how it is now.
type truthLab struct {
	*truthNetwork
	homeLab
	network *spec.Network
	nodes   []lab.Node
	now     truth.Situation
	targets []netip.Addr
	closed  []netip.Addr          // which their providers let nobody reach
	outer   map[netip.Addr]string // whose uplinks' addresses they are
	devices map[[2]string]bool    // of routers
	moved   bool                  // the phone has been at another door

	flows uint32 // that were sent
	seen  captures
	count *truthCount

	told   []truth.Situation // all that was seen
	folder string            // where it is kept
}

func (l *truthLab) run(flows int) {
	l.describe()
	defer func() {
		if l.Failed() {
			l.Log(l.file.String())
		}
	}()
	for _, n := range l.nodes {
		l.serves(n, l.addressesOf(n))
		l.watch(n)
	}
	l.compare("when all is well", flows/2)
	l.happens(flows/3, pick(l.Rand, l.cut, l.cutOneWay), l.loses)
	l.moves(flows / 6)
	if l.one(2) {
		l.dies(flows / 6)
	}
	l.keep()
}

// keep writes what was seen to where another tracer can be held against it.
func (l *truthLab) keep() {
	text, err := json.Marshal(l.told)
	l.do(err)
	l.do(os.WriteFile(filepath.Join(l.folder, filepath.Base(l.Name())+".json"), text, 0o600))
}

// askings makes random flows.
func (l *truthLab) askings(n int) (out []*asking) {
	l.Helper()
	for len(out) < n {
		from, to := l.nodes[l.IntN(len(l.nodes))], l.targets[l.IntN(len(l.targets))]
		q := &asking{node: from.Name}
		q.To, q.Protocol = to, pick(l.Rand, trace.TCP, trace.UDP, trace.ICMP)
		if q.Protocol != trace.ICMP {
			q.Port = askedPorts[bit(l.one(5))]
		}
		if q.Protocol == trace.UDP && l.one(3) {
			q.Size = 1340 + l.IntN(161)
		}
		own := netip.Addr{}
		for _, a := range l.addressesOf(from) {
			if a.Is6() == to.Is6() && !own.IsValid() {
				own = a
			}
		}
		if !own.IsValid() || slices.Contains(l.addressesOf(from), to) || l.beside(from, to) {
			continue
		}
		switch from.Kind {
		case lab.RouterNode:
			q.From = trace.Place{Kind: trace.Router, Site: from.Name}
			if l.one(3) { // by an address that it says itself
				all := l.addressesOf(from)
				if a := all[l.IntN(len(all))]; a.Is6() == to.Is6() {
					q.bound, q.From.Addr = a, a
				}
			}
		case lab.LANHost:
			q.From = trace.Place{Kind: trace.Host, Site: from.Site, Addr: own}
		case lab.DeviceNode:
			q.From = trace.Place{Kind: trace.Device, Name: from.Name}
		default:
			q.From = trace.Place{Kind: trace.Internet, Addr: own}
		}
		out = append(out, q)
	}
	return out
}

func bit(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// beside says what the tracer knows nothing of: as whom a device is seen that goes to the Internet by itself, what a dead router
// does, what goes between two providers that are cut from each other, and where a door takes a phone to be that is not there any more:
// when it hears of no other door, it goes by its own last handshake, for three minutes.
func (l *truthLab) beside(from lab.Node, to netip.Addr) bool {
	public := l.outer[to] != "" || to.IsGlobalUnicast() && !to.IsPrivate()
	if from.Kind == lab.DeviceNode && public && (!l.full || l.now.Doors[from.Name] == "") || slices.Contains(l.now.Dead, [2]string{from.Name, ""}) {
		return true
	}
	if to == netip.MustParseAddr(phone) && (l.moved && len(l.now.Down)+len(l.now.Dead) > 0 || len(l.now.Dead) > 0 && l.now.Dead[0][0] == l.now.Doors["phone"]) {
		return true
	}
	for _, cut := range l.now.Down {
		if slices.Contains(cut[:], l.outer[to]) && from.Kind != lab.InternetNode {
			return true
		}
	}
	return false
}

// compare sends flows, and compares what is captured with what the tracer says. It is given time: a
// network that has changed comes to rest.
func (l *truthLab) compare(when string, flows int) {
	l.Helper()
	l.now.When = when
	n, err := l.now.Tracer()
	if err != nil {
		l.Fatalf("%v\n%s", err, l.file.String())
	}
	all := l.askings(flows)
	for _, q := range all {
		ways := n.Possible(q.Flow.Flow)
		l.count.answered.Add(int64(bit(ways[0].Verdict.Delivered)))
		l.count.several.Add(int64(bit(len(ways) > 1)))
	}
	l.count.flows.Add(int64(len(all)))
	begin := time.Now()
	defer func() { l.Logf("%s: %d flows in %.1f s", when, len(all), time.Since(begin).Seconds()) }()
	// All must be right twice, one time after the other: what is lost while a network does not rest, or on a busy machine, looks as if
	// something had lost it for good.
	var differ []*asking
	end := time.Now().Add(toRest)
	twice := 0
	for twice < 2 && time.Now().Before(end) {
		if differ = l.sweep(n, all); len(differ) == 0 {
			twice++
			continue
		}
		for twice = 0; len(differ) > 0 && time.Now().Before(end); differ = l.sweep(n, differ) {
			time.Sleep(time.Second / 2)
			if time.Since(begin) > toRest/2 { // it has come to rest, if it ever will
				n.Farther()
			}
		}
	}
	if twice < 2 && len(differ) == 0 {
		l.Errorf("%s: never all at once was as the tracer says", when)
	}
	for _, q := range differ {
		l.Errorf("%s, %s from %s: %+v\n%s", when, q.Protocol, q.node, q.Flow.Flow, n.Compare(&q.Flow))
	}
	seen := l.now
	for _, q := range all {
		seen.Flows = append(seen.Flows, q.Flow)
	}
	l.told = append(l.told, seen)
}

// sweep sends all at once, and returns those of which something else is captured than the tracer says.
func (l *truthLab) sweep(n *truth.Tracer, all []*asking) (differ []*asking) {
	l.Helper()
	if len(all) == 0 {
		return nil
	}
	done := l.send(all)
	l.seen.quiet()
	done()
	l.seen.sort(all, l.devices)
	for _, q := range all {
		if n.Compare(&q.Flow) != "" {
			differ = append(differ, q)
		}
	}
	return differ
}
