package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tombolo/internal/babel/mac"
	"tombolo/internal/babel/udp"
	"tombolo/internal/kernel"
	"tombolo/internal/key"
	"tombolo/internal/plan"
	"tombolo/internal/plan/plantest"
	"tombolo/internal/state"
)

// fakeKernel is a router in memory: whoever meddles with it is told to its watchers.
type fakeKernel struct {
	*plantest.Kernel

	mu       sync.Mutex
	watchers map[*fakeWatcher]bool
	reads    atomic.Int64
	broken   error // what Read says
}

func newFakeKernel(r state.Router) *fakeKernel {
	return &fakeKernel{Kernel: plantest.New(r), watchers: map[*fakeWatcher]bool{}}
}

func (k *fakeKernel) Read(ctx context.Context, want state.Router) (state.Router, error) {
	k.mu.Lock()
	k.reads.Add(1)
	err := k.broken
	k.mu.Unlock()
	if err != nil {
		return state.Router{}, err
	}
	return k.Kernel.Read(ctx, want)
}

func (k *fakeKernel) Close() {}

func (k *fakeKernel) Watch() (Watcher, error) {
	w := &fakeWatcher{kernel: k, changed: make(chan struct{}, 1)}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.watchers[w] = true
	return w, nil
}

// meddle changes the router as another program does, and says so.
func (k *fakeKernel) meddle(change func(*state.Router), c kernel.Change) {
	k.Meddle(change)
	k.mu.Lock()
	defer k.mu.Unlock()
	for w := range k.watchers {
		w.tell(c)
	}
}

// Routes implements RouteTable.
func (k *fakeKernel) Routes(ctx context.Context, tables []uint32, protocol uint8) ([]state.Route, error) {
	r, err := k.Read(ctx, state.Router{})
	var out []state.Route
	for _, t := range r.Routes {
		if t.Protocol == protocol && (len(tables) == 0 || slices.Contains(tables, t.Table)) {
			out = append(out, t)
		}
	}
	return out, err
}

// Rules implements RouteTable.
func (k *fakeKernel) Rules(ctx context.Context) ([]state.Rule, error) {
	r, err := k.Read(ctx, state.Router{})
	return slices.DeleteFunc(r.Rules, func(x state.Rule) bool { return x.Protocol != learned }), err
}

type fakeWatcher struct {
	kernel  *fakeKernel
	changed chan struct{}
	mu      sync.Mutex
	change  kernel.Change
}

func (w *fakeWatcher) tell(c kernel.Change) {
	w.mu.Lock()
	w.change = c
	w.mu.Unlock()
	poke(w.changed)
}

func (w *fakeWatcher) Changed() <-chan struct{} { return w.changed }

func (w *fakeWatcher) Take() (kernel.Change, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.change
	w.change = kernel.Change{}
	return c, nil
}

func (w *fakeWatcher) Close() {
	w.kernel.mu.Lock()
	defer w.kernel.mu.Unlock()
	delete(w.kernel.watchers, w)
}

// fakeRecords are a run folder in memory.
type fakeRecords struct {
	mu      sync.Mutex
	applied *Wanted
	waiting bool
	lock    chan struct{}
}

func newFakeRecords(w *Wanted) *fakeRecords {
	return &fakeRecords{applied: w, lock: make(chan struct{}, 1)}
}

func (r *fakeRecords) Applied() (Wanted, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.applied == nil {
		return Wanted{}, os.ErrNotExist
	}
	return *r.applied, nil
}

func (r *fakeRecords) Remember(w Wanted) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.applied = &w
	return nil
}

func (r *fakeRecords) Waiting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting
}

func (r *fakeRecords) Lock(ctx context.Context) (func(), error) {
	select {
	case r.lock <- struct{}{}:
		return func() { <-r.lock }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fakeSource is a network file in memory.
type fakeSource struct {
	mu    sync.Mutex
	want  Wanted
	err   error
	taken string
}

func (s *fakeSource) Name() string { return "/etc/network.yaml" }

func (s *fakeSource) Load(context.Context) (Wanted, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.want, s.err
}

func (s *fakeSource) Taken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

func (s *fakeSource) Take(digest string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = digest
	return nil
}

// write changes the file; a nil error is one without mistakes.
func (s *fakeSource) write(r state.Router, digest string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want, s.err = Wanted{Router: r, File: s.Name(), Digest: digest}, err
}

// fakeEyes see devices that a test made.
type fakeEyes struct {
	mu      sync.Mutex
	devices map[string]kernel.Device
	tunnels map[string]kernel.Tunnel
	looked  []int // at how many tunnels, each time
}

func (e *fakeEyes) Device(name string) (kernel.Device, bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d, ok := e.devices[name]
	return d, ok, nil
}

func (e *fakeEyes) Tunnels(names []string) (map[string]kernel.Tunnel, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := map[string]kernel.Tunnel{}
	for _, name := range names {
		if t, ok := e.tunnels[name]; ok {
			out[name] = t
		}
	}
	e.looked = append(e.looked, len(names))
	return out, nil
}

func (e *fakeEyes) Counters() (map[string]kernel.Counter, error) { return nil, nil }
func (e *fakeEyes) Close()                                       {}

// fakeSocket sends nowhere, and receives nothing.
type fakeSocket struct {
	closed chan struct{}
	once   sync.Once
	sent   chan netip.Addr
}

func newFakeSocket() *fakeSocket {
	return &fakeSocket{closed: make(chan struct{}), sent: make(chan netip.Addr, 1000)}
}

func (s *fakeSocket) Receive(*udp.Batch) ([]udp.Packet, error) {
	<-s.closed
	return nil, errors.New("closed")
}

func (s *fakeSocket) Send(_ int, _, to netip.Addr, _ []byte) error {
	select {
	case s.sent <- to:
	default:
	}
	return nil
}
func (s *fakeSocket) Join(int) error { return nil }
func (s *fakeSocket) Close() error   { s.once.Do(func() { close(s.closed) }); return nil }

// machine returns a Machine of fakes.
func machine(k, learned *fakeKernel, eyes *fakeEyes, s *fakeSocket) Machine {
	m := Machine{
		Kernel:      func(Wanted) (Kernel, error) { return k, nil },
		Table:       func(state.Owner, uint8) (RouteTable, error) { return learned, nil },
		Eyes:        func(Wanted) (Eyes, error) { return eyes, nil },
		Meter:       func() (Meter, error) { return eyes, nil },
		Socket:      func(time.Time) (Socket, error) { return s, nil },
		MAC:         func(key.Store, string) (mac.Key, error) { return mac.Key{}, errors.New("no keys here") },
		Door:        func(Wanted) (Door, error) { return newFakeDoor(), nil },
		Initiations: func(uint16) (Initiations, error) { return newFakeInitiations(), nil },
		Resolve: func(_ context.Context, r state.Router) (state.Router, []error) {
			return r, nil
		},
	}
	ways := newFakeWays()
	ways.devices["eth1"] = eth1()
	ways.into(&m)
	return m
}

func quietLog() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func owner() state.Owner { return state.DefaultOwner() }

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// router wants a rule and a route in our table, to dst.
func router(dst string) state.Router {
	return state.Router{
		Version: state.Version, Network: "n", Site: "a", Owner: owner(),
		Rules:  []state.Rule{{Priority: 520, Action: state.Lookup, Table: 110, Protocol: owner().Protocol}},
		Routes: []state.Route{{Table: 110, Dst: prefix(dst), Type: state.Unreachable, Protocol: owner().Protocol}},
	}
}

func wantHolds(t *testing.T, k *fakeKernel, want state.Router) {
	t.Helper()
	have, err := k.Kernel.Read(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	if p := plan.Diff(have, want); !p.Empty() {
		t.Errorf("it does not hold what is wanted: %s", summary(p.Ops))
	}
}
