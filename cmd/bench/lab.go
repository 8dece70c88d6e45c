package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"tombolo/internal/lab"
)

// A lab comes up in seconds: it is brought up less often than the rest is measured.
const (
	labRuns  = 3
	labSites = 30
	labPairs = 60 // of LAN hosts, of the 870 that there are
)

// benchLab times how long a lab takes to come up: a full mesh with static routing, which
// has an interface for each site, the same with one for each end of each link, and the home
// network. What came up must also carry packets.
func benchLab(ctx context.Context, o options) ([]result, error) {
	home, err := benchHome(ctx, o)
	if err != nil {
		return nil, err
	}
	all := []result{home}
	for _, routing := range []string{"static", "babel"} {
		results, err := benchMesh(ctx, o, routing)
		if err != nil {
			return nil, fmt.Errorf("routing %s: %w", routing, err)
		}
		all = append(all, results...)
	}
	return all, nil
}

func benchHome(ctx context.Context, o options) (result, error) {
	file := filepath.Join("examples", "home.yaml")
	var times []time.Duration
	for range labRuns {
		l, took, err := upLab(ctx, o, file)
		if err != nil {
			return result{}, err
		}
		if err := downLab(ctx, o, l); err != nil {
			return result{}, err
		}
		times = append(times, took)
	}
	progress("lab of %s: up in %s, median of %d", file, rounded(median(times)), labRuns)
	return fact("lab of "+file+": up", rounded(median(times))), nil
}

func benchMesh(ctx context.Context, o options, routing string) ([]result, error) {
	dir, err := os.MkdirTemp("", "tombolo-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "mesh.yaml")
	if err := os.WriteFile(file, []byte(mesh(labSites, routing)), 0o600); err != nil {
		return nil, err
	}
	var times, answers, downs []time.Duration
	var memory int64
	fewest := labPairs
	for run := range labRuns {
		m, err := meshOnce(ctx, o, file)
		if err != nil {
			return nil, err
		}
		progress("lab of %d sites, %s, run %d of %d: up in %s, %d of %d pairs answer after %s, %d MB, down in %s",
			labSites, routing, run+1, labRuns, rounded(m.up), m.answered, labPairs, rounded(m.answers), m.memory>>20, rounded(m.down))
		times, answers, downs = append(times, m.up), append(answers, m.answers), append(downs, m.down)
		memory, fewest = max(memory, m.memory), min(fewest, m.answered)
	}
	interfaces := labSites
	if routing == "babel" {
		interfaces = labSites * (labSites - 1)
	}
	name := fmt.Sprintf("lab of a %d-site mesh, %s links (%d interfaces)", labSites, routing, interfaces)
	return []result{
		atMost(name+": up", median(times), time.Minute),
		{name + ": pairs of LAN hosts that then reach each other", fmt.Sprintf("%d of %d, in %s", fewest, labPairs, rounded(median(answers))),
			"all", fewest == labPairs},
		fact(name+": memory of its processes", fmt.Sprintf("%d MB", memory>>20)),
		fact(name+": down", rounded(median(downs))),
	}, nil
}

// meshRun is what was measured of one lab.
type meshRun struct {
	up, answers, down time.Duration
	answered          int   // pairs
	memory            int64 // bytes
}

func meshOnce(ctx context.Context, o options, file string) (m meshRun, err error) {
	l, took, err := upLab(ctx, o, file)
	if err != nil {
		return m, err
	}
	defer func() {
		start := time.Now()
		err = errors.Join(err, downLab(ctx, o, l))
		m.down = time.Since(start)
	}()
	m.up = took
	start := time.Now()
	if m.answered, err = reach(ctx, l); err != nil {
		return m, err
	}
	m.answers = time.Since(start)
	m.memory, err = memoryOf(l)
	return m, err
}

// upLab brings a lab up with the binary that is measured, and says how long that took.
func upLab(ctx context.Context, o options, file string, more ...string) (*lab.Lab, time.Duration, error) {
	if err := awaitQuiet(ctx); err != nil {
		return nil, 0, err
	}
	start := time.Now()
	l, err := upLabNamed(ctx, o, file, fmt.Sprintf("bench%d", os.Getpid()), more...)
	return l, time.Since(start), err
}

// upLabNamed is upLab for a lab that is not the only one.
func upLabNamed(ctx context.Context, o options, file, name string, more ...string) (*lab.Lab, error) {
	c := exec.CommandContext(ctx, o.tombolo, append([]string{"lab", "up", file, "--name", name}, more...)...)
	// Killed, it could not take back what it began.
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	if out, err := c.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("lab up %s: %w\n%s", file, err, out)
	}
	return lab.Open(name)
}

// downLab takes a lab down, also when the measuring was interrupted.
func downLab(ctx context.Context, o options, l *lab.Lab) error {
	out, err := exec.CommandContext(context.WithoutCancel(ctx), o.tombolo, "lab", "down", l.Name()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("lab down %s: %w\n%s", l.Name(), err, out)
	}
	return nil
}

// pingPatience is how many lost pings, of a second each, a pair may have: WireGuard repeats
// a lost handshake after five seconds and a third (device/constants.go: RekeyTimeout and
// its jitter), and one may be lost while the other end is not yet up.
const pingPatience = 12

// reach pings a sample of the pairs of LAN hosts, all at the same time, each until it
// answers, and returns how many did. For most it is the first packet between the two
// sites, so its time holds a handshake.
func reach(ctx context.Context, l *lab.Lab) (int, error) {
	nodes, err := l.Nodes()
	if err != nil {
		return 0, err
	}
	var hosts []lab.Node
	for _, n := range nodes {
		if n.Kind == lab.LANHost {
			hosts = append(hosts, n)
		}
	}
	errs := make([]error, labPairs)
	var pings sync.WaitGroup
	for i := range labPairs {
		// Each site is asked as often as it asks, and no pair comes twice.
		from := i % len(hosts)
		to := (from + 1 + 7*(i/len(hosts))) % len(hosts)
		pings.Go(func() { errs[i] = pingUntil(ctx, l, hosts[from].Name, hosts[to], pingPatience) })
	}
	pings.Wait()
	answered := 0
	for _, err := range errs {
		switch {
		case err == nil:
			answered++
		case !errors.Is(err, lab.ErrNoReply):
			return answered, err
		default:
			progress("%v", err)
		}
	}
	return answered, nil
}

// pingUntil pings up to so many times, a second each, until there is an answer.
func pingUntil(ctx context.Context, l *lab.Lab, from string, to lab.Node, times int) (err error) {
	for range times {
		if _, err = l.Ping(ctx, from, lab.Echo{To: to.Addr()}); !errors.Is(err, lab.ErrNoReply) || ctx.Err() != nil {
			break
		}
	}
	return err
}

// memoryOf returns the bytes that a lab's processes hold: its own and those in its nodes.
// What several share is counted once (proc_pid_smaps(5), Pss). The kernel's own memory for
// namespaces and interfaces is not among it.
func memoryOf(l *lab.Lab) (int64, error) {
	inside := map[uint64]bool{}
	nodes, err := l.Nodes()
	if err != nil {
		return 0, err
	}
	for _, n := range nodes {
		if i, ok := inode("/run/netns/" + n.Namespace); ok {
			inside[i] = true
		}
	}
	labs, err := lab.List()
	if err != nil {
		return 0, err
	}
	own := 0
	for _, i := range labs {
		if i.Name == l.Name() {
			own = i.PID
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, p := range processes {
		if i, _ := inode(p + "/ns/net"); !inside[i] && p != fmt.Sprintf("/proc/%d", own) {
			continue
		}
		n, err := pss(p)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH) { // it ended
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func inode(path string) (uint64, bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	return info.Sys().(*syscall.Stat_t).Ino, true
}

func pss(process string) (int64, error) {
	b, err := os.ReadFile(process + "/smaps_rollup")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("read memory of %s: it says no Pss", process)
}
