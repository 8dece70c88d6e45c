package cli

import (
	"context"
	"fmt"
	"strings"

	"tombolo/internal/kernel"
	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// obstacles returns what in other programs' firewalls on this machine stops what must pass.
func (a *app) obstacles(ctx context.Context, k *kernel.Kernel, want state.Router) kernel.Obstacles {
	found, err := k.Obstacles(ctx, want)
	if err != nil {
		a.say("note: whether another firewall is in the way was not found out: %v", err)
	}
	return found
}

// printPlan prints a plan; with --json also the obstacles.
func (a *app) printPlan(p plan.Plan, found kernel.Obstacles) error {
	if a.json {
		return a.writeJSON(struct {
			plan.Plan
			Obstacles []kernel.Obstacle `json:"obstacles,omitempty"`
		}{p, found.Found})
	}
	_, err := fmt.Fprint(a.out, p.Text(a.colour))
	return err
}

// tellObstacles says what is in the way, and what to type in the words of the firewall that it
// is: nobody else can let through what that one stops.
func (a *app) tellObstacles(want state.Router, found kernel.Obstacles) {
	for _, line := range obstacleLines(found.Found) {
		a.say("note: %s", line)
	}
	for _, m := range mends(want, found) {
		a.say("hint: %s:", m.intro)
		for _, c := range m.commands {
			a.say("  %s", c)
		}
	}
}

// obstacleLines say what is stopped, and where; what the tables of both families do alike in
// one line.
func obstacleLines(found []kernel.Obstacle) []string {
	var order []string
	tables := map[string][]string{}
	for _, o := range found {
		text := obstacleText(o)
		if tables[text] == nil {
			order = append(order, text)
		}
		tables[text] = append(tables[text], o.Family+" "+o.Table)
	}
	var out []string
	for _, text := range order {
		word := "table"
		if len(tables[text]) > 1 {
			word = "tables"
		}
		out = append(out, fmt.Sprintf("%s %s %s", word, strings.Join(tables[text], " and "), text))
	}
	return out
}

// obstacleText says what is stopped, and in which chain.
func obstacleText(o kernel.Obstacle) string {
	would := "would drop"
	if o.Perhaps {
		would = "may drop"
	}
	what, way := "what", "goes from "+o.In+" to "+o.Out
	switch {
	case len(o.Only) > 0:
		what = flowList(o.Only) + " that"
	case len(o.What) > 0:
		what = strings.Join(o.What, " and ") + " that"
	}
	switch {
	case o.Out == "":
		way = "comes in by " + o.In
	case o.Answers:
		what, way = "answers to "+what, "goes from "+o.Out+" to "+o.In
	}
	place := "chain " + o.Chain
	switch {
	case o.Rule == "":
		place += ", policy drop"
	case o.Within != "":
		place += ", in " + o.Within + ": " + shortened(o.Rule)
	default:
		place += ": " + shortened(o.Rule)
	}
	text := fmt.Sprintf("%s %s %s (%s)", would, what, way, place)
	if o.Perhaps {
		text += ", unless it is let through by: " + shortened(o.Unless)
	}
	return text
}

// shortened is a rule that does not fill the screen.
func shortened(rule string) string {
	const most = 100
	if r := []rune(rule); len(r) > most {
		return string(r[:most]) + "…"
	}
	return rule
}

// flowList names flows: tcp 443 to 192.168.36.10, udp 51820-51823.
func flowList(flows []state.Flow) string {
	var words []string
	for _, f := range flows {
		w := f.Protocol + " " + portRange(f, "-")
		if f.To.IsValid() {
			w += " to " + f.To.String()
		}
		words = append(words, w)
	}
	return strings.Join(words, ", ")
}

// portRange writes a flow's ports with a sign between their ends.
func portRange(f state.Flow, sign string) string {
	if f.First == f.Last {
		return fmt.Sprint(f.First)
	}
	return fmt.Sprint(f.First, sign, f.Last)
}
