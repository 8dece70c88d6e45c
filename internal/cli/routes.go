package cli

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tombolo/internal/api"
)

func (a *app) routesCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "routes [PREFIX | ADDRESS | SITE]",
		Short: "Show each prefix: the chosen way, why, and the other ways",
		Long: `Show each prefix that this router knows: which way was chosen, its metric, since when
and why, and the way that would come next. With a prefix, an address or a site, only what
leads there, and all other ways with why they are not the chosen one; --all shows them for
each prefix. The metric is delay: 0.1 ms of round trip each, and what each hop adds
(docs/routing.md).`,
		Example:           "  tombolo routes\n  tombolo routes 192.168.35.7\n  tombolo routes op1\n  tombolo routes --all",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeAppliedSite,
		RunE: func(c *cobra.Command, args []string) error {
			r, err := a.askOne(c.Context(), api.Request{Do: api.DoRoutes})
			if err != nil {
				return err
			}
			if len(args) > 0 {
				if r.Routes.Entries, err = about(r.Routes.Entries, args[0]); err != nil {
					return err
				}
			}
			if a.json {
				return a.writeJSON(r.Routes)
			}
			_, err = io.WriteString(a.out, a.routesText(r.Routes, all || len(args) > 0))
			return err
		},
	}
	c.Flags().BoolVar(&all, "all", false, "show all ways to each prefix")
	return c
}

// about returns the entries that lead to a prefix, an address or a site.
func about(all []api.Entry, what string) ([]api.Entry, error) {
	keep := func(e api.Entry) bool { return e.Site == what }
	if p, err := netip.ParsePrefix(what); err == nil {
		keep = func(e api.Entry) bool { return e.Dst.Overlaps(p) }
	} else if a, err := netip.ParseAddr(what); err == nil {
		keep = func(e api.Entry) bool { return e.Dst.Contains(a) }
	}
	out := slices.DeleteFunc(slices.Clone(all), func(e api.Entry) bool { return !keep(e) })
	if len(out) == 0 {
		return nil, hinted{fmt.Errorf("this router knows no route to %s", what), "tombolo routes shows all; tombolo status which links are up"}
	}
	return out, nil
}

// routesText writes a line for each destination, and with all one for each way.
func (a *app) routesText(r *api.Routes, all bool) string {
	if len(r.Entries) == 0 {
		return "no routes\n"
	}
	t := &table{title: []string{"destination", "site", "by", "device", "metric", "for", "why", "next"}, right: "    rr"}
	lost := 0
	for _, e := range r.Entries {
		since, next := "", ""
		if !e.Since.IsZero() {
			since = age(e.Since, r.Now)
		}
		others := slices.DeleteFunc(slices.Clone(e.Ways), func(w api.Way) bool { return w.Chosen })
		if !all && !e.Own && len(others) > 0 {
			next = others[0].Peer + ": " + notChosen(others[0])
		}
		by, device, size := a.paint(red, "no way"), "", ""
		switch i := slices.IndexFunc(e.Ways, func(w api.Way) bool { return w.Chosen }); {
		case i >= 0 && e.Ways[i].Kept:
			by, device = a.paint(yellow, e.Ways[i].Peer), e.Ways[i].Device
		case i >= 0:
			by, device, size = a.paint(green, e.Ways[i].Peer), e.Ways[i].Device, metric(e.Ways[i])
		case e.Own:
			by, e.Why = "this router", ""
		default:
			lost++
			if e.Unreachable {
				by = a.paint(red, "unreachable")
			}
		}
		t.row(destination(e.Dst, e.Src), orDash(e.Site), by, device, size, since, e.Why, next)
		for _, w := range others {
			if all && !e.Own {
				t.row("", "", w.Peer, w.Device, metric(w), "", notChosen(w), "")
			}
		}
	}
	var b strings.Builder
	b.WriteString(a.routesSummary(r, lost))
	t.write(&b)
	return b.String()
}

// routesSummary says in a line what a long list comes to.
func (a *app) routesSummary(r *api.Routes, lost int) string {
	own, sites, peers := 0, map[string]bool{}, map[string]bool{}
	for _, e := range r.Entries {
		if e.Own {
			own++
			continue
		}
		for _, w := range e.Ways {
			if w.Chosen {
				sites[e.Site], peers[w.Peer] = true, true
			}
		}
	}
	text := fmt.Sprintf("%s: %d of this router, %d of %s by %s", count(len(r.Entries), "destination"), own,
		len(r.Entries)-own-lost, count(len(sites), "other site"), count(len(peers), "neighbour"))
	if lost > 0 {
		text += ", " + a.paint(red, fmt.Sprintf("%d without a way", lost))
	}
	return text + "\n\n"
}

func metric(w api.Way) string {
	switch w.Metric {
	case unusable:
		return "retracted"
	case 0:
		return ""
	}
	return fmt.Sprint(w.Metric)
}

func notChosen(w api.Way) string {
	switch {
	case w.Note != "":
		return w.Note
	case !w.Feasible:
		return "not feasible: it might loop"
	}
	return "longer"
}
