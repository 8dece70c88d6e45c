package cli_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"tombolo/internal/lab"
)

// randomNetwork is routers in a random graph, whose links are cut and healed at random.
type randomNetwork struct {
	testLab
	lab   *lab.Lab
	rand  *rand.Rand
	sites int
	links []randomLink
}

type randomLink struct {
	a, b int
	rtt  time.Duration
	cut  bool
}

func siteName(i int) string { return fmt.Sprintf("r%d", i) }

func lanOf(i int) string { return fmt.Sprintf("10.%d.0.0/24", i+1) }

// newRandomNetwork brings up routers with public addresses: a ring, so that it begins
// connected, and as many chords.
func newRandomNetwork(t *testing.T, sites int, seed uint64) *randomNetwork {
	n := &randomNetwork{sites: sites, rand: rand.New(rand.NewPCG(seed, 2))}
	have := map[[2]int]bool{}
	join := func(a, b int) {
		if a > b {
			a, b = b, a
		}
		if a == b || have[[2]int{a, b}] {
			return
		}
		have[[2]int{a, b}] = true
		n.links = append(n.links, randomLink{a: a, b: b, rtt: time.Duration(4+n.rand.IntN(60)) * time.Millisecond})
	}
	for i := range sites {
		join(i, (i+1)%sites)
		join(n.rand.IntN(sites), n.rand.IntN(sites))
	}
	var file, paths strings.Builder
	file.WriteString("network: random\noverlay: 10.200.0.0/24\nsites:\n")
	for i := range sites {
		fmt.Fprintf(&file, "  %s: {address: 10.200.0.%d, endpoint: %s.example.net, lan: {lan0: %s}, uplink: {eth0: dhcp}}\n", siteName(i), i+1, siteName(i), lanOf(i))
	}
	file.WriteString("links:\n")
	paths.WriteString("paths:\n")
	for _, l := range n.links {
		fmt.Fprintf(&file, "  - [%s, %s]\n", siteName(l.a), siteName(l.b))
		fmt.Fprintf(&paths, "  - {between: [%s, %s], rtt: %s}\n", siteName(l.a), siteName(l.b), l.rtt)
	}
	n.testLab = up(t, fmt.Sprintf("random%d", seed%1000), file.String(), paths.String())
	var err error
	if n.lab, err = lab.Open(n.name); err != nil {
		t.Fatal(err)
	}
	return n
}

// shortest returns the smallest sum of round trips between all sites over links that are
// not cut; -1 where there is no way (Floyd and Warshall).
func (n *randomNetwork) shortest() [][]time.Duration {
	d := make([][]time.Duration, n.sites)
	for i := range d {
		d[i] = make([]time.Duration, n.sites)
		for j := range d[i] {
			if i != j {
				d[i][j] = -1
			}
		}
	}
	for _, l := range n.links {
		if !l.cut {
			d[l.a][l.b], d[l.b][l.a] = l.rtt, l.rtt
		}
	}
	for k := range d {
		for i := range d {
			for j := range d {
				if d[i][k] >= 0 && d[k][j] >= 0 && (d[i][j] < 0 || d[i][k]+d[k][j] < d[i][j]) {
					d[i][j] = d[i][k] + d[k][j]
				}
			}
		}
	}
	return d
}

// chosen returns the sum of round trips along the way that the kernels' tables give; -1
// where it ends before its goal.
func (n *randomNetwork) chosen(tables []map[string]string, from, to int) time.Duration {
	var sum time.Duration
	for at, left := from, n.sites; at != to; left-- {
		next := strings.TrimPrefix(tables[at][lanOf(to)], "wg-r")
		if next == "" || left == 0 {
			return -1
		}
		i, _ := strconv.Atoi(next)
		for _, l := range n.links {
			if l.a == min(at, i) && l.b == max(at, i) {
				if l.cut {
					return -1
				}
				sum += l.rtt
			}
		}
		at = i
	}
	return sum
}

// tables returns the routes that the kernels hold: destination to device.
func (n *randomNetwork) tables() []map[string]string {
	out := make([]map[string]string, n.sites)
	for i := range out {
		out[i] = map[string]string{}
		for line := range strings.Lines(n.in(siteName(i), "ip", "route", "show", "table", "all", "proto", "85")) {
			if f := strings.Fields(line); len(f) > 2 && f[1] == "dev" {
				out[i][f[0]] = f[2]
			}
		}
	}
	return out
}

// check returns what is not as the graph says.
func (n *randomNetwork) check() (faults []string) {
	best, tables := n.shortest(), n.tables()
	for i := range n.sites {
		for j := range n.sites {
			if i == j {
				continue
			}
			want, got := best[i][j], n.chosen(tables, i, j)
			switch {
			case (want < 0) != (got < 0):
				faults = append(faults, fmt.Sprintf("from r%d to r%d: the graph says %s, the routes %s", i, j, want, got))
			// Five percent, and what a hop costs and measuring a delay misses.
			case got > want+want/20+6*time.Millisecond:
				faults = append(faults, fmt.Sprintf("from r%d to r%d: %s, and %s would do", i, j, got, want))
			}
		}
	}
	return faults
}

// quiet waits until all is as the graph says.
func (n *randomNetwork) quiet(what string) {
	n.Helper()
	var faults []string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		if faults = n.check(); len(faults) == 0 {
			return
		}
	}
	n.Fatalf("%s: %d faults after %s, the first:\n%s", what, len(faults), patience, strings.Join(faults[:min(8, len(faults))], "\n"))
}

// looped returns how many packets a router has dropped because they went round.
func (n *randomNetwork) looped(site int) int {
	sum := 0
	for line := range strings.Lines(n.in(siteName(site), "cat", "/proc/net/snmp", "/proc/net/snmp6")) {
		f := strings.Fields(line)
		switch {
		case len(f) == 2 && f[0] == "Icmp6OutTimeExcds":
			v, _ := strconv.Atoi(f[1])
			sum += v
		case len(f) > 17 && f[0] == "Icmp:" && f[1] != "InMsgs":
			v, _ := strconv.Atoi(f[16]) // OutTimeExcds
			sum += v
		}
	}
	return sum
}

// soak is how long a test that can go on for ever does: half a minute, or as TOMBOLO_SOAK says.
func soak(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("TOMBOLO_SOAK")
	if text == "" {
		return 30 * time.Second
	}
	long, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return long
}

// TestRandomNetwork cuts and heals links of twenty routers at random, for half a minute or
// as long as TOMBOLO_SOAK says: at each quiet moment every pair is connected exactly when
// the graph says so, on a shortest path, and no packet has gone round.
func TestRandomNetwork(t *testing.T) {
	t.Parallel()
	long := soak(t)
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("TOMBOLO_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	t.Logf("TOMBOLO_SEED=%d", seed)
	n := newRandomNetwork(t, 20, seed)
	n.quiet("after the start")
	var streams []stream
	for range 5 {
		from, to := n.rand.IntN(n.sites), n.rand.IntN(n.sites)
		if from != to {
			c := n.start(siteName(from)+".host", "ping", "-n", "-q", "-i", "0.05", fmt.Sprintf("10.%d.0.10", to+1))
			streams = append(streams, stream{testLab: n.testLab, cmd: c})
		}
	}
	rounds := 0
	for end := time.Now().Add(long); time.Now().Before(end); rounds++ {
		for range 4 {
			l := &n.links[n.rand.IntN(len(n.links))]
			var err error
			if l.cut = !l.cut; l.cut {
				err = n.lab.Cut(t.Context(), siteName(l.a), siteName(l.b))
			} else {
				err = n.lab.Heal(t.Context(), siteName(l.a), siteName(l.b))
			}
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(n.rand.IntN(1000)) * time.Millisecond)
		}
		n.quiet(fmt.Sprintf("round %d", rounds))
	}
	for i := range n.links {
		if l := &n.links[i]; l.cut {
			l.cut = false
			if err := n.lab.Heal(t.Context(), siteName(l.a), siteName(l.b)); err != nil {
				t.Fatal(err)
			}
		}
	}
	n.quiet("when all is healed")
	for _, s := range streams {
		_ = s.cmd.Process.Signal(os.Interrupt) // which the ping inside gets too
		_ = s.cmd.Wait()
	}
	for i := range n.sites {
		if c := n.looped(i); c > 0 {
			t.Errorf("%s saw %d packets that had gone round", siteName(i), c)
		}
	}
	t.Logf("%d rounds", rounds)
}
