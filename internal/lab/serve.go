package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
)

// The files that Up gives the lab's process, beside its directory.
const (
	lockFD   = 3 + iota // the lock, locked
	eventsFD            // where it reports, a line of JSON each
	leashFD             // when it ends before Up wrote a byte to it, Up is gone
)

// message is a line that the lab's process reports.
type message struct {
	Event *Event `json:"event,omitempty"`
	Ready bool   `json:"ready,omitempty"`
	Error string `json:"error,omitempty"`
}

// Serve is the lab's process. A program calls it when it is started by [Up], with the
// directory that Up appended to Config.Command. It makes the lab and serves it until it
// gets SIGTERM or SIGINT, or until Up goes away without having finished, and then takes
// it down. What it has to say in between it writes to standard error. Of w it makes the
// tunnels of roaming devices.
func Serve(ctx context.Context, dir string, w WireGuard) error {
	files := map[int]*os.File{}
	for fd, name := range map[int]string{lockFD: "lock", eventsFD: "events", leashFD: "leash"} {
		syscall.CloseOnExec(fd)
		files[fd] = os.NewFile(uintptr(fd), name)
		if _, err := files[fd].Stat(); err != nil {
			return errors.New("serve a lab: this command is for `lab up`, which starts it")
		}
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the process at the latest
		if n, _ := files[leashFD].Read(make([]byte, 1)); n == 0 {
			cancel()
		}
	}()
	out := &reporter{enc: json.NewEncoder(files[eventsFD])}
	err := serve(ctx, cancel, dir, w, out)
	if err != nil {
		out.send(message{Error: err.Error()})
	}
	runtime.KeepAlive(files) // the lock above all, which else the collector would close
	return err
}

func serve(ctx context.Context, cancel context.CancelFunc, dir string, w WireGuard, out *reporter) error {
	d, err := newDaemon(dir, w, func(e Event) { out.send(message{Event: &e}) })
	if err == nil {
		err = d.serve(ctx, func() { out.send(message{Ready: true}) })
		cancel()
		d.close()
	}
	// Even if ctx ended: that is when it is needed.
	return errors.Join(err, clean(context.WithoutCancel(ctx), dir))
}

// serve makes the lab and does what the control socket asks for, until ctx ends.
func (d *daemon) serve(ctx context.Context, ready func()) error {
	if err := d.up(ctx); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted: %w", ctx.Err())
		}
		return err
	}
	requests := make(chan request)
	if err := d.listen(ctx, requests); err != nil {
		return err
	}
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-d.fatal:
			slog.Error("the lab comes down", "reason", err)
			return err
		case r := <-requests:
			r.answer <- d.obey(ctx, r)
		}
	}
}

// reporter writes messages. Once nobody reads them, it keeps quiet.
type reporter struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func (r *reporter) send(m message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// Up that went away is noticed by the leash.
	_ = r.enc.Encode(m)
}
