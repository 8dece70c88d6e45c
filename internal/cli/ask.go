package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tombolo/internal/api"
)

func (a *app) watchCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "watch",
		Short: "Show events as they happen: neighbours, routes, changes, problems",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			err := a.ask(c.Context(), api.Request{Do: api.DoWatch}, func(r api.Reply) error {
				if a.json {
					return a.writeLine(r.Event)
				}
				e := r.Event
				where := strings.Join(slices.DeleteFunc([]string{e.Peer, e.Device, e.Route}, func(s string) bool { return s == "" }), " ")
				if where != "" {
					where += ": "
				}
				_, err := fmt.Fprintf(a.out, "%s  %s  %s%s\n", e.Time.Format("15:04:05.000"), a.paint(eventColour(e.Kind), fmt.Sprintf("%-14s", e.Kind)), where, e.Text)
				return err
			})
			return interrupted(c.Context(), err, errors.New("the agent has ended"))
		},
	}
}

func eventColour(kind string) string {
	switch kind {
	case "neighbour down", "route lost", "problem", "refused":
		return red
	case "route moved", "withdrawn", "client moved", "client gone":
		return yellow
	}
	return green
}

func (a *app) pingCommand() *cobra.Command {
	var six bool
	var n int
	c := &cobra.Command{
		Use:   "ping SITE",
		Short: "Ping another router by its name, and say which way the packets take",
		Long: `Send an echo request a second to another router's overlay address, from this one's agent,
and print the round-trip time and which way it takes now. It ends with Ctrl-C, and says how
many were lost; the exit code is 1 if none came back.`,
		Example:           "  tombolo ping op1\n  tombolo ping op1 -6 -c 3",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeAppliedSite,
		RunE: func(c *cobra.Command, args []string) error {
			return a.pingSite(c.Context(), api.Request{Do: api.DoPing, Site: args[0], IPv6: six}, n)
		},
	}
	c.Flags().BoolVarP(&six, "ipv6", "6", false, "to the site's IPv6 address")
	c.Flags().IntVarP(&n, "count", "c", 0, "end after this many (default: never)")
	return c
}

func (a *app) pingSite(ctx context.Context, r api.Request, n int) error {
	sent, got := 0, 0
	least, most, sum := time.Duration(0), time.Duration(0), time.Duration(0)
	enough := errors.New("enough")
	err := a.ask(ctx, r, func(r api.Reply) error {
		e := r.Echo
		sent++
		if e.Lost == "" {
			got++
			sum, most = sum+e.RTT, max(most, e.RTT)
			if least == 0 || e.RTT < least {
				least = e.RTT
			}
		}
		if err := a.printEcho(e); err != nil {
			return err
		}
		if sent == n {
			return enough
		}
		return nil
	})
	if err != nil && !errors.Is(err, enough) && ctx.Err() == nil {
		return err
	}
	if sent > 0 && !a.json {
		fmt.Fprintf(a.out, "%d sent, %d received, %.0f%% lost", sent, got, 100*float64(sent-got)/float64(sent))
		if got > 0 {
			fmt.Fprintf(a.out, "; round trip min/avg/max %.1f/%.1f/%.1f ms", milliseconds(least), milliseconds(sum/time.Duration(got)), milliseconds(most))
		}
		fmt.Fprintln(a.out)
	}
	if got == 0 {
		return exitCode(exitError)
	}
	return nil
}

func (a *app) printEcho(e *api.Echo) error {
	if a.json {
		return a.writeLine(e)
	}
	name := e.To.String()
	if e.Site != "" {
		name = fmt.Sprintf("%s (%s)", e.Site, e.To)
	}
	way := ""
	switch e.Via {
	case "":
	case e.Site:
		way = ", directly"
	default:
		way = ", by " + e.Via
	}
	text := a.paint(red, e.Lost)
	if e.Lost == "" {
		text = fmt.Sprintf("%.1f ms", milliseconds(e.RTT))
	}
	_, err := fmt.Fprintf(a.out, "%s: seq %d: %s%s\n", name, e.Seq, text, way)
	return err
}

// writeLine writes a value as one line of JSON, for results that come one by one.
func (a *app) writeLine(v any) error { return json.NewEncoder(a.out).Encode(v) }

// interrupted returns no error where the user ended the command, else err, or what it means
// that there is none.
func interrupted(ctx context.Context, err, ended error) error {
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		return ended
	}
	return err
}

// completeAppliedSite completes the names of the sites of what is applied here.
func (a *app) completeAppliedSite(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if len(args) == 0 {
		if m, err := readRunFile[remembered](a, wantedFile); err == nil {
			for _, s := range m.Sites {
				names = append(names, s.Name)
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
