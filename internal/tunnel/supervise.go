package tunnel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Options says how a supervisor or a worker runs.
type Options struct {
	// Dir is the runtime directory, on a file system that takes sockets. Supervise makes it.
	Dir string
	// Worker is the argv that runs Work, such as {"/proc/self/exe", "tunnel", "--worker"}.
	Worker []string
	// Grace is how long a supervisor without interfaces waits for one; 0 means 10 s.
	Grace time.Duration
	// Log takes what happens, wireguard-go's words at debug; nil means slog.Default.
	Log *slog.Logger
}

func (o Options) filled() Options {
	if o.Grace == 0 {
		o.Grace = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o
}

// Supervise is the body of the command that a Client is given. Started by a Client it
// detaches itself and returns as soon as the detached process serves the directory;
// otherwise it stays. It serves until the last interface has been gone for Options.Grace,
// until Stop, SIGTERM or SIGINT, or until ctx is done, and takes all interfaces with it.
// That another process serves the directory already is no error.
func Supervise(ctx context.Context, o Options) error {
	o = o.filled()
	if len(o.Worker) == 0 {
		panic("tunnel: Supervise without a command for the worker")
	}
	stage := os.Getenv(stageEnv)
	_ = os.Unsetenv(stageEnv)
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	o.Dir = dir
	if err := checkDir(o.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return err
	}
	if stage == stageLaunch {
		return launch(ctx, o.Dir)
	}
	report := reporter(stage)
	signal.Ignore(syscall.SIGHUP) // the worker inherits this
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	unix.Umask(0o077) // for both kinds of sockets
	_ = os.Chdir("/") // to hold no file system
	setComm("tombolo-tunnel")
	noCore()

	lock, err := takeLock(ctx, o.Dir)
	if errors.Is(err, errServed) {
		report(nil)
		return nil
	}
	if err != nil {
		report(err)
		return err
	}
	defer lock.Close()
	s, err := newSupervisor(o, lock)
	report(err)
	if err != nil {
		return err
	}
	return s.run(ctx)
}

// supervisor is the state of a supervising process. The goroutine of run owns it; others
// send it calls and reports.
type supervisor struct {
	Options
	netns    string
	lock     *os.File
	listener *net.UnixListener
	calls    chan call
	reports  chan report

	interfaces map[string]*iface
	worker     *worker // nil while none runs
	crashes    int     // workers that ended soon after their start, in a row
	restart    *time.Timer
	grace      *time.Timer // runs while there is no interface
	stuck      *time.Timer // runs while the worker owes an answer
	stops      []call
}

// call is a request with the way back. reply has room for the one reply, so that answering
// never blocks.
type call struct {
	request
	reply chan reply
}

// iface is an interface, from its making to its release.
type iface struct {
	held
	name     string
	since    time.Time
	restarts int
	config   config // last reported
	phase    phase
	waiting  []call // answered when the worker has done what phase says
	next     []call // handled again when the interface is gone
}

type phase int

const (
	adding   phase = iota // the worker has been given it and has not answered, or will be given it
	added                 // the worker runs it
	removing              // the worker was told to let go of it, or will be once it has it
)

// worker is the running worker process.
type worker struct {
	link    *link
	kill    func() error
	started time.Time
}

// report is what comes from the worker: a message, or that it ended.
type report struct {
	message
	ended bool
	err   error // why it ended
}

// answerTime is how long the worker may take to answer before it is taken for stuck and
// killed.
const answerTime = 15 * time.Second

// firstGrace is how long a supervisor waits at least for the call it was started for.
const firstGrace = 10 * time.Second

func newSupervisor(o Options, lock *os.File) (*supervisor, error) {
	ns, err := namespace()
	if err != nil {
		return nil, err
	}
	// We hold the lock: whatever lies there is left over.
	if err := os.Remove(socketPath(o.Dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socketPath(o.Dir), Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(socketPath(o.Dir), 0o600); err != nil {
		l.Close()
		return nil, err
	}
	s := &supervisor{
		Options: o, netns: ns, lock: lock, listener: l,
		calls: make(chan call), reports: make(chan report),
		interfaces: make(map[string]*iface),
		restart:    time.NewTimer(0), // the first worker starts at once
		grace:      time.NewTimer(max(o.Grace, firstGrace)),
		stuck:      time.NewTimer(answerTime),
	}
	s.stuck.Stop()
	return s, nil
}

// run serves until the end, and returns when nothing is left.
func (s *supervisor) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var conns sync.WaitGroup
	conns.Go(func() { s.accept(ctx, &conns) })
	for s.step(ctx) {
	}
	cancel()
	s.listener.Close() // removes the socket: who comes now starts a new supervisor
	var refusing sync.WaitGroup
	refusing.Go(s.refuse)
	s.end()
	conns.Wait()
	close(s.calls)
	refusing.Wait()
	return nil
}

// accept takes connections until the listener is closed.
func (s *supervisor) accept(ctx context.Context, conns *sync.WaitGroup) {
	for {
		c, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, most likely: it may pass
			s.Log.Error("accept on the control socket", "error", err)
			if pause(ctx, 100*time.Millisecond) != nil {
				return
			}
			continue
		}
		conns.Go(func() {
			serve(ctx, c, func(r request) reply {
				back := make(chan reply, 1)
				s.calls <- call{r, back}
				return <-back
			})
		})
	}
}

// refuse answers the calls that come when the end has begun.
func (s *supervisor) refuse() {
	for c := range s.calls {
		c.reply <- reply{Ending: true}
	}
}

// step handles one event and reports whether to go on.
func (s *supervisor) step(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case c := <-s.calls:
		if c.Ask == askStop {
			s.stops = append(s.stops, c)
			return false
		}
		s.handle(c)
	case r := <-s.reports:
		s.hear(r)
	case <-s.restart.C:
		s.startWorker()
	case <-s.stuck.C:
		s.Log.Error("worker does not answer, killing it")
		_ = s.worker.kill()
	case <-s.grace.C:
		return len(s.interfaces) > 0
	}
	return true
}

// handle answers c, or puts it where it will be answered.
func (s *supervisor) handle(c call) {
	if c.NetNS != "" && c.NetNS != s.netns {
		c.reply <- replyError(fmt.Errorf("the tunnel process of %s (pid %d) serves another network namespace", s.Dir, os.Getpid()))
		return
	}
	switch c.Ask {
	case askAdd:
		s.add(c)
	case askRemove:
		s.remove(c)
	case askList:
		c.reply <- reply{Interfaces: s.list()}
	default:
		c.reply <- replyError(fmt.Errorf("unknown request %q", c.Ask))
	}
}

func (s *supervisor) add(c call) {
	if err := errors.Join(checkName(c.Name), checkMTU(c.MTU)); err != nil {
		c.reply <- replyError(err)
		return
	}
	i := s.interfaces[c.Name]
	if i == nil {
		h, err := hold(c.Name, c.MTU)
		if err != nil {
			c.reply <- replyError(err)
			return
		}
		i = &iface{held: h, name: c.Name, since: time.Now(), waiting: []call{c}}
		s.interfaces[c.Name] = i
		s.grace.Stop()
		s.tell(message{Op: opAdd, Name: i.name}, i.tun, i.uapi)
		return
	}
	switch {
	case i.phase == removing:
		i.next = append(i.next, c)
	case !i.attached(): // deleted a moment ago, the worker's word is still to come
		i.next = append(i.next, c)
		s.letGo(i)
	case i.phase == adding:
		i.waiting = append(i.waiting, c)
	default:
		c.reply <- reply{}
	}
}

func (s *supervisor) remove(c call) {
	i := s.interfaces[c.Name]
	if i == nil {
		c.reply <- reply{}
		return
	}
	i.next = append(i.next, c) // by then there is nothing to remove
	s.letGo(i)
}

// letGo has the worker close the device. Who still waits for it to be added hears of it.
func (s *supervisor) letGo(i *iface) {
	before := i.phase
	i.phase = removing
	i.answer(replyError(errors.New("removed before it was ready")))
	switch {
	case s.worker == nil:
		s.drop(i)
	case before == added:
		s.tell(message{Op: opRemove, Name: i.name})
	}
	// Still being added: the removal follows the worker's answer.
}

func (s *supervisor) list() []Interface {
	var all []Interface
	for _, i := range s.interfaces {
		if i.phase == removing {
			continue
		}
		mtu, _ := ifMTU(i.name) // 0 for one that was deleted just now
		all = append(all, Interface{Name: i.name, MTU: mtu, Since: i.since, Restarts: i.restarts})
	}
	slices.SortFunc(all, func(a, b Interface) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// answer replies to all who wait for the interface.
func (i *iface) answer(r reply) {
	for _, c := range i.waiting {
		c.reply <- r
	}
	i.waiting = nil
}

// drop releases an interface that no worker holds any more.
func (s *supervisor) drop(i *iface) {
	delete(s.interfaces, i.name)
	i.release(i.name)
	if len(s.interfaces) == 0 {
		s.grace.Reset(s.Grace)
	}
	for _, c := range i.next {
		s.handle(c)
	}
}
