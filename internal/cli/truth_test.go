package cli_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tombolo/internal/lab"
	"tombolo/internal/spec"
	"tombolo/internal/trace"
	"tombolo/internal/trace/learned"
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

// What the tracer says of random flows in random networks is what happens to real packets: whether
// they are answered, by whom, and as whom they are seen there. `make truth` runs more of them.
func TestTraceIsTrue(t *testing.T) {
	t.Parallel()
	networks, seed := setting(t, "TOMBOLO_TRUTH_NETWORKS", 6), setting(t, "TOMBOLO_SEED", 8)
	flows := setting(t, "TOMBOLO_TRUTH_FLOWS", 25)
	total, answered := 0, 0
	for i := range networks {
		t.Run(fmt.Sprint(seed+i), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed+i, 8))
			n, network, labFile := makeTruthNetwork(t, r)
			l := &truth{truthNetwork: n, network: network, homeLab: open(t, fmt.Sprintf("truth%d", (seed+i)%10000), n.file.String(), labFile)}
			total += l.run(int(flows))
			answered += l.answered
		})
	}
	t.Logf("%d flows in %d networks, of which %d are answered, TOMBOLO_SEED=%d", total, networks, answered, seed)
}

// truth is a random network in a lab, and what the tracer is told of it.
type truth struct {
	*truthNetwork
	homeLab
	network *spec.Network
	world   learned.World
	down    [2]string // the link that is cut
	dead    [2]string // the uplink without carrier
	nodes   []lab.Node
	outer   map[netip.Addr]string     // whose uplinks' addresses they are
	behind  map[netip.Addr]netip.Addr // what is seen outside of uplinks behind a NAT
	targets []netip.Addr

	answered int // by what the tracer says
}

func (l *truth) run(flows int) (asked int) {
	l.describe()
	for _, n := range l.nodes {
		l.mirror(n.Name, l.addressesOf(n)...)
	}
	asked += l.compare("when all is well", flows)
	if links := l.tunnels(); len(links) > 0 {
		l.down = links[l.IntN(len(links))]
		l.do(l.lab.Cut(l.Context(), l.down[0], l.down[1]))
		asked += l.compare(fmt.Sprintf("while %s and %s are cut from each other", l.down[0], l.down[1]), flows/2)
		l.do(l.lab.Heal(l.Context(), l.down[0], l.down[1]))
		l.down = [2]string{}
	}
	if l.phone && len(l.doors) > 1 {
		i := slices.Index(l.doors, l.world.Doors["phone"])
		l.world.Doors["phone"] = l.doors[(i+1)%len(l.doors)]
		l.roam("phone", l.world.Doors["phone"])
		asked += l.compare("after the phone has moved to "+l.world.Doors["phone"], flows/4)
	}
	for _, s := range l.sites {
		if len(s.uplinks) < 2 {
			continue
		}
		l.dead = [2]string{s.name, s.uplinks[l.IntN(2)]}
		when := fmt.Sprintf("while %s has no carrier on %s", l.dead[0], l.dead[1])
		if s.checked {
			when = fmt.Sprintf("while the provider of %s on %s is dead", l.dead[0], l.dead[1])
			l.do(l.lab.Cut(l.Context(), l.dead[0]+"/"+l.dead[1], ""))
		} else {
			l.do(l.lab.Carrier(l.Context(), l.dead[0], l.dead[1], false))
		}
		asked += l.compare(when, flows/2)
		break
	}
	return asked
}

// asking is a flow as it is asked, and as it is traced.
type asking struct {
	question
	flow trace.Flow
}

func (l *truth) askings(n int) (out []asking) {
	l.Helper()
	for len(out) < n {
		from, to := l.nodes[l.IntN(len(l.nodes))], l.targets[l.IntN(len(l.targets))]
		q := asking{question: question{node: from.Name, network: pick(l.Rand, allNetworks...), to: to}}
		q.flow = trace.Flow{To: to, Protocol: map[string]trace.Protocol{"tcp": trace.TCP, "udp": trace.UDP, "icmp": trace.ICMP}[q.network]}
		if q.network != "icmp" {
			q.flow.Port = askedAt
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
			q.flow.From = trace.Place{Kind: trace.Router, Site: from.Name}
			if l.one(3) { // by an address that it says itself
				all := l.addressesOf(from)
				if a := all[l.IntN(len(all))]; a.Is6() == to.Is6() {
					q.from, q.flow.From.Addr = a, a
				}
			}
		case lab.LANHost:
			q.flow.From = trace.Place{Kind: trace.Host, Site: from.Site, Addr: own}
		case lab.DeviceNode:
			q.flow.From = trace.Place{Kind: trace.Device, Name: from.Name}
		default:
			q.flow.From = trace.Place{Kind: trace.Internet, Addr: own}
		}
		out = append(out, q)
	}
	return out
}

// beside says what the tracer knows nothing of: as whom a device without `full:` is seen that goes to the Internet by itself, and
// what goes between two providers that are cut from each other.
func (l *truth) beside(from lab.Node, to netip.Addr) bool {
	public := l.outer[to] != "" || to.IsGlobalUnicast() && !to.IsPrivate()
	if from.Kind == lab.DeviceNode && !l.full && public {
		return true
	}
	return l.down[0] != "" && slices.Contains(l.down[:], l.outer[to]) && from.Kind != lab.InternetNode
}

// compare asks flows, and compares with the tracer. It is given time: a network that has changed
// comes to rest.
func (l *truth) compare(when string, flows int) int {
	l.Helper()
	n, err := trace.New(l.world)
	if err != nil {
		l.Fatalf("%v\n%s", err, l.file.String())
	}
	all := l.askings(flows)
	for _, q := range all {
		if l.by(n.Trace(q.flow)) != "" {
			l.answered++
		}
	}
	differ := l.sweep(n, all)
	for end := time.Now().Add(patience); len(differ) > 0 && time.Now().Before(end); {
		time.Sleep(time.Second)
		differ = l.sweep(n, differ)
	}
	// What was lost while it did not rest must be so now.
	again := l.sweep(n, slices.DeleteFunc(slices.Clone(all), func(q asking) bool { return slices.Contains(differ, q) }))
	for _, q := range append(differ, l.sweep(n, again)...) {
		l.report(when, n, q)
	}
	return len(all)
}

// sweep asks all at once, and returns those of which the tracer says something else.
func (l *truth) sweep(n *trace.Network, all []asking) (differ []asking) {
	l.Helper()
	byText := map[question]asking{}
	var questions []question
	for _, q := range all {
		if _, had := byText[q.question]; !had {
			questions = append(questions, q.question)
		}
		byText[q.question] = q
	}
	found := make(chan asking, len(questions))
	l.all(questions, func(q question) error {
		if _, right := l.right(n, byText[q]); !right {
			found <- byText[q]
		}
		return nil
	})
	close(found)
	for q := range found {
		differ = append(differ, q)
	}
	return differ
}

// right asks, and reports what happened and whether the tracer says that it may.
func (l *truth) right(n *trace.Network, q asking) (happened string, ok bool) {
	ways := n.Possible(q.flow)
	wait := forNone
	if slices.ContainsFunc(ways, func(t trace.Trace) bool { return l.by(t) != "" }) {
		wait = 3 * time.Second
	}
	node, seen, err := l.ask(q.question, wait)
	for _, t := range ways {
		by := l.by(t)
		switch {
		case err != nil:
			ok = ok || by == ""
		case q.network == "icmp":
			ok = ok || by != ""
		default:
			src := t.There[len(t.There)-1].Packet.Src
			ok = ok || by == node && (src == seen || seen.Is4() && l.behind[src] == seen)
		}
	}
	if err != nil {
		return err.Error(), ok
	}
	return fmt.Sprintf("%s answers, and sees %s", node, seen), ok
}

// by is the node that answers; empty if none does.
func (l *truth) by(t trace.Trace) string {
	if !t.Verdict.Delivered {
		return ""
	}
	for _, n := range l.nodes {
		switch site, address, isHost := strings.Cut(t.Verdict.At, ":"); {
		case t.Verdict.At == n.Name && n.Kind != lab.LANHost:
			return n.Name
		case isHost && n.Site == site && n.Kind == lab.LANHost || n.Kind == lab.InternetNode:
			for _, a := range l.addressesOf(n) {
				if address == a.String() || t.Verdict.At == fmt.Sprintf("outside (%s)", a) {
					return n.Name
				}
			}
		}
	}
	return ""
}

// report says what differs, with all that one needs to see why.
func (l *truth) report(when string, n *trace.Network, q asking) {
	l.Helper()
	happened, _ := l.right(n, q)
	var b strings.Builder
	for _, t := range n.Possible(q.flow) {
		fmt.Fprintf(&b, "the tracer: %+v\n", t.Verdict)
		for i, steps := range [][]trace.Step{t.There, t.Back} {
			for _, s := range steps {
				if !s.Passed {
					fmt.Fprintf(&b, "  %s %s %s: %s (%s) %s → %s %#x\n", []string{"there", "back"}[i], s.Router, s.Stage, s.Text, s.Why, s.Packet.Src, s.Packet.Dst, s.Packet.Mark)
				}
			}
		}
	}
	l.Errorf("%s, %s (%+v): %s\n%s%s", when, q.question, q.flow, happened, b.String(), l.file.String())
}
