package internet

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Runner is the goroutine between an Engine and a TUN.
type Runner struct {
	engine   *Engine
	dev      *Device
	commands chan command
	done     chan struct{} // closed when Run has returned
	free     [][]byte      // buffers to use again, each of bufferSize
	stats    Stats
}

// Stats is how well a Runner keeps up.
type Stats struct {
	// Wakes counts how often packets fell due; LateMean and LateMax are by how
	// much the first of them was written too late.
	Wakes    uint64        `json:"wakes"`
	LateMean time.Duration `json:"lateMean"`
	LateMax  time.Duration `json:"lateMax"`
	// ReadErrors and WriteErrors count packets (or segments that are one to
	// the kernel) that the device would not give or take, as it will not while it
	// is down.
	ReadErrors  uint64 `json:"readErrors"`
	WriteErrors uint64 `json:"writeErrors"`

	late time.Duration // the sum
}

type command struct {
	run  func(*Engine)
	done chan struct{}
}

// ErrStopped is what Do returns when Run has ended.
var ErrStopped = errors.New("the emulated Internet has stopped")

// NewRunner makes the Runner of an engine that has handled no packet yet, and
// takes the engine over. The device stays the caller's to close.
func NewRunner(engine *Engine, dev *Device) *Runner {
	return &Runner{
		engine:   engine,
		dev:      dev,
		commands: make(chan command, 16),
		done:     make(chan struct{}),
	}
}

// Do has f called with the engine by the goroutine that owns it, and waits
// until f has returned. It fails with [ErrStopped] when Run has ended, or with
// ctx's error; then f may yet be called, if ctx ended.
func (r *Runner) Do(ctx context.Context, f func(*Engine)) error {
	c := command{run: f, done: make(chan struct{})}
	select {
	case r.commands <- c:
	case <-r.done:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	r.dev.ring()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-r.done:
		select {
		case <-c.done:
			return nil
		default:
			return ErrStopped
		}
	}
}

// SetPlaces is [Engine.SetPlaces].
func (r *Runner) SetPlaces(ctx context.Context, places []Place) error {
	var err error
	return errors.Join(r.Do(ctx, func(e *Engine) { err = e.SetPlaces(places) }), err)
}

// SetPath is [Engine.SetPath].
func (r *Runner) SetPath(ctx context.Context, from, to string, imp Impairment) error {
	var err error
	return errors.Join(r.Do(ctx, func(e *Engine) { err = e.SetPath(from, to, imp) }), err)
}

// Cut cuts the path from one place to another, in that direction, keeping
// what else was said of it.
func (r *Runner) Cut(ctx context.Context, from, to string) error {
	return r.setCut(ctx, from, to, true)
}

// Heal takes a Cut back.
func (r *Runner) Heal(ctx context.Context, from, to string) error {
	return r.setCut(ctx, from, to, false)
}

func (r *Runner) setCut(ctx context.Context, from, to string, cut bool) error {
	var err error
	return errors.Join(r.Do(ctx, func(e *Engine) {
		imp := e.Path(from, to)
		imp.Cut = cut
		err = e.SetPath(from, to, imp)
	}), err)
}

// Counters is [Engine.Counters].
func (r *Runner) Counters(ctx context.Context) (c Counters, err error) {
	err = r.Do(ctx, func(e *Engine) { c = e.Counters() })
	return c, err
}

// Stats says how well the Runner keeps up.
func (r *Runner) Stats(ctx context.Context) (s Stats, err error) {
	err = r.Do(ctx, func(*Engine) { s = r.stats })
	if s.Wakes > 0 {
		s.LateMean = s.late / time.Duration(s.Wakes)
	}
	return s, err
}

// Run moves packets until ctx ends, and then returns nil, or until the
// device fails or is closed. It may be called once.
func (r *Runner) Run(ctx context.Context) error {
	defer close(r.done)
	r.dev.use.Lock()
	defer r.dev.use.Unlock()
	// The thread sleeps in ppoll, where its timer slack of 50 µs by default would
	// be added to every delay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set timer slack: %w", err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) }() // back to the default
	defer hurry()()
	defer context.AfterFunc(ctx, r.dev.ring)()

	for ctx.Err() == nil {
		if err := r.send(); err != nil {
			return r.fail("write to", err)
		}
		readable, rung, err := r.dev.wait(r.untilNext())
		if err != nil {
			return r.fail("wait for", err)
		}
		if rung {
			r.obey()
		}
		if readable {
			if err := r.receive(); err != nil {
				return r.fail("read", err)
			}
		}
	}
	return nil
}

// hurry puts the calling thread before all that are not in a hurry (sched(7), SCHED_RR), and
// returns what takes that back. The Internet does not slow down because the machine's
// routers are busy: with ten programs waiting for two cores, one packet in a hundred would
// be late by tens of milliseconds. Where that is not allowed, as in a user namespace, it
// stays as it was.
func hurry() (back func()) {
	set := func(policy, priority uint32) error {
		return unix.SchedSetAttr(0, &unix.SchedAttr{
			Size: unix.SizeofSchedAttr, Policy: policy, Priority: priority,
			Flags: unix.SCHED_FLAG_RESET_ON_FORK,
		}, 0)
	}
	if set(unix.SCHED_RR, 1) != nil {
		return func() {}
	}
	return func() { _ = set(unix.SCHED_NORMAL, 0) } // that is always allowed
}

func (r *Runner) fail(verb string, err error) error {
	return fmt.Errorf("%s TUN device %s: %w", verb, r.dev.name, err)
}

// untilNext is how long there is nothing to send, negative for ever.
func (r *Runner) untilNext() time.Duration {
	next, ok := r.engine.Next()
	if !ok {
		return -1
	}
	return max(0, time.Until(next))
}

// obey runs the commands that are there.
func (r *Runner) obey() {
	for {
		select {
		case c := <-r.commands:
			c.run(r.engine)
			close(c.done)
		default:
			return
		}
	}
}

// readsPerTurn bounds how long packets that are due wait for those that come in.
const readsPerTurn = 4

// receive takes in what the kernel has for us, within bounds.
func (r *Runner) receive() error {
	for range readsPerTurn {
		now := time.Now()
		more, err := r.dev.read(func(packet []byte) {
			packet = append(r.buffer(len(packet)), packet...)
			if !r.engine.Handle(now, packet) {
				r.release(packet)
			}
		})
		switch {
		case errors.Is(err, errUnreadable):
			r.stats.ReadErrors++
		case err != nil:
			return err
		case !more:
			return nil
		}
	}
	return nil
}

// send writes what is due.
func (r *Runner) send() error {
	next, ok := r.engine.Next()
	now := time.Now()
	if !ok || next.After(now) {
		return nil
	}
	late := now.Sub(next)
	r.stats.Wakes++
	r.stats.late += late
	r.stats.LateMax = max(r.stats.LateMax, late)
	due := r.engine.Due(now)
	refused, err := r.dev.write(due)
	r.stats.WriteErrors += uint64(refused)
	for _, packet := range due {
		r.release(packet)
	}
	return err
}

// bufferSize holds a packet of the usual MTU.
const bufferSize = 2048

// maxFree bounds what is kept for later: 16 MB.
const maxFree = 8192

// buffer returns an empty one with room for so many bytes.
func (r *Runner) buffer(size int) []byte {
	if size > bufferSize {
		return make([]byte, 0, size)
	}
	if n := len(r.free); n > 0 {
		buf := r.free[n-1]
		r.free = r.free[:n-1]
		return buf[:0]
	}
	return make([]byte, 0, bufferSize)
}

func (r *Runner) release(buf []byte) {
	if cap(buf) == bufferSize && len(r.free) < maxFree {
		r.free = append(r.free, buf)
	}
}
