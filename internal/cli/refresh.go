package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"tombolo/internal/endpoint"
	"tombolo/internal/key"
	"tombolo/internal/state"
)

// refreshFile holds the pid of the process that resolves endpoints again, and is locked
// by it while it lives.
const refreshFile = "refresh.pid"

// follow writes down what was applied and sees to it that a process resolves the endpoint
// names again, from time to time and when a peer does not answer.
func (a *app) follow(want state.Router, store key.Store) error {
	m, err := newRemembered(want, store)
	if err != nil {
		return err
	}
	if err := a.writeRunFile(wantedFile, m); err != nil {
		return err
	}
	if !hasEndpoints(want) {
		a.stopFollowing()
		return nil
	}
	if a.refreshPID() != 0 {
		return nil // it reads wanted.json anew at each pass
	}
	if err := a.detach("refresh", "--every", "30s"); err != nil {
		return fmt.Errorf("start the process that resolves endpoints again: %w", err)
	}
	return nil
}

func hasEndpoints(r state.Router) bool {
	for _, f := range r.Interfaces {
		for _, p := range f.WireGuard.Peers {
			if len(p.Endpoints) > 0 {
				return true
			}
		}
	}
	return false
}

func (a *app) refreshCommand() *cobra.Command {
	var every time.Duration
	c := &cobra.Command{
		Use:    "refresh",
		Short:  "Resolve the endpoints of what was applied, again and again",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.refresh(c.Context(), every)
		},
	}
	c.Flags().DurationVar(&every, "every", 0, "repeat after this time (default: once)")
	return c
}

func (a *app) refresh(ctx context.Context, every time.Duration) error {
	log := slog.New(slog.NewTextHandler(a.err, nil))
	var w endpoint.Watch
	if every == 0 {
		return a.refreshOnce(ctx, &w, log)
	}
	f, err := a.claimRefresh()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for {
		if err := a.refreshOnce(ctx, &w, log); errors.Is(err, os.ErrNotExist) {
			return nil // nothing is applied any more
		} else if err != nil {
			log.Warn("refresh endpoints", "error", err)
		}
		a.trimLog()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}

// maxLog bounds the log in bytes: the run folder lies in memory, and a name that does not
// resolve is said at each pass.
const maxLog = 256 << 10

// trimLog empties the log of the detached processes when it has grown too long.
func (a *app) trimLog() {
	path := filepath.Join(a.runDir, "log")
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		_ = os.Truncate(path, 0) // they append, so the next line is the first
	}
}

func (a *app) refreshOnce(ctx context.Context, w *endpoint.Watch, log *slog.Logger) error {
	applied, store, err := a.wanted()
	if err != nil {
		return err
	}
	if w.Last.Version == 0 {
		w.Last = applied
	}
	want, unresolved := endpoint.Resolve(ctx, applied, endpoint.System, endpoint.Routed)
	for _, err := range unresolved {
		log.Warn("resolve", "error", err)
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return nil // somebody changes this router; next time
	}
	defer unlock()
	if now, _, err := a.wanted(); err != nil || !bytes.Equal(now.Encode(), applied.Encode()) {
		return err // something else was applied while names were resolved; next time
	}
	k, err := a.open(want, store)
	if err != nil {
		return err
	}
	defer k.Close()
	have, err := k.Read(ctx, want)
	if err != nil {
		return err
	}
	ops := w.Steer(have, want, time.Now())
	for _, op := range ops {
		log.Info("endpoint moves", "peer", op.Object.ID(), "commands", strings.Join(op.Commands(), "; "))
	}
	return k.Apply(ctx, ops)
}

// claimRefresh makes this process the one that refreshes.
func (a *app) claimRefresh() (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(a.runDir, refreshFile), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("claim the refreshing of endpoints: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, errors.New("another process refreshes the endpoints")
	}
	if err = f.Truncate(0); err == nil {
		_, err = fmt.Fprintln(f, os.Getpid())
	}
	return f, err
}

// refreshPID returns the pid of the process that refreshes, 0 if there is none.
func (a *app) refreshPID() int {
	f, err := os.Open(filepath.Join(a.runDir, refreshFile))
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		return 0 // nobody holds it: it is a leftover
	}
	b := make([]byte, 16)
	n, _ := f.Read(b)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	return pid
}

func (a *app) stopFollowing() {
	if pid := a.refreshPID(); pid > 0 {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	_ = os.Remove(filepath.Join(a.runDir, refreshFile))
}
