package cli

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// An agent that stays away for longer than its neighbours wait for a hello, a third of a
// second, is a router that is gone: they leave the ways through it. So one that no service
// manager starts again has a keeper, which does that.
const (
	keeperCalm  = 10 * time.Second // an agent that lived so long is started again at once
	keeperFirst = 500 * time.Millisecond
	keeperLast  = 30 * time.Second
	keeperGrace = 5 * time.Second // for an agent to end that was told to
)

func (a *app) keeperCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "keeper",
		Short:  "Run the agent that keeps what was applied, again when it is killed",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(c *cobra.Command, _ []string) error { return a.keepAgent(c.Context()) },
	}
}

// keepAgent runs the agent that keeps what was applied, again when it was killed or broke,
// until it ends by itself.
func (a *app) keepAgent(ctx context.Context) error {
	wait := time.Duration(0)
	for {
		begin := time.Now()
		err := a.agentChild(ctx)
		var exit *exec.ExitError
		switch {
		case err == nil, ctx.Err() != nil:
			return nil // it has nothing to keep any more, or was told to end
		case !errors.As(err, &exit):
			return fmt.Errorf("start the agent: %w", err)
		case exit.ExitCode() == exitError:
			return exitCode(exitError) // it has said why: another one runs
		}
		a.say("the agent was lost (%v) and is started again", err)
		if wait = min(max(2*wait, keeperFirst), keeperLast); time.Since(begin) > keeperCalm {
			wait = 0
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// agentChild runs an agent until it ends. When ctx ends it is told to.
func (a *app) agentChild(ctx context.Context) error {
	c := exec.CommandContext(ctx, selfExe, "agent", "--applied", "--run-dir", a.runDir)
	c.Stderr = a.err
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = keeperGrace
	return c.Run()
}
