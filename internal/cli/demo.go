package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tombolo/examples"
	"tombolo/internal/lab"
	"tombolo/internal/spec"
)

func (a *app) demoCommand() *cobra.Command {
	var keep bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Bring the home network up on this machine, and show who reaches whom",
		Long: `Bring the home network of the examples up on this machine: three routers and their LANs
in namespaces, over an emulated Internet with its real delays. Print who reaches whom and
how fast, and take it down again. The exit code is 1 if any pair is not reached.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.asRoot(c.Context()); err != nil {
				return err
			}
			return a.demo(c.Context(), keep)
		},
	}
	c.Flags().BoolVar(&keep, "keep", false, "leave it up")
	return c
}

// demoLab is the name of the demo's lab.
const demoLab = "demo"

func (a *app) demo(ctx context.Context, keep bool) (err error) {
	text, labText, err := examples.Read("home")
	if err != nil {
		return err
	}
	n := file{text: text}
	n.Network, n.diagnostics = spec.Parse("home.yaml", text)
	if n.Network == nil {
		return n.diagnostics.Err()
	}
	up, err := a.newLab(n, "home.lab.yaml", labText, demoLab)
	if err != nil {
		return err
	}
	a.say("the home network: %s, over an emulated Internet", count(len(n.Sites), "site"))
	start := time.Now()
	l, err := a.upLab(ctx, up)
	if err != nil {
		return err
	}
	if !keep {
		defer func() { err = errors.Join(err, lab.Down(context.WithoutCancel(ctx), l.Name())) }()
	}
	a.say("up after %.1f s; pinging every pair", time.Since(start).Seconds())
	m, err := a.reachability(ctx, l, n.Network)
	if err != nil {
		return err
	}
	if err := a.printMatrix(m); err != nil {
		return err
	}
	if missed := m.missed(); missed > 0 {
		return fmt.Errorf("%s not reached", count(missed, "pair"))
	}
	if !a.json {
		a.whatNext(keep)
	}
	return nil
}

func (a *app) whatNext(keep bool) {
	if keep {
		a.say(`
It is still up. Look around:
  tombolo lab exec op1 -- wg show
  tombolo lab exec op2 -- ip route show table 110
  tombolo lab exec op2.host -- ping 192.168.37.10
  tombolo lab cut op1 op2; tombolo lab ping op2.host op1.host; tombolo lab heal op1 op2
  tombolo lab down`)
		return
	}
	a.say(`
Every pair is reached. What to type next:
  tombolo demo --keep                  leave it up and look around in it
  tombolo init > network.yaml          write your own
  tombolo check network.yaml
  tombolo lab up network.yaml          try it here
  tombolo apply network.yaml --site NAME --confirm 60s     and then on a router`)
}

// matrix says who reaches whom: the round-trip time for each pair of nodes, negative where
// there was no answer.
type matrix struct {
	Nodes []string                            `json:"nodes"`
	RTT   map[string]map[string]time.Duration `json:"-"`

	Milliseconds map[string]map[string]*float64 `json:"milliseconds"` // null: not reached
}

func (m matrix) missed() int {
	n := 0
	for _, row := range m.RTT {
		for _, rtt := range row {
			if rtt < 0 {
				n++
			}
		}
	}
	return n
}

// settle is how long a pair may take until it is reached for the first time: WireGuard
// repeats a lost handshake every five seconds.
const settle = 20 * time.Second

// reachability pings from every LAN host and router to every other.
func (a *app) reachability(ctx context.Context, l *lab.Lab, n *spec.Network) (matrix, error) {
	nodes, err := l.Nodes()
	if err != nil {
		return matrix{}, err
	}
	targets := map[string]netip.Addr{}
	m := matrix{RTT: map[string]map[string]time.Duration{}, Milliseconds: map[string]map[string]*float64{}}
	for _, node := range nodes {
		if a, ok := reachedAt(n, node); ok {
			targets[node.Name] = a
			m.Nodes = append(m.Nodes, node.Name)
			m.RTT[node.Name] = map[string]time.Duration{}
			m.Milliseconds[node.Name] = map[string]*float64{}
		}
	}
	p := a.newProgress()
	defer p.end()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, from := range m.Nodes {
		wg.Go(func() {
			for _, to := range m.Nodes {
				if from == to {
					continue
				}
				rtt := bestPing(ctx, l, from, targets[to])
				mu.Lock()
				m.RTT[from][to] = rtt
				m.Milliseconds[from][to] = nil
				if rtt >= 0 {
					ms := milliseconds(rtt)
					m.Milliseconds[from][to] = &ms
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return m, ctx.Err()
}

// reachedAt returns the address by which a node must be reached from everywhere. A LAN that
// is mapped is not, until mapping is built.
func reachedAt(n *spec.Network, node lab.Node) (netip.Addr, bool) {
	i, ok := n.Site(node.Site)
	if !ok {
		return netip.Addr{}, false
	}
	if node.Kind == lab.RouterNode {
		return n.Sites[i].Address, true
	}
	for _, lan := range n.Sites[i].LANs {
		for _, p := range lan.Prefixes {
			if p.Prefix.Contains(node.Addr()) {
				return node.Addr(), !p.As.IsValid()
			}
		}
	}
	return netip.Addr{}, false
}

// bestPing returns the shortest of three round-trip times, waiting until the pair is
// reached for the first time; negative if it is not.
func bestPing(ctx context.Context, l *lab.Lab, from string, to netip.Addr) time.Duration {
	best := time.Duration(-1)
	for end, got := time.Now().Add(settle), 0; got < 3 && time.Now().Before(end) && ctx.Err() == nil; {
		rtt, err := l.Ping(ctx, from, lab.Echo{To: to})
		if err != nil {
			continue
		}
		got++
		if best < 0 || rtt < best {
			best = rtt
		}
	}
	return best
}

// printMatrix prints the table, nodes of a kind together.
func (a *app) printMatrix(m matrix) error {
	if a.json {
		return a.writeJSON(m)
	}
	w := tabwriter.NewWriter(a.out, 0, 8, 3, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "round trip, ms\t")
	nodes := slices.Clone(m.Nodes)
	slices.SortStableFunc(nodes, func(x, y string) int { return cmp.Compare(isHost(y), isHost(x)) })
	for _, n := range nodes {
		fmt.Fprintf(w, "%s\t", n)
	}
	fmt.Fprintln(w)
	for _, from := range nodes {
		fmt.Fprintf(w, "%s\t", from)
		for _, to := range nodes {
			switch rtt, ok := m.RTT[from][to]; {
			case !ok:
				fmt.Fprint(w, "·\t")
			case rtt < 0:
				fmt.Fprint(w, "LOST\t")
			default:
				fmt.Fprintf(w, "%.1f\t", milliseconds(rtt))
			}
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// isHost is 1 for a LAN's host, whose name has a dot.
func isHost(name string) int {
	if slices.Contains([]byte(name), '.') {
		return 1
	}
	return 0
}
