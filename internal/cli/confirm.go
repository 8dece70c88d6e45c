package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tombolo/internal/agent"
	"tombolo/internal/api"
	"tombolo/internal/kernel"
	"tombolo/internal/key"
	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// A change that waits for its confirmation is one file in the run folder: what the router
// held before, and what had been applied to it. Whoever takes the file away, by renaming it, decides: `confirm`, or the
// timer. So the two cannot both win.
const (
	beforeFile    = "before.json"
	revertingFile = "reverting.json"
	revertedFile  = "reverted.json" // what was put back, for who asks
	wantedFile    = "wanted.json"
)

// remembered is a router's state with the folder of its keys, and where it comes from.
type remembered struct {
	Keys   string          `json:"keys"`
	Router json.RawMessage `json:"router"`
	File   string          `json:"file,omitempty"`   // the network file
	Digest string          `json:"digest,omitempty"` // of its text
	Sites  []agent.Site    `json:"sites,omitempty"`  // of the network
}

// before is what there was before a change.
type before struct {
	Held    remembered  `json:"held"`
	Applied *remembered `json:"applied,omitempty"` // nil: nothing
	Next    taken       `json:"next"`              // what the change is made from
}

func (a *app) confirmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "confirm",
		Short: "Keep what the last apply --confirm changed",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := asRoot(); err != nil {
				return err
			}
			if !a.cancelRevert() {
				return a.nothingWaits()
			}
			a.say("kept")
			return a.done(map[string]any{"kept": true})
		},
	}
}

// nothingWaits says so, and if the last change was put back, when.
func (a *app) nothingWaits() error {
	err := errors.New("nothing waits for a confirmation")
	if info, e := os.Stat(filepath.Join(a.runDir, revertedFile)); e == nil {
		err = fmt.Errorf("%w: the last change was put back at %s", err, info.ModTime().Format(time.TimeOnly))
	}
	return err
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
func (a *app) startRevert(have state.Router, next agent.Wanted, after time.Duration) error {
	held, err := rememberWanted(agent.Wanted{Router: have, Keys: next.Keys})
	if err != nil {
		return err
	}
	b := before{Held: held, Next: taken{next.File, next.Digest}}
	if m, err := readRunFile[remembered](a, wantedFile); err == nil {
		b.Applied = &m
	}
	if err := a.writeRunFile(beforeFile, b); err != nil {
		return err
	}
	_ = os.Remove(filepath.Join(a.runDir, revertedFile)) // of an earlier change
	err = a.detach("revert", "--after", after.String())
	if err != nil {
		a.cancelRevert()
		return fmt.Errorf("start the timer that would put everything back: %w", err)
	}
	return nil
}

// revertible refuses a plan that takes away a key that no file holds: the timer is another
// process, which could not put it back.
func revertible(p plan.Plan) error {
	for _, op := range p.Ops {
		lost := false
		switch o := op.Before.(type) {
		case plan.Interface:
			if w := o.WireGuard; w != nil {
				lost = w.PrivateKey == "" && !w.PublicKey.IsZero() ||
					slices.ContainsFunc(w.Peers, func(p state.Peer) bool { return p.Preshared == state.UnknownKey })
			}
		case plan.Peer:
			lost = o.Preshared == state.UnknownKey
		}
		if lost {
			return hinted{
				fmt.Errorf("%s could not be put back: no file holds the key that it uses now", op),
				"put the old key file in place under another name until this is confirmed, or apply without --confirm",
			}
		}
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
	path := filepath.Join(a.runDir, beforeFile)
	was, err := os.Stat(path)
	if err != nil {
		return errors.New("nothing waits for a confirmation")
	}
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(after):
	}
	unlock, err := a.lock(ctx)
	for err != nil && ctx.Err() == nil {
		unlock, err = a.lock(ctx) // whoever holds it: putting back is what was promised
	}
	if err != nil {
		return err
	}
	defer unlock()
	// Confirmed, and perhaps another change waits already: that one has its own timer. A
	// new file may have the old one's inode number, so the time counts too.
	is, err := os.Stat(path)
	if err != nil || !os.SameFile(was, is) || !was.ModTime().Equal(is.ModTime()) {
		return nil
	}
	reverting := filepath.Join(a.runDir, revertingFile)
	if os.Rename(path, reverting) != nil {
		return nil
	}
	b, err := readRunFile[before](a, revertingFile)
	if err != nil {
		return err
	}
	if err := errors.Join(a.putBack(ctx, b.Held), a.refuse(b.Next), a.followAgain(ctx, b.Applied), a.forgetFirst(ctx, b)); err != nil {
		return err
	}
	a.say("%s put back what was before the last apply: nobody confirmed it within %s", time.Now().Format(time.DateTime), after)
	return os.Rename(reverting, filepath.Join(a.runDir, revertedFile))
}

// forgetFirst takes away what an agent made by a first apply, after which nothing is applied.
func (a *app) forgetFirst(ctx context.Context, b before) error {
	if b.Applied != nil {
		return nil
	}
	r, store, err := b.Held.recall()
	if err != nil {
		return err
	}
	return a.forgetFollowed(ctx, r, store)
}

// putBack makes the router hold what it held. What cannot be put back does not keep the
// rest from it: half a way in is better than none.
func (a *app) putBack(ctx context.Context, held remembered) error {
	r, store, err := held.recall()
	if err != nil {
		return err
	}
	k, err := a.open(r, store)
	if err != nil {
		return err
	}
	defer k.Close()
	refused := map[string]bool{}
	var errs []error
	for {
		have, err := k.Read(ctx, r)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		ops := slices.DeleteFunc(plan.Diff(have, r).Ops, func(op plan.Op) bool { return refused[op.String()] })
		err = k.Apply(ctx, ops)
		var failed *kernel.ApplyError
		if err == nil || ctx.Err() != nil || !errors.As(err, &failed) || refused[failed.Op.String()] {
			return errors.Join(append(errs, err)...)
		}
		refused[failed.Op.String()] = true
		errs = append(errs, fmt.Errorf("put back: %s: %w", failed.Op, failed.Err))
	}
}

// refuse has an agent that follows the file of a change that was put back not take it
// again: for it, the file was taken.
func (a *app) refuse(next taken) error {
	if t, err := readRunFile[taken](a, takenFile); err == nil && t.File != next.File {
		return nil // it follows another one
	}
	return a.writeRunFile(takenFile, next)
}

// followAgain goes back to what had been applied before, if anything was.
func (a *app) followAgain(ctx context.Context, applied *remembered) error {
	if applied == nil {
		if err := a.forgetWanted(); err != nil {
			return err
		}
	} else if err := a.writeRunFile(wantedFile, *applied); err != nil {
		return err
	}
	// An agent that runs is told; one that keeps nothing else ends.
	if _, err := api.One(ctx, a.socketPath(), api.Request{Do: api.DoApplied}); err != nil && !errors.Is(err, api.ErrNoAgent) {
		return err
	}
	return nil
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

// rememberWanted makes a router's state ready to be written down.
func rememberWanted(w agent.Wanted) (remembered, error) {
	keys, err := filepath.Abs(w.Keys.Dir)
	return remembered{Keys: keys, Router: w.Router.Encode(), File: w.File, Digest: w.Digest, Sites: w.Sites}, err
}

func (m remembered) wanted() (agent.Wanted, error) {
	r, store, err := m.recall()
	return agent.Wanted{Router: r, Keys: store, File: m.File, Digest: m.Digest, Sites: m.Sites}, err
}

func (m remembered) recall() (state.Router, key.Store, error) {
	r, err := state.Decode(m.Router)
	return r, key.Store{Dir: m.Keys}, err
}

// writeRunFile writes a value into the run folder, in place at once.
func (a *app) writeRunFile(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	path := filepath.Join(a.runDir, name)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return fmt.Errorf("remember the state of this router: %w", err)
	}
	return os.Rename(path+".new", path)
}

// readRunFile reads what writeRunFile wrote.
func readRunFile[T any](a *app, name string) (v T, err error) {
	b, err := os.ReadFile(filepath.Join(a.runDir, name))
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		return v, fmt.Errorf("recall the state of this router: %w", err)
	}
	return v, nil
}

// wanted returns what was last applied here. The error Is os.ErrNotExist if nothing was.
func (a *app) wanted() (state.Router, key.Store, error) {
	m, err := readRunFile[remembered](a, wantedFile)
	if err != nil {
		return state.Router{}, key.Store{}, err
	}
	return m.recall()
}

// forgetWanted is for when nothing is applied any more.
func (a *app) forgetWanted() error {
	if err := os.Remove(filepath.Join(a.runDir, wantedFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget what was applied: %w", err)
	}
	return nil
}
