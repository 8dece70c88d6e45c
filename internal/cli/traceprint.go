package cli

import (
	"cmp"
	"fmt"
	"strings"
	"unicode/utf8"

	"tombolo/internal/trace"
)

// printTrace prints a flow's way: a line for each step, and the addresses where they change. notes
// are what nobody has seen, and is supposed.
func (a *app) printTrace(f trace.Flow, t trace.Trace, others []trace.Other, notes []string, all bool) error {
	if a.json {
		return a.writeJSON(struct {
			trace.Trace
			Others []trace.Other `json:"others,omitempty"`
			Notes  []string      `json:"notes,omitempty"`
		}{t, others, notes})
	}
	fmt.Fprintf(a.out, "%s from %s\n\n", describeFlow(f), f.From)
	a.printSteps(t.There, all)
	if len(t.Back) > 0 {
		fmt.Fprintf(a.out, "\nthe answer\n\n")
		a.printSteps(t.Back, all)
	}
	if len(t.Told) > 0 {
		fmt.Fprintf(a.out, "\nthe ICMP error to who sent it\n\n")
		a.printSteps(t.Told, all)
	}
	fmt.Fprintln(a.out)
	lines := append(describeVerdict(t.Verdict), describeOthers(others)...)
	for _, note := range notes {
		lines = append(lines, "but "+note)
	}
	for _, text := range lines {
		fmt.Fprintln(a.out, strings.Join(wrap(text, traceWidth), "\n"))
	}
	return nil
}

// describeVerdict says how a flow ended, and what would mend it.
func describeVerdict(v trace.Verdict) []string {
	if v.Delivered {
		return []string{fmt.Sprintf("delivered to %s, and answered", v.At)}
	}
	out := []string{lostAt(v) + ": " + v.Reason}
	if v.Hint != "" {
		out = append(out, "hint: "+v.Hint)
	}
	return out
}

// describeOthers says how else it may end.
func describeOthers(others []trace.Other) (out []string) {
	for _, o := range others {
		lines := describeVerdict(o.Verdict)
		lines[0] = fmt.Sprintf("but if %s sends it by %s: %s", o.Router, o.Device, lines[0])
		out = append(out, lines...)
	}
	return out
}

func describeFlow(f trace.Flow) string {
	if f.Port == 0 {
		return fmt.Sprintf("%s to %s", f.Protocol, f.To)
	}
	return fmt.Sprintf("%s/%d to %s", f.Protocol, f.Port, f.To)
}

// traceWidth is how wide a line may be.
const traceWidth = 98

// printSteps prints a line for each step, with the packet where that is another one and an asterisk
// where its addresses are. What was looked at and did not match, and chains that end without a
// word, are left out.
func (a *app) printSteps(steps []trace.Step, all bool) {
	router, packet, ends := "-", "", ""
	for _, s := range steps {
		if !all && (s.Passed || s.Text == "policy accept") {
			continue
		}
		if s.Router != router {
			router = s.Router
			fmt.Fprintln(a.out, cmp.Or(router, "outside"))
		}
		mark, show := ' ', ""
		switch x := describePacket(s.Packet); {
		case s.Depth > 0: // the tunnel's own packet, which is not known yet
		case s.Stage == trace.Outer:
			show = x
		default:
			if y := endsOf(s.Packet); y != ends {
				if ends != "" {
					mark = '*'
				}
				ends = y
			}
			if x != packet {
				packet, show = x, x
			}
		}
		a.printStep(s, mark, show, all)
	}
}

// printStep prints one: a rule behind its chain's name, as far as it fits.
func (a *app) printStep(s trace.Step, mark rune, packet string, all bool) {
	text := s.Text
	chain, ofChain := strings.CutPrefix(s.Why, "chain ")
	switch {
	case ofChain:
		text = chain + ": " + text
	case s.Why != "":
		text += "  (" + s.Why + ")"
	}
	if s.Passed {
		text = "not: " + text
	}
	head := fmt.Sprintf("%c %-11s %s", mark, s.Stage, strings.Repeat("  ", s.Depth))
	room := traceWidth - len(head)
	if packet != "" && utf8.RuneCountInString(text)+3+utf8.RuneCountInString(packet) <= room {
		text, packet = text+"   "+packet, ""
	}
	if words := []rune(text); len(words) > room && !all && s.Stage != trace.Lost {
		text = string(words[:room-2]) + " …"
	}
	for _, line := range wrap(text, room) {
		fmt.Fprintln(a.out, head+line)
		head = strings.Repeat(" ", len(head))
	}
	if packet != "" {
		fmt.Fprintln(a.out, strings.Repeat(" ", len(head))+packet)
	}
}

// wrap breaks a text between words.
func wrap(text string, width int) []string {
	var out []string
	line := ""
	for _, word := range strings.SplitAfter(text, " ") {
		if line != "" && utf8.RuneCountInString(line)+utf8.RuneCountInString(strings.TrimSpace(word)) > width {
			out, line = append(out, strings.TrimRight(line, " ")), ""
		}
		line += word
	}
	return append(out, line)
}

// endsOf are a packet's addresses and ports.
func endsOf(p trace.Packet) string {
	from := "?" // it is chosen with the way
	if p.Src.IsValid() {
		from = end(p.Src.String(), p.SrcPort, p)
	}
	return fmt.Sprintf("%s → %s", from, end(p.Dst.String(), p.DstPort, p))
}

// describePacket is its addresses, and its mark.
func describePacket(p trace.Packet) string {
	out := endsOf(p)
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
