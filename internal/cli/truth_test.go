package cli_test

import (
	cryptorand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tombolo/internal/compile"
	"tombolo/internal/key"
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
	total := 0
	for i := range networks {
		t.Run(fmt.Sprint(seed+i), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed+i, 8))
			n, network, labFile := makeTruthNetwork(t, r)
			l := &truth{truthNetwork: n, network: network, homeLab: open(t, fmt.Sprintf("truth%d", (seed+i)%10000), n.file.String(), labFile)}
			total += l.run(int(flows))
		})
	}
	t.Logf("%d flows in %d networks, TOMBOLO_SEED=%d", total, networks, seed)
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
	outer   map[netip.Addr]string // whose uplinks' addresses they are
	targets []netip.Addr
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

// describe tells the tracer of the lab.
func (l *truth) describe() {
	l.Helper()
	l.world = learned.World{Routers: compile.All(l.network, compile.Options{Keys: l.keys()}), Doors: map[string]string{}}
	if l.phone {
		if !l.full {
			l.world.Takes = map[string][]netip.Prefix{"phone": l.inside()}
		}
		l.world.Doors["phone"] = l.doors[l.IntN(len(l.doors))]
		l.roam("phone", l.world.Doors["phone"])
	}
	addresses, gateways := map[[2]string][]netip.Prefix{}, map[[2]string][]netip.Addr{}
	l.outer = map[netip.Addr]string{}
	all, err := l.lab.Nodes()
	l.do(err)
	for _, n := range all {
		if n.Kind == lab.Core {
			continue
		}
		l.nodes = append(l.nodes, n)
		if n.Kind != lab.RouterNode {
			continue
		}
		for _, d := range n.Devices {
			if d.Uplink {
				addresses[[2]string{n.Name, d.Name}] = d.Addresses
				for _, a := range d.Addresses {
					l.outer[a.Addr()] = n.Name
				}
			}
		}
		for line := range strings.Lines(l.in(n.Name, "sh", "-c", "ip -4 route show default; ip -6 route show default")) {
			if f := strings.Fields(line); len(f) > 4 && f[1] == "via" {
				at := [2]string{n.Name, f[4]}
				gateways[at] = append(gateways[at], netip.MustParseAddr(f[2]))
			}
		}
	}
	l.world.Uplinks = func(site, device string) ([]netip.Prefix, []netip.Addr) {
		return addresses[[2]string{site, device}], gateways[[2]string{site, device}]
	}
	l.world.Down = func(a, b string) bool { return l.down == [2]string{a, b} || l.down == [2]string{b, a} }
	l.world.Dead = func(site, device string) bool { return device != "" && l.dead == [2]string{site, device} }
	l.aim()
}

// inside is what a device without `full:` sends into its tunnel.
func (l *truth) inside() []netip.Prefix {
	out := []netip.Prefix{l.network.Overlay, l.network.Overlay6, l.network.Clients.Pool}
	for i := range l.network.Sites {
		for _, lan := range l.network.Sites[i].LANs {
			for _, m := range lan.Prefixes {
				out = append(out, m.Outside())
			}
		}
	}
	return out
}

// keys stand for those that the lab made: where packets go does not depend on which.
func (l *truth) keys() map[string]key.Public {
	l.Helper()
	out := map[string]key.Public{}
	names := []string{"phone", spec.AccessKey}
	for _, s := range l.sites {
		names = append(names, s.name)
	}
	for _, name := range names {
		k, err := key.NewPrivate(cryptorand.Reader)
		l.do(err)
		out[name] = k.Public()
	}
	return out
}

// addressesOf are those at which a node can be asked.
func (l *truth) addressesOf(n lab.Node) (out []netip.Addr) {
	l.Helper()
	if n.Kind == lab.DeviceNode {
		return []netip.Addr{netip.MustParseAddr(phone)}
	}
	for _, d := range n.Devices {
		for _, a := range d.Addresses {
			out = append(out, a.Addr())
		}
	}
	if i, ok := l.network.Site(n.Name); ok {
		out = append(out, l.network.Sites[i].Address, l.network.Sites[i].Address6)
	}
	return out
}

// aim finds what flows may go to, in its order.
func (l *truth) aim() {
	l.targets = []netip.Addr{netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("fd00:77::1")} // nobody's
	if l.phone {
		l.targets = append(l.targets, netip.MustParseAddr(phone))
	}
	for _, s := range l.sites {
		for k := range s.lans {
			for _, six := range []bool{false, true} {
				if !six || s.six {
					l.targets = append(l.targets, netip.MustParseAddr(s.host(k, six)))
				}
			}
		}
	}
	for _, n := range l.nodes {
		if n.Kind != lab.LANHost && n.Kind != lab.DeviceNode {
			l.targets = append(l.targets, l.addressesOf(n)...)
		}
	}
	if slices.ContainsFunc(l.sites, func(s truthSite) bool { return s.mapped }) {
		l.targets = append(l.targets, netip.MustParseAddr("192.168.1.10"), netip.MustParseAddr("fd00:ffff::10")) // from their own site
	}
}

// tunnels are the pairs of sites with a link, in the file's order.
func (l *truth) tunnels() (out [][2]string) {
	for i, a := range l.sites {
		for k, b := range l.sites {
			if i < k && l.network.Links.Has(i, k) {
				out = append(out, [2]string{a.name, b.name})
			}
		}
	}
	return out
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
			ok = ok || by == node && t.There[len(t.There)-1].Packet.Src == seen
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
