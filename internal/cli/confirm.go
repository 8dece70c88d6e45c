package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tombolo/internal/key"
	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// A change that waits for its confirmation is one file in the run folder: what the router
// held before. Whoever takes the file away, by renaming it, decides: `confirm`, or the
// timer. So the two cannot both win.
const (
	beforeFile    = "before.json"
	revertingFile = "reverting.json"
	wantedFile    = "wanted.json"
)

// remembered is a router's state with the folder of its keys.
type remembered struct {
	Keys   string          `json:"keys"`
	Router json.RawMessage `json:"router"`
}

func (a *app) confirmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "confirm",
		Short: "Keep what the last apply --confirm changed",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if !a.cancelRevert() {
				return errors.New("nothing waits for a confirmation")
			}
			a.say("kept")
			return nil
		},
	}
}

// pending reports whether a change waits for its confirmation.
func (a *app) pending() bool {
	_, err := os.Stat(filepath.Join(a.runDir, beforeFile))
	return err == nil
}

// cancelRevert ends the wait; false if nothing waited. The timer finds its file gone.
func (a *app) cancelRevert() bool {
	return os.Remove(filepath.Join(a.runDir, beforeFile)) == nil
}

// startRevert writes down what the router holds and starts the timer, before anything is
// changed.
func (a *app) startRevert(have state.Router, store key.Store, after time.Duration) error {
	if err := a.remember(beforeFile, have, store); err != nil {
		return err
	}
	err := a.detach("revert", "--after", after.String())
	if err != nil {
		a.cancelRevert()
		return fmt.Errorf("start the timer that would put everything back: %w", err)
	}
	return nil
}

func (a *app) revertCommand() *cobra.Command {
	var after time.Duration
	c := &cobra.Command{
		Use:    "revert",
		Short:  "Put back what was before the last apply --confirm",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.revert(c.Context(), after)
		},
	}
	c.Flags().DurationVar(&after, "after", 0, "wait this long for a confirmation")
	return c
}

// revert waits and then, if nobody confirmed, puts back what was before.
func (a *app) revert(ctx context.Context, after time.Duration) error {
	before := filepath.Join(a.runDir, beforeFile)
	was, err := os.Stat(before)
	if err != nil {
		return errors.New("nothing waits for a confirmation")
	}
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(after):
	}
	// Confirmed, and perhaps another change waits already: that one has its own timer.
	if is, err := os.Stat(before); err != nil || !os.SameFile(was, is) {
		return nil
	}
	reverting := filepath.Join(a.runDir, revertingFile)
	if os.Rename(before, reverting) != nil {
		return nil
	}
	unlock, err := a.waitLock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	r, store, err := a.recall(revertingFile)
	if err != nil {
		return err
	}
	a.stopFollowing()
	k, err := a.open(r, store)
	if err != nil {
		return err
	}
	defer k.Close()
	have, err := k.Read(ctx, r)
	if err != nil {
		return err
	}
	if err := k.Apply(ctx, plan.Diff(have, r).Ops); err != nil {
		return err
	}
	return os.Remove(reverting)
}

// waitLock takes the lock, waiting for the command that holds it.
func (a *app) waitLock(ctx context.Context) (func(), error) {
	for {
		unlock, err := a.lock()
		if err == nil {
			return unlock, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// detach starts this program with other arguments, in a session of its own and with no
// terminal: it outlives the shell and the connection.
func (a *app) detach(args ...string) error {
	c := exec.Command(selfExe, append(args, "--run-dir", a.runDir)...)
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	log, err := os.OpenFile(filepath.Join(a.runDir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	c.Stderr = log
	if err := c.Start(); err != nil {
		return err
	}
	return c.Process.Release()
}

// remember writes a router's state into the run folder, in place at once.
func (a *app) remember(name string, r state.Router, store key.Store) error {
	keys, err := filepath.Abs(store.Dir)
	if err != nil {
		return err
	}
	b, err := json.Marshal(remembered{keys, r.Encode()})
	if err != nil {
		return err
	}
	path := filepath.Join(a.runDir, name)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return fmt.Errorf("remember the state of this router: %w", err)
	}
	return os.Rename(path+".new", path)
}

// recall reads what remember wrote.
func (a *app) recall(name string) (state.Router, key.Store, error) {
	b, err := os.ReadFile(filepath.Join(a.runDir, name))
	if err != nil {
		return state.Router{}, key.Store{}, fmt.Errorf("recall the state of this router: %w", err)
	}
	var m remembered
	if err := json.Unmarshal(b, &m); err != nil {
		return state.Router{}, key.Store{}, fmt.Errorf("recall the state of this router: %w", err)
	}
	r, err := state.Decode(m.Router)
	return r, key.Store{Dir: m.Keys}, err
}

// wanted returns what was last applied here, or an empty router with the default owner.
func (a *app) wanted() (state.Router, key.Store) {
	r, store, err := a.recall(wantedFile)
	if err != nil {
		return state.Router{Version: state.Version, Owner: state.DefaultOwner()}, key.Store{Dir: keyDir("", "network.yaml")}
	}
	return r, store
}
