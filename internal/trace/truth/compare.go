package truth

import (
	"fmt"
	"slices"
	"strings"

	"tombolo/internal/trace"
)

// Difference is a flow of which the tracer says what did not happen.
type Difference struct {
	Flow  Flow
	Words string // both
}

// Differences follows all flows, and returns those of which something else happened.
func (s *Situation) Differences() ([]Difference, error) {
	n, err := trace.New(s.World())
	if err != nil {
		return nil, err
	}
	var out []Difference
	for _, f := range s.Flows {
		if words := s.Compare(n, &f); words != "" {
			out = append(out, Difference{f, words})
		}
	}
	return out, nil
}

// Compare says how what happened to a flow is no way that the tracer says it may take, in lines;
// empty if it is one.
func (s *Situation) Compare(n *trace.Network, f *Flow) string {
	ways := n.Possible(f.Flow)
	var b strings.Builder
	for i := range ways {
		t := &ways[i]
		if s.same(t, f) {
			return ""
		}
		fmt.Fprintf(&b, "the tracer: %+v\n", t.Verdict)
		for k, steps := range [][]trace.Step{t.There, t.Back, t.Told} {
			for _, e := range s.expected(steps, k) {
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

func (s *Situation) same(t *trace.Trace, f *Flow) bool {
	seen := [][]Event{f.There, f.Back, f.Told}
	for leg, steps := range [][]trace.Step{t.There, t.Back, t.Told} {
		said := s.expected(steps, leg)
		if !slices.EqualFunc(said, seen[leg], s.equal) {
			return false
		}
		if leg == there && s.nobody(steps) {
			return len(f.Back) == 0 && len(f.Told) == 0
		}
	}
	return true
}

// equal compares what is said with what was seen, of which a provider may have hidden the address.
func (s *Situation) equal(said, seen Event) bool {
	if s.Public[said.Src] == seen.Src {
		said.Src = seen.Src
	}
	if s.Public[said.Dst] == seen.Dst {
		said.Dst = seen.Dst
	}
	return said == seen
}

// expected are the events that steps are seen by.
func (s *Situation) expected(steps []trace.Step, leg int) (out []Event) {
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
		switch x.Stage {
		case trace.Arrives:
		case trace.Leaves:
			e.Out = true
		case trace.Delivered:
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
