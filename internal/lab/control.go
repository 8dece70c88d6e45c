package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"tombolo/internal/lab/internet"
)

// command is what is asked of the lab's process: one line of JSON on a connection.
type command struct {
	Do      string       `json:"do"`
	Node    string       `json:"node,omitempty"`   // enter, roam
	From    string       `json:"from,omitempty"`   // cut, heal, change, paths
	To      string       `json:"to,omitempty"`     // cut, heal, change, paths; empty: everything; roam: a door, empty: none
	OneWay  bool         `json:"oneWay,omitempty"` // cut, heal, change, paths
	Words   []string     `json:"words,omitempty"`  // change
	Path    *Path        `json:"path,omitempty"`   // path
	Site    string       `json:"site,omitempty"`   // relet, carrier
	Device  string       `json:"device,omitempty"` // relet, carrier; empty: the first
	On      bool         `json:"on,omitempty"`     // carrier
	Address netip.Prefix `json:"address,omitzero"` // relet; zero: the next
}

// What a command does.
const (
	doEnter    = "enter" // answers with the node's namespaces as files
	doCut      = "cut"
	doHeal     = "heal"
	doPath     = "path"   // says a path anew
	doChange   = "change" // changes what words name
	doPaths    = "paths"  // answers with what holds now
	doRelet    = "relet"
	doRoam     = "roam"
	doCounters = "counters"
	doCarrier  = "carrier"
	doUplinks  = "uplinks" // answers with what each has sent
	doReset    = "reset"   // begins anew to count that
)

// answer is what the lab's process says to a command: one line of JSON, and with enter
// three files: network, mount and UTS namespace.
type answer struct {
	Error    string             `json:"error,omitempty"`
	Address  netip.Prefix       `json:"address,omitzero"`
	Counters *internet.Counters `json:"counters,omitempty"`
	Paths    []Path             `json:"paths,omitempty"`
	Uplinks  []UplinkCount      `json:"uplinks,omitempty"`

	node *namespaces
	rest func(context.Context) error // to be done before the answer goes out
}

// request is a command on its way to the goroutine that owns the lab.
type request struct {
	command
	answer chan answer
}

// commandTime bounds how long a connection is served.
const commandTime = 30 * time.Second

// listen opens the control socket and serves it until ctx ends.
func (d *daemon) listen(ctx context.Context, requests chan<- request) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(d.dir, controlFile)})
	if err != nil {
		return fmt.Errorf("open the lab's socket: %w", err)
	}
	d.task(ctx, "the lab's socket", func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { l.Close() })()
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return err
			}
			d.tasks.Add(1)
			go func() {
				defer d.tasks.Done()
				defer c.Close()
				// What goes wrong with a connection its other end sees.
				_ = converse(ctx, c, requests)
			}()
		}
	})
	return nil
}

// converse reads one command and writes its answer.
func converse(ctx context.Context, c *net.UnixConn, requests chan<- request) error {
	if err := c.SetDeadline(time.Now().Add(commandTime)); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { c.Close() })()
	r := request{answer: make(chan answer, 1)}
	if err := json.NewDecoder(c).Decode(&r.command); err != nil {
		return err
	}
	var a answer
	select {
	case requests <- r:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case a = <-r.answer:
	case <-ctx.Done():
		return ctx.Err()
	}
	if a.rest != nil {
		if err := a.rest(ctx); err != nil {
			a = answer{Error: err.Error()}
		}
	}
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	var files []byte
	if a.node != nil {
		files = unix.UnixRights(int(a.node.net.Fd()), int(a.node.mnt.Fd()), int(a.node.uts.Fd()))
	}
	// The files go with the first byte.
	if _, _, err := c.WriteMsgUnix(b[:1], files, nil); err != nil {
		return err
	}
	_, err = c.Write(append(b[1:], '\n'))
	return err
}

// obey does what a command asks for.
func (d *daemon) obey(ctx context.Context, r request) answer {
	a, err := d.do(ctx, r.command)
	if err != nil {
		return answer{Error: err.Error()}
	}
	return a
}

func (d *daemon) do(ctx context.Context, c command) (a answer, err error) {
	switch c.Do {
	case doEnter:
		node, ok := d.nodes[c.Node]
		if !ok {
			return a, fmt.Errorf("the lab has no node %q", c.Node)
		}
		return answer{node: node}, nil
	case doCut, doHeal:
		if err := d.paths.cut(c.From, c.To, !c.OneWay, c.Do == doCut); err != nil {
			return a, err
		}
		return a, d.impair(ctx)
	case doChange:
		if err := d.paths.change(c.From, c.To, !c.OneWay, c.Words); err != nil {
			return a, err
		}
		return a, d.impair(ctx)
	case doPaths:
		a.Paths, err = d.paths.list(c.From, c.To, !c.OneWay)
		return a, err
	case doPath:
		if c.Path == nil {
			return a, errors.New("which path?")
		}
		if err := d.paths.set(*c.Path); err != nil {
			return a, err
		}
		return a, d.impair(ctx)
	case doRelet:
		a.Address, err = d.relet(ctx, c.Site, c.Device, c.Address)
		return a, err
	case doCarrier:
		return a, d.carrier(ctx, c.Site, c.Device, c.On)
	case doUplinks:
		a.Uplinks, err = d.uplinkCounts(ctx)
		return a, err
	case doReset:
		return a, d.resetCounts(ctx)
	case doRoam:
		a.rest, err = d.roam(c.Node, c.To)
		return a, err
	case doCounters:
		counters, err := d.runner.Counters(ctx)
		return answer{Counters: &counters}, err
	}
	return a, fmt.Errorf("the lab's process does not know %q; it may be of another version", c.Do)
}

// ask sends the lab's process a command and returns the answer.
func (l *Lab) ask(ctx context.Context, c command) (answer, error) {
	var a answer
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", filepath.Join(l.dir, controlFile))
	if err != nil {
		return a, fmt.Errorf("lab %q: its process does not answer (take it down and up again): %w", l.name, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := json.NewEncoder(conn).Encode(c); err != nil {
		return a, fmt.Errorf("lab %q: %s: %w", l.name, c.Do, err)
	}
	r := &fileReader{conn: conn.(*net.UnixConn)}
	err = json.NewDecoder(r).Decode(&a)
	if err == nil && a.Error != "" {
		err = errors.New(a.Error)
	}
	if err == nil && c.Do == doEnter {
		a.node, err = r.namespaces()
	}
	if err != nil {
		r.close()
		return answer{}, fmt.Errorf("lab %q: %s: %w", l.name, c.Do, errors.Join(err, ctx.Err()))
	}
	return a, nil
}

// fileReader reads bytes and the files that come with them.
type fileReader struct {
	conn  *net.UnixConn
	files []*os.File
}

func (r *fileReader) Read(b []byte) (int, error) {
	room := make([]byte, unix.CmsgSpace(3*4))
	n, roomUsed, _, _, err := r.conn.ReadMsgUnix(b, room)
	if err != nil {
		return max(n, 0), err // on some errors it is negative
	}
	messages, err := unix.ParseSocketControlMessage(room[:roomUsed])
	if err != nil {
		return n, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return n, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			r.files = append(r.files, os.NewFile(uintptr(fd), "namespace"))
		}
	}
	return n, nil
}

func (r *fileReader) namespaces() (*namespaces, error) {
	if len(r.files) != 3 {
		return nil, fmt.Errorf("%d files came where 3 were to come", len(r.files))
	}
	return &namespaces{net: r.files[0], mnt: r.files[1], uts: r.files[2]}, nil
}

func (r *fileReader) close() {
	for _, f := range r.files {
		f.Close() // it was only read
	}
}
