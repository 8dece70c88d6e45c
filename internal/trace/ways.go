package trace

import (
	"fmt"
	"slices"
	"strings"
)

// Other is a way on which a flow ends otherwise than on the first of those that it may take.
type Other struct {
	Router  string  `json:"router"` // whose route has several next hops
	Device  string  `json:"device"` // of the one by which it ends so
	Verdict Verdict `json:"verdict"`
}

// Others returns how else a flow may end than Trace says, each ending once: where a route has
// several next hops, Trace goes by the first.
func (n *Network) Others(f Flow) (out []Other) {
	w := &walk{n: n}
	first := w.flow(f)
	for walked := 1; ; walked++ {
		_, at := w.further(walked)
		if at < 0 {
			return out
		}
		v := w.flow(f)
		if v != first && !slices.ContainsFunc(out, func(o Other) bool { return o.Verdict == v }) {
			out = append(out, Other{w.choices[at].router, w.choices[at].device, v})
		}
	}
}

// further has the next walk take a way that none has taken: what was chosen last, and can be, is
// chosen otherwise. It returns that choice as it was, and which it is; -1: there is no other way.
func (w *walk) further(walked int) (was choice, at int) {
	at = w.chosen - 1
	for at >= 0 && w.choices[at].last() {
		at--
	}
	w.choices = w.choices[:at+1]
	if at < 0 || walked == mostPossible {
		return choice{}, -1
	}
	was = w.choices[at]
	w.choices[at].taken++
	return was, at
}

// cell is what becomes of a flow to a group, and by what it leaves routers where it is delivered. Of
// a flow that may take several ways each has to be: else the first that is not is said, with the next
// hop by which it goes, beside the ways on which it is delivered.
func (w *walk) cell(f Flow, to *Group) (Verdict, string) {
	w.choices = w.choices[:0]
	first := w.asks(f, to)
	way := w.way(first)
	if w.chosen == 0 { // as nearly all: it has but one
		return first, way
	}
	out, by, ways := first, choice{}, []string{way}
	for walked, before := 1, first; ; walked++ {
		was, at := w.further(walked)
		if at < 0 {
			break
		}
		v := w.asks(f, to)
		ways = append(ways, w.way(v))
		switch { // what was chosen otherwise makes the difference
		case by.of > 0 || v.Delivered == first.Delivered:
		case first.Delivered:
			out, by = v, w.choices[at]
		default:
			out, by = before, was
		}
		before = v
	}
	if by.of > 0 {
		out.Reason += fmt.Sprintf(", if %s sends it by %s", by.router, by.device)
	}
	slices.Sort(ways)
	ways = slices.Compact(ways)
	if ways[0] == "" { // of those that are lost
		ways = ways[1:]
	}
	return out, strings.Join(ways, "; or ")
}

// asks is flow, and whoever is asked has to be the one who answers.
func (w *walk) asks(f Flow, to *Group) Verdict {
	v := w.flow(f)
	if v.Delivered && !to.Anyone && !w.met.same(to.Place) {
		return Verdict{Router: w.end.router, Stage: RouteStage, Reason: fmt.Sprintf("it comes to %s", w.met)}
	}
	return v
}

// way is by what a delivered flow left routers, there and back.
func (w *walk) way(v Verdict) string {
	if !v.Delivered {
		return ""
	}
	var room [128]byte
	return string(appendWay(appendWay(room[:0], w.hopsThere), w.hops))
}
