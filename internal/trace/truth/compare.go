package truth

import (
	"fmt"
	"slices"
	"strings"

	"tombolo/internal/trace"
)

// Tracer is the network of a situation, and what it may be as well: which of two ways that are about
// as long is taken, depends on what came before.
type Tracer struct {
	*trace.Network
	situation *Situation
	others    []*trace.Network // made when they are needed; the first is Network
	most      int              // of others
	ways      map[trace.Flow]*ways
}

// ways are what may be captured of a flow, as text, in as many of the networks as were asked.
type ways struct {
	captures map[string]bool
	asked    int
}

// manyOthers is enough for a flow and its answer to go by most of half a dozen ways each; farther is
// enough for those that few round trips lead to.
const (
	manyOthers = 256
	farther    = 1024
)

// Tracer prepares it.
func (s *Situation) Tracer() (*Tracer, error) {
	n, err := trace.New(s.World(0))
	return &Tracer{Network: n, situation: s, others: []*trace.Network{n}, most: manyOthers, ways: map[trace.Flow]*ways{}}, err
}

// Difference follows the flows until something else happened to one, and returns that in words; empty
// if the tracer is right about all.
func (s *Situation) Difference() (string, error) {
	n, err := s.Tracer()
	if err != nil {
		return "", err
	}
	for i := range s.Flows {
		f := &s.Flows[i]
		words := n.Compare(f)
		if words != "" {
			n.Farther()
			words = n.Compare(f)
		}
		if words != "" {
			return fmt.Sprintf("%s, %+v\n%s", s.When, f.Flow, words), nil
		}
	}
	return "", nil
}

// Compare says how what happened to a flow is no way that the tracer says it may take, in lines;
// empty if it is one.
func (n *Tracer) Compare(f *Flow) string {
	if n.may(f) {
		return ""
	}
	s, ways := n.situation, n.Possible(f.Flow)
	var b strings.Builder
	for i := range ways {
		t := &ways[i]
		fmt.Fprintf(&b, "the tracer: %+v\n", t.Verdict)
		for k, steps := range [][]trace.Step{t.There, t.Back, t.Told} {
			for _, e := range s.expected(steps, k, false) {
				fmt.Fprintf(&b, "  %s %s\n", legs[k], e)
			}
		}
	}
	fmt.Fprintf(&b, "captured:\n")
	for k, events := range [][]Event{f.There, f.Back, f.Told} {
		for _, e := range events {
			fmt.Fprintf(&b, "  %s %s\n", legs[k], e)
		}
	}
	return b.String()
}

// Farther has Compare look for more ways, which takes long: for what differs and should not.
func (n *Tracer) Farther() { n.most = farther }

// may reports whether what was captured of a flow is what the tracer says of one of its ways.
func (n *Tracer) may(f *Flow) bool {
	w := n.ways[f.Flow]
	if w == nil {
		w = &ways{captures: map[string]bool{}}
		n.ways[f.Flow] = w
	}
	seen := fmt.Sprint(f.There, f.Back, f.Told)
	for ; !w.captures[seen] && w.asked < n.most; w.asked++ {
		for _, t := range n.also(w.asked).Possible(f.Flow) {
			w.captures[n.situation.captured(&t, false)] = true
			w.captures[n.situation.captured(&t, true)] = true
		}
	}
	return w.captures[seen]
}

// captured is what is to be captured of a way, as text; with what is handed to somebody who is gone, or without.
func (s *Situation) captured(t *trace.Trace, remembered bool) string {
	if s.nobody(t.There) {
		return fmt.Sprint(s.expected(t.There, there, remembered), []Event(nil), []Event(nil))
	}
	return fmt.Sprint(s.expected(t.There, there, remembered), s.expected(t.Back, back, remembered), s.expected(t.Told, told, remembered))
}

// also is the network with other round trips.
func (n *Tracer) also(number int) *trace.Network {
	for len(n.others) <= number {
		x, err := trace.New(n.situation.World(len(n.others)))
		if err != nil {
			panic(err) // the first one was right
		}
		n.others = append(n.others, x)
	}
	return n.others[number]
}

// The legs of a flow's way.
const (
	there = iota
	back
	told
)

var legs = []string{"there", "back", "told"}

func (e Event) String() string {
	way := "in"
	if e.Out {
		way = "out"
	}
	return fmt.Sprintf("%s %s %s: %s → %s, %d", e.Node, way, e.Device, e.Src, e.Dst, e.Port)
}

// expected are the events that steps are seen by. What is handed to a neighbour who is gone is seen as long as ARP remembers
// the neighbour.
func (s *Situation) expected(steps []trace.Step, leg int, remembered bool) (out []Event) {
	for _, x := range steps {
		if x.Depth > 0 {
			continue
		}
		e := Event{Node: x.Router, Device: x.Device, Src: x.Packet.Src, Dst: x.Packet.Dst}
		switch leg {
		case there:
			e.Port = x.Packet.DstPort
		case back:
			e.Port = x.Packet.SrcPort
		}
		switch {
		case x.Stage == trace.Arrives:
		case x.Stage == trace.Leaves, x.Stage == trace.Lost && x.Device != "" && remembered:
			e.Out = true
		case x.Stage == trace.Delivered:
			n := s.whose(&x)
			if n == nil && x.Router != "" && len(out) > 0 {
				out = out[:len(out)-1] // nobody answers the router's ARP
			}
			if n == nil || n.Kind == trace.Router {
				continue // it arrived there
			}
			e.Node, e.Device = n.Name, ""
		default:
			continue
		}
		out = append(out, e)
	}
	return out
}

// nobody reports whether a packet is delivered to an address that nobody has.
func (s *Situation) nobody(steps []trace.Step) bool {
	return len(steps) > 0 && steps[len(steps)-1].Stage == trace.Delivered && s.whose(&steps[len(steps)-1]) == nil
}

// whose is the node to which a packet is delivered; nil if there is none.
func (s *Situation) whose(x *trace.Step) *Node {
	for i := range s.Nodes {
		n := &s.Nodes[i]
		switch n.Kind {
		case trace.Host:
			if n.Site != x.Router {
				continue
			}
		case trace.Router:
			if n.Name != x.Router {
				continue
			}
		case trace.Internet:
			if x.Router != "" {
				continue
			}
		case trace.Device:
		}
		if slices.Contains(n.Addresses, x.Packet.Dst) {
			return n
		}
	}
	return nil
}
