package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tombolo/internal/lab/internet"
)

// daemon is the lab's process: it owns what the lab is made of. Its methods are called by
// one goroutine.
type daemon struct {
	dir    string
	config config
	report func(Event)

	layout *layout
	paths  *paths
	given  map[pair]internet.Impairment // what the emulator was told
	loaded string                       // core's ruleset

	filtered  string          // the providers' ruleset
	unplugged map[string]bool // uplinks without carrier, by place

	record  record
	nodes   map[string]*namespaces
	device  *internet.Device
	runner  *internet.Runner
	dhcp    *dhcpServer
	ra      *advertiser
	clients map[string]*dhcpClient // by place

	wireguard WireGuard
	roamers   map[string]*roamer // by name

	tasks sync.WaitGroup
	fatal chan error // a task that ended before its time
}

// newDaemon prepares the lab that a directory's configuration describes.
func newDaemon(dir string, w WireGuard, report func(Event)) (*daemon, error) {
	d := &daemon{
		dir: dir, report: report, wireguard: w,
		nodes:     map[string]*namespaces{},
		clients:   map[string]*dhcpClient{},
		unplugged: map[string]bool{},
		roamers:   map[string]*roamer{},
		fatal:     make(chan error, 1),
	}
	if err := readJSON(filepath.Join(dir, configFile), &d.config); err != nil {
		return nil, err
	}
	var err error
	if d.layout, err = newLayout(d.config.Name, d.config.Routers, d.config.Clients, d.config.File); err != nil {
		return nil, err
	}
	if d.paths, err = newPaths(d.layout, d.config.File); err != nil {
		return nil, err
	}
	d.record = record{Name: d.config.Name, Started: time.Now(), Nodes: d.layout.nodes(), Rootless: os.Getenv(baseVariable) != ""}
	if len(d.config.Routers) > 0 {
		d.record.Network = d.config.Routers[0].Network
	}
	d.record.Process, err = self()
	return d, err
}

// save writes down what others need to know.
func (d *daemon) save() error { return writeJSON(filepath.Join(d.dir, recordFile), d.record) }

// up makes the lab. What it made before an error, clean finds.
func (d *daemon) up(ctx context.Context) error {
	// First the names of all that will be made: whoever cleans up needs them.
	if err := d.save(); err != nil {
		return err
	}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"files", d.writeFiles},
		{"namespaces", d.makeNodes},
		{"the Internet", d.makeInternet},
		{"routers and hosts", d.makeMachines},
		{"uplinks", d.raiseUplinks},
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		d.report(Event{Text: step.what})
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	d.record.Ready = true
	return d.save()
}

// writeFiles writes what the nodes see in /etc.
func (d *daemon) writeFiles(context.Context) error {
	if err := os.WriteFile(filepath.Join(d.dir, hostsFile), d.layout.hostsText(), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.dir, resolverFile), []byte(resolverText), 0o644)
}

// makeNodes makes the nodes' namespaces, and their names for `ip netns`.
func (d *daemon) makeNodes(ctx context.Context) error {
	if err := enterRun(filepath.Dir(d.dir)); err != nil {
		return err
	}
	template, err := newTemplate(d.dir)
	if err != nil {
		return err
	}
	defer template.Close()
	made := make([]*namespaces, len(d.record.Nodes))
	err = parallel(ctx, len(made), func(_ context.Context, i int) (err error) {
		made[i], err = newNode(template, d.record.Nodes[i])
		return err
	})
	for i, n := range made {
		if n != nil {
			d.nodes[d.record.Nodes[i].Name] = n
		}
	}
	if err != nil {
		return err
	}
	for i, n := range d.record.Nodes {
		if err := nameNetns(made[i].net, n.Namespace); err != nil {
			return err
		}
	}
	return nil
}

// makeInternet makes core and starts what runs in it.
func (d *daemon) makeInternet(ctx context.Context) error {
	core := d.nodes[d.layout.core]
	var err error
	if d.device, err = makeCore(core, d.layout, d.nodes); err != nil {
		return fmt.Errorf("node %s: %w", d.layout.core, err)
	}
	d.runner = internet.NewRunner(internet.New(uint64(time.Now().UnixNano())), d.device)
	d.task(ctx, "the emulated Internet", d.runner.Run)
	if d.dhcp, err = newDHCPServer(core); err != nil {
		return err
	}
	d.task(ctx, "the DHCP server", d.dhcp.run)
	if d.ra, err = newAdvertiser(core); err != nil {
		return err
	}
	d.task(ctx, "the router advertisements", d.ra.run)
	if err := d.places(ctx); err != nil {
		return err
	}
	return d.provide()
}

// makeMachines makes routers, roaming devices and hosts.
func (d *daemon) makeMachines(ctx context.Context) error {
	err := parallel(ctx, len(d.layout.routers), func(_ context.Context, i int) error {
		return makeRouter(&d.layout.routers[i], d.nodes)
	})
	if err != nil {
		return err
	}
	for _, r := range d.layout.routers {
		if r.roams != nil {
			d.roamers[r.site] = &roamer{name: r.site, of: r.roams.of, node: d.nodes[r.site], WireGuard: d.wireguard}
		}
	}
	for _, h := range d.layout.hosts {
		if err := makeInternetHost(h, d.nodes[h.name]); err != nil {
			return err
		}
	}
	return nil
}

// raiseUplinks leases addresses and waits for advertised ones.
func (d *daemon) raiseUplinks(ctx context.Context) error {
	var uplinks []*uplink
	var ports []string
	for i := range d.layout.routers {
		for j := range d.layout.routers[i].uplinks {
			u := &d.layout.routers[i].uplinks[j]
			uplinks, ports = append(uplinks, u), append(ports, u.port)
		}
	}
	if err := awaitCarrier(ctx, d.nodes[d.layout.core], ports...); err != nil {
		return err
	}
	d.ra.sendAll()
	clients := make([]*dhcpClient, len(uplinks))
	var done sync.Mutex
	n := 0
	err := parallel(ctx, len(uplinks), func(ctx context.Context, i int) error {
		u, node := uplinks[i], d.nodes[uplinks[i].site]
		if err := awaitCarrier(ctx, node, u.device); err != nil {
			return err
		}
		if u.dhcp {
			clients[i] = newDHCPClient(node, u)
			if err := clients[i].acquire(ctx); err != nil {
				return err
			}
		}
		if u.ra {
			if err := awaitAdvertised(ctx, node, u); err != nil {
				return err
			}
		}
		done.Lock()
		defer done.Unlock()
		n++
		d.report(Event{Text: "uplinks", Node: u.site, Done: n, Total: len(uplinks)})
		return nil
	})
	if err != nil {
		return err
	}
	for i, c := range clients {
		if c != nil {
			d.clients[uplinks[i].place()] = c
			d.task(ctx, "the DHCP client of "+uplinks[i].place(), c.run)
		}
	}
	return nil
}

// task runs f until ctx ends. If it ends before, the lab is broken and comes down.
func (d *daemon) task(ctx context.Context, what string, f func(context.Context) error) {
	d.tasks.Add(1)
	go func() {
		defer d.tasks.Done()
		err := f(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("nobody stopped it")
		}
		select {
		case d.fatal <- fmt.Errorf("%s ended: %w", what, err):
		default: // one is enough
		}
	}()
}

// close waits for the tasks, whose context has ended, and lets go of everything.
func (d *daemon) close() {
	d.tasks.Wait()
	if d.device != nil {
		d.device.Close() // nothing is left to be carried
	}
	for _, n := range d.nodes {
		n.close()
	}
}

// parallel calls f with 0 to n-1, several at a time, until one fails or ctx ends.
func parallel(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4 * runtime.GOMAXPROCS(0))
	for i := range n {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return f(ctx, i)
		})
	}
	return g.Wait()
}
