//go:build !router

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"tombolo/internal/lab"
)

// places is what every command about paths has to say of its arguments.
const places = `A place is a site, a site's uplink (SITE/DEVICE), a roaming device or an Internet host.
With one place it is all its paths.`

// onPaths does something to the paths between two places; with an empty second one, to
// all of the first.
type onPaths func(l *lab.Lab, ctx context.Context, from, to string) error

// labCutCommand is cut or heal.
func (a *app) labCutCommand(name *string, use, short string, both, oneWay onPaths) *cobra.Command {
	var way bool
	c := &cobra.Command{
		Use:   use + " PLACE [PLACE]",
		Short: short,
		Long:  short + ". " + places,
		Example: fmt.Sprintf("  tombolo lab %[1]s op1 op2\n  tombolo lab %[1]s office/eth1           # its provider, gateway and all; the carrier stays\n  tombolo lab %[1]s op1 op2 --one-way     # what op1 sends to op2, and not the other way",
			use),
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := openLab(*name)
			if err != nil {
				return err
			}
			do := both
			if way {
				do = oneWay
			}
			if err := do(l, c.Context(), args[0], strings.Join(args[1:], "")); err != nil {
				return err
			}
			return a.done(map[string]any{use: args, "oneWay": way})
		},
		ValidArgsFunction: completeNode(name, 2),
	}
	c.Flags().BoolVar(&way, "one-way", false, "only from the first place to the second")
	return c
}

func (a *app) labPathCommand(name *string) *cobra.Command {
	var way bool
	c := &cobra.Command{
		Use:   "path PLACE [PLACE] [KEY=VALUE …]",
		Short: "Change what a path does while the lab runs, or show it",
		Long: `Change what the paths between two places do, from the next packet on, or without words show
what they do. ` + places + `

The words are those of a lab file: rtt=60ms, jitter=2ms, loss=1%, rate=100mbit,
reorder=true; with --one-way it is delay=30ms and not rtt. What they do not name stays as
it was; rtt=0s or loss=0% takes a thing back. Cuts are made by "lab cut".`,
		Example: "  tombolo lab path op1 op3 rtt=60ms loss=1%\n  tombolo lab path op1 op3 --one-way delay=30ms\n  tombolo lab path op1",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ends, words, err := pathArguments(args)
			if err != nil {
				return err
			}
			l, err := openLab(*name)
			if err != nil {
				return err
			}
			from, to := ends[0], strings.Join(ends[1:], "")
			change := l.ChangePath
			switch {
			case len(words) == 0:
				return a.listPaths(c.Context(), l, from, to)
			case way:
				change = l.ChangePathOneWay
			}
			if err := change(c.Context(), from, to, words...); err != nil {
				return err
			}
			return a.done(map[string]any{"path": ends, "words": words, "oneWay": way})
		},
		ValidArgsFunction: completeNode(name, 2),
	}
	c.Flags().BoolVar(&way, "one-way", false, "only from the first place to the second")
	return c
}

// pathArguments parts the places from the words.
func pathArguments(args []string) (ends, words []string, err error) {
	at := slices.IndexFunc(args, func(s string) bool { return strings.Contains(s, "=") })
	if at < 0 {
		at = len(args)
	}
	switch ends, words = args[:at], args[at:]; {
	case len(ends) == 0:
		return nil, nil, hinted{errors.New("which path?"), "tombolo lab path PLACE PLACE " + strings.Join(words, " ")}
	case len(ends) > 2:
		return nil, nil, hinted{fmt.Errorf("%q is a third place, where a path has two ends", ends[2]), "a word is KEY=VALUE: rtt=60ms"}
	}
	return ends, words, nil
}

// listPaths shows what paths do, each way for itself.
func (a *app) listPaths(ctx context.Context, l *lab.Lab, from, to string) error {
	paths, err := l.Paths(ctx, from, to)
	if err != nil {
		return err
	}
	if a.json {
		type path struct {
			From               string  `json:"from"`
			To                 string  `json:"to"`
			Cut                bool    `json:"cut"`
			DelayMilliseconds  float64 `json:"delayMilliseconds"` // one way
			JitterMilliseconds float64 `json:"jitterMilliseconds"`
			Reorder            bool    `json:"reorder"`
			Loss               float64 `json:"loss"` // 0 to 1
			Rate               uint64  `json:"rate"` // bits per second; 0: no limit
		}
		out := []path{}
		for _, p := range paths {
			i := p.Impairment
			out = append(out, path{p.From, p.To, i.Cut, milliseconds(i.Delay), milliseconds(i.Jitter), i.Reorder, i.Loss, i.Rate})
		}
		return a.writeJSON(out)
	}
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "FROM\tTO\tONE WAY")
	for _, p := range paths {
		fmt.Fprintf(w, "%s\t%s\t%s\n", p.From, p.To, p.Words())
	}
	return w.Flush()
}
