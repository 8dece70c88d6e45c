package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Text returns the plan for people: conflicts first, then the operations by the thing that
// they are about, then how many there are. Lines that add, change or remove begin with +,
// ~ or -. With colour it has the escape sequences of a terminal.
func (p Plan) Text(colour bool) string {
	if p.Empty() {
		return "nothing to do\n"
	}
	t := text{colour: colour}
	if len(p.Conflicts) > 0 {
		t.heading("in the way")
		for _, c := range p.Conflicts {
			t.line('!', c.Object.Kind()+" "+c.Object.ID()+": "+c.Reason)
		}
	}
	for _, g := range groups(p.Ops) {
		t.heading(g.title)
		for _, op := range g.ops {
			t.op(op)
		}
	}
	count := map[Verb]int{}
	for _, op := range p.Ops {
		count[op.Verb]++
	}
	fmt.Fprintf(&t.b, "\n%d to add, %d to change, %d to remove", count[Add], count[Change], count[Remove])
	if n := len(p.Conflicts); n > 0 {
		fmt.Fprintf(&t.b, "; %d in the way", n)
	}
	t.b.WriteByte('\n')
	return t.b.String()
}

// group is what is said under one heading.
type group struct {
	rank  int
	title string
	ops   []Op
}

// groups sorts the operations by what they are about, and leaves them in their order
// there.
func groups(ops []Op) []group {
	var out []group
	at := map[string]int{}
	for _, op := range ops {
		rank, title := groupOf(op.subject())
		i, seen := at[title]
		if !seen {
			i = len(out)
			at[title] = i
			out = append(out, group{rank: rank, title: title})
		}
		out[i].ops = append(out[i].ops, op)
	}
	slices.SortStableFunc(out, func(a, b group) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), strings.Compare(a.title, b.title))
	})
	return out
}

func groupOf(o Object) (rank int, title string) {
	switch o := o.(type) {
	case Sysctl:
		return 0, "settings"
	case Interface:
		return 1, "interface " + o.Name
	case Address:
		return 1, "interface " + o.Interface
	case Peer:
		return 1, "interface " + o.Interface
	case Route:
		return 2, "routes, table " + tableName(o.Table)
	case Ruleset:
		return 3, "ruleset " + o.ID()
	case Rule:
		return 4, "rules"
	}
	panic(fmt.Sprintf("plan: there is no object %T", o))
}

// text is a text that grows.
type text struct {
	b      strings.Builder
	colour bool
}

func (t *text) heading(title string) {
	if t.b.Len() > 0 {
		t.b.WriteByte('\n')
	}
	if t.colour {
		title = "\x1b[1m" + title + "\x1b[0m"
	}
	t.b.WriteString(title + "\n")
}

// line writes a line with its sign; a blank sign is for what stays.
func (t *text) line(sign rune, s string) {
	s = strings.TrimRight(string(sign)+" "+printable(s), " ")
	colours := map[rune]string{'+': "32", '~': "33", '-': "31", '!': "1;31"}
	if c := colours[sign]; t.colour && c != "" {
		s = "\x1b[" + c + "m" + s + "\x1b[0m"
	}
	t.b.WriteString("  " + s + "\n")
}

// printable keeps what others named from talking to the terminal: an interface's name may
// hold an escape character.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

func (t *text) op(op Op) {
	sign := map[Verb]rune{Add: '+', Change: '~', Remove: '-'}[op.Verb]
	if r, ok := op.subject().(Ruleset); ok {
		t.ruleset(op, r)
		return
	}
	label, fields := describe(op.subject())
	route, isRoute := op.subject().(Route)
	switch {
	case op.Verb == Change:
		_, before := describe(op.Before)
		t.line(sign, label+sayChange(before, fields))
	case isRoute:
		t.line(sign, routeWay(route.Route, route.Dst.String())+routeRest(route.Route))
	case op.Verb == Add:
		t.line(sign, label+say(fields))
	case op.subject().Kind() == KindInterface:
		t.line(sign, label+", with its addresses and peers")
	default:
		t.line(sign, label)
	}
}

// ruleset shows the lines that come and go. What the kernel prints of a table is the same
// rules in other words, so a table that was read has more of them than changed.
func (t *text) ruleset(op Op, r Ruleset) {
	switch op.Verb {
	case Remove:
		t.line('-', "the whole table")
	case Add:
		for _, l := range splitLines(r.Text) {
			t.line('+', l)
		}
	default:
		before := op.Before.(Ruleset)
		edits, ok := diffLines(splitLines(before.Text), splitLines(r.Text))
		if before.Text == "" || !ok {
			t.line('~', "the whole table")
			return
		}
		for _, e := range edits {
			t.line(e.sign, e.line)
		}
	}
}
