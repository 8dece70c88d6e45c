package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// What is promised of tombolo's routing.
const (
	cutMedian     = 300 * time.Millisecond
	cutWorst      = 500 * time.Millisecond
	backWithin    = 10 * time.Second
	coldWithin    = 5 * time.Second
	changeWithin  = 10 * time.Second
	hostWithin    = 150*time.Millisecond + 26*time.Millisecond // and the delay of the longer path
	busyBytes     = 1000.0
	idleBytes     = 100.0
	labsAtOnce    = 4
	failoverTitle = "failover: "
)

// failoverNotes explain the figures of failover on the page.
const failoverNotes = `
## How failover is measured

The home network (examples/home.yaml with its lab file) without clients and exits: from op2 to
op3 the way through op1 takes 47 ms and the direct one 52. Each contender routes it in a lab of
its own, over the same WireGuard links, made by tombolo; several labs run at the same time, and
all see the same machine. A UDP packet every 10 ms goes each way between a host in op2's LAN
and one in op3's. Its TTL says which way it took.

- Traffic lost: packets that did not come, times 10 ms, of the direction that lost more. What is
  cut is in turn each link of the way in use, and each direction of each. Nobody is told.
- Back on the better way: from the healing of the link until all packets take that way both
  ways. "Never" is not within 20 s (60 s for the first start).
- Followed: from the move of an address from op1 to op3 until op2's host sends packets that
  arrive there. Ours is told of it by a BIRD in op1's and op3's LANs, and its time begins when
  they have said so.
- Routing's own traffic: IP packets of Babel, OSPF and BFD inside the tunnel, of the direction
  with more.

Others have the delays as costs, since they measure none (but babeld with its delay metric), and
the shortest intervals that were found to serve them; their defaults were measured once.
`

// benchFailover measures how the triangle of the home network is routed, by us and by
// others, each in a lab of its own, several at the same time: so they all see the same
// machine.
func benchFailover(ctx context.Context, o options) ([]result, error) {
	chosen, err := chooseEntries(ctx, o)
	if err != nil {
		return nil, err
	}
	measured := make([]figures, len(chosen))
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(labsAtOnce)
	for i, e := range chosen {
		g.Go(func() (err error) {
			if measured[i], err = try(inner, o, e, fmt.Sprintf("bench%d-%d", os.Getpid(), i)); err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var all []result
	for i, e := range chosen {
		if e.ours {
			all = append(all, promises(measured[i], fastest(chosen, measured))...)
			continue
		}
		all = append(all, facts(e, measured[i])...)
	}
	return all, nil
}

// chooseEntries returns the contenders that were asked for and can be measured.
func chooseEntries(ctx context.Context, o options) ([]entry, error) {
	var out []entry
	var known []string
	asked := strings.FieldsFunc(o.contenders, func(r rune) bool { return r == ',' })
	for _, e := range entries(o) {
		known = append(known, e.short)
		if len(asked) > 0 && !slices.Contains(asked, e.short) {
			continue
		}
		if u, ok := e.contender.(ours); ok && !u.exists(ctx) {
			if len(asked) > 0 {
				return nil, fmt.Errorf("%s has no agent", o.tombolo)
			}
			progress("failover: %s has no agent: only the others are measured", o.tombolo)
			continue
		}
		out = append(out, e)
	}
	for _, a := range asked {
		if !slices.Contains(known, a) {
			return nil, fmt.Errorf("there is no contender %q; there are %s", a, strings.Join(known, ", "))
		}
	}
	if len(asked) == 1 && asked[0] == "ours" {
		return out, nil
	}
	for _, program := range []string{"babeld", "bird", frrPrograms + "/ospfd"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, errors.New("the program " + program + " is missing; scripts/deps bench installs it")
		}
	}
	return out, nil
}

// fastest returns the shortest median of the others after a cut both ways and one way.
func fastest(all []entry, measured []figures) (others struct{ cut, oneWay time.Duration }) {
	others.cut, others.oneWay = never, never
	for i, e := range all {
		if e.ours || e.defaults {
			continue
		}
		others.cut = min(others.cut, median(measured[i].cut))
		others.oneWay = min(others.oneWay, median(measured[i].oneWay))
	}
	return others
}

// promises are our figures, with what is promised of them.
func promises(f figures, others struct{ cut, oneWay time.Duration }) []result {
	line := func(what, value, target string, met bool) result {
		return result{failoverTitle + what, value, target, met}
	}
	within := func(what string, times []time.Duration, limit time.Duration) result {
		return line(what, spread(times), "at most "+rounded(limit), len(times) > 0 && worst(times) <= limit)
	}
	lost := func(what string, times []time.Duration, rival time.Duration) result {
		target := fmt.Sprintf("at most %s, worst %s", rounded(cutMedian), rounded(cutWorst))
		met := len(times) > 0 && median(times) <= cutMedian && worst(times) <= cutWorst
		if rival != never {
			target += ", and before the others' " + rounded(rival)
			met = met && median(times) < rival
		}
		return line(what, spread(times), target, met)
	}
	none := func(what string, n int) result { return line(what, fmt.Sprint(n), "0", n == 0) }
	return []result{
		lost("a link in use is cut: traffic lost, tombolo", f.cut, others.cut),
		lost("it is cut in one direction: traffic lost, tombolo", f.oneWay, others.oneWay),
		within("it is healed: on the better way again, tombolo", f.back, backWithin),
		none("packets lost by that, tombolo", f.backLost),
		within("all routers start: best way in use, tombolo", f.cold, coldWithin),
		within("47 ms become 65 on the way in use: moved, tombolo", f.moved, changeWithin),
		within("and 47 again: moved back, tombolo", f.movedBack, backWithin),
		line("changes of way by each, tombolo", fmt.Sprint(f.movedTurns), "1", f.movedTurns == 1),
		none("packets lost by both, tombolo", f.movedLost),
		line("a spike of one second: moved, tombolo", yesNo(f.spikeMoved), "no", f.spikeTried && !f.spikeMoved),
		within("a host moves between two routers: followed, tombolo", f.host, hostWithin),
		line("routing's own traffic on a link in use, tombolo", bytesText(f.busy), "at most "+bytesText(busyBytes), f.busy > 0 && f.busy <= busyBytes),
		line("on an idle link, tombolo", bytesText(f.idle), "at most "+bytesText(idleBytes), f.idle > 0 && f.idle <= idleBytes),
		none("packets that went in a circle, tombolo", f.looped),
	}
}

// facts are another's figures.
func facts(e entry, f figures) []result {
	var out []result
	add := func(what, value string) { out = append(out, fact(failoverTitle+what+", "+e.name, value)) }
	add("a link in use is cut: traffic lost", spread(f.cut))
	if e.defaults {
		return out
	}
	add("it is cut in one direction: traffic lost", spread(f.oneWay))
	if len(f.back) > 0 {
		add("it is healed: on the better way again", fmt.Sprintf("%s; %d packets lost", spread(f.back), f.backLost))
	}
	add("all routers start: best way in use", spread(f.cold))
	if len(f.moved) > 0 {
		add("47 ms become 65 on the way in use: moved", fmt.Sprintf("%s, and back %s; %d packets lost, at most %d changes of way",
			spread(f.moved), spread(f.movedBack), f.movedLost, f.movedTurns))
	}
	if f.spikeTried {
		add("a spike of one second: moved", yesNo(f.spikeMoved))
	}
	add("a host moves between two routers: followed", spread(f.host))
	add("routing's own traffic", fmt.Sprintf("%s on a link in use, %s on an idle one", bytesText(f.busy), bytesText(f.idle)))
	if f.looped > 0 {
		add("packets that went in a circle", fmt.Sprint(f.looped))
	}
	return out
}

// spread writes the median of times and how far they lie apart.
func spread(times []time.Duration) string {
	switch len(times) {
	case 0:
		return "not measured"
	case 1:
		return timeText(times[0])
	}
	return fmt.Sprintf("%s (%s to %s)", timeText(median(times)), timeText(slices.Min(times)), timeText(worst(times)))
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

func bytesText(rate float64) string { return fmt.Sprintf("%.0f B/s", rate) }
