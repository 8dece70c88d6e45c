package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"tombolo/internal/spec"
	"tombolo/internal/trace"
)

func (a *app) diffCommand() *cobra.Command {
	var routers bool
	var o worldOptions
	c := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Say which flows a change of the network file opens, closes or reroutes",
		Long: `Say which flows a change of the network file opens, closes or reroutes: any two of what
` + "`reach`" + ` knows, by whatever protocols and ports either file decides about.

With --live there is one file, and old is what the routers hold now: it says which flows are not as
the file wants them. The routers are asked as by ` + "`trace --live`" + `.

The exit code is 0 if there is none, and 2 if there are some.`,
		Example: `  tombolo diff home.yaml home.new.yaml
  tombolo diff home.yaml --live`,
		Args: func(c *cobra.Command, args []string) error {
			if o.live {
				return cobra.ExactArgs(1)(c, args)
			}
			return cobra.ExactArgs(2)(c, args)
		},
		ValidArgsFunction: func(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			return completeFile(c, args[min(len(args), 1-bit(o.live)):], word)
		},
		RunE: func(c *cobra.Command, args []string) error { return a.diff(c.Context(), args, &o, routers) },
	}
	c.Flags().BoolVar(&routers, "routers", false, "ask the routers themselves too")
	o.liveFlags(c)
	return c
}

// diff compares two files, or what the routers hold with what their file wants.
func (a *app) diff(ctx context.Context, args []string, o *worldOptions, routers bool) error {
	var files [2]*spec.Network
	for i := range files {
		if i == len(args) { // --live
			files[i] = files[0]
			continue
		}
		f, err := a.parse(args[i], false)
		if err != nil {
			return err
		}
		files[i] = f.Network
	}
	var now live
	if o.live {
		now = a.askAll(ctx, files[0], o.ask)
	}
	networks, err := bothNetworks(files, now)
	if err != nil {
		return err
	}
	found := []change{}
	for _, p := range probesOf(files[:]...) {
		var m [2]trace.Matrix
		for i := range m {
			m[i] = networks[i].Reach(groupsOf(files[i], networks[i], *p, routers), p.flow())
		}
		found = append(found, changes(p, &m[0], &m[1])...)
	}
	return a.printChanges(found, now.notes(nil))
}

// bothNetworks prepares them at once: with many sites it is most of the work. The first is as its
// routers said, if they were asked; devices are where they are in both.
func bothNetworks(files [2]*spec.Network, now live) (out [2]*trace.Network, err error) {
	var errs [2]error
	prepare := func(i int) error {
		w, err := worldOf(files[i], nil, nil)
		if err != nil {
			return err
		}
		if now.enter(&w, nil); i == 0 && now.held != nil {
			now.observe(&w)
		}
		out[i], err = trace.New(w)
		return err
	}
	var both sync.WaitGroup
	for i := range files {
		both.Go(func() { errs[i] = prepare(i) })
	}
	both.Wait()
	return out, errors.Join(errs[:]...)
}

// change is a flow that is another one in the new file.
type change struct {
	Flow string `json:"flow"`
	What string `json:"change"` // opens, closes, reroutes
	From string `json:"from"`
	To   string `json:"to"`
	Old  string `json:"old,omitempty"` // its way, or why it has none
	New  string `json:"new,omitempty"`

	probe *probe
	some  bool // it is delivered by some ways then, and not by all
}

// changes compares two matrices by names. Who is in one of them alone reaches nobody in the other.
func changes(p *probe, before, after *trace.Matrix) []change {
	old, now := cellsOf(before), cellsOf(after)
	var out []change
	add := func(from, to string) {
		x, y := old.at(from, to), now.at(from, to)
		c := change{From: from, To: to, Old: x.text(), New: y.text(), probe: p, some: y.ways() == 1}
		switch {
		case x.ways() < y.ways():
			c.What = "opens"
		case x.ways() > y.ways():
			c.What = "closes"
		case x.ways() > 0 && (x.way != y.way || x.At != y.At):
			c.What = "reroutes"
			if x.way != y.way {
				c.Old, c.New = x.way, y.way
			} else {
				c.Old, c.New = x.At, y.At
			}
		default:
			return
		}
		out = append(out, c)
	}
	each(after, func(i, j int) { add(after.Groups[i].Name, after.Groups[j].Name) })
	each(before, func(i, j int) {
		from, to := before.Groups[i].Name, before.Groups[j].Name
		if !now.has(from, to) {
			add(from, to)
		}
	})
	return out
}

// cells finds those of a matrix by names.
type cells struct {
	m     *trace.Matrix
	index map[string]int
}

func cellsOf(m *trace.Matrix) cells {
	c := cells{m, map[string]int{}}
	for i, g := range m.Groups {
		c.index[g.Name] = i
	}
	return c
}

type cell struct {
	trace.Verdict
	way string
}

func (c cells) has(from, to string) bool {
	i, one := c.index[from]
	j, other := c.index[to]
	return one && other && c.m.Asked(i, j)
}

func (c cells) at(from, to string) cell {
	if !c.has(from, to) {
		return cell{Verdict: trace.Verdict{Reason: "it is not there"}}
	}
	i, j := c.index[from], c.index[to]
	return cell{c.m.Verdicts[i][j], c.m.Ways[i][j]}
}

// ways says how many of the ways that a flow may take lead there: 0 for none, 1 for some, 2 for all.
func (c cell) ways() int {
	switch {
	case c.Delivered:
		return 2
	case c.way != "":
		return 1
	}
	return 0
}

// text is the way, or why there is none.
func (c cell) text() string {
	switch {
	case c.Delivered:
		return c.way
	case c.Stage == "":
		return c.Reason
	}
	return lostAt(c.Verdict) + ": " + c.Reason
}

func (a *app) printChanges(found []change, notes []string) error {
	if a.json {
		out := []change{}
		for _, c := range found {
			c.To = publishedTo(c.To, []*probe{c.probe})
			for _, c.Flow = range flowTexts(c.probe.stands, c.probe.Six) {
				out = append(out, c)
			}
		}
		if err := a.writeJSON(out); err != nil {
			return err
		}
	} else {
		a.printChangeLines(found)
		a.printNotes(notes)
	}
	if len(found) > 0 {
		return exitCode(exitChanges)
	}
	return nil
}

// flowsOf are the flows that some probes stand for.
func flowsOf(probes []*probe) string {
	var spans [2][]span
	for _, p := range probes {
		spans[bit(p.Six)] = append(spans[bit(p.Six)], p.stands...)
	}
	return strings.Join(append(flowTexts(spans[0], false), flowTexts(spans[1], true)...), "; ")
}

// publishedTo puts the ports that probes stand for into the name of what is published.
func publishedTo(name string, probes []*probe) string {
	var spans []span
	for _, p := range probes {
		spans = append(spans, p.stands...)
	}
	_, ports, _ := strings.Cut(flowTexts(spans, false)[0], "/")
	return strings.Replace(name, "*", ports, 1)
}

// printChangeLines prints together what is of one kind, with what it has in common: pairs of which
// the same flows change, in the same way.
func (a *app) printChangeLines(found []change) {
	probes := map[change][]*probe{} // by the rest
	for _, c := range found {
		k := c
		k.probe = nil
		probes[k] = append(probes[k], c.probe)
	}
	type key struct{ flows, what, old, now string }
	var order []key
	by := map[key]*pairs{}
	for _, c := range found {
		c.probe = nil
		if probes[c] == nil {
			continue // it was printed with the first of its flows
		}
		k := key{flowsOf(probes[c]), c.What, c.Old, c.New}
		switch {
		case c.What == "opens" && !c.some: // how it goes now, and why it did not, is in the JSON
			k.old, k.now = "", ""
		case c.What != "reroutes":
			k.old = ""
		}
		if by[k] == nil {
			by[k], order = &pairs{}, append(order, k)
		}
		by[k].add(c.From, publishedTo(c.To, probes[c]))
		delete(probes, c)
	}
	if len(order) == 0 {
		fmt.Fprintln(a.out, "no flow changes")
	}
	for _, k := range order {
		fmt.Fprintf(a.out, "%s %s\n", k.what, k.flows)
		by[k].print(a, "    ")
		if k.old != "" {
			fmt.Fprintf(a.out, "      old: %s\n", k.old)
		}
		if k.now != "" {
			fmt.Fprintf(a.out, "      new: %s\n", k.now)
		}
	}
}
