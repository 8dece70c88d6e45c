package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Work is the body of the worker process. It runs the devices that the supervisor hands it
// over the inherited socket until the supervisor ends, or ctx is done.
func Work(ctx context.Context, o Options) error {
	o = o.filled()
	setComm("tombolo-wg")
	noCore()
	unix.CloseOnExec(workerLockFD)
	l, err := newLink(workerLinkFD)
	if err != nil {
		return fmt.Errorf("work for a supervisor: %w", err)
	}
	wa, err := newWatch()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &work{link: l, watch: wa, log: o.Log, devices: make(map[string]context.CancelFunc)}
	w.running.Go(func() { wa.run(ctx, o.Log) })
	err = w.listen(ctx)
	w.orphan = errors.Is(err, io.EOF)
	if w.orphan {
		err = nil
	}
	cancel()
	return errors.Join(err, w.end())
}

// work is the state of a worker process.
type work struct {
	link    *link
	watch   *watch
	log     *slog.Logger
	running sync.WaitGroup
	orphan  bool // the supervisor is gone; written before the devices' contexts are done

	mu      sync.Mutex
	devices map[string]context.CancelFunc // removes the device, whose goroutine then answers
}

// listen obeys the supervisor until it is gone (io.EOF) or ctx is done. Each device is
// opened in a goroutine of its own, so that reading never waits for writing: the supervisor
// must always be able to send.
func (w *work) listen(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = w.link.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		m, fds, err := w.link.receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("listen to the supervisor: %w", err)
		case m.Op == opAdd && len(fds) == maxFDs:
			dctx, remove := context.WithCancel(ctx)
			w.mu.Lock()
			w.devices[m.Name] = remove
			w.mu.Unlock()
			w.running.Go(func() {
				defer remove()
				w.device(ctx, dctx, m, fds[0], fds[1])
			})
		case m.Op == opRemove:
			w.remove(m.Name)
		default:
			return fmt.Errorf("listen to the supervisor: message %q with %d descriptors", m.Op, len(fds))
		}
	}
}

// shortLife is how long a device lives at least that has not met with a standing fault.
const shortLife = time.Second

// device runs one device from its opening to its end, and tells the supervisor. ctx ends
// with the worker, dctx also when the device is removed.
func (w *work) device(ctx, dctx context.Context, m message, tun, uapi int) {
	d, err := openDevice(w, m.Name, m.Config, tun, uapi)
	if err != nil {
		w.forget(m.Name)
		w.say(message{Op: opAdded, Name: m.Name, Error: err.Error()})
		return
	}
	w.say(message{Op: opAdded, Name: m.Name})
	opened := time.Now()
	d.run(dctx)
	if time.Since(opened) < shortLife {
		_ = pause(dctx, shortLife) // should it end again and again, then not in a tight loop
	}
	// Forget before the word: the supervisor may add the name again at once.
	switch w.forget(m.Name); {
	case ctx.Err() == nil && dctx.Err() != nil:
		w.say(message{Op: opRemoved, Name: m.Name})
	case ctx.Err() == nil:
		w.say(message{Op: opGone, Name: m.Name})
	case w.orphan:
		_ = os.Remove(uapiPath(m.Name)) // nobody else is left to do it
	}
}

// remove ends a device, whose goroutine then answers; for one that is gone it answers here.
func (w *work) remove(name string) {
	w.mu.Lock()
	remove := w.devices[name]
	w.mu.Unlock()
	if remove == nil {
		w.running.Go(func() { w.say(message{Op: opRemoved, Name: name}) })
		return
	}
	remove()
}

func (w *work) forget(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.devices, name)
}

// say sends a message. That the supervisor is gone is noticed by listen.
func (w *work) say(m message) { _ = w.link.send(m) }

// end waits until all devices are closed, but not for one that hangs: with the process all
// of them go.
func (w *work) end() error {
	done := make(chan struct{})
	go func() {
		w.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-time.After(endTime / 2):
		return errors.New("a device did not close")
	}
}
