package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"tombolo/internal/lab/internet"
)

// Lab is a lab that is up. Its methods may be called by several goroutines, in any
// process of the user that took it up.
type Lab struct {
	name string
	dir  string
}

// Info is what List tells of a lab.
type Info struct {
	Name    string    `json:"name"`
	Network string    `json:"network"`
	Started time.Time `json:"started"`
	Sites   int       `json:"sites"`
	Nodes   int       `json:"nodes"`
	Alive   bool      `json:"alive"` // false: its process died, and Down is what remains to be done
	PID     int       `json:"pid"`   // of its process
	Dir     string    `json:"dir"`
}

// List returns the labs of this user, by name. A lab that is just coming up is among
// them.
func List() ([]Info, error) {
	entries, err := os.ReadDir(baseDirectory())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Info
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		dir := directory(e.Name())
		r, err := readRecord(dir)
		if errors.Is(err, fs.ErrNotExist) {
			r.Name = e.Name() // it began, or ends, just now
		} else if err != nil {
			return nil, err
		}
		info := Info{
			Name: r.Name, Network: r.Network, Started: r.Started, Nodes: len(r.Nodes),
			Alive: r.Process.alive(), PID: r.Process.PID, Dir: dir,
		}
		for _, n := range r.Nodes {
			if n.Kind == RouterNode {
				info.Sites++
			}
		}
		out = append(out, info)
	}
	return out, nil // ReadDir sorts by name
}

// Open returns the lab of that name. An error wraps ErrNoLab if there is none.
func Open(name string) (*Lab, error) {
	l := &Lab{name: name, dir: directory(name)}
	r, err := readRecord(l.dir)
	switch {
	case !validName(name), errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("lab %q: %w", name, ErrNoLab)
	case err != nil:
		return nil, fmt.Errorf("lab %q: %w", name, err)
	case !r.Process.alive():
		return nil, fmt.Errorf("lab %q: its process died; take it down, and up again", name)
	case !r.Ready:
		return nil, fmt.Errorf("lab %q: it is not up yet", name)
	}
	return l, nil
}

// Name is the lab's name.
func (l *Lab) Name() string { return l.name }

// Dir is the lab's directory. Callers may keep files there, in names that do not begin
// with "lab"; Down removes it with all that is in it.
func (l *Lab) Dir() string { return l.dir }

// Nodes returns the lab's nodes: core, each router and the hosts behind it, the
// Internet's hosts. It reads one file.
func (l *Lab) Nodes() ([]Node, error) {
	r, err := readRecord(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("lab %q: %w", l.name, ErrNoLab)
	}
	return r.Nodes, err
}

// Node returns a node by its name. A host in a LAN may also be called SITE/DEVICE.
func (l *Lab) Node(name string) (Node, error) {
	nodes, err := l.Nodes()
	if err != nil {
		return Node{}, err
	}
	if i := slices.IndexFunc(nodes, func(n Node) bool { return n.Name == name }); i >= 0 {
		return nodes[i], nil
	}
	// The hosts follow their router, in the order of its LANs.
	for i, n := range nodes {
		if n.Kind != RouterNode {
			continue
		}
		at := i
		for _, d := range n.Devices {
			if d.Uplink {
				continue
			}
			if at++; n.Name+"/"+d.Name == name {
				return nodes[at], nil
			}
		}
	}
	return Node{}, fmt.Errorf("lab %q has no node %q", l.name, name)
}

// Cut cuts the paths between two places, both ways: sites, uplinks (SITE/DEVICE) or
// Internet hosts. An empty b is everything, also a's own gateways: a is cut off, and keeps
// its carrier. Packets under way are lost, and nobody is told.
func (l *Lab) Cut(ctx context.Context, a, b string) error {
	_, err := l.ask(ctx, command{Do: doCut, From: a, To: b})
	return err
}

// CutOneWay cuts the paths from one place to another and not those back: what from sends
// vanishes, and what it is sent arrives. An empty to is everything.
func (l *Lab) CutOneWay(ctx context.Context, from, to string) error {
	_, err := l.ask(ctx, command{Do: doCut, From: from, To: to, OneWay: true})
	return err
}

// Heal takes back what Cut and CutOneWay did to the paths between two places. An empty b
// is all paths of a.
func (l *Lab) Heal(ctx context.Context, a, b string) error {
	_, err := l.ask(ctx, command{Do: doHeal, From: a, To: b})
	return err
}

// HealOneWay takes back what Cut and CutOneWay did to the paths from one place to another,
// and not to those back.
func (l *Lab) HealOneWay(ctx context.Context, from, to string) error {
	_, err := l.ask(ctx, command{Do: doHeal, From: from, To: to, OneWay: true})
	return err
}

// SetPath says anew what a path does from now on, packets under way excepted. What was cut
// by Cut stays cut. A path that was plain goes through the emulator from then on, and one
// that becomes so no longer.
func (l *Lab) SetPath(ctx context.Context, p Path) error {
	_, err := l.ask(ctx, command{Do: doPath, Path: &p})
	return err
}

// ChangePath changes of the paths between two places what the words name, as SetPath does;
// the rest stays as it was. A word is KEY=VALUE as in a lab file: rtt, jitter, loss, rate,
// reorder. An empty b is all paths of a.
func (l *Lab) ChangePath(ctx context.Context, a, b string, words ...string) error {
	_, err := l.ask(ctx, command{Do: doChange, From: a, To: b, Words: words})
	return err
}

// ChangePathOneWay is ChangePath from one place to another, and not back. In the place of
// rtt there is delay.
func (l *Lab) ChangePathOneWay(ctx context.Context, from, to string, words ...string) error {
	_, err := l.ask(ctx, command{Do: doChange, From: from, To: to, OneWay: true, Words: words})
	return err
}

// Paths returns what the paths between two places do now, each way for itself, between
// uplinks (SITE/DEVICE) and Internet hosts. An empty b is all paths of a.
func (l *Lab) Paths(ctx context.Context, a, b string) ([]Path, error) {
	answer, err := l.ask(ctx, command{Do: doPaths, From: a, To: b})
	return answer.Paths, err
}

// Relet leases another IPv4 address to a DHCP uplink, as providers do overnight, and
// returns it once the router has it. The hosts files then lead there. A zero address is
// the next of the subnet, an empty device the first uplink.
func (l *Lab) Relet(ctx context.Context, site, device string, to netip.Prefix) (netip.Prefix, error) {
	a, err := l.ask(ctx, command{Do: doRelet, Site: site, Device: device, Address: to})
	return a.Address, err
}

// Counters returns what passed through the emulated Internet: only what has an
// impairment or a NAT on its way does.
func (l *Lab) Counters(ctx context.Context) (internet.Counters, error) {
	a, err := l.ask(ctx, command{Do: doCounters})
	if err != nil {
		return internet.Counters{}, err
	}
	return *a.Counters, nil
}

// readLog returns the end of what the lab's process wrote, for an error.
func readLog(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, logFile))
	if err != nil {
		return ""
	}
	return string(b[max(0, len(b)-2000):])
}
