package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tombolo/internal/babel/sim"
)

// benchBabel runs many speakers on a virtual clock: times are those of the network and not
// of this machine, and the same each time.
func benchBabel(_ context.Context, _ options) ([]result, error) {
	out := benchShortest()
	s := sim.Shape{Routers: 1000, Wires: 2000, Prefixes: 1500, Jitter: 0.02}
	n := sim.Random(1, s)
	var err error
	step := func(name string, rest time.Duration, do func()) {
		from := n.Now
		p := n.Watch(rest, do)
		r := p.Report
		progress("  %s: whole after %s, last change after %s, %+v", name, rounded(p.Whole), rounded(p.Last), r)
		row := "1,000 routers, 2,000 links, 1,500 prefixes: " + name
		out = append(out,
			fact(row+", until all reach all", rounded(p.Whole)),
			fact(row+", sent over a link in "+rounded(n.Now-from)+", both ways together, median and busiest",
				fmt.Sprintf("%.0f kB, %.0f kB", float64(p.Median)/1000, float64(p.Busiest)/1000)),
			result{row + ", pairs that then reach each other, and by a way within 5 % of the shortest",
				fmt.Sprintf("%d of %d, %.2f %%", r.Reached, r.Pairs, 100*float64(r.Close)/float64(r.Pairs)), "all, 99 %",
				r.Reached == r.Pairs && r.Wrong == 0 && r.Close*100 >= r.Pairs*99})
		if len(n.Faults) > 0 {
			err = errors.Join(err, fmt.Errorf("%s: %s", name, n.Faults[0]))
		}
	}
	step("all have started, within 1 s", 20*time.Second, func() { n.StartAll(time.Second) })
	used := n.Busiest()
	step("the busiest link is cut", 20*time.Second, func() { used.CutBoth(true) })
	used.CutBoth(false)
	n.Run(n.Now + 20*time.Second)
	step("a router dies", 20*time.Second, func() { n.Kill(used.A) })
	step("it starts again", 20*time.Second, func() { n.Start(used.A) })
	step("after 10 % of the links flapped for 20 s", 40*time.Second, func() { n.Flap(0.1, 5*time.Second, 20*time.Second) })
	// A router that begins anew has lost its feasibility distances (see package sim).
	out = append(out,
		result{"1,000 routers: loops at any change of a table, but for the 2 s after a router starts again", fmt.Sprint(len(n.Faults)), "0", len(n.Faults) == 0},
		fact("1,000 routers: loops in those 2 s, all gone after them", fmt.Sprint(n.Brief)))
	return out, err
}

// benchShortest compares the ways in many small networks with the shortest.
func benchShortest() []result {
	const networks = 20
	pairs, reached, near := 0, 0, 0
	for seed := range uint64(networks) {
		n := sim.Random(seed, sim.Shape{Routers: 50, Wires: 100, Prefixes: 50, Jitter: 0.05})
		n.StartAll(time.Second)
		n.Run(n.Now + time.Minute)
		r := n.Report()
		pairs, reached, near = pairs+r.Pairs, reached+r.Reached, near+r.Close
	}
	share := float64(near) / float64(pairs)
	return []result{{"20 random networks of 50 routers: pairs whose way is within 5 % of the shortest by delay",
		fmt.Sprintf("%.2f %% of %d", 100*share, pairs), "99 %", share >= 0.99 && reached == pairs}}
}
