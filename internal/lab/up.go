package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"tombolo/internal/state"
)

// Config says which lab Up makes.
type Config struct {
	// Name tells labs on one machine apart: up to 32 letters, digits and dashes.
	Name string

	// Routers are the compiled network. Site, Network, Endpoints, LANs and Uplinks are
	// looked at, and the interfaces' addresses, which are kept free.
	Routers []state.Router

	// Clients are the roaming devices. Each enters at its Door when Start has started the
	// routers, for which its Configuration must then be there.
	Clients []Client

	File File

	// Command starts the lab's process: a program and arguments that lead to [Serve].
	// The lab's directory is appended to it.
	Command []string

	// Start starts what runs on a router, once all uplinks work; several routers' are
	// started at the same time. What it starts must outlive the caller, if the lab is to.
	// Nil: nothing.
	Start func(ctx context.Context, l *Lab, site string) error

	// Progress is told what happens, by several goroutines. Nil: nobody.
	Progress func(Event)
}

// Event is a step on the way up.
type Event struct {
	Text  string `json:"text"`           // what is made now
	Node  string `json:"node,omitempty"` // where
	Done  int    `json:"done,omitempty"` // of Total, with this one
	Total int    `json:"total,omitempty"`
}

// downTime bounds how long the lab's process has to take a lab down that did not come
// up.
const downTime = 20 * time.Second

// Up makes a lab and returns it when everything in it runs. The lab stays when the caller
// ends. If it does not come up, or ctx ends before, nothing of it is left.
func Up(ctx context.Context, c Config) (_ *Lab, err error) {
	if c.Progress == nil {
		c.Progress = func(Event) {}
	}
	if err := check(c); err != nil {
		return nil, err
	}
	dir := directory(c.Name)
	held, err := claim(ctx, c, dir)
	if err != nil {
		return nil, err
	}
	defer held.Close()
	p, err := start(c, dir, held)
	if err != nil {
		return nil, errors.Join(err, clean(context.WithoutCancel(ctx), dir))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.abort(context.WithoutCancel(ctx), dir))
		}
	}()
	if err := p.await(ctx, c.Progress); err != nil {
		return nil, err
	}
	l := &Lab{name: c.Name, dir: dir}
	if c.Start != nil {
		if err := startAll(ctx, c, l); err != nil {
			return nil, err
		}
	}
	if err := enterAll(ctx, c, l); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return l, p.detach()
}

// check finds what can be found wrong before anything is made.
func check(c Config) error {
	if !validName(c.Name) {
		return fmt.Errorf("lab %q: a name has up to 32 letters, digits and dashes", c.Name)
	}
	l, err := newLayout(c.Name, c.Routers, c.Clients, c.File)
	if err != nil {
		return err
	}
	if _, err := newPaths(l, c.File); err != nil {
		return err
	}
	if err := Ready(); err != nil {
		return err
	}
	for _, n := range l.nodes() {
		if len(n.Namespace) > 255 {
			return fmt.Errorf("lab %q: %s is too long for a namespace's name", c.Name, n.Namespace)
		}
	}
	return nil
}

// claim takes the lab's name, and removes what a lab of that name left that died.
func claim(ctx context.Context, c Config, dir string) (*os.File, error) {
	for start := time.Now(); ; {
		held, err := lock(dir, true)
		if errors.Is(err, errBusy) {
			// One that was killed just now holds it until all of its threads have ended.
			if r, _ := readRecord(dir); r.Process.PID != 0 && !r.Process.alive() && time.Since(start) < killTime {
				time.Sleep(5 * time.Millisecond)
				continue
			}
			return nil, fmt.Errorf("lab %q is up already, or comes up just now; \"lab down\" takes it away", c.Name)
		}
		if err != nil {
			return nil, err
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		if len(entries) == 1 {
			if err := checkNames(c, dir); err != nil {
				held.Close() // it was never written to
				return nil, err
			}
			return held, nil
		}
		c.Progress(Event{Text: fmt.Sprintf("lab %s was left by a process that died: cleaning up", c.Name)})
		err = clean(ctx, dir)
		held.Close() // it was never written to
		if err != nil {
			return nil, err
		}
	}
}

// checkNames refuses names of namespaces that somebody has: lab a-b's node c is called
// the same as lab a's node b-c.
func checkNames(c Config, dir string) error {
	l, err := newLayout(c.Name, c.Routers, c.Clients, c.File)
	if err != nil {
		return err
	}
	for _, n := range l.nodes() {
		path := filepath.Join(netnsDir, n.Namespace)
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(fmt.Errorf("lab %q: there is a namespace %s already", c.Name, path), os.RemoveAll(dir))
		}
	}
	return nil
}

// starting is the lab's process while Up waits for it.
type starting struct {
	cmd    *exec.Cmd
	events *os.File
	leash  *os.File
	ended  chan struct{} // closed when it ended
}

// start starts the lab's process in a session of its own: no terminal's interrupt
// reaches it.
func start(c Config, dir string, held *os.File) (*starting, error) {
	if err := writeJSON(filepath.Join(dir, configFile), config{c.Name, c.Routers, c.Clients, c.File}); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, logFile))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	events, theirEvents, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirEvents.Close()
	theirLeash, leash, err := os.Pipe()
	if err != nil {
		events.Close()
		return nil, err
	}
	defer theirLeash.Close()
	p := &starting{events: events, leash: leash, ended: make(chan struct{})}
	p.cmd = exec.Command(c.Command[0], append(c.Command[1:len(c.Command):len(c.Command)], dir)...)
	p.cmd.Dir = "/"
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.ExtraFiles = []*os.File{held, theirEvents, theirLeash}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := p.cmd.Start(); err != nil {
		events.Close()
		leash.Close()
		return nil, fmt.Errorf("start the lab's process: %w", err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended, it said in its messages, or in the log
		close(p.ended)
	}()
	return p, nil
}

// await passes on what the process reports until it is ready.
func (p *starting) await(ctx context.Context, progress func(Event)) error {
	defer context.AfterFunc(ctx, func() { p.events.Close() })()
	defer p.events.Close()
	for in := json.NewDecoder(p.events); ; {
		var m message
		err := in.Decode(&m)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return errors.New("the lab's process ended without a word")
		case err != nil:
			return fmt.Errorf("read what the lab's process reports: %w", err)
		case m.Error != "":
			return errors.New(m.Error)
		case m.Ready:
			return nil
		case m.Event != nil:
			progress(*m.Event)
		}
	}
}

// startAll starts what runs on the routers.
func startAll(ctx context.Context, c Config, l *Lab) error {
	var sites []string
	for _, r := range c.Routers {
		sites = append(sites, r.Site)
	}
	return c.each(ctx, "starting routers", sites, func(ctx context.Context, i int) error {
		if err := c.Start(ctx, l, sites[i]); err != nil {
			return fmt.Errorf("start %s: %w", sites[i], err)
		}
		return nil
	})
}

// enterAll takes the roaming devices to their first doors.
func enterAll(ctx context.Context, c Config, l *Lab) error {
	var names, doors []string
	for _, d := range c.Clients {
		if d.Door != "" {
			names, doors = append(names, d.Name), append(doors, d.Door)
		}
	}
	return c.each(ctx, "roaming devices", names, func(ctx context.Context, i int) error {
		return l.Roam(ctx, names[i], doors[i])
	})
}

// each does something to several nodes, a few at the same time, and reports each that is
// done.
func (c Config) each(ctx context.Context, text string, nodes []string, do func(ctx context.Context, i int) error) error {
	done := make(chan string, len(nodes))
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		n := 0
		for node := range done {
			n++
			c.Progress(Event{Text: text, Node: node, Done: n, Total: len(nodes)})
		}
	}()
	err := parallel(ctx, len(nodes), func(ctx context.Context, i int) error {
		if err := do(ctx, i); err != nil {
			return err
		}
		done <- nodes[i]
		return nil
	})
	close(done)
	<-reported
	return err
}

// detach lets the process go on without us.
func (p *starting) detach() error {
	_, err := p.leash.Write([]byte{1})
	if err = errors.Join(err, p.leash.Close()); err != nil {
		return fmt.Errorf("leave the lab's process: %w", err)
	}
	return nil
}

// abort has the process take down what it made, and does the rest.
func (p *starting) abort(ctx context.Context, dir string) error {
	p.leash.Close() // that is what ends it
	select {
	case <-p.ended:
	case <-time.After(downTime):
		_ = p.cmd.Process.Kill() // it may have ended just now
		<-p.ended
	}
	said := strings.TrimSpace(readLog(dir))
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err := clean(ctx, dir)
	if said != "" {
		err = errors.Join(fmt.Errorf("the lab's process wrote: %s", said), err)
	}
	return err
}
