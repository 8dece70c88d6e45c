package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
)

// contender is what routes the triangle.
type contender interface {
	// start starts its programs on all routers at once, and returns when they run.
	start(ctx context.Context, t *triangle) error
	// stop ends them, and takes their routes away.
	stop(ctx context.Context, t *triangle) error
	// homes are the two nodes between which a host moves that it is to follow.
	homes() [2]string
	// told is where its routers are told of the host by another's, where they do not see for
	// themselves that it moved.
	told() []place
}

// place is a device of a node.
type place struct{ node, device string }

// entry is a contender in the bench.
type entry struct {
	name    string // in the table
	short   string // on the command line
	network string // the network file; empty: triangleFile
	contender

	ours     bool
	delay    bool // it measures delay, and so can follow a change of it
	defaults bool // it has its defaults: only the loss after one cut is measured
}

// entries are all contenders. Costs of those that measure no delay are the delays in ms, as
// who knows the network would set them.
func entries(o options) []entry {
	return []entry{
		{name: "tombolo", short: "ours", ours: true, delay: true, network: oursFile, contender: ours{o}},
		{name: "babeld, hello 0.2 s", short: "babeld", contender: babeld{hello: "0.2"}},
		{name: "babeld, hello 0.2 s, delay metric", short: "babeld-rtt", delay: true, contender: babeld{hello: "0.2", rtt: true}},
		{name: "BIRD Babel, hello 0.2 s", short: "bird-babel", contender: bird{babel: true, tuned: true}},
		{name: "BIRD OSPF, BFD 3 × 100 ms", short: "bird-ospf", contender: bird{tuned: true}},
		{name: "FRR OSPF 5 × 200 ms, BFD 3 × 100 ms", short: "frr", contender: frr{tuned: true}},
		{name: "babeld, defaults", short: "babeld-defaults", defaults: true, contender: babeld{}},
		{name: "BIRD Babel, defaults", short: "bird-babel-defaults", defaults: true, contender: bird{babel: true}},
		{name: "BIRD OSPF, defaults", short: "bird-ospf-defaults", defaults: true, contender: bird{}},
		{name: "FRR OSPF, defaults", short: "frr-defaults", defaults: true, contender: frr{}},
	}
}

// rivalHomes are where a host moves between with those who announce the addresses of their
// own machine.
type rivalHomes struct{}

func (rivalHomes) homes() [2]string { return [2]string{"op1", "op3"} }

func (rivalHomes) told() []place { return nil }

func (rivalHomes) stop(ctx context.Context, t *triangle) error {
	if err := t.end(ctx); err != nil {
		return err
	}
	return t.unroute(ctx)
}

// onRouters does something on all routers at the same time.
func onRouters(ctx context.Context, f func(ctx context.Context, site string) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, site := range routers {
		g.Go(func() error { return f(ctx, site) })
	}
	return g.Wait()
}

// file writes a file of a contender for one of its programs on a node, and returns its path.
func (t *triangle) file(node, name, text string) (string, error) {
	path := filepath.Join(t.dir, node+"."+name)
	return path, os.WriteFile(path, []byte(text), 0o644)
}

// path is where a program on a node may make a file.
func (t *triangle) path(node, name string) string { return filepath.Join(t.dir, node+"."+name) }

// babeld is Juliusz Chroboczek's daemon.
type babeld struct {
	rivalHomes
	hello string // interval in seconds; empty: the default
	rtt   bool   // with a cost that follows the delay, 1 for 0.1 ms; else it has its default for tunnels
}

func (b babeld) start(ctx context.Context, t *triangle) error {
	return onRouters(ctx, func(ctx context.Context, site string) error {
		config, err := t.file(site, "babeld.conf", b.config(site))
		if err != nil {
			return err
		}
		// The state holds the router-id and its seqno: without it what it announces after a
		// restart is refused for minutes.
		return t.begin(ctx, site, "babeld", "-c", config, "-I", t.path(site, "babeld.pid"), "-S", t.path(site, "babeld.state"))
	})
}

func (b babeld) config(site string) string {
	var s strings.Builder
	s.WriteString("random-id true\nskip-kernel-setup true\n")
	for _, n := range neighbours(site) {
		fmt.Fprintf(&s, "interface %s type tunnel", n.device)
		if b.hello != "" {
			fmt.Fprintf(&s, " hello-interval %s update-interval 4", b.hello)
		}
		switch {
		case b.rtt:
			s.WriteString(" rxcost 10 rtt-min 1 rtt-max 100 max-rtt-penalty 1000")
		case b.hello != "":
			// Of costs in ms it makes no use: it would stay on the way of 52.
			fmt.Fprintf(&s, " rxcost %d enable-timestamps false", 10*n.rtt)
		}
		s.WriteString("\n")
	}
	s.WriteString(`redistribute ip 192.168.0.0/16 allow
redistribute local ip 10.0.31.0/24 allow
redistribute local deny
redistribute deny
`)
	return s.String()
}

// bird is BIRD 2, with Babel or OSPF.
type bird struct {
	rivalHomes
	babel bool
	tuned bool
}

func (b bird) start(ctx context.Context, t *triangle) error {
	return onRouters(ctx, func(ctx context.Context, site string) error {
		if err := addSubnets(ctx, t, site); err != nil {
			return err
		}
		return b.begin(ctx, t, site, b.config(site))
	})
}

// begin starts BIRD on a node.
func (bird) begin(ctx context.Context, t *triangle, node, config string) error {
	path, err := t.file(node, "bird.conf", config)
	if err != nil {
		return err
	}
	return t.begin(ctx, node, "bird", "-f", "-c", path, "-s", t.path(node, "bird.ctl"), "-P", t.path(node, "bird.pid"))
}

const birdAnnounced = "[ 192.168.0.0/16{24,24}, 10.0.31.0/24{32,32} ]"

// birdBase is what each BIRD has: it learns, and gives the kernel what it learned.
func birdBase(routerID, devices string) string {
	return fmt.Sprintf(`router id %s;
protocol device { scan time 10; }
protocol direct { ipv4; interface %s; }
protocol kernel { ipv4 { import none; export where source != RTS_DEVICE; }; }
`, routerID, devices)
}

func (b bird) config(site string) string {
	base := birdBase(overlayOf(site), `"br-lan", "lo"`)
	if b.babel {
		var links strings.Builder
		for _, n := range neighbours(site) {
			if b.tuned {
				fmt.Fprintf(&links, "  interface \"%s\" { type wired; rxcost %d; hello interval 200 ms; update interval 4 s; };\n", n.device, n.rtt)
			} else {
				fmt.Fprintf(&links, "  interface \"%s\" { type wired; };\n", n.device)
			}
		}
		return base + birdBabel(links.String())
	}
	var s strings.Builder
	s.WriteString(base)
	if b.tuned {
		s.WriteString("protocol bfd { interface \"wg-*\" { min rx interval 100 ms; min tx interval 100 ms; multiplier 3; }; }\n")
	}
	s.WriteString("protocol ospf v2 {\n  ipv4 { import all; export where net ~ " + birdAnnounced + "; };\n  area 0 {\n")
	for _, n := range neighbours(site) {
		// The subnet chooses among the device's addresses.
		fmt.Fprintf(&s, "    interface \"%s\" 10.99.0.0/16 { type ptp; cost %d;", n.device, n.rtt)
		if b.tuned {
			s.WriteString(" hello 1; dead count 4; bfd yes;")
		}
		s.WriteString(" };\n")
	}
	s.WriteString("    interface \"br-lan\" { stub yes; };\n  };\n}\n")
	return s.String()
}

func birdBabel(links string) string {
	return "protocol babel {\n  ipv4 { import all; export where net ~ " + birdAnnounced + "; };\n" + links + "}\n"
}

// addSubnets gives the links of a router the subnets that OSPF wants.
func addSubnets(ctx context.Context, t *triangle, site string) error {
	for _, n := range neighbours(site) {
		if _, err := t.ip(ctx, site, "address", "replace", n.own, "dev", n.device); err != nil {
			return err
		}
	}
	return nil
}
