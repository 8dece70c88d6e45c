package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tombolo/internal/agent"
	"tombolo/internal/kernel"
	"tombolo/internal/key"
	"tombolo/internal/plan"
	"tombolo/internal/spec"
	"tombolo/internal/state"
)

func (a *app) applyCommand() *cobra.Command {
	var t target
	var confirm time.Duration
	c := &cobra.Command{
		Use:   "apply FILE",
		Short: "Make this router hold what the file says",
		Long: `Make this router hold what the file says: print the plan, carry it out, and look again.
What is not tombolo's is not touched. On the first refusal what was done is undone.

With --confirm 60s a detached timer puts everything back unless "tombolo confirm" comes in
time; it outlives the shell and the connection. Use it on a router that is far away.

It leaves an agent behind that keeps it so and finds the routes, unless one runs already, which
is told. What apply sets up ends with the next boot: "tombolo agent" as a service sets it up
again.`,
		Example:           "  tombolo apply network.yaml --site op1 --confirm 60s\n  tombolo confirm",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFile,
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("confirm") && confirm <= 0 {
				return fmt.Errorf("--confirm %s: it is a time to wait, such as 60s", confirm)
			}
			if err := asRoot(); err != nil {
				return err
			}
			t.file = args[0]
			n, err := a.load(&t)
			if err != nil {
				return err
			}
			if err := unbuilt(n.diagnostics, t.partial); err != nil {
				return err
			}
			return a.apply(c.Context(), n, &t, confirm)
		},
	}
	t.flags(a, c)
	c.Flags().BoolVar(&t.partial, "partial", false, "apply although the file says things that this version does not build")
	c.Flags().BoolVar(&t.lab, "lab", false, "this router is a lab's")
	_ = c.Flags().MarkHidden("lab")
	c.Flags().BoolVar(&t.alone, "no-agent", false, "leave no agent behind: nothing is put back, followed or learned")
	c.Flags().DurationVar(&confirm, "confirm", 0, "put everything back after this time unless confirmed (60s, 5m)")
	return c
}

// unbuilt refuses a file that says more than this version builds.
func unbuilt(ds spec.Diagnostics, partial bool) error {
	n := 0
	for _, d := range ds {
		if d.Unbuilt {
			n++
		}
	}
	if n == 0 || partial {
		return nil
	}
	return hinted{fmt.Errorf("this version does not build %s of the file", count(n, "part")), "apply the rest with --partial"}
}

// apply carries a file out on this router. Its standard output is the plan.
func (a *app) apply(ctx context.Context, n file, t *target, confirm time.Duration) error {
	outliveTerminal()
	unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if a.pending() {
		return hinted{errors.New("an earlier apply still waits for its confirmation, and would take this one back with it"), "tombolo confirm, or wait until it is put back"}
	}
	w, err := a.want(ctx, n, t, true)
	if err != nil {
		return err
	}
	want, store := w.Router, w.Keys
	k, err := a.open(want, store)
	if err != nil {
		return err
	}
	defer k.Close()
	have, err := k.Read(ctx, want)
	if err != nil {
		return err
	}
	p := plan.Diff(have, a.roamed(have, want))
	found := a.obstacles(ctx, k, want)
	if err := a.printPlan(p, found); err != nil {
		return err
	}
	a.tellObstacles(want, found)
	if len(p.Conflicts) > 0 {
		return errors.New("nothing was changed: something that is not ours is in the way")
	}
	routing := a.changesRouting(want)
	if len(p.Ops) == 0 && routing {
		a.say("note: what this router learns from others changes, what it announces to them, or how it follows its uplinks")
	}
	if len(p.Ops) == 0 && (confirm == 0 || !routing) {
		if confirm > 0 {
			a.say("nothing changes, so nothing waits for a confirmation (an agent that follows a file takes it by itself)")
		}
		return a.follow(ctx, w, t)
	}
	if confirm > 0 {
		if err := revertible(p); err != nil {
			return err
		}
		if err := a.startRevert(have, w, confirm); err != nil {
			return err
		}
	}
	if err := a.carryOut(ctx, k, p, want); err != nil {
		var failed *kernel.ApplyError
		switch {
		case confirm == 0:
		case errors.As(err, &failed) && failed.UndoErr == nil:
			a.cancelRevert() // all is as it was
		default:
			err = errors.Join(err, fmt.Errorf("what may be left is put back in %s", confirm))
		}
		return err
	}
	if err := a.follow(ctx, w, t); err != nil {
		return err
	}
	if confirm > 0 {
		a.say("done; it is all put back in %s unless you type: tombolo confirm", confirm)
	}
	a.say("note: this does not outlast a reboot: run apply again after one, or tombolo agent as a service")
	return nil
}

// changesRouting reports whether the agent has something else to do than by what was last
// applied: its speaker, or what follows the uplinks. No plan shows that, and it can cut this router off all the same.
func (a *app) changesRouting(want state.Router) bool {
	was, _, err := a.wanted()
	return err == nil && !bytes.Equal(followed(was).Encode(), followed(want).Encode())
}

// followed is the part of a router that only its agent carries out.
func followed(r state.Router) state.Router {
	return state.Router{Babel: r.Babel, Egress: r.Egress, Uplinks: r.Uplinks}
}

// follow writes down what was applied, and sees to it that an agent keeps it so.
func (a *app) follow(ctx context.Context, w agent.Wanted, t *target) error {
	m, err := rememberWanted(w)
	if err != nil {
		return err
	}
	if err := a.writeRunFile(wantedFile, m); err != nil || t.alone {
		return err
	}
	return a.ensureAgent(ctx)
}

// outliveTerminal lets this process finish what it began when it cuts the connection over
// which it was started: the terminal's end would kill it half way, with nothing undone.
func outliveTerminal() { signal.Ignore(syscall.SIGHUP) }

// carryOut applies a plan and looks whether the router then holds what was wanted.
func (a *app) carryOut(ctx context.Context, k *kernel.Kernel, p plan.Plan, want state.Router) error {
	if err := k.Apply(ctx, p.Ops); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted: %w", err)
		}
		return err
	}
	have, err := k.Read(ctx, want)
	if err != nil {
		return err
	}
	if left := plan.Diff(have, a.roamed(have, want)); !left.Roamed() {
		return fmt.Errorf("the router does not hold what was applied; this is left:\n%s", left.Text(false))
	}
	return nil
}

func (a *app) downCommand() *cobra.Command {
	var keys string
	c := &cobra.Command{
		Use:   "down",
		Short: "Take all that is tombolo's away from this router",
		Long: `Take all that is tombolo's away from this router: interfaces, routes, rules and the
nftables table; the agent ends, and its neighbours are told. Kernel settings go back to what
they were before. Key files stay.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := asRoot(); err != nil {
				return err
			}
			return a.lockedDown(c.Context(), keys)
		},
	}
	c.Flags().StringVar(&keys, "keys", "", "folder of the key files (default: /etc/tombolo)")
	return c
}

func (a *app) lockedDown(ctx context.Context, keys string) error {
	unlock, err := a.lock(ctx)
	if errors.Is(err, errLocked) && a.agentHangs(ctx) { // in the middle of a change, maybe
		if err := a.killAgent(); err != nil {
			return err
		}
		unlock, err = a.lock(ctx)
	}
	if err != nil {
		return err
	}
	defer unlock()
	return a.down(ctx, keys)
}

func (a *app) down(ctx context.Context, keys string) error {
	outliveTerminal()
	wanted, store, err := a.wanted()
	if err != nil {
		wanted, store = state.Router{Owner: state.DefaultOwner()}, key.Store{Dir: keyDir("", "network.yaml")}
	}
	if keys != "" {
		store.Dir = keys
	}
	k, err := a.open(wanted, store)
	if err != nil {
		return err
	}
	defer k.Close()
	empty := state.Router{Version: state.Version, Network: wanted.Network, Site: wanted.Site, Owner: wanted.Owner}
	if empty.Sysctls, err = k.Originals(); err != nil {
		return err
	}
	have, err := k.Read(ctx, empty)
	if err != nil {
		return err
	}
	p := plan.Diff(have, empty)
	if err := a.printPlan(p, kernel.Obstacles{}); err != nil {
		return err
	}
	// First, while it can still say goodbye.
	if err := a.retireAgent(ctx); err != nil {
		a.say("warning: %v", err)
	}
	if err := a.forgetFollowed(ctx, wanted, store); err != nil {
		return err
	}
	if err := k.Apply(ctx, p.Ops); err != nil {
		return err // and what waits for its confirmation still waits
	}
	a.cancelRevert()
	if err := a.tunnels().Stop(ctx); err != nil {
		return err
	}
	if err := k.ForgetOriginals(); err != nil {
		return err
	}
	_ = os.Remove(filepath.Join(a.runDir, takenFile))
	return a.forgetWanted()
}

// forgetFollowed removes what an agent learned, and what follows the uplinks.
func (a *app) forgetFollowed(ctx context.Context, wanted state.Router, store key.Store) error {
	for _, protocol := range []uint8{wanted.Owner.Learned(), wanted.Owner.Following()} {
		if err := a.forgetLearned(ctx, wanted, store, protocol); err != nil {
			return err
		}
	}
	return nil
}

// forgetLearned removes the routes of a protocol that an agent made, and the rules that lead to them:
// those that lead nowhere do not go with an interface, and an agent that was killed took
// none away.
func (a *app) forgetLearned(ctx context.Context, wanted state.Router, store key.Store, protocol uint8) error {
	learned := state.Router{Version: state.Version, Owner: wanted.Owner}
	learned.Owner.Protocol = protocol
	k, err := a.open(learned, store)
	if err != nil {
		return err
	}
	defer k.Close()
	have, err := k.Read(ctx, learned)
	if err != nil {
		return err
	}
	var ops []plan.Op
	for _, r := range have.Rules {
		if learned.Owner.OwnsRule(r) {
			ops = append(ops, plan.Op{Verb: plan.Remove, Before: plan.Rule{Rule: r}})
		}
	}
	for _, r := range have.Routes {
		if learned.Owner.OwnsRoute(r) {
			ops = append(ops, plan.Op{Verb: plan.Remove, Before: plan.Route{Route: r}})
		}
	}
	return k.Apply(ctx, ops)
}
