package cli

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"tombolo/internal/spec"
	"tombolo/internal/trace"
	"tombolo/internal/trace/learned"
)

// worldOptions are the flags that say of what world is spoken: what does not work there, where
// devices are, and whether its routers are asked.
type worldOptions struct {
	down, at []string
	live     bool
	ask      string
}

func (o *worldOptions) flags(a *app, c *cobra.Command) {
	c.Flags().StringSliceVar(&o.down, "down", nil, "what does not work: links as A-B, sites, or SITE/DEVICE; with commas between")
	c.Flags().StringSliceVar(&o.at, "at", nil, "where roaming devices are: DEVICE=SITE; else at the first door")
	o.liveFlags(c)
	c.MarkFlagsMutuallyExclusive("live", "down")
	_ = c.RegisterFlagCompletionFunc("down", a.completeList(whatFails))
	_ = c.RegisterFlagCompletionFunc("at", a.completeList(whereDevicesAre))
}

func (o *worldOptions) liveFlags(c *cobra.Command) {
	c.Flags().BoolVar(&o.live, "live", false, "ask the routers what they hold now")
	c.Flags().StringVar(&o.ask, "ask", defaultAsk, "with --live: the command that has a router say it, with {site} and {address}")
}

// world is what a file describes, or with --live what its routers hold.
func (a *app) world(ctx context.Context, n *spec.Network, o *worldOptions) (w learned.World, now live, err error) {
	if w, err = worldOf(n, o.down, o.at); err == nil && o.live {
		now = a.askAll(ctx, n, o.ask)
		now.enter(&w, o.at)
		now.observe(&w)
	}
	return w, now, err
}

// traceOptions are the flags of trace.
type traceOptions struct {
	worldOptions
	size int
	all  bool
	svg  string
}

// trace follows a flow, and prints and draws its way.
func (a *app) trace(ctx context.Context, args []string, o *traceOptions) error {
	if o.svg == "-" && a.json {
		return errors.New("--json and --svg - both print to standard output: name a file for the picture")
	}
	f, err := a.parse(args[0], false)
	if err != nil {
		return err
	}
	w, now, err := a.world(ctx, f.Network, &o.worldOptions)
	if err != nil {
		return err
	}
	n, err := trace.New(w)
	if err != nil {
		return err
	}
	flow, err := flowOf(f.Network, n, args[1:])
	if err != nil {
		return err
	}
	if err := checkSize(o.size, flow); err != nil {
		return err
	}
	flow.Size = o.size
	ways, others := n.Possible(flow), n.Others(flow)
	t := ways[0]
	if o.svg != "" {
		if err := a.drawTrace(o.svg, f.Network, flow, t, others); err != nil {
			return err
		}
	}
	if o.svg != "-" {
		if err := a.printTrace(flow, t, others, now.notes(passedBy(ways)), o.all); err != nil {
			return err
		}
	}
	if !t.Verdict.Delivered || slices.ContainsFunc(others, func(o trace.Other) bool { return !o.Verdict.Delivered }) {
		return exitCode(2)
	}
	return nil
}
