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

// What the tracer says of random flows in random networks is what happens to real packets: at which
// nodes they come in and leave, by which devices and with which addresses, there and back, until
// they are delivered or lost. `make truth` runs more of them.
func TestTraceIsTrue(t *testing.T) {
	t.Parallel()
	networks, seed := setting(t, "TOMBOLO_TRUTH_NETWORKS", 6), setting(t, "TOMBOLO_SEED", 8)
	flows := setting(t, "TOMBOLO_TRUTH_FLOWS", 100)
	var count truthCount
	for i := range networks {
		t.Run(fmt.Sprint(seed+i), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed+i, 8))
			n, network, labFile := makeTruthNetwork(t, r)
			l := &truthLab{truthNetwork: n, network: network, homeLab: open(t, fmt.Sprintf("truth%d", (seed+i)%10000), n.file.String(), labFile), count: &count}
			l.run(int(flows))
		})
	}
	t.Logf("%d flows in %d networks, of which %d are answered and %d have several ways, TOMBOLO_SEED=%d", count.flows, networks, count.answered, count.several, seed)
}

type truthCount struct{ flows, answered, several int }

// truthLab is a random network in a lab, and how it is now.
type truthLab struct {
	*truthNetwork
	homeLab
	network *spec.Network
	nodes   []lab.Node
	now     truth.Situation
	targets []netip.Addr
	outer   map[netip.Addr]string // whose uplinks' addresses they are
	devices map[[2]string]bool    // of routers

	flows uint32 // that were sent
	seen  captures
	count *truthCount
	told  []truth.Situation // all that was seen
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
	if links := l.tunnels(); len(links) > 0 {
		cut := links[l.IntN(len(links))]
		l.do(l.lab.Cut(l.Context(), cut[0], cut[1]))
		l.now.Down = [][2]string{cut}
		l.compare(fmt.Sprintf("while %s and %s are cut from each other", cut[0], cut[1]), flows/4)
		l.do(l.lab.Heal(l.Context(), cut[0], cut[1]))
		l.now.Down = nil
	}
	if l.phone && len(l.doors) > 1 {
		i := slices.Index(l.doors, l.now.Doors["phone"])
		l.enters(l.doors[(i+1)%len(l.doors)])
		l.compare("after the phone has moved to "+l.now.Doors["phone"], flows/8)
	}
	for _, s := range l.sites {
		if len(s.uplinks) < 2 {
			continue
		}
		dead := [2]string{s.name, s.uplinks[l.IntN(2)]}
		l.now.Dead = [][2]string{dead}
		when := fmt.Sprintf("while %s has no carrier on %s", dead[0], dead[1])
		if s.checked {
			when = fmt.Sprintf("while the provider of %s on %s is dead", dead[0], dead[1])
			l.do(l.lab.Cut(l.Context(), dead[0]+"/"+dead[1], ""))
		} else {
			l.do(l.lab.Carrier(l.Context(), dead[0], dead[1], false))
		}
		l.compare(when, flows/8)
		break
	}
	l.keep()
}

// keep writes what was seen where another tracer can be held against it.
func (l *truthLab) keep() {
	dir := os.Getenv("TOMBOLO_TRUTH_DIR")
	if dir == "" {
		return
	}
	text, err := json.Marshal(l.told)
	l.do(err)
	l.do(os.WriteFile(filepath.Join(dir, filepath.Base(l.Name())+".json"), text, 0o600))
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

// beside says what the tracer knows nothing of: as whom a device without `full:` is seen that goes to the Internet by itself, and
// what goes between two providers that are cut from each other.
func (l *truthLab) beside(from lab.Node, to netip.Addr) bool {
	public := l.outer[to] != "" || to.IsGlobalUnicast() && !to.IsPrivate()
	if from.Kind == lab.DeviceNode && !l.full && public {
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
	n, err := trace.New(l.now.World())
	if err != nil {
		l.Fatalf("%v\n%s", err, l.file.String())
	}
	all := l.askings(flows)
	for _, q := range all {
		ways := n.Possible(q.Flow.Flow)
		l.count.answered += bit(ways[0].Verdict.Delivered)
		l.count.several += bit(len(ways) > 1)
	}
	l.count.flows += len(all)
	differ := l.sweep(n, all)
	for end := time.Now().Add(patience); len(differ) > 0 && time.Now().Before(end); {
		time.Sleep(time.Second / 2)
		differ = l.sweep(n, differ)
	}
	// What was right while it did not rest must be so now. A packet may get lost on a busy machine, and none is made.
	again := l.sweep(n, slices.DeleteFunc(slices.Clone(all), func(q *asking) bool { return slices.Contains(differ, q) }))
	for range 3 {
		again = l.sweep(n, again)
	}
	for _, q := range append(differ, again...) {
		l.Errorf("%s, %s from %s: %+v\n%s", when, q.Protocol, q.node, q.Flow.Flow, l.now.Compare(n, &q.Flow))
	}
	seen := l.now
	for _, q := range all {
		seen.Flows = append(seen.Flows, q.Flow)
	}
	l.told = append(l.told, seen)
}

// sweep sends all at once, and returns those of which something else is captured than the tracer says.
func (l *truthLab) sweep(n *trace.Network, all []*asking) (differ []*asking) {
	l.Helper()
	if len(all) == 0 {
		return nil
	}
	done := l.send(all)
	l.seen.quiet()
	done()
	l.seen.sort(all, l.devices)
	for _, q := range all {
		if l.now.Compare(n, &q.Flow) != "" {
			differ = append(differ, q)
		}
	}
	return differ
}
