//go:build !router

package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"tombolo/internal/lab"
	"tombolo/internal/spec"
)

// pingAll pings every pair of a lab and prints the table; a pair that is not reached is an
// error.
func (a *app) pingAll(ctx context.Context, l *lab.Lab) error {
	n, err := labNetworkOf(l)
	if err != nil {
		return err
	}
	m, err := a.reachability(ctx, l, n)
	if err != nil {
		return err
	}
	if err := a.printMatrix(m); err != nil {
		return err
	}
	if missed := m.missed(); missed > 0 {
		return fmt.Errorf("%s not reached", count(missed, "pair"))
	}
	return nil
}

// labNetworkOf returns the network that a lab was made from.
func labNetworkOf(l *lab.Lab) (*spec.Network, error) {
	text, err := os.ReadFile(filepath.Join(l.Dir(), labNetwork))
	if err != nil {
		return nil, fmt.Errorf("read the lab's network file: %w", err)
	}
	n, ds := spec.Parse(labNetwork, text)
	return n, ds.Err()
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
	slices.SortStableFunc(nodes, func(x, y lab.Node) int { // in the order of the file
		i, _ := n.Site(x.Site)
		j, _ := n.Site(y.Site)
		return cmp.Compare(i, j)
	})
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

// reachedAt returns the address by which a node must be reached from everywhere.
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
				return p.Seen(node.Addr()), true
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
