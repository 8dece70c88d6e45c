package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"tombolo/internal/lab"
)

const (
	clientHops   = 60
	clientEvery  = 2 * time.Second // between hops
	clientMedian = 500 * time.Millisecond
	clientWorst  = 2 * time.Second

	crowd       = 200
	crowdIdle   = 0.005            // of a core, for 100 of them
	crowdQuiet  = 90 * time.Second // until nothing is looked at often any more
	crowdMoves  = 20               // each second
	crowdMoving = 20 * time.Second
	crowdRest   = 15 * time.Second
)

// doors writes the network file of three doors and of devices.
func doors(devices int) string {
	var b strings.Builder
	b.WriteString("network: doors\noverlay: 10.9.0.0/24\nlinks: mesh\nsites:\n")
	for i := 1; i <= 3; i++ {
		fmt.Fprintf(&b, "  op%d: {address: 10.9.0.%d, endpoint: op%d.example.net, lan: {lan0: 10.%d.0.0/24}, uplink: {eth0: dhcp}}\n", i, i, i, i)
	}
	b.WriteString("clients:\n  pool: 10.31.0.0/16\n  at: [op1, op2, op3]\n  devices:\n")
	for i := range devices {
		fmt.Fprintf(&b, "    dev%d: {address: %s}\n", i, deviceAddress(i))
	}
	return b.String()
}

func deviceAddress(i int) string { return fmt.Sprintf("10.31.%d.%d", 1+i/200, 1+i%200) }

// doorPaths are those of the home network.
const doorPaths = `paths:
  - {between: [op1, op2], rtt: 20ms}
  - {between: [op1, op3], rtt: 27ms}
  - {between: [op2, op3], rtt: 52ms}
`

// upDoors brings a lab of three doors up, with all devices outside.
func upDoors(ctx context.Context, o options, dir string, devices int) (*lab.Lab, error) {
	file := filepath.Join(dir, "doors.yaml")
	for name, text := range map[string]string{file: doors(devices), filepath.Join(dir, "doors.lab.yaml"): doorPaths} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	l, _, err := upLab(ctx, o, file, "--devices", "off")
	return l, err
}

// benchClients measures how fast a device that enters at another door is reached, and what
// many of them cost a door's agent.
func benchClients(ctx context.Context, o options) ([]result, error) {
	dir, err := os.MkdirTemp("", "tombolo-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary folder
	hops, err := benchHops(ctx, o, dir)
	if err != nil {
		return nil, err
	}
	crowd, err := benchCrowd(ctx, o, dir)
	return append(hops, crowd...), err
}

// benchHops has one device hop from door to door. Its time begins when its interface is up
// again, and ends with the first packet that comes through from the farthest LAN and is
// answered.
func benchHops(ctx context.Context, o options, dir string) (results []result, err error) {
	l, err := upDoors(ctx, o, dir, 1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, downLab(ctx, o, l)) }()
	var out bytes.Buffer
	ping := exec.CommandContext(ctx, "ping", "-n", "-D", "-i", "0.005", "-W", "1", deviceAddress(0))
	ping.Stdout = &out
	if err := l.Start(ctx, "op2.host", ping); err != nil {
		return nil, err
	}
	var begun []time.Time
	for i := range clientHops {
		// op2's hosts are farthest from op3.
		if err := l.Roam(ctx, "dev0", []string{"op3", "op1", "op3", "op2"}[i%4]); err != nil {
			return nil, err
		}
		begun = append(begun, time.Now())
		if err := pause(ctx, clientEvery); err != nil {
			return nil, err
		}
	}
	_ = ping.Process.Signal(os.Interrupt)
	_ = ping.Wait()
	times, err := reached(out.String(), begun)
	if err != nil {
		return nil, err
	}
	slices.Sort(times)
	worst := times[len(times)-1]
	return []result{{
		"clients: at another door, from the first packet until it is reached from the farthest LAN",
		fmt.Sprintf("%s, worst of %d %s", rounded(median(times)), len(times), rounded(worst)),
		fmt.Sprintf("median under %s, worst %s", rounded(clientMedian), rounded(clientWorst)),
		median(times) < clientMedian && worst < clientWorst,
	}}, nil
}

var reply = regexp.MustCompile(`\[(\d+\.\d+)\] .* time=([\d.]+) ms`)

// reached returns how long after each beginning the first packet was sent that was answered.
func reached(out string, begun []time.Time) ([]time.Duration, error) {
	var sent []time.Time
	for _, m := range reply.FindAllStringSubmatch(out, -1) {
		at, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			return nil, err
		}
		took, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return nil, err
		}
		sent = append(sent, time.UnixMicro(int64(at*1e6-took*1e3)))
	}
	slices.SortFunc(sent, time.Time.Compare)
	var times []time.Duration
	for i, t := range begun {
		n, _ := slices.BinarySearchFunc(sent, t, time.Time.Compare)
		if n == len(sent) || i+1 < len(begun) && sent[n].After(begun[i+1]) {
			return nil, fmt.Errorf("after hop %d the device was not reached within %s", i, clientEvery)
		}
		times = append(times, sent[n].Sub(t))
	}
	return times, nil
}

// benchCrowd has 200 devices at one door, idle, and then moving all the time.
func benchCrowd(ctx context.Context, o options, dir string) (results []result, err error) {
	l, err := upDoors(ctx, o, dir, crowd)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, downLab(ctx, o, l)) }()
	pid, err := agentOf(l, "op1")
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, crowdQuiet); err != nil {
		return nil, err
	}
	_, without, err := watchProcess(ctx, pid, agentTime)
	if err != nil {
		return nil, err
	}
	at := make([]string, crowd)
	enter := func(i int, door string) error {
		at[i] = door
		return l.Roam(ctx, fmt.Sprintf("dev%d", i), door)
	}
	for i := range crowd {
		if err := enter(i, "op1"); err != nil {
			return nil, err
		}
	}
	if err := pause(ctx, crowdQuiet); err != nil {
		return nil, err
	}
	_, with, err := watchProcess(ctx, pid, agentTime)
	if err != nil {
		return nil, err
	}
	each := max(with-without, 0) * 100 / crowd
	results = []result{{
		fmt.Sprintf("clients: 100 of %d that are connected and idle, share of a core of their door's agent", crowd),
		fmt.Sprintf("%.2f %% (the agent %.2f %%, without devices %.2f %%)", 100*each, 100*with, 100*without),
		fmt.Sprintf("under %.1f %%", 100*crowdIdle), each < crowdIdle,
	}}

	var memory int64
	var busy float64
	r := rand.New(rand.NewPCG(5, 5))
	g, moving := errgroup.WithContext(ctx)
	g.Go(func() (err error) { memory, busy, err = watchProcess(moving, pid, crowdMoving); return err })
	g.Go(func() error {
		for end := time.Now().Add(crowdMoving); time.Now().Before(end); {
			next := time.Now().Add(time.Second / crowdMoves)
			if err := enter(r.IntN(crowd), fmt.Sprintf("op%d", 1+r.IntN(3))); err != nil {
				return err
			}
			if err := pause(moving, time.Until(next)); err != nil {
				return err
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if err := pause(ctx, crowdRest); err != nil {
		return nil, err
	}
	wrong, err := misplaced(ctx, l, at)
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("clients: %d, of which up to %d move each second: ", crowd, crowdMoves)
	return append(results,
		fact(what+"share of a core of a door's agent", fmt.Sprintf("%.1f %%", 100*busy)),
		fact(what+"its resident memory", fmt.Sprintf("%.1f MB", float64(memory)/(1<<20))),
		result{what + "wrong routes at rest", fmt.Sprint(wrong), "0", wrong == 0},
	), nil
}

// misplaced counts the ways to devices, from all doors, that do not end where they are.
func misplaced(ctx context.Context, l *lab.Lab, at []string) (wrong int, err error) {
	leads := map[string]map[string]string{} // by door and address, the device
	for i := 1; i <= 3; i++ {
		site := fmt.Sprintf("op%d", i)
		var out bytes.Buffer
		c := exec.CommandContext(ctx, "ip", "route", "show", "table", "110", "proto", "85")
		c.Stdout = &out
		if err := l.Run(ctx, site, c); err != nil {
			return 0, err
		}
		leads[site] = map[string]string{}
		for line := range strings.Lines(out.String()) {
			if f := strings.Fields(line); len(f) > 2 {
				leads[site][f[0]] = f[2]
			}
		}
	}
	for from := range leads {
		for n, door := range at {
			now := from
			for range len(leads) {
				if next, ok := strings.CutPrefix(leads[now][deviceAddress(n)], "wg-op"); ok {
					now = "op" + next
				}
			}
			if now != door || leads[now][deviceAddress(n)] != "wg-clients" {
				wrong++
			}
		}
	}
	return wrong, nil
}
