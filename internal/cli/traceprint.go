package cli

import (
	"fmt"
	"strings"

	"tombolo/internal/trace"
)

// printTrace prints a flow's way: a line for each step, and the addresses where they change.
func (a *app) printTrace(f trace.Flow, t trace.Trace, all bool) error {
	if a.json {
		return a.writeJSON(t)
	}
	fmt.Fprintf(a.out, "%s from %s\n\n", describeFlow(f), f.From)
	a.printSteps(t.There, all)
	if len(t.Back) > 0 {
		fmt.Fprintf(a.out, "\nthe answer\n\n")
		a.printSteps(t.Back, all)
	}
	v := t.Verdict
	if v.Delivered {
		fmt.Fprintf(a.out, "\ndelivered to %s, and answered\n", v.At)
		return nil
	}
	where := "outside"
	if v.Router != "" {
		where = "at " + v.Router
	}
	what := "lost"
	if v.Back {
		what = "the answer is lost"
	}
	fmt.Fprintf(a.out, "\n%s %s, in %s: %s\n", what, where, v.Stage, v.Reason)
	if v.Hint != "" {
		fmt.Fprintf(a.out, "hint: %s\n", v.Hint)
	}
	return nil
}

func describeFlow(f trace.Flow) string {
	if f.Port == 0 {
		return fmt.Sprintf("%s to %s", f.Protocol, f.To)
	}
	return fmt.Sprintf("%s/%d to %s", f.Protocol, f.Port, f.To)
}

func (a *app) printSteps(steps []trace.Step, all bool) {
	router, packet := "", ""
	for _, s := range steps {
		if s.Passed && !all {
			continue
		}
		if s.Router != router {
			router = s.Router
			if router == "" {
				fmt.Fprintln(a.out, "outside")
			} else {
				fmt.Fprintln(a.out, router)
			}
		}
		text := strings.Repeat("  ", s.Depth) + s.Text
		if s.Passed {
			text = "not: " + text
		}
		if s.Why != "" {
			text += "  (" + s.Why + ")"
		}
		fmt.Fprintf(a.out, "  %-11s %s\n", s.Stage, text)
		if now := describePacket(s.Packet); now != packet && s.Depth == 0 {
			mark := "  "
			if packet != "" {
				mark = "* "
			}
			fmt.Fprintf(a.out, "  %-11s %s%s\n", "", mark, now)
			packet = now
		}
	}
}

// describePacket is its addresses, and its mark.
func describePacket(p trace.Packet) string {
	out := fmt.Sprintf("%s → %s", end(p.Src.String(), p.SrcPort, p), end(p.Dst.String(), p.DstPort, p))
	if p.Mark != 0 {
		out += fmt.Sprintf("  mark %#x", p.Mark)
	}
	return out
}

func end(address string, port uint16, p trace.Packet) string {
	if port == 0 || p.Protocol == trace.ICMP {
		return address
	}
	if strings.Contains(address, ":") {
		address = "[" + address + "]"
	}
	return fmt.Sprintf("%s:%d", address, port)
}
