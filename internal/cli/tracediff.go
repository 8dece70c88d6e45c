package cli

import (
	"errors"
	"fmt"
	"sync"

	"github.com/spf13/cobra"

	"tombolo/internal/spec"
	"tombolo/internal/trace"
)

func (a *app) diffCommand() *cobra.Command {
	var routers bool
	c := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Say which flows a change of the network file opens, closes or reroutes",
		Long: `Say which flows a change of the network file opens, closes or reroutes: any two of what
` + "`reach`" + ` knows, by icmp and by all ports that the policy or the published ports of either file name.

The exit code is 0 if there is none, and 2 if there are some.`,
		Example:           `  tombolo diff home.yaml home.new.yaml`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeFile,
		RunE: func(_ *cobra.Command, args []string) error {
			var files [2]*spec.Network
			for i, path := range args {
				f, err := a.parse(path, false)
				if err != nil {
					return err
				}
				files[i] = f.Network
			}
			networks, err := bothNetworks(files)
			if err != nil {
				return err
			}
			all := []change{}
			for _, p := range probesOf(files[0], files[1]) {
				var m [2]trace.Matrix
				for i := range m {
					m[i] = networks[i].Reach(groupsOf(files[i], networks[i], p, routers), p.flow())
				}
				all = append(all, changes(p, &m[0], &m[1])...)
			}
			return a.printChanges(all)
		},
	}
	c.Flags().BoolVar(&routers, "routers", false, "ask the routers themselves too")
	return c
}

// bothNetworks prepares them at once: with many sites it is most of the work.
func bothNetworks(files [2]*spec.Network) (out [2]*trace.Network, err error) {
	var errs [2]error
	var both sync.WaitGroup
	for i := range files {
		both.Go(func() { out[i], errs[i] = networkOf(files[i], nil, nil) })
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
}

// changes compares two matrices by names. Who is in one of them alone reaches nobody in the other.
func changes(p probe, before, after *trace.Matrix) []change {
	old, now := cellsOf(before), cellsOf(after)
	var out []change
	add := func(from, to string) {
		x, y := old.at(from, to), now.at(from, to)
		c := change{Flow: p.String(), From: from, To: to, Old: x.text(), New: y.text()}
		switch {
		case !x.Delivered && y.Delivered:
			c.What = "opens"
		case x.Delivered && !y.Delivered:
			c.What = "closes"
		case x.Delivered && (x.way != y.way || x.At != y.At):
			c.What = "reroutes"
			if x.way == y.way {
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

func (a *app) printChanges(all []change) error {
	if a.json {
		if err := a.writeJSON(all); err != nil {
			return err
		}
	} else {
		a.printChangeLines(all)
	}
	if len(all) > 0 {
		return exitCode(exitChanges)
	}
	return nil
}

// printChangeLines prints together what is of one kind, with what it has in common: pairs of which
// the same flows change, in the same way.
func (a *app) printChangeLines(all []change) {
	flows := map[change]string{} // by the rest
	for _, c := range all {
		k := c
		k.Flow = ""
		if flows[k] != "" {
			flows[k] += "; "
		}
		flows[k] += c.Flow
	}
	type key struct{ flows, what, old, now string }
	var order []key
	by := map[key]*pairs{}
	for _, c := range all {
		c.Flow = ""
		k := key{flows[c], c.What, c.Old, c.New}
		switch c.What {
		case "opens": // how it goes now, and why it did not, is in the JSON
			k.old, k.now = "", ""
		case "closes":
			k.old = ""
		}
		if k.flows == "" {
			continue // it was printed with the first of its flows
		}
		delete(flows, c)
		if by[k] == nil {
			by[k], order = &pairs{}, append(order, k)
		}
		by[k].add(c.From, c.To)
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
