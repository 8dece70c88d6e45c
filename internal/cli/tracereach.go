package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tombolo/internal/trace"
)

func (a *app) reachCommand() *cobra.Command {
	var o worldOptions
	var expect string
	var routers, six bool
	c := &cobra.Command{
		Use:   "reach FILE [PROTOCOL/PORT]",
		Short: "Say who reaches whom in the network that a file describes, and why not",
		Long: `Say who reaches whom in the network that a file describes: a flow and its answer between any two
LANs, roaming devices and outside, and the reason for every no. It is what ` + "`trace`" + ` says of each.
Without a protocol it is icmp. Nothing is sent and nothing needs to run. Where routes have several
next hops it is "some", and no yes, if not every way leads there.

With --live it is asked of what the routers hold now, as by ` + "`trace --live`" + `.

With --expect it holds a file of who is to reach whom against that, prints the differences and
exits with 1 if there are any:

  op2:br-lan: {op3:br-lan: yes, outside: yes}     # from: {to: yes or no}
  outside: {"*": no}                              # all that is not said otherwise, but routers`,
		Example: `  tombolo reach home.yaml
  tombolo reach home.yaml tcp/22 --routers
  tombolo reach home.yaml tcp/443 --expect matrix.yaml
  tombolo reach home.yaml --live`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: completeReach,
		RunE: func(c *cobra.Command, args []string) error {
			p := probe{Protocol: trace.ICMP, Six: six}
			if len(args) > 1 {
				var err error
				if p.Protocol, p.Port, err = protocolOf(args[1]); err != nil {
					return err
				}
			}
			f, err := a.parse(args[0], false)
			if err != nil {
				return err
			}
			w, now, err := a.world(c.Context(), f.Network, &o)
			if err != nil {
				return err
			}
			n, err := trace.New(w)
			if err != nil {
				return err
			}
			m := n.Reach(groupsOf(f.Network, n, p, routers || expect != ""), p.flow())
			if expect != "" {
				return a.expects(expect, p, &m, routers, now.notes(nil))
			}
			return a.printReach(p, &m, now.notes(nil))
		},
	}
	o.flags(a, c)
	c.Flags().StringVar(&expect, "expect", "", "a file of who is to reach whom")
	c.Flags().BoolVar(&routers, "routers", false, "ask the routers themselves too")
	c.Flags().BoolVarP(&six, "ipv6", "6", false, "in IPv6")
	_ = c.RegisterFlagCompletionFunc("expect", cobra.FixedCompletions([]string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt))
	return c
}

// pair is a cell of a matrix, for programs.
type pair struct {
	From string `json:"from"`
	To   string `json:"to"`
	trace.Verdict
	Way string `json:"way,omitempty"`
}

// printReach prints a matrix; notes are what is supposed.
func (a *app) printReach(p probe, m *trace.Matrix, notes []string) error {
	if a.json {
		pairs := []pair{}
		each(m, func(from, to int) {
			pairs = append(pairs, pair{m.Groups[from].Name, m.Groups[to].Name, m.Verdicts[from][to], m.Ways[from][to]})
		})
		return a.writeJSON(struct {
			Flow  string   `json:"flow"`
			Pairs []pair   `json:"pairs"`
			Notes []string `json:"notes,omitempty"`
		}{p.String(), pairs, notes})
	}
	asked, no := 0, 0
	each(m, func(from, to int) {
		asked++
		no += 1 - bit(m.Verdicts[from][to].Delivered)
	})
	fmt.Fprintf(a.out, "%s: %d of %d pairs\n", p, asked-no, asked)
	if len(m.Groups) <= mostColumns {
		a.printCells(m)
	}
	a.printNos(m)
	a.printNotes(notes)
	return nil
}

func (a *app) printNotes(notes []string) {
	for i, note := range notes {
		if i == 0 {
			fmt.Fprintln(a.out)
		}
		fmt.Fprintln(a.out, strings.Join(wrap("but "+note, traceWidth), "\n"))
	}
}

// mostColumns is how many fit a terminal. Of more only the reasons are printed.
const mostColumns = 18

// each calls a function for each cell in which something was asked.
func each(m *trace.Matrix, do func(from, to int)) {
	for from := range m.Groups {
		for to := range m.Groups {
			if m.Asked(from, to) {
				do(from, to)
			}
		}
	}
}

// printCells prints the matrix; columns have the numbers of rows.
func (a *app) printCells(m *trace.Matrix) {
	wide, column := 0, len("yes")
	for _, g := range m.Groups {
		wide = max(wide, len(g.Name))
	}
	each(m, func(from, to int) { column = max(column, len(wordOf(m, from, to))) })
	fmt.Fprintf(a.out, "\n%*s", wide+4, "")
	for i := range m.Groups {
		fmt.Fprintf(a.out, " %*d", column, i+1)
	}
	for from, g := range m.Groups {
		if g.Place == (trace.Place{}) {
			continue // it begins nothing
		}
		line := fmt.Sprintf("\n%3d %-*s", from+1, wide, g.Name)
		for to := range m.Groups {
			word := "·"
			if m.Asked(from, to) {
				word = wordOf(m, from, to)
			}
			line += fmt.Sprintf(" %*s", column, word)
		}
		fmt.Fprint(a.out, line)
	}
	fmt.Fprintln(a.out)
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// wordOf is what a cell says: some, where not all ways lead there.
func wordOf(m *trace.Matrix, from, to int) string {
	if m.Some(from, to) {
		return "some"
	}
	return yesNo(m.Verdicts[from][to].Delivered)
}

// printNos prints what is not reached, by reasons.
func (a *app) printNos(m *trace.Matrix) {
	var order []string
	by := map[string]*pairs{}
	each(m, func(from, to int) {
		if v := m.Verdicts[from][to]; !v.Delivered {
			target, _ := trace.Target(&m.Groups[from], &m.Groups[to])
			why := wordOf(m, from, to) + ": " + reasonOf(v, target.String())
			if by[why] == nil {
				by[why], order = &pairs{}, append(order, why)
			}
			by[why].add(m.Groups[from].Name, m.Groups[to].Name)
		}
	})
	for _, why := range order {
		fmt.Fprintf(a.out, "\n%s\n", why)
		by[why].print(a, "    ")
	}
}

// reasonOf is a verdict in a line or two. The address that was called is in none of them: they
// are about several.
func reasonOf(v trace.Verdict, target string) string {
	out := lostAt(v) + ": " + strings.ReplaceAll(v.Reason, target, "it")
	if v.Hint != "" {
		out += "\n    hint: " + v.Hint
	}
	return out
}

// lostAt says where.
func lostAt(v trace.Verdict) string {
	where := "outside"
	if v.Router != "" {
		where = "at " + v.Router
	}
	what := "lost"
	if v.Back {
		what = "the answer is lost"
	}
	return fmt.Sprintf("%s %s, in %s", what, where, v.Stage)
}

// pairs are who to whom; those from one together.
type pairs struct {
	from []string
	to   [][]string
}

func (p *pairs) add(from, to string) {
	i := slices.Index(p.from, from)
	if i < 0 {
		i, p.from, p.to = len(p.from), append(p.from, from), append(p.to, nil)
	}
	p.to[i] = append(p.to[i], to)
}

// print joins those that go to the same, and breaks lines that are long.
func (p *pairs) print(a *app, indent string) {
	var order []string
	from := map[string][]string{}
	for i := range p.from {
		to := strings.Join(p.to[i], ", ")
		if from[to] == nil {
			order = append(order, to)
		}
		from[to] = append(from[to], p.from[i])
	}
	for _, to := range order {
		line := indent + strings.Join(from[to], ", ") + " → " + to
		for len(line) > 96 {
			at := strings.LastIndexByte(line[:96], ' ')
			if at <= len(indent)+4 {
				break
			}
			fmt.Fprintln(a.out, line[:at])
			line = indent + "    " + line[at+1:]
		}
		fmt.Fprintln(a.out, line)
	}
}
