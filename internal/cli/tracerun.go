package cli

import (
	"context"
	"errors"

	"tombolo/internal/trace"
)

// traceOptions are the flags of trace.
type traceOptions struct {
	down, at  []string
	size      int
	all, live bool
	ask, svg  string
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
	w, err := worldOf(f.Network, o.down, o.at)
	if err != nil {
		return err
	}
	var now live
	if o.live {
		now = a.askAll(ctx, f.Network, o.ask)
		now.observe(&w, o.at)
	}
	n, err := trace.New(w)
	if err != nil {
		return err
	}
	flow, err := flowOf(f.Network, n, args[1:])
	if err != nil {
		return err
	}
	flow.Size = o.size
	t := n.Trace(flow)
	if o.svg != "" {
		if err := a.drawTrace(o.svg, f.Network, flow, t); err != nil {
			return err
		}
	}
	if o.svg != "-" {
		if err := a.printTrace(flow, t, now.onTheWay(&t), o.all); err != nil {
			return err
		}
	}
	if !t.Verdict.Delivered {
		return exitCode(2)
	}
	return nil
}
