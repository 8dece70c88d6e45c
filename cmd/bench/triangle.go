package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"tombolo/internal/lab"
)

// triangleFile is the home network, without what routing has nothing to do with. The LAN
// of a router that is no site is for what moves between two of them.
const triangleFile = `network: triangle
overlay: 10.0.32.0/24
sites:
  op1:
    address: 10.0.32.1
    endpoint: op1.example.net
    lan: {br-lan: 192.168.35.0/24}
    uplink: {eth0: dhcp}
  op2:
    address: 10.0.32.2
    lan: {br-lan: 192.168.36.0/24}
    uplink: {eth0: dhcp}
  op3:
    address: 10.0.32.3
    endpoint: 203.0.113.3
    lan: {br-lan: 192.168.37.0/24}
    uplink: {eth0: {address: 203.0.113.3/24, gateway: 203.0.113.1}}
links: mesh
`

// leg is a link of the triangle and its round trip.
type leg struct {
	a, b string
	rtt  int // milliseconds
}

// legs are the links of the triangle, as home.lab.yaml has them: from op2 to op3 the way
// through op1 takes 47 ms and the direct one 52.
var legs = []leg{{"op1", "op2", 20}, {"op1", "op3", 27}, {"op2", "op3", 52}}

const (
	direct  = 2 // routers from op2's LAN to op3's
	through = 3 // by op1
)

var routers = []string{"op1", "op2", "op3"}

// movingHost moves between two routers.
const movingHost = "10.0.31.10"

func triangleLabFile() string {
	text := "sites: {op2: {eth0: {nat: port-restricted}}}\npaths:\n"
	for _, l := range legs {
		text += fmt.Sprintf("  - {between: [%s, %s], rtt: %dms}\n", l.a, l.b, l.rtt)
	}
	return text
}

// neighbour is what a router has at the other end of a link.
type neighbour struct {
	device string
	rtt    int    // milliseconds
	own    string // the router's address on the link, where a protocol wants a subnet
}

// neighbours returns those of a router.
func neighbours(site string) (out []neighbour) {
	for i, l := range legs {
		switch site {
		case l.a:
			out = append(out, neighbour{"wg-" + l.b, l.rtt, fmt.Sprintf("10.99.%d.1/30", i)})
		case l.b:
			out = append(out, neighbour{"wg-" + l.a, l.rtt, fmt.Sprintf("10.99.%d.2/30", i)})
		}
	}
	return out
}

// overlayOf is a router's address, and its router-id.
func overlayOf(site string) string { return "10.0.32." + strings.TrimPrefix(site, "op") }

// triangle is a lab of the three sites, whose links tombolo made, and the programs that
// route it.
type triangle struct {
	o    options
	lab  *lab.Lab
	dir  string // of this contender's files
	runs map[string][]*program
	mu   sync.Mutex // of runs
}

// newTriangle brings the lab up. Nobody routes it.
func newTriangle(ctx context.Context, o options, name, network string) (_ *triangle, err error) {
	t := &triangle{o: o, runs: map[string][]*program{}}
	if t.o.tombolo, err = filepath.Abs(o.tombolo); err != nil {
		return nil, err
	}
	if t.dir, err = os.MkdirTemp("", "tombolo-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close(ctx))
		}
	}()
	if err := os.Chmod(t.dir, 0o755); err != nil { // FRR's programs have a user of their own
		return nil, err
	}
	file := filepath.Join(t.dir, "net.yaml")
	for name, text := range map[string]string{file: network, filepath.Join(t.dir, "net.lab.yaml"): triangleLabFile()} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	if t.lab, err = upLabNamed(ctx, t.o, file, name); err != nil {
		return nil, err
	}
	return t, t.unroute(ctx)
}

func (t *triangle) close(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	errs := []error{t.end(ctx)}
	if t.lab != nil {
		errs = append(errs, downLab(ctx, t.o, t.lab))
	}
	return errors.Join(append(errs, os.RemoveAll(t.dir))...)
}

// protocols are those of the routes that contenders make: ours compiled and learned, and
// FRR's zebra, BIRD, babeld and FRR's OSPF (iproute2's rt_protos).
var protocols = []string{"84", "85", "11", "12", "42", "188"}

// unroute ends the agents that the lab came up with, and takes every route between the
// sites away.
func (t *triangle) unroute(ctx context.Context) error {
	if err := t.endAgents(); err != nil {
		return err
	}
	for _, site := range routers {
		for _, table := range []string{"main", "110"} {
			for _, protocol := range protocols {
				// A table that nothing is in is not there.
				_, _ = t.ip(ctx, site, "route", "flush", "table", table, "proto", protocol)
				_, _ = t.ip(ctx, site, "-6", "route", "flush", "table", table, "proto", protocol)
			}
		}
		if out, err := t.ip(ctx, site, "route", "show", "table", "all", "root", "192.168.0.0/16"); err != nil {
			return err
		} else if strings.Contains(string(out), "dev wg-") {
			return fmt.Errorf("%s still has a route:\n%s", site, out)
		}
	}
	return nil
}

// endAgents ends the lab's own agents: the bench starts and stops ours as it does others.
func (t *triangle) endAgents() error {
	for _, site := range routers {
		pids, err := agentsOf(t.lab, site)
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if err := endProcess(pid); err != nil {
				return err
			}
		}
	}
	return nil
}

// endProcess ends a process that is not our child.
func endProcess(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGTERM); errors.Is(err, syscall.ESRCH) {
		return nil
	} else if err != nil {
		return err
	}
	for range 500 {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("process %d does not end", pid)
}

// ip runs ip(8) on a node and returns its standard output.
func (t *triangle) ip(ctx context.Context, node string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, "ip", args...)
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	if err := t.lab.Run(ctx, node, c); err != nil {
		return nil, fmt.Errorf("ip %s on %s: %w\n%s%s", strings.Join(args, " "), node, err, &out, &said)
	}
	return out.Bytes(), nil
}

// program is one that runs on a node.
type program struct {
	cmd   *exec.Cmd
	said  bytes.Buffer // read it when it has ended
	ended chan struct{}
	err   error // when it has ended
}

// begin starts a program on a node, and returns when it runs.
func (t *triangle) begin(ctx context.Context, node string, argv ...string) error {
	p := &program{cmd: exec.Command(argv[0], argv[1:]...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.said, &p.said
	if err := t.lab.Start(ctx, node, p.cmd); err != nil {
		return err
	}
	go func() {
		defer close(p.ended)
		p.err = p.cmd.Wait()
	}()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.runs[node] = append(t.runs[node], p)
	return nil
}

// running says what has ended that should run.
func (t *triangle) running() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for node, programs := range t.runs {
		for _, p := range programs {
			select {
			case <-p.ended:
				return fmt.Errorf("%s on %s ended: %w\n%s", p.cmd.Path, node, p.err, &p.said)
			default:
			}
		}
	}
	return nil
}

// end ends all programs, the last one first, and returns when they have ended.
func (t *triangle) end(ctx context.Context) error {
	t.mu.Lock()
	runs := t.runs
	t.runs = map[string][]*program{}
	t.mu.Unlock()
	var errs []error
	for node, programs := range runs {
		for _, p := range slices.Backward(programs) {
			if err := p.end(ctx); err != nil {
				errs = append(errs, fmt.Errorf("on %s: %w", node, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (p *program) end(ctx context.Context) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.ended:
		return nil
	case <-time.After(5 * time.Second):
	case <-ctx.Done():
	}
	_ = p.cmd.Process.Kill() // as above
	<-p.ended
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%s did not end when asked to", p.cmd.Path)
}
