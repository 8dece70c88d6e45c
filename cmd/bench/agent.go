package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tombolo/internal/lab"
)

const (
	agentLinks    = 50
	agentPrefixes = 20 // of each site at the other end
	agentRoutes   = agentLinks * agentPrefixes
	agentMemory   = 20 << 20 // bytes
	agentIdle     = 0.01     // of a core

	agentSettle = 15 * time.Second // after the last route came
	agentTime   = 30 * time.Second // of the measurement
)

// star writes the network file of a hub and of sites around it, each with LAN prefixes.
func star(sites, prefixes int) string {
	var b strings.Builder
	b.WriteString("network: star\noverlay: 10.200.0.0/16\nlinks: {star: hub}\nsites:\n")
	b.WriteString("  hub:\n    address: 10.200.0.250\n    endpoint: hub.example.net\n    lan: {br-lan: 10.255.0.0/24}\n    uplink: {eth0: dhcp}\n")
	for i := range sites {
		var list []string
		for j := range prefixes {
			list = append(list, fmt.Sprintf("10.%d.%d.0/24", i+1, j))
		}
		fmt.Fprintf(&b, "  s%d:\n    address: 10.200.0.%d\n    lan: {br-lan: [%s]}\n    uplink: {eth0: dhcp}\n", i, i+1, strings.Join(list, ", "))
	}
	return b.String()
}

// benchAgent measures the agent of a hub with 50 links and 1,000 routes, whose neighbours are
// agents too. Its tunnels are in another process, where the kernel has no WireGuard, and
// are not measured.
func benchAgent(ctx context.Context, o options) (results []result, err error) {
	if !(ours{o}).exists(ctx) {
		progress("agent: %s has none", o.tombolo)
		return nil, nil
	}
	dir, err := os.MkdirTemp("", "tombolo-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary folder
	file := filepath.Join(dir, "star.yaml")
	if err := os.WriteFile(file, []byte(star(agentLinks, agentPrefixes)), 0o600); err != nil {
		return nil, err
	}
	l, took, err := upLab(ctx, o, file)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, downLab(ctx, o, l)) }()
	progress("agent: the lab is up in %s", rounded(took))
	t := &triangle{o: o, lab: l}
	start := time.Now()
	if err := awaitRoutes(ctx, t, agentRoutes); err != nil {
		return nil, err
	}
	learned := time.Since(start)
	progress("agent: %d routes learned %s after the lab was up", agentRoutes, rounded(learned))
	if err := pause(ctx, agentSettle); err != nil {
		return nil, err
	}
	pid, err := agentOf(l, "hub")
	if err != nil {
		return nil, err
	}
	memory, share, err := watchProcess(ctx, pid, agentTime)
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("agent with %d links and %d routes: ", agentLinks, agentRoutes)
	return []result{
		fact(what+"routes learned, after the lab is up", rounded(learned)),
		{what + "resident memory", fmt.Sprintf("%.1f MB", float64(memory)/(1<<20)), fmt.Sprintf("under %d MB", agentMemory>>20), memory < agentMemory},
		{what + "share of a core when idle", fmt.Sprintf("%.2f %%", 100*share), fmt.Sprintf("under %.0f %%", 100*agentIdle), share < agentIdle},
	}, nil
}

// awaitRoutes waits until the hub has learned so many routes to LANs.
func awaitRoutes(ctx context.Context, t *triangle, n int) error {
	have := 0
	for range 600 {
		// Ours learned have the protocol number after that of ours compiled.
		out, err := t.ip(ctx, "hub", "route", "show", "table", "110", "proto", "85")
		if err == nil { // else there is no such table yet
			if have = bytes.Count(out, []byte("/24 ")); have >= n {
				return nil
			}
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("after a minute the hub has %d routes of %d", have, n)
}

// agentOf returns the process of the agent on a router.
func agentOf(l *lab.Lab, site string) (int, error) {
	pids, err := agentsOf(l, site)
	if err == nil && len(pids) != 1 {
		err = fmt.Errorf("%s has %d agents", site, len(pids))
	}
	if err != nil {
		return 0, err
	}
	return pids[0], nil
}

// agentsOf returns the processes of the agents on a router.
func agentsOf(l *lab.Lab, site string) ([]int, error) {
	n, err := l.Node(site)
	if err != nil {
		return nil, err
	}
	here, ok := inode("/run/netns/" + n.Namespace)
	if !ok {
		return nil, fmt.Errorf("%s has no namespace", site)
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var out []int
	for _, p := range processes {
		if at, _ := inode(p + "/ns/net"); at != here {
			continue
		}
		b, _ := os.ReadFile(p + "/cmdline") // it may have ended
		if argv := strings.Split(string(b), "\x00"); len(argv) < 2 || argv[1] != "agent" {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(p))
		if err != nil {
			return nil, err
		}
		out = append(out, pid)
	}
	return out, nil
}

// watchProcess returns the most memory in bytes that a process had resident at any of the
// times when it was looked at, and the share of a core that it used.
func watchProcess(ctx context.Context, pid int, d time.Duration) (memory int64, share float64, err error) {
	start := time.Now()
	before, err := processTime(pid)
	if err != nil {
		return 0, 0, err
	}
	for time.Since(start) < d {
		if err := pause(ctx, time.Second); err != nil {
			return 0, 0, err
		}
		now, err := resident(pid)
		if err != nil {
			return 0, 0, err
		}
		memory = max(memory, now)
	}
	after, err := processTime(pid)
	return memory, (after - before).Seconds() / time.Since(start).Seconds(), err
}

// processTime is the processor time that a process has used (proc_pid_stat(5), utime and
// stime), in steps of the clock tick that programs are told, 10 ms.
func processTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the program's name, in parentheses, and may hold anything.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("read /proc/%d/stat: it is too short", pid)
	}
	var sum time.Duration
	for _, text := range f[11:13] {
		ticks, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ticks) * 10 * time.Millisecond
	}
	return sum, nil
}

// resident is the memory of a process that is not swapped out (proc_pid_status(5), VmRSS).
func resident(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("read memory of process %d: it says no VmRSS", pid)
}
